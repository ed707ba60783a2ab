/*
 * posix_signal.c - signals, as a task sees them.
 *
 * The kernel's signals are the worker's: they tell crashes and preempt. What a goroutine says of
 * signals is its task's and stays in the task's record: handlers, the mask, alarm. A signal that a
 * goroutine raises is delivered then and there, on its stack. alarm and setitimer have a goroutine of
 * their own, on which the handler runs. A signal without a handler that ends a process ends the
 * task as a crash. A handler for SIGSEGV and its like is called for a fault in module code; it may
 * leave by siglongjmp or exit, and if it returns the fault is a crash as ever.
 *
 * DEATH  each word by itself is whole; a handler that was being run is not run again
 */
#include "shm/heap.h"
#include "worker/posix.h"

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>

struct signals {
	struct sigaction act[_NSIG];
	sigset_t blocked, pending;
	_Atomic uint32_t handled;    /* for pause */
	_Atomic uint64_t alarm;	     /* number of the alarm that is on; 0: none */
	uint64_t alarms;
	int64_t when, every;
};

REAL(int, sigaction, (int sig, const struct sigaction *act, struct sigaction *old), sig, act, old)
REAL(int, sigprocmask, (int how, const sigset_t *set, sigset_t *old), how, set, old)
REAL(int, pthread_sigmask, (int how, const sigset_t *set, sigset_t *old), how, set, old)
REAL(int, raise, (int sig), sig)
REAL(int, pause, (void), )
REAL(int, sigsuspend, (const sigset_t *set), set)
REAL(int, setitimer, (__itimer_which_t which, const struct itimerval *new, struct itimerval *old), which, new, old)
REAL(int, pthread_kill, (pthread_t t, int sig), t, sig)

static struct signals *signals(struct g *g)
{
	struct task *t = g->task;

	if (!t->own.signals) {
		struct signals *s = g_alloc(g, sizeof *s);
		void *none = NULL;

		if (!s)
			return NULL;
		memset(s, 0, sizeof *s);
		if (!atomic_compare_exchange_strong(&t->own.signals, &none, s))
			g_free(g, s);
	}
	return t->own.signals;
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
	return a->sa_handler == SIG_IGN || (a->sa_handler == SIG_DFL &&
		(sig == SIGCHLD || sig == SIGURG || sig == SIGWINCH || sig == SIGCONT || sig == SIGTSTP || sig == SIGTTIN ||
		 sig == SIGTTOU || sig == SIGPIPE));
}

static void deliver(struct signals *s, int sig)
{
	struct sigaction a = s->act[sig];
	siginfo_t si = {.si_signo = sig, .si_code = SI_USER, .si_pid = getpid()};

	if (sigismember(&s->blocked, sig) && sig != SIGKILL && sig != SIGSTOP) {
		sigaddset(&s->pending, sig);
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
}

static int send_self(struct g *g, int sig)
{
	struct signals *s = signals(g);

	if (sig == 0)
		return 0;
	if (!valid(sig))
		return -1;
	if (!s) {
		errno = ENOMEM;
		return -1;
	}
	deliver(s, sig);
	return 0;
}

int raise(int sig)
{
	struct g *g = posix_enter();

	return g ? send_self(g, sig) : real_raise(sig);
}

int kill(pid_t pid, int sig)
{
	struct g *g = posix_enter();

	return g && (pid == 0 || pid == getpid()) ? send_self(g, sig) : (int)syscall(SYS_kill, pid, sig);
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
	struct signals *s = g->task->own.signals;

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
		if (!sigismember(&s->blocked, sig) && sigismember(&s->pending, sig) == 1) {
			sigdelset(&s->pending, sig);
			deliver(s, sig);
		}
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
	if (s)
		*set = s->pending;
	return 0;
}

/* ---- waiting for one: a handler has been run by whatever goroutine of the task ---- */

int pause(void)
{
	struct g *g = posix_enter();
	struct signals *s = g ? signals(g) : NULL;
	uint32_t before = s ? atomic_load(&s->handled) : 0;
	int r = 0;

	if (!g)
		return real_pause();
	while (r == 0 && (!s || atomic_load(&s->handled) == before))
		r = shoal_sleep(2000000);
	errno = r ? -r : EINTR;
	return -1;
}

int sigsuspend(const sigset_t *set)
{
	sigset_t old;

	if (!on_g())
		return real_sigsuspend(set);
	sigprocmask(SIG_SETMASK, set, &old);
	pause();
	int err = errno;
	sigprocmask(SIG_SETMASK, &old, NULL);
	errno = err;
	return -1;
}

/* ---- alarm ---- */

static void alarm_main(void *arg)
{
	uint64_t me = *(uint64_t *)arg;
	struct signals *s = signals(getg());

	while (atomic_load(&s->alarm) == me) {
		int64_t left = s->when - host_now();

		if (left > 0) {
			if (shoal_sleep(left < 100000000 ? left : 100000000) < 0)
				return;
			continue;
		}
		if (s->every)
			s->when += s->every;
		else
			atomic_store(&s->alarm, 0);
		deliver(s, SIGALRM);
	}
}

static int64_t ns_of(const struct timeval *t)
{
	return t->tv_sec * 1000000000l + t->tv_usec * 1000;
}

static struct timeval timeval_of(int64_t ns)
{
	return (struct timeval){ns / 1000000000, ns % 1000000000 / 1000};
}

int setitimer(__itimer_which_t which, const struct itimerval *restrict new, struct itimerval *restrict old)
{
	struct shoal_go_opts o = {.name = "alarm", .attempts = 1};
	struct g *g = posix_enter();
	struct signals *s;
	uint64_t me;

	if (!g)
		return real_setitimer(which, new, old);
	if (which != ITIMER_REAL || !(s = signals(g))) { /* the others count a process's time, which no task has */
		errno = which != ITIMER_REAL ? ENOTSUP : ENOMEM;
		return -1;
	}
	if (old) {
		int64_t left = atomic_load(&s->alarm) ? s->when - host_now() : 0;

		*old = (struct itimerval){timeval_of(s->every), timeval_of(left > 0 ? left : atomic_load(&s->alarm) ? 1000 : 0)};
	}
	if (!new)
		return 0;
	atomic_store(&s->alarm, 0);
	s->every = ns_of(&new->it_interval);
	if (ns_of(&new->it_value) == 0)
		return 0;
	s->when = host_now() + ns_of(&new->it_value);
	me = ++s->alarms;
	atomic_store(&s->alarm, me);
	return shoal_go_with(&o, alarm_main, &me, sizeof me) ? 0 : -1;
}

unsigned alarm(unsigned seconds)
{
	struct itimerval new = {{0, 0}, {seconds, 0}}, old = {{0, 0}, {0, 0}};

	if (setitimer(ITIMER_REAL, &new, &old) < 0)
		return 0;
	return (unsigned)(old.it_value.tv_sec + (old.it_value.tv_usec > 0));
}
