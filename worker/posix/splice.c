/*
 * posix/splice.c - sendfile, splice, tee, vmsplice, copy_file_range: from one descriptor to another.
 *
 * None of them can be tried without waiting: SPLICE_F_NONBLOCK holds for pipes alone, and O_NONBLOCK is
 * never set, others may share the file. So a call begins when both ends are ready. If it blocks all the
 * same, the medic gets it out (blocking.c), and the goroutine parks until the end that is not ready is.
 */
#include "worker/posix/posix.h"
#include "worker/posix/thread_cancel.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/sendfile.h>

#define PAUSE_NS 1000000 /* both ends are ready, and still it would block */

/* Parks until both ends are ready. 0, or -1 and errno: EAGAIN if the end that is not ready is O_NONBLOCK. */
static int both_ready(struct pollwait *w, int64_t *when)
{
	for (;;) {
		if (poll_now(w[0].fd, POLLIN) == 0) {
			if (fd_block(&w[0], &when[0]) < 0)
				return -1;
		} else if (poll_now(w[1].fd, POLLOUT) == 0) {
			if (fd_block(&w[1], &when[1]) < 0)
				return -1;
		} else {
			return 0;
		}
	}
}

static void look_at_both(struct pollwait *w, int in, int out)
{
	w[0] = netpoll_begin(in, POLL_READ);
	w[1] = netpoll_begin(out, POLL_WRITE);
}

/* All n bytes, as a descriptor that blocks takes them. */
ssize_t sendfile(int out, int in, off_t *at, size_t n)
{
	CANCEL_POINT();
	int64_t when[2] = {0, 0};
	struct pollwait w[2];
	size_t done = 0;
	long r;

	if (!posix_enter())
		return syscall(SYS_sendfile, out, in, at, n);
	if (fd_kind(out) == PD_PLAIN)
		return after_write(BLOCKING(SYS_sendfile, out, in, at, n));
	look_at_both(w, in, out);
	do {
		if (both_ready(w, when) < 0)
			return done ? (ssize_t)done : -1;
		r = COMES_OUT(w, 2, SYS_sendfile, out, in, at, n - done);
		if (r == 0 || (after_write(r) < 0 && errno != EINTR && errno != EAGAIN))
			return done ? (ssize_t)done : r;
		if (r < 0 && errno == EAGAIN && fd_block(&w[1], &when[1]) < 0)
			return done ? (ssize_t)done : -1;
		done += r > 0 ? (size_t)r : 0;
	} while (done < n);
	return (ssize_t)done;
}
ssize_t sendfile64(int, int, off_t *, size_t) __attribute__((alias("sendfile")));

/* splice and tee, with SPLICE_F_NONBLOCK. waits: the caller has not asked for that. */
static ssize_t pass(struct blocking *k, int in, int out, bool waits)
{
	int64_t when[2] = {0, 0};
	struct pollwait w[2];
	long r;

	look_at_both(w, in, out);
	k->w = w;
	k->n = 2;
	k->comes_out = true;
	for (;;) {
		if (waits && both_ready(w, when) < 0)
			return -1;
		r = blocking_once(k);
		if (r >= 0 || (errno != EINTR && errno != EAGAIN) || (errno == EAGAIN && !waits))
			return after_write(r);
		if (errno == EAGAIN && poll_now(in, POLLIN) != 0 && poll_now(out, POLLOUT) != 0 &&
		    fd_wait(w, 2, host_now() + PAUSE_NS) < 0 && errno != EAGAIN)
			return -1;
	}
}

ssize_t splice(int in, off_t *in_at, int out, off_t *out_at, size_t n, unsigned flags)
{
	CANCEL_POINT();
	struct blocking k = {SYSTEM_CALL(SYS_splice, in, in_at, out, out_at, n, flags | SPLICE_F_NONBLOCK)};

	return posix_enter() ? pass(&k, in, out, !(flags & SPLICE_F_NONBLOCK))
			     : syscall(SYS_splice, in, in_at, out, out_at, n, flags);
}

ssize_t tee(int in, int out, size_t n, unsigned flags)
{
	CANCEL_POINT();
	struct blocking k = {SYSTEM_CALL(SYS_tee, in, out, n, flags | SPLICE_F_NONBLOCK)};

	return posix_enter() ? pass(&k, in, out, !(flags & SPLICE_F_NONBLOCK)) : syscall(SYS_tee, in, out, n, flags);
}

ssize_t vmsplice(int fd, const struct iovec *iov, size_t n, unsigned flags)
{
	struct pollwait w;
	int64_t when = 0;
	long r;

	if (!posix_enter())
		return syscall(SYS_vmsplice, fd, iov, n, flags);
	r = syscall(SYS_fcntl, fd, F_GETFL);
	w = netpoll_begin(fd, (r & O_ACCMODE) == O_RDONLY ? POLL_READ : POLL_WRITE);
	do
		r = COMES_OUT(&w, 1, SYS_vmsplice, fd, iov, n, flags | SPLICE_F_NONBLOCK);
	while (r < 0 &&
	       (errno == EINTR || (errno == EAGAIN && !(flags & SPLICE_F_NONBLOCK) && fd_block(&w, &when) == 0)));
	return after_write(r);
}

/* Between files, which do not wait for each other; a part at a time, so that a close is not passed over. */
#define COPY_PART (64ul << 20)

ssize_t copy_file_range(int in, off_t *in_at, int out, off_t *out_at, size_t n, unsigned flags)
{
	CANCEL_POINT();
	struct pollwait w[2];
	size_t done = 0;
	long r;

	if (!posix_enter())
		return syscall(SYS_copy_file_range, in, in_at, out, out_at, n, flags);
	look_at_both(w, in, out);
	do {
		size_t part = n - done < COPY_PART ? n - done : COPY_PART;

		r = BLOCKING(SYS_copy_file_range, in, in_at, out, out_at, part, flags);
		done += r > 0 ? (size_t)r : 0;
	} while (r > 0 && done < n && !fd_is_closed(&w[0]) && !fd_is_closed(&w[1]));
	return after_write(done ? (ssize_t)done : r);
}
