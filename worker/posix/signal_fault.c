/*
 * posix/signal_fault.c - faults for which the task has a handler.
 *
 * The kernel's handler runs on the worker's alternate stack and must come to its end there: it copies what the
 * kernel has saved to the goroutine's stack, or to its own alternate stack, and returns into signal_fault, which
 * calls the task's handler. When that returns, the goroutine goes on with the registers that it has left in its
 * ucontext, as POSIX wants. The handler may park meanwhile and return in another worker.
 */
#include "worker/posix/signal.h"
#include "worker/flags.h"
#include "worker/stacks.h"

#include <ucontext.h>

#define FAULTS_MAX 10000 /* of one instruction at one address, with no other fault between them */
#define ROOM 8192	 /* for the handler */
#define FP_LEGACY 512	 /* bytes of fxsave */
#define FP_SW 464	 /* in them: what the kernel says of the rest */
#define FP_MAGIC 0x46505853u

struct at_fault {
	siginfo_t info;
	ucontext_t context;
};

extern char __executable_start, etext;
_Noreturn void sh_signal_return(ucontext_t *);

static size_t fp_size(const void *fp)
{
	const uint32_t *sw = (const uint32_t *)((const char *)fp + FP_SW);

	return !fp ? 0 : sw[0] == FP_MAGIC ? sw[1] : FP_LEGACY;
}

/* A fault of the task's own: not of the runtime that works for it, and not sent by somebody. */
static bool is_its_own(int sig, const siginfo_t *si, uintptr_t pc)
{
	if (sig == SIGABRT) /* by abort, inside of libc */
		return si->si_code == SI_TKILL && si->si_pid == (pid_t)syscall(SYS_getpid);
	return si->si_code > 0 && pc - (uintptr_t)&__executable_start >= (uintptr_t)(&etext - &__executable_start);
}

/* Where the copy goes, which takes n bytes; 0: there is no room. */
static uintptr_t place_for(struct g *g, const struct sigaction *act, const stack_t *alt, uintptr_t sp, size_t n)
{
	bool on_alt = !(alt->ss_flags & SS_DISABLE) && sp - (uintptr_t)alt->ss_sp < alt->ss_size;
	uintptr_t bottom;

	if ((act->sa_flags & SA_ONSTACK) && !(alt->ss_flags & SS_DISABLE) && !on_alt)
		return alt->ss_size > n + ROOM / 4 ? ((uintptr_t)alt->ss_sp + alt->ss_size - n) & ~63ul : 0;
	if (!in_window(g, (void *)sp))
		return (sp - 128 - n) & ~63ul;
	bottom = stack_bottom(g);
	return sp > bottom + 128 + n + ROOM ? (sp - 128 - n) & ~63ul : 0;
}

/* In the crash handler. No lock: other workers may be changing the list, of which this reads one entry. */
bool signal_fault_divert(struct g *g, int sig, siginfo_t *si, void *ucp)
{
	ucontext_t *uc = ucp;
	greg_t *r = uc->uc_mcontext.gregs;
	struct signals *s = signals_there(g->task);
	struct sig_thread *t = s ? sig_thread_find(s, g->gid) : NULL;
	stack_t none = {.ss_flags = SS_DISABLE};
	size_t fp = fp_size(uc->uc_mcontext.fpregs), n = sizeof(struct at_fault) + 64 + fp;
	struct at_fault *copy;
	uintptr_t at;

	if (!s || s->act[sig].sa_handler == SIG_DFL || s->act[sig].sa_handler == SIG_IGN ||
	    (t && (atomic_load(&t->blocked) & SIG_BIT(sig))) || !is_its_own(sig, si, (uintptr_t)r[REG_RIP]))
		return false;
	at = place_for(g, &s->act[sig], t ? &t->alt : &none, (uintptr_t)r[REG_RSP], n);
	if (!at)
		return false;
	copy = (struct at_fault *)at;
	copy->info = *si;
	copy->context = *uc;
	if (fp) {
		void *to = (void *)((at + sizeof *copy + 63) & ~63ul);

		memcpy(to, uc->uc_mcontext.fpregs, fp);
		copy->context.uc_mcontext.fpregs = to;
	}
	r[REG_RIP] = (greg_t)signal_fault;
	r[REG_RSP] = (greg_t)at - 8;
	*(uintptr_t *)(at - 8) = 0;
	r[REG_RDI] = sig;
	r[REG_RSI] = (greg_t)&copy->info;
	r[REG_RDX] = (greg_t)&copy->context;
	r[REG_EFL] &= ~FLAGS_UNWANTED;
	return true;
}

/* A handler that returns and has mended nothing would be called for ever. */
static bool too_often(struct g *g, const siginfo_t *si, const ucontext_t *uc)
{
	struct sig_thread *t = sig_thread_of(g);
	uintptr_t pc = (uintptr_t)uc->uc_mcontext.gregs[REG_RIP], at = (uintptr_t)si->si_addr;

	if (!t)
		return true;
	t->faults = t->fault_pc == pc && t->fault_at == at ? t->faults + 1 : 0;
	t->fault_pc = pc;
	t->fault_at = at;
	return t->faults > FAULTS_MAX;
}

void signal_fault(int sig, siginfo_t *si, void *ucp)
{
	ucontext_t *uc = ucp;

	if (too_often(getg(), si, uc) || !signal_call(getg(), sig, si, uc) || sig == SIGABRT)
		host_raised(sig);
	/* What the kernel restores beside the registers is the worker's: no mask, and its alternate stack. */
	memset(&uc->uc_sigmask, 0, sizeof uc->uc_sigmask);
	syscall(SYS_sigaltstack, NULL, &uc->uc_stack);
	sh_signal_return(uc);
}
