/*
 * posix/signal.c - signals between goroutines of a task: who gets one, and how its handler runs.
 *
 * A signal to a goroutine, or to the task, is put into a queue in the task's memory. Its receiver is marked
 * (PREEMPT_SIGNAL), and woken if it waits for something that a signal may interrupt. The receiver runs the
 * handler itself, on its stack, at the next place where it looks at its mark: a call of the runtime, the end of
 * a wait, or the preemption signal.
 *
 *	sender					receiver
 *	a. entry into the queue			d. status says waiting
 *	b. mark g->preempt			e. looks at its mark
 *	c. barrier; looks at status		f. takes entries out of the queue
 *
 * Either c sees d and wakes the receiver, or e sees b. Taking entries is under the task's lock.
 *
 * A signal to the task goes to the root goroutine if that can take it at once, as the kernel prefers the main
 * thread; else to the sender, else to any other that does not block it. If all of those wait for something that
 * a signal does not interrupt (a channel, a wait group), a new goroutine runs the handler.
 */
#include "worker/posix/signal.h"
#include "worker/posix/libc.h"
#include "worker/posix/thread.h"
#include "worker/posix/timer.h"
#include "worker/arrivals.h"
#include "worker/flags.h"

#include <pthread.h>

static const uint64_t ignored_by_default = SIG_BIT(SIGCHLD) | SIG_BIT(SIGURG) | SIG_BIT(SIGWINCH) | SIG_BIT(SIGCONT) |
					   SIG_BIT(SIGTSTP) | SIG_BIT(SIGTTIN) | SIG_BIT(SIGTTOU) | SIG_BIT(SIGSTOP);

bool signal_ignored(const struct signals *s, int sig)
{
	sighandler_t h = s ? s->act[sig].sa_handler : SIG_DFL;

	return h == SIG_IGN || (h == SIG_DFL && (ignored_by_default & SIG_BIT(sig)));
}

uint64_t signals_ignored(const struct task *t)
{
	const struct signals *s = signals_there(t);
	uint64_t set = 0;

	for (int sig = 1; s && sig < _NSIG; sig++)
		set |= s->act[sig].sa_handler == SIG_IGN ? SIG_BIT(sig) : 0;
	return set;
}

static bool fatal(const struct signals *s, int sig)
{
	return sig == SIGKILL || (!signal_ignored(s, sig) && (!s || s->act[sig].sa_handler == SIG_DFL));
}

/* ---- running a handler ---- */

struct call {
	struct sigaction act;
	siginfo_t *info;
	ucontext_t *context;
};

static void call_handler(void *arg)
{
	struct call *c = arg;
	int sig = c->info->si_signo;

	flags_clean();
	if (c->act.sa_flags & SA_SIGINFO)
		c->act.sa_sigaction(sig, c->info, c->context);
	else
		c->act.sa_handler(sig);
}

static bool stands_on_alternate(const stack_t *alt)
{
	return (uintptr_t)__builtin_frame_address(0) - (uintptr_t)alt->ss_sp < alt->ss_size;
}

/* The mask is another one while the handler runs, and the former one afterwards unless the handler has changed it. */
static void run_handler(struct g *g, struct sig_thread *t, struct call *c)
{
	uint64_t had = atomic_load(&t->blocked), add;
	bool alternate =
		(c->act.sa_flags & SA_ONSTACK) && !(t->alt.ss_flags & SS_DISABLE) && !stands_on_alternate(&t->alt);

	memcpy(&add, &c->act.sa_mask, sizeof add);
	add |= c->act.sa_flags & SA_NODEFER ? 0 : SIG_BIT(c->info->si_signo);
	memset(&c->context->uc_sigmask, 0, sizeof c->context->uc_sigmask);
	memcpy(&c->context->uc_sigmask, &had, sizeof had);
	c->context->uc_stack = t->alt;
	atomic_store(&t->blocked, (had | add) & ~SIG_UNBLOCKABLE);
	KILL_POINT("signal.handler.masked");
	t->handled++;
	if (alternate)
		sh_call_on((char *)(((uintptr_t)t->alt.ss_sp + t->alt.ss_size) & ~15ul), call_handler, c);
	else
		call_handler(c);
	memcpy(&had, &c->context->uc_sigmask, sizeof had);
	signal_set_mask(g, had);
}

