/*
 * net/close.c CASE - a descriptor is closed, and its number given to another file at once, while a
 * goroutine is blocked in a call on it: the call fails with EBADF. Prints "ok".
 */
#define _GNU_SOURCE
#include "tests/modules/net/net.h"

#include <fcntl.h>
#include <mqueue.h>
#include <poll.h>
#include <pty.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#define ROUNDS 40

static int fd, other, file; /* the one that is closed, its other end, a file with data */
static char big[1 << 20];
static char path[] = "/tmp/shoal-net-close.XXXXXX", spare[] = "/tmp/shoal-net-close.XXXXXX";
static struct shoal_wg wg;

static void pair(int way)
{
	int s[2];

	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
	fd = s[way];
	other = s[!way];
}

static void fill(int to)
{
	int flags = fcntl(to, F_GETFL);

	MUST(fcntl(to, F_SETFL, flags | O_NONBLOCK) == 0);
	for (size_t n = sizeof big; n; n /= 2)
		while (write(to, big, n) > 0)
			;
	MUST(fcntl(to, F_SETFL, flags) == 0);
}

/* ---- what is made of fd and other, and the call that blocks ---- */

static void socket_of(void)
{
	pair(0);
}

static void full_socket(void)
{
	pair(0);
	fill(fd);
}

static void pipe_to_read(void)
{
	int p[2];

	MUST(pipe(p) == 0);
	fd = p[0];
	other = p[1];
}

static void full_pipe(void)
{
	int p[2];

	MUST(pipe(p) == 0);
	fd = p[1];
	other = p[0];
	fill(fd);
}

static void event(void)
{
	MUST((fd = eventfd(0, 0)) >= 0);
}

static void timer(void)
{
	MUST((fd = timerfd_create(CLOCK_MONOTONIC, 0)) >= 0);
}

static void notify(void)
{
	MUST((fd = inotify_init()) >= 0);
}

static void terminal(void)
{
	MUST(openpty(&other, &fd, NULL, NULL, NULL) == 0);
}

static void full_terminal(void)
{
	struct termios t;

	terminal();
	MUST(tcgetattr(fd, &t) == 0);
	cfmakeraw(&t);
	MUST(tcsetattr(fd, TCSANOW, &t) == 0);
	fill(fd);
}

static void listener(void)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};

	MUST((fd = socket(AF_UNIX, SOCK_STREAM, 0)) >= 0);
	MUST(bind(fd, (struct sockaddr *)&at, sizeof at.sun_family) == 0 && listen(fd, 1) == 0);
}

/* A local socket that is to connect to one whose queue is full. */
static struct sockaddr_un full_at;
static socklen_t full_len;
static int waiting[8];

static void full_queue(void)
{
	full_len = sizeof full_at;
	MUST((other = socket(AF_UNIX, SOCK_STREAM, 0)) >= 0);
	full_at = (struct sockaddr_un){.sun_family = AF_UNIX};
	MUST(bind(other, (struct sockaddr *)&full_at, sizeof full_at.sun_family) == 0 && listen(other, 0) == 0);
	MUST(getsockname(other, (struct sockaddr *)&full_at, &full_len) == 0);
	for (int i = 0; i < 8; i++) {
		MUST((waiting[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0)) >= 0);
		connect(waiting[i], (struct sockaddr *)&full_at, full_len);
	}
	MUST((fd = socket(AF_UNIX, SOCK_STREAM, 0)) >= 0);
}

static void set(void)
{
	struct epoll_event e = {.events = EPOLLIN};

	pair(0);
	close(fd);
	MUST((fd = epoll_create1(0)) >= 0 && epoll_ctl(fd, EPOLL_CTL_ADD, other, &e) == 0);
	MUST((waiting[0] = epoll_wait(fd, &e, 1, 0)) <= 1); /* its other end is closed */
	MUST(epoll_ctl(fd, EPOLL_CTL_DEL, other, NULL) == 0);
}

static void locked(void)
{
	MUST((fd = open(path, O_RDWR)) >= 0 && (other = open(path, O_RDWR)) >= 0 && flock(other, LOCK_EX) == 0);
}

