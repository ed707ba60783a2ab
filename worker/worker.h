/*
 * worker.h - what the files of the worker share.
 */
#ifndef WORKER_WORKER_H
#define WORKER_WORKER_H

#include "core/g/api.h"
#include "core/g/g.h"
#include "core/g/names.h"
#include "core/g/stack.h"
#include "core/host.h"
#include "core/process.h"
#include "core/repair/crash.h"
#include "core/root.h"
#include "core/sched/m.h"
#include "core/sched/netpoll.h"
#include "core/sched/pin.h"
#include "core/sched/preempt.h"
#include "core/sched/proc.h"
#include "core/sched/syscall.h"
#include "core/shoal.h"
#include "core/sync/cancel.h"
#include "core/sync/mutex.h"
#include "core/sync/semtable.h"
#include "core/task/task.h"
#include "shm/check.h"
#include "shm/heap.h"
#include "shm/kill.h"
#include "shm/lock.h"
#include "shm/segment.h"

#include <signal.h>

/* switch_x86_64.S. fn runs on g0 and returns the G to enter. */
void sh_mcall(struct g *, struct g *(*fn)(struct g *), char *g0_top);
_Noreturn void sh_mexit(struct g *, struct g *(*fn)(struct g *), char *g0_top);
char *sh_first_top(struct g *);
_Noreturn void sh_mstart(char *g0_top, struct g *(*fn)(unsigned), unsigned arg);

void sh_call_on(char *top, void (*fn)(void *), void *arg); /* fn runs on another stack */

void windows_map(unsigned seat);
void loop_start(unsigned seat);	 /* the worker's libuv loop and its eventfd */
void sh_timer_slack(bool usual); /* how late a timer may be: as it was, for a program that is started; or not at all */
void signals_start(void);
void thread_end(
	struct g *); /* posix/thread.c: destructors of variables and keys; tells joiners. On its stack. May park */
void blocking_start(void); /* blocking.c */
void blocking_tick(void);  /* SIGURG each millisecond, until arrivals are passed on and no call is under way */
void blocking_signal(struct g *, void *ucontext); /* in the handler: may end the call that the G is in */
bool children_left(void);			  /* programs that this worker has started and that have not ended */
/*
 * Writes to stdout (0) or stderr (1) of the task. On a G. Parks while readers are behind. How many bytes it
 * took: fewer than n if the goroutine was cancelled meanwhile; -1 and errno: ECANCELED, or an earlier write failed.
 */
ssize_t output_append(int stream, const void *data, size_t n);
ssize_t output_written(int stream, ssize_t r); /* after it, if a system call wrote: what the call returns */
void output_flush(struct g *, bool all);
extern bool output_dying; /* its last words: it waits for nobody to read them */
void process_start(void); /* posix/process.c: an exit inside of libc is the task's */
void iconv_start(void);	  /* posix/iconv.c */
void process_state_start(void);
void process_state_input(struct task *); /* stdin is the task's */
/* Around a change: the goroutine's task, locked; NULL off a goroutine. */
struct task *process_state_begin(void);
void process_state_end(struct task *, bool changed);
void process_state_mapped(struct task *); /* the same after a change of its mappings */
void environ_left(struct g *);		  /* posix/environ.c: the task may have assigned another list to environ */
int streams_flush(struct g *);		  /* what its task's streams hold goes to the files */

/*
 * The goroutine whose code is running; NULL on g0, in a thread that a library has made, in the zygote and the
 * supervisor. On a goroutine memory comes from the segment, and calls that block park.
 */
static inline __attribute__((always_inline)) struct g *on_g(void)
{
	return host_on_stack() ? getg() : NULL;
}

void *pages_take(size_t n); /* on a G: whole pages of zeros from the task's heap, or NULL and ENOMEM */
void pages_give(void *);
extern bool malloc_is_private; /* jemalloc is at work, though we stand on a G */

#endif
