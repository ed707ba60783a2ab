/*
 * kill/own.c - what is per process in POSIX and a task's own here: changed by goroutines that may be
 * killed at any point of the change. For the kill driver, as kill/work.c.
 */
#define _GNU_SOURCE
#include <shoal.h>

#include <fcntl.h>
#include <getopt.h>
#include <locale.h>
#include <pwd.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

#define CHANGERS 6

static const struct shoal_go_opts stubborn = {.name = "changer", .attempts = 100, .flags = SHOAL_ISOLATED};
static struct shoal_wg all;
static int changed, handled;

static void at_end(void)
{
	__atomic_fetch_add(&handled, 1, __ATOMIC_SEQ_CST);
}

static void must(int ok)
{
	if (!ok)
		abort();
}

static void change(void *arg)
{
	int me = *(int *)arg;
	char name[32], value[32], *text = NULL, *page;
	size_t n;
	FILE *f;

	snprintf(name, sizeof name, "OWN_%d", me);
	for (int i = 0; i < 20; i++) {
		snprintf(value, sizeof value, "%d", i);
		must(setenv(name, value, 1) == 0);
		f = open_memstream(&text, &n);
		must(f && fprintf(f, "%s", value) > 0);
		shoal_yield();
		must(getenv(name) && !strcmp(getenv(name), value));
		must(fclose(f) == 0 && !strcmp(text, value));
		free(text);
		umask(022 + (mode_t)(i % 2));
		must(chdir(i % 2 ? "/" : "/usr") == 0);
		must(setlocale(LC_ALL, i % 2 ? "C" : "C.UTF-8") != NULL);
		(void)rand();
		must(drand48() < 1);
		tzset();
		setpwent();
		must(getpwent() != NULL);
		must(getpwuid(0) != NULL);
		page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		must(page != MAP_FAILED && page[5000] == 0);
		page[5000] = 1;
		must(munmap(page, 8192) == 0);
		if (i % 4 == 0) {
			sem_t *s = sem_open("/shoal.kill.own", O_CREAT, 0600, 0);

			must(s != SEM_FAILED && sem_post(s) == 0 && sem_wait(s) == 0 && sem_close(s) == 0);
		}
		if (i % 7 == 0)
			must(atexit(at_end) == 0);
		if (i % 5 == 0)
			must(unsetenv(name) == 0);
	}
	__atomic_fetch_add(&changed, 1, __ATOMIC_SEQ_CST);
}

int shoal_main(int argc, char **argv)
{
	static char *list[] = {"OWN=listed", NULL};

	environ = list; /* the worker finds it when the root goroutine parks */
	must(getopt(argc, argv, "+") == -1);
	shoal_yield();
	must(getenv("OWN") && !strcmp(getenv("OWN"), "listed"));
	for (int i = 0; i < CHANGERS; i++)
		must(shoal_wg_go_with(&all, &stubborn, change, &i, sizeof i) != 0);
	shoal_wg_wait(&all);
	sem_unlink("/shoal.kill.own");
	/* One that dies right after it has counted itself does so again. */
	if (__atomic_load_n(&changed, __ATOMIC_SEQ_CST) < CHANGERS)
		return 1;
	return 0;
}
