/*
 * output/redirected.c - a task that redirects its stdout: what it writes is in the pipe or file at once. Checks itself
 * and prints "ok" to where its output went at first.
 */
#define _GNU_SOURCE
#include <shoal.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define MUST(x) ((x) ? (void)0 : fail(#x, __LINE__))

static int first;

static void fail(const char *what, int line)
{
	int err = errno;

	dup2(first, 1);
	printf("redirected.c:%d: %s (errno %d)\n", line, what, err);
	exit(1);
}

static off_t size_of(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? st.st_size : -1;
}

int shoal_main(int argc, char **argv)
{
	struct iovec v[2] = {{"b", 1}, {"c", 1}};
	char path[] = "/tmp/shoal-redirected-XXXXXX", c[4];
	int p[2], file = mkstemp(path);

	(void)argc;
	(void)argv;
	MUST((first = dup(1)) > 2 && pipe(p) == 0 && file >= 0);
	MUST(dup2(p[1], 1) == 1);
	MUST(write(1, "a", 1) == 1 && read(p[0], c, 4) == 1 && c[0] == 'a'); /* no newline, and its reader is itself */
	MUST(writev(1, v, 2) == 2 && read(p[0], c, 4) == 2 && c[1] == 'c');
	MUST(printf("d") == 1 && fflush(stdout) == 0 && read(p[0], c, 4) == 1 && c[0] == 'd');
	signal(SIGPIPE, SIG_IGN);
	close(p[0]);
	MUST(write(1, "e", 1) == -1 && errno == EPIPE);
	MUST(dup2(file, 1) == 1 && write(1, "abc", 3) == 3 && size_of(path) == 3);
	MUST(freopen(path, "w", stdout) == stdout && size_of(path) == 0);
	MUST(printf("to the file\n") == 12 && fflush(stdout) == 0 && size_of(path) == 12);
	MUST(printf("more") == 4 && fclose(stdout) == 0 && size_of(path) == 16);
	unlink(path);
	MUST(dup2(first, 1) == 1);
	puts("ok");
	return 0;
}
