/*
 * host.h - the functions that the core calls in the process that runs it.
 *
 * The functions are bound at link time: the worker implements them with real stacks, signals and libuv,
 * the simulation with a seeded scheduler in one process.
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
 * Leaves the current goroutine: saves its registers on its stack and its stack pointer in g->sp, then
 * calls fn(g) on g0. fn returns the G to enter, which continues where it left, or, if it has no sp yet,
 * begins with gmain(g) at the top of its window. Returns when the G is entered again, perhaps in another
 * process.
 */
void host_mcall(struct g *(*fn)(struct g *));
_Noreturn void host_mexit(struct g *(*fn)(struct g *)); /* host_mcall for a goroutine that ends */

/* lowest address of the window, or of the thread's stack, as goroutines see it; the next three likewise */
char *host_window(uint32_t win);
/* the memory behind the window of that seat, as every process sees it */
char *host_region(unsigned seat, uint32_t win);
size_t host_window_size(uint32_t win);
void host_window_guard(uint32_t win, size_t stack_max); /* from now on the page below the limit faults */

/*
 * The memory behind a window address of this worker. Only simulated workers need a translation: they share a
 * process.
 */
#if defined(SHOAL_SIM)
char *host_here(const void *at);
extern uint32_t sim_windows; /* the simulation uses few windows, so that Gs displace each other */
#define HOST_WINDOWS sim_windows
bool host_must_leave(void);
static inline bool host_on_stack(void)
{
	return getg() != NULL;
}
#else
bool host_on_other_stack(void); /* a stack that the program made, for instance for makecontext */
/* True if the caller is the code of a goroutine; false in a constructor or in a library's own thread. */
static inline bool host_on_stack(void)
{
	/* windows, and stacks of threads above them */
	return __builtin_expect((uintptr_t)__builtin_frame_address(0) - SH_WIN_BASE <
					SH_STACKS + SH_STACKS_SIZE - SH_WIN_BASE,
				1) ||
	       host_on_other_stack();
}
/* True if this process was asked to leave, or lacks a module that was loaded after its start. */
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
/*
 * Sleeps until host_wake, until the time (monotonic ns; 0: no limit), or until a descriptor makes a goroutine
 * ready.
 */
void host_idle(int64_t until);
void host_nap(int64_t ns);     /* sleeps; host_wake does not end it */
void host_wake(unsigned seat); /* ends host_idle of that worker */
void host_works(void);	       /* the worker has something to run, perhaps after a sleep */
unsigned host_poll(void);      /* netpoll without waiting: makes goroutines ready; returns how many */
void host_bell(void);	       /* wakes the medic */
/* true if this process lacks the workers' descriptors: the medic wakes workers on its behalf */
extern bool host_foreign;
void host_barrier(void);       /* a full memory barrier in every process that runs goroutines */
void host_kick(unsigned seat); /* sends the preemption signal */
void host_kill(unsigned seat); /* SIGKILL */
enum host_doing { HOST_GONE, HOST_RUNS, HOST_SLEEPS, HOST_STOPPED };
/*
 * Returns the state of the process in the seat: it runs or is ready to run, sleeps in a call, is stopped, or has
 * ended. Stores its processor time in *cpu_ns.
 */
enum host_doing host_doing(unsigned seat, int64_t *cpu_ns);
enum signals_ran { SIGNALS_NONE, SIGNALS_RESTART, SIGNALS_INTERRUPT };
/* On the stack of g: runs the handlers of signals that wait for it. INTERRUPT: one of them without SA_RESTART. */
enum signals_ran host_signals(struct g *);
void host_g_inherit(struct g *parent, struct g *child); /* child: not runnable yet; parent->signals or GF_OWN is set */
void host_task_start(struct task *);   /* medic: what the worker keeps for a task, as in a fresh process */
void host_task_changed(struct task *); /* medic: workers turn to it anew */
void host_switch_task(struct task *);  /* makes this process the task's: environment, working directory, streams */
void host_before_run(struct g *);      /* loads what POSIX keeps per process and Shoal per task */
void host_off_cpu(struct
		  /*
	 * its frames are complete and it is about to leave this worker: saves a root's share of libc's
	 * variables
	 */
		  g *);
void host_before_park(struct g *); /* writes what must not stay in the process */
_Noreturn void host_die(void);	   /* ends the process as a crash does, without a crash record */
_Noreturn void host_leave(void);   /* ends the process in good order; a new one takes the seat */
void host_task_begin(struct g *);  /* on the stack of the root, before the entry of the task: constructors */
/* on the G's stack, after main returned or exit was called: exit handlers, streams */
void host_task_exit(struct g *);
void host_g_end(struct g *); /* on the G's stack, at its end: writes the output that it still holds */
/* on any stack, at the end of the G: writes a line that it had begun before it parked */
void host_part_end(struct g *);
/* medic: writes what the dead worker had not yet given to the file; g is NULL if none ran there */
void host_output_finish(unsigned seat, struct g *);
/* medic: completes a write that a death cut short. Holds: the lock, in the dead worker's name */
void host_output_repair(struct sh_lock *);
void host_file_close(int fd);
/* releases the record locks that were taken through this descriptor; whole: the flock as well */
void host_file_unlock(int fd, bool whole);
bool host_file_open(int fd); /* true if the descriptor is open */
/* what is wrong with the worker there, as far as other processes can see; NULL: nothing */
const char *host_seat_fault(unsigned seat);
/* host_misuse where there is no goroutine: in a constructor or a library's thread */
_Noreturn void host_outside(const char *call);
_Noreturn void host_raised(int sig); /* ends the current goroutine as a crash by this signal */
/* ends a claimed goroutine that is not entered, as a crash: its sp is outside of its window */
_Noreturn void host_stack_damaged(struct g *);
/* ends the current goroutine as a crash by SIGABRT, with this message */
_Noreturn void host_misuse(const char *what);
int *host_errno(void);

#endif
