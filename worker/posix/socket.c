/*
 * posix/socket.c - the calls that only sockets have.
 */
#include "worker/posix/posix.h"
#include "shm/kill.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

static bool would_block(void)
{
	return errno == EAGAIN || errno == EINTR;
}

/* ---- receiving ---- */

/* Tries, and waits for the next edge when it would block; r is the result of the last try. */
#define RETRY(r, fd, mode, flags, expr) \
	do { \
		int64_t when_ = 0; \
		for (;;) { \
			struct pollwait w_ = netpoll_begin(fd, mode); \
			(r) = (expr); \
			if ((r) >= 0 || !would_block() || ((flags)&MSG_DONTWAIT)) \
				break; \
			if (fd_block(&w_, &when_) < 0) \
				break; \
		} \
	} while (0)

static ssize_t receive_all(int fd, char *p, size_t n, int flags)
{
	size_t done = 0;
	long r;

	while (done < n) {
		RETRY(r, fd, POLL_READ, flags,
		      syscall(SYS_recvfrom, fd, p + done, n - done, (flags & ~MSG_WAITALL) | MSG_DONTWAIT, NULL, NULL));
		if (r <= 0)
			return done ? (ssize_t)done : r;
		done += (size_t)r;
	}
	return (ssize_t)done;
}

ssize_t recvfrom(int fd, void *p, size_t n, int flags, struct sockaddr *from, socklen_t *len)
{
	struct polldesc *d;
	long r;

	if (!posix_enter() || fd_kind(fd) != PD_SOCKET)
		return syscall(SYS_recvfrom, fd, p, n, flags, from, len);
	d = polldesc(fd);
	if ((flags & MSG_WAITALL) && !(flags & (MSG_PEEK | MSG_DONTWAIT)) && atomic_load(&d->drain) && n > 0)
		return receive_all(fd, p, n, flags);
	RETRY(r, fd, POLL_READ, flags, syscall(SYS_recvfrom, fd, p, n, flags | MSG_DONTWAIT, from, len));
	return r;
}

ssize_t recv(int fd, void *p, size_t n, int flags)
{
	if (flags == 0 && n > 0 && on_g())
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
	socklen_t name = msg->msg_namelen;
	size_t control = msg->msg_controllen;
	long r;

	if (!posix_enter() || fd_kind(fd) != PD_SOCKET)
		return syscall(SYS_recvmsg, fd, msg, flags);
	RETRY(r, fd, POLL_READ, flags,
	      (msg->msg_namelen = name, msg->msg_controllen = control,
	       syscall(SYS_recvmsg, fd, msg, flags | MSG_DONTWAIT)));
	if (r >= 0 && msg->msg_controllen)
		adopt_rights(msg);
	return r;
}

/* ---- sending ---- */

ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
	size_t n = msg->msg_iovlen, want = 0, done = 0;
	struct iovec few[IOV_FEW], *copy, *iov;
	struct msghdr rest = *msg;
	long r;

	if (!posix_enter() || fd_kind(fd) != PD_SOCKET || n > IOV_MAX)
		return syscall(SYS_sendmsg, fd, msg, flags);
	if (!(iov = copy = iov_copy(few, msg->msg_iov, n)))
		return -1;
	for (size_t i = 0; i < n; i++)
		want += copy[i].iov_len;
	for (;;) {
		rest.msg_iov = iov;
		rest.msg_iovlen = n;
		RETRY(r, fd, POLL_WRITE, flags, syscall(SYS_sendmsg, fd, &rest, flags | MSG_DONTWAIT | MSG_NOSIGNAL));
		if (r > 0)
			done += (size_t)r;
		if (r < 0 || done >= want || (flags & MSG_DONTWAIT))
			break;
		rest.msg_control = NULL; /* went with the first bytes */
		rest.msg_controllen = 0;
		for (size_t k = (size_t)r; n > 0; iov++, n--) {
			if (k < iov->iov_len) {
				iov->iov_base = (char *)iov->iov_base + k;
				iov->iov_len -= k;
				break;
			}
			k -= iov->iov_len;
		}
	}
	iov_free(few, copy);
	return done ? (ssize_t)done : r;
}

ssize_t sendto(int fd, const void *p, size_t n, int flags, const struct sockaddr *to, socklen_t len)
{
	size_t done = 0;
	long r;

	if (!posix_enter() || fd_kind(fd) != PD_SOCKET)
		return syscall(SYS_sendto, fd, p, n, flags, to, len);
	do {
		RETRY(r, fd, POLL_WRITE, flags,
		      syscall(SYS_sendto, fd, (const char *)p + done, n - done, flags | MSG_DONTWAIT | MSG_NOSIGNAL, to,
			      len));
		if (r < 0)
			return done ? (ssize_t)done : r;
		done += (size_t)r;
	} while (done < n && !(flags & MSG_DONTWAIT));
	return (ssize_t)done;
}

