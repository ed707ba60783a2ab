/*
 * arrivals.c - signals that come to a worker from outside of the runtime.
 *
 * A program that a task has started sends a signal to its parent, which is a worker; or the kernel sends SIGPIPE or
 * SIGXFSZ to the thread that has made a system call. They are for a task. The handler runs in the middle of
 * anything, so it only writes them down here and sees to it that the worker looks soon: on the goroutine
 * that runs (PREEMPT_SIGNAL), or when its loop next comes round. There they are sent to the task as if a
 * goroutine of it had sent them.
 *
 * The task is found by the sender: a program that it has started, or a descendant of one. A signal from anybody
 * else is the worker's own, and does to it what it does to a process without handlers.
 *
 * All state here is private to the process.
 * DEATH  of the worker: a signal that was not passed on is lost with it
 */
#include "worker/arrivals.h"
#include "shm/offspring.h"
#include "worker/flags.h"
#include "worker/posix/signal.h"
#include "worker/stacks.h"

#define MAX 64 /* power of two */

struct arrival {
	siginfo_t info;
	uint64_t task;
	uint64_t gid; /* not 0: to this goroutine */
};

/* A ring: handlers write at put, one at a time; arrivals_pass_on reads at got. */
static struct arrival ring[MAX];
static volatile unsigned put, got;
static volatile sig_atomic_t children, passing;

bool arrivals_wait(void)
{
	return __builtin_expect(put != got || children, 0);
}

/* The worker looks soon. In a handler. */
static void look_soon(void)
{
	struct m *m = getm;
	struct g *g = getg();

	if (g && atomic_load_explicit(&m->oncpu, memory_order_relaxed))
		atomic_fetch_or(&g->preempt, PREEMPT_SIGNAL);
	else
		sh_seat_wake((unsigned)m->seat);
	blocking_tick();
}

static uint64_t sending_task(const siginfo_t *si)
{
	uint64_t task = sh_offspring_task(si->si_pid);

	if (!task)
		task = children_task_of(si->si_pid); /* it has ended and was waited for */
	return task ? task : children_only_task();
}

/* The kernel sends it to the thread that has made the call. */
static bool of_a_call(int sig, const siginfo_t *si)
{
	return (sig == SIGPIPE || sig == SIGXFSZ || sig == SIGXCPU) &&
	       (si->si_code > 0 ||
		(si->si_code == SI_USER && si->si_pid == atomic_load(&sh_root->seat[getm->seat].pid)));
}

static void write_down(const siginfo_t *si, uint64_t task, uint64_t gid)
{
	static atomic_flag busy = ATOMIC_FLAG_INIT; /* a handler runs in each of several threads */

	while (atomic_flag_test_and_set(&busy))
		;
	if (put - got < MAX) {
		ring[put % MAX] = (struct arrival){*si, task, gid};
		atomic_signal_fence(memory_order_seq_cst);
		put++;
	}
	atomic_flag_clear(&busy);
}

/* It is the worker's own: as if there were no handler. */
static void take_default(int sig)
{
	struct sigaction a = {.sa_handler = SIG_DFL};
	uint64_t set = SIG_BIT(sig);

	if (sig == SIGPIPE || sig == SIGXFSZ || sig == SIGXCPU || sig == SIGALRM || sig == SIGVTALRM ||
	    sig == SIGPROF || sig == SIGIO || sig == SIGWINCH)
		return;
	sigaction(sig, &a, NULL);
	syscall(SYS_tgkill, syscall(SYS_getpid), syscall(SYS_gettid), sig);
	syscall(SYS_rt_sigprocmask, SIG_UNBLOCK, &set, NULL, _NSIG / 8);
}

static void on_arrival(int sig, siginfo_t *si, void *ucp)
{
	struct g *g = getg();
	bool running = g && atomic_load_explicit(&getm->oncpu, memory_order_relaxed) && on_worker_thread();
	int err = errno;
	uint64_t task;

	flags_clean();
	if (of_a_call(sig, si)) {
		if (running)
			write_down(si, g->task->id, g->gid);
	} else if ((task = sending_task(si))) {
		write_down(si, task, 0);
	} else {
		take_default(sig);
	}
	if (arrivals_wait())
		look_soon();
	if (running)
		blocking_signal(g, ucp);
	errno = err;
}

void arrivals_child(void)
{
	children = 1;
	look_soon();
}

static void send(const struct arrival *a)
{
	struct task *t = task_at(a->task % TASK_SLOTS);
	struct g *self = on_g();

	if (t->id != a->task || atomic_load(&t->state) != TASK_RUNNING)
		return;
	if (a->gid && self && self->gid == a->gid)
		signal_send_here(self, &a->info);
	else if (!a->gid)
		signal_send_task(t, NULL, &a->info);
}

void arrivals_pass_on(void)
{
	if (passing || getm->locks)
		return;
	passing = 1;
	while (got != put) {
		struct arrival a = ring[got % MAX];

		atomic_signal_fence(memory_order_seq_cst);
		got++;
		send(&a);
	}
	if (children) {
		children = 0;
		children_tell();
	}
	passing = 0;
}

void arrivals_start(void)
{
	static const int others[] = {SIGKILL, SIGSTOP, SIGCHLD, SIGCONT, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG,
				     SIGSEGV, SIGBUS,  SIGFPE,	SIGILL,	 SIGABRT, SIGTRAP, SIGSYS,  0};
	struct sigaction a = {.sa_sigaction = on_arrival, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};

	put = got = 0;
	children = passing = 0;
	sigfillset(&a.sa_mask);
	for (int sig = 1; sig < _NSIG; sig++) {
		bool other = false;

		for (unsigned i = 0; others[i]; i++)
			other |= sig == others[i];
		if (!other && (sig < 32 || sig >= SIGRTMIN))
			sigaction(sig, &a, NULL);
	}
}
