/*
 * posix/io.c - read, write and their kin.
 *
 * A socket is tried with MSG_DONTWAIT, a pipe with RWF_NOWAIT (or after a look with poll, where the
 * kernel does not have it for pipes): O_NONBLOCK is never set, others may share the file. A
 * stream whose last read came back short has nothing more until there is an edge, so the next
 * read parks without a try.
 */
#include "worker/posix/posix.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 8
#endif

struct io {
	int fd, flags; /* flags: of recvmsg and sendmsg */
	struct iovec *iov;
	int n;
};

static size_t total(const struct iovec *iov, int n)
{
	size_t all = 0;

	for (int i = 0; i < n; i++)
		all += iov[i].iov_len;
	return all;
}

/* Whether the try would block, now that it has failed. */
static bool would_block(void)
{
	return errno == EAGAIN || errno == EINTR;
}

static long poll_now(int fd, short events)
{
	struct pollfd p = {.fd = fd, .events = events};
	struct timespec none = {0, 0};

	return syscall(SYS_ppoll, &p, 1, &none, NULL, 0);
}

/* No RWF_NOWAIT for this file: it is ready, or we have not tried. */
static long after_poll(const struct io *io, int mode)
{
	if (poll_now(io->fd, mode == POLL_READ ? POLLIN : POLLOUT) == 0) {
		errno = EAGAIN;
		return -1;
	}
	return mode == POLL_READ ? BLOCKING(SYS_readv, io->fd, io->iov, io->n)
				 : BLOCKING(SYS_writev, io->fd, io->iov, io->n);
}

static long try_once(const struct io *io, int mode, enum poll_kind kind)
{
	struct msghdr msg;
	long r;

	if (kind == PD_SOCKET) {
		if (io->n == 1)
			return mode == POLL_READ ? syscall(SYS_recvfrom, io->fd, io->iov->iov_base, io->iov->iov_len,
							   MSG_DONTWAIT, NULL, NULL)
						 : syscall(SYS_sendto, io->fd, io->iov->iov_base, io->iov->iov_len,
							   MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0);
		msg = (struct msghdr){.msg_iov = io->iov, .msg_iovlen = (size_t)io->n};
		return mode == POLL_READ ? syscall(SYS_recvmsg, io->fd, &msg, MSG_DONTWAIT)
					 : syscall(SYS_sendmsg, io->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	}
	if (kind == PD_NOWAIT) {
		r = mode == POLL_READ ? syscall(SYS_preadv2, io->fd, io->iov, io->n, -1l, -1l, RWF_NOWAIT)
				      : syscall(SYS_pwritev2, io->fd, io->iov, io->n, -1l, -1l, RWF_NOWAIT);
		if (r >= 0 || errno != EOPNOTSUPP)
			return r;
		atomic_store(&polldesc(io->fd)->kind, PD_POLLABLE);
	}
	return after_poll(io, mode);
}

static long plain(const struct io *io, int mode)
{
	return mode == POLL_READ ? BLOCKING(SYS_readv, io->fd, io->iov, io->n)
				 : BLOCKING(SYS_writev, io->fd, io->iov, io->n);
}

static long read_iov(const struct io *io, size_t want)
{
	enum poll_kind kind;
	int64_t when = 0;

	while ((kind = fd_kind(io->fd)) != PD_PLAIN && kind != PD_UNKNOWN) {
		struct pollwait w = netpoll_begin(io->fd, POLL_READ);
		struct polldesc *d = polldesc(io->fd);
		long r;

		if (atomic_load_explicit(&d->drained, memory_order_relaxed) != w.edges ||
		    atomic_load_explicit(&d->registered, memory_order_relaxed) != w.gen + 1) {
			r = try_once(io, POLL_READ, kind);
			if (r >= 0 || !would_block()) {
				if (r > 0 && (size_t)r < want && atomic_load_explicit(&d->drain, memory_order_relaxed))
					atomic_store_explicit(&d->drained, w.edges, memory_order_relaxed);
				if (r < 0 &&
				    errno == ENOTSOCK) { /* another file by now: closed where we did not see it */
					fd_forget(io->fd);
					continue;
				}
				return r;
			}
		}
		if (fd_block(&w, &when) < 0)
			return -1;
	}
	return plain(io, POLL_READ);
}

/* What is left after r bytes; the vector is the caller's own copy. */
static void advance(struct io *io, size_t r)
{
	while (io->n > 0 && r >= io->iov->iov_len) {
		r -= io->iov->iov_len;
		io->iov++;
		io->n--;
	}
	if (io->n > 0) {
		io->iov->iov_base = (char *)io->iov->iov_base + r;
		io->iov->iov_len -= r;
	}
}

/* All of it, as a descriptor that blocks does. The vector is used up. */
static long write_iov(struct io *io)
{
	size_t want = total(io->iov, io->n), done = 0;
	enum poll_kind kind;
	int64_t when = 0;

	while ((kind = fd_kind(io->fd)) != PD_PLAIN && kind != PD_UNKNOWN) {
		struct pollwait w = netpoll_begin(io->fd, POLL_WRITE);
		long r = try_once(io, POLL_WRITE, kind);

		if (r >= 0) {
			done += (size_t)r;
			if (done >= want)
				return (long)done;
			advance(io, (size_t)r);
			continue;
		}
		if (errno == ENOTSOCK) {
			fd_forget(io->fd);
			continue;
		}
		if (!would_block() || fd_block(&w, &when) < 0)
			return done ? (long)done : -1;
	}
	return plain(io, POLL_WRITE);
}

ssize_t read(int fd, void *p, size_t n)
{
	struct iovec v = {p, n};

	if (!posix_enter() || n == 0)
		return syscall(SYS_read, fd, p, n);
	return read_iov(&(struct io){fd, 0, &v, 1}, n);
}

ssize_t readv(int fd, const struct iovec *iov, int n)
{
	if (!posix_enter() || n <= 0)
		return syscall(SYS_readv, fd, iov, n);
	return read_iov(&(struct io){fd, 0, (struct iovec *)iov, n}, total(iov, n));
}

ssize_t write(int fd, const void *p, size_t n)
{
	struct iovec v = {(void *)p, n};

	if (!posix_enter())
		return syscall(SYS_write, fd, p, n);
	if (fd == 1 || fd == 2)
		return output_append(fd - 1, p, n);
	return write_iov(&(struct io){fd, 0, &v, 1});
}

ssize_t writev(int fd, const struct iovec *iov, int n)
{
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
		return (ssize_t)done;
	}
	if (!(copy = iov_copy(few, iov, (size_t)n)))
		return -1;
	r = write_iov(&(struct io){fd, 0, copy, n});
	iov_free(few, copy);
	return r;
}

