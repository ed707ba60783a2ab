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

#include "shm/segment.h"
#include "core/shoal.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

struct g;

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

#define TASK_LOCALE 256
/*
 * What POSIX and libc keep per process, and a worker sets for the task that it runs: worker/. Fresh
 * with each start.
 * LOCK   the task's
 */
struct task_own {
	uint64_t state; /* another number after each change of it, or of envp */
	int32_t fd_cwd; /* where chdir went; -1: where it began */
	uint32_t umask, has_umask;
	uint32_t environ_room;	     /* of the list at envp; 0: the first one, which has none to spare */
	char locale[TASK_LOCALE];    /* of all categories; empty: "C" */
	void *streams;		     /* open ones */
	char *strtok, *optarg;	     /* libc's variables of that use */
	struct tm tm;		     /* what localtime and gmtime give out */
	char asctime[64];	     /* and asctime, ctime */
	_Atomic(void *) host;	     /* what gethostbyname gives out */
	_Atomic(void *) user, group; /* what getpwnam, getgrnam and their like give out */
	void *random;		     /* the sequence of rand() */
	void *handlers;		     /* atexit's, */
	void *quick_handlers;	     /* and at_quick_exit's */
	_Atomic(void *) keys;	     /* of pthread_key_create */
	_Atomic(void *) signals;     /* handlers, mask, what is pending */
	_Atomic(void *) alarm;	     /* the timer of setitimer */
	_Atomic(void *) waits;	     /* who waits for locks of libc's: semtable.c */
	uint32_t locks;		     /* on files: core/task/filelock.h */
	_Atomic uint32_t threads;    /* it has made some: they may hold such locks, and tell nobody */
	void *in;		     /* what freopen made of stdin; NULL: the null device */

	/* So many objects of the instance have had their constructors called. */
	_Atomic uint32_t constructed;
};

/*
 * How far a stream may grow: a task that writes faster than an attached reader reads is held back.
 *
 *   0         dropped      slowest reader          size        limit
 *   |-- gone --|--- kept ---|------- unread --------|-- room ----|   size > limit: writers wait
 *
 * The supervisor knows the readers and sets limit; a worker compares before it writes and parks the
 * goroutine. A write that has begun is made to its end, so size exceeds limit by a buffer at most.
 *
 * OWNER  size, woken: the writer under the lock of the stream; the medic. All others: the supervisor
 * LOCK   none. Waiters are in the task's table of waits, at the address of limit
 * ORDER  the supervisor stores limit, then raised, then rings the medic, which wakes the waiters and then
 *        stores woken. A waiter reads limit under the lock of the queue that the medic takes to wake it
 * DEATH  of a worker that was to ring the supervisor: the supervisor looks once a second. Of the medic:
 *        woken still differs from raised, so the next one wakes them. Of the supervisor: writers wait at
 *        limit until its successor has come
 */
struct task_room {
	_Atomic uint64_t size;	 /* of the file after the last write */
	_Atomic uint64_t limit;	 /* writers wait while size is above it */
	_Atomic uint64_t ask_at; /* the writer that passes it rings the supervisor; ROOM_ASKED, ROOM_NEVER */
	_Atomic uint32_t raised; /* counts the raises of limit */
	_Atomic uint32_t woken;	 /* the raise for which waiters have been woken */
	_Atomic uint32_t kept;	 /* the stream leads to the kept file; 0: the task has redirected it */
	uint64_t device, file;	 /* the kept file: st_dev and st_ino */
};
#define ROOM_ASKED UINT64_MAX
#define ROOM_NEVER (UINT64_MAX - 1) /* attached readers report how far they are: nothing to ask for */

/*
 * Where stdout or stderr of a task goes.
 * LOCK   lock, first: whole lines are written under it, and never those of two goroutines at once
 * DEATH  the write under way is noted, n last. Repair looks how much of it is in the file, writes
 *        the rest and stores `then` in *left, which says what is still to be written
 */
struct task_out {
	struct sh_lock lock;
	_Atomic uint32_t n; /* bytes of the write under way; 0: none */
	int32_t fd;
	uint64_t from;	      /* the size of the file before */
	const char *piece[2]; /* in the segment */
	uint32_t len[2];
	_Atomic uint64_t *left;
	uint64_t then;
	_Atomic int32_t error;	/* of a write that could not be made: told to who writes next */
	_Atomic uint32_t piped; /* the task has sent it to what is no file: a line goes there at once, and may block */
	struct task_room room;
};

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
	int32_t optind;		    /* getopt's place in the arguments, kept while the root is parked */
	_Atomic uint32_t root_left; /* the root went by shoal_exit: the task ends with its last G */
	_Atomic uint32_t again;	    /* its root is to start again, with fresh memory and globals */
	uint32_t kicks;
	_Atomic uint32_t fds;  /* descriptors it has had: some may be open */
	uint32_t witness;      /* checkdead: index of a G that was not asleep for good */
	_Atomic uint32_t dead; /* enum task_dead */
	int64_t dead_ns;       /* when that was found */
	struct sh_lock lock;   /* tombstones, own, a change of envp */
	struct tombstone *tombstones;
	struct task_own own;
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
uint64_t task_new_state(void); /* a number for own.state that no task had */

/* The task is to end: exit code and how (enum task_how) are recorded, the medic is rung. First caller wins. */
void task_end(struct task *, unsigned how, int exit_code, int sig);
/*
 * Medic: the next step of a task's life: starts what is QUEUED, asks who is asked to end, reaps
 * what is ENDING; each step goes on where a medic that died left it. True: another step will come.
 * *news: there is something to tell the supervisor.
 */
bool task_step(struct task *, bool *news);
bool task_alone(struct task *); /* exact: no G of it lives */
void task_tombstone(struct task *, uint64_t gid, int how, int sig, void *address, int attempts);
bool task_told(struct task *, uint64_t gid, struct shoal_end *); /* how a G ended that did not end well */

#endif
