/*
 * posix.c - libc calls that mean something else on a goroutine.
 *
 * Off a goroutine (supervisor, zygote, libuv) each does what libc does.
 */
#include "core/sync/waitq.h"
#include "worker/posix/clock.h"
#include "worker/worker.h"

#include <dlfcn.h>
#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
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

int nanosleep(const struct timespec *want, struct timespec *left)
{
	int r;

	if (!on_g())
		return (int)syscall(SYS_nanosleep, want, left);
	if (!is_timespec(want)) {
		errno = EINVAL;
		return -1;
	}
	r = shoal_sleep(ns_of_timespec(want));
	if (r < 0) {
		errno = -r;
		return -1;
	}
	return 0;
}

int usleep(useconds_t us)
{
	return nanosleep(&(struct timespec){us / 1000000, (long)(us % 1000000) * 1000}, NULL);
}

unsigned sleep(unsigned s)
{
	int64_t begun = host_now();

	if (nanosleep(&(struct timespec){s, 0}, NULL) == 0)
		return 0;
	return s - (unsigned)((host_now() - begun) / 1000000000); /* cancelled */
}

int sched_yield(void)
{
	if (on_g()) {
		shoal_yield();
		return 0;
	}
	return (int)syscall(SYS_sched_yield);
}