/* What is to be done, and with SA_RESETHAND only this once. */
static struct sigaction action_of(struct g *g, struct signals *s, int sig)
{
	struct sigaction act;

	signals_lock(g->task);
	act = s->act[sig];
	if ((act.sa_flags & (int)SA_RESETHAND) && act.sa_handler != SIG_IGN) {
		s->act[sig].sa_handler = SIG_DFL;
		KILL_POINT("signal.action.reset");
	}
	signals_unlock(g->task);
	return act;
}

bool signal_call(struct g *g, int sig, siginfo_t *info, ucontext_t *context)
{
	struct signals *s = signals_there(g->task);
	struct sig_thread *t = sig_thread_of(g);
	struct call c = {.info = info, .context = context};

	if (!s || !t)
		return false;
	c.act = action_of(g, s, sig);
	if (c.act.sa_handler == SIG_DFL || c.act.sa_handler == SIG_IGN)
		return false;
	run_handler(g, t, &c);
	return true;
}

/* The next signal that the goroutine is to take, off its queue. NULL: none. */
static struct sig_entry *next_signal(struct g *g, struct signals *s)
{
	struct sig_thread *t;
	struct sig_entry *e = NULL;
	uint64_t open;

	signals_lock(g->task);
	t = sig_thread_find(s, g->gid);
	open = ~(t ? atomic_load(&t->blocked) : 0);
	if (t)
		e = sig_queue_take(&t->pending, open);
	if (!e)
		e = sig_queue_take(&s->pending, open);
	if (e && e->info.si_code == SI_TIMER)
		timer_taken(s, &e->info);
	signals_unlock(g->task);
	return e;
}

static enum signals_ran take(struct g *g, struct signals *s, siginfo_t *info)
{
	int sig = info->si_signo;
	ucontext_t context;
	struct call c = {.info = info, .context = &context};
	struct sig_thread *t;

	c.act = action_of(g, s, sig);
	if (c.act.sa_handler == SIG_DFL && !(ignored_by_default & SIG_BIT(sig)))
		host_raised(sig);
	if (c.act.sa_handler == SIG_IGN || c.act.sa_handler == SIG_DFL)
		return SIGNALS_NONE;
	if (!(t = sig_thread_of(g))) {
		output_append(1, "shoal: no memory to call a signal handler\n", 42);
		return SIGNALS_NONE;
	}
	getcontext(&context);
	run_handler(g, t, &c);
	return c.act.sa_flags & SA_RESTART ? SIGNALS_RESTART : SIGNALS_INTERRUPT;
}

enum signals_ran host_signals(struct g *g)
{
	enum signals_ran ran = SIGNALS_NONE;
	struct signals *s;
	struct sig_entry *e;
	int err = errno;

	atomic_fetch_and(&g->preempt, (uint8_t)~PREEMPT_SIGNAL);
	KILL_POINT("signal.looks");
	if (arrivals_wait())
		arrivals_pass_on();
	s = signals_there(g->task);
	while (s && (e = next_signal(g, s))) {
		siginfo_t info = e->info;
		enum signals_ran one;

		g_free(g, e);
		errno = err;
		one = take(g, s, &info);
		err = errno;
		ran = one > ran ? one : ran;
	}
	errno = err;
	return ran;
}

void sh_signals_due(void)
{
	struct g *g = on_g();

	if (g && (atomic_load(&g->preempt) & PREEMPT_SIGNAL))
		host_signals(g);
}

/* ---- who gets it ---- */

struct choice {
	struct g *g;
	uint64_t gid;
	unsigned rank; /* the higher the better */
};

enum { RANK_NONE, RANK_WAITS, RANK_CAN, RANK_SELF, RANK_ROOT };

