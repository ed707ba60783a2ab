/*
 * net/cancel.c [CALL] - every POSIX call that blocks comes back when its goroutine is cancelled, with -1
 * and ECANCELED, and calls that do not block go on as ever. Prints "ok".
 */
#define _GNU_SOURCE
#include "tests/modules/net/net.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char dir[] = "/tmp/shoal-net-cancel.XXXXXX", path[64], lock[64], fifo[64], local[64];
static int empty[2], full[2], pair[2], stuffed[2], locked, listener;
static char big[1 << 20];
static _Atomic int about_to, done;

static long call_read(void)
{
	return read(empty[0], big, 1);
}
static long call_readv(void)
{
	return readv(pair[0], &(struct iovec){big, 10}, 1);
}
static long call_write(void)
{
	return write(full[1], big, sizeof big);
}
static long call_recv(void)
{
	return recv(pair[0], big, 1, MSG_WAITALL);
}
static long call_recvmsg(void)
{
	return recvmsg(pair[0], &(struct msghdr){.msg_iov = &(struct iovec){big, 1}, .msg_iovlen = 1}, 0);
}
static long call_send(void)
{
	return send(stuffed[1], big, sizeof big, 0);
}
static long call_accept(void)
{
	return accept(listener, NULL, NULL);
}
static long call_poll(void)
{
	return poll(&(struct pollfd){.fd = empty[0], .events = POLLIN}, 1, -1);
}
static long call_poll_nothing(void)
{
	return poll(NULL, 0, -1);
}
static long call_poll_late(void)
{
	return poll(&(struct pollfd){.fd = empty[0], .events = POLLIN}, 1, 100000);
}

static long call_select(void)
{
	fd_set r;

	FD_ZERO(&r);
	FD_SET(empty[0], &r);
	return select(empty[0] + 1, &r, NULL, NULL, NULL);
}

static long call_epoll(void)
{
	int e = epoll_create1(0), r;
	struct epoll_event ev = {.events = EPOLLIN};

	epoll_ctl(e, EPOLL_CTL_ADD, empty[0], &ev);
	r = epoll_wait(e, &ev, 1, -1);
	close(e);
	return r;
}

static long call_connect(void)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int s = socket(AF_UNIX, SOCK_STREAM, 0), r;

	strcpy(a.sun_path, local);
	r = connect(s, (struct sockaddr *)&a, sizeof a); /* its queue is full */
	close(s);
	return r;
}

static long call_nanosleep(void)
{
	return nanosleep(&(struct timespec){1000, 0}, NULL);
}
static long call_usleep(void)
{
	return usleep(900000000);
}
static long call_flock(void)
{
	int fd = open(lock, O_RDWR), r = flock(fd, LOCK_EX);

	close(fd);
	return r;
}

static long call_setlkw(void)
{
	struct flock f = {.l_type = F_WRLCK};
	int fd = open(lock, O_RDWR), r = fcntl(fd, F_OFD_SETLKW, &f);

	close(fd);
	return r;
}

static long call_open(void)
{
	return open(fifo, O_RDONLY);
}
static long call_fopen(void)
{
	return fopen(fifo, "r") ? 0 : -1;
}

static long call_timerfd(void)
{
	int f = timerfd_create(CLOCK_MONOTONIC, 0);
	long r = read(f, big, 8);

	close(f);
	return r;
}

static long call_eventfd(void)
{
	int f = eventfd(0, 0);
	long r = read(f, big, 8);

	close(f);
	return r;
}

static long call_sendfile(void)
{
	int f = open(path, O_RDONLY);
	off_t at = 0;
	long r = sendfile(stuffed[1], f, &at, 10000);

	close(f);
	return r;
}

static long call_splice(void)
{
	return splice(empty[0], NULL, full[1], NULL, 100, 0);
}

static long call_waitpid(void)
{
	char *argv[] = {"sleep", "1000", NULL};
	pid_t pid;
	long r;
	int err;

	MUST(posix_spawnp(&pid, "sleep", NULL, NULL, argv, environ) == 0);
	r = waitpid(pid, NULL, 0);
	err = errno;
	kill(pid, SIGKILL);
	errno = err;
	return r;
}

static long call_fgets(void)
{
	int fd = dup(empty[0]), err;
	FILE *f = fdopen(fd, "r");
	char *s = fgets(big, 10, f);

	err = errno;
	fclose(f);
	errno = err;
	return s ? 0 : -1;
}

static long call_getchar(void)
{
	int fd = dup(pair[0]), err, c;
	FILE *f = fdopen(fd, "r+");

	c = getc(f);
	err = errno;
	fclose(f);
	errno = err;
	return c;
}

