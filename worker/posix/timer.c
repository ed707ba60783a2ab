/*
 * posix/timer.c - alarm, setitimer and timers of POSIX: a goroutine each while they are set.
 *
 * It waits for the time, or to be told that the timer was set anew, and does what is to be done there:
 * handlers of signals and the functions of SIGEV_THREAD run on its stack. A process's processor time,
 * which other timers count, no task has: ENOTSUP.
 *
 * OWNER  the task; refs counts the goroutines at work and one for the timer itself
 * DEATH  of the worker that runs its goroutine: lost as any other. Each word by itself is whole
 */
#include "core/sync/semtable.h"
#include "worker/posix/clock.h"
#include "worker/posix/own.h"
#include "worker/posix/posix.h"

#include <dlfcn.h>
#include <signal.h>
#include <sys/time.h>
#include <time.h>

struct timer {
	_Atomic uint64_t set; /* number of the setting that holds; 0: none */
	_Atomic uint64_t settings;
	_Atomic int refs;
	_Atomic int overruns;
	clockid_t clock;
	int64_t when, every;
	struct sigevent event;
};

struct setting {
	struct timer *timer;
	uint64_t number;
};

static void let_go(struct g *g, struct timer *t)
{
	if (atomic_fetch_sub(&t->refs, 1) == 1)
		g_free(g, t);
}

/* Parks. False: the setting holds no more. */
static bool wait_time(struct g *g, struct timer *t, uint64_t number)
{
	struct shoal_waitq_ *q;

	while (atomic_load(&t->set) == number && host_now() < t->when) {
		if (!(q = semtable_lock(g, t))) {
			if (shoal_sleep(1000000) < 0)
				return false;
		} else if (atomic_load(&t->set) != number) {
			semtable_unlock(q);
		} else if (semtable_wait(q, g, t, WAIT_SLEEP, t->when) == -ECANCELED) {
			return false;
		}
	}
	return atomic_load(&t->set) == number;
}

static void timer_main(void *arg)
{
	struct setting s = *(struct setting *)arg;
	struct timer *t = s.timer;
	struct g *g = getg();

	while (wait_time(g, t, s.number)) {
		int64_t now = host_now(), missed = t->every ? (now - t->when) / t->every : 0;

		atomic_store(&t->overruns, (int)missed);
		if (__builtin_add_overflow(t->when, (missed + 1) * t->every, &t->when))
			t->when = INT64_MAX;
		if (!t->every)
			atomic_store(&t->set, 0);
		if (t->event.sigev_notify == SIGEV_THREAD)
			t->event.sigev_notify_function(t->event.sigev_value);
		else if (t->event.sigev_notify == SIGEV_SIGNAL)
			signal_send(g, t->event.sigev_signo, SI_TIMER, t->event.sigev_value);
	}
	let_go(g, t);
}

static struct timer *make(struct g *g, clockid_t clock, const struct sigevent *event)
{
	struct timer *t = g_alloc(g, sizeof *t);

	if (!t)
		return NULL;
	*t = (struct timer){.refs = 1, .clock = clock, .event = *event};
	return t;
}

/* when: on our clock; 0: off. */
static int set(struct g *g, struct timer *t, int64_t when, int64_t every)
{
	struct shoal_go_opts o = {.name = "timer", .attempts = 1};
	struct setting s = {t, atomic_fetch_add(&t->settings, 1) + 1};

	atomic_store(&t->set, 0);
	semtable_wake(g, t, true);
	if (!when)
		return 0;
	t->every = every;
	t->when = when;
	atomic_store(&t->overruns, 0);
	atomic_fetch_add(&t->refs, 1);
	atomic_store(&t->set, s.number);
	if (shoal_go_with(&o, timer_main, &s, sizeof s))
		return 0;
	atomic_store(&t->set, 0);
	atomic_fetch_sub(&t->refs, 1);
	return -1;
}

static int64_t left_of(const struct timer *t)
{
	int64_t left = t && atomic_load(&((struct timer *)t)->set) ? t->when - host_now() : 0;

	return t && atomic_load(&((struct timer *)t)->set) && left < 1000 ? 1000 : left;
}

/* ---- timer_create ---- */

static int64_t ns_of(const struct timespec *t)
{
	return ns_of_timespec(t);
}

static struct timespec timespec_of(int64_t ns)
{
	return (struct timespec){ns / 1000000000, ns % 1000000000};
}

static bool good(const struct timespec *t)
{
	return t->tv_sec >= 0 && t->tv_nsec >= 0 && t->tv_nsec < 1000000000;
}

