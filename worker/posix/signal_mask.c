/*
 * posix/signal_mask.c - masks, and calls that wait for signals.
 *
 * A mask is the goroutine's, as it is a thread's in POSIX: only its own code changes it. The kernel's mask of the
 * worker stays empty.
 */
#include "worker/posix/signal.h"
#include "worker/posix/libc.h"
#include "worker/posix/timer.h"
#include "worker/stacks.h"
#include "worker/posix/thread_cancel.h"

#include <pthread.h>
#include <sys/auxv.h>

REAL(int, sigprocmask, (int how, const sigset_t *set, sigset_t *old), how, set, old)
REAL(int, pthread_sigmask, (int how, const sigset_t *set, sigset_t *old), how, set, old)
REAL(int, pause, (void), )
REAL(int, sigsuspend, (const sigset_t *set), set)
REAL(int, sigtimedwait, (const sigset_t *set, siginfo_t *info, const struct timespec *t), set, info, t)

static uint64_t bits_of(const sigset_t *set)
{
	uint64_t bits;

	memcpy(&bits, set, sizeof bits);
	return bits;
}

static void set_of(sigset_t *set, uint64_t bits)
{
	sigemptyset(set);
	memcpy(set, &bits, sizeof bits);
}

/* ---- the mask ---- */

static bool something_due(struct g *g, const struct sig_thread *t)
{
	struct signals *s = signals_there(g->task);

	return ((atomic_load(&s->pending.set) | atomic_load(&t->pending.set)) & ~atomic_load(&t->blocked)) != 0;
}

/* blocked, without delivering. */
static void store_mask(struct sig_thread *t, uint64_t blocked)
{
	atomic_store(&t->blocked, blocked & ~SIG_UNBLOCKABLE);
	atomic_thread_fence(
		memory_order_seq_cst); /* pairs with sig_queue_put: it is seen to be blocked, or we see it */
	KILL_POINT("signal.mask.stored");
}

void signal_set_mask(struct g *g, uint64_t blocked)
{
	struct sig_thread *t = sig_thread_of(g);

	if (!t)
		return;
	store_mask(t, blocked);
	if (something_due(g, t))
		host_signals(g);
}

static int change_mask(struct g *g, int how, const sigset_t *set, sigset_t *old)
{
	uint64_t had = sig_blocked(g), change;

	if (set && how != SIG_BLOCK && how != SIG_UNBLOCK && how != SIG_SETMASK)
		return EINVAL;
	if (set && !sig_thread_of(g))
		return ENOMEM;
	change = set ? bits_of(set) : 0; /* old may be the same memory */
	if (old)
		set_of(old, had);
	if (set)
		signal_set_mask(g, how == SIG_BLOCK ? had | change : how == SIG_UNBLOCK ? had & ~change : change);
	return 0;
}

int sigprocmask(int how, const sigset_t *set, sigset_t *old)
{
	struct g *g = on_g();
	int r;

	if (!g)
		return real_sigprocmask(how, set, old);
	r = change_mask(g, how, set, old);
	errno = r ? r : errno;
	return r ? -1 : 0;
}

int pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
	struct g *g = on_g();

	return g ? change_mask(g, how, set, old) : real_pthread_sigmask(how, set, old);
}

int sigpending(sigset_t *set)
{
	struct g *g = on_g();
	struct signals *s = g ? signals_there(g->task) : NULL;
	struct sig_thread *t;

	if (!g)
		return (int)syscall(SYS_rt_sigpending, set, _NSIG / 8);
	sigemptyset(set);
	if (s && (t = sig_thread_here(g)))
		set_of(set, (atomic_load(&s->pending.set) | atomic_load(&t->pending.set)) & atomic_load(&t->blocked));
	return 0;
}

/* ---- BSD: a mask of 32 bits ---- */

