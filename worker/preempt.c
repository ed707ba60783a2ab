/*
 * preempt.c - asynchronous preemption: a signal interrupts a goroutine in the middle of its computing.
 *
 * The signal goes to the worker's own thread. Its handler runs on the worker's alternate stack, where it
 * decides. If the goroutine stands in code of its module or of a library of it, holds nothing of the runtime
 * and has room on its stack, the handler makes the interrupted code call sh_preempted (preempt_x86_64.S),
 * which parks. If it stands in the C library or in the runtime, it does so once it returns (libcall.c).
 *
 * The frames of a coroutine that the program made itself (makecontext) lie outside the window. Then the
 * registers are saved at the bottom of the window, below all frames that the goroutine can have there.
 */
#include "worker/preempt.h"
#include "core/task/objects.h"
#include "worker/arrivals.h"
#include "worker/flags.h"
#include "worker/libcall.h"
#include "worker/posix/thread_cancel.h"
#include "worker/stacks.h"
#include "worker/view.h"
#include "worker/worker.h"

#include <cpuid.h>
#include <errno.h>
#include <ucontext.h>

#define RED_ZONE 128
#define SPARE 4096
#define ROOM 8192 /* for sh_preempt_here and all that it calls until the goroutine is left */

/* What iretq takes off the stack. */
struct interrupted {
	uint64_t rip, cs, flags, rsp, ss;
};

extern char sh_preempted[];
uint32_t sh_vector_size; /* bytes, for preempt_x86_64.S */
bool sh_has_xsave;

void preempt_start(void)
{
	unsigned a, b, c, d;

	sh_has_xsave = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_OSXSAVE) && __get_cpuid_count(13, 0, &a, &b, &c, &d);
	sh_vector_size = sh_has_xsave ? (b + 63) & ~63u : 512;
}

/* On the goroutine's stack, in place of a call that the interrupted code did not make. */
void sh_preempt_here(void);
void sh_preempt_here(void)
{
	gopreempt();
	thread_cancel_async(getg());
}

/* Where the registers can be saved; 0: there is no room. */
static uintptr_t place_for_registers(const struct g *g, uintptr_t sp)
{
	uintptr_t bottom = stack_bottom(g), top = (uintptr_t)stack_top(g->win);
	uintptr_t need = sizeof(struct interrupted) + 15 * 8 + 64 + sh_vector_size + ROOM;

	if (sp - bottom < top - bottom)
		return sp - bottom > RED_ZONE + need ? (sp - RED_ZONE) & ~15ul : 0;
	return top - bottom > 2 * need ? (bottom + need + 15) & ~15ul : 0;
}

bool preempt_has_room(const struct g *g, uintptr_t sp)
{
	return place_for_registers(g, sp - SPARE) != 0;
}

bool preempt_here(const struct g *g, void *ucp)
{
	greg_t *r = ((ucontext_t *)ucp)->uc_mcontext.gregs;
	uintptr_t at = place_for_registers(g, (uintptr_t)r[REG_RSP]);
	struct interrupted *i = (struct interrupted *)at - 1;

	if (!at)
		return false;
	*i = (struct interrupted){(uint64_t)r[REG_RIP], (uint16_t)r[REG_CSGSFS], (uint64_t)r[REG_EFL],
				  (uint64_t)r[REG_RSP], (uint64_t)r[REG_CSGSFS] >> 48};
	r[REG_RIP] = (greg_t)sh_preempted;
	r[REG_RSP] = (greg_t)i;
	r[REG_EFL] &= ~FLAGS_UNWANTED;
	return true;
}

void preempt_signal(int sig, siginfo_t *si, void *ucp)
{
	uintptr_t pc = (uintptr_t)((ucontext_t *)ucp)->uc_mcontext.gregs[REG_RIP];
	struct m *m = getm;
	struct g *g = getg();
	int err = errno;

	flags_clean();
	(void)sig;
	(void)si;
	if (on_worker_thread())
		sh_view_signal();
	errno = err;
	if (!g || !atomic_load_explicit(&m->oncpu, memory_order_relaxed) || !on_worker_thread())
		return;
	preempt_ask(g);
	if (arrivals_wait())
		atomic_fetch_or(&g->preempt, PREEMPT_SIGNAL);
	blocking_signal(g, ucp);
	errno = err;
	if (!m->locks && (sh_objects_text(g->task, pc) || sh_view_runs(pc)))
		preempt_here(g, ucp);
	else
		libcall_preempt(g, ucp);
	errno = err;
}
