/*
 * offspring.c - programs of tasks, found by a mark that no exec, setsid or new parent takes away.
 *
 * The mark is the soft limit of RLIMIT_LOCKS: each process inherits it from the one that makes it, the kernel
 * has not looked at it since Linux 2.4, and reading it takes one system call without a file. A worker that is
 * about to make a program sets its own limit, so the program has it from its first instruction.
 *
 *   bit 63  62  61 ........ 40  39 ........ 0
 *        0   1  runtime         task            runtime: bits of the time at which it was started
 *
 * A process can leave a mark only by setting that limit itself. A program that is to outlive its task says so
 * with SHOAL_KEEP_CHILDREN=1 in its environment and a session of its own (setsid).
 */
#include "shm/offspring.h"
#include "shm/kernel.h"
#include "shm/segment.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TASK_BITS 40
#define MARKED (1ull << 62)
#define END_TRIES 2000 /* a millisecond each */

struct kernel_dirent {
	uint64_t ino;
	int64_t off;
	uint16_t reclen;
	uint8_t type;
	char name[];
};

static uint64_t mark_of(uint64_t task)
{
	uint64_t runtime = sh_root->started_ns >> 10 & ((1ull << (62 - TASK_BITS)) - 1);

	return MARKED | runtime << TASK_BITS | (task & ((1ull << TASK_BITS) - 1));
}

static uint64_t limit_of(int32_t pid)
{
	struct rlimit64 {
		uint64_t soft, hard;
	} limit;

	return syscall(SYS_prlimit64, pid, RLIMIT_LOCKS, NULL, &limit) == 0 ? limit.soft : 0;
}

static void set_limit(uint64_t soft)
{
	uint64_t limit[2];

	if (syscall(SYS_prlimit64, 0, RLIMIT_LOCKS, NULL, limit) < 0)
		return;
	limit[0] = soft < limit[1] ? soft : limit[1];
	syscall(SYS_prlimit64, 0, RLIMIT_LOCKS, limit, NULL);
}

uint64_t sh_offspring_task(int32_t pid)
{
	uint64_t limit = pid > 0 ? limit_of(pid) : 0, task = limit & ((1ull << TASK_BITS) - 1);

	return limit != ~0ull && limit == mark_of(task) ? task : 0;
}

uint64_t sh_offspring_mark(uint64_t task)
{
	uint64_t old = limit_of(0);

	set_limit(mark_of(task));
	return old;
}

void sh_offspring_unmark(uint64_t old)
{
	set_limit(old);
}

static bool is_offspring(int32_t pid, uint64_t task)
{
	uint64_t mark = limit_of(pid);

	if (mark == UINT64_MAX || !(mark & MARKED))
		return false;
	return task ? mark == mark_of(task) : mark >> TASK_BITS == mark_of(0) >> TASK_BITS;
}

/* The environment is read in pieces that overlap, so a variable is whole in one of them. */
static bool asks_to_stay(int32_t pid)
{
	static const char wanted[] = "\0SHOAL_KEEP_CHILDREN=1";
	char path[40], text[4096];
	size_t have = 1;
	bool found = false;
	long n;
	int fd;

	sh_format(path, sizeof path, "/proc/%d/environ", pid);
	fd = kernel_open(path, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return false;
	text[0] = '\0';
	while (!found && (n = kernel_read(fd, text + have, sizeof text - have)) > 0) {
		size_t all = have + (size_t)n, keep = all < sizeof wanted ? all : sizeof wanted;

		found = memmem(text, all, wanted, sizeof wanted) != NULL;
		memmove(text, text + all - keep, keep);
		have = keep;
	}
	kernel_close(fd);
	return found;
}

static bool has_detached(int32_t pid)
{
	long session = syscall(SYS_getsid, pid);

	return session >= 0 && session != syscall(SYS_getsid, atomic_load(&sh_root->zygote)) && asks_to_stay(pid);
}

/* Uses a pidfd, because the kernel may have given the pid to another process meanwhile. */
static bool signal_one(int32_t pid, uint64_t task, int sig)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd ended = {.fd = fd, .events = POLLIN};
	bool lives = false;

	if (fd < 0)
		return errno == ENOSYS && kernel_kill(pid, sig) == 0;
	if (is_offspring(pid, task) && !has_detached(pid) && kernel_poll(&ended, 1, 0) == 0)
		lives = syscall(SYS_pidfd_send_signal, fd, sig, NULL, 0) == 0;
	kernel_close(fd);
	return lives;
}

unsigned sh_offspring_kill(uint64_t task, int sig)
{
	_Alignas(8) char buf[16384];
	int dir = kernel_open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	unsigned n = 0;
	long got;

	while (dir >= 0 && (got = syscall(SYS_getdents64, dir, buf, sizeof buf)) > 0)
		for (long at = 0; at < got;) {
			const struct kernel_dirent *e = (const struct kernel_dirent *)(buf + at);
			int32_t pid = (int32_t)strtol(e->name, NULL, 10);

			at += e->reclen;
			if (pid > 1 && is_offspring(pid, task))
				n += signal_one(pid, task, sig);
		}
	if (dir >= 0)
		kernel_close(dir);
	return n;
}

static unsigned kill_workers(void)
{
	unsigned n = 0;

	for (unsigned i = 1; i < SH_SEATS; i++) {
		struct sh_seat *s = &sh_root->seat[i];
		uint32_t state = atomic_load(&s->state);
		int32_t pid = atomic_load(&s->pid);

		if (pid > 0 && (state == SEAT_LIVE || state == SEAT_STARTING) && !sh_seat_dead(i))
			n += kernel_kill(pid, SIGKILL) == 0;
	}
	return n;
}

void sh_offspring_end_runtime(void)
{
	unsigned left = 1;

	atomic_store(&sh_root->over, 1);
	for (unsigned tries = 0; left && tries < END_TRIES; tries++) {
		left = kill_workers();
		left += sh_offspring_kill(SH_OFFSPRING_ALL, SIGKILL);
		kernel_nanosleep(&(struct timespec){0, 1000000}, NULL);
	}
	_exit(0);
}
