/*
 * net/more.c CASE - corners of POSIX on a goroutine. Prints "ok".
 */
#define _GNU_SOURCE
#include "tests/modules/net/net.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static struct shoal_wg wg;
static int fd[2], port;
static _Atomic int count;

static int listener(struct sockaddr_in *a)
{
	socklen_t n = sizeof *a;
	int l = socket(AF_INET, SOCK_STREAM, 0);

	*a = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	MUST(bind(l, (struct sockaddr *)a, sizeof *a) == 0 && listen(l, 16) == 0 &&
	     getsockname(l, (struct sockaddr *)a, &n) == 0);
	port = ntohs(a->sin_port);
	return l;
}

static void sends_parts(void *arg)
{
	int s = *(int *)arg;

	for (int i = 0; i < 5; i++) {
		shoal_sleep(2 * MS);
		MUST(send(s, "abcde", 5, 0) == 5);
	}
}

static void flags_case(void)
{
	char b[64];

	signal(SIGPIPE, SIG_IGN);
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, fd) == 0);
	shoal_wg_go(&wg, sends_parts, &fd[1], sizeof fd[1]);
	MUST(recv(fd[0], b, 3, MSG_PEEK) == 3 && !memcmp(b, "abc", 3)); /* parks, and takes nothing */
	MUST(recv(fd[0], b, 25, MSG_WAITALL) == 25 && !memcmp(b, "abcdeabcdeabcdeabcdeabcde", 25));
	shoal_wg_wait(&wg);
	MUST(recv(fd[0], b, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN);
	MUST(recv(fd[0], b, 1, MSG_DONTWAIT | MSG_PEEK) < 0 && errno == EAGAIN);
	MUST(send(fd[1], "xy", 2, 0) == 2 && shutdown(fd[1], SHUT_WR) == 0);
	MUST(recv(fd[0], b, 10, MSG_WAITALL) == 2 && recv(fd[0], b, 10, MSG_WAITALL) == 0); /* it ends before */
	close(fd[0]);
	MUST(write(fd[1], "x", 1) < 0 && errno == EPIPE && send(fd[1], "x", 1, 0) < 0 && errno == EPIPE);
	close(fd[1]);
	MUST(pipe(fd) == 0 && close(fd[0]) == 0 && write(fd[1], "x", 1) < 0 && errno == EPIPE);
	close(fd[1]);
}

static void reads_end(void *arg)
{
	char b;

	MUST(read(*(int *)arg, &b, 1) == 0);
	count++;
}

static void accepts_none(void *arg)
{
	MUST(accept(*(int *)arg, NULL, NULL) < 0 && errno == EINVAL);
	count++;
}

static void shutdown_case(void)
{
	struct sockaddr_in a;
	int l = listener(&a);

	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, fd) == 0);
	for (int i = 0; i < 3; i++) {
		shoal_wg_go(&wg, reads_end, &fd[0], sizeof fd[0]);
		shoal_wg_go(&wg, accepts_none, &l, sizeof l);
	}
	shoal_sleep(5 * MS);
	MUST(shutdown(fd[0], SHUT_RD) == 0 && shutdown(l, SHUT_RDWR) == 0);
	shoal_wg_wait(&wg);
	MUST(count == 6);
}

static void connect_case(void)
{
	struct sockaddr_in a;
	int l = listener(&a), s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), e, r;
	struct pollfd p = {.fd = s, .events = POLLOUT};
	socklen_t n = sizeof e;
	struct timeval tv = {0, 20000};

	r = connect(s, (struct sockaddr *)&a, sizeof a);
	MUST(r == 0 || errno == EINPROGRESS);
	MUST(poll(&p, 1, 1000) == 1 && (p.revents & POLLOUT));
	MUST(getsockopt(s, SOL_SOCKET, SO_ERROR, &e, &n) == 0 && e == 0);
	MUST((r = accept4(l, NULL, NULL, SOCK_NONBLOCK)) >= 0 && (fcntl(r, F_GETFL) & O_NONBLOCK));
	close(r);
	MUST(fcntl(l, F_SETFL, O_NONBLOCK) == 0 && accept(l, NULL, NULL) < 0 && errno == EAGAIN);
	MUST(fcntl(l, F_SETFL, 0) == 0 && setsockopt(l, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv) == 0);
	MUST(accept(l, NULL, NULL) < 0 && errno == EAGAIN);
	close(s);
	close(l);
	s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	r = connect(s, (struct sockaddr *)&a, sizeof a);
	MUST(r < 0 && (errno == EINPROGRESS || errno == ECONNREFUSED));
	p = (struct pollfd){.fd = s, .events = POLLOUT};
	if (errno == EINPROGRESS)
		MUST(poll(&p, 1, 1000) == 1 && getsockopt(s, SOL_SOCKET, SO_ERROR, &e, &n) == 0 && e == ECONNREFUSED);
	close(s);
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, fd) == 0);
	MUST(setsockopt(fd[0], SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv) == 0);
	while ((r = (int)send(fd[0], &a, sizeof a, 0)) > 0)
		;
	MUST(r < 0 && errno == EAGAIN);
	close(fd[0]);
	close(fd[1]);
}