int timer_create(clockid_t clock, struct sigevent *restrict event, timer_t *restrict id)
{
	struct sigevent alarm = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
	struct g *g = posix_enter();
	struct timespec now;
	struct timer *t;

	if (!g || clock == CLOCK_PROCESS_CPUTIME_ID || clock == CLOCK_THREAD_CPUTIME_ID || clock < 0) {
		errno = ENOTSUP;
		return -1;
	}
	if (clock_gettime(clock, &now) < 0)
		return -1;
	if (event && event->sigev_notify != SIGEV_SIGNAL && event->sigev_notify != SIGEV_THREAD &&
	    event->sigev_notify != SIGEV_NONE) {
		errno = EINVAL;
		return -1;
	}
	t = make(g, clock, event ? event : &alarm);
	if (!t) {
		errno = EAGAIN;
		return -1;
	}
	if (!event)
		t->event.sigev_value.sival_ptr = t;
	*id = t;
	return 0;
}

int timer_gettime(timer_t id, struct itimerspec *now)
{
	struct timer *t = id;

	*now = (struct itimerspec){timespec_of(atomic_load(&t->set) ? t->every : 0), timespec_of(left_of(t))};
	return 0;
}

int timer_settime(timer_t id, int flags, const struct itimerspec *restrict new, struct itimerspec *restrict old)
{
	struct timer *t = id;
	struct timespec now;
	int64_t when;

	posix_enter();
	if (!good(&new->it_value) || !good(&new->it_interval)) {
		errno = EINVAL;
		return -1;
	}
	if (old)
		timer_gettime(id, old);
	when = ns_of(&new->it_value);
	if (when && (flags & TIMER_ABSTIME) && clock_gettime(t->clock, &now) == 0) {
		when = ns_between(&now, &new->it_value);
		when = when > 0 ? when : 1;
	}
	return set(getg(), t, when ? deadline_after(when) : 0, ns_of(&new->it_interval));
}

int timer_getoverrun(timer_t id)
{
	return atomic_load(&((struct timer *)id)->overruns);
}

int timer_delete(timer_t id)
{
	struct g *g = posix_enter();

	set(g, id, 0, 0);
	let_go(g, id);
	return 0;
}

/* ---- setitimer, alarm: one of a task ---- */

REAL(int, setitimer, (__itimer_which_t which, const struct itimerval *new, struct itimerval *old), which, new, old)
REAL(int, getitimer, (__itimer_which_t which, struct itimerval *now), which, now)

static struct timeval timeval_of(int64_t ns)
{
	return (struct timeval){ns / 1000000000, ns % 1000000000 / 1000};
}

int getitimer(__itimer_which_t which, struct itimerval *now)
{
	struct g *g = posix_enter();
	struct timer *t;

	if (!g)
		return real_getitimer(which, now);
	if (which != ITIMER_REAL) {
		errno = ENOTSUP;
		return -1;
	}
	t = atomic_load(&task_own(g->task)->alarm);
	*now = (struct itimerval){timeval_of(t && atomic_load(&t->set) ? t->every : 0), timeval_of(left_of(t))};
	return 0;
}

int setitimer(__itimer_which_t which, const struct itimerval *restrict new, struct itimerval *restrict old)
{
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
	struct g *g = posix_enter();
	struct timer *t;
	void *none = NULL;
	int64_t ns;

	if (!g)
		return real_setitimer(which, new, old);
	if (old && getitimer(which, old) < 0)
		return -1;
	if (which != ITIMER_REAL) {
		errno = ENOTSUP;
		return -1;
	}
	if (!new)
		return 0;
	t = atomic_load(&task_own(g->task)->alarm);
	if (!t && !(t = make(g, CLOCK_MONOTONIC, &event))) {
		errno = ENOMEM;
		return -1;
	}
	if (!atomic_load(&task_own(g->task)->alarm) &&
	    !atomic_compare_exchange_strong(&task_own(g->task)->alarm, &none, t)) {
		let_go(g, t);
		t = none;
	}
	ns = ns_of_timeval(&new->it_value);
	return set(g, t, ns ? deadline_after(ns) : 0, ns_of_timeval(&new->it_interval));
}

unsigned alarm(unsigned seconds)
{
	struct itimerval new = {{0, 0}, {seconds, 0}}, old = {{0, 0}, {0, 0}};

	if (setitimer(ITIMER_REAL, &new, &old) < 0)
		return 0;
	return (unsigned)(old.it_value.tv_sec + (old.it_value.tv_usec > 0));
}

useconds_t ualarm(useconds_t us, useconds_t every)
{
	struct itimerval new = {{every / 1000000, every % 1000000}, {us / 1000000, us % 1000000}},
			 old = {{0, 0}, {0, 0}};

	if (setitimer(ITIMER_REAL, &new, &old) < 0)
		return (useconds_t)-1;
	return (useconds_t)(old.it_value.tv_sec * 1000000 + old.it_value.tv_usec);
}
