/*
 * libcall.c - preemption of a goroutine that computes outside the code of its task: in the C library or in the
 * runtime. See libcall.h.
 *
 * There it cannot be switched out, because it may hold something that belongs to this process: a lock of the loader,
 * a vector register that a resolver is about to use, a note of the runtime. So the preemption signal takes the right
 * to execute from the text of the task in this worker. The next instruction of the task then faults, and the fault is
 * the preemption:
 *
 *      preemption signal                         the goroutine
 *   a  pc is in strlen, called by the task
 *   b  text of the task: not executable
 *   c  hands its P on, status says syscall    d  strlen computes, without a P
 *                                             e  returns: its first instruction faults
 *                                             f  text executable again, calls sh_preempted
 *                                             g  gopreempt: takes a P (exitsyscall), gives way
 *
 * The P is handed on (c) only if the unwinder finds that a function of the task called the C library directly. A
 * function of the runtime in between may count on the P, so then the fault alone does it. malloc and free, which the
 * C library calls itself, work without a P. All other calls of the runtime see the request in g->preempt first, and
 * gopreempt takes a P.
 *
 * OWNER  the process; only its worker thread changes `trapped`. In a process with more threads (a library may have
 *        made them with clone) nothing is done, because they run the same text
 * DEATH  goes with the process. m->computes is cleared by the next one
 */
#include "worker/libcall.h"
#include "core/task/objects.h"
#include "shm/kernel.h"
#include "shm/segment.h"
#include "worker/preempt.h"
#include "worker/stacks.h"
#include "worker/posix/thread.h"
#include "worker/worker.h"

#include <link.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unwind.h>

#define LIBRARIES 8
#define FRAMES 64 /* the C library does not nest deeper on its own */

/* Text of the C library. Not libgcc_s: the unwinder itself may hold its lock. */
static struct {
	uintptr_t from, to;
} library[LIBRARIES];
static unsigned nlibraries;

static const struct objects *trapped; /* their text is not executable; NULL: none */

static int note_library(struct dl_phdr_info *i, size_t size, void *arg)
{
	static const char *const names[] = {"libc.so", "libm.so", "ld-linux", "linux-vdso"};
	const char *slash = strrchr(i->dlpi_name, '/'), *name = slash ? slash + 1 : i->dlpi_name;

	(void)size;
	(void)arg;
	for (unsigned k = 0; k < sizeof names / sizeof *names; k++) {
		if (strncmp(name, names[k], strlen(names[k])) != 0)
			continue;
		for (unsigned n = 0; n < i->dlpi_phnum && nlibraries < LIBRARIES; n++) {
			const ElfW(Phdr) *p = &i->dlpi_phdr[n];

			if (p->p_type != PT_LOAD || !(p->p_flags & PF_X))
				continue;
			library[nlibraries].from = i->dlpi_addr + p->p_vaddr;
			library[nlibraries++].to = i->dlpi_addr + p->p_vaddr + p->p_memsz;
		}
	}
	return 0;
}

static bool in_library(uintptr_t pc)
{
	for (unsigned i = 0; i < nlibraries; i++)
		if (pc - library[i].from < library[i].to - library[i].from)
			return true;
	return false;
}

/* ---- who called the C library ---- */

/*
 * The unwinder believes the tables of the C library. Some of its assembler functions (of printf's long numbers) have
 * wrong ones, so a walk may read anywhere. A fault during the walk ends it.
 */
static volatile sig_atomic_t walking;
static void *after_walk[5];

void libcall_end_walk(void)
{
	if (!walking)
		return;
	walking = 0;
	__builtin_longjmp(after_walk, 1);
}

/* A call ends just before this address. */
static bool is_return_address(const unsigned char *pc)
{
	if (pc[-5] == 0xe8)
		return true;
	for (int n = 2; n <= 7; n++) /* ff /2, with its operand's bytes */
		if (pc[-n] == 0xff && (pc[-n + 1] & 0x38) == 0x10)
			return true;
	return false;
}