static const struct {
	const char *name;
	long (*call)(void);
} calls[] = {
	{"read", call_read},	       {"readv", call_readv},	      {"write", call_write},
	{"recv", call_recv},	       {"recvmsg", call_recvmsg},     {"send", call_send},
	{"accept", call_accept},       {"poll", call_poll},	      {"poll_nothing", call_poll_nothing},
	{"poll_late", call_poll_late}, {"select", call_select},	      {"epoll", call_epoll},
	{"connect", call_connect},     {"nanosleep", call_nanosleep}, {"usleep", call_usleep},
	{"flock", call_flock},	       {"setlkw", call_setlkw},	      {"open", call_open},
	{"fopen", call_fopen},	       {"timerfd", call_timerfd},     {"eventfd", call_eventfd},
	{"sendfile", call_sendfile},   {"splice", call_splice},	      {"waitpid", call_waitpid},
	{"fgets", call_fgets},	       {"getc", call_getchar},
};

/* A call that does not block succeeds, cancelled or not. */
static void goes_on(void)
{
	char b[16] = "";
	int f;

	for (int i = 0; i < 20; i++) {
		f = open(path, O_RDWR);
		MUST(f >= 0 && read(f, b, 4) == 4 && !memcmp(b, "text", 4));
		MUST(pwrite(f, "text", 4, 0) == 4 && fsync(f) == 0 && flock(f, LOCK_SH) == 0);
		MUST(close(f) == 0);
	}
	MUST(write(pair[0], "x", 1) == 1 && read(pair[1], b, 1) == 1);
}

static void calls_it(void *arg)
{
	unsigned i = *(unsigned *)arg;
	int late = *((unsigned *)arg + 1), r;

	if (late) /* it is cancelled before it calls */
		while (shoal_sleep(MS) == 0)
			;
	about_to = 1;
	errno = 0;
	r = (int)calls[i].call();
	MUST(r < 0 && errno == ECANCELED);
	goes_on();
	done = 1;
}

static void try(unsigned i, unsigned late, int64_t after)
{
	struct shoal_end end;
	int64_t from;
	shoal_gid g;

	net_at = calls[i].name;
	about_to = done = 0;
	g = shoal_go(calls_it, (unsigned[]){i, late}, 2 * sizeof i);
	while (!about_to && !late)
		shoal_yield();
	if (after >= 0)
		shoal_sleep(after);
	from = shoal_now();
	MUST(done == 0);
	MUST(shoal_cancel(g) == 0);
	MUST(shoal_join(g, &end) == 0 && end.how == SHOAL_CANCELLED && done == 1);
	MUST(shoal_now() - from < 500 * MS);
}

int shoal_main(int argc, char **argv)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int rounds = argc > 2 ? atoi(argv[2]) : 1;

	MUST(mkdtemp(dir));
	sprintf(path, "%s/file", dir);
	sprintf(lock, "%s/lock", dir);
	sprintf(fifo, "%s/fifo", dir);
	sprintf(local, "%s/local", dir);
	MUST(pipe(empty) == 0 && pipe2(full, O_NONBLOCK) == 0);
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, stuffed) == 0);
	while (write(full[1], big, 4096) > 0)
		;
	fcntl(full[1], F_SETFL, 0);
	while (send(stuffed[1], big, 4096, MSG_DONTWAIT) > 0)
		;
	listener = open(path, O_CREAT | O_RDWR, 0600);
	MUST(write(listener, "text and more", 13) == 13 && close(listener) == 0);
	locked = open(lock, O_CREAT | O_RDWR, 0600);
	MUST(flock(locked, LOCK_EX) == 0 && fcntl(locked, F_OFD_SETLK, &(struct flock){.l_type = F_WRLCK}) == 0);
	MUST(mkfifo(fifo, 0600) == 0);
	strcpy(a.sun_path, local);
	listener = socket(AF_UNIX, SOCK_STREAM, 0);
	MUST(bind(listener, (struct sockaddr *)&a, sizeof a) == 0 && listen(listener, 0) == 0);
	for (int s; connect(s = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0), (struct sockaddr *)&a, sizeof a) == 0;)
		;
	for (int k = 0; k < rounds; k++)
		for (unsigned i = 0; i < sizeof calls / sizeof *calls; i++) {
			if (argc > 1 && strcmp(argv[1], "all") && strcmp(argv[1], calls[i].name))
				continue;
			if (!strcmp(calls[i].name, "accept")) { /* its queue must be empty */
				int l = listener;

				listener = socket(AF_UNIX, SOCK_STREAM, 0);
				MUST(listen(listener, 1) < 0);
				a.sun_path[strlen(local)] = 'x';
				unlink(a.sun_path);
				MUST(bind(listener, (struct sockaddr *)&a, sizeof a) == 0 && listen(listener, 1) == 0);
				try(i, 0, 2 * MS);
				try(i, 0, -1);
				try(i, 1, 0);
				close(listener);
				listener = l;
				continue;
			}
			try(i, 0, 2 * MS); /* blocked for long */
			try(i, 0, -1);	   /* about to */
			try(i, 1, 0);	   /* before */
		}
	net_at = "cleanup";
	sprintf(big, "rm -r %s", dir);
	MUST(system(big) == 0);
	puts("ok");
	return 0;
}
