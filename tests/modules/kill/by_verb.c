/* kill/by_verb.c busy|waits|dead - tasks for the verbs of the kill driver: dump, cancel, and the end of one that sleeps for good. */
#define _GNU_SOURCE
#include <shoal.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

static struct shoal_go_opts stubborn = {.name = "by verb", .attempts = 100, .flags = SHOAL_ISOLATED};
static struct shoal_wg wg;
static char path[64];

static void computes(void *arg)
{
	int64_t until = shoal_now() + 25000000;

	(void)arg;
	while (shoal_now() < until)
		for (volatile int i = 0; i < 3000000; i++)
			;
}

/* In a system call until the other lets the lock go. */
static void blocks(void *arg)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	(void)arg;
	if (fd >= 0 && flock(fd, LOCK_EX) == 0)
		close(fd);
}

static void waits(void *arg)
{
	(void)arg;
	shoal_recv(NULL, NULL);
}

int shoal_main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "busy";
	int busy = !strcmp(what, "busy"), fd = memfd_create("lock", MFD_CLOEXEC);

	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	if (busy && fd >= 0 && flock(fd, LOCK_EX) == 0)
		shoal_wg_go_with(&wg, &stubborn, blocks, NULL, 0);
	for (int i = 0; i < 3; i++)
		shoal_wg_go_with(&wg, &stubborn, busy || i == 0 ? computes : waits, NULL, 0);
	if (!strcmp(what, "waits"))
		while (shoal_sleep(1000000) != -ECANCELED)
			;
	if (busy) {
		shoal_sleep(20000000);
		close(fd);
	}
	return shoal_wg_wait(&wg);
}