static void passes(void *arg)
{
	union {
		char b[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} u;
	struct msghdr m = {
		.msg_iov = &(struct iovec){"x", 1}, .msg_iovlen = 1, .msg_control = u.b, .msg_controllen = sizeof u.b};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	int p[2];

	shoal_sleep(5 * MS);
	MUST(pipe(p) == 0);
	*c = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
	memcpy(CMSG_DATA(c), &p[0], sizeof(int));
	MUST(sendmsg(*(int *)arg, &m, 0) == 1);
	MUST(write(p[1], "through", 7) == 7);
	close(p[0]);
	close(p[1]);
}

static void rights_case(void)
{
	union {
		char b[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} u;
	char x, b[16];
	struct msghdr m = {
		.msg_iov = &(struct iovec){&x, 1}, .msg_iovlen = 1, .msg_control = u.b, .msg_controllen = sizeof u.b};
	int got;

	MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, fd) == 0);
	shoal_wg_go(&wg, passes, &fd[1], sizeof fd[1]);
	MUST(recvmsg(fd[0], &m, 0) == 1);
	memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof got);
	MUST(read(got, b, sizeof b) == 7 && read(got, b, 1) == 0 && close(got) == 0);
	shoal_wg_wait(&wg);
}

static void writes_later(void *arg)
{
	shoal_sleep(5 * MS);
	MUST(write(*(int *)arg, "x", 1) == 1);
}

static void poll_case(void)
{
	enum { N = 1500 };
	static struct pollfd p[N];
	struct timeval tv = {0, 10000};
	int e, e2, k[2], file = open("/etc/passwd", O_RDONLY);
	struct epoll_event ev = {.events = EPOLLIN};
	int64_t from;
	fd_set r;

	MUST(pipe(fd) == 0 && pipe(k) == 0 && file >= 0);
	for (int i = 0; i < N; i++)
		p[i] = (struct pollfd){.fd = i % 2 ? -1 : fd[0], .events = POLLIN};
	p[N - 2].fd = k[0];
	from = shoal_now();
	MUST(poll(p, N, 20) == 0 && shoal_now() - from >= 20 * MS);
	shoal_wg_go(&wg, writes_later, &k[1], sizeof k[1]);
	MUST(poll(p, N, -1) == 1 && p[N - 2].revents == POLLIN && p[1].revents == 0);
	p[0] = (struct pollfd){.fd = file, .events = POLLIN | POLLOUT}; /* always ready */
	p[1] = (struct pollfd){.fd = fd[1], .events = POLLOUT};
	p[2] = (struct pollfd){.fd = 99999, .events = POLLIN};
	MUST(poll(p, 3, -1) == 3 && (p[0].revents & POLLIN) && p[1].revents == POLLOUT && p[2].revents == POLLNVAL);
	MUST(poll(NULL, 0, 5) == 0);
	FD_ZERO(&r);
	MUST(select(0, NULL, NULL, NULL, &tv) == 0 && select(5000, &r, NULL, NULL, &tv) < 0 && errno == EINVAL);
	FD_SET(900, &r);
	MUST(select(901, &r, NULL, NULL, &tv) < 0 && errno == EBADF);
	MUST((e = epoll_create1(0)) >= 0 && (e2 = epoll_create1(0)) >= 0); /* a set in a set */
	MUST(epoll_ctl(e, EPOLL_CTL_ADD, fd[0], &ev) == 0 && epoll_ctl(e2, EPOLL_CTL_ADD, e, &ev) == 0);
	MUST(epoll_wait(e2, &ev, 1, 5) == 0 && epoll_wait(e2, &ev, 0, 5) < 0 && errno == EINVAL);
	shoal_wg_wait(&wg);
	shoal_wg_go(&wg, writes_later, &fd[1], sizeof fd[1]);
	MUST(epoll_wait(e2, &ev, 1, -1) == 1);
	shoal_wg_wait(&wg);
	p[0] = (struct pollfd){.fd = e, .events = POLLIN};
	MUST(poll(p, 1, 100) == 1 && p[0].revents == POLLIN);
}

