/*
 * g.h - the goroutine.
 *
 * A G is data in the segment. It never moves and is never freed: after its end it is used again with
 * a new gid. Its status word is the truth about it. A queue entry is only a hint: it says that the G
 * may be runnable. A worker that takes an entry must win the claim (one compare-and-swap of status,
 * runnable -> running) before it runs the G. So an entry too many is harmless, and repair may always
 * add one. The invariant is: every runnable G has at least one entry.
 *
 * The status word:
 *
 *   63                             32 31              16 15  13 12 11         0
 *   +--------------------------------+------------------+------+--+------------+
 *   |          park sequence         |     seat + 1     |  0   |S |   state    |
 *   +--------------------------------+------------------+------+--+------------+
 *     raised at each park              0: nobody                |  enum g_status
 *                                                               scan bit
 *
 * seat + 1 names the worker that runs the G or, while the scan bit is up, the process that holds that
 * bit. (In a system call both may be true: then seat + 1 stays the worker's.) A waker names the park
 * sequence that it means, so a stale waker (a timer that lost the race, a dead worker's note) wakes
 * nothing else.
 */
#ifndef CORE_G_G_H
#define CORE_G_G_H

#include "shm/segment.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum g_status { G_IDLE, G_RUNNABLE, G_RUNNING, G_SYSCALL, G_WAITING, G_DEAD = 6, G_COPYSTACK = 8, G_PREEMPTED = 9 };
#define G_STATE 0xfffull
#define G_SCAN 0x1000ull
#define G_OWNER(seat) ((uint64_t)((seat) + 1) << 16)
#define G_OWNER_MASK 0xffff0000ull
#define G_OWNER_SEAT(s) ((int)((s) >> 16 & 0xffff) - 1)
#define G_SEQ_MASK 0xffffffff00000000ull
#define G_SEQ(s) ((uint32_t)((s) >> 32))
#define G_MAKE(state, seq) ((uint64_t)(seq) << 32 | (state))

#define G_MAX (1u << 23)      /* how many Gs the segment can hold */
#define GID_STEP (1ull << 24) /* a gid: the index in the low 24 bits, the incarnation above */
#define GFREE_MAX 64	      /* length of a P's free list at which half of it moves to the global one */
#define GFREE_LOW 32
#define G_ARG_INLINE 32
#define SLOT_INLINE 32
#define NOSEAT (-1)
#define g_next_seq(g) \
	(G_SEQ(atomic_load_explicit(&(g)->status, memory_order_relaxed)) + \
	 1) /* the park sequence of the next park; only for the running G */

enum {
	RES_NONE = -2,
	RES_IMAGE = -1
}; /* g->res: no frames yet; the frames are in the image; from 0 on: in the window of that seat */

struct g;
struct note;
struct p;
struct task;

enum sudog_state { SG_IDLE, SG_QUEUED, SG_DELIVERED, SG_CLOSED, SG_RETRY }; /* RETRY: a select begins anew */
/*
 * A G in a wait queue. One is inside each G; a select takes more from the task's heap.
 * OWNER  the G; while SG_QUEUED, who holds the lock of the queue
 * LOCK   the lock of the queue it is in
 * ORDER  state is stored with release after slot or elem was written; the waiter loads it with acquire
 * DEATH  the chain by next is the truth: repair rebuilds prev and last from it
 */
struct sudog {
	struct g *g;
	struct sudog *next, *prev;
	void *queue;  /* the object that it waits for (struct shoal_chan, shoal_waitq_, g for join); NULL: none */
	uint32_t seq; /* park sequence of the wait that it belongs to */
	_Atomic uint32_t state; /* enum sudog_state; pairs with the waiter's load after its park */
	uint32_t n;		/* select: operation and index of the case; semaphore: units; rwmutex: read or write */
	uint32_t size;		/* bytes of the value */
	void *elem;		/* the value: slot, or a block of the task's heap */
	char slot[SLOT_INLINE];
};

/* Bits of g->preempt. YIELD: give way. STOP: stop for suspendG. SIGNAL: look for signals (host_signals) */
enum preempt { PREEMPT_YIELD = 1, PREEMPT_STOP = 2, PREEMPT_SIGNAL = 4 };
/*
 * Written only by the worker that runs the goroutine, or by the medic.
 * GF_ONCE  it has run, or runs, a function that others wait for (pthread_once, a C++ static)
 * GF_GONE  this run will never finish; waiters must check again
 */
