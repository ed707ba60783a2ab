/*
 * kill/files.c - locks on files, taken and released by goroutines that may be killed at any point. For the
 * kill driver, as kill/work.c. No lock of a
 * goroutine's former run keeps the next run waiting.
 */
#define _GNU_SOURCE
#include <shoal.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#define LOCKERS 6

static const struct shoal_go_opts stubborn = {.name = "locker", .attempts = 100, .flags = SHOAL_ISOLATED};
static struct shoal_wg all;
static int locked, waited;
static char path[3][64];

static void must(int ok)
{
	if (!ok)
		abort();
}

static int lock(int fd, int op, short type, long start, long len)
{
	struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};

	return fcntl(fd, op, &l);
}

static void lock_files(void *arg)
{
	int me = *(int *)arg;

	for (int i = 0; i < 10; i++) {
		int a = open(path[0], O_RDWR | O_CLOEXEC), b = open(path[1], O_RDWR | O_CLOEXEC);

		must(a >= 0 && b >= 0);
		must(lock(a, F_SETLKW, F_WRLCK, me * 10, 10) == 0);
		must(lock(b, F_SETLKW, F_RDLCK, 0, 0) == 0);
		shoal_yield();
		must(flock(b, LOCK_SH) == 0);
		must(lock(b, F_SETLK, F_UNLCK, me, 1) == 0);
		must(lock(b, F_SETLK, F_WRLCK, me, 1) == 0);
		must(flock(b, LOCK_UN) == 0);
		close(a);
		close(b);
	}
	__atomic_fetch_add(&locked, 1, __ATOMIC_SEQ_CST);
}

static void hold_for_a_while(void *arg)
{
	int fd = *(int *)arg;

	shoal_sleep(2000000);
	must(lock(fd, F_OFD_SETLK, F_UNLCK, 0, 0) == 0);
}

/* A wait in the kernel for a lock of another owner. */
static void wait_for_lock(void *unused)
{
	int owner = open(path[2], O_RDWR | O_CLOEXEC), fd = open(path[2], O_RDWR | O_CLOEXEC);

	(void)unused;
	must(owner >= 0 && fd >= 0 && lock(owner, F_OFD_SETLKW, F_WRLCK, 1000, 1) == 0);
	shoal_go(hold_for_a_while, &owner, sizeof owner);
	must(lock(fd, F_SETLKW, F_WRLCK, 1000, 1) == 0);
	close(fd);
	close(owner);
	__atomic_fetch_add(&waited, 1, __ATOMIC_SEQ_CST);
}

int shoal_main(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	for (int i = 0; i < 3; i++) {
		int fd = open("/tmp", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);

		must(fd >= 0);
		snprintf(path[i], sizeof path[i], "/proc/self/fd/%d", fd);
	}
	for (int i = 0; i < LOCKERS; i++)
		must(shoal_wg_go_with(&all, &stubborn, lock_files, &i, sizeof i) != 0);
	must(shoal_wg_go_with(&all, &stubborn, wait_for_lock, NULL, 0) != 0);
	shoal_wg_wait(&all);
	return __atomic_load_n(&locked, __ATOMIC_SEQ_CST) < LOCKERS || !waited;
}
