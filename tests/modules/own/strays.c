/*
 * strays.c FILE - until that is there, a server that never idles, its clients, and one who keeps descriptors of all kinds that he
 * does not touch: all of them are his at the end, whatever else was closed meanwhile. Who is lost begins anew.
 */
#define _GNU_SOURCE
#include "tests/modules/kernel_call.h"

#include <shoal.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#define KEPT 12

static struct shoal_go_opts stubborn = {.name = "busy", .attempts = 1000, .flags = SHOAL_ISOLATED};
static struct shoal_wg wg;
static int listener, kept[KEPT];
static ino_t inode[KEPT];
static _Atomic int over;

static void server(void *arg)
{
	(void)arg;
	while (!over) {
		struct pollfd p = {.fd = listener, .events = POLLIN};
		int fd;

		if (poll(&p, 1, 20) <= 0 || (fd = accept(listener, NULL, NULL)) < 0)
			continue;
		if (write(fd, "x", 1) < 0 && errno != EPIPE && errno != ECONNRESET)
			abort();
		close(fd);
	}
}

/* One descriptor at a time: what it knows of when it dies stays open, as its task's. */
static void client(void *arg)
{
	struct sockaddr_un at;
	socklen_t n = sizeof at;
	char c;

	(void)arg;
	if (getsockname(listener, (struct sockaddr *)&at, &n) < 0)
		abort();
	while (!over) {
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		struct pollfd p = {.fd = fd, .events = POLLIN};

		if (fd >= 0 && connect(fd, (struct sockaddr *)&at, n) == 0 && poll(&p, 1, 200) == 1 &&
		    read(fd, &c, 1) < 0)
			abort();
		close(fd);
		shoal_sleep(300000);
	}
}

static void keep(int i, int fd)
{
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		abort();
	kept[i] = fd;
	inode[i] = st.st_ino;
}

int shoal_main(int argc, char **argv)
{
	struct sockaddr_un any = {.sun_family = AF_UNIX};
	int two[2], n = 0;

	if (argc != 2)
		return 2;
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *)&any, sizeof any.sun_family) < 0 ||
	    listen(listener, 64) < 0)
		abort();
	if (pipe2(two, O_CLOEXEC) < 0)
		abort();
	keep(n++, two[0]);
	keep(n++, two[1]);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, two) < 0)
		abort();
	keep(n++, two[0]);
	keep(n++, two[1]);
	keep(n++, open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
	keep(n++, open("/dev/zero", O_RDONLY | O_CLOEXEC));
	keep(n++, dup(kept[0]));
	keep(n++, memfd_create("kept", MFD_CLOEXEC));
	keep(n++, eventfd(0, EFD_CLOEXEC));
	keep(n++, socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
	keep(n++, (int)kernel_call(SYS_open, (long)"/dev/zero", O_RDONLY | O_CLOEXEC)); /* behind the runtime's back */
	for (int i = 0; i < 4; i++)
		shoal_wg_go_with(&wg, &stubborn, i % 2 ? client : server, NULL, 0);
	puts("ready");
	fflush(stdout);
	while (access(argv[1], F_OK) != 0)
		shoal_sleep(50000000);
	over = 1;
	shoal_wg_wait(&wg);
	for (int i = 0; i < n; i++) {
		struct stat st;

		if (fstat(kept[i], &st) < 0 || st.st_ino != inode[i])
			return printf("descriptor %d, the %dth that was kept, is another's\n", kept[i], i), 1;
	}
	return 0;
}
