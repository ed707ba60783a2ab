/*
 * posix/timer.c - alarm, setitimer and timers of POSIX: a goroutine each while they are set.
 *
 * It waits for the time, or until the timer is set anew, and sends the signal or starts the goroutine that
 * SIGEV_THREAD asks for. It takes no signals itself.
 *
 * A timer that counts processor time has a goroutine too, which looks now and then how much the task has had
 * (cputime.c).
 *
 * OWNER  the task: its list of timers, by which an id is checked. refs counts the goroutines at work and one for
 *        the list
 * LOCK   the task's: the list
 * DEATH  of the worker that runs its goroutine: it begins again, at most TRIES times, if the timer is still listed and
 *        set as it was. It may expire twice, and a timer that is deleted then is freed with the task
 */
#include "worker/posix/cputime.h"
#include "worker/posix/libc.h"
#include "worker/posix/signal.h"
#include "worker/posix/timer.h"

#include <limits.h>
#include <sys/time.h>
#include <time.h>

#define LOOK_MAX 10000000 /* ns between two looks at the processor time */
#define LOOK_MIN 1000000
#define TRIES 3

struct timer {
	_Atomic uint64_t set; /* number of the setting that holds; 0: none */
	_Atomic uint64_t settings;
	_Atomic uint64_t firing; /* a setting that is off by now and whose only signal is being sent */
	_Atomic int refs;
	_Atomic int overruns; /* of the signal that was taken last */
	struct timer *next;
	int id;
	clockid_t clock;
	bool cpu;	     /* when and every are processor time of the task */
	int64_t when, every; /* ns, on the clock that it counts by */
	struct sigevent event;
};

struct setting {
	struct timer *timer;
	int id;
	uint64_t number;
};

/* Holds: the task's lock. */
static struct timer **find(struct signals *s, int id)
{
	struct timer **at = &s->timers;

	while (*at && (*at)->id != id)
		at = &(*at)->next;
	return at;
}

static void let_go(struct g *g, struct timer *t)
{
	if (atomic_fetch_sub(&t->refs, 1) == 1)
		g_free(g, t);
}

static int64_t now_of(const struct g *g, const struct timer *t)
{
	return t->cpu ? cputime_of(g->task) : host_now();
}

/* When to look again, on the monotonic clock. */
static int64_t next_look(const struct timer *t, int64_t now)
{
	int64_t left = t->when - now;

	if (!t->cpu)
		return t->when;
	return host_now() + (left < LOOK_MIN ? LOOK_MIN : left < LOOK_MAX ? left : LOOK_MAX);
}

/* Parks. False: the setting holds no more. */
static bool wait_time(struct g *g, struct timer *t, uint64_t number)
{
	struct shoal_waitq_ *q;
	int64_t now;

	while (atomic_load(&t->set) == number && (now = now_of(g, t)) < t->when) {
		if (!(q = semtable_lock(g, t))) {
			if (shoal_sleep(1000000) < 0)
				return false;
		} else if (atomic_load(&t->set) != number) {
			semtable_unlock(q);
		} else if (semtable_wait(q, g, t, WAIT_SLEEP, next_look(t, now)) == -ECANCELED) {
			return false;
		}
	}
	return atomic_load(&t->set) == number;
}

struct notice {
	void (*fn)(union sigval);
	union sigval value;
};

static void call_notice(void *arg)
{
	struct notice n = *(struct notice *)arg;

	n.fn(n.value);
}

void timer_call(void (*fn)(union sigval), union sigval value)
{
	struct shoal_go_opts o = {.name = "notify"};
	struct notice n = {fn, value};

	if (!shoal_go_with(&o, call_notice, &n, sizeof n))
		fn(value); /* no memory for a goroutine of its own */
}

