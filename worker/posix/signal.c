/*
 * posix/signal.c - signals, as a task sees them.
 *
 * The kernel's signals are the worker's: they tell crashes and preempt. What a goroutine says of
 * signals is its task's and stays in the task's record: handlers, the mask, what is pending. A signal
 * that a goroutine sends to its process, whichever worker that is, is delivered then and there, on its
 * stack; those of timers on that of the timer's goroutine. One that is blocked, or that another waits
 * for (sigwait), is pending. A signal without a handler that ends a process ends the task as a crash. A handler for SIGSEGV and its like is called for a fault in module code; it may
 * leave by siglongjmp or exit, and if it returns the fault is a crash as ever.
 *
 * DEATH  each word by itself is whole; a handler that was being run is not run again
 */
#include "core/sync/semtable.h"
#include "shm/heap.h"
#include "worker/posix/clock.h"
#include "worker/posix/own.h"
#include "worker/posix/posix.h"

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>

#define BIT(sig) (1ull << ((sig)-1))

struct signals {
	struct sigaction act[_NSIG];
	sigset_t blocked;
	_Atomic uint64_t pending;	 /* a bit each */
	_Atomic uint32_t handled;	 /* for pause */
	_Atomic uint32_t awaited[_NSIG]; /* so many wait for it in sigwait */
	siginfo_t info[_NSIG];		 /* of what is pending */
};

REAL(int, sigaction, (int sig, const struct sigaction *act, struct sigaction *old), sig, act, old)
REAL(int, sigprocmask, (int how, const sigset_t *set, sigset_t *old), how, set, old)
REAL(int, pthread_sigmask, (int how, const sigset_t *set, sigset_t *old), how, set, old)
REAL(int, raise, (int sig), sig)
REAL(int, pause, (void), )
REAL(int, sigsuspend, (const sigset_t *set), set)
REAL(int, pthread_kill, (pthread_t t, int sig), t, sig)

static struct signals *signals(struct g *g)
{
	struct task *t = g->task;

	if (!task_own(t)->signals) {
		struct signals *s = g_alloc(g, sizeof *s);
		void *none = NULL;

		if (!s)
			return NULL;
		memset(s, 0, sizeof *s);
		if (!atomic_compare_exchange_strong(&task_own(t)->signals, &none, s))
			g_free(g, s);
	}
	return task_own(t)->signals;
}

static bool valid(int sig)
{
	if (sig > 0 && sig < _NSIG)
		return true;
	errno = EINVAL;
	return false;
}

/* ---- delivery ---- */

static bool ignored(int sig, const struct sigaction *a)
{
	return a->sa_handler == SIG_IGN ||
	       (a->sa_handler == SIG_DFL && (sig == SIGCHLD || sig == SIGURG || sig == SIGWINCH || sig == SIGCONT ||
					     sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU || sig == SIGPIPE));
}

static void deliver(struct g *g, struct signals *s, int sig, siginfo_t si)
{
	struct sigaction a = s->act[sig];

	if ((sigismember(&s->blocked, sig) || atomic_load(&s->awaited[sig])) && sig != SIGKILL && sig != SIGSTOP) {
		s->info[sig] = si;
		atomic_fetch_or(&s->pending, BIT(sig));
		semtable_wake(g, &s->pending, true);
		return;
	}
	if (ignored(sig, &a) || sig == SIGSTOP)
		return;
	if (a.sa_handler == SIG_DFL)
		host_raised(sig);
	if (a.sa_flags & (int)SA_RESETHAND)
		s->act[sig].sa_handler = SIG_DFL;
	if (a.sa_flags & SA_SIGINFO)
		a.sa_sigaction(sig, &si, NULL);
	else
		a.sa_handler(sig);
	atomic_fetch_add(&s->handled, 1);
	semtable_wake(g, &s->handled, true);
}

int signal_send(struct g *g, int sig, int code, union sigval value)
{
	struct signals *s = signals(g);
	siginfo_t si = {.si_signo = sig, .si_code = code};

	if (sig == 0)
		return 0;
	if (!valid(sig))
		return -1;
	if (!s) {
		errno = ENOMEM;
		return -1;
	}
	si.si_pid = getpid();
	si.si_uid = getuid();
	si.si_value = value;
	deliver(g, s, sig, si);
	return 0;
}

static int send_self(struct g *g, int sig)
{
	return signal_send(g, sig, SI_USER, (union sigval){0});
}

/* Its own process, or what it took for that before it went to another; the supervisor and all is no task's to signal. */
static bool is_self(pid_t pid)
{
	if (pid == 0 || pid == getpid() || pid == -1 || -pid == getpgrp())
		return true;
	for (unsigned i = 1; i < SH_SEATS; i++)
		if (atomic_load(&sh_root->seat[i].pid) == pid && !sh_seat_dead(i))
			return true;
	return false;
}

int raise(int sig)
{
	struct g *g = posix_enter();

	return g ? send_self(g, sig) : real_raise(sig);
}

