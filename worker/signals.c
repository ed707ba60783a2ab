/*
 * signals.c - the signals of a worker: crashes are here, preemption is in preempt.c.
 *
 * The handler of a crash writes a record to the seat and ends the process: nothing in it is trusted any more.
 * All handlers run on the worker's alternate stack, which is no goroutine's.
 */
#include "core/sync/waitq.h"
#include "shm/check.h"
#include "shm/signame.h"
#include "shm/syscall.h"
#include "worker/arrivals.h"
#include "worker/flags.h"
#include "worker/libcall.h"
#include "worker/posix/signal.h"
#include "worker/preempt.h"
#include "worker/stacks.h"
#include "worker/view.h"
#include "worker/worker.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define ALT_STACK (64ul << 10)
#define LODSL 0xad /* the instruction */

static int64_t wall_clock(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec * 1000000000l + t.tv_nsec;
}

static _Noreturn void die(void)
{
	for (;;)
		syscall(SYS_kill, getpid(), SIGKILL);
}

/* In the guard of its stack or in the gap below its window: a frame can be so large that it skips the guard. */
static bool below_stack(const struct g *g, uintptr_t at)
{
	uintptr_t low = stack_bottom(g);

	if (win_of_thread(g->win))
		return at < low && at >= low - tstack_class_of(g->win)->gap;
	return at < low && at >= (uintptr_t)host_window(g->win) - SH_WIN_STRIDE + WIN_SIZE;
}

static void overflow(struct crash *c, const struct g *g)
{
	c->kind = CRASH_OVERFLOW;
	sh_format(c->message, sizeof c->message, "stack overflow: goroutine stack exceeds %lu-byte limit",
		  win_of_thread(g->win) ? tstack_class_of(g->win)->size : g->stack_max);
}

/* Return addresses by frame pointers, as far as they stay within the window, and a copy of what is on top of it. */
static void walk(struct crash *c, const struct g *g, uintptr_t pc, uintptr_t sp, uintptr_t bp)
{
	uintptr_t low = stack_bottom(g), top = (uintptr_t)stack_top(g->win);

	c->frame[0] = (void *)pc;
	c->nframes = 1;
	while (c->nframes < CRASH_FRAMES && bp >= low && bp + 16 <= top && bp % 8 == 0) {
		uintptr_t *f = (uintptr_t *)bp;

		if (!f[1] || f[0] <= bp)
			break;
		c->frame[c->nframes++] = (void *)f[1];
		bp = f[0];
	}
	sp = (sp < low && sp + 65536 > low ? low : sp) & ~7ul; /* in the guard: it has just overflowed */
	if (sp < low || sp >= top)
		return;
	c->stack_at = sp;
	c->stack_bytes = (uint32_t)(top - sp < CRASH_STACK ? top - sp : CRASH_STACK);
	memcpy(c->stack, (void *)sp, c->stack_bytes);
}

/*
 * The goroutine that a death of this worker is counted against: the one that runs, and also the one that the worker
 * is about to enter or has just left. What the worker does for it then reads memory of its task.
 */
static struct g *blamed(void)
{
	struct g *g = getg();
	uint64_t s;

	if (!g || !g_plausible(g) || atomic_load(&getm->oncpu))
		return g_plausible(g) ? g : NULL;
	s = atomic_load(&g->status);
	return ((s & G_STATE) == G_RUNNING || (s & G_STATE) == G_COPYSTACK) && G_OWNER_SEAT(s) == getm->seat ? g : NULL;
}

static void begin_record(struct crash *c, int kind, int sig)
{
	struct g *g = blamed();

	atomic_store(&c->valid, 0);
	c->kind = kind;
	c->signal = sig;
	c->code = 0;
	c->address = NULL;
	c->nframes = 0;
	c->stack_bytes = 0;
	memset(c->regs, 0, sizeof c->regs);
	c->message[0] = c->name[0] = 0;
	c->gid = g ? g->gid : 0;
	c->task = c->gid ? g->task->id : 0;
	if (c->gid && g->name)
		strncpy(c->name, g->name, sizeof c->name - 1);
	c->pid = getpid();
	c->worker = getm->seat;
}