static void expire(struct g *g, struct timer *t, int64_t missed)
{
	siginfo_t info = {.si_signo = t->event.sigev_signo, .si_code = SI_TIMER};

	if (t->event.sigev_notify == SIGEV_THREAD) {
		atomic_store(&t->overruns, missed < INT_MAX ? (int)missed : INT_MAX);
		timer_call(t->event.sigev_notify_function, t->event.sigev_value);
	} else if (t->event.sigev_notify == SIGEV_SIGNAL || t->event.sigev_notify == SIGEV_THREAD_ID) {
		info.si_timerid = t->id;
		info.si_overrun = missed < INT_MAX ? (int)missed : INT_MAX;
		info.si_value = t->event.sigev_value;
		if (t->id < 0) /* setitimer's: the kernel says SI_KERNEL */
			info = (siginfo_t){.si_signo = t->event.sigev_signo, .si_code = SI_KERNEL};
		signal_send_task(g->task, NULL, &info);
	}
}

/* For a goroutine that begins again: its reference may be gone, so only the list can say. */
static bool is_still_set(struct g *g, const struct setting *s)
{
	struct timer *t;
	bool set, firing;

	signals_lock(g->task);
	t = *find(signals_there(g->task), s->id);
	set = t && t == s->timer && atomic_load(&t->set) == s->number;
	firing = t && t == s->timer && atomic_load(&t->firing) == s->number;
	signals_unlock(g->task);
	if (firing)
		expire(g, t, 0);
	return set && !firing;
}

static void timer_main(void *arg)
{
	struct setting s = *(struct setting *)arg;
	struct timer *t = s.timer;
	struct g *g = getg();

	if (g->attempt > 1 && !is_still_set(g, &s))
		return;
	signal_set_mask(g, ~0ull);
	if (t->cpu)
		cputime_watch(g->task, true);
	while (wait_time(g, t, s.number)) {
		int64_t missed = t->every ? (now_of(g, t) - t->when) / t->every : 0;

		if (__builtin_add_overflow(t->when, (missed + 1) * t->every, &t->when))
			t->when = INT64_MAX;
		if (!t->every) {
			atomic_store(&t->firing, s.number);
			KILL_POINT("timer.firing");
			atomic_store(&t->set, 0);
		}
		expire(g, t, missed);
		if (!t->every) {
			atomic_store(&t->firing, 0);
			KILL_POINT("timer.fired");
		}
	}
	if (t->cpu)
		cputime_watch(g->task, false);
	let_go(g, t);
}

/* when: on the clock that it counts by; 0: off. */
static int set(struct g *g, struct timer *t, int64_t when, int64_t every)
{
	struct shoal_go_opts o = {.name = "timer", .attempts = TRIES};
	struct setting s = {t, t->id, atomic_fetch_add(&t->settings, 1) + 1};

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
	errno = EAGAIN;
	return -1;
}

static int64_t left_of(const struct g *g, const struct timer *t)
{
	int64_t left;

	if (!t || !atomic_load(&((struct timer *)t)->set))
		return 0;
	left = t->when - now_of(g, t);
	return left < 1000 ? 1000 : left;
}

/* ---- the list ---- */

static struct timer *make(struct g *g, clockid_t clock, const struct sigevent *event, int id)
{
	struct timer *t = g_alloc(g, sizeof *t);
	struct signals *s = signals_of(g);

	if (!t || !s) {
		if (t)
			g_free(g, t);
		errno = EAGAIN;
		return NULL;
	}
	*t = (struct timer){.refs = 1, .clock = clock, .event = *event, .id = id};
	t->cpu = clock == CLOCK_PROCESS_CPUTIME_ID || clock == CLOCK_THREAD_CPUTIME_ID;
	signals_lock(g->task);
	if (id >= 0)
		t->id = s->timer_ids++;
	t->next = s->timers;
	s->timers = t;
	KILL_POINT("timer.listed");
	signals_unlock(g->task);
	return t;
}