static void record_locked(void)
{
	struct flock l = {.l_type = F_WRLCK};

	MUST((fd = open(path, O_RDWR)) >= 0 && (other = open(path, O_RDWR)) >= 0);
	MUST(fcntl(other, F_OFD_SETLK, &l) == 0);
}

static struct mq_attr attr = {.mq_maxmsg = 1, .mq_msgsize = 8};

static void queue(void)
{
	char name[64];

	snprintf(name, sizeof name, "/shoal-net-close-%d", (int)getpid());
	MUST((fd = mq_open(name, O_RDWR | O_CREAT, 0600, &attr)) >= 0 && mq_unlink(name) == 0);
}

static void full_queue_of_messages(void)
{
	queue();
	MUST(mq_send(fd, "x", 1, 0) == 0);
}

static long reads(void)
{
	return read(fd, big, 8);
}
static long reads_vector(void)
{
	return readv(fd, &(struct iovec){big, 8}, 1);
}
static long writes(void)
{
	return write(fd, big, sizeof big);
}
static long receives(void)
{
	return recv(fd, big, 8, MSG_WAITALL);
}
static long receives_message(void)
{
	return recvmsg(fd, &(struct msghdr){.msg_iov = &(struct iovec){big, 8}, .msg_iovlen = 1}, 0);
}
static long sends(void)
{
	return send(fd, big, sizeof big, 0);
}
static long accepts(void)
{
	return accept(fd, NULL, NULL);
}
static long connects(void)
{
	return connect(fd, (struct sockaddr *)&full_at, full_len);
}
static long polls(void)
{
	struct pollfd p = {fd, POLLIN, 0};

	MUST(poll(&p, 1, -1) == 1 && p.revents == POLLNVAL);
	errno = EBADF;
	return -1;
}
static long polls_many(void)
{
	struct pollfd p[40];

	for (int i = 0; i < 40; i++)
		p[i] = (struct pollfd){i == 30 ? fd : -1, POLLIN, 0};
	MUST(poll(p, 40, 20000) == 1 && p[30].revents == POLLNVAL);
	errno = EBADF;
	return -1;
}
static long selects(void)
{
	fd_set r;

	FD_ZERO(&r);
	FD_SET(fd, &r);
	return select(fd + 1, &r, NULL, NULL, NULL);
}
static long waits_for_set(void)
{
	struct epoll_event e;

	return epoll_wait(fd, &e, 1, -1);
}
static long sends_file(void)
{
	off_t at = 0;

	return sendfile(fd, file, &at, sizeof big);
}
static long splices_from(void)
{
	return splice(fd, NULL, waiting[1], NULL, 8, 0);
}
static long splices_to(void)
{
	off_t at = 0;

	return splice(file, &at, fd, NULL, 8, 0);
}
static long splices_socket(void)
{
	return splice(fd, NULL, waiting[1], NULL, 8, 0);
}
static long tees(void)
{
	return tee(fd, waiting[1], 8, 0);
}
static long splices_memory(void)
{
	return vmsplice(fd, &(struct iovec){big, 4096}, 1, 0);
}
static long locks(void)
{
	return flock(fd, LOCK_SH);
}
static long locks_record(void)
{
	return fcntl(fd, F_OFD_SETLKW, &(struct flock){.l_type = F_WRLCK});
}
static long receives_from_queue(void)
{
	return mq_receive(fd, big, 8, NULL);
}
static long sends_to_queue(void)
{
	return mq_send(fd, "y", 1, 0);
}

