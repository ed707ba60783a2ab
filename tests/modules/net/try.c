/*
 * try.c CASE - each call is tried first: whatever an earlier call has left behind, the next one
 * gives what the kernel has. Prints "ok".
 */
#define _GNU_SOURCE
#include "tests/modules/net/net.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

static int s[2];
static char b[64];
static struct shoal_wg wg;

static void pair(int type)
{
	MUST(socketpair(AF_UNIX, type, 0, s) == 0);
}

/* A connection of TCP in s. */
static void connection(void)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof at;
	int l = socket(AF_INET, SOCK_STREAM, 0);

	MUST(bind(l, (struct sockaddr *)&at, n) == 0 && listen(l, 8) == 0);
	MUST(getsockname(l, (struct sockaddr *)&at, &n) == 0);
	s[1] = socket(AF_INET, SOCK_STREAM, 0);
	MUST(connect(s[1], (struct sockaddr *)&at, n) == 0);
	MUST((s[0] = accept(l, NULL, NULL)) >= 0 && close(l) == 0);
}

static void done_with_pair(void)
{
	MUST(close(s[0]) == 0 && close(s[1]) == 0);
}

/* A read that waited and returned fewer bytes: the runtime must not conclude anything from it. */
static void sends_later(void *text)
{
	shoal_sleep(5 * MS);
	MUST(write(s[1], text, strlen(text)) == (ssize_t)strlen(text));
}

static void read_short(void)
{
	MUST(shoal_wg_go(&wg, sends_later, "early", 6));
	MUST(read(s[0], b, sizeof b) == 5);
	shoal_wg_wait(&wg);
}

static void polled(void)
{
	struct pollfd p;

	pair(SOCK_STREAM);
	read_short();
	p = (struct pollfd){s[0], POLLIN, 0};
	MUST(fcntl(s[0], F_SETFL, O_NONBLOCK) == 0 && poll(&p, 1, 0) == 0);
	for (int i = 0; i < 100; i++) {
		MUST(write(s[1], "again", 5) == 5 && poll(&p, 1, 0) == 1);
		MUST((i % 2 ? read(s[0], b, sizeof b) : recv(s[0], b, sizeof b, 0)) == 5);
		MUST(read(s[0], b, sizeof b) == -1 && errno == EAGAIN);
	}
	done_with_pair();
}

static void sends_packets(void *arg)
{
	(void)arg;
	shoal_sleep(5 * MS);
	MUST(write(s[1], "one", 3) == 3 && write(s[1], "two", 3) == 3 && write(s[1], "three", 5) == 5);
}

static void packets(void)
{
	static const char *const text[] = {"one", "two", "three"};
	for (int kind = 0; kind < 3; kind++) {
		if (kind == 0)
			MUST(pipe2(s, O_DIRECT) == 0);
		else
			pair(kind == 1 ? SOCK_SEQPACKET : SOCK_DGRAM);
		MUST(shoal_wg_go(&wg, sends_packets, NULL, 0));
		for (int i = 0; i < 3; i++)
			MUST(read(s[0], b, sizeof b) == (ssize_t)strlen(text[i]) &&
			     !memcmp(b, text[i], strlen(text[i])));
		shoal_wg_wait(&wg);
		done_with_pair();
	}
}

static ssize_t receive_with_fd(int *fd)
{
	union {
		struct cmsghdr h;
		char room[CMSG_SPACE(sizeof(int))];
	} c;
	struct iovec v = {b, sizeof b};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof c};
	ssize_t n = recvmsg(s[0], &m, 0);

	*fd = -1;
	if (n >= 0 && m.msg_controllen)
		memcpy(fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof *fd);
	return n;
}

static void send_with_fd(const char *text)
{
	union {
		struct cmsghdr h;
		char room[CMSG_SPACE(sizeof(int))];
	} c = {.h = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
	struct iovec v = {(void *)text, strlen(text)};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof c};

	memcpy(CMSG_DATA(&c.h), &s[1], sizeof(int));
	MUST(sendmsg(s[1], &m, 0) == (ssize_t)strlen(text));
}

