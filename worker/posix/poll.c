/*
 * posix/poll.c - poll, select, epoll_wait: waiting for many.
 *
 * Each first asks the kernel without waiting. When nothing is ready the goroutine waits for an
 * edge of any of them and asks again.
 */
#include "worker/posix/clock.h"
#include "worker/posix/posix.h"
#include "worker/posix/thread_cancel.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <time.h>

#define FEW 32 /* waits kept on the stack */

static const struct timespec now_spec = {0, 0};

/* ns, -1 for ever; -2: not valid. */
static int64_t time_of(const struct timespec *t)
{
	return !t ? -1 : is_timespec(t) ? ns_of_timespec(t) : -2;
}

static int64_t time_of_ms(int ms)
{
	return ms < 0 ? -1 : ms * 1000000l;
}

static bool watches_write(const struct pollfd *p)
{
	return p->events & (POLLOUT | POLLWRNORM | POLLWRBAND);
}

static bool watches_read(const struct pollfd *p)
{
	return !watches_write(p) || (p->events & (POLLIN | POLLRDNORM | POLLPRI | POLLRDHUP));
}

static bool is_watched(const struct pollfd *p)
{
	return (unsigned)p->fd < POLL_FDS;
}

/* The waits of a poll: how many. */
static unsigned look_at_waits(struct pollwait *w, const struct pollfd *p, nfds_t n)
{
	unsigned k = 0;

	for (nfds_t i = 0; i < n; i++) {
		if (is_watched(&p[i]) && watches_write(&p[i]))
			w[k++] = netpoll_begin(p[i].fd, POLL_WRITE);
		if (is_watched(&p[i]) && watches_read(&p[i]))
			w[k++] = netpoll_begin(p[i].fd, POLL_READ);
	}
	return k;
}

static bool watch_all(struct pollwait *w, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		fd_kind(w[i].fd);
		if (!fd_watch(&w[i]))
			return false;
	}
	return true;
}

/* What there is right now. The kernel ends it with EINTR for any signal of the runtime's, though it does not wait. */
static int ask_kernel(struct pollfd *p, nfds_t n)
{
	int r;

	do
		r = (int)syscall(SYS_ppoll, p, n, &now_spec, NULL, 0);
	while (r < 0 && errno == EINTR);
	return r;
}

/* The same; descriptors that were closed since the poll began are POLLNVAL, whatever the number means by now. */
static int ask(struct pollfd *p, nfds_t n, const struct pollwait *w)
{
	int r = ask_kernel(p, n);
	unsigned k = 0;

	for (nfds_t i = 0; i < n && r >= 0; i++) {
		bool closed = false;

		if (is_watched(&p[i]) && watches_write(&p[i]))
			closed |= fd_is_closed(&w[k++]);
		if (is_watched(&p[i]) && watches_read(&p[i]))
			closed |= fd_is_closed(&w[k++]);
		if (closed) {
			r += p[i].revents == 0;
			p[i].revents = POLLNVAL;
		}
	}
	return r;
}

/* Which can only be waited for in the kernel: the P goes on without us. */
static int poll_blocking(struct pollfd *p, nfds_t n, int64_t when)
{
	for (;;) {
		struct timespec t, *left = NULL;
		long r;

		if (when) {
			int64_t ns = when - host_now();

			t = timespec_of_ns(ns < 0 ? 0 : ns);
			left = &t;
		}
		r = BLOCKING_ONCE(SYS_ppoll, p, n, left, NULL, 0);
		if (r >= 0 || errno != EINTR)
			return (int)r;
	}
}

static int poll_for(struct pollfd *p, nfds_t n, int64_t ns)
{
	struct pollwait few[2 * FEW], *w = few;
	int64_t when = ns < 0 ? 0 : deadline_after(ns);
	unsigned k = 0;
	int r;

	if (n <= FEW) /* before the first question: what is closed from now on was open when the poll began */
		k = look_at_waits(w, p, n);
	r = ask_kernel(p, n);
	if (r != 0 || ns == 0)
		return r;
	if (n > FEW) {
		if (!(w = malloc(2 * n * sizeof *w)))
			return -1;
		k = look_at_waits(w, p, n);
	}
	if (!watch_all(w, k)) {
		r = poll_blocking(p, n, when);
	} else {
		while ((r = ask(p, n, w)) == 0)
			if (fd_wait(w, k, when) < 0 && errno != EBADF) {
				r = errno == EAGAIN ? 0 : -1;
				break;
			}
	}
	if (w != few) {
		int err = errno;

		free(w);
		errno = err;
	}
	return r;
}

