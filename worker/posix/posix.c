/*
 * posix.c - libc calls that mean something else on a goroutine.
 *
 * Off a goroutine (supervisor, zygote, libuv) each does what libc does.
 */
#include "core/sync/waitq.h"
#include "shm/syscall.h"
#include "worker/posix/clock.h"
#include "worker/posix/thread_cancel.h"
#include "worker/worker.h"

#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

int vdprintf(int fd, const char *fmt, va_list ap)
{
	char small[512], *text = small;
	va_list again;
	ssize_t w;
	int n;

	va_copy(again, ap);
	n = vsnprintf(small, sizeof small, fmt, ap);
	if (n >= (int)sizeof small) {
		text = malloc((size_t)n + 1);
		if (!text) {
			va_end(again);
			return -1;
		}
		vsnprintf(text, (size_t)n + 1, fmt, again);
	}
	va_end(again);
	w = n < 0 ? n : write(fd, text, (size_t)n);
	if (text != small)
		free(text);
	return (int)w;
}

int dprintf(int fd, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vdprintf(fd, fmt, ap);
	va_end(ap);
	return n;
}

/* Parks. 0, or an error number; left: the time that is left if a handler has run. */
static int sleep_to(int64_t when, struct timespec *left)
{
	int64_t ns;
	int r;

	while ((r = sleep_until(when, WAIT_SLEEP)) == -EAGAIN)
		;
	if (r == 0)
		return 0;
	if (left) {
		ns = when - host_now();
		*left = (struct timespec){ns > 0 ? ns / 1000000000 : 0, ns > 0 ? ns % 1000000000 : 0};
	}
	return r == -ERESTART ? EINTR : -r;
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *want, struct timespec *left)
{
	CANCEL_POINT();
	struct timespec now = {0, 0};
	int64_t ns;
	int r;

	if (!posix_enter()) {
		r = (int)syscall(SYS_clock_nanosleep, clock, flags, want, left);
		return r < 0 ? errno : 0;
	}
	if (!is_timespec(want) || clock_gettime(clock, &now) < 0)
		return EINVAL;
	ns = flags & TIMER_ABSTIME ? ns_between(&now, want) : ns_of_timespec(want);
	return ns > 0 ? sleep_to(deadline(ns), flags & TIMER_ABSTIME ? NULL : left) : 0;
}

int nanosleep(const struct timespec *want, struct timespec *left)
{
	CANCEL_POINT();
	int r;

	if (!posix_enter())
		return (int)syscall(SYS_nanosleep, want, left);
	if (!is_timespec(want)) {
		errno = EINVAL;
		return -1;
	}
	if (want->tv_sec == 0 && want->tv_nsec == 0)
		return 0;
	r = sleep_to(deadline(ns_of_timespec(want)), left);
	errno = r ? r : errno;
	return r ? -1 : 0;
}

int usleep(useconds_t us)
{
	CANCEL_POINT();
	return nanosleep(&(struct timespec){us / 1000000, (long)(us % 1000000) * 1000}, NULL);
}

unsigned sleep(unsigned s)
{
	CANCEL_POINT();
	struct timespec left = {0, 0};

	if (nanosleep(&(struct timespec){s, 0}, &left) == 0)
		return 0;
	return (unsigned)left.tv_sec + (left.tv_nsec >= 500000000); /* a signal, or cancelled */
}

int sched_yield(void)
{
	if (on_g()) {
		shoal_yield();
		return 0;
	}
	return (int)syscall(SYS_sched_yield);
}
