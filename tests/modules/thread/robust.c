/*
 * robust.c - robust mutexes of threads that end while they hold one, in a program with main.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static pthread_mutex_t mutex;

static void must(int ok, const char *what)
{
	if (ok)
		return;
	printf("wrong: %s\n", what);
	exit(1);
}

static void *hold(void *unused)
{
	must(pthread_mutex_lock(&mutex) == 0, "lock");
	return unused;
}

static void orphan(const pthread_mutexattr_t *a)
{
	pthread_t t;

	must(pthread_mutex_init(&mutex, a) == 0, "init");
	must(pthread_create(&t, NULL, hold, NULL) == 0 && pthread_join(t, NULL) == 0, "thread");
	must(pthread_mutex_lock(&mutex) == EOWNERDEAD, "EOWNERDEAD");
}

int main(void)
{
	pthread_mutexattr_t a;

	pthread_mutexattr_init(&a);
	pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
	orphan(&a);
	must(pthread_mutex_unlock(&mutex) == 0, "unlock of what is not consistent");
	must(pthread_mutex_lock(&mutex) == ENOTRECOVERABLE, "ENOTRECOVERABLE");
	must(pthread_mutex_destroy(&mutex) == 0, "destroy of what cannot be recovered");
	orphan(&a);
	must(pthread_mutex_consistent(&mutex) == 0 && pthread_mutex_unlock(&mutex) == 0, "consistent");
	must(pthread_mutex_lock(&mutex) == 0, "lock after that");
	must(pthread_mutex_destroy(&mutex) == 0, "libc lets a robust mutex be destroyed that is locked");
	return 0;
}
