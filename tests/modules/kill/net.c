/*
 * kill/net.c - descriptors, system calls and other programs, for the kill driver, as kill/work.c: it
 * checks itself and always ends with 0. Who is lost begins again; what it had in hand is gone, so
 * nobody waits without a limit for another.
 */
#define _GNU_SOURCE
#include <shoal.h>

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAIRS 6
#define BYTES 40
#define CROWD 9 /* at one descriptor: more than a poll descriptor has slots */
#define LARGE (2 << 20)
#define CALLERS 4

static struct shoal_go_opts stubborn = {.name = "at the net", .attempts = 100, .flags = SHOAL_ISOLATED};
static struct shoal_wg wg;
static int pair[PAIRS][2], crowd_fd[2];
static _Atomic int written[PAIRS], done;
static char *large;

static void writer(void *arg)
{
	int i = *(int *)arg;
	unsigned char b;

	for (b = 1; b <= BYTES; b++) {
		if (write(pair[i][1], &b, 1) != 1)
			abort();
		if (b % 8 == 0)
			shoal_yield();
	}
	written[i] = 1;
	done++;
}

/* Until the writer has ended and nothing is left: some bytes may have gone with an earlier run of ours, and come twice. */
static void reader(void *arg)
{
	int i = *(int *)arg, over;
	unsigned char b[16];
	ssize_t n;

	for (;;) {
		struct pollfd p = {.fd = pair[i][0], .events = POLLIN};

		over = written[i];
		if (poll(&p, 1, over ? 0 : 5) == 0) {
			if (over)
				break;
			continue;
		}
		n = read(pair[i][0], b, sizeof b);
		if (n <= 0)
			abort();
		for (ssize_t k = 0; k < n; k++)
			if (b[k] < 1 || b[k] > BYTES)
				abort();
	}
	done++;
}

static void in_crowd(void *arg)
{
	struct pollfd p = {.fd = crowd_fd[0], .events = POLLIN};

	(void)arg;
	if (poll(&p, 1, 20) < 0 && errno != EBADF)
		abort();
	done++;
}

/* A system call that lasts, more of them than Ps. */
static void caller(void *arg)
{
	int fd = memfd_create("large", MFD_CLOEXEC), none = open("/nowhere/x", O_RDONLY);

	(void)arg;
	if (fd < 0 || none >= 0 || errno != ENOENT)
		abort();
	for (int i = 0; i < 3; i++)
		if (pwrite(fd, large, LARGE, 0) != LARGE)
			abort();
	if (fd % 2) /* some are left to the end of the task */
		close(fd);
	done++;
}

static void asker(void *arg)
{
	struct addrinfo hints = {.ai_flags = AI_NUMERICHOST}, *a;
	int r = 0;

	(void)arg;
	if (getaddrinfo("127.0.0.1", "1", &hints, &a) != 0)
		abort();
	freeaddrinfo(a);
	for (int tries = 0; tries < 20; tries++) /* the worker that knows how it ends may die */
		if ((r = system("exit 3")) != -1 || errno != ECHILD)
			break;
	if (!WIFEXITED(r) || WEXITSTATUS(r) != 3)
		abort();
	done++;
}

static void go(void (*fn)(void *), int i)
{
	if (!shoal_wg_go_with(&wg, &stubborn, fn, &i, sizeof i))
		abort();
}

int shoal_main(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	if (!(large = calloc(1, LARGE)) || pipe2(crowd_fd, O_CLOEXEC) < 0)
		abort();
	for (int i = 0; i < PAIRS; i++)
		if ((i % 2 ? pipe2(pair[i], O_CLOEXEC) : socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair[i])) <
		    0)
			abort();
	for (int i = 0; i < PAIRS; i++) {
		go(reader, i);
		go(writer, i);
	}
	for (int i = 0; i < CROWD; i++)
		go(in_crowd, i);
	for (int i = 0; i < CALLERS; i++)
		go(caller, i);
	go(asker, 0);
	shoal_sleep(3000000);
	close(crowd_fd[0]); /* wakes who waits for it */
	shoal_wg_wait(&wg);
	return done >= 2 * PAIRS + CROWD + CALLERS + 1 ? 0 : 1;
}