static void keep_record(struct crash *c)
{
	c->when = wall_clock();
	atomic_store(&c->valid, 1);
}

/* As if the caller of who calls this had got a signal. frame: of that one. */
static void from_call(struct crash *c, void *const *frame)
{
	c->regs[REG_RIP] = (uint64_t)frame[1];
	c->regs[REG_RSP] = (uint64_t)(frame + 2);
	c->regs[REG_RBP] = (uint64_t)frame[0];
	if (c->gid)
		walk(c, getg(), c->regs[REG_RIP], c->regs[REG_RSP], c->regs[REG_RBP]);
}

void host_stack_damaged(struct g *g)
{
	struct crash *c = &getm->crash;

	begin_record(c, CRASH_SIGNAL, SIGSEGV);
	c->address = g->sp;
	if (win_valid(g->win) && below_stack(g, (uintptr_t)g->sp))
		overflow(c, g);
	else
		sh_format(c->message, sizeof c->message, "SIGSEGV: its stack pointer %p is outside of its stack",
			  g->sp);
	keep_record(c);
	die();
}

void host_raised(int sig)
{
	struct crash *c = &getm->crash;

	begin_record(c, CRASH_SIGNAL, sig);
	sh_format(c->message, sizeof c->message, "%s", sh_signal_name(sig));
	from_call(c, __builtin_frame_address(0));
	keep_record(c);
	die();
}

static volatile sig_atomic_t recording;

/* True: the context switch has met the alignment-check flag, which clean_flags looks for by a fault. */
static bool flags_clear_in(int sig, ucontext_t *uc)
{
	extern const unsigned char sh_switch_begin[], sh_switch_end[];
	greg_t *r = uc->uc_mcontext.gregs;
	const unsigned char *at = (const unsigned char *)r[REG_RIP];

	if (sig != SIGBUS || at < sh_switch_begin || at >= sh_switch_end || *at != LODSL ||
	    !(r[REG_EFL] & FLAGS_UNWANTED))
		return false;
	r[REG_EFL] &= ~FLAGS_UNWANTED;
	return true;
}

static void on_crash(int sig, siginfo_t *si, void *ucp)
{
	const greg_t *r = ((ucontext_t *)ucp)->uc_mcontext.gregs;
	struct crash *c = &getm->crash;
	struct g *g = getg();
	uintptr_t at = (uintptr_t)si->si_addr;

	flags_clean();
	if (flags_clear_in(sig, ucp))
		return;
	libcall_end_walk();
	if (recording++) { /* what the record is made of is damaged too: it stays as it is */
		keep_record(c);
		die();
	}
	if (sig == SIGSEGV && (window_fault(at) || libcall_returned(si, ucp) || sh_view_fault(si, ucp))) {
		recording = 0;
		return;
	}
	if (c->kind == CRASH_MISUSE && sig == SIGABRT) /* host_misuse has written it */
		die();
	if (g && atomic_load(&getm->oncpu) && !getm->locks && on_worker_thread() &&
	    signal_fault_divert(g, sig, si, ucp)) {
		recording = 0;
		return;
	}
	begin_record(c, CRASH_SIGNAL, sig);
	c->code = si->si_code;
	c->address = sig == SIGABRT ? NULL : si->si_addr;
	for (int i = 0; i < 23; i++)
		c->regs[i] = (uint64_t)r[i];
	sh_format(c->message, sizeof c->message, "%s at address %p", sh_signal_name(sig), c->address);
	if (c->gid && atomic_load(&getm->oncpu)) {
		if ((sig == SIGSEGV || sig == SIGBUS) && (below_stack(g, at) || below_stack(g, (uintptr_t)r[REG_RSP])))
			overflow(c, g);
		walk(c, g, (uintptr_t)r[REG_RIP], (uintptr_t)r[REG_RSP], (uintptr_t)r[REG_RBP]);
	} else {
		c->frame[0] = (void *)r[REG_RIP];
		c->nframes = 1;
	}
	keep_record(c);
	die();
}

