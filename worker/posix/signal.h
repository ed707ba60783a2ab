/*
 * signal.h - signals as a task sees them.
 *
 * signal_queue.c keeps what a task and its goroutines have set and what is pending. signal.c sends and delivers,
 * signal_mask.c is about masks and about waiting, signal_action.c about dispositions and their historical names.
 */
#ifndef WORKER_POSIX_SIGNAL_H
#define WORKER_POSIX_SIGNAL_H

#include "worker/posix/posix.h"

#include <signal.h>
#include <ucontext.h>

#define SIG_BIT(sig) (1ull << ((sig)-1))
#define SIG_UNBLOCKABLE (SIG_BIT(SIGKILL) | SIG_BIT(SIGSTOP))
#define SIG_BUCKETS 64

/* A pending signal: a block of the task's heap. */
struct sig_entry {
	siginfo_t info;
	struct sig_entry *next;
};

/* What is pending, in the order in which it came: for a goroutine, or for any of a task. */
struct sig_queue {
	_Atomic uint64_t set; /* a bit for each number that may be in the list: never one too few */
	struct sig_entry *first;
};

/* Of a goroutine that has a mask, an alternate stack, or a signal of its own. Without one it blocks nothing. */
struct sig_thread {
	uint64_t gid;
	struct sig_thread *next; /* in its bucket */
	_Atomic uint64_t blocked;
	_Atomic uint64_t awaited; /* in sigwait: these */
	struct sig_queue pending;
	stack_t alt;		      /* ss_flags: SS_DISABLE, or 0 */
	uint32_t handled;	      /* handlers that it has run */
	uintptr_t fault_pc, fault_at; /* of the last fault whose handler returned */
	uint32_t faults;	      /* so many like it in a row */
};

struct timer;

/* Processor time of a task, as cputime.c estimates it. */
struct cputime {
	_Atomic int64_t total, seen[WORKERS_MAX]; /* seen: the clock of the worker in the seat at the last look */
	_Atomic uint32_t watchers;
};

/*
 * What a task says of its signals, and what is pending for it.
 * OWNER  the task, by own.signals; made by the first goroutine that needs it
 * LOCK   the task's: all lists. Masks are written by their goroutine alone
 * ORDER  set is stored before the list it tells of, blocked before set is read: a sender sees the mask, or the
 *        goroutine sees the signal
 * DEATH  each list is whole after each store; the bit of an entry that never came into the list is cleared by
 *        whoever looks for it. A handler that was being run is not run again
 */
struct signals {
	struct sigaction act[_NSIG];
	uint64_t interrupts; /* what siginterrupt says of a later signal() */
	struct sig_queue pending;
	struct sig_thread *bucket[SIG_BUCKETS];
	struct timer *timers; /* posix/timer.c */
	int timer_ids;
	struct cputime cpu;
};

/* ---- signal_queue.c ---- */
struct signals *signals_of(struct g *);				    /* makes it. NULL: there is no memory */
struct signals *signals_there(const struct task *);		    /* NULL: the task has never touched a signal */
struct sig_thread *sig_thread_find(struct signals *, uint64_t gid); /* Holds: the task's lock. NULL: it has none */
struct sig_thread *sig_thread_of(struct g *);		      /* of the current goroutine: makes it. NULL: no memory */
struct sig_thread *sig_thread_make(struct g *, uint64_t gid); /* of any goroutine of its task */
struct sig_thread *sig_thread_unlist(struct signals *, uint64_t gid); /* Holds: the task's lock */
struct sig_thread *sig_thread_here(struct g *);			      /* NULL: it has none */
uint64_t sig_blocked(struct g *);				      /* of the current goroutine */
void signals_lock(struct task *);
void signals_unlock(struct task *);
bool sig_queue_has(const struct sig_queue *, int sig);
/* Holds: the task's lock. e goes to the end of the list. */
void sig_queue_put(struct sig_queue *, struct sig_entry *e);
/* Holds: the lock. The first of the lowest number in the set, off the list; NULL: there is none. */
struct sig_entry *sig_queue_take(struct sig_queue *, uint64_t set);
void sig_queue_drop(struct g *, struct sig_queue *, uint64_t set); /* throws away what is pending of the set */

/* ---- signal.c ---- */
/* To any goroutine of g's task that does not block it. g: the current one. 0, or -1 and errno. */
int signal_send(struct g *g, int sig, int code, union sigval value);
/* The same with all that si_* say; task: any. g: the current goroutine, or NULL on g0. 0 or an error number. */
int signal_send_task(struct task *task, struct g *g, const siginfo_t *info);
/*
 * To one goroutine of the current one's task: pthread_kill, tgkill, pthread_sigqueue. sig 0 only asks whether it
 * lives. 0 or an error number: ESRCH, EINVAL, EAGAIN.
 */
int signal_send_goroutine(uint64_t gid, int sig, int code, union sigval value);
int signal_send_here(struct g *, const siginfo_t *); /* to the current goroutine */
bool signal_ignored(const struct signals *, int sig);
uint64_t signals_ignored(const struct task *); /* by SIG_IGN */
void signal_own_end(struct g *); /* the goroutine ends: what it had is freed, what it was to take goes to others */

/* ---- aio.c ---- */
void sh_aio_g_end(struct g *); /* the goroutine ends: it will not ask for results that wait for it */

/* Calls the task's handler on the current goroutine; context: as it is to be seen. False: there is none. */
bool signal_call(struct g *, int sig, siginfo_t *, ucontext_t *context);

/* ---- signal_fault.c ---- */
/* In the crash handler: true if the goroutine goes on in its handler once this signal handler returns. */
bool signal_fault_divert(struct g *, int sig, siginfo_t *, void *ucontext);
void signal_fault(int sig, siginfo_t *, void *ucontext);

/* ---- signal_action.c ---- */
bool signal_valid(int sig); /* else errno is EINVAL */

/* ---- signal_mask.c ---- */
void signal_set_mask(struct g *, uint64_t blocked); /* delivers what becomes unblocked. May park */
/* How its waits end: 0 no handler has run; else EINTR is due, unless all had SA_RESTART and the call restarts. */
bool signal_ends_call(int r, bool restarts);

#endif
