/*
 * posix/socket.c - the calls that only sockets have.
 */
#include "worker/posix/clock.h"
#include "worker/posix/posix.h"
#include "shm/kill.h"
#include "worker/posix/thread_cancel.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>

/* ---- receiving ---- */

/* Tries until the call does not block; r is the result of the last try. w: of the whole call. Parks. */
#define RETRY(r, w, when, flags, expr) \
	do { \
		(r) = (expr); \
		if ((r) >= 0 || (errno != EAGAIN && errno != EINTR)) \
			break; \
	} while (errno == EINTR || (!((flags)&MSG_DONTWAIT) && fd_block(w, when) == 0))

/* The end of the stream, an error, or the mark of urgent data: a read does not wait for bytes behind it. */
static bool nothing_follows(int fd)
{
	int mark = 0;

	return poll_now(fd, POLLRDHUP) != 0 || (syscall(SYS_ioctl, fd, SIOCATMARK, &mark) == 0 && mark);
}

/*
 * A read of a stream that waits for at least so many bytes (MSG_WAITALL, SO_RCVLOWAT): the kernel gives up
 * waiting together with MSG_DONTWAIT, so we wait for the rest. The vector is used up. Parks.
 */
static ssize_t receive_least(int fd, struct msghdr *msg, int flags, size_t least)
{
	struct pollwait w = netpoll_begin(fd, POLL_READ);
	size_t control = msg->msg_controllen, done = 0;
	int64_t when = 0;
	long r;

	for (;;) {
		msg->msg_controllen = control;
		RETRY(r, &w, &when, flags, syscall(SYS_recvmsg, fd, msg, (flags & ~MSG_WAITALL) | MSG_DONTWAIT));
		if (r <= 0)
			return done ? (ssize_t)done : r;
		done = flags & MSG_PEEK ? (size_t)r : done + (size_t)r;
		if (done >= least || msg->msg_controllen || nothing_follows(fd))
			return (ssize_t)done;
		if (!(flags & MSG_PEEK))
			iov_advance(&msg->msg_iov, &msg->msg_iovlen, (size_t)r);
		else if (fd_block(&w, &when) < 0)
			return (ssize_t)done;
	}
}

/* So many bytes a read waits for; 1: for what there is. */
static size_t bytes_awaited(int fd, size_t want, int flags)
{
	const struct polldesc *d = polldesc(fd);
	size_t lowat;

	if (__builtin_expect(atomic_load_explicit(&d->sock_type, memory_order_relaxed) != SOCK_STREAM, 0) ||
	    (flags & MSG_DONTWAIT))
		return 1;
	if (flags & MSG_WAITALL)
		return want;
	lowat = atomic_load_explicit(&d->lowat, memory_order_relaxed);
	return lowat < want ? lowat : want;
}

/* What the kernel never waits for. */
#define FLAGS_AT_ONCE (MSG_OOB | MSG_ERRQUEUE)

static ssize_t receive(int fd, struct msghdr *msg, int flags)
{
	struct iovec few[IOV_FEW], *iov = msg->msg_iov, *copy;
	size_t n = msg->msg_iovlen, least = n <= IOV_MAX ? bytes_awaited(fd, iov_total(iov, n), flags) : 1;
	socklen_t name = msg->msg_namelen;
	size_t control = msg->msg_controllen;
	struct pollwait w;
	int64_t when = 0;
	ssize_t r;

	if (least > 1) {
		if (!(msg->msg_iov = copy = iov_copy(few, iov, n)))
			return -1;
		r = receive_least(fd, msg, flags, least);
		msg->msg_iov = iov;
		msg->msg_iovlen = n;
		iov_free(few, copy);
		return r;
	}
	w = netpoll_begin(fd, POLL_READ);
	RETRY(r, &w, &when, flags,
	      (msg->msg_namelen = name, msg->msg_controllen = control,
	       syscall(SYS_recvmsg, fd, msg, flags | MSG_DONTWAIT)));
	return r;
}

ssize_t sh_socket_read(int fd, const struct iovec *iov, size_t n)
{
	return receive(fd, &(struct msghdr){.msg_iov = (struct iovec *)iov, .msg_iovlen = n}, 0);
}

