/*
 * blocking.c - system calls in which a goroutine may block in the kernel, and how it is got out.
 *
 * Signals restart what they interrupt (SA_RESTART), so no program sees that a worker gets them. When the goroutine
 * is cancelled, its task ends, or a signal of the task waits for it, the same signal ends the call instead: its
 * handler finds that the call has been under way and lets it return EINTR. That becomes ECANCELED; or the task's
 * handlers run, and the call ends with EINTR or begins again, as they were installed. A call that does not block is
 * made to its end.
 *
 * Two more reasons end a call. The file that it works on is closed: netpoll_closed signals the workers
 * whose m->call_fd names it, and the call fails with EBADF. Or netpoll can do the waiting (comes_out:
 * a file that can be polled, but has no way to be tried without waiting): when the medic takes the P,
 * it signals the worker as well; the call returns what it has done, or EINTR, and the goroutine parks.
 *
 * The signal may come a moment before the kernel is entered, and the goroutine may be cancelled
 * already when it makes the call. Then a timer sends it again every millisecond, until the call is over.
 *
 * ORDER  status says syscall, then the mark is looked at; the canceller sets the mark, has all pass a
 *        barrier, and looks at status (g_cancel_wake): one of them sees the other
 */
#include "worker/arrivals.h"
#include "worker/posix/posix.h"
#include "worker/view.h"
#include "worker/posix/signal.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <time.h>
#include <ucontext.h>

#define TICK_NS 1000000

extern char sh_blocking_call[], sh_blocking_done[];
long sh_blocking(long nr, long a, long b, long c, long d, long e, long f);

static int ticker = -1; /* the kernel's number of the timer */
static volatile sig_atomic_t under_way, ticks;

void blocking_start(void)
{
	struct sigevent how = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGURG};

	how._sigev_un._tid = (int)syscall(SYS_gettid);
	if (syscall(SYS_timer_create, CLOCK_MONOTONIC, &how, &ticker) < 0)
		ticker = -1;
	under_way = ticks = 0;
	atomic_store(&getm->call_fd, 0);
	atomic_store(&getm->comes_out, 0);
}

static void tick(bool on)
{
	struct itimerspec every = {{0, on ? TICK_NS : 0}, {0, on ? TICK_NS : 0}};

	ticks = on;
	syscall(SYS_timer_settime, ticker, 0, &every, NULL);
}

/* Until the call is over, or what has arrived is passed on: the signal that was to tell the goroutine may have come too early. */
static void stop_ticks(void)
{
	if (ticks && !arrivals_wait())
		tick(false);
}

void blocking_tick(void)
{
	if (!ticks)
		tick(true);
}

/* ---- the call under way ---- */

static const struct blocking *call;

static bool is_closed(const struct blocking *k)
{
	for (unsigned i = 0; i < k->n; i++)
		if (fd_is_closed(&k->w[i]))
			return true;
	return false;
}

/* The call is to end: for its goroutine's sake, because its file is closed, or because netpoll does the waiting. */
static bool unwanted(struct g *g)
{
	return g_cancelled(g) || atomic_load(&g->task->state) != TASK_RUNNING ||
	       (atomic_load(&g->preempt) & PREEMPT_SIGNAL) || (call->comes_out && atomic_load(&getm->p) == -1) ||
	       is_closed(call);
}

static void call_begin(struct m *m, const struct blocking *k)
{
	call = k;
	if (!k->n)
		return;
	atomic_store_explicit(&m->comes_out, k->comes_out, memory_order_relaxed);
	atomic_store(&polldesc_of(k->w->fd)->in_calls, 1);
	atomic_store(&m->call_fd, (uint32_t)k->w->fd + 1); /* then gen, in unwanted(): pairs with netpoll_closed */
}

static void call_end(struct m *m, const struct blocking *k)
{
	if (!k->n)
		return;
	atomic_store_explicit(&m->call_fd, 0, memory_order_relaxed);
	atomic_store_explicit(&m->comes_out, 0, memory_order_relaxed);
}

void blocking_signal(struct g *g, void *ucp)
{
	greg_t *r = ((ucontext_t *)ucp)->uc_mcontext.gregs;

	if (!under_way || !unwanted(g)) {
		stop_ticks();
	} else if (r[REG_RIP] == (greg_t)sh_blocking_call && r[REG_RCX] == (greg_t)sh_blocking_done) {
		r[REG_RIP] = (greg_t)sh_blocking_done;
		r[REG_RAX] = -EINTR;
	} else if (!ticks) {
		tick(true);
	}
}

/* The same call, not waiting. True: it did not have to, r is what it gave. */
static bool call_at_once(void *arg)
{
	static const struct timespec none = {0, 0};
	struct blocking *k = arg;

	switch (k->nr) {
	case SYS_flock: k->r = syscall(SYS_flock, k->a, k->b | LOCK_NB); break;
	case SYS_fcntl: k->r = syscall(SYS_fcntl, k->a, k->b == F_SETLKW ? F_SETLK : F_OFD_SETLK, k->c); break;
	case SYS_msgsnd: k->r = syscall(SYS_msgsnd, k->a, k->b, k->c, k->d | IPC_NOWAIT); break;
	case SYS_msgrcv: k->r = syscall(SYS_msgrcv, k->a, k->b, k->c, k->d, k->e | IPC_NOWAIT); break;
	default: /* semtimedop */ k->r = syscall(SYS_semtimedop, k->a, k->b, k->c, &none);
	}
	return k->r >= 0 || !(errno == EAGAIN || errno == EACCES || errno == ENOMSG || errno == ETIMEDOUT);
}

/* It waits for what others do, for as long as that takes. */
static bool waits_for_others(long nr)
{
	return nr == SYS_flock || nr == SYS_fcntl || nr == SYS_semtimedop || nr == SYS_msgsnd || nr == SYS_msgrcv;
}

/* A handler that was installed with SA_RESTART lets it go on: see signal(7). */
static bool restarts(long nr)
{
	return nr != SYS_semtimedop && nr != SYS_msgsnd && nr != SYS_msgrcv && nr != SYS_ppoll && nr != SYS_pselect6;
}

__attribute__((noinline)) long blocking_once(struct blocking *k)
{
	long r;
	int ran;

	if (syscall_backoff(waits_for_others(k->nr) ? call_at_once : NULL, k))
		return k->r;
	entersyscall();
	call_begin(getm, k);
	under_way = 1;
	atomic_signal_fence(memory_order_seq_cst);
	if (unwanted(getg()))
		tick(true);
	r = sh_blocking(k->nr, k->a, k->b, k->c, k->d, k->e, k->f);
	under_way = 0;
	stop_ticks();
	call_end(getm, k);
	if (k->makes_fd && r >= 0) {
		KILL_POINT("blocking.fd.made"); /* a death here leaves a stray descriptor: supervisor/zygote/strays.c */
		fd_adopt((int)r);
	}
	exitsyscall();
	if (__builtin_expect(r == -EFAULT, 0) && sh_view_refresh()) /* the memory was not mapped here yet */
		return blocking_once(k);
	if (r == -EINTR) {
		ran = wait_signals(getg());
		posix_enter();
		k->interrupted = signal_ends_call(ran, restarts(k->nr));
	}
	if (r == -EINTR && g_cancelled(getg()))
		r = -ECANCELED;
	else if (r == -EINTR && is_closed(k))
		r = -EBADF;
	if (r >= 0)
		return r;
	errno = (int)-r;
	return -1;
}

long blocking(struct blocking *k)
{
	long r;

	do
		r = blocking_once(k);
	while (r < 0 && errno == EINTR && !k->interrupted);
	return r;
}
