/*
 * segment.h - the shared memory and the seats in it.
 *
 * One memfd, mapped MAP_SHARED at SH_BASE in every process of a runtime; pointers into it are plain pointers. The
 * file is sparse: a range costs nothing until it is touched.
 *
 * It is sealed with SHRINK|GROW|SEAL, but not with FUTURE_WRITE: then the kernel would refuse MADV_REMOVE (EPERM,
 * measured on 6.18), and memory once touched could never go back to the system.
 */
#ifndef SHM_SEGMENT_H
#define SHM_SEGMENT_H

#include "shm/lock.h"

#include <stddef.h>
#include <stdint.h>

#define SH_GiB (1ul << 30)
#define SH_PAGE 4096ul /* a page of the machine */
#define SH_BASE 0x200000000000ul
/*
 * Windows: at the same addresses in every worker, one each SH_WIN_STRIDE. Nothing is ever mapped between two
 * windows, so a frame larger than a whole stack faults and cannot reach the next window.
 */
#define SH_WIN_BASE 0x300000000000ul
#define SH_WIN_STRIDE (64ul << 20)
#define SH_WIN_SPAN (80 * SH_GiB)
/* Stacks of threads: shared memory, at the same addresses in every process. core/g/tstack.h divides the range. */
#define SH_STACKS 0x310000000000ul
#define SH_STACKS_SIZE (8ul << 40)
#define SH_STACKS_FILE (24ul << 40) /* offset in the file of the segment */

/* Ranges, as offsets from SH_BASE. */
#define SH_OFF_ROOT 0ul		    /* struct sh_segment, then the core's root: schedt, Ps, Ms, tasks */
#define SH_OFF_GTASK (1 * SH_GiB)   /* task slot of each G, for scans */
#define SH_OFF_GS (2 * SH_GiB)	    /* the Gs */
#define SH_OFF_RUNQ (8 * SH_GiB)    /* the global run queue */
#define SH_OFF_TIMERS (9 * SH_GiB)  /* the timer heaps of the Ps */
#define SH_OFF_POLL (16 * SH_GiB)   /* poll descriptors, by number */
#define SH_OFF_CHILD (17 * SH_GiB)  /* programs that tasks have started */
#define SH_OFF_CHUNK (18 * SH_GiB)  /* owners of the chunks of the area: shm/area.h */
#define SH_OFF_TSTACK (20 * SH_GiB) /* which goroutine has which thread's stack: core/g/tstack.c */
#define SH_OFF_DATA (24 * SH_GiB)   /* a bit for each page of a process: it holds variables of a task */
#define SH_OFF_ARGS (32 * SH_GiB)   /* arguments and environment of tasks, 1 MiB for each slot */
#define SH_OFF_LIFE (48 * SH_GiB)   /* events in the life of goroutines, a ring for each seat */
#define SH_LIFE_SIZE (1ul << 20)
#define SH_OFF_LIBRARY (56 * SH_GiB) /* requests for libraries, 32 KiB a task */
#define SH_OFF_HEAP (64 * SH_GiB)    /* the arena */
#define SH_HEAP_SIZE (64 * SH_GiB)
#define SH_OFF_WINDOWS (128 * SH_GiB) /* region i: the memory behind the windows of seat i */
#define SH_REGION (2 * SH_GiB)
#define SH_SEATS 96
#define SH_SIZE (SH_OFF_WINDOWS + SH_SEATS * SH_REGION)

#define SH_KILL_MAX 1024
#define SH_SEAT_MEDIC 0 /* the seat of the medic; workers have seats from 1 on */
#define SH_MAGIC 0x4c414f4853ul
#define SH_VERSION 1

enum sh_seat_state {
	SEAT_EMPTY,    /* never used */
	SEAT_STARTING, /* a process is being cloned, or is not in its loop yet */
	SEAT_LIVE,
	SEAT_DEAD,  /* its process is dead, and repair has begun */
	SEAT_VACANT /* the seat is repaired, or the process left normally: a new process may be cloned for it */
};