ssize_t recvfrom(int fd, void *p, size_t n, int flags, struct sockaddr *from, socklen_t *len)
{
	CANCEL_POINT();
	struct pollwait w;
	int64_t when = 0;
	long r;

	if (!posix_enter() || (flags & FLAGS_AT_ONCE))
		return syscall(SYS_recvfrom, fd, p, n, flags, from, len);
	if (fd_kind(fd) != PD_SOCKET)
		return BLOCKING(SYS_recvfrom, fd, p, n, flags, from, len);
	if (bytes_awaited(fd, n, flags) > 1) {
		struct iovec v = {p, n};
		struct msghdr msg = {
			.msg_name = from, .msg_namelen = from && len ? *len : 0, .msg_iov = &v, .msg_iovlen = 1};

		r = receive(fd, &msg, flags);
		if (r >= 0 && from && len)
			*len = msg.msg_namelen;
		return r;
	}
	w = netpoll_begin(fd, POLL_READ);
	RETRY(r, &w, &when, flags, syscall(SYS_recvfrom, fd, p, n, flags | MSG_DONTWAIT, from, len));
	return r;
}

ssize_t recv(int fd, void *p, size_t n, int flags)
{
	CANCEL_POINT();
	if (flags == 0 && n > 0 && on_g() && fd_kind(fd) == PD_SOCKET)
		return read(fd, p, n);
	return recvfrom(fd, p, n, flags, NULL, NULL);
}

/* Descriptors that came along belong to the task. */
static void adopt_rights(struct msghdr *msg)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
			for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++)
				fd_made(((int *)(void *)CMSG_DATA(c))[i]);
}

ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
	CANCEL_POINT();
	ssize_t r;

	if (!posix_enter())
		return syscall(SYS_recvmsg, fd, msg, flags);
	if (flags & FLAGS_AT_ONCE)
		r = syscall(SYS_recvmsg, fd, msg, flags);
	else if (fd_kind(fd) != PD_SOCKET)
		r = BLOCKING(SYS_recvmsg, fd, msg, flags);
	else
		r = receive(fd, msg, flags);
	if (r >= 0 && msg->msg_controllen)
		adopt_rights(msg);
	return r;
}

/* ---- sending ---- */

/* If a part is sent, the kernel reports that and no signal. */
static int quiet(size_t done)
{
	return done ? MSG_NOSIGNAL : 0;
}

ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
	CANCEL_POINT();
	struct iovec few[IOV_FEW], *copy;
	struct msghdr rest = *msg;
	struct pollwait w;
	size_t want, done = 0;
	int64_t when = 0;
	long r;

	if (!posix_enter() || msg->msg_iovlen > IOV_MAX)
		return syscall(SYS_sendmsg, fd, msg, flags);
	if (fd_kind(fd) != PD_SOCKET)
		return BLOCKING(SYS_sendmsg, fd, msg, flags);
	if (!(rest.msg_iov = copy = iov_copy(few, msg->msg_iov, msg->msg_iovlen)))
		return -1;
	want = iov_total(copy, rest.msg_iovlen);
	w = netpoll_begin(fd, POLL_WRITE);
	for (;;) {
		RETRY(r, &w, &when, flags, syscall(SYS_sendmsg, fd, &rest, flags | MSG_DONTWAIT | quiet(done)));
		if (r > 0)
			done += (size_t)r;
		if (r < 0 || done >= want || (flags & MSG_DONTWAIT))
			break;
		rest.msg_control = NULL; /* went with the first bytes */
		rest.msg_controllen = 0;
		iov_advance(&rest.msg_iov, &rest.msg_iovlen, (size_t)r);
	}
	iov_free(few, copy);
	return after_write(done ? (ssize_t)done : r);
}

ssize_t sendto(int fd, const void *p, size_t n, int flags, const struct sockaddr *to, socklen_t len)
{
	CANCEL_POINT();
	struct pollwait w;
	int64_t when = 0;
	size_t done = 0;
	long r;

	if (!posix_enter())
		return syscall(SYS_sendto, fd, p, n, flags, to, len);
	if (fd_kind(fd) != PD_SOCKET)
		return BLOCKING(SYS_sendto, fd, p, n, flags, to, len);
	w = netpoll_begin(fd, POLL_WRITE);
	do {
		RETRY(r, &w, &when, flags,
		      syscall(SYS_sendto, fd, (const char *)p + done, n - done, flags | MSG_DONTWAIT | quiet(done), to,
			      len));
		if (r < 0)
			return after_write(done ? (ssize_t)done : r);
		done += (size_t)r;
	} while (done < n && !(flags & MSG_DONTWAIT));
	return (ssize_t)done;
}