enum g_flags {
	GF_ISOLATED = 1,
	GF_ROOT = 2,
	GF_GONE = 4,
	GF_JOINED = 8,
	GF_PINNED = 16,
	GF_NAMED = 32,
	GF_OWN = 64,
	GF_ONCE = 128
};

/*
 * A goroutine.
 * OWNER  by status: runnable and waiting: nobody (a worker that claims or wakes it wins a compare-and-swap);
 *        running, syscall, copystack: the worker named in status; dead: the worker that took it off a free list
 * LOCK   the scan bit guards the stack of a G that does not run: hold it to displace or to read the frames
 * ORDER  status is stored with release and loaded with acquire
 * DEATH  worker dies in running: if it had not jumped to the G yet (m->oncpu is 0, so the frames are
 *        whole) the G is runnable again; else it is lost, and g_lost() wakes all that wait for its end
 */
struct g {
	/* First cache line: a waker and a worker that enters the G need this line and that of its sudog. */
	/* every change that hands over the G releases; pairs with g_state, and with the compare-and-swaps of g.c */
	_Atomic uint64_t status;
	char *sp;     /* while not running: the frames are [sp, top of its window) */
	uint32_t win; /* the window that it is bound to; WIN_NONE before its first run */
	/* where the frames are: RES_NONE, RES_IMAGE, or a seat; pairs with frames_in_window, stack_enter */
	_Atomic int32_t res;
	char *image; /* block of the task's heap for the frames when they are displaced */
	uint32_t image_cap;
	uint8_t waitreason, flags;
	_Atomic uint8_t
		preempt; /* enum preempt: asked to give way, or to look for signals; pairs with gopreempt, suspend_withdraw */
	uint8_t locked;	     /* how many times it is pinned */
	uint16_t life_order; /* number of status changes so far, modulo 1024: see life.h */
	uint16_t life_stack; /* size of its block, in the form of life.h */
	uint32_t stack_max;
	uint64_t gid;
	struct task *task;

	/* Second line: the end of the G needs this one as well. */
	int32_t err; /* errno, while it does not run */
	/* incarnation that is cancelled, plus 1; pairs with host_barrier in shoal_cancel: g_cancelled() */
	_Atomic uint32_t cancelled;
	uint32_t arg_size;
	_Atomic uint16_t joined; /* a joiner may be in joiners; pairs with the gid: see g_end and shoal_join */
	uint8_t lockedm;	 /* seat of the worker it is pinned to; 0: not pinned */
	_Atomic uint8_t signals; /* it may have a mask or a signal of its own: worker/posix/signal.h */
	struct shoal_wg *wg;	 /* the wait group that counts it, or NULL */
	void *mutexes;		 /* the mutexes it holds, a list or the only one: mutex.c */
	uintptr_t rwheld;	 /* the rwmutexes it holds or waits for: rwmutex.c */
	struct outpart *part;	 /* beginnings of output lines, kept while it is parked: worker/output.c */
	struct g *schedlink;	 /* next in a free list */
	int64_t wake_at;	 /* while waiting: a timer wakes it at this time; 0: none */

	struct sudog *waiting; /* the first sudog of its wait, if it waits for a channel */
	struct sudog sudog;
	int64_t wait_since; /* monotonic ns at which it began to wait */
	uint64_t parent;
	char *name; /* block of the task's heap; good if GF_NAMED */

	void (*fn)(void *);
	void *arg; /* arg_inline or a block of the task's heap; kept for another attempt */
	_Alignas(16) char arg_inline[G_ARG_INLINE];
	void *gopc;	       /* address of the call that started it */
	struct sudog *joiners; /* sudogs of joiners, guarded by join_lock */
	struct sh_lock join_lock;
	uint16_t attempts, attempt;
	int32_t idx;
	uint32_t migrations, grows;
	void *own; /* per-thread state of the C library (GF_OWN), a block of the task's heap: worker/posix/record.h */
} __attribute__((aligned(64)));
_Static_assert(offsetof(struct g, err) == 64 && offsetof(struct g, waiting) == 128 &&
		       offsetof(struct sudog, slot) <= 56 && sizeof(struct g) == 384,
	       "lines are where the comments of struct g say");