static int bsd_mask(uint32_t off, uint32_t on)
{
	struct g *g = on_g();
	uint64_t had = g ? sig_blocked(g) : 0;

	if (g)
		signal_set_mask(g, (had & ~(uint64_t)off) | on);
	return (int)had;
}

int sigblock(int mask)
{
	return bsd_mask(0, (uint32_t)mask);
}

int sigsetmask(int mask)
{
	return bsd_mask(~0u, (uint32_t)mask);
}

int siggetmask(void);
int siggetmask(void)
{
	return bsd_mask(0, 0);
}

/* ---- the alternate stack ---- */

#define AUTODISARM (1u << 31) /* SS_AUTODISARM of linux/signal.h: while the handler runs there is none */

static bool stands_on(const stack_t *alt)
{
	return !(alt->ss_flags & SS_DISABLE) &&
	       (uintptr_t)__builtin_frame_address(0) - (uintptr_t)alt->ss_sp < alt->ss_size;
}

static size_t smallest_stack(void)
{
	size_t n = getauxval(AT_MINSIGSTKSZ);

	return n > 2048 ? n : 2048;
}

int sigaltstack(const stack_t *restrict new, stack_t *restrict old)
{
	struct g *g = on_g();
	struct sig_thread *t;
	stack_t had = {.ss_flags = SS_DISABLE};
	int mode;

	if (!g)
		return (int)syscall(SYS_sigaltstack, new, old);
	t = new ? sig_thread_of(g) : sig_thread_here(g);
	errno = ENOMEM;
	if (new && !t)
		return -1;
	if (t)
		had = t->alt;
	if (new &&stands_on(&had)) {
		errno = EPERM;
		return -1;
	}
	mode = new ? new->ss_flags & ~(int)AUTODISARM : 0;
	if (mode != 0 && mode != SS_DISABLE && mode != SS_ONSTACK) {
		errno = EINVAL;
		return -1;
	}
	if (new && !(new->ss_flags &SS_DISABLE) && new->ss_size < smallest_stack())
		return -1;
	if (new)
		t->alt = new->ss_flags &SS_DISABLE ? (stack_t){.ss_flags = SS_DISABLE}
						   : (stack_t){.ss_sp = new->ss_sp, .ss_size = new->ss_size};
	if (old) {
		*old = had;
		old->ss_flags |= stands_on(&had) ? SS_ONSTACK : 0;
	}
	return 0;
}

/* ---- waiting until a handler has run ---- */

bool signal_ends_call(int r, bool restarts)
{
	return r == -EINTR || (r == -ERESTART && !restarts);
}

/* Parks until a handler has run in this goroutine. -1 and errno. */
static int await_handler(struct g *g, const struct sig_thread *t, uint32_t before)
{
	int r;

	do
		r = sleep_until(0, WAIT_SIGNAL);
	while (t->handled == before && r != -ECANCELED && !signal_ends_call(r, false));
	errno = r == -ECANCELED && t->handled == before ? ECANCELED : EINTR;
	(void)g;
	return -1;
}

int pause(void)
{
	CANCEL_POINT();
	struct g *g = posix_enter();
	struct sig_thread *t;

	if (!g)
		return real_pause();
	t = sig_thread_of(g);
	if (t)
		return await_handler(g, t, t->handled);
	errno = ENOMEM;
	return -1;
}

int sigsuspend(const sigset_t *set)
{
	CANCEL_POINT();
	struct signal_masked m;

	if (!posix_enter())
		return real_sigsuspend(set);
	if (!signal_masked_begin(&m, set))
		return -1;
	if (!signal_masked_ran(&m))
		await_handler(getg(), sig_thread_of(getg()), m.before);
	signal_masked_end(&m);
	if (errno != ECANCELED)
		errno = EINTR;
	return -1;
}

/* ---- a mask for the time of one wait, as ppoll has it ---- */