int kill(pid_t pid, int sig)
{
	struct g *g = posix_enter();

	return g && is_self(pid) ? send_self(g, sig) : (int)syscall(SYS_kill, pid, sig);
}

int killpg(pid_t group, int sig)
{
	return kill(group > 0 ? -group : group, sig);
}

REAL(int, sigqueue, (pid_t pid, int sig, const union sigval value), pid, sig, value)

int sigqueue(pid_t pid, int sig, const union sigval value)
{
	struct g *g = posix_enter();

	return g && is_self(pid) ? signal_send(g, sig, SI_QUEUE, value) : real_sigqueue(pid, sig, value);
}

int pthread_kill(pthread_t t, int sig)
{
	struct g *g = on_g();

	if (g && pthread_equal(t, pthread_self()))
		return send_self(g, sig) < 0 ? errno : 0;
	return real_pthread_kill(t, sig);
}

/* In the crash handler: what the task wants called for a fault of its own code; NULL: nothing. */
void *signal_fault_handler(struct g *g, int sig)
{
	struct signals *s = task_own(g->task)->signals;

	return s && s->act[sig].sa_handler != SIG_DFL && s->act[sig].sa_handler != SIG_IGN ? &s->act[sig] : NULL;
}

/* On the goroutine's stack, as if the fault had called it. */
void signal_fault(int sig, siginfo_t *si, void *ucp)
{
	struct sigaction *a = signal_fault_handler(getg(), sig), h;

	if (a) {
		h = *a;
		if (h.sa_flags & (int)SA_RESETHAND)
			a->sa_handler = SIG_DFL;
		if (h.sa_flags & SA_SIGINFO)
			h.sa_sigaction(sig, si, ucp);
		else
			h.sa_handler(sig);
	}
	host_raised(sig);
}

/* ---- what is to be done ---- */

int sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
	struct g *g = on_g();
	struct signals *s;

	if (!g)
		return real_sigaction(sig, act, old);
	if (!valid(sig))
		return -1;
	if (act && (sig == SIGKILL || sig == SIGSTOP)) {
		errno = EINVAL;
		return -1;
	}
	if (!(s = signals(g))) {
		errno = ENOMEM;
		return -1;
	}
	if (old)
		*old = s->act[sig];
	if (act)
		s->act[sig] = *act;
	return 0;
}

sighandler_t signal(int sig, sighandler_t handler)
{
	struct sigaction act = {.sa_handler = handler, .sa_flags = SA_RESTART}, old;

	return sigaction(sig, &act, &old) < 0 ? SIG_ERR : old.sa_handler;
}

static int mask(struct g *g, int how, const sigset_t *set, sigset_t *old)
{
	struct signals *s = signals(g);

	if (!s)
		return ENOMEM;
	if (old)
		*old = s->blocked;
	if (!set)
		return 0;
	if (how != SIG_BLOCK && how != SIG_UNBLOCK && how != SIG_SETMASK)
		return EINVAL;
	for (int sig = 1; sig < _NSIG; sig++) {
		bool in = sigismember(set, sig) == 1;

		if (how != SIG_UNBLOCK && in)
			sigaddset(&s->blocked, sig);
		else if (how == SIG_SETMASK || (how == SIG_UNBLOCK && in))
			sigdelset(&s->blocked, sig);
		if (!sigismember(&s->blocked, sig) && !atomic_load(&s->awaited[sig]) &&
		    (atomic_fetch_and(&s->pending, ~BIT(sig)) & BIT(sig)))
			deliver(g, s, sig, s->info[sig]);
	}
	return 0;
}

int sigprocmask(int how, const sigset_t *set, sigset_t *old)
{
	struct g *g = on_g();
	int r;

	if (!g)
		return real_sigprocmask(how, set, old);
	r = mask(g, how, set, old);
	errno = r ? r : errno;
	return r ? -1 : 0;
}

int pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
	struct g *g = on_g();

	return g ? mask(g, how, set, old) : real_pthread_sigmask(how, set, old);
}

int sigpending(sigset_t *set)
{
	struct g *g = on_g();
	struct signals *s = g ? signals(g) : NULL;

	if (!g)
		return (int)syscall(SYS_rt_sigpending, set, _NSIG / 8);
	sigemptyset(set);
	for (int sig = 1; s && sig < _NSIG; sig++)
		if (atomic_load(&s->pending) & BIT(sig))
			sigaddset(set, sig);
	return 0;
}

/* The runtime's own stack for crashes stays; a handler of the task's runs on the goroutine's. */
int sigaltstack(const stack_t *restrict new, stack_t *restrict old)
{
	if (!on_g())
		return (int)syscall(SYS_sigaltstack, new, old);
	if (old)
		*old = (stack_t){.ss_flags = SS_DISABLE};
	return 0;
}

/* ---- waiting for one: a handler has been run by whatever goroutine of the task ---- */