ssize_t send(int fd, const void *p, size_t n, int flags)
{
	CANCEL_POINT();
	return sendto(fd, p, n, flags, NULL, 0);
}

int recvmmsg(int fd, struct mmsghdr *v, unsigned n, int flags, struct timespec *timeout)
{
	CANCEL_POINT();
	unsigned done = 0;

	if (!posix_enter())
		return (int)syscall(SYS_recvmmsg, fd, v, n, flags, timeout);
	while (done < n) {
		ssize_t r = recvmsg(fd, &v[done].msg_hdr, flags & ~MSG_WAITFORONE);

		if (r < 0)
			return done ? (int)done : -1;
		v[done++].msg_len = (unsigned)r;
		if (flags & MSG_WAITFORONE)
			flags |= MSG_DONTWAIT;
	}
	return (int)done;
}

int sendmmsg(int fd, struct mmsghdr *v, unsigned n, int flags)
{
	CANCEL_POINT();
	unsigned done = 0;

	if (!posix_enter())
		return (int)syscall(SYS_sendmmsg, fd, v, n, flags);
	while (done < n) {
		ssize_t r = sendmsg(fd, &v[done].msg_hdr, flags);

		if (r < 0)
			return done ? (int)done : -1;
		v[done++].msg_len = (unsigned)r;
	}
	return (int)done;
}

/* ---- accept ---- */

/*
 * accept has no flag for "do not wait", so it is called only when there is a connection, by one
 * goroutine at a time: nobody takes it away in between. The word names the holder by G and park
 * sequence: once that G has parked or died it holds nothing.
 */
static bool hold_accept(struct polldesc *d, struct g *g)
{
	uint64_t me = (uint64_t)g_index(g) << 32 | G_SEQ(atomic_load(&g->status)), was = atomic_load(&d->accepting);

	for (;;) {
		if (was && was != me) { /* or it was started anew after a crash in here */
			struct g *o = allg(was >> 32);
			uint64_t s = atomic_load(&o->status);
			unsigned state = s & G_STATE;

			if (G_SEQ(s) == (uint32_t)was &&
			    (state == G_RUNNING || state == G_SYSCALL || state == G_RUNNABLE || state == G_COPYSTACK))
				return false;
		}
		if (atomic_compare_exchange_weak(&d->accepting, &was, me)) {
			KILL_POINT("socket.accept.held");
			return true;
		}
	}
}

static long accept_held(struct g *g, const struct pollwait *w, struct sockaddr *a, socklen_t *len, int flags)
{
	int fd = w->fd;
	struct polldesc *d = polldesc(fd);
	long r = -1;

	if (!hold_accept(d, g)) {
		errno = EINTR; /* somebody is at it: another try after a yield */
		return -1;
	}
	errno = EAGAIN;
	if (poll_now(fd, POLLIN) != 0) {
		struct blocking k = {SYSTEM_CALL(SYS_accept4, fd, a, len, flags), .w = w, .n = 1, .comes_out = true,
				     .makes_fd = true};

		r = blocking_once(&k);
	}
	atomic_store(&d->accepting, 0);
	return r;
}

int accept4(int fd, struct sockaddr *a, socklen_t *len, int flags)
{
	CANCEL_POINT();
	struct g *g = posix_enter();
	socklen_t room = len ? *len : 0;
	struct pollwait w;
	int64_t when = 0;
	long r;

	if (!g || fd_kind(fd) != PD_SOCKET)
		return (int)syscall(SYS_accept4, fd, a, len, flags);
	w = netpoll_begin(fd, POLL_READ);
	for (;;) {
		if (len)
			*len = room;
		r = accept_held(g, &w, a, len, flags);
		if (r >= 0)
			return fd_made((int)r);
		if (errno == EINTR) {
			goyield();
			continue;
		}
		if (errno != EAGAIN || fd_block(&w, &when) < 0)
			return -1;
	}
}

int accept(int fd, struct sockaddr *a, socklen_t *len)
{
	CANCEL_POINT();
	return accept4(fd, a, len, 0);
}

/* ---- connect ---- */

static int64_t send_deadline(int fd)
{
	int64_t timeo = atomic_load(&polldesc(fd)->timeo[POLL_WRITE]);

	return timeo ? deadline_after(timeo) : 0;
}