/* A read ends before each descriptor that comes along, so it is short although there is more. */
static void rights(void)
{
	int fd;

	pair(SOCK_STREAM);
	for (int i = 0; i < 50; i++) {
		MUST(write(s[1], "ab", 2) == 2);
		send_with_fd("cd");
		send_with_fd("ef");
		MUST(receive_with_fd(&fd) >= 2);
		if (fd < 0)
			MUST(receive_with_fd(&fd) == 2);
		MUST(fd >= 0 && close(fd) == 0);
		MUST(receive_with_fd(&fd) == 2 && fd >= 0 && close(fd) == 0);
	}
	done_with_pair();
}

/* A read ends at the mark of urgent data. */
static void urgent(void)
{
	struct pollfd p;

	connection();
	read_short();
	MUST(recv(s[0], b, 1, MSG_OOB) == -1 && errno == EINVAL); /* none: it does not wait */
	MUST(send(s[1], "before", 6, 0) == 6 && send(s[1], "!", 1, MSG_OOB) == 1 && send(s[1], "after", 5, 0) == 5);
	p = (struct pollfd){s[0], POLLPRI, 0};
	MUST(poll(&p, 1, -1) == 1 && (p.revents & POLLPRI));
	MUST(recv(s[0], b, 1, MSG_OOB) == 1 && b[0] == '!');
	MUST(recv(s[0], b, 20, MSG_WAITALL) == 6 && !memcmp(b, "before", 6));
	MUST(read(s[0], b, sizeof b) == 5 && !memcmp(b, "after", 5));
	done_with_pair();
}

/* The usual loop: read until EAGAIN, then wait for the next edge. */
static void edges(void)
{
	struct epoll_event e = {.events = EPOLLIN | EPOLLET}, got;
	int set = epoll_create1(0), n;

	pair(SOCK_STREAM);
	MUST(fcntl(s[0], F_SETFL, O_NONBLOCK) == 0 && epoll_ctl(set, EPOLL_CTL_ADD, s[0], &e) == 0);
	for (int i = 0; i < 200; i++) {
		MUST(shoal_wg_go(&wg, sends_later, "some", 5));
		for (int k = 0; k < i % 3; k++)
			MUST(write(s[1], "more", 4) == 4);
		for (n = 0; n < 4 + 4 * (i % 3);) {
			MUST(epoll_wait(set, &got, 1, 20000) == 1);
			for (ssize_t r; (r = read(s[0], b, 3)) > 0;)
				n += (int)r;
			MUST(errno == EAGAIN);
		}
		MUST(n == 4 + 4 * (i % 3));
		shoal_wg_wait(&wg);
	}
	MUST(close(set) == 0);
	done_with_pair();
}

static void at_once(void)
{
	struct iovec v[2] = {{b, 2}, {b + 2, 30}};

	pair(SOCK_STREAM);
	read_short();
	MUST(recv(s[0], b, sizeof b, MSG_DONTWAIT) == -1 && errno == EAGAIN);
	MUST(preadv2(s[0], v, 2, -1, RWF_NOWAIT) == -1 && errno == EAGAIN);
	MUST(write(s[1], "hello", 5) == 5);
	MUST(recv(s[0], b, sizeof b, MSG_PEEK) == 5 && recv(s[0], b, 2, MSG_PEEK | MSG_DONTWAIT) == 2);
	MUST(readv(s[0], v, 2) == 5 && !memcmp(b, "hello", 5));
	MUST(write(s[1], "again", 5) == 5);
	MUST(preadv2(s[0], v, 2, -1, RWF_NOWAIT) == 5 && !memcmp(b, "again", 5));
	MUST(read(s[0], b, 0) == 0 && readv(s[0], v, 0) == 0);
	done_with_pair();
	MUST(pipe(s) == 0);
	read_short();
	MUST(preadv2(s[0], v, 2, -1, RWF_NOWAIT) == -1 && errno == EAGAIN);
	MUST(write(s[1], "hello", 5) == 5 && preadv2(s[0], v, 2, -1, 0) == 5);
	done_with_pair();
	pair(SOCK_DGRAM); /* a read of nothing takes no datagram away */
	MUST(send(s[1], "x", 1, 0) == 1 && read(s[0], b, 0) == 0 && readv(s[0], &(struct iovec){b, 0}, 1) == 0);
	MUST(recv(s[0], b, sizeof b, MSG_WAITALL) == 1);
	done_with_pair();
}

