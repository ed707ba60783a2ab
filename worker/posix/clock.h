/*
 * posix/clock.h - times of POSIX as nanoseconds. A time that is too far away for 64 bits becomes the last one.
 */
#ifndef WORKER_POSIX_CLOCK_H
#define WORKER_POSIX_CLOCK_H

#include "core/host.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/time.h>
#include <time.h>

#define SECOND_NS 1000000000l

static inline int64_t ns_saturated(int64_t sec, int64_t ns)
{
	int64_t all;

	if (__builtin_mul_overflow(sec, SECOND_NS, &all) || __builtin_add_overflow(all, ns, &all))
		return sec < 0 ? INT64_MIN : INT64_MAX;
	return all;
}

static inline int64_t ns_of_timespec(const struct timespec *t)
{
	return ns_saturated(t->tv_sec, t->tv_nsec);
}

static inline int64_t ns_of_timeval(const struct timeval *t)
{
	int64_t ns;

	return __builtin_mul_overflow(t->tv_usec, 1000l, &ns) ? INT64_MAX : ns_saturated(t->tv_sec, ns);
}

/* From now to then; negative if it is past. */
static inline int64_t ns_between(const struct timespec *now, const struct timespec *then)
{
	int64_t sec;

	if (__builtin_sub_overflow(then->tv_sec, now->tv_sec, &sec))
		return then->tv_sec < now->tv_sec ? INT64_MIN : INT64_MAX;
	return ns_saturated(sec, then->tv_nsec - now->tv_nsec);
}

/* The time on our clock so long from now, ns >= 0. */
static inline int64_t deadline_after(int64_t ns)
{
	int64_t now = host_now();

	return ns > INT64_MAX - now ? INT64_MAX : now + ns;
}

static inline struct timespec timespec_of_ns(int64_t ns)
{
	return (struct timespec){ns / SECOND_NS, ns % SECOND_NS};
}

static inline bool is_timespec(const struct timespec *t)
{
	return t->tv_sec >= 0 && t->tv_nsec >= 0 && t->tv_nsec < SECOND_NS;
}

#endif
