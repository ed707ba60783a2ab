/*
 * task.h - the record of a task: what a user submits.
 *
 *            supervisor              medic              any goroutine          medic
 *   FREE -------------> QUEUED ---------------> RUNNING --------------> ENDING ------> ENDED
 *            module loaded,      heap and root          verdict,                 all Gs dead,
 *            then sh_bell()      are made               how, exit code           memory back
 *                          ^                                                       |
 *                          +---- again: supervisor resets the globals -------------+--> FREE
 */
#ifndef CORE_TASK_TASK_H
#define CORE_TASK_TASK_H

#include "core/task/out.h"
#include "shm/segment.h"
#include "core/shoal.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

struct g;
struct map_space;
struct waits;

#define TASK_SLOTS 16384
#define TASK_ARGS_SIZE (1ul << 20)

enum task_state { TASK_FREE, TASK_QUEUED, TASK_RUNNING, TASK_ENDING, TASK_ENDED };
/*
 * All goroutines sleep for good: found by the medic; the supervisor has written their stacks to the task's
 * stderr.
 */
enum task_dead { TASK_DEAD_NO, TASK_DEAD_FOUND, TASK_DEAD_TOLD };
enum task_how {
	TASK_DONE,
	TASK_CRASHED,
	TASK_LOST,
	TASK_CANCELLED,
	TASK_TIMEOUT,
	TASK_AGAIN = 16 /* or'ed to the others: the root starts anew */
};

/* Bits. Without NOW its goroutines are cancelled and have a second to end. */
enum task_asked { ASKED_CANCEL = 1, ASKED_TIMEOUT = 2, ASKED_NOW = 4 };

/*
 * How a G ended that did not end well. A block of the task's heap, kept until the task ends.
 * OWNER  the task
 * LOCK   task->lock guards the list
 * ORDER  complete before it is linked
 * DEATH  linked by one store: it is in the list or not
 */
struct tombstone {
	struct tombstone *next;
	uint64_t gid;
	struct shoal_end end;
};

#define HELD_AFTER 3	     /* so many crashes in a row have no delay */
#define TASK_POSIX_SIZE 768u /* worker/posix/own.h lays it out */

/*
 * Counters of a task for one P.
 * OWNER  the worker that has the P
 * LOCK   none
 * ORDER  created before the G exists, ended after it is dead: see task_live
 * DEATH  notes made and ended_value say what the counters become
 */
struct task_p { /* counters of a task for one P, written only by the worker that has the P */
	uint64_t created, ended;
};

/*
 * The record of a task.
 * OWNER  by state: FREE, QUEUED: the supervisor fills it in; RUNNING, ENDING: the runtime; ENDED: the
 *        supervisor, which answers those that wait and may then use the slot again
 * LOCK   lock guards tombstones, posix, file_locks and a change of envp
 * ORDER  state is stored last in each step; its readers load it first
 * DEATH  state is the commit of each step, and every step may be done again. A verdict whose author died is
 *        carried out by the next caller of task_settle, the medic at the latest
 */
struct task {
	uint64_t id;
	_Atomic uint32_t state;
	_Atomic uint64_t verdict;  /* how it ends, by the first that said so; 0: not decided. See task_settle */
	_Atomic uint32_t how;	   /* enum task_how, valid from ENDING on */
	_Atomic int32_t exit_code; /* valid from ENDING on */
	int32_t signal;		   /* if it crashed */
	uint32_t slot;
	uint32_t attempts;	  /* how many are allowed */
	_Atomic uint32_t attempt; /* runs of the root so far; the supervisor stores 0 before the first */
	uint32_t ran;		  /* runs of the root that are over */
	uint32_t instance;	  /* the supervisor's number of the loaded module */
	uint64_t load_gen;	  /* a worker that was cloned earlier cannot run it */
	/* Text of the module: only there a goroutine is preempted by a signal. Filled in by the zygote. */
	uintptr_t text_start, text_end;
	int (*entry)(int, char **, char **);
	int32_t fd_out, fd_err, fd_cwd; /* in the workers' descriptor table; -1: none */
	int32_t argc; /* strings at task_args(): argc arguments, then nenv of K=V, each ended by a 0 */
	int32_t nenv;
	uint32_t args_len;
	_Atomic uint32_t cancel; /* enum task_asked: asked to end. The supervisor sets it and rings the medic */
	int64_t grace_until;	 /* medic: the end of the grace period; 0: none has begun */
	int64_t cancel_next;	 /* medic: when it cancels all goroutines once more */
	int64_t queued_ns, started_ns, ended_ns; /* CLOCK_REALTIME */
	char name[64], module[256], entry_name[64];
	char message[256]; /* one line: why it failed; or empty */