/*
 * ---- with a mask: a handler that is run meanwhile ends the wait, by whatever goroutine of the task ----
 *
 * Nobody waits for handlers and for descriptors at once: who has a mask looks every few milliseconds.
 */

#define SLICE_NS 4000000

static int under_mask(const sigset_t *mask, int64_t ns, int (*wait)(void *arg, int64_t ns), void *arg)
{
	int64_t until = ns < 0 ? INT64_MAX : deadline_after(ns), left = 0;
	struct signal_masked m;
	int r;

	if (!mask)
		return wait(arg, ns);
	if (!signal_masked_begin(&m, mask))
		return -1;
	while ((r = wait(arg, left)) == 0) {
		if (signal_masked_ran(&m)) {
			errno = EINTR;
			r = -1;
			break;
		}
		left = until - host_now();
		if (left <= 0)
			break;
		left = left < SLICE_NS ? left : SLICE_NS;
	}
	signal_masked_end(&m);
	return r;
}

struct poll_args {
	struct pollfd *p;
	nfds_t n;
};

static int poll_wait(void *arg, int64_t ns)
{
	struct poll_args *a = arg;

	return poll_for(a->p, a->n, ns);
}

int ppoll(struct pollfd *p, nfds_t n, const struct timespec *timeout, const sigset_t *mask)
{
	CANCEL_POINT();
	int64_t ns = time_of(timeout);
	struct timespec t;

	if (!posix_enter()) {
		if (timeout)
			t = *timeout; /* the kernel writes what is left into it */
		return (int)syscall(SYS_ppoll, p, n, timeout ? &t : NULL, mask, (size_t)(_NSIG / 8));
	}
	if (ns == -2) {
		errno = EINVAL;
		return -1;
	}
	return under_mask(mask, ns, poll_wait, &(struct poll_args){p, n});
}

int poll(struct pollfd *p, nfds_t n, int ms)
{
	CANCEL_POINT();
	struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};

	if (!posix_enter())
		return (int)syscall(SYS_ppoll, p, n, ms < 0 ? NULL : &t, NULL, 0);
	return poll_for(p, n, time_of_ms(ms));
}

/* ---- select: as poll ---- */

static int select_for(int n, fd_set *r, fd_set *w, fd_set *x, int64_t ns)
{
	struct pollfd few[FEW], *p = few;
	int k = 0, got, count = 0;

	if (n < 0 || n > FD_SETSIZE) {
		errno = EINVAL;
		return -1;
	}
	if (n > FEW && !(p = malloc((size_t)n * sizeof *p)))
		return -1;
	for (int fd = 0; fd < n; fd++) {
		short e = (short)((r && FD_ISSET(fd, r) ? POLLIN : 0) | (w && FD_ISSET(fd, w) ? POLLOUT : 0) |
				  (x && FD_ISSET(fd, x) ? POLLPRI : 0));
		if (e)
			p[k++] = (struct pollfd){.fd = fd, .events = e};
	}
	got = poll_for(p, (nfds_t)k, ns);
	for (int i = 0; i < k && got >= 0; i++)
		if (p[i].revents & POLLNVAL) {
			errno = EBADF;
			got = -1;
		}
	for (int i = 0; i < k && got >= 0; i++) {
		short e = p[i].events, is = p[i].revents;

		if ((e & POLLIN) && !(is & (POLLIN | POLLHUP | POLLERR)))
			FD_CLR(p[i].fd, r);
		else
			count += (e & POLLIN) != 0;
		if ((e & POLLOUT) && !(is & (POLLOUT | POLLERR)))
			FD_CLR(p[i].fd, w);
		else
			count += (e & POLLOUT) != 0;
		if ((e & POLLPRI) && !(is & POLLPRI))
			FD_CLR(p[i].fd, x);
		else
			count += (e & POLLPRI) != 0;
	}
	if (p != few)
		free(p);
	return got < 0 ? -1 : count;
}

struct select_args {
	int n;
	fd_set *set[3];
};

/* The sets stay as they are while nothing is ready: it is perhaps not the last look. */
static int select_wait(void *arg, int64_t ns)
{
	struct select_args *a = arg;
	fd_set kept[3];
	int got;

	for (int i = 0; i < 3; i++)
		if (a->set[i])
			kept[i] = *a->set[i];
	got = select_for(a->n, a->set[0], a->set[1], a->set[2], ns);
	for (int i = 0; i < 3 && got == 0; i++)
		if (a->set[i])
			*a->set[i] = kept[i];
	return got;
}