ssize_t send(int fd, const void *p, size_t n, int flags)
{
	return sendto(fd, p, n, flags, NULL, 0);
}

int recvmmsg(int fd, struct mmsghdr *v, unsigned n, int flags, struct timespec *timeout)
{
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

static long poll_now(int fd, short events)
{
	struct pollfd p = {.fd = fd, .events = events};
	struct timespec none = {0, 0};

	return syscall(SYS_ppoll, &p, 1, &none, NULL, 0);
}

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

static long accept_held(struct g *g, int fd, struct sockaddr *a, socklen_t *len, int flags)
{
	struct polldesc *d = polldesc(fd);
	long r = -1;

	if (!hold_accept(d, g)) {
		errno = EINTR; /* somebody is at it: another try after a yield */
		return -1;
	}
	errno = EAGAIN;
	if (poll_now(fd, POLLIN) != 0) {
		entersyscall();
		r = syscall(SYS_accept4, fd, a, len, flags);
		KILL_POINT("socket.accepted");
		if (r >= 0)
			fd_adopt((int)r);
		int err = errno;
		exitsyscall();
		errno = err;
	}
	atomic_store(&d->accepting, 0);
	return r;
}

int accept4(int fd, struct sockaddr *a, socklen_t *len, int flags)
{
	struct g *g = posix_enter();
	socklen_t room = len ? *len : 0;
	int64_t when = 0;
	long r;

	if (!g || fd_kind(fd) != PD_SOCKET)
		return (int)syscall(SYS_accept4, fd, a, len, flags);
	for (;;) {
		struct pollwait w = netpoll_begin(fd, POLL_READ);

		if (len)
			*len = room;
		r = accept_held(g, fd, a, len, flags);
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
	return accept4(fd, a, len, 0);
}

/* ---- connect ---- */

/* Begun and under way: waits for its outcome. */
static int await_connected(int fd, struct pollwait *w)
{
	socklen_t n = sizeof(int);
	int64_t timeo = atomic_load(&polldesc(fd)->timeo[POLL_WRITE]), when = timeo ? host_now() + timeo : 0;
	int err = 0;

	while (poll_now(fd, POLLOUT) == 0) {
		if (fd_wait(w, 1, when) < 0) {
			if (errno == EAGAIN)
				errno = EINPROGRESS;
			return -1;
		}
		*w = netpoll_begin(fd, POLL_WRITE);
	}
	if (syscall(SYS_getsockopt, fd, SOL_SOCKET, SO_ERROR, &err, &n) < 0)
		return -1;
	errno = err;
	return err ? -1 : 0;
}

/*
 * connect has no flag either. O_NONBLOCK is set for the moment of the call, on a socket that is
 * not connected yet: nobody else can be reading from it.
 */
int connect(int fd, const struct sockaddr *a, socklen_t len)
{
	long flags, r;
	struct pollwait w;
	int err;

	if (!posix_enter() || fd_kind(fd) != PD_SOCKET)
		return (int)syscall(SYS_connect, fd, a, len);
	flags = syscall(SYS_fcntl, fd, F_GETFL);
	if (flags < 0)
		return -1;
	if ((flags & O_NONBLOCK) || !atomic_load(&polldesc(fd)->drain)) /* datagrams: nothing to wait for */
		return (int)syscall(SYS_connect, fd, a, len);
	w = netpoll_begin(fd, POLL_WRITE);
	if (!fd_watch(&w))
		return (int)BLOCKING(SYS_connect, fd, a, len);
	syscall(SYS_fcntl, fd, F_SETFL, flags | O_NONBLOCK);
	w = netpoll_begin(fd, POLL_WRITE);
	r = syscall(SYS_connect, fd, a, len);
	err = errno;
	syscall(SYS_fcntl, fd, F_SETFL, flags);
	errno = err;
	if (r < 0 && err == EINPROGRESS)
		return await_connected(fd, &w);
	if (r < 0 && err == EAGAIN) /* a local socket whose queue is full */
		return (int)BLOCKING(SYS_connect, fd, a, len);
	return (int)r;
}

/* ---- their options, and new ones ---- */

int setsockopt(int fd, int level, int name, const void *value, socklen_t n)
{
	int r = (int)syscall(SYS_setsockopt, fd, level, name, value, n);

	if (r == 0 && level == SOL_SOCKET && (name == SO_RCVTIMEO || name == SO_SNDTIMEO) && on_g() &&
	    (unsigned)fd < POLL_FDS) {
		const struct timeval *tv = value;

		fd_kind(fd);
		atomic_store(&polldesc(fd)->timeo[name == SO_RCVTIMEO ? POLL_READ : POLL_WRITE],
			     tv->tv_sec * 1000000000l + tv->tv_usec * 1000);
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