bool signal_masked_begin(struct signal_masked *m, const sigset_t *mask)
{
	struct g *g = getg();
	struct sig_thread *t = sig_thread_of(g);

	if (!t) {
		errno = ENOMEM;
		return false;
	}
	m->before = t->handled;
	set_of(&m->old, atomic_load(&t->blocked));
	signal_set_mask(g, bits_of(mask));
	return true;
}

bool signal_masked_ran(const struct signal_masked *m)
{
	return sig_thread_of(getg())->handled != m->before;
}

void signal_masked_end(const struct signal_masked *m)
{
	int err = errno;

	signal_set_mask(getg(), bits_of(&m->old));
	errno = err;
}

/* ---- waiting for a signal itself ---- */

/* One of the set that is pending is taken off its queue. 0: none is. */
static int take_pending(struct g *g, uint64_t set, siginfo_t *info)
{
	struct signals *s = signals_there(g->task);
	struct sig_thread *t;
	struct sig_entry *e = NULL;
	int sig = 0;

	signals_lock(g->task);
	t = sig_thread_find(s, g->gid);
	if (t)
		e = sig_queue_take(&t->pending, set);
	if (!e)
		e = sig_queue_take(&s->pending, set);
	if (e && e->info.si_code == SI_TIMER)
		timer_taken(s, &e->info);
	signals_unlock(g->task);
	if (e) {
		sig = e->info.si_signo;
		if (info)
			*info = e->info;
		g_free(g, e);
	}
	return sig;
}

/*
 * Parks. The signal, or -errno. Signals of the set do not run handlers meanwhile; others do, and end the wait.
 * when: 0 for ever, -1 not at all.
 */
static int await_signal(struct g *g, struct sig_thread *t, uint64_t set, siginfo_t *info, int64_t when)
{
	uint64_t blocked = atomic_load(&t->blocked);
	int sig, r = 0;

	store_mask(t, blocked | set);
	atomic_store(&t->awaited, set);
	KILL_POINT("signal.awaited");
	while (!(sig = take_pending(g, set, info)) && when >= 0 && (!when || host_now() < when)) {
		r = sleep_until(when, WAIT_SIGNAL);
		if (r == -ECANCELED || signal_ends_call(r, false))
			break;
	}
	if (!sig)
		sig = take_pending(g, set, info);
	atomic_store(&t->awaited, 0);
	KILL_POINT("signal.awaited.no");
	signal_set_mask(g, blocked);
	return sig ? sig : r == -ECANCELED ? r : signal_ends_call(r, false) ? -EINTR : -EAGAIN;
}

int sigtimedwait(const sigset_t *restrict set, siginfo_t *restrict info, const struct timespec *restrict t)
{
	CANCEL_POINT();
	struct g *g = posix_enter();
	struct sig_thread *thread;
	int64_t ns;
	int sig;

	if (!g)
		return real_sigtimedwait(set, info, t);
	if (t && (t->tv_sec < 0 || t->tv_nsec < 0 || t->tv_nsec > 999999999)) {
		errno = EINVAL;
		return -1;
	}
	thread = signals_of(g) ? sig_thread_of(g) : NULL;
	ns = !t ? 0 : t->tv_sec > INT64_MAX / 2000000000 ? INT64_MAX / 2 : t->tv_sec * 1000000000l + t->tv_nsec;
	sig = !thread ? -ENOMEM : await_signal(g, thread, bits_of(set), info, !t ? 0 : ns ? host_now() + ns : -1);
	if (sig > 0)
		return sig;
	errno = -sig;
	return -1;
}

int sigwaitinfo(const sigset_t *restrict set, siginfo_t *restrict info)
{
	CANCEL_POINT();
	return sigtimedwait(set, info, NULL);
}

int sigwait(const sigset_t *restrict set, int *restrict sig)
{
	CANCEL_POINT();
	int r;

	do
		r = sigtimedwait(set, NULL, NULL);
	while (r < 0 && errno == EINTR); /* it has no such error */
	if (r < 0)
		return errno;
	*sig = r;
	return 0;
}
