/*
 * segment.h - the shared memory and the seats in it.
 *
 * One memfd, mapped MAP_SHARED at SH_BASE in every process of a runtime; pointers into it are
 * plain pointers. The file is sparse: a range costs nothing until it is touched.
 *
 * Sealed SHRINK|GROW|SEAL. Not FUTURE_WRITE: under it the kernel refuses MADV_REMOVE (EPERM,
 * measured on 6.18), and memory once touched could never go back to the system.
 */
#ifndef SHM_SEGMENT_H
#define SHM_SEGMENT_H

#include "shm/lock.h"

#include <stddef.h>
#include <stdint.h>

#define SH_GiB (1ul << 30)
#define SH_BASE 0x200000000000ul
/*
 * Windows: the same addresses in every worker, one each SH_WIN_STRIDE. Between two windows nothing is ever
 * mapped, so that a frame larger than a whole stack faults instead of reaching the next window.
 */
#define SH_WIN_BASE 0x300000000000ul
#define SH_WIN_STRIDE (64ul << 20)
#define SH_WIN_SPAN (80 * SH_GiB)

/* Ranges, as offsets from SH_BASE. */
#define SH_OFF_ROOT 0ul		   /* struct sh_segment, core's root: sched, Ps, Ms, tasks */
#define SH_OFF_GTASK (1 * SH_GiB)  /* task slot of each G, for scans */
#define SH_OFF_GS (2 * SH_GiB)	   /* Gs */
#define SH_OFF_RUNQ (8 * SH_GiB)   /* the global run queue */
#define SH_OFF_TIMERS (9 * SH_GiB) /* timer heaps of the Ps */
#define SH_OFF_POLL (16 * SH_GiB)  /* poll descriptors, by descriptor number */
#define SH_OFF_CHILD (17 * SH_GiB) /* programs that tasks have started */
#define SH_OFF_ARGS (32 * SH_GiB)  /* arguments and environment of tasks, 1 MiB a slot */
#define SH_OFF_LIFE (48 * SH_GiB)  /* what happened to goroutines: a ring a seat */
#define SH_LIFE_SIZE (1ul << 20)
#define SH_OFF_HEAP (64 * SH_GiB) /* the arena */
#define SH_HEAP_SIZE (64 * SH_GiB)
#define SH_OFF_WINDOWS (128 * SH_GiB) /* region i: the memory behind the windows of seat i */
#define SH_REGION (2 * SH_GiB)
#define SH_SEATS 96
#define SH_SIZE (SH_OFF_WINDOWS + SH_SEATS * SH_REGION)

#define SH_DATA_MAX 4096
#define SH_KILL_MAX 1024
#define SH_SEAT_MEDIC 0 /* the medic sits here; workers from 1 */
#define SH_MAGIC 0x4c414f4853ul
#define SH_VERSION 1

enum sh_seat_state {
	SEAT_EMPTY,    /* nobody, nothing to do */
	SEAT_STARTING, /* cloned, not yet in its loop */
	SEAT_LIVE,
	SEAT_DEAD,  /* its process is gone, repair has begun */
	SEAT_VACANT /* repaired (or left in good order): a new process may be cloned into it */
};

#define SH_OWN_FDS 8

/*
 * A worker's slot. It outlives the process.
 * OWNER  the process in it; state is moved EMPTY/VACANT->STARTING by the supervisor or, while there
 *        is none, the zygote, ->LIVE by the worker, ->DEAD->VACANT by the medic
 * DEATH  liveness is a robust futex: the kernel sets FUTEX_OWNER_DIED when the process goes. One that
 *        dies before it has stored that word is named by claim; who gives up waiting for one that
 *        has not even claimed the seat takes the number back first, for it may only be slow
 */
struct sh_seat {
	_Atomic uint32_t liveness; /* tid | FUTEX_WAITERS while alive */
	_Atomic uint32_t state;
	_Atomic int32_t pid;
	uint32_t generation;	       /* processes that sat here so far */
	uint64_t load_gen;	       /* modules it was cloned with: see sh_root.load_gen */
	_Atomic uint32_t exited_clean; /* it went in good order (renewal, stop): 1 */
	/*
	 * eventfd, in the workers' descriptor table; -1: nobody has sat here yet. It stays with the seat: were
	 * it closed with its process, who wakes that one this moment might write into another file.
	 */
	_Atomic int32_t wake_fd;
	int32_t own_fds[SH_OWN_FDS]; /* descriptors of its loop, to be closed after its death; -1 */
	int32_t dead_fds
		[SH_OWN_FDS]; /* of the one that was here before: the medic is closing them. In one list at least */
	uint64_t started_ns, live_ns; /* it sat down; it was ready to run goroutines */
	int64_t dead_ns, repaired_ns; /* the medic saw the last death; it was repaired */
	_Atomic uint32_t restarts;    /* deaths so far; renewals do not count */
	_Atomic uint32_t prompt;      /* it sleeps, and is run soon after it wakes: sh_prompt */
	_Atomic uint32_t stopped;     /* the supervisor has heard that it was stopped: the medic looks */
	_Atomic uint32_t leave;	      /* asked to go at its next safe point; another takes the seat */
	_Atomic uint64_t
		claim; /* number of the last ask for a process, above the pid of the one that came, 0: none yet */
	struct sh_held held;
} __attribute__((aligned(128)));

