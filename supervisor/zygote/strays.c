/*
 * strays.c - descriptors in the workers' table that are nobody's: a worker died between the system
 * call that made one and the note of whose it is, or between that it was nobody's and its close.
 *
 * They cannot be told from what a library has opened inside of libc, in a worker. So they are looked
 * for when no task is there and all workers have been renewed (sweep.c), by the zygote, which does one
 * thing at a time: then nobody else can have opened anything. What it opens itself as it loads a
 * module is written down at once. The medic opens one for a moment now and then: who is still there
 * after a while, and leads to the same file, is a stray.
 *
 * While tasks are there, one at a time, so that none is closed which somebody has just made or knows
 * of: LOOK notes what is nobody's. HOLD, later, takes another number for those that still are, and
 * lead to the same file: from then on it can be told whether the number is given to another file.
 * CLOSE, once no process is left that was there at HOLD: what is still nobody's and the very file that
 * was held is known to no process. Left out is what a goroutine may have got past us, by a bare system
 * call: terminals, message queues, what has no file.
 */
#include "shm/kernel.h"
#include "supervisor/zygote/zygote.h"
#include "core/sched/netpoll.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
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
		kernel_nanosleep(&(struct timespec){0, AWHILE_NS}, NULL);
	for (unsigned i = 0; i < n; i++) {
		leads_to(fd[i], then);
		if (!then[0] || strcmp(first[i], then) || !nobodys(fd[i]))
			continue;
		kernel_close(fd[i]);
		closed++;
	}
	return closed;
}

/* ---- while tasks are there ---- */

#define PIDFS_MAGIC 0x50494446
#ifndef MQUEUE_MAGIC
#define MQUEUE_MAGIC 0x19800202
#endif

static struct maybe {
	int fd, dup; /* dup: -1 until it is held */
	dev_t dev;
	ino_t ino;
} maybe[STRAYS];
static unsigned nmaybe;

static bool same_file(int a, int b)
{
	long me = getpid();

	return syscall(SYS_kcmp, me, me, KCMP_FILE, (long)a, (long)b) == 0;
}

/* One that we can judge: made by a call that we know. What the kernel makes without a file is asked for by bare system calls. */
static bool plain(int fd, struct stat *st)
{
	struct statfs fs;

	if (fstat(fd, st) < 0 || fstatfs(fd, &fs) < 0 || fs.f_type == PROC_SUPER_MAGIC || fs.f_type == MQUEUE_MAGIC ||
	    fs.f_type == PIDFS_MAGIC || !(st->st_mode & S_IFMT))
		return false;
	return !S_ISCHR(st->st_mode) || same_file(fd, 0); /* ours: what was on its way to be closed */
}

static unsigned look(void)
{
	int fd[STRAYS];
	unsigned n = sh_strays(fd, STRAYS);
	struct stat st;

	nmaybe = 0;
	for (unsigned i = 0; i < n; i++)
		if (plain(fd[i], &st))
			maybe[nmaybe++] = (struct maybe){fd[i], -1, st.st_dev, st.st_ino};
	return nmaybe;
}

static unsigned hold(void)
{
	unsigned kept = 0;
	struct stat st;

	for (unsigned i = 0; i < nmaybe; i++) {
		struct maybe m = maybe[i];

		if (!nobodys(m.fd) || fstat(m.fd, &st) < 0 || st.st_dev != m.dev || st.st_ino != m.ino)
			continue;
		m.dup = kernel_fcntl(m.fd, F_DUPFD_CLOEXEC, ZFD_FIRST_FREE);
		if (m.dup < 0)
			break;
		if ((unsigned)m.dup < POLL_FDS)
			atomic_store(&poll_owner[m.dup], POLL_HELD);
		maybe[kept++] = m;
	}
	return nmaybe = kept;
}

/* Also those of a zygote that died meanwhile. */
static void drop_held(void)
{
	DIR *d = opendir("/proc/self/fd");
	struct dirent *e;

	while (d && (e = readdir(d))) {
		unsigned i = (unsigned)atoi(e->d_name);
		uint32_t held = POLL_HELD;

		if (i < POLL_FDS && atomic_load(&poll_owner[i]) == held) {
			kernel_close((int)i); /* before it is nobody's: nobody else would close it */
			atomic_compare_exchange_strong(&poll_owner[i], &held, 0);
		}
	}
	if (d)
		closedir(d);
	nmaybe = 0;
}

static unsigned close_held(void)
{
	unsigned closed = 0;

	for (unsigned i = 0; i < nmaybe; i++)
		if (nobodys(maybe[i].fd) && same_file(maybe[i].fd, maybe[i].dup)) {
			kernel_close(maybe[i].fd);
			closed++;
		}
	drop_held();
	return closed;
}

unsigned sh_strays_step(enum sweep how)
{
	switch (how) {
	case SWEEP_LOOK: drop_held(); return look();
	case SWEEP_HOLD: return hold();
	case SWEEP_CLOSE: return close_held();
	default: drop_held(); return 0;
	}
}