/* At a place of a file: never a socket, never a pipe. */

ssize_t pread(int fd, void *p, size_t n, off_t at)
{
	return posix_enter() ? BLOCKING(SYS_pread64, fd, p, n, at) : syscall(SYS_pread64, fd, p, n, at);
}

ssize_t pwrite(int fd, const void *p, size_t n, off_t at)
{
	return posix_enter() ? BLOCKING(SYS_pwrite64, fd, p, n, at) : syscall(SYS_pwrite64, fd, p, n, at);
}

ssize_t preadv(int fd, const struct iovec *iov, int n, off_t at)
{
	return posix_enter() ? BLOCKING(SYS_preadv, fd, iov, n, at, 0l) : syscall(SYS_preadv, fd, iov, n, at, 0l);
}

ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t at)
{
	return posix_enter() ? BLOCKING(SYS_pwritev, fd, iov, n, at, 0l) : syscall(SYS_pwritev, fd, iov, n, at, 0l);
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
	return on_g() && !(flags & RWF_NOWAIT) ? BLOCKING(SYS_pwritev2, fd, iov, n, at, 0l, flags)
					       : syscall(SYS_pwritev2, fd, iov, n, at, 0l, flags);
}

ssize_t preadv64v2(int, const struct iovec *, int, off_t, int) __attribute__((alias("preadv2")));
ssize_t pwritev64v2(int, const struct iovec *, int, off_t, int) __attribute__((alias("pwritev2")));
ssize_t pread64(int, void *, size_t, off_t) __attribute__((alias("pread")));
ssize_t pwrite64(int, const void *, size_t, off_t) __attribute__((alias("pwrite")));
ssize_t preadv64(int, const struct iovec *, int, off_t) __attribute__((alias("preadv")));
ssize_t pwritev64(int, const struct iovec *, int, off_t) __attribute__((alias("pwritev")));

ssize_t sendfile(int out, int in, off_t *at, size_t n)
{
	struct pollwait w;
	int64_t when = 0;
	long r;

	if (!posix_enter())
		return syscall(SYS_sendfile, out, in, at, n);
	for (;;) { /* it waits for room after each bit: begun only when there is some */
		if (fd_kind(out) == PD_PLAIN)
			return BLOCKING(SYS_sendfile, out, in, at, n);
		w = netpoll_begin(out, POLL_WRITE);
		if (poll_now(out, POLLOUT) != 0) {
			r = BLOCKING(SYS_sendfile, out, in, at, n);
			if (r >= 0 || errno != EAGAIN)
				return r;
		}
		if (fd_block(&w, &when) < 0)
			return -1;
	}
}
ssize_t sendfile64(int, int, off_t *, size_t) __attribute__((alias("sendfile")));