/* How well this goroutine can take the signal. Holds: the task's lock. */
static unsigned rank_of(struct g *g, struct signals *s, int sig, const struct g *self)
{
	struct sig_thread *t = sig_thread_find(s, g->gid);
	uint64_t status = atomic_load(&g->status);
	unsigned state = status & G_STATE;

	if (state == G_DEAD || state == G_IDLE || (t && (atomic_load(&t->blocked) & SIG_BIT(sig))))
		return RANK_NONE;
	if (g == self)
		return fatal(s, sig) || (g->flags & GF_ROOT) ? RANK_ROOT + 1 : RANK_SELF;
	if (state == G_WAITING && !wait_interruptible(g->waitreason))
		return RANK_WAITS;
	return g->flags & GF_ROOT ? RANK_ROOT : RANK_CAN;
}

/* Holds: the task's lock. */
static struct choice choose(struct task *task, struct signals *s, int sig, struct g *self)
{
	struct g *root = task->root;
	struct choice c = {self, self ? self->gid : 0, self ? rank_of(self, s, sig, self) : RANK_NONE};
	uint64_t n = atomic_load(&sched.ngs);
	unsigned rank;

	if (root && root != self && root->task == task && (rank = rank_of(root, s, sig, self)) > c.rank)
		c = (struct choice){root, root->gid, rank};
	for (uint64_t i = 1; i < n && c.rank < RANK_CAN; i++) {
		struct g *g = allg(i);

		if (atomic_load_explicit(&gtask_slot[i], memory_order_relaxed) == task->slot + 1 && g->task == task &&
		    (rank = rank_of(g, s, sig, self)) > c.rank)
			c = (struct choice){g, g->gid, rank};
	}
	return c;
}

/* One that waits for the signal in sigwait. Holds: the task's lock. */
static struct sig_thread *awaits(struct signals *s, int sig)
{
	for (unsigned i = 0; i < SIG_BUCKETS; i++)
		for (struct sig_thread *t = s->bucket[i]; t; t = t->next)
			if (atomic_load(&t->awaited) & SIG_BIT(sig))
				return t;
	return NULL;
}

static void mark_and_wake(struct g *g, const struct g *self)
{
	getm->note.ready = g; /* dead before it is woken: the medic does that */
	KILL_POINT("signal.noted");
	atomic_fetch_or(&g->preempt, PREEMPT_SIGNAL);
	KILL_POINT("signal.marked");
	if (g != self) {
		host_barrier(); /* pairs with park_m: it has seen the mark, or we see that it waits */
		g_signal_wake(g);
	}
	getm->note.ready = NULL;
}

static void run_for_others(void *unused)
{
	(void)unused;
	signal_set_mask(getg(), 0); /* it begins with that of the sender */
	host_signals(getg());
}

/* All who could take it wait for something else: a goroutine of its own runs the handler. False: it cannot be made. */
static bool start_receiver(struct task *task)
{
	struct shoal_go_opts o = {.name = "signal"};
	int err;

	return newproc(task, &o, run_for_others, NULL, 0, NULL, &err) != NULL;
}

/* The signal is in the task's queue: somebody is to take it. */
static void find_receiver(struct task *task, struct signals *s, int sig, struct g *self)
{
	struct choice c = {NULL, 0, RANK_NONE};
	struct sig_thread *t;
	bool ended;

	signals_lock(task);
	t = awaits(s, sig);
	if (!t)
		c = choose(task, s, sig, self);
	else if ((c.g = g_find(t->gid, &ended)) && !ended)
		c.rank = RANK_CAN;
	signals_unlock(task);
	if (c.rank == RANK_NONE || (c.rank == RANK_WAITS && start_receiver(task)))
		return;
	mark_and_wake(c.g, self);
}

/* ---- sending ---- */

/* A signal that is ignored, and that nobody waits for, is gone at once. */
static bool discarded(struct signals *s, int sig)
{
	return signal_ignored(s, sig) && !awaits(s, sig);
}

/*
 * Into the queue, unless one of this number is there already: only those from SIGRTMIN on are queued. A timer has one
 * entry, which counts. Holds: the task's lock. True: e is in the list.
 */