static void sends_halves(void *arg)
{
	(void)arg;
	for (int i = 0; i < 2; i++) {
		shoal_sleep(3 * MS);
		MUST(write(s[1], i ? "world" : "hello", 5) == 5);
	}
}

/* MSG_WAITALL and SO_RCVLOWAT wait for the rest, also when they look only. */
static void waits_for_all(void)
{
	struct iovec v[2] = {{b, 3}, {b + 3, 7}};
	struct msghdr m = {.msg_iov = v, .msg_iovlen = 2};
	int ten = 10;

	for (int kind = 0; kind < 2; kind++) {
		if (kind)
			connection();
		else
			pair(SOCK_STREAM);
		for (int way = 0; way < 5; way++) {
			memset(b, 0, sizeof b);
			MUST(shoal_wg_go(&wg, sends_halves, NULL, 0));
			net_at = (const char *const[]){"recv", "recvmsg", "peek", "lowat", "lowat readv"}[way];
			if (way == 3)
				MUST(setsockopt(s[0], SOL_SOCKET, SO_RCVLOWAT, &ten, sizeof ten) == 0);
			if (way == 2)
				MUST(recv(s[0], b, 10, MSG_PEEK | MSG_WAITALL) == 10 && recv(s[0], b, 20, 0) == 10);
			else if (way == 1)
				MUST(recvmsg(s[0], &m, MSG_WAITALL) == 10 && v[0].iov_len == 3);
			else if (way == 4)
				MUST(readv(s[0], v, 2) == 10);
			else
				MUST(recv(s[0], b, 10, way ? 0 : MSG_WAITALL) == 10);
			MUST(!memcmp(b, "helloworld", 10));
			shoal_wg_wait(&wg);
		}
		MUST(write(s[1], "end", 3) == 3 && shutdown(s[1], SHUT_WR) == 0);
		MUST(recv(s[0], b, 10, MSG_PEEK | MSG_WAITALL) == 3 && recv(s[0], b, 10, MSG_WAITALL) == 3);
		MUST(recv(s[0], b, 10, MSG_WAITALL) == 0);
		done_with_pair();
	}
}

/* A time-out returns the bytes that have come so far. */
static void waits_not_too_long(void)
{
	struct timeval t = {0, 30000};

	pair(SOCK_STREAM);
	MUST(setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t) == 0);
	MUST(write(s[1], "half", 4) == 4 && recv(s[0], b, 10, MSG_WAITALL) == 4);
	MUST(recv(s[0], b, 10, MSG_WAITALL) == -1 && errno == EAGAIN);
	MUST(write(s[1], "half", 4) == 4 && recv(s[0], b, 10, MSG_WAITALL | MSG_DONTWAIT) == 4);
	MUST(recv(s[0], b, 10, MSG_ERRQUEUE) == -1);
	done_with_pair();
}

static const struct net_case cases[] = {
	{"polled", polled}, {"packets", packets}, {"rights", rights},	    {"urgent", urgent},
	{"edges", edges},   {"at_once", at_once}, {"waits", waits_for_all}, {"timeout", waits_not_too_long},
};

int shoal_main(int argc, char **argv)
{
	return NET_RUN(argc, argv, cases);
}
