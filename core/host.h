/*
 * host.h - what a process lends the core. Bound at link time: the worker implements it with real
 * stacks, signals and libuv; the simulation with a seeded scheduler in one process.
 */
#ifndef CORE_HOST_H
#define CORE_HOST_H

#include "core/sched/m.h"
#include "shm/segment.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct g;
struct sh_lock;
struct task;

/*
 * Leaves the current goroutine: registers to its stack, sp to g->sp, then fn(g) on g0, which returns
 * the one to enter: where it left, or, if it has no sp yet, with gmain(g) at the top of its window.
 * Returns when the G is entered again, perhaps in another process.
 */
void host_mcall(struct g *(*fn)(struct g *));
_Noreturn void host_mexit(struct g *(*fn)(struct g *)); /* the same for one that does not come back */

char *host_window(uint32_t win);		/* lowest address of the window, as goroutines see it */
char *host_region(unsigned seat, uint32_t win); /* the same memory of any seat, as every process sees it */
size_t host_window_size(uint32_t win);
void host_window_guard(uint32_t win, size_t stack_max); /* the page below the limit faults from now on */

/* Where the memory of a window address of this worker really is: there, but for simulated workers, who share a process. */
#if defined(SHOAL_SIM)
char *host_here(const void *at);
extern uint32_t sim_windows; /* so few windows are used that Gs are in each other's way */
#define HOST_WINDOWS sim_windows
bool host_must_leave(void);
static inline bool host_on_stack(void)
{
	return getg() != NULL;
}
#else
bool host_on_other_stack(void); /* a stack that the program has made, for instance by makecontext */
/* The code of a goroutine calls: not a constructor, nor a thread that a library has made. */
static inline bool host_on_stack(void)
{
	return __builtin_expect((uintptr_t)__builtin_frame_address(0) - SH_WIN_BASE < SH_WIN_SPAN, 1) ||
	       host_on_other_stack();
}
/* This process is asked to go, or a module was loaded that it does not have. */
static inline bool host_must_leave(void)
{
	const struct sh_seat *s = &sh_root->seat[getm->seat];

	return atomic_load_explicit(&((struct sh_seat *)s)->leave, memory_order_relaxed) ||
	       atomic_load_explicit(&sh_root->load_gen, memory_order_relaxed) > s->load_gen;
}
static inline char *host_here(const void *at)
{
	return (char *)at;
}
#define HOST_WINDOWS WIN_COUNT
#endif

int64_t host_now(void);
/* Sleeps until woken (host_wake), until the time, or until a descriptor makes a goroutine ready. until: ns, 0 for ever. */
void host_idle(int64_t until);
void host_nap(int64_t ns);     /* sleeps, and nobody wakes it */
void host_wake(unsigned seat); /* makes host_idle of that worker return */
void host_works(void);	       /* it has something to run, perhaps after a sleep */
unsigned host_poll(void);      /* non-blocking netpoll: readies what is ready; how many */
void host_bell(void);	       /* wakes the medic */
extern bool host_foreign;      /* this process does not share the workers' descriptors: the medic wakes for it */
void host_barrier(void);       /* a full memory barrier in every process that runs goroutines */
void host_kick(unsigned seat); /* preemption signal */
void host_kill(unsigned seat); /* SIGKILL: it will not come back */
enum host_doing { HOST_GONE, HOST_RUNS, HOST_SLEEPS, HOST_STOPPED };
/* What the kernel says of the process there: runs or would like to, sleeps in a call, was stopped; and the processor time it has had. */
enum host_doing host_doing(unsigned seat, int64_t *cpu_ns);
void host_task_start(struct task *);  /* medic: what the worker keeps of a task, as for a fresh process */
void host_switch_task(struct task *); /* environ, working directory, output */
void host_before_run(struct g *);     /* gives it what POSIX keeps per process and we per task */
void host_off_cpu(
	struct
	g *); /* its frames are whole, and in a moment it is nobody's: a root's share of libc's variables is put down */
void host_before_park(struct g *); /* flushes what must not stay in the process */
_Noreturn void host_leave(void);   /* ends the process in good order; another takes the seat */
void host_task_begin(struct g *);  /* on the root's stack, before its entry: constructors */
void host_task_exit(struct g *);   /* on the G's stack, main has returned or exit was called: handlers, streams */
void host_g_end(struct g *);	   /* on the G's stack, at its end: output it still holds */
void host_part_end(struct g *);	   /* anywhere, at its end: a line that it had begun before it parked */
void host_output_finish(unsigned seat,
			struct g *); /* medic: what the dead worker had not given to the file; NULL: nothing ran */
void host_output_repair(struct sh_lock *); /* medic: a write that a death cut short. Holds: the lock, for the dead */
void host_file_close(int fd);
void host_file_unlock(int fd, bool whole); /* all locks made through it; whole: flock as well */
bool host_file_open(int fd);		   /* something is behind the number */
const char *host_seat_fault(
	unsigned seat); /* what is wrong with the worker there, as far as others see it; NULL: nothing */
_Noreturn void host_outside(const char *call); /* the same where there is no goroutine: in a constructor, in a thread */
_Noreturn void host_raised(int sig);	       /* ends the current goroutine as a crash with this signal */
_Noreturn void host_stack_damaged(
	struct g *); /* ends a goroutine of ours that does not run, as a crash: its sp is outside of its stack */
_Noreturn void host_misuse(const char *what); /* ends the current goroutine as a crash with SIGABRT */
int *host_errno(void);

#endif
