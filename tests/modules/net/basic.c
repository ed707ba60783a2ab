/*
 * net/basic.c - POSIX calls that park: shoal run net/basic.so CASE. Prints "ok" or what was wrong.
 */
#define _GNU_SOURCE
#include "tests/modules/net/net.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <unistd.h>

static struct shoal_wg wg;
static int fd[2], port;
static _Atomic int count;

/* ---- a pipe from one to another ---- */

static void writes_later(void *arg)
{
	shoal_sleep(20 * MS);
	MUST(write(fd[1], arg, 5) == 5);
}

static void pipe_case(void)
{
	char buf[16];

	MUST(pipe(fd) == 0);
	MUST(!(fcntl(fd[0], F_GETFL) & O_NONBLOCK));
	shoal_wg_go(&wg, writes_later, "hello", 6);
	MUST(read(fd[0], buf, sizeof buf) == 5 && !memcmp(buf, "hello", 5));
	shoal_wg_wait(&wg);
	MUST(!(fcntl(fd[0], F_GETFL) & O_NONBLOCK)); /* it does not show */
	close(fd[1]);
	MUST(read(fd[0], buf, sizeof buf) == 0);
	close(fd[0]);
	MUST(read(fd[0], buf, 1) < 0 && errno == EBADF);
}

/* ---- more than a pipe holds ---- */

static void writes_much(void *arg)
{
	char *b = calloc(1, 1 << 20);
	struct iovec v[3] = {{b, 1000}, {b + 1000, 500000}, {b + 501000, (1 << 20) - 501000}};

	(void)arg;
	for (int i = 0; i < 1 << 20; i++)
		b[i] = (char)(i * 7);
	MUST(write(fd[1], b, 1 << 20) == 1 << 20);
	MUST(writev(fd[1], v, 3) == 1 << 20);
	close(fd[1]);
	free(b);
}

static void much_case(void)
{
	char buf[4096];
	size_t n = 0;
	ssize_t k;

	for (int round = 0; round < 2; round++) {
		MUST((round ? socketpair(AF_UNIX, SOCK_STREAM, 0, fd) : pipe(fd)) == 0);
		n = 0;
		shoal_wg_go(&wg, writes_much, NULL, 0);
		while ((k = read(fd[0], buf, sizeof buf)) > 0)
			for (ssize_t i = 0; i < k; i++, n++)
				MUST(buf[i] == (char)(n % (1 << 20) * 7));
		MUST(k == 0 && n == 2 << 20);
		shoal_wg_wait(&wg);
		close(fd[0]);
	}
}

/* ---- O_NONBLOCK is the caller's ---- */

static void nonblock_case(void)
{
	char b[8];

	MUST(pipe2(fd, O_NONBLOCK) == 0);
	MUST(read(fd[0], b, 1) < 0 && errno == EAGAIN);
	MUST(write(fd[1], "x", 1) == 1 && read(fd[0], b, 8) == 1);
	MUST(read(fd[0], b, 1) < 0 && errno == EAGAIN);
	close(fd[0]);
	close(fd[1]);
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, fd) == 0);
	MUST(recv(fd[0], b, 8, MSG_DONTWAIT) < 0 && errno == EAGAIN);
	MUST(fcntl(fd[0], F_SETFL, O_NONBLOCK) == 0);
	MUST(read(fd[0], b, 8) < 0 && errno == EAGAIN);
	MUST(write(fd[1], "abc", 3) == 3 && read(fd[0], b, 8) == 3);
	MUST(read(fd[0], b, 8) < 0 && errno == EAGAIN);
	MUST(fcntl(fd[0], F_SETFL, 0) == 0);
	shoal_wg_go(&wg, writes_later, "hello", 6);
	MUST(read(fd[0], b, 8) == 5);
	shoal_wg_wait(&wg);
	close(fd[0]);
	close(fd[1]);
}

/* ---- close wakes ---- */

static void reads_closed(void *arg)
{
	char b;

	(void)arg;
	MUST(read(fd[0], &b, 1) < 0 && errno == EBADF);
	count++;
}

static void close_case(void)
{
	for (int round = 0; round < 2; round++) {
		count = 0;
		MUST((round ? socketpair(AF_UNIX, SOCK_STREAM, 0, fd) : pipe(fd)) == 0);
		for (int i = 0; i < 10; i++)
			shoal_wg_go(&wg, reads_closed, NULL, 0);
		shoal_sleep(20 * MS);
		close(fd[0]);
		shoal_wg_wait(&wg);
		MUST(count == 10);
		close(fd[1]);
	}
}

/* ---- many readers of one descriptor: each byte to one of them ---- */

static void reads_some(void *arg)
{
	char b;

	(void)arg;
	while (read(fd[0], &b, 1) == 1)
		count++;
}