int pselect(int n, fd_set *r, fd_set *w, fd_set *x, const struct timespec *timeout, const sigset_t *mask)
{
	CANCEL_POINT();
	int64_t ns = time_of(timeout);
	struct timespec t;
	struct {
		const sigset_t *mask;
		size_t size;
	} m = {mask, _NSIG / 8};
	struct select_args a = {n, {r, w, x}};
	int got;

	if (!posix_enter()) {
		if (timeout)
			t = *timeout;
		return (int)syscall(SYS_pselect6, n, r, w, x, timeout ? &t : NULL, &m);
	}
	if (ns == -2) {
		errno = EINVAL;
		return -1;
	}
	if (!mask)
		return select_for(n, r, w, x, ns);
	got = under_mask(mask, ns, select_wait, &a);
	return got ? got : select_for(n, r, w, x, 0); /* clears them */
}

int select(int n, fd_set *r, fd_set *w, fd_set *x, struct timeval *timeout)
{
	CANCEL_POINT();
	struct timespec t;
	int64_t until = 0;
	int k;

	if (timeout) {
		int64_t ns = ns_of_timeval(timeout);

		t = ns >= 0 ? timespec_of_ns(ns) : (struct timespec){-1, 0};
		until = ns >= 0 ? deadline_after(ns) : 0;
	}
	k = pselect(n, r, w, x, timeout ? &t : NULL, NULL);
	if (timeout && k >= 0 && on_g()) { /* as Linux does: what is left */
		int64_t left = until - host_now();

		left = left < 0 ? 0 : left;
		*timeout = (struct timeval){left / SECOND_NS, left % SECOND_NS / 1000};
	}
	return k;
}

/* ---- epoll_wait: a set can be waited for like any descriptor ---- */

/* What there is right now; EBADF if the set was closed since the wait began, whatever the number means by now. */
static int ask_set(const struct pollwait *w, struct epoll_event *e, int n)
{
	int r;

	do
		r = (int)syscall(SYS_epoll_pwait, w->fd, e, n, 0, NULL, 0);
	while (r < 0 && errno == EINTR);
	if (r <= 0 && fd_is_closed(w)) {
		errno = EBADF;
		r = -1;
	}
	return r;
}

static int epoll_for(int fd, struct epoll_event *e, int n, int64_t ns)
{
	int64_t when = ns < 0 ? 0 : deadline_after(ns);
	struct pollwait w = netpoll_begin(fd, POLL_READ);
	int r = ask_set(&w, e, n);

	if (r != 0 || ns == 0)
		return r;
	fd_kind(fd);
	if (!fd_watch(&w))
		return -1;
	while ((r = ask_set(&w, e, n)) == 0)
		if (fd_wait(&w, 1, when) < 0)
			return errno == EAGAIN ? 0 : -1;
	return r;
}

struct epoll_args {
	int fd, n;
	struct epoll_event *e;
};

static int epoll_wait_in(void *arg, int64_t ns)
{
	struct epoll_args *a = arg;

	return epoll_for(a->fd, a->e, a->n, ns);
}

int epoll_pwait(int fd, struct epoll_event *e, int n, int ms, const sigset_t *mask)
{
	CANCEL_POINT();
	if (!posix_enter())
		return (int)syscall(SYS_epoll_pwait, fd, e, n, ms, mask, (size_t)(_NSIG / 8));
	return under_mask(mask, time_of_ms(ms), epoll_wait_in, &(struct epoll_args){fd, n, e});
}

int epoll_pwait2(int fd, struct epoll_event *e, int n, const struct timespec *timeout, const sigset_t *mask)
{
	int64_t ns = time_of(timeout);

	if (!posix_enter())
		return (int)syscall(SYS_epoll_pwait2, fd, e, n, timeout, mask, (size_t)(_NSIG / 8));
	if (ns == -2) {
		errno = EINVAL;
		return -1;
	}
	return under_mask(mask, ns, epoll_wait_in, &(struct epoll_args){fd, n, e});
}

int epoll_wait(int fd, struct epoll_event *e, int n, int ms)
{
	CANCEL_POINT();
	return epoll_pwait(fd, e, n, ms, NULL);
}