/* The timer with one reference more, or NULL and EINVAL. */
static struct timer *get(struct g *g, timer_t id)
{
	struct signals *s = g ? signals_there(g->task) : NULL;
	struct timer *t = NULL;

	if (s && (intptr_t)id > 0 && (intptr_t)id <= INT_MAX) {
		signals_lock(g->task);
		t = *find(s, (int)(intptr_t)id - 1);
		if (t)
			atomic_fetch_add(&t->refs, 1);
		signals_unlock(g->task);
	}
	errno = t ? errno : EINVAL;
	return t;
}

void timer_taken(struct signals *s, const siginfo_t *info)
{
	struct timer *t = *find(s, info->si_timerid);

	if (t)
		atomic_store(&t->overruns, info->si_overrun);
}

/* ---- timer_create ---- */

static int64_t ns_of(const struct timespec *t)
{
	return t->tv_sec > INT64_MAX / 2000000000 ? INT64_MAX / 2 : t->tv_sec * 1000000000l + t->tv_nsec;
}

static struct timespec timespec_of(int64_t ns)
{
	return (struct timespec){ns / 1000000000, ns % 1000000000};
}

static bool good(const struct timespec *t)
{
	return t->tv_sec >= 0 && t->tv_nsec >= 0 && t->tv_nsec < 1000000000;
}

static bool good_event(const struct sigevent *e)
{
	switch (e->sigev_notify) {
	case SIGEV_NONE: return true;
	case SIGEV_THREAD: return e->sigev_notify_function != NULL;
	case SIGEV_SIGNAL:
	case SIGEV_THREAD_ID: return e->sigev_signo > 0 && e->sigev_signo < _NSIG;
	default: return false;
	}
}

int timer_create(clockid_t clock, struct sigevent *restrict event, timer_t *restrict id)
{
	struct sigevent alarm = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
	struct g *g = posix_enter();
	struct timespec now;
	struct timer *t;

	if (!g) {
		errno = ENOTSUP;
		return -1;
	}
	if (clock < 0 && clock_gettime(clock, &now) == 0) /* of a thread or a process: the task's */
		clock = CLOCK_PROCESS_CPUTIME_ID;
	if (clock < 0 || clock_gettime(clock, &now) < 0 || (event && !good_event(event))) {
		errno = EINVAL;
		return -1;
	}
	t = make(g, clock, event ? event : &alarm, 0);
	if (!t)
		return -1;
	if (!event)
		t->event.sigev_value.sival_int = t->id;
	*id = (timer_t)(intptr_t)(t->id + 1);
	return 0;
}

static void read_timer(struct g *g, const struct timer *t, struct itimerspec *now)
{
	bool on = atomic_load(&((struct timer *)t)->set) != 0;

	*now = (struct itimerspec){timespec_of(on ? t->every : 0), timespec_of(left_of(g, t))};
}

int timer_gettime(timer_t id, struct itimerspec *now)
{
	struct g *g = posix_enter();
	struct timer *t = get(g, id);

	if (!t)
		return -1;
	read_timer(g, t, now);
	let_go(g, t);
	return 0;
}

int timer_settime(timer_t id, int flags, const struct itimerspec *restrict new, struct itimerspec *restrict old)
{
	struct g *g = posix_enter();
	struct timer *t = get(g, id);
	struct timespec now;
	int64_t when;
	int r;

	if (!t)
		return -1;
	if (!good(&new->it_value) || !good(&new->it_interval)) {
		let_go(g, t);
		errno = EINVAL;
		return -1;
	}
	if (old)
		read_timer(g, t, old);
	when = ns_of(&new->it_value);
	if (when && (flags & TIMER_ABSTIME) && !t->cpu && clock_gettime(t->clock, &now) == 0)
		when = when > ns_of(&now) ? when - ns_of(&now) : 1;
	if (when && !(t->cpu && (flags & TIMER_ABSTIME)))
		when = now_of(g, t) > INT64_MAX - when ? INT64_MAX : now_of(g, t) + when;
	r = set(g, t, when, ns_of(&new->it_interval));
	let_go(g, t);
	return r;
}