static void readers_case(void)
{
	for (int round = 0; round < 2; round++) {
		count = 0;
		MUST((round ? socketpair(AF_UNIX, SOCK_STREAM, 0, fd) : pipe(fd)) == 0);
		for (int i = 0; i < 40; i++)
			shoal_wg_go(&wg, reads_some, NULL, 0);
		for (int i = 0; i < 5000; i++) {
			MUST(write(fd[1], "abc", i % 3 + 1) == i % 3 + 1);
			if (i % 64 == 0)
				shoal_sleep(100000);
		}
		close(fd[1]);
		shoal_wg_wait(&wg);
		MUST(count == 9999);
		close(fd[0]);
	}
}

/* ---- timeouts ---- */

static void timeout_case(void)
{
	struct timeval tv = {0, 30000};
	struct pollfd p;
	struct timespec ts = {0, 20 * MS};
	fd_set r;
	char b[4];
	int64_t t0;

	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, fd) == 0);
	MUST(setsockopt(fd[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv) == 0);
	t0 = shoal_now();
	MUST(recv(fd[0], b, 4, 0) < 0 && errno == EAGAIN);
	MUST(shoal_now() - t0 >= 30 * MS && shoal_now() - t0 < 500 * MS);
	shoal_wg_go(&wg, writes_later, "hello", 6);
	MUST(recv(fd[0], b, 4, 0) == 4 && recv(fd[0], b, 4, 0) == 1);
	p = (struct pollfd){.fd = fd[0], .events = POLLIN};
	t0 = shoal_now();
	MUST(poll(&p, 1, 20) == 0 && shoal_now() - t0 >= 20 * MS);
	MUST(ppoll(&p, 1, &ts, NULL) == 0);
	FD_ZERO(&r);
	FD_SET(fd[0], &r);
	tv = (struct timeval){0, 20000};
	MUST(select(fd[0] + 1, &r, NULL, NULL, &tv) == 0 && !FD_ISSET(fd[0], &r));
	shoal_wg_wait(&wg);
	close(fd[0]);
	close(fd[1]);
}

/* ---- poll, select, epoll over many ---- */

static void poll_case(void)
{
	enum { N = 100 };
	int p[N][2], e = epoll_create1(0);
	struct pollfd pf[N];
	struct epoll_event ev[4];
	fd_set r;
	char b[8];

	for (int i = 0; i < N; i++) {
		MUST(pipe(p[i]) == 0);
		pf[i] = (struct pollfd){.fd = p[i][0], .events = POLLIN};
		ev[0] = (struct epoll_event){.events = EPOLLIN, .data.u32 = (uint32_t)i};
		MUST(epoll_ctl(e, EPOLL_CTL_ADD, p[i][0], ev) == 0);
	}
	for (int i = 0; i < N; i += 9) {
		fd[1] = p[i][1];
		shoal_wg_go(&wg, writes_later, "hello", 6);
		MUST(poll(pf, N, 2000) == 1 && pf[i].revents == POLLIN);
		MUST(read(p[i][0], b, 8) == 5);
		shoal_wg_wait(&wg);
		shoal_wg_go(&wg, writes_later, "hello", 6);
		FD_ZERO(&r);
		for (int k = 0; k < N; k++)
			FD_SET(p[k][0], &r);
		MUST(select(p[N - 1][1] + 1, &r, NULL, NULL, NULL) == 1 && FD_ISSET(p[i][0], &r));
		MUST(read(p[i][0], b, 8) == 5);
		shoal_wg_wait(&wg);
		shoal_wg_go(&wg, writes_later, "hello", 6);
		MUST(epoll_wait(e, ev, 4, -1) == 1 && ev[0].data.u32 == (uint32_t)i);
		MUST(read(p[i][0], b, 8) == 5);
		shoal_wg_wait(&wg);
	}
	MUST(epoll_wait(e, ev, 4, 10) == 0);
	pf[0] = (struct pollfd){.fd = 5000, .events = POLLIN};
	MUST(poll(pf, 1, 1000) == 1 && pf[0].revents == POLLNVAL);
}

/* ---- other descriptors ---- */

static void adds(void *arg)
{
	(void)arg;
	shoal_sleep(10 * MS);
	MUST(eventfd_write(fd[1], 3) == 0);
}