static const struct way {
	const char *name;
	void (*make)(void);
	long (*call)(void);
} ways[] = {
	{"read of a socket", socket_of, reads},
	{"read of a pipe", pipe_to_read, reads},
	{"readv of a pipe", pipe_to_read, reads_vector},
	{"read of an eventfd", event, reads},
	{"read of a timerfd", timer, reads},
	{"read of inotify", notify, reads},
	{"read of a terminal", terminal, reads},
	{"write to a socket", full_socket, writes},
	{"write to a pipe", full_pipe, writes},
	{"write to a terminal", full_terminal, writes},
	{"recv", socket_of, receives},
	{"recvmsg", socket_of, receives_message},
	{"send", full_socket, sends},
	{"accept", listener, accepts},
	{"connect", full_queue, connects},
	{"poll", socket_of, polls},
	{"poll of many", pipe_to_read, polls_many},
	{"select", socket_of, selects},
	{"epoll_wait", set, waits_for_set},
	{"sendfile", full_socket, sends_file},
	{"splice from a pipe", pipe_to_read, splices_from},
	{"splice to a pipe", full_pipe, splices_to},
	{"splice from a socket", socket_of, splices_socket},
	{"tee", pipe_to_read, tees},
	{"vmsplice", full_pipe, splices_memory},
	{"flock", locked, locks},
	{"fcntl", record_locked, locks_record},
	{"mq_receive", queue, receives_from_queue},
	{"mq_send", full_queue_of_messages, sends_to_queue},
};

static _Atomic int calling;

static void blocks(void *arg)
{
	const struct way *w = *(const struct way **)arg;
	long r;

	calling = 1;
	r = w->call();
	if (r > 0 && w->make == full_terminal) /* it took some more bytes meanwhile: a part is written */
		MUST(r < (long)sizeof big);
	else
		MUST(r == -1 && errno == EBADF);
}

/* way: NULL for all. pause: between the moment at which it calls and the close. */
static void try(const struct way *w, int64_t pause)
{
	int another, p[2];

	net_at = w->name;
	other = -1;
	for (int i = 0; i < 8; i++)
		waiting[i] = -1;
	MUST(pipe(p) == 0);
	waiting[1] = p[1];
	waiting[2] = p[0];
	w->make();
	calling = 0;
	MUST(shoal_wg_go(&wg, blocks, &w, sizeof w));
	while (!calling)
		shoal_yield();
	shoal_sleep(pause);
	MUST(close(fd) == 0);
	another = dup(file); /* gets the number, as a rule */
	shoal_wg_wait(&wg);
	MUST(lseek(file, 0, SEEK_CUR) == 0); /* no goroutine has read from it */
	close(another);
	close(other);
	for (int i = 0; i < 8; i++)
		if (waiting[i] >= 0)
			close(waiting[i]);
}

static void all(void)
{
	for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
		try(&ways[i], 30 * MS);
}

/* Just as it begins to wait. */
static void race(void)
{
	static const char *const quick[] = {"read of a socket", "read of a pipe", "accept", "poll", "epoll_wait"};

	for (int i = 0; i < ROUNDS; i++)
		for (size_t k = 0; k < sizeof quick / sizeof *quick; k++)
			for (size_t w = 0; w < sizeof ways / sizeof *ways; w++)
				if (!strcmp(ways[w].name, quick[k]))
					try(&ways[w], 200000 + i * 20000);
}

/* dup2 onto the number closes the file as well. */
static void replaced(void)
{
	static const struct way w = {"dup2", NULL, reads}, *at = &w;

	net_at = w.name;
	for (int i = 0; i < ROUNDS; i++) {
		pair(0);
		calling = 0;
		MUST(shoal_wg_go(&wg, blocks, &at, sizeof at));
		while (!calling)
			shoal_yield();
		shoal_sleep(2 * MS);
		MUST(dup2(file, fd) == fd);
		shoal_wg_wait(&wg);
		MUST(lseek(fd, 0, SEEK_CUR) == 0 && read(fd, big, 4) == 4 && !memcmp(big, "file", 4));
		MUST(lseek(file, 0, SEEK_SET) == 0 && close(fd) == 0 && close(other) == 0);
	}
}

static const struct net_case cases[] = {{"all", all}, {"race", race}, {"replaced", replaced}};

int shoal_main(int argc, char **argv)
{
	int end;

	MUST((end = mkstemp(path)) >= 0 && close(end) == 0 && (file = mkstemp(spare)) >= 0);
	MUST(write(file, "file", 4) == 4 && ftruncate(file, sizeof big) == 0 && lseek(file, 0, SEEK_SET) == 0);
	end = NET_RUN(argc, argv, cases);
	unlink(path);
	unlink(spare);
	return end;
}