static bool enqueue(struct sig_queue *q, struct sig_entry *e)
{
	for (struct sig_entry *o = q->first; o; o = o->next) {
		if (o->info.si_signo != e->info.si_signo)
			continue;
		if (e->info.si_code == SI_TIMER && o->info.si_code == SI_TIMER &&
		    o->info.si_timerid == e->info.si_timerid) {
			o->info.si_overrun += e->info.si_overrun + 1;
			KILL_POINT("signal.overrun");
			return false;
		}
		if (e->info.si_signo < SIGRTMIN)
			return false;
	}
	sig_queue_put(q, e);
	return true;
}

static struct sig_entry *make_entry(struct task *task, const siginfo_t *info)
{
	struct p *p = getp();
	struct sig_entry *e =
		sh_heap_alloc(task->heap, (unsigned)getm->seat, p ? p->id : SH_HEAP_NOCPU, sizeof *e, 0, false);

	if (e)
		e->info = *info;
	return e;
}

static void free_entry(struct sig_entry *e)
{
	struct p *p = getp();

	sh_heap_free(sh_root->arena, (unsigned)getm->seat, p ? p->id : SH_HEAP_NOCPU, e);
}

int signal_send_task(struct task *task, struct g *self, const siginfo_t *info)
{
	struct signals *s = signals_there(task);
	int sig = info->si_signo;
	struct sig_entry *e;
	bool listed = false, gone;

	if (!s && self && self->task == task)
		s = signals_of(self);
	if (!s)
		return signal_ignored(NULL, sig) ? 0 : ENOMEM;
	if (!(e = make_entry(task, info)))
		return sig < SIGRTMIN ? ENOMEM : EAGAIN;
	signals_lock(task);
	gone = discarded(s, sig);
	if (!gone)
		listed = enqueue(&s->pending, e);
	signals_unlock(task);
	if (!listed)
		free_entry(e);
	if (!gone)
		find_receiver(task, s, sig, self);
	return 0;
}

int signal_send(struct g *g, int sig, int code, union sigval value)
{
	siginfo_t info = {.si_signo = sig, .si_code = code};
	int err;

	if (sig == 0)
		return 0;
	if (!signal_valid(sig))
		return -1;
	info.si_pid = getpid();
	info.si_uid = getuid();
	info.si_value = value;
	err = signal_send_task(g->task, g, &info);
	errno = err ? err : errno;
	return err ? -1 : 0;
}

/* To goroutine gid, which may be g, of the task of self. */
static int send_one(struct g *self, struct g *g, uint64_t gid, const siginfo_t *info)
{
	int sig = info->si_signo;
	struct signals *s;
	struct sig_thread *t;
	struct sig_entry *e;
	bool listed = false, gone;

	if (!(s = signals_of(self)) || !(t = sig_thread_make(self, gid)) || !(e = make_entry(self->task, info)))
		return EAGAIN;
	signals_lock(self->task);
	t = sig_thread_find(s, gid); /* it may have ended meanwhile */
	gone = !t || (signal_ignored(s, sig) && !(atomic_load(&t->awaited) & SIG_BIT(sig)));
	if (!gone)
		listed = enqueue(&t->pending, e);
	signals_unlock(self->task);
	if (!listed)
		free_entry(e);
	if (!gone)
		mark_and_wake(g, self);
	return 0;
}

int signal_send_here(struct g *g, const siginfo_t *info)
{
	return send_one(g, g, g->gid, info);
}

int signal_send_goroutine(uint64_t gid, int sig, int code, union sigval value)
{
	struct g *self = on_g(), *g;
	siginfo_t info = {.si_signo = sig, .si_code = code};
	bool ended;

	if (sig < 0 || sig >= _NSIG)
		return EINVAL;
	g = g_find(gid, &ended);
	if (!g || ended || g->task != self->task)
		return ESRCH;
	if (sig == 0)
		return 0;
	info.si_pid = getpid();
	info.si_uid = getuid();
	info.si_value = value;
	return send_one(self, g, gid, &info);
}

/* ---- from inside the task ---- */