#define SH_OWN_FDS 8

/*
 * A worker's slot. It outlives the process.
 *
 *    EMPTY ---------+ sh_seat_reserve           worker is ready
 *                   +----------------> STARTING ---------------> LIVE
 *    VACANT --------+ (supervisor, zygote)                         |
 *      ^                                                           | death: the medic sees it
 *      +----------------------- DEAD <-----------------------------+
 *            medic has repaired
 *
 * Seat claim. A process that starts slowly must not take a seat that was given to another process meanwhile:
 *
 *      owner of the seats (supervisor)           the new process
 *   a  sh_seat_reserve: claim = number << 32
 *   b  asks the zygote for a clone            d  sh_seat_claim(number): claim = number << 32 | pid
 *   c  waits too long: sh_seat_unreserve:        by compare-and-swap; fails: it exits
 *      claim = (number + 1) << 32             e  sh_seat_take: robust list, liveness = tid
 *
 * c and d are compare-and-swaps of the same word, so exactly one succeeds. A process that dies between d and e is
 * named by claim; after e the kernel marks liveness.
 *
 * OWNER  the process in it; state: as in the picture
 * LOCK   none
 * ORDER  claim, then liveness, then state LIVE. The medic stores DEAD before it repairs, VACANT after it
 * DEATH  liveness is a robust futex: the kernel sets FUTEX_OWNER_DIED when the process ends
 */
struct sh_seat {
	/* tid | FUTEX_WAITERS while alive; pairs with the kernel, and with sh_seat_dead */
	_Atomic uint32_t liveness;
	_Atomic uint32_t state;
	_Atomic int32_t pid;
	uint32_t generation;	       /* number of processes that have had the seat */
	uint64_t load_gen;	       /* load_gen of the segment when the process was cloned: which modules it has */
	_Atomic uint32_t exited_clean; /* 1: the process ended normally (renewal, stop) */
	/*
	 * eventfd in the workers' descriptor table; -1: the seat was never used. It stays with the seat: if it were closed
	 * with the process, a waker might write into another file.
	 */
	_Atomic int32_t wake_fd;
	int32_t own_fds[SH_OWN_FDS];  /* descriptors of its loop, to be closed after its death; -1: none */
	int32_t dead_fds[SH_OWN_FDS]; /* the same of the dead process, until the medic has closed them */
	uint64_t started_ns, live_ns; /* when it took the seat; when it was ready to run goroutines */
	int64_t dead_ns, repaired_ns; /* when the medic saw the last death; when the repair was complete */
	_Atomic uint32_t restarts;    /* deaths so far, without renewals */
	_Atomic uint32_t prompt;      /* the process sleeps with a short time slice (sh_prompt) */
	_Atomic uint32_t stopped;     /* the supervisor has seen that the process was stopped: the medic checks it */
	_Atomic uint32_t leave;	      /* asked to leave at its next safe point; another process takes the seat */
	/* High half: number of the last reservation. Low half: pid of the process that claimed it, or 0. */
	_Atomic uint64_t claim;
	struct sh_held held;
} __attribute__((aligned(128)));

/*
 * The start of the segment.
 * OWNER  supervisor, zygote and medic, each its own words; kill_*: tests
 * LOCK   none
 * ORDER  load_gen grows after the variables of the module are in data
 * DEATH  single words, each valid at any time
 */