struct sh_segment {
	uint64_t magic, version;
	_Atomic int32_t supervisor, zygote, standby; /* pids */
	_Atomic uint32_t zygote_word;		     /* robust futex: the zygote lives */
	_Atomic uint32_t over;			     /* the runtime is being ended: nobody takes anybody's place */
	uint64_t memory_limit;
	uint64_t started_ns;	     /* monotonic */
	_Atomic uint64_t load_gen;   /* raised by the zygote after each load: workers cloned later have it */
	_Atomic uint32_t bell;	     /* futex: rung for the medic */
	_Atomic uint32_t kill_armed; /* tests: index of the armed kill point + 1 */
	_Atomic int32_t kill_countdown;
	_Atomic uint32_t kill_next; /* armed after that kill, and its countdown */
	_Atomic int32_t kill_next_countdown;
	_Atomic uint64_t kill_done;		  /* kills made */
	int32_t poll_fd;			  /* epoll set of all workers, in their descriptor table */
	int32_t closed_fd;			  /* O_PATH: a number that leads there answers EBADF to each call */
	_Atomic uint8_t kill_passed[SH_KILL_MAX]; /* by point */
	struct sh_arena *arena;
	/* Variables of modules: shared by all processes cloned since they were loaded. Written by the zygote. */
	struct sh_data {
		_Atomic uintptr_t start; /* 0: free. Stored last */
		size_t size;
	} data[SH_DATA_MAX];
	_Atomic uint32_t ndata; /* entries ever used */
	struct sh_seat seat[SH_SEATS];
};

#define sh_root ((struct sh_segment *)SH_BASE)
#define sh_at(off) ((void *)(SH_BASE + (off)))

/* Creates, maps and seals the segment; memory_limit in bytes. Returns the descriptor, or -errno. */
int sh_segment_create(size_t memory_limit);
/* Maps a segment that another process made. 0 or -errno. */
int sh_segment_attach(int fd);
void sh_segment_detach(void);
static inline int sh_in_segment(const void *p)
{
	return (uintptr_t)p - SH_BASE < SH_SIZE;
}

/* p is the same memory in every process that runs tasks: it lies in the segment or in a module's variables. */
int sh_shared(const void *p);
/* Zygote: [start, start + size) is such memory from now on, or is no longer. -1: the table is full. */
int sh_data_add(uintptr_t start, size_t size);
void sh_data_remove(uintptr_t start);

/*
 * A process for the seat is asked for: the number with which it may claim it. By who keeps the seats, alone. The seat
 * is STARTING from here on, and no mark of the last death is left in it: together they would be a death.
 */
uint32_t sh_seat_reserve(unsigned seat);
bool sh_seat_claim(unsigned seat, uint32_t ask); /* by the process itself. False: it has come too late */
bool sh_seat_unreserve(unsigned seat);		 /* nobody may claim it any more. False: somebody has */
/* Of who has claimed it, 0: nobody yet. */
static inline int32_t sh_seat_claimed(struct sh_seat *s)
{
	return (int32_t)(uint32_t)atomic_load(&s->claim);
}

void sh_seat_take(unsigned seat); /* by who has claimed it: its robust list gets the seat's liveness word */
/* The caller's death is marked in the word from now on (FUTEX_OWNER_DIED), and one waiter woken. One word a process. */
void sh_robust_hold(_Atomic uint32_t *word);
bool sh_robust_take(_Atomic uint32_t *word, uint32_t was); /* the same if the word is still as it was; else false */
/* Whether the process in the seat is known dead (kernel has marked the word). */
int sh_seat_dead(unsigned seat);
/* Wakes a worker that sleeps in its loop. From a process of the workers' descriptor table. */
void sh_seat_wake(unsigned seat);
/* Rings the medic. From any process. */
void sh_bell(void);

/* The process (0: the caller) is run soon after it wakes, also when all processors are busy; or like everybody again. */
void sh_prompt(int32_t pid, bool yes);
/* Descriptors from this number on are the runtime's: tasks that took them all would let no worker start again. */
unsigned sh_fd_ceiling(void);
uint64_t sh_now(void);		      /* monotonic ns */
void sh_populate(void *at, size_t n); /* faults the pages in at once: a sixth of the price of one by one */
const char *sh_format(char *buf, size_t n, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