/* Its own process, or what it took for that before it went to another. The supervisor's processes are no task's. */
static bool is_self(pid_t pid)
{
	if (pid == 0 || pid == getpid() || pid == -1 || -pid == getpgrp())
		return true;
	for (unsigned i = 1; i < SH_SEATS; i++)
		if (atomic_load(&sh_root->seat[i].pid) == pid && !sh_seat_dead(i))
			return true;
	return false;
}

/* What is due for the sender itself is delivered before the call returns. */
static int sent(struct g *g, int r)
{
	if (r == 0 && (atomic_load(&g->preempt) & PREEMPT_SIGNAL))
		host_signals(g);
	return r;
}

REAL(int, raise, (int sig), sig)

int raise(int sig)
{
	struct g *g = posix_enter();
	int err;

	if (!g)
		return real_raise(sig);
	if (sig != 0 && !signal_valid(sig))
		return -1;
	err = signal_send_goroutine(g->gid, sig, SI_TKILL, (union sigval){0});
	errno = err ? err : errno;
	return err ? -1 : sent(g, 0);
}

int gsignal(int sig)
{
	return raise(sig);
}

int kill(pid_t pid, int sig)
{
	struct g *g = posix_enter();

	if (!g || !is_self(pid))
		return (int)syscall(SYS_kill, pid, sig);
	return sent(g, signal_send(g, sig, SI_USER, (union sigval){0}));
}

int killpg(pid_t group, int sig)
{
	return kill(group > 0 ? -group : group, sig);
}

REAL(int, sigqueue, (pid_t pid, int sig, const union sigval value), pid, sig, value)

int sigqueue(pid_t pid, int sig, const union sigval value)
{
	struct g *g = posix_enter();

	if (!g || !is_self(pid))
		return real_sigqueue(pid, sig, value);
	return sent(g, signal_send(g, sig, SI_QUEUE, value));
}

REAL(int, pthread_kill, (pthread_t t, int sig), t, sig)

REAL(int, pthread_sigqueue, (pthread_t t, int sig, const union sigval value), t, sig, value)

static int send_thread(struct g *g, pthread_t t, int sig, int code, union sigval value)
{
	struct own *o = thread_of(t);
	int err;

	if (!o)
		return ESRCH;
	if (atomic_load(&o->state) & THREAD_ENDED)
		return sig < 0 || sig >= _NSIG ? EINVAL : 0;
	err = signal_send_goroutine(o->gid, sig, code, value);
	sent(g, err);
	return err;
}

int pthread_kill(pthread_t t, int sig)
{
	struct g *g = posix_enter();

	return g ? send_thread(g, t, sig, SI_TKILL, (union sigval){0}) : real_pthread_kill(t, sig);
}

int pthread_sigqueue(pthread_t t, int sig, const union sigval value)
{
	struct g *g = posix_enter();

	return g ? send_thread(g, t, sig, SI_QUEUE, value) : real_pthread_sigqueue(t, sig, value);
}

/* ---- a goroutine begins and ends ---- */

void host_g_inherit(struct g *parent, struct g *child)
{
	uint64_t blocked = sig_blocked(parent);
	struct sig_thread *t;

	thread_adopt(child);
	if (!blocked || !(t = sig_thread_make(parent, child->gid)))
		return;
	atomic_store(&child->signals, 1);
	atomic_store(&t->blocked, blocked);
	KILL_POINT("signal.mask.inherited");
}

void signal_own_end(struct g *g)
{
	struct signals *s = signals_there(g->task);
	struct sig_thread *t;
	uint64_t rest;

	if (!s)
		return;
	signals_lock(g->task);
	t = sig_thread_unlist(s, g->gid);
	signals_unlock(g->task);
	if (t) {
		sig_queue_drop(g, &t->pending, ~0ull);
		g_free(g, t);
	}
	if (!(atomic_fetch_and(&g->preempt, (uint8_t)~PREEMPT_SIGNAL) & PREEMPT_SIGNAL))
		return;
	for (rest = atomic_load(&s->pending.set); rest; rest &= rest - 1)
		find_receiver(g->task, s, __builtin_ctzll(rest) + 1, NULL);
}
