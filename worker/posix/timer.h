/*
 * timer.h - what timers share with the rest of signals.
 */
#ifndef WORKER_POSIX_TIMER_H
#define WORKER_POSIX_TIMER_H

#include <signal.h>

struct signals;

/* A signal of a timer is being taken off its queue: timer_getoverrun tells what it says. Holds: the task's lock. */
void timer_taken(struct signals *, const siginfo_t *);
void timer_call(void (*fn)(union sigval), union sigval); /* SIGEV_THREAD: on a goroutine of its own */

#endif
