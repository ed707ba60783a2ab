/*
 * net/syscall.c - system calls that block: the P goes on without them. shoal run net/syscall.so CASE
 */
#define _GNU_SOURCE
#include "tests/modules/net/net.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

static struct shoal_wg wg;
static char path[] = "/tmp/shoal-net-syscall.XXXXXX";
static _Atomic int in, out;

static void locks(void *arg)
{
	int fd = open(path, O_RDWR);

	(void)arg;
	MUST(fd >= 3);
	in++;
	MUST(flock(fd, LOCK_EX) == 0);
	out++;
	MUST(flock(fd, LOCK_UN) == 0);
	close(fd);
}

/* More goroutines than workers wait for a lock in the kernel, while others run. */
static void many_case(void)
{
	int fd = open(path, O_RDWR);
	int64_t t0, longest = 0;

	MUST(flock(fd, LOCK_EX) == 0);
	for (int i = 0; i < 12; i++)
		MUST(shoal_wg_go(&wg, locks, NULL, 0));
	for (int i = 0; i < 400 && in < 12; i++)
		shoal_sleep(5 * MS);
	MUST(in == 12 && out == 0);
	for (int i = 0; i < 100; i++) {
		t0 = shoal_now();
		shoal_sleep(1 * MS);
		if (shoal_now() - t0 > longest)
			longest = shoal_now() - t0;
	}
	MUST(longest < 300 * MS);
	MUST(flock(fd, LOCK_UN) == 0);
	shoal_wg_wait(&wg);
	MUST(out == 12);
	close(fd);
}

/* errno and the place in the program are right wherever it comes back. */
static void fails(void *arg)
{
	int n = *(int *)arg;

	for (int i = 0; i < 300; i++) {
		errno = 0;
		MUST(open("/nowhere/at/all", O_RDONLY) < 0 && errno == ENOENT);
		MUST(fsync(-1) < 0 && errno == EBADF);
		if (i % 16 == n % 16)
			shoal_yield();
		MUST(ftruncate(-1, 0) < 0 && errno == EBADF);
	}
	out++;
}

static void errno_case(void)
{
	for (int i = 0; i < 40; i++)
		MUST(shoal_wg_go(&wg, fails, &i, sizeof i));
	shoal_wg_wait(&wg);
	MUST(out == 40);
}

/* Loops of system calls and loops without any share the Ps. */
static void spins(void *arg)
{
	int64_t until = shoal_now() + 300 * MS;
	int null = *(int *)arg;

	in++;
	while (shoal_now() < until)
		MUST(null < 0 || write(null, "", 1) == 1);
	out++;
}

static void share_case(void)
{
	int null = open("/dev/null", O_WRONLY), none = -1;
	int64_t t0, longest = 0;

	for (int i = 0; i < 8; i++)
		MUST(shoal_wg_go(&wg, spins, i % 2 ? &null : &none, sizeof null));
	while (out < 8) {
		t0 = shoal_now();
		shoal_sleep(1 * MS);
		if (shoal_now() - t0 > longest)
			longest = shoal_now() - t0;
	}
	shoal_wg_wait(&wg);
	MUST(in == 8);
	MUST(longest < 300 * MS);
}

int shoal_main(int argc, char **argv)
{
	int fd = mkstemp(path);

	MUST(fd >= 3);
	if (argc < 2)
		return 2;
	if (!strcmp(argv[1], "many"))
		many_case();
	else if (!strcmp(argv[1], "errno"))
		errno_case();
	else if (!strcmp(argv[1], "share"))
		share_case();
	unlink(path);
	puts("ok");
	return 0;
}
