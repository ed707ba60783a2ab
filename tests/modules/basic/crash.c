/*
 * crash.c HOW - ends badly in a way of its caller's choice.
 */
#include <shoal.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static volatile int stop_at = -1;
static char *volatile nowhere = (char *)8;

static int overflow(int n)
{
	volatile char frame[4000];

	frame[0] = (char)n;
	return n == stop_at ? 0 : overflow(n + 1) + frame[0];
}

static void alone(void *arg)
{
	(void)arg;
	*nowhere = 1;
}

static void loop(void *arg)
{
	(void)arg;
	for (;;)
		;
}

int shoal_main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";
	struct shoal_end end;
	shoal_gid g;

	if (!strcmp(how, "null"))
		alone(NULL);
	if (!strcmp(how, "overflow"))
		return overflow(0);
	if (!strcmp(how, "abort"))
		abort();
	if (!strcmp(how, "kill"))
		kill(getpid(), SIGKILL);
	if (!strcmp(how, "exit"))
		exit(17);
	if (!strcmp(how, "loop")) { /* ends although one of its goroutines never gives way */
		shoal_go(loop, NULL, 0);
		shoal_sleep(30000000);
		return 4;
	}
	if (!strcmp(how, "isolated")) {
		g = shoal_go_with(&(struct shoal_go_opts){.flags = SHOAL_ISOLATED}, alone, NULL, 0);
		if (shoal_join(g, &end) || end.how != SHOAL_CRASHED || end.signal != SIGSEGV ||
		    end.address != (void *)8)
			return 1;
		return 0;
	}
	if (!strcmp(how, "fork"))
		return fork() == -1 && errno == ENOTSUP ? 0 : 1;
	return 2;
}