static void drains(void *arg)
{
	char b[5000];
	ssize_t k;

	while ((k = read(*(int *)arg, b, sizeof b)) > 0)
		count += (int)k;
}

static void copies_case(void)
{
	char path[] = "/tmp/shoal-net-more.XXXXXX";
	static char big[300000];
	int f = mkstemp(path), s[2], p[2];
	off_t at = 0;
	size_t left = sizeof big;

	unlink(path);
	MUST(write(f, big, sizeof big) == sizeof big);
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0 && pipe(p) == 0);
	shoal_wg_go(&wg, drains, &s[0], sizeof s[0]);
	while (left > 0) {
		ssize_t k = sendfile(s[1], f, &at, left);

		MUST(k > 0);
		left -= (size_t)k;
	}
	MUST(at == sizeof big && lseek(f, 0, SEEK_SET) == 0);
	for (left = sizeof big; left > 0;) { /* file to pipe to socket */
		ssize_t k = splice(f, NULL, p[1], NULL, 65536, 0);

		MUST(k > 0 && splice(p[0], NULL, s[1], NULL, (size_t)k, 0) == k);
		left -= (size_t)k;
	}
	close(s[1]);
	shoal_wg_wait(&wg);
	MUST(count == 2 * sizeof big);
}

static jmp_buf back;

static volatile int far = 1;

static __attribute__((noinline)) void jumps(int n)
{
	char *room = alloca((size_t)n + 1);

	memset(room, n, (size_t)n + 1);
	shoal_sleep(100000);
	if (n > 0)
		jumps(n - 1);
	if (far)
		longjmp(back, room[0] + 7);
}

static void many_things(void *arg)
{
	char *lines = alloca(1000), cwd[256];
	jmp_buf env;
	DIR *d = opendir("/etc");
	struct dirent *e;
	int n = 0, m = 0;
	time_t t = 1700000000;
	struct tm tm;

	(void)arg;
	memset(lines, 'x', 1000);
	if (!setjmp(env)) {
		for (int i = 0; i < 20; i++)
			shoal_yield();
		longjmp(env, 1);
	}
	MUST(d);
	while ((e = readdir(d))) {
		n++;
		if (n % 8 == 0)
			shoal_yield();
		errno = n;
		shoal_yield();
		MUST(errno == n);
	}
	rewinddir(d);
	while (readdir(d))
		m++;
	MUST(n == m && n > 3 && closedir(d) == 0);
	MUST(gmtime_r(&t, &tm) && tm.tm_year == 123 && strftime(cwd, sizeof cwd, "%Y-%m-%d", &tm) == 10 &&
	     !strcmp(cwd, "2023-11-14"));
	MUST(lines[999] == 'x' && getpid() > 0);
	count++;
}

static void language_case(void)
{
	int r = setjmp(back);

	if (r == 0)
		jumps(20);
	MUST(r == 7);
	for (int i = 0; i < 30; i++)
		shoal_wg_go(&wg, many_things, NULL, 0);
	shoal_wg_wait(&wg);
	MUST(count == 30 && fork() < 0 && errno == ENOTSUP);
}

static void opens_to_write(void *arg)
{
	FILE *f = fopen(arg, "w");

	MUST(f && fprintf(f, "12 34\nlast line") == 15 && fclose(f) == 0);
}

static void fifo_case(void)
{
	char path[] = "/tmp/shoal-net-more.XXXXXX", b[32];
	int a, c;
	FILE *f;

	MUST(close(mkstemp(path)) == 0 && unlink(path) == 0);
	MUST(mkfifo(path, 0600) == 0);
	shoal_wg_go(&wg, opens_to_write, path, sizeof path);
	MUST((f = fopen(path, "r")) && fscanf(f, "%d %d", &a, &c) == 2 && a == 12 && c == 34);
	MUST(fgetc(f) == '\n' && fgets(b, sizeof b, f) && !strcmp(b, "last line") && fgetc(f) == EOF && feof(f) &&
	     fclose(f) == 0);
	shoal_wg_wait(&wg);
	MUST((a = open(path, O_RDONLY | O_NONBLOCK)) >= 0 && open(path, O_WRONLY | O_NONBLOCK) >= 0);
	unlink(path);
}

int shoal_main(int argc, char **argv)
{
	static const struct net_case cases[] = {{"flags", flags_case},	     {"shutdown", shutdown_case},
						{"connect", connect_case},   {"rights", rights_case},
						{"poll", poll_case},	     {"copies", copies_case},
						{"language", language_case}, {"fifo", fifo_case}};

	return NET_RUN(argc, argv, cases);
}
