/*
 * blocking.c - system calls in which a goroutine may block in the kernel, and how it is got out.
 *
 * Signals restart what they interrupt (SA_RESTART), so nobody sees that a worker gets them. When the
 * goroutine is cancelled, or its task ends, the same signal ends the call instead: the handler finds
 * that the call has been under way and lets it return EINTR, which becomes ECANCELED. A call that
 * does not block is made to its end, cancelled or not.
 *
 * The signal may come a moment before the kernel is entered, and the goroutine may be cancelled
 * already when it makes the call. Then a timer sends it again every millisecond, until the call is over.
 *
 * ORDER  status says syscall, then the mark is looked at; the canceller sets the mark, has all pass a
 *        barrier, and looks at status (g_cancel_wake): one of them sees the other
 */
#include "worker/posix/posix.h"

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
}

static void tick(bool on)
{
	struct itimerspec every = {{0, on ? TICK_NS : 0}, {0, on ? TICK_NS : 0}};

	ticks = on;
	syscall(SYS_timer_settime, ticker, 0, &every, NULL);
}

static bool unwanted(struct g *g)
{
	return g_cancelled(g) || atomic_load(&g->task->state) != TASK_RUNNING;
}

void blocking_signal(struct g *g, void *ucp)
{
	greg_t *r = ((ucontext_t *)ucp)->uc_mcontext.gregs;

	if (!under_way || !unwanted(g)) {
		if (ticks)
			tick(false);
	} else if (r[REG_RIP] == (greg_t)sh_blocking_call && r[REG_RCX] == (greg_t)sh_blocking_done) {
		r[REG_RIP] = (greg_t)sh_blocking_done;
		r[REG_RAX] = -EINTR;
	} else if (!ticks) {
		tick(true);
	}
}

struct call {
	long nr, a, b, c, d, e, f, r;
};

/* The same call, not waiting. True: it did not have to, r is what it gave. */
static bool call_at_once(void *arg)
{
	static const struct timespec none = {0, 0};
	struct call *k = arg;

	switch (k->nr) {
	case SYS_flock: k->r = syscall(SYS_flock, k->a, k->b | LOCK_NB); break;
	case SYS_fcntl: k->r = syscall(SYS_fcntl, k->a, k->b == F_SETLKW ? F_SETLK : F_OFD_SETLK, k->c); break;
	case SYS_msgsnd: k->r = syscall(SYS_msgsnd, k->a, k->b, k->c, k->d | IPC_NOWAIT); break;
	case SYS_msgrcv: k->r = syscall(SYS_msgrcv, k->a, k->b, k->c, k->d, k->e | IPC_NOWAIT); break;
	case SYS_semtimedop: k->r = syscall(SYS_semtimedop, k->a, k->b, k->c, &none); break;
	default: /* mq_timedsend, mq_timedreceive */ k->r = syscall(k->nr, k->a, k->b, k->c, k->d, &none);
	}
	return k->r >= 0 || !(errno == EAGAIN || errno == EACCES || errno == ENOMSG || errno == ETIMEDOUT);
}

/* It waits for what others do, for as long as that takes. */
static bool waits_for_others(long nr)
{
	return nr == SYS_flock || nr == SYS_fcntl || nr == SYS_semtimedop || nr == SYS_msgsnd || nr == SYS_msgrcv ||
	       nr == SYS_mq_timedsend || nr == SYS_mq_timedreceive;
}

__attribute__((noinline)) long blocking_once(long nr, long a, long b, long c, long d, long e, long f)
{
	struct call k = {nr, a, b, c, d, e, f, 0};
	long r;

	if (syscall_backoff(waits_for_others(nr) ? call_at_once : NULL, &k))
		return k.r;
	entersyscall();
	under_way = 1;
	atomic_signal_fence(memory_order_seq_cst);
	if (unwanted(getg()))
		tick(true);
	r = sh_blocking(nr, a, b, c, d, e, f);
	under_way = 0;
	if (ticks)
		tick(false);
	exitsyscall();
	if (r == -EINTR && (posix_enter(), g_cancelled(getg())))
		r = -ECANCELED;
	if (r >= 0)
		return r;
	errno = (int)-r;
	return -1;
}

long blocking(long nr, long a, long b, long c, long d, long e, long f)
{
	long r;

	do
		r = blocking_once(nr, a, b, c, d, e, f);
	while (r < 0 && errno == EINTR);
	return r;
}
