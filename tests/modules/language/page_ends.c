/*
 * page_ends.c HOW - the ways in which a task comes to its end.
 */
#include <shoal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct shoal_mutex mu;
static char *volatile nowhere = (char *)8;

static void finishes_later(void *arg)
{
	(void)arg;
	shoal_sleep(50000000);
	puts("the others finish");
}

static void ends_all(void *arg)
{
	const char *how = arg;

	shoal_sleep(1000000);
	if (!strcmp(how, "exit"))
		exit(7);
	if (!strcmp(how, "_exit"))
		_exit(8);
	if (!strcmp(how, "crash"))
		*nowhere = 1;
	if (!strcmp(how, "abort"))
		abort();
}

static void loops(void *arg)
{
	(void)arg;
	for (;;)
		;
}

static void cleanup(void)
{
	puts("handler");
}

int shoal_main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";

	atexit(cleanup);
	printf("no line feed");
	if (!strcmp(how, "root")) { /* others finish first, and the exit code is 0 */
		shoal_go(finishes_later, NULL, 0);
		printf("\n");
		shoal_exit();
	}
	if (!strcmp(how, "return")) { /* others end with it, whatever they do */
		shoal_go(finishes_later, NULL, 0);
		shoal_go(loops, NULL, 0);
		shoal_sleep(1000000);
		return 256 + 6;
	}
	if (!strcmp(how, "deadlock")) {
		shoal_mutex_lock(&mu);
		shoal_mutex_lock(&mu);
	}
	shoal_go(ends_all, how, strlen(how) + 1);
	shoal_sleep(SHOAL_FOREVER);
	return 1;
}