static void others_case(void)
{
	struct itimerspec it = {.it_value = {0, 20 * MS}};
	uint64_t n;
	char b[64];
	int f;

	fd[1] = eventfd(0, 0);
	shoal_wg_go(&wg, adds, NULL, 0);
	MUST(read(fd[1], &n, 8) == 8 && n == 3);
	shoal_wg_wait(&wg);
	f = timerfd_create(CLOCK_MONOTONIC, 0);
	MUST(timerfd_settime(f, 0, &it, NULL) == 0 && read(f, &n, 8) == 8 && n == 1);
	close(f);
	f = open("/proc/self/stat", O_RDONLY);
	MUST(f >= 3 && read(f, b, sizeof b) > 0);
	close(f);
	f = open("/dev/null", O_RDWR);
	MUST(f >= 3 && write(f, b, sizeof b) == sizeof b && read(f, b, 1) == 0);
	close(f);
	MUST(open("/nowhere/x", O_RDONLY) < 0 && errno == ENOENT);
	MUST(close(0) == 0 && close(1) == 0); /* an unusual use, but harmless */
}

/* ---- TCP and UDP ---- */

static void client(void *arg)
{
	struct sockaddr_in a = {
		.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	char out[64], in[64];

	for (int i = 0; i < 20; i++) {
		int s = socket(AF_INET, SOCK_STREAM, 0);

		MUST(s >= 0 && connect(s, (struct sockaddr *)&a, sizeof a) == 0);
		MUST(!(fcntl(s, F_GETFL) & O_NONBLOCK));
		for (int k = 0; k < 10; k++) {
			int n = snprintf(out, sizeof out, "%d/%d/%d", *(int *)arg, i, k);

			MUST(send(s, out, (size_t)n, 0) == n);
			MUST(recv(s, in, (size_t)n, MSG_WAITALL) == n && !memcmp(in, out, (size_t)n));
		}
		close(s);
		count++;
	}
}

static void echo(void *arg)
{
	int s = *(int *)arg;
	char b[256];
	ssize_t n;

	while ((n = recv(s, b, sizeof b, 0)) > 0)
		MUST(send(s, b, (size_t)n, 0) == n);
	MUST(n == 0);
	close(s);
}

static void acceptor(void *arg)
{
	int l = *(int *)arg, s;

	while ((s = accept(l, NULL, NULL)) >= 0)
		MUST(shoal_go(echo, &s, sizeof s));
	MUST(errno == EBADF || errno == EINVAL);
}

static void tcp_case(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	static struct shoal_wg acceptors;
	socklen_t n = sizeof a;
	int l = socket(AF_INET, SOCK_STREAM, 0);

	MUST(bind(l, (struct sockaddr *)&a, sizeof a) == 0 && listen(l, 128) == 0);
	MUST(getsockname(l, (struct sockaddr *)&a, &n) == 0);
	port = ntohs(a.sin_port);
	for (int i = 0; i < 4; i++) /* several at one listener */
		shoal_wg_go(&acceptors, acceptor, &l, sizeof l);
	for (int i = 0; i < 50; i++)
		shoal_wg_go(&wg, client, &i, sizeof i);
	shoal_wg_wait(&wg);
	MUST(count == 1000);
	close(l);
	shoal_wg_wait(&acceptors);
	n = sizeof a; /* no process listens there */
	l = socket(AF_INET, SOCK_STREAM, 0);
	MUST(connect(l, (struct sockaddr *)&a, n) < 0 && errno == ECONNREFUSED);
	close(l);
}

static void udp_echo(void *arg)
{
	struct sockaddr_in from;
	socklen_t n = sizeof from;
	char b[64];
	int s = *(int *)arg;

	for (int i = 0; i < 100; i++) {
		ssize_t k = recvfrom(s, b, sizeof b, 0, (struct sockaddr *)&from, &n);

		MUST(k > 0 && sendto(s, b, (size_t)k, 0, (struct sockaddr *)&from, n) == k);
	}
}

static void udp_case(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof a;
	int s = socket(AF_INET, SOCK_DGRAM, 0), c = socket(AF_INET, SOCK_DGRAM, 0);
	char b[64];

	MUST(bind(s, (struct sockaddr *)&a, sizeof a) == 0 && getsockname(s, (struct sockaddr *)&a, &n) == 0);
	MUST(connect(c, (struct sockaddr *)&a, sizeof a) == 0);
	shoal_wg_go(&wg, udp_echo, &s, sizeof s);
	for (int i = 0; i < 100; i++) {
		MUST(send(c, &i, sizeof i, 0) == sizeof i);
		MUST(recv(c, b, sizeof b, 0) == sizeof i && *(int *)(void *)b == i);
	}
	shoal_wg_wait(&wg);
}

int shoal_main(int argc, char **argv)
{
	static const struct net_case cases[] = {{"pipe", pipe_case},	     {"much", much_case},
						{"nonblock", nonblock_case}, {"close", close_case},
						{"readers", readers_case},   {"timeout", timeout_case},
						{"poll", poll_case},	     {"others", others_case},
						{"tcp", tcp_case},	     {"udp", udp_case}};

	return NET_RUN(argc, argv, cases);
}