/*
 * A new process has none of its code in its page tables: on_crash would spend most of its time in page
 * faults. What it calls is called once before.
 */
static void rehearse(void)
{
	struct crash *c = &getm->crash;

	begin_record(c, 0, SIGSEGV);
	sh_format(c->message, sizeof c->message, "%s at address %p", sh_signal_name(SIGSEGV), (void *)c);
	c->when = wall_clock();
}

void (*sh_outside_hook)(const char *what);

/*
 * A constructor is told by way of the zygote. A thread of the module's takes the worker along, and
 * the goroutine that runs on it now, whoever started the thread.
 */
void host_outside(const char *call)
{
	struct g *g = getm ? getg() : NULL;
	char text[200], line[300];
	size_t n;

	sh_format(text, sizeof text, "%s: called outside a goroutine", call);
	if (sh_outside_hook)
		sh_outside_hook(text);
	if (!g || !atomic_load(&getm->oncpu))
		sh_check_failed("shoal.h", 0, text);
	begin_record(&getm->crash, CRASH_MISUSE, SIGABRT);
	sh_format(getm->crash.message, sizeof getm->crash.message, "%s, by a thread in the worker of goroutine %lu",
		  text, (unsigned long)g->gid);
	from_call(&getm->crash, __builtin_frame_address(0));
	n = (size_t)snprintf(line, sizeof line, "shoal: %s\n", getm->crash.message);
	syscall(SYS_write, g->task->fd_err, line, n); /* not libc's: it would take us for the goroutine */
	keep_record(&getm->crash);
	die();
}

void host_misuse(const char *what)
{
	struct crash *c;
	struct g *g = getg();

	if (!getm || !getg() ||
	    !atomic_load(&getm->oncpu)) /* on g0 it may be told of the goroutine that was just left */
		sh_check_failed("shoal.h", 0, what);
	c = &getm->crash;
	begin_record(c, CRASH_MISUSE, SIGABRT);
	sh_format(c->message, sizeof c->message, "%s (goroutine %lu%s%.31s)", what, (unsigned long)g->gid,
		  g->name ? ", " : "", g->name ? g->name : "");
	from_call(c, __builtin_frame_address(0));
	output_dying = true;
	output_append(1, "shoal: ", 7);
	output_append(1, c->message, strlen(c->message));
	output_append(1, "\n", 1);
	keep_record(c);
	die();
}

static void on_check(const char *file, int line, const char *what)
{
	struct crash *c = &getm->crash;

	begin_record(c, CRASH_CHECK, SIGABRT);
	sh_format(c->message, sizeof c->message, "check failed: %s:%d: %s", file, line, what);
	from_call(c, __builtin_frame_address(0));
	keep_record(c);
	die();
}

void signals_start(void)
{
	static const int crashes[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};
	stack_t alt = {.ss_size = ALT_STACK};
	struct sigaction a = {.sa_sigaction = on_crash, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
	sigset_t none;

	alt.ss_sp = mmap(NULL, ALT_STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	sh_check(alt.ss_sp != MAP_FAILED && sigaltstack(&alt, NULL) == 0);
	stack_private(alt.ss_sp, ALT_STACK);
	/* A crash is to be told at once, not after page faults. */
	sh_populate((char *)alt.ss_sp + ALT_STACK - 16384, 16384);
	sh_populate(&getm->crash, sizeof getm->crash);
	sigaddset(&a.sa_mask, SIGURG); /* a fault that maps memory and the signal that unmaps it exclude each other */
	for (unsigned i = 0; i < sizeof crashes / sizeof *crashes; i++)
		sigaction(crashes[i], &a, NULL);
	sigemptyset(&a.sa_mask);
	preempt_start();
	libcall_start();
	a.sa_sigaction = preempt_signal;
	a.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
	sigaction(SIGURG, &a, NULL);
	arrivals_start();
	blocking_start();
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	atomic_store(&getm->crash.valid, 0);
	rehearse();
	sh_check_hook = on_check;
}