struct sh_segment {
	uint64_t magic, version;
	_Atomic int32_t supervisor, zygote, standby; /* pids */
	_Atomic uint32_t zygote_word;		     /* robust futex: the zygote is alive */
	_Atomic uint32_t over;			     /* the runtime is ending: no process is replaced */
	uint64_t memory_limit;
	uint64_t started_ns; /* monotonic time */
	/* raised by the zygote after each load; workers that are cloned later have the module */
	_Atomic uint64_t load_gen;
	_Atomic uint32_t bell;	     /* futex: rung for the medic; pairs with sh_bell */
	_Atomic uint32_t kill_armed; /* tests: index of the armed kill point, plus 1 */
	_Atomic int32_t kill_countdown;
	_Atomic uint32_t kill_next; /* the second kill point, armed after the first kill, and its countdown */
	_Atomic int32_t kill_next_countdown;
	_Atomic uint64_t kill_done; /* kills so far */
	int32_t poll_fd;	    /* the epoll set of all workers, in their descriptor table */
	/*
	 * an O_PATH descriptor. Numbers of closed descriptors are made copies of it, so that every call on them
	 * fails with EBADF
	 */
	int32_t closed_fd;
	_Atomic uint8_t kill_passed[SH_KILL_MAX]; /* by index of the point */
	struct sh_arena *arena;
	struct sh_seat seat[SH_SEATS];
};

#define sh_root ((struct sh_segment *)SH_BASE)
#define sh_at(off) ((void *)(SH_BASE + (off)))

/* Creates, maps and seals the segment. memory_limit in bytes. The descriptor, or -errno. */
int sh_segment_create(size_t memory_limit);
/* Maps a segment that another process made. 0 or -errno. */
int sh_segment_attach(int fd);
void sh_segment_detach(void);
static inline int sh_in_segment(const void *p)
{
	return (uintptr_t)p - SH_BASE < SH_SIZE;
}

static inline int sh_in_stacks(const void *p)
{
	return (uintptr_t)p - SH_STACKS < SH_STACKS_SIZE;
}

/*
 * True if p is the same memory in every process that runs tasks: in the segment, on a thread's stack, or in variables of
 * an instance.
 */
int sh_shared(const void *p);
/*
 * Called by the zygote: marks the pages of [start, start + size) as such memory, or removes the mark.
 * LOCK   none: a bit for each page, changed by the zygote alone
 * DEATH  of the zygote in between: some bits are set for pages that no process has mapped; no pointer leads there
 */
void sh_data_add(uintptr_t start, size_t size);
void sh_data_remove(uintptr_t start, size_t size);

/*
 * Reserves the seat for a process that is to be cloned, and returns the number with which that process claims it.
 * Only the owner of the seats may call this. It sets the seat to STARTING and clears the mark of the last death:
 * both together would look like a death.
 */
uint32_t sh_seat_reserve(unsigned seat);
bool sh_seat_claim(unsigned seat, uint32_t ask); /* called by the new process; false: it came too late */
/* withdraws the reservation; false: a process has claimed the seat */
bool sh_seat_unreserve(unsigned seat);
/* Returns the pid that has claimed the seat, or 0. */
static inline int32_t sh_seat_claimed(struct sh_seat *s)
{
	return (int32_t)(uint32_t)atomic_load(&s->claim);
}

void sh_seat_take(unsigned seat); /* called by the process that has claimed it: puts liveness into its robust list */
/*
 * From here on the kernel marks the word when the caller dies (FUTEX_OWNER_DIED) and wakes one waiter. A process
 * can hold one word.
 */
void sh_robust_hold(_Atomic uint32_t *word);
/* the same if the word still has the value `was`, else returns false */
bool sh_robust_take(_Atomic uint32_t *word, uint32_t was);
/* True if the kernel has marked the word of the seat's process. */
int sh_seat_dead(unsigned seat);
/* Wakes a worker that sleeps in its loop. The caller must share the workers' descriptor table. */
void sh_seat_wake(unsigned seat);
/* Wakes the medic. Any process may call this. */
void sh_bell(void);

/*
 * Gives the process (0: the caller) a short time slice, so that it runs soon after a wake-up even if all
 * processors are busy, or the normal time slice again.
 */
void sh_prompt(int32_t pid, bool yes);
/* Descriptors from this number on are reserved for the runtime: otherwise tasks could keep workers from starting. */
unsigned sh_fd_ceiling(void);
uint64_t sh_now(void);		      /* monotonic time in ns */
void sh_populate(void *at, size_t n); /* faults the pages in at once, which costs a sixth of single faults */
const char *sh_format(char *buf, size_t n, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