struct caller {
	const struct g *g;
	uintptr_t pc;	  /* where the signal interrupted */
	uintptr_t at, sp; /* the function of the task that called; 0: another one did */
	unsigned frames;
	bool inside; /* the walk has left the frames of the handler */
};

static _Unwind_Reason_Code look_at_frame(struct _Unwind_Context *c, void *arg)
{
	struct caller *w = arg;
	uintptr_t pc = _Unwind_GetIP(c);

	if (++w->frames > FRAMES)
		return _URC_END_OF_STACK;
	if (!w->inside) {
		w->inside = pc == w->pc;
		return _URC_NO_REASON;
	}
	if (in_library(pc))
		return _URC_NO_REASON;
	if (sh_objects_text(w->g->task, pc) && is_return_address((const unsigned char *)pc)) {
		w->at = pc;
		w->sp = _Unwind_GetCFA(c);
	}
	return _URC_END_OF_STACK;
}

static _Unwind_Reason_Code first_frame(struct _Unwind_Context *c, void *arg)
{
	(void)c;
	(void)arg;
	return _URC_END_OF_STACK;
}

void libcall_start(void)
{
	nlibraries = 0;
	trapped = NULL;
	getm->computes = 0;
	dl_iterate_phdr(note_library, NULL);
	_Unwind_Backtrace(first_frame, NULL); /* what it does once, it does here and not in a handler */
}

/* ---- the text of the task ---- */

static void protect(const struct objects *s, int prot)
{
	for (unsigned i = 0; i < s->n; i++) {
		uintptr_t from = s->object[i].text & ~(SH_PAGE - 1),
			  to = (s->object[i].text_end + SH_PAGE - 1) & ~(SH_PAGE - 1);

		sh_check(kernel_mprotect((void *)from, to - from, prot) == 0);
	}
}

static void set_trap(const struct task *t)
{
	const struct objects *s = sh_objects_of(t);

	if (s == trapped)
		return;
	if (trapped)
		protect(trapped, PROT_READ | PROT_EXEC);
	trapped = s;
	if (s)
		protect(s, PROT_READ);
}

static __attribute__((noinline)) void walk_frames(struct caller *w)
{
	if (__builtin_setjmp(after_walk)) {
		w->at = 0;
		return;
	}
	walking = 1;
	_Unwind_Backtrace(look_at_frame, w);
	walking = 0;
}

/* Another worker runs goroutines with its P while it computes. */
static void hand_on(struct g *g, ucontext_t *u)
{
	struct caller w = {.g = g, .pc = (uintptr_t)u->uc_mcontext.gregs[REG_RIP]};

	if (g_state(g) != G_RUNNING || !in_library(w.pc))
		return;
	walk_frames(&w);
	if (w.at && preempt_has_room(g, (uintptr_t)u->uc_mcontext.gregs[REG_RSP]))
		entersyscall_computing(w.at, w.sp);
}

void libcall_preempt(struct g *g, void *ucontext)
{
	if (thread_real_ones || !sh_objects_of(g->task))
		return;
	set_trap(g->task);
	if (!getm->locks)
		hand_on(g, ucontext);
}

bool libcall_returned(const siginfo_t *si, void *ucontext)
{
	struct g *g = getg();
	uintptr_t pc = (uintptr_t)((ucontext_t *)ucontext)->uc_mcontext.gregs[REG_RIP];

	if (!trapped || si->si_code != SEGV_ACCERR || (uintptr_t)si->si_addr != pc || !on_worker_thread())
		return false;
	protect(trapped, PROT_READ | PROT_EXEC);
	trapped = NULL;
	if (!g || getm->locks || !atomic_load_explicit(&getm->oncpu, memory_order_relaxed) ||
	    !atomic_load_explicit(&g->preempt, memory_order_relaxed))
		return true;
	/* A callback may stand so deep that there is no room. Without a P it cannot go on: then it has overflowed. */
	return preempt_here(g, ucontext) || !atomic_load(&getm->computes);
}
