/*
 * kill/ends.c - what comes to its end while others hold it: channels that are freed, connections that are
 * accepted one after the other, joins, memory that a task leaves behind. For the kill driver, as kill/work.c:
 * it checks itself and always ends with 0.
 */
#define _GNU_SOURCE
#include <shoal.h>

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CHANS 6
#define CALLS 6
#define LEFT (2u << 20) /* of 96 MiB: after a few runs it is too much, and workers are renewed */

static struct shoal_go_opts stubborn = {.name = "ends", .attempts = 100, .flags = SHOAL_ISOLATED};
static struct shoal_wg wg;
static int listener;
static _Atomic int calls_done;

static void gives_one(void *arg)
{
	struct shoal_chan *c = *(struct shoal_chan **)arg;
	int one = 1;

	shoal_send_timed(c, &one, 2000000); /* who begins anew finds nobody to take it */
}

static void channels(void *arg)
{
	int got = 0;

	(void)arg;
	for (int i = 0; i < CHANS; i++) {
		struct shoal_chan *c = shoal_chan_new(sizeof(int), (size_t)i % 3);
		shoal_gid g;

		if (!c || !(g = shoal_go_with(&stubborn, gives_one, &c, sizeof c)))
			abort();
		if (shoal_recv_timed(c, &got, 20000000) == 1 && got != 1)
			abort();
		shoal_join(g, NULL);
		shoal_chan_free(c);
	}
}

static void server(void *arg)
{
	(void)arg;
	while (calls_done < CALLS) {
		struct pollfd p = {.fd = listener, .events = POLLIN};
		int fd;

		if (poll(&p, 1, 2) <= 0)
			continue;
		fd = accept(listener, NULL, NULL);
		if (fd < 0 && errno != EAGAIN)
			abort();
		if (fd < 0)
			continue;
		if (write(fd, "x", 1) < 0 && errno != EPIPE && errno != ECONNRESET)
			abort();
		close(fd);
	}
}

/* Its server may be lost with the connection in its hands. */
static void caller(void *arg)
{
	struct sockaddr_un at;
	socklen_t n = sizeof at;
	char c = 0;

	(void)arg;
	if (getsockname(listener, (struct sockaddr *)&at, &n) < 0)
		abort();
	for (;;) {
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		struct pollfd p = {.fd = fd, .events = POLLIN};
		bool served = fd >= 0 && connect(fd, (struct sockaddr *)&at, n) == 0 && poll(&p, 1, 50) == 1 &&
			      read(fd, &c, 1) == 1;

		close(fd);
		if (served)
			break;
	}
	if (c != 'x')
		abort();
	calls_done++;
}

int shoal_main(int argc, char **argv)
{
	struct sockaddr_un any = {.sun_family = AF_UNIX};
	size_t size = argc > 1 && strcmp(argv[1], "much") == 0 ? 4 * LEFT : LEFT;
	char *left;

	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0); /* two wait for each call */
	if (listener < 0 || bind(listener, (struct sockaddr *)&any, sizeof any.sun_family) < 0 ||
	    listen(listener, 64) < 0)
		abort();
	for (int i = 0; i < 2; i++) {
		shoal_wg_go_with(&wg, &stubborn, channels, NULL, 0);
		shoal_wg_go_with(&wg, &stubborn, server, NULL, 0);
	}
	for (int i = 0; i < CALLS; i++)
		shoal_wg_go_with(&wg, &stubborn, caller, NULL, 0);
	shoal_wg_wait(&wg);
	left = malloc(size);
	if (left)
		memset(left, 1, size);
	return calls_done >= CALLS ? 0 : 1;
}
