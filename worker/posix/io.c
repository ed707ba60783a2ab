/*
 * posix/io.c - read, write and their kin.
 *
 * A socket is tried with MSG_DONTWAIT, a pipe with RWF_NOWAIT (or after a look with poll, where the
 * kernel does not have it for pipes): O_NONBLOCK is never set, others may share the file. Each call
 * is tried first, whatever is known of the file: an earlier read that came back short says nothing
 * about the next one (packets, descriptors that come along, urgent data, other readers).
 */
#include "worker/posix/posix.h"
#include "worker/posix/thread_cancel.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 8
#endif

struct io {
	int fd, flags; /* flags: of sendmsg */
	struct iovec *iov;
	size_t n;
};

/* No RWF_NOWAIT for this file: tried once it is ready. If it blocks all the same, the medic gets it out. */
static long try_when_ready(const struct io *io, const struct pollwait *w)
{
	bool reads = w->mode == POLL_READ;

	if (poll_now(io->fd, reads ? POLLIN : POLLOUT) == 0) {
		errno = EAGAIN;
		return -1;
	}
	return COMES_OUT(w, 1, reads ? SYS_readv : SYS_writev, io->fd, io->iov, io->n);
}

/* The try did not take place: it would block, or a signal of the runtime came. */
static bool is_to_be_repeated(void)
{
	return errno == EAGAIN || errno == EINTR;
}

static long try_once(const struct io *io, const struct pollwait *w, enum poll_kind kind)
{
	unsigned mode = w->mode;
	struct msghdr msg;
	long r;

	if (kind == PD_SOCKET) {
		if (io->n == 1)
			return mode == POLL_READ ? syscall(SYS_recvfrom, io->fd, io->iov->iov_base, io->iov->iov_len,
							   MSG_DONTWAIT, NULL, NULL)
						 : syscall(SYS_sendto, io->fd, io->iov->iov_base, io->iov->iov_len,
							   MSG_DONTWAIT | io->flags, NULL, 0);
		msg = (struct msghdr){.msg_iov = io->iov, .msg_iovlen = io->n};
		return mode == POLL_READ ? syscall(SYS_recvmsg, io->fd, &msg, MSG_DONTWAIT)
					 : syscall(SYS_sendmsg, io->fd, &msg, MSG_DONTWAIT | io->flags);
	}
	if (kind == PD_NOWAIT) {
		r = mode == POLL_READ ? syscall(SYS_preadv2, io->fd, io->iov, io->n, -1l, -1l, RWF_NOWAIT)
				      : syscall(SYS_pwritev2, io->fd, io->iov, io->n, -1l, -1l, RWF_NOWAIT);
		if (r >= 0 || errno != EOPNOTSUPP)
			return r;
		atomic_store(&polldesc(io->fd)->kind, PD_POLLABLE);
	}
	return try_when_ready(io, w);
}

static long plain(const struct io *io, int mode)
{
	return mode == POLL_READ ? BLOCKING(SYS_readv, io->fd, io->iov, io->n)
				 : BLOCKING(SYS_writev, io->fd, io->iov, io->n);
}

/* The number means another file: it was closed where we did not see it. The call begins anew. */
static bool is_another_file(int fd)
{
	if (errno != ENOTSOCK)
		return false;
	fd_forget(fd);
	return true;
}

/* A stream socket on which SO_RCVLOWAT is set. */
static inline bool waits_for_more(int fd, enum poll_kind kind)
{
	return kind == PD_SOCKET &&
	       __builtin_expect(atomic_load_explicit(&polldesc(fd)->lowat, memory_order_relaxed) > 1, 0);
}

static long read_iov(const struct io *io)
{
	struct pollwait w = netpoll_begin(io->fd, POLL_READ);
	enum poll_kind kind;
	int64_t when = 0;

	while ((kind = fd_kind(io->fd)) != PD_PLAIN && kind != PD_UNKNOWN) {
		long r;

		if (waits_for_more(io->fd, kind))
			return sh_socket_read(io->fd, io->iov, (size_t)io->n);
		r = try_once(io, &w, kind);
		if (r < 0 && is_another_file(io->fd)) {
			w = netpoll_begin(io->fd, POLL_READ);
			continue;
		}
		if (r >= 0 || !is_to_be_repeated())
			return r;
		if (errno == EAGAIN && fd_block(&w, &when) < 0)
			return -1;
	}
	return plain(io, POLL_READ);
}

/* All of it, as a descriptor that blocks does. The vector is used up. SIGPIPE and SIGXFSZ are delivered. */
static long write_iov(struct io *io)
{
	struct pollwait w = netpoll_begin(io->fd, POLL_WRITE);
	size_t want = iov_total(io->iov, io->n), done = 0;
	enum poll_kind kind;
	int64_t when = 0;

	while ((kind = fd_kind(io->fd)) != PD_PLAIN && kind != PD_UNKNOWN) {
		long r = try_once(io, &w, kind);

		if (r >= 0) {
			done += (size_t)r;
			if (done >= want)
				return (long)done;
			io->flags = MSG_NOSIGNAL; /* a part is sent: the kernel would report that and no signal */
			iov_advance(&io->iov, &io->n, (size_t)r);
			continue;
		}
		if (is_another_file(io->fd)) {
			w = netpoll_begin(io->fd, POLL_WRITE);
			continue;
		}
		if (!is_to_be_repeated() || (errno == EAGAIN && fd_block(&w, &when) < 0)) {
			after_write(-1);
			return done ? (long)done : -1;
		}
	}
	return after_write(plain(io, POLL_WRITE));
}

