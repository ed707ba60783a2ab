/*
 * thread.c - a library's own thread allocates and frees while the goroutine that made it does.
 *
 * The thread gets blocks of the task and gives them back; what it takes itself is its process's.
 */
#include <shoal.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N 20000

static _Atomic(char *) box[64];
static atomic_int left;

static void must(int ok, const char *what)
{
	if (ok)
		return;
	printf("wrong: %s\n", what);
	exit(1);
}

static void *work(void *arg)
{
	unsigned n = 0;

	(void)arg;
	while (n < N) {
		char *own = malloc(100 + n % 900), *p = atomic_exchange(&box[n % 64], NULL);

		memset(own, 3, 100);
		if (p) {
			if (p[0] != 5 || p[49] != 5)
				abort();
			if (n % 5 == 0) {
				p = realloc(p, 300);
				if (!p || p[49] != 5)
					abort();
			}
			free(p);
			n++;
		}
		if (own[99] != 3)
			abort();
		free(own);
		if (!p)
			n += atomic_load(&left) != 0;
	}
	return NULL;
}

int shoal_main(int argc, char **argv)
{
	pthread_t t;

	(void)argc;
	(void)argv;
	shoal_pin();
	must(pthread_create(&t, NULL, work, NULL) == 0, "pthread_create");
	for (unsigned i = 0; i < 3 * N; i++) {
		char *p = malloc(50), *q = malloc(16 + i % 600);

		memset(p, 5, 50);
		memset(q, 6, 16);
		p = atomic_exchange(&box[i * 7 % 64], p);
		must(!p || p[49] == 5, "a block was changed");
		free(p);
		must(q[15] == 6, "a block was changed");
		free(q);
	}
	atomic_store(&left, 1);
	must(pthread_join(t, NULL) == 0, "pthread_join");
	shoal_unpin();
	printf("ok\n");
	return 0;
}
