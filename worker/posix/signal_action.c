/*
 * posix/signal_action.c - what is to be done on a signal: sigaction and its older relatives.
 */
#include "worker/posix/signal.h"
#include "worker/posix/libc.h"
#include "worker/posix/thread_cancel.h"

REAL(int, sigaction, (int sig, const struct sigaction *act, struct sigaction *old), sig, act, old)

bool signal_valid(int sig)
{
	if (sig > 0 && sig < _NSIG)
		return true;
	errno = EINVAL;
	return false;
}

int sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
	struct g *g = on_g();
	struct signals *s;
	struct sigaction had, new;

	if (!g)
		return real_sigaction(sig, act, old);
	if (!signal_valid(sig))
		return -1;
	if (act && (sig == SIGKILL || sig == SIGSTOP)) {
		errno = EINVAL;
		return -1;
	}
	if (!(s = signals_of(g))) {
		errno = ENOMEM;
		return -1;
	}
	new = act ? *act : (struct sigaction){.sa_handler = SIG_DFL};
	signals_lock(g->task);
	had = s->act[sig];
	if (act) {
		s->act[sig] = new;
		KILL_POINT("signal.action.stored");
	}
	signals_unlock(g->task);
	if (act && signal_ignored(s, sig))
		sig_queue_drop(g, &s->pending, SIG_BIT(sig));
	if (old)
		*old = had;
	return 0;
}

static uint64_t interrupts; /* siginterrupt, off a goroutine: never set */

static sighandler_t set_handler(int sig, sighandler_t handler, int flags)
{
	struct sigaction act = {.sa_handler = handler, .sa_flags = flags}, old;

	if (handler == SIG_ERR || sig < 1 || sig >= _NSIG) {
		errno = EINVAL;
		return SIG_ERR;
	}
	return sigaction(sig, &act, &old) < 0 ? SIG_ERR : old.sa_handler;
}

static struct signals *here(void)
{
	struct g *g = on_g();

	return g ? signals_of(g) : NULL;
}

/* BSD's: it stays, and calls that it interrupts go on, unless siginterrupt has said otherwise. */
sighandler_t signal(int sig, sighandler_t handler)
{
	struct signals *s = here();
	uint64_t ends = s ? s->interrupts : interrupts;

	return set_handler(sig, handler, sig > 0 && sig < _NSIG && (ends & SIG_BIT(sig)) ? 0 : SA_RESTART);
}

sighandler_t bsd_signal(int sig, sighandler_t handler);
sighandler_t bsd_signal(int sig, sighandler_t handler)
{
	return signal(sig, handler);
}

sighandler_t ssignal(int sig, sighandler_t handler)
{
	return signal(sig, handler);
}

/* System V's: for one signal, which is not blocked meanwhile. It is what signal() means in strict C. */
sighandler_t sysv_signal(int sig, sighandler_t handler)
{
	return set_handler(sig, handler, (int)SA_RESETHAND | SA_NODEFER);
}

sighandler_t __sysv_signal(int sig, sighandler_t handler)
{
	return sysv_signal(sig, handler);
}

int siginterrupt(int sig, int ends)
{
	struct signals *s = here();
	struct sigaction act;

	if (sigaction(sig, NULL, &act) < 0)
		return -1;
	if (s && ends)
		s->interrupts |= SIG_BIT(sig);
	else if (s)
		s->interrupts &= ~SIG_BIT(sig);
	act.sa_flags = ends ? act.sa_flags & ~SA_RESTART : act.sa_flags | SA_RESTART;
	return sigaction(sig, &act, NULL);
}

/* ---- X/Open ---- */

static int mask_one(int how, int sig)
{
	sigset_t set;

	sigemptyset(&set);
	return sigaddset(&set, sig) < 0 ? -1 : sigprocmask(how, &set, NULL);
}

int sighold(int sig)
{
	return mask_one(SIG_BLOCK, sig);
}

int sigrelse(int sig)
{
	return mask_one(SIG_UNBLOCK, sig);
}

int sigignore(int sig)
{
	struct sigaction act = {.sa_handler = SIG_IGN};

	return sigaction(sig, &act, NULL);
}

sighandler_t sigset(int sig, sighandler_t handler)
{
	struct sigaction act = {.sa_handler = handler}, old;
	sigset_t mask;

	if (sigprocmask(SIG_BLOCK, NULL, &mask) < 0)
		return SIG_ERR;
	if (sigaction(sig, handler == SIG_HOLD ? NULL : &act, &old) < 0)
		return SIG_ERR;
	if (mask_one(handler == SIG_HOLD ? SIG_BLOCK : SIG_UNBLOCK, sig) < 0)
		return SIG_ERR;
	return sigismember(&mask, sig) == 1 ? SIG_HOLD : old.sa_handler;
}

/* Waits for any signal that is not blocked when sig is not either. */
static int wait_without(int sig)
{
	sigset_t set;

	if (sigprocmask(SIG_BLOCK, NULL, &set) < 0 || sigdelset(&set, sig) < 0)
		return -1;
	return sigsuspend(&set);
}

/* X/Open's: the header gives it the symbol __xpg_sigpause. */
int sigpause(int sig)
{
	CANCEL_POINT();
	return wait_without(sig);
}

/* BSD's, of old programs: a mask of 32 bits. */
int sh_sigpause_mask(int mask) __asm__("sigpause");
int sh_sigpause_mask(int mask)
{
	uint64_t bits = (uint32_t)mask;
	sigset_t set;

	sigemptyset(&set);
	memcpy(&set, &bits, sizeof bits);
	return sigsuspend(&set);
}

int __sigpause(int what, int is_signal);
int __sigpause(int what, int is_signal)
{
	return is_signal ? wait_without(what) : sh_sigpause_mask(what);
}
