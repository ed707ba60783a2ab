/*
 * strays.c - finds and closes descriptors in the workers' table that have no owner. A worker leaves such a stray
 * if it dies between the system call that makes a descriptor and the store of its owner, or between the store that
 * removes the owner and the close.
 *
 * A stray looks like a descriptor that a library has opened inside libc in some worker. So the full search runs
 * when no task exists and all workers have been replaced (sweep.c). The zygote does it, because while it searches
 * no process is cloned that could open a descriptor. The zygote lists the descriptors that a load opens at once as
 * its own. The medic opens a descriptor for a short time now and then, so only a descriptor that is still there 10
 * ms later and refers to the same file is a stray.
 *
 * While tasks exist, three steps make sure that no descriptor is closed that a process has just made or still
 * uses:
 *   LOOK   lists the descriptors without an owner
 *   HOLD   later, duplicates those that still have no owner and refer to the same file. From then on a
 *          comparison with the duplicate shows whether the number was given to another file
 *   CLOSE  once every process that existed at HOLD has been replaced, closes the descriptors that still have no
 *          owner and are the held file: no process can know them
 * Descriptors that a goroutine may have made by a raw system call are left alone: terminals, message queues, and
 * descriptors without a file.
 */
#include "shm/kernel.h"
#include "shm/syscall.h"
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
#include <time.h>
#include <unistd.h>

#define RECHECK_NS 10000000
#define LINK 128

static bool has_no_owner(int fd)
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

		if (i != dirfd(d) && has_no_owner(i))
			fd[n++] = i;
	}
	if (d)
		closedir(d);
	return n;
}

static bool contains_fd(const int *fd, unsigned n, int one)
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

		if (!contains_fd(before, n, now[i]))
			atomic_compare_exchange_strong(&poll_owner[now[i]], &nobody, POLL_RUNTIME);
	}
}

static void read_target(int fd, char *to)
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
		read_target(fd[i], first[i]);
	if (n)
		kernel_nanosleep(&(struct timespec){0, RECHECK_NS}, NULL);
	for (unsigned i = 0; i < n; i++) {
		read_target(fd[i], then);
		if (!then[0] || strcmp(first[i], then) || !has_no_owner(fd[i]))
			continue;
		kernel_close(fd[i]);
		closed++;
	}
	return closed;
}

/* ---- while tasks exist ---- */

#define PIDFS_MAGIC 0x50494446
#ifndef MQUEUE_MAGIC
#define MQUEUE_MAGIC 0x19800202
#endif

static struct candidate {
	int fd, dup; /* dup: -1 until it is held */
	dev_t dev;
	ino_t ino;
} candidate[STRAYS];
static unsigned ncandidates;

static bool same_open_file(int a, int b)
{
	long me = getpid();

	return syscall(SYS_kcmp, me, me, KCMP_FILE, (long)a, (long)b) == 0;
}

/*
 * True for a kind of descriptor that only the stand-ins in worker/posix make. False for a descriptor without a
 * file, because a raw system call may have made it.
 */
static bool may_be_closed(int fd, struct stat *st)
{
	struct statfs fs;

	if (fstat(fd, st) < 0 || fstatfs(fd, &fs) < 0 || fs.f_type == PROC_SUPER_MAGIC || fs.f_type == MQUEUE_MAGIC ||
	    fs.f_type == PIDFS_MAGIC || !(st->st_mode & S_IFMT))
		return false;
	return !S_ISCHR(st->st_mode) || same_open_file(fd,
						       /*
		        * Character devices are left alone, except the zygote's own /dev/null: fd_emptied puts it
		        * there before a close.
		        */
						       0);
}

static unsigned list_candidates(void)
{
	int fd[STRAYS];
	unsigned n = sh_strays(fd, STRAYS);
	struct stat st;

	ncandidates = 0;
	for (unsigned i = 0; i < n; i++)
		if (may_be_closed(fd[i], &st))
			candidate[ncandidates++] = (struct candidate){fd[i], -1, st.st_dev, st.st_ino};
	return ncandidates;
}

static unsigned hold_candidates(void)
{
	unsigned kept = 0;
	struct stat st;

	for (unsigned i = 0; i < ncandidates; i++) {
		struct candidate m = candidate[i];

		if (!has_no_owner(m.fd) || fstat(m.fd, &st) < 0 || st.st_dev != m.dev || st.st_ino != m.ino)
			continue;
		m.dup = kernel_fcntl(m.fd, F_DUPFD_CLOEXEC, ZFD_FIRST_FREE);
		if (m.dup < 0)
			break;
		if ((unsigned)m.dup < POLL_FDS)
			atomic_store(&poll_owner[m.dup], POLL_HELD);
		candidate[kept++] = m;
	}
	return ncandidates = kept;
}

/* Closes the duplicates, also those of a zygote that died between two steps. */
static void drop_held(void)
{
	DIR *d = opendir("/proc/self/fd");
	struct dirent *e;

	while (d && (e = readdir(d))) {
		unsigned i = (unsigned)atoi(e->d_name);
		uint32_t held = POLL_HELD;

		if (i < POLL_FDS && atomic_load(&poll_owner[i]) == held) {
			kernel_close((
				/*
				 * Close first: if the zygote dies after removing the owner, nothing would ever
				 * close the descriptor.
				 */
				int)i);
			atomic_compare_exchange_strong(&poll_owner[i], &held, 0);
		}
	}
	if (d)
		closedir(d);
	ncandidates = 0;
}

static unsigned close_held(void)
{
	unsigned closed = 0;

	for (unsigned i = 0; i < ncandidates; i++)
		if (has_no_owner(candidate[i].fd) && same_open_file(candidate[i].fd, candidate[i].dup)) {
			kernel_close(candidate[i].fd);
			closed++;
		}
	drop_held();
	return closed;
}

unsigned sh_strays_step(enum sweep how)
{
	switch (how) {
	case SWEEP_LOOK: drop_held(); return list_candidates();
	case SWEEP_HOLD: return hold_candidates();
	case SWEEP_CLOSE: return close_held();
	default: drop_held(); return 0;
	}
}