ssize_t read(int fd, void *p, size_t n)
{
	CANCEL_POINT();
	struct iovec v = {p, n};

	if (!posix_enter() || n == 0)
		return syscall(SYS_read, fd, p, n);
	return read_iov(&(struct io){fd, 0, &v, 1});
}

ssize_t readv(int fd, const struct iovec *iov, int n)
{
	CANCEL_POINT();
	if (!posix_enter() || n <= 0 || n > IOV_MAX || iov_total(iov, (size_t)n) == 0)
		return syscall(SYS_readv, fd, iov, n);
	return read_iov(&(struct io){fd, 0, (struct iovec *)iov, (size_t)n});
}

ssize_t write(int fd, const void *p, size_t n)
{
	CANCEL_POINT();
	struct iovec v = {(void *)p, n};

	if (!posix_enter())
		return syscall(SYS_write, fd, p, n);
	if (fd == 1 || fd == 2)
		return after_write(output_written(fd - 1, output_append(fd - 1, p, n)));
	return write_iov(&(struct io){fd, 0, &v, 1});
}

ssize_t writev(int fd, const struct iovec *iov, int n)
{
	CANCEL_POINT();
	struct iovec few[IOV_FEW], *copy;
	long r;

	if (!posix_enter() || n <= 0 || n > IOV_MAX)
		return syscall(SYS_writev, fd, iov, n);
	if (fd == 1 || fd == 2) {
		size_t done = 0;

		for (int i = 0; i < n; i++) {
			r = output_append(fd - 1, iov[i].iov_base, iov[i].iov_len);
			if (r < 0 && !done)
				return -1;
			done += r > 0 ? (size_t)r : 0;
			if (r != (long)iov[i].iov_len)
				break;
		}
		return after_write(output_written(fd - 1, (ssize_t)done));
	}
	if (!(copy = iov_copy(few, iov, (size_t)n)))
		return -1;
	r = write_iov(&(struct io){fd, 0, copy, (size_t)n});
	iov_free(few, copy);
	return r;
}

/* At a place of a file: never a socket, never a pipe. */

ssize_t pread(int fd, void *p, size_t n, off_t at)
{
	CANCEL_POINT();
	return posix_enter() ? BLOCKING(SYS_pread64, fd, p, n, at) : syscall(SYS_pread64, fd, p, n, at);
}

ssize_t pwrite(int fd, const void *p, size_t n, off_t at)
{
	CANCEL_POINT();
	return posix_enter() ? after_write(BLOCKING(SYS_pwrite64, fd, p, n, at)) : syscall(SYS_pwrite64, fd, p, n, at);
}

ssize_t preadv(int fd, const struct iovec *iov, int n, off_t at)
{
	CANCEL_POINT();
	return posix_enter() ? BLOCKING(SYS_preadv, fd, iov, n, at, 0l) : syscall(SYS_preadv, fd, iov, n, at, 0l);
}

ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t at)
{
	CANCEL_POINT();
	return posix_enter() ? after_write(BLOCKING(SYS_pwritev, fd, iov, n, at, 0l))
			     : syscall(SYS_pwritev, fd, iov, n, at, 0l);
}

ssize_t preadv2(int fd, const struct iovec *iov, int n, off_t at, int flags)
{
	if (posix_enter() && at == -1 && !flags)
		return readv(fd, iov, n);
	return on_g() && !(flags & RWF_NOWAIT) ? BLOCKING(SYS_preadv2, fd, iov, n, at, 0l, flags)
					       : syscall(SYS_preadv2, fd, iov, n, at, 0l, flags);
}

ssize_t pwritev2(int fd, const struct iovec *iov, int n, off_t at, int flags)
{
	if (posix_enter() && at == -1 && !flags)
		return writev(fd, iov, n);
	return after_write(on_g() && !(flags & RWF_NOWAIT) ? BLOCKING(SYS_pwritev2, fd, iov, n, at, 0l, flags)
							   : syscall(SYS_pwritev2, fd, iov, n, at, 0l, flags));
}

ssize_t preadv64v2(int, const struct iovec *, int, off_t, int) __attribute__((alias("preadv2")));
ssize_t pwritev64v2(int, const struct iovec *, int, off_t, int) __attribute__((alias("pwritev2")));
ssize_t pread64(int, void *, size_t, off_t) __attribute__((alias("pread")));
ssize_t pwrite64(int, const void *, size_t, off_t) __attribute__((alias("pwrite")));
ssize_t preadv64(int, const struct iovec *, int, off_t) __attribute__((alias("preadv")));
ssize_t pwritev64(int, const struct iovec *, int, off_t) __attribute__((alias("pwritev")));
