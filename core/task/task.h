/*
 * task.h - what a user submits, and its record.
 *
 * OWNER  by state: FREE, QUEUED: the supervisor fills it; STARTING on: the runtime, until ENDED;
 *        ENDED: the supervisor, which answers for it and may use the slot again
 * DEATH  state is the commit of each step; every step may be done again
 *
 *   FREE -> QUEUED (supervisor, after loading the module, then sh_bell()) -> RUNNING (medic: heap
 *   and root G made) -> ENDING (whoever ended it: exit code and how are written before; a verdict
 *   whose author died there is carried out by the next who comes by, the medic at the latest) ->
 *   ENDED (medic: all Gs dead, memory back). The supervisor sees ENDED and tells who waits; or, if
 *   again is set (the root died and has attempts left), resets the module's globals and stores
 *   QUEUED once more.
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
struct waits;

#define TASK_SLOTS 16384
#define TASK_ARGS_SIZE (1ul << 20)

enum task_state { TASK_FREE, TASK_QUEUED, TASK_RUNNING, TASK_ENDING, TASK_ENDED };
/* All its goroutines sleep for good: found by the medic, their stacks are being written to its stderr by the supervisor, that is done. */
enum task_dead { TASK_DEAD_NO, TASK_DEAD_FOUND, TASK_DEAD_TOLD };
enum task_how {
	TASK_DONE,
	TASK_CRASHED,
	TASK_LOST,
	TASK_CANCELLED,
	TASK_TIMEOUT,
	TASK_AGAIN = 16 /* or'ed: its root starts anew */
};

/* Bits. Not at once: its goroutines are cancelled, and have a second to come to their ends. */
enum task_asked { ASKED_CANCEL = 1, ASKED_TIMEOUT = 2, ASKED_NOW = 4 };

/* How a G of the task ended that did not end well: remembered until the task ends. Block of the task's heap. */
struct tombstone {
	struct tombstone *next;
	uint64_t gid;
	struct shoal_end end;
};

#define TASK_POSIX_SIZE 768u /* worker/posix/own.h lays it out */

struct task_p { /* counters of a task on one P: written by the P's M only */
	uint64_t created, ended;
};

struct task {
	uint64_t id;
	_Atomic uint32_t state;
	_Atomic uint64_t verdict;  /* how it ends, by the first who said so; 0: nobody yet. See task_settle */
	_Atomic uint32_t how;	   /* enum task_how, from ENDING on */
	_Atomic int32_t exit_code; /* from ENDING on */
	int32_t signal;		   /* when crashed */
	uint32_t slot;
	uint32_t attempts;	  /* allowed */
	_Atomic uint32_t attempt; /* runs of the root so far; the supervisor stores 0 before the first */
	uint32_t ran;		  /* of these are over */
	uint32_t instance;	  /* of the module: supervisor's number */
	uint64_t load_gen;	  /* workers older than this cannot run it */
	/* text ranges of the module: asynchronous preemption only there. Filled by the zygote. */
	uintptr_t text_start, text_end;
	int (*entry)(int, char **);
	int32_t fd_out, fd_err, fd_cwd; /* in the workers' descriptor table; -1 */
	int32_t argc;			/* strings at task_args(): argc arguments, then nenv of K=V, each ended by 0 */
	int32_t nenv;
	uint32_t args_len;
	_Atomic uint32_t cancel; /* enum task_asked: asked to end. Supervisor sets, rings */
	int64_t grace_until;	 /* medic: then it is ended; 0: no grace has begun */
	int64_t cancel_next;	 /* medic: when it tells all goroutines (again) that they are cancelled */
	int64_t queued_ns, started_ns, ended_ns; /* CLOCK_REALTIME */
	char name[64], module[256], entry_name[64];
	char message[256]; /* one line on why it failed, or empty */

	struct sh_heap *heap;
	_Atomic(struct sh_heap *) reserve; /* made when heap has met the limit: stacks, tombstones */
	char **argv, **envp;		   /* in the heap */
	struct g *root;
	_Atomic uint32_t root_left; /* the root went by shoal_exit: the task ends with its last G */
	_Atomic uint32_t again;	    /* its root is to start again, with fresh memory and globals */
	uint32_t kicks;
	_Atomic uint32_t fds;  /* descriptors it has had: some may be open */
	uint32_t witness;      /* checkdead: index of a G that was not asleep for good */
	_Atomic uint32_t dead; /* enum task_dead */
	int64_t dead_ns;       /* when that was found */
	struct sh_lock lock;   /* tombstones, posix, a change of envp */
	struct tombstone *tombstones;
	_Alignas(16) char posix[TASK_POSIX_SIZE]; /* what the C library keeps for a process */
	_Atomic(struct waits *) waits;		  /* goroutines that wait for a word: semtable.c */
	uint32_t file_locks;			  /* its record locks, a list: core/task/filelock.h */
	struct task_out out[2];
	_Atomic uint64_t memory_used; /* at the end: what it had */
	uint64_t gs;		      /* at the end: goroutines it had */
	_Alignas(64) struct task_p per_p[64];
};

/*
 * queued: a bit for each slot that the medic has not seen QUEUED yet. Set by the supervisor before
 * it stores the state, cleared by the medic once it has the task; a medic that begins looks at all.
 */
struct task_table {
	_Atomic uint64_t queued[TASK_SLOTS / 64];
	struct task slot[TASK_SLOTS];
};

static inline char *task_args(const struct task *t)
{
	return (char *)SH_BASE + SH_OFF_ARGS + (uint64_t)t->slot * TASK_ARGS_SIZE;
}
void task_wake_writers(struct task *);	       /* medic: those that a raised limit lets go on */
uint64_t task_goroutines(const struct task *); /* alive now, about */
/* For what the runtime cannot do without when the limit is reached: from the arena's reserve. NULL: not even there. */
void *task_alloc_reserved(struct task *, size_t n);

/* The task is to end: exit code and how (enum task_how) are recorded, the medic is rung. First caller wins. */
void task_end(struct task *, unsigned how, int exit_code, int sig);
/*
 * Medic: the next step of a task's life: starts what is QUEUED, asks who is asked to end, reaps
 * what is ENDING; each step goes on where a medic that died left it. True: another step will come.
 * *news: there is something to tell the supervisor.
 */
bool task_step(struct task *, bool *news);
bool task_has_no_gs(struct task *); /* exact: no G of it lives */
void task_tombstone(struct task *, uint64_t gid, int how, int sig, void *address, int attempts);
bool task_tombstone_find(struct task *, uint64_t gid, struct shoal_end *); /* how a G ended that did not end well */

#endif