/* All Gs: allg(i) for i in [1, sched.ngs). */
#define allg(i) ((struct g *)(SH_BASE + SH_OFF_GS) + (i))
#define gtask_slot ((_Atomic uint32_t *)(SH_BASE + SH_OFF_GTASK))
/* True if p can be a G: range and alignment. For pointers that may be damaged. */
static inline bool g_plausible(const void *p)
{
	uintptr_t at = (uintptr_t)p - (uintptr_t)allg(0);

	return at % sizeof(struct g) == 0 && at >= sizeof(struct g) && at < G_MAX * sizeof(struct g);
}
static inline uint32_t g_index(const struct g *g)
{
	return (uint32_t)(g - allg(0));
}
static inline unsigned g_state(const struct g *g)
{
	return atomic_load_explicit(&((struct g *)g)->status, memory_order_acquire) & G_STATE;
}

/*
 * The G with this gid, if it lives or has ended and the G was not used again; *ended says which. NULL: this
 * number was never issued.
 */
struct g *g_find(uint64_t gid, bool *ended);

/* The legal changes of state; core/LIFE_OF_A_G.md has a row for each. */
#define G_BIT(s) (1u << (s))
static const uint16_t g_legal[16] = {
	[G_IDLE] = G_BIT(G_DEAD),
	[G_RUNNABLE] = G_BIT(G_RUNNING),
	[G_RUNNING] = G_BIT(G_RUNNABLE) | G_BIT(G_WAITING) | G_BIT(G_SYSCALL) | G_BIT(G_DEAD) | G_BIT(G_COPYSTACK) |
		      G_BIT(G_PREEMPTED),
	[G_SYSCALL] = G_BIT(G_RUNNING),
	[G_WAITING] = G_BIT(G_RUNNABLE),
	[G_DEAD] = G_BIT(G_RUNNABLE),
	[G_COPYSTACK] = G_BIT(G_RUNNING),
	[G_PREEMPTED] = G_BIT(G_WAITING),
};

/*
 * Cancellation is a mark in the G, good for this incarnation only. Either the G sees the mark when
 * it is about to wait, or the canceller sees that the G waits: between mark and wake the canceller
 * calls host_barrier(), which pairs with park_m.
 */
static inline bool g_cancelled(const struct g *g)
{
	return __builtin_expect(atomic_load_explicit(&((struct g *)g)->cancelled, memory_order_relaxed) ==
					(uint32_t)(g->gid >> 24) + 1,
				0);
}

/*
 * Status changes. In running, copystack, dead and idle only the owner of the G writes the word, and
 * nobody sets the scan bit (a reader of the stack asks the G to give way first). So casgstatus() of
 * life.h is a plain store there. From all other states it is this function, which waits while the scan
 * bit is up.
 */
void casgstatus_shared(struct g *, unsigned from, unsigned to);
bool g_claim(struct g *);		/* runnable -> running; false: the G is not runnable (a stale hint) */
bool g_rouse(struct g *, uint32_t seq); /* waiting -> runnable if the park sequence is seq */
bool casfrom_preempted(struct g *);	/* preempted -> waiting; the caller that wins must make it runnable again */
bool g_scan_lock(struct g *);		/* takes the scan bit of a waiting or runnable G; false: it is neither */
void g_scan_unlock(struct g *);

/*
 * Ends a goroutine: marks the mutexes it holds, counts it out of its wait group, wakes its joiners,
 * frees stack and blocks, and puts it on a free list. Its status is running, claimed by the caller.
 * Restartable: note.ending names the G until the end is complete.
 */
void g_end(struct g *, int how, int signal, void *address);
/* first step of g_end: writes note.ending, unless it names g already */
void g_end_note(struct g *, int how, int signal, void *address);
/* last step of g_end, after status dead: joiners and counters, as the note says */
void g_end_publish(struct g *, const struct note *);
#define END_AGAIN (-1)	    /* note.ending_how: the G starts anew, ending_signal is the number of the attempt */
void g_restart(struct g *); /* a lost G has attempts left: runnable again from its entry */

void g_lay_out(struct g *); /* initial state of a G that was never used */
struct g *gfget(void);	    /* a dead G, off the lists, named in note.g; NULL: G_MAX is reached */
void gfput(struct g *);	    /* puts a dead G on the P's free list */
void gfpurge(struct p *);   /* Holds: the P. Moves its free Gs to the global list */
/* puts a dead G on the global list; clears *note, which names it, under the same lock */
void gfreturn(struct g *, struct g **note);

#endif