/* Until more of them than before have been run. Parks. */
static int await_handler(struct g *g, struct signals *s, uint32_t before)
{
	struct shoal_waitq_ *q;
	int r = 0;

	while (r != -ECANCELED && (!s || atomic_load(&s->handled) == before)) {
		if (!s || !(q = semtable_lock(g, &s->handled))) {
			r = shoal_sleep(2000000);
		} else if (atomic_load(&s->handled) != before) {
			semtable_unlock(q);
		} else {
			r = semtable_wait(q, g, &s->handled, WAIT_SIGNAL, 0);
		}
	}
	errno = r == -ECANCELED ? ECANCELED : EINTR;
	return -1;
}

int pause(void)
{
	struct g *g = posix_enter();
	struct signals *s = g ? signals(g) : NULL;

	return g ? await_handler(g, s, s ? atomic_load(&s->handled) : 0) : real_pause();
}

int sigsuspend(const sigset_t *set)
{
	struct g *g = posix_enter();
	struct signals *s = g ? signals(g) : NULL;
	uint32_t before = s ? atomic_load(&s->handled) : 0; /* what is pending is delivered by the change of the mask */
	sigset_t old;
	int err;

	if (!g)
		return real_sigsuspend(set);
	sigprocmask(SIG_SETMASK, set, &old);
	await_handler(g, s, before);
	err = errno;
	sigprocmask(SIG_SETMASK, &old, NULL);
	errno = err;
	return -1;
}

/* ---- a mask for the time of one wait, as ppoll has it ---- */

bool signal_masked_begin(struct signal_masked *m, const sigset_t *mask)
{
	struct signals *s = signals(getg());

	if (!s) {
		errno = ENOMEM;
		return false;
	}
	m->before = atomic_load(&s->handled);
	sigprocmask(SIG_SETMASK, mask, &m->old);
	return true;
}

bool signal_masked_ran(const struct signal_masked *m)
{
	return atomic_load(&signals(getg())->handled) != m->before;
}

void signal_masked_end(const struct signal_masked *m)
{
	int err = errno;

	sigprocmask(SIG_SETMASK, &m->old, NULL);
	errno = err;
}

/* One of the set that is pending is taken. 0: none is. */
static int take_pending(struct signals *s, const sigset_t *set, siginfo_t *info)
{
	for (int sig = 1; sig < _NSIG; sig++)
		if (sigismember(set, sig) == 1 && (atomic_load(&s->pending) & BIT(sig)) &&
		    (atomic_fetch_and(&s->pending, ~BIT(sig)) & BIT(sig))) {
			if (info)
				*info = s->info[sig];
			return sig;
		}
	return 0;
}

/* Parks. The signal, or -errno. */
static int await(struct g *g, struct signals *s, const sigset_t *set, siginfo_t *info, int64_t when)
{
	struct shoal_waitq_ *q;
	int sig, r = 0;

	while (!(sig = take_pending(s, set, info))) {
		if (r == -ECANCELED || r == -ETIMEDOUT)
			return r;
		if (!(q = semtable_lock(g, &s->pending))) {
			r = shoal_sleep(2000000);
			continue;
		}
		sig = take_pending(s, set, info);
		if (sig) {
			semtable_unlock(q);
			break;
		}
		r = semtable_wait(q, g, &s->pending, WAIT_SIGNAL, when);
	}
	return sig;
}

/* when: 0 for ever, -1 not at all. */
static int wait_for(struct g *g, const sigset_t *set, siginfo_t *info, int64_t when)
{
	struct signals *s = signals(g);
	int sig;

	if (!s)
		return -ENOMEM;
	for (sig = 1; sig < _NSIG; sig++)
		if (sigismember(set, sig) == 1)
			atomic_fetch_add(&s->awaited[sig], 1);
	sig = when < 0 ? take_pending(s, set, info) : await(g, s, set, info, when);
	for (int i = 1; i < _NSIG; i++)
		if (sigismember(set, i) == 1)
			atomic_fetch_sub(&s->awaited[i], 1);
	return sig == 0 || sig == -ETIMEDOUT ? -EAGAIN : sig;
}

REAL(int, sigtimedwait, (const sigset_t *set, siginfo_t *info, const struct timespec *t), set, info, t)

int sigtimedwait(const sigset_t *restrict set, siginfo_t *restrict info, const struct timespec *restrict t)
{
	struct g *g = posix_enter();
	int64_t ns;
	int sig;

	if (!g)
		return real_sigtimedwait(set, info, t);
	if (t && !is_timespec(t)) {
		errno = EINVAL;
		return -1;
	}
	ns = t ? ns_of_timespec(t) : 0;
	sig = wait_for(g, set, info, !t ? 0 : ns ? deadline_after(ns) : -1);
	if (sig > 0)
		return sig;
	errno = -sig;
	return -1;
}

int sigwaitinfo(const sigset_t *restrict set, siginfo_t *restrict info)
{
	return sigtimedwait(set, info, NULL);
}

int sigwait(const sigset_t *restrict set, int *restrict sig)
{
	int r = sigtimedwait(set, NULL, NULL);

	if (r < 0)
		return errno;
	*sig = r;
	return 0;
}