int timer_getoverrun(timer_t id)
{
	struct g *g = posix_enter();
	struct timer *t = get(g, id);
	int n;

	if (!t)
		return -1;
	n = atomic_load(&t->overruns);
	let_go(g, t);
	return n;
}

int timer_delete(timer_t id)
{
	struct g *g = posix_enter();
	struct timer *t = get(g, id), **at;

	if (!t)
		return -1;
	signals_lock(g->task);
	at = find(signals_there(g->task), t->id);
	if (*at == t) {
		*at = t->next;
		KILL_POINT("timer.unlisted");
		atomic_fetch_sub(&t->refs, 1);
	}
	signals_unlock(g->task);
	set(g, t, 0, 0);
	let_go(g, t);
	return 0;
}

/* ---- setitimer, alarm: one of each kind in a task. Their ids are negative ---- */

REAL(int, setitimer, (__itimer_which_t which, const struct itimerval *new, struct itimerval *old), which, new, old)
REAL(int, getitimer, (__itimer_which_t which, struct itimerval *now), which, now)

static const int itimer_signal[] = {[ITIMER_REAL] = SIGALRM, [ITIMER_VIRTUAL] = SIGVTALRM, [ITIMER_PROF] = SIGPROF};

static struct timeval timeval_of(int64_t ns)
{
	return (struct timeval){ns / 1000000000, ns % 1000000000 / 1000};
}

static int64_t ns_of_timeval(const struct timeval *t)
{
	return t->tv_sec > INT64_MAX / 2000000000 ? INT64_MAX / 2 : t->tv_sec * 1000000000l + t->tv_usec * 1000;
}

/* NULL: it was never set. */
static struct timer *itimer(struct g *g, __itimer_which_t which)
{
	struct signals *s = signals_there(g->task);
	struct timer *t;

	if (!s)
		return NULL;
	signals_lock(g->task);
	t = *find(s, -1 - (int)which);
	signals_unlock(g->task);
	return t;
}

static bool good_which(__itimer_which_t which)
{
	if ((unsigned)which <= ITIMER_PROF)
		return true;
	errno = EINVAL;
	return false;
}

int getitimer(__itimer_which_t which, struct itimerval *now)
{
	struct g *g = posix_enter();
	struct timer *t;

	if (!g)
		return real_getitimer(which, now);
	if (!good_which(which))
		return -1;
	t = itimer(g, which);
	*now = (struct itimerval){timeval_of(t && atomic_load(&t->set) ? t->every : 0), timeval_of(left_of(g, t))};
	return 0;
}

static bool good_timeval(const struct timeval *t)
{
	return t->tv_sec >= 0 && t->tv_usec >= 0 && t->tv_usec < 1000000;
}

int setitimer(__itimer_which_t which, const struct itimerval *restrict new, struct itimerval *restrict old)
{
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL};
	struct g *g = posix_enter();
	struct timer *t;
	int64_t ns;

	if (!g)
		return real_setitimer(which, new, old);
	if (!good_which(which))
		return -1;
	if (new && (!good_timeval(&new->it_value) || !good_timeval(&new->it_interval))) {
		errno = EINVAL;
		return -1;
	}
	if (old && getitimer(which, old) < 0)
		return -1;
	if (!new)
		return 0;
	event.sigev_signo = itimer_signal[which];
	t = itimer(g, which);
	if (!t &&
	    !(t = make(g, which == ITIMER_REAL ? CLOCK_MONOTONIC : CLOCK_PROCESS_CPUTIME_ID, &event, -1 - (int)which)))
		return -1;
	ns = ns_of_timeval(&new->it_value);
	return set(g, t, ns ? now_of(g, t) + ns : 0, ns_of_timeval(&new->it_interval));
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
