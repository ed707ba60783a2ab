/*
 * programs/starts.c - starts programs and ends in a certain way: starts HOW COMMAND...
 *
 * Each COMMAND goes to a shell, which is not waited for. HOW: done, exit, crash, stay (until it is ended from
 * outside), wait (in system(), for the last command).
 */
#include <shoal.h>

#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern char **environ;

int shoal_main(int argc, char **argv)
{
	const char *how = argv[1];

	for (int i = 2; i < argc; i++) {
		char *sh[] = {"sh", "-c", argv[i], NULL};
		pid_t pid;

		if (i == argc - 1 && !strcmp(how, "wait"))
			return system(argv[i]);
		if (posix_spawn(&pid, "/bin/sh", NULL, NULL, sh, environ))
			return 9;
	}
	shoal_sleep(200000000); /* the shells have started their programs */
	if (!strcmp(how, "stay"))
		shoal_sleep(3600000000000); /* for ever would be a deadlock */
	if (!strcmp(how, "exit"))
		exit(3);
	if (!strcmp(how, "crash"))
		abort();
	return 0;
}