	_Atomic(struct map_space *) maps; /* its mappings; NULL: it has made none */
	struct sh_heap *heap;
	_Atomic(struct sh_heap *) reserve; /* used for stacks and tombstones when heap has met the limit */
	char **argv, **envp;		   /* in the heap */
	struct g *root;
	_Atomic uint32_t root_exited; /* the root ended by shoal_exit: the task ends with its last G */
	uint32_t finishing;	      /* then: the goroutine that runs the handlers of exit has been made */
	uint32_t crashes;	      /* of its goroutines while it went on: hold.c */
	int64_t crash_ns[HELD_AFTER];
	_Atomic int64_t paused_until; /* what may crash again does not start before; 0: it may */
	_Atomic uint32_t again;	      /* the root is to start again, with fresh memory and globals */
	uint32_t kicks;
	_Atomic uint32_t fds;  /* how many descriptors it has had: some may be open */
	uint32_t witness;      /* checkdead: index of a G that was not asleep for good */
	_Atomic uint32_t dead; /* enum task_dead */
	int64_t dead_ns;       /* when that was found */
	struct sh_lock lock;   /* guards tombstones, posix, file_locks, a change of envp */
	struct tombstone *tombstones;
	_Alignas(16) char posix[TASK_POSIX_SIZE]; /* what the C library keeps for a process */
	_Atomic(struct waits *) waits;		  /* goroutines that wait for a word: semtable.c */
	uint32_t file_locks;			  /* its record locks, a list: core/task/filelock.h */
	struct task_out out[2];
	_Atomic uint64_t memory_used; /* at its end: bytes that it had */
	uint64_t gs;		      /* at its end: goroutines that it had */
	_Atomic uint32_t programs;    /* it has started some: they end with it. shm/offspring.h */
	int64_t programs_until;	      /* medic: how long it waits for their end; 0: it has not ended them yet */
	_Alignas(64) struct task_p per_p[64];
};

/*
 * All tasks.
 * OWNER  queued: a bit for each slot that the medic has not seen QUEUED
 * LOCK   none
 * ORDER  the supervisor sets the bit, then stores the state; the medic clears it after it has the task
 * DEATH  a new medic looks at all slots
 */
struct task_table {
	_Atomic uint64_t queued[TASK_SLOTS / 64];
	_Atomic uint64_t library[TASK_SLOTS / 64]; /* a bit for each slot that asks for one: core/task/library.h */
	struct task slot[TASK_SLOTS];
};

static inline char *task_args(const struct task *t)
{
	return (char *)SH_BASE + SH_OFF_ARGS + (uint64_t)t->slot * TASK_ARGS_SIZE;
}
void task_wake_writers(struct task *);	       /* medic: lets writers go on whose limit was raised */
uint64_t task_goroutines(const struct task *); /* alive now; approximate */
/*
 * For what the runtime needs even if the limit is reached: from the arena's reserve. NULL: that is used up
 * too.
 */
void *task_alloc_reserved(struct task *, size_t n);

/*
 * The task is to end: records how (enum task_how) and the exit code, and rings the medic. The first caller
 * wins.
 */
void task_end(struct task *, unsigned how, int exit_code, int sig);
/*
 * medic: the next step in the life of a task: starts it if QUEUED, asks it to end if requested, reaps it if ENDING.
 * Each step continues where a medic that died left it. True: another step will follow. *news: there is
 * something to tell the supervisor.
 */
bool task_step(struct task *, bool *news);
bool task_has_no_gs(struct task *); /* exact: no G of the task is alive */
void task_tombstone(struct task *, uint64_t gid, int how, int sig, void *address, int attempts);
/* how a G ended that did not end well; false: it ended well */
bool task_tombstone_find(struct task *, uint64_t gid, struct shoal_end *);

#endif
