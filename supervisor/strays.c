/*
 * strays.c - descriptors in the workers' table that are nobody's: a worker died between the system
 * call that made one and the note of whose it is, or between that it was nobody's and its close.
 *
 * They cannot be told from what a library has opened inside of libc, in a worker. So they are looked
 * for when no task is there and all workers have been renewed (sweep.c), by the zygote, which does one
 * thing at a time: then nobody else can have opened anything. What it opens itself as it loads a
 * module is written down at once. The medic opens one for a moment now and then: who is still there
 * after a while, and leads to the same file, is a stray.
 */
#include "core/netpoll.h"
#include "supervisor/zygote.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define AWHILE_NS 10000000
#define LINK 128

static bool nobodys(int fd)
{
	return fd >= ZFD_FIRST_FREE && (unsigned)fd < POLL_FDS && atomic_load(&poll_owner[fd]) == 0;
}

unsigned sh_strays(int *fd, unsigned max)
{
	DIR *d = opendir("/proc/self/fd");
	struct dirent *e;
	unsigned n = 0;

	while (d && n < max && (e = readdir(d))) {
		int i = atoi(e->d_name);

		if (i != dirfd(d) && nobodys(i))
			fd[n++] = i;
	}
	if (d)
		closedir(d);
	return n;
}

static bool among(const int *fd, unsigned n, int one)
{
	for (unsigned i = 0; i < n; i++)
		if (fd[i] == one)
			return true;
	return false;
}

void sh_strays_keep(const int *before, unsigned n)
{
	int now[STRAYS];
	unsigned k = sh_strays(now, STRAYS);

	for (unsigned i = 0; i < k; i++) {
		uint32_t nobody = 0;

		if (!among(before, n, now[i]))
			atomic_compare_exchange_strong(&poll_owner[now[i]], &nobody, POLL_RUNTIME);
	}
}

static void leads_to(int fd, char *to)
{
	char path[32];
	ssize_t n;

	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	n = readlink(path, to, LINK - 1);
	to[n < 0 ? 0 : n] = '\0';
}

unsigned sh_strays_close(void)
{
	static char first[STRAYS][LINK];
	int fd[STRAYS];
	unsigned n = sh_strays(fd, STRAYS), closed = 0;
	char then[LINK];

	for (unsigned i = 0; i < n; i++)
		leads_to(fd[i], first[i]);
	if (n)
		nanosleep(&(struct timespec){0, AWHILE_NS}, NULL);
	for (unsigned i = 0; i < n; i++) {
		leads_to(fd[i], then);
		if (!then[0] || strcmp(first[i], then) || !nobodys(fd[i]))
			continue;
		close(fd[i]);
		closed++;
	}
	return closed;
}