/* Begun and under way: waits for its outcome. */
static int await_connected(int fd, struct pollwait *w)
{
	socklen_t n = sizeof(int);
	int64_t when = send_deadline(fd);
	int err = 0;

	while (poll_now(fd, POLLOUT) == 0) {
		if (fd_wait(w, 1, when) < 0) {
			if (errno == EAGAIN)
				errno = EINPROGRESS;
			return -1;
		}
	}
	if (syscall(SYS_getsockopt, fd, SOL_SOCKET, SO_ERROR, &err, &n) < 0)
		return -1;
	errno = err;
	return err ? -1 : 0;
}

/*
 * Without waiting. connect has no flag for that: O_NONBLOCK is set for the moment of the call, on a socket
 * that is not connected yet: no other call can be under way on it.
 */
static long connect_at_once(int fd, const struct sockaddr *a, socklen_t len, long flags)
{
	long r;
	int err;

	syscall(SYS_fcntl, fd, F_SETFL, flags | O_NONBLOCK);
	r = syscall(SYS_connect, fd, a, len);
	err = errno;
	syscall(SYS_fcntl, fd, F_SETFL, flags);
	errno = err;
	return r;
}

#define QUEUE_NS 500000
#define QUEUE_MAX_NS 10000000

/* The queue of a local socket is full. No event tells when there is room: it tries every few milliseconds. */
static long connect_to_full(const struct sockaddr *a, socklen_t len, long flags, struct pollwait *w)
{
	int64_t ns = QUEUE_NS, end = send_deadline(w->fd), when;
	long r;

	do {
		if (end && host_now() >= end) {
			errno = EAGAIN;
			return -1;
		}
		when = host_now() + ns;
		if (fd_wait(w, 1, end && end < when ? end : when) < 0 && errno != EAGAIN)
			return -1;
		ns = ns < QUEUE_MAX_NS ? ns * 3 / 2 : QUEUE_MAX_NS;
		r = connect_at_once(w->fd, a, len, flags);
	} while (r < 0 && errno == EAGAIN);
	return r;
}

int connect(int fd, const struct sockaddr *a, socklen_t len)
{
	CANCEL_POINT();
	long flags, r;
	struct pollwait w;

	if (!posix_enter() || fd_kind(fd) != PD_SOCKET)
		return (int)syscall(SYS_connect, fd, a, len);
	flags = syscall(SYS_fcntl, fd, F_GETFL);
	if (flags < 0)
		return -1;
	if ((flags & O_NONBLOCK) || atomic_load(&polldesc(fd)->sock_type) == SOCK_DGRAM) /* nothing to wait for */
		return (int)syscall(SYS_connect, fd, a, len);
	w = netpoll_begin(fd, POLL_WRITE);
	if (!fd_watch(&w))
		return (int)BLOCKING_ON(&w, SYS_connect, fd, a, len);
	r = connect_at_once(fd, a, len, flags);
	if (r < 0 && errno == EAGAIN)
		r = connect_to_full(a, len, flags, &w);
	return r < 0 && errno == EINPROGRESS ? await_connected(fd, &w) : (int)r;
}

/* ---- their options, and new ones ---- */

int setsockopt(int fd, int level, int name, const void *value, socklen_t n)
{
	int r = (int)syscall(SYS_setsockopt, fd, level, name, value, n);

	if (r != 0 || level != SOL_SOCKET || (unsigned)fd >= POLL_FDS || !on_g())
		return r;
	if (name == SO_RCVLOWAT && fd_kind(fd) == PD_SOCKET)
		atomic_store(&polldesc(fd)->lowat, *(const uint32_t *)value ? *(const uint32_t *)value : 1);
	if (name == SO_RCVTIMEO || name == SO_SNDTIMEO) {
		const struct timeval *tv = value;

		fd_kind(fd);
		atomic_store(&polldesc(fd)->timeo[name == SO_RCVTIMEO ? POLL_READ : POLL_WRITE], ns_of_timeval(tv));
	}
	return r;
}

int socket(int domain, int type, int protocol)
{
	return fd_made((int)syscall(SYS_socket, domain, type, protocol));
}

int socketpair(int domain, int type, int protocol, int fd[2])
{
	int r = (int)syscall(SYS_socketpair, domain, type, protocol, fd);

	if (r == 0) {
		fd_made(fd[0]);
		fd_made(fd[1]);
	}
	return r;
}
