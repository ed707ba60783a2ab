/*
 * g.h - the goroutine.
 *
 * A G is data in the segment; it never moves and is never freed, only used again with a new gid.
 * Its status word is the truth about it. Queues hold hints: an entry says that the G may be
 * runnable, and who takes it must win the claim (runnable -> running, one compare-and-swap on
 * status) before it may run it. An entry that is one too many is therefore harmless, and repair
 * may always add one; what must hold is that every runnable G has at least one.
 *
 * status, 64 bits: bits 0-11 the state, bit 12 the scan bit, bits 16-31 the seat + 1 of the worker
 * that runs it or of who holds the scan bit, bits 32-63 the park sequence, raised at each park. A waker names the sequence it
 * means, so a stale waker (a timer that lost, a dead worker's note) can wake nobody else.
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

#define G_MAX (1u << 23)      /* Gs in the segment at most */
#define GID_STEP (1ull << 24) /* gid: index in the low 24 bits, incarnation above */
#define GFREE_MAX 64	      /* dead Gs on a P's list, then half of them go to the global one */
#define GFREE_LOW 32
#define G_ARG_INLINE 32
#define SLOT_INLINE 32
#define NOSEAT (-1)
#define g_next_seq(g) \
	(G_SEQ(atomic_load_explicit(&(g)->status, memory_order_relaxed)) + \
	 1) /* of the park to come; for the running G */

enum {
	RES_NONE = -2,
	RES_IMAGE = -1
}; /* g->res: no frames yet; frames in the image; else the seat whose window has them */

struct g;
struct note;
struct p;
struct task;

enum sudog_state { SG_IDLE, SG_QUEUED, SG_DELIVERED, SG_CLOSED, SG_RETRY }; /* RETRY: a select looks again */
/*
 * A G in a wait queue. One is inside each G; a select takes more from the task's heap.
 * LOCK   the lock of the queue it is in
 * ORDER  state is stored with release after the slot was written: a waker's commit
 * DEATH  the chain by next is the truth, prev and last are rebuilt from it
 */
struct sudog {
	struct g *g;
	struct sudog *next, *prev;
	void *queue;		/* the waitq it is in, NULL when in none */
	uint32_t seq;		/* park sequence of the wait it belongs to */
	_Atomic uint32_t state; /* enum sudog_state */
	uint32_t n;		/* select: index of the case; semaphore: units */
	uint32_t size;		/* of the value */
	void *elem;		/* where the value is: slot, or a block of the task's heap */
	char slot[SLOT_INLINE];
};

enum preempt { PREEMPT_YIELD = 1, PREEMPT_STOP }; /* STOP: for suspendG */
/*
 * Written by whose hands it is in, the worker that runs it or the medic. GF_ONCE: it has run, or runs, what others
 * wait for (pthread_once, a C++ static). GF_GONE: it will not go on from where it was, nobody should wait for that.
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
 * OWNER  by status: runnable and waiting nobody (who claims or wakes it wins a compare-and-swap);
 *        running, copystack: the worker m; dead: who took it off a free list
 * LOCK   the scan bit guards the stack of a G that is not running: who displaces or reads it holds it
 * ORDER  status is stored with release and loaded with acquire
 * DEATH  worker dies in running: if the worker had not jumped to it yet (m->oncpu 0 and the frames
 *        whole) it is runnable again; else it is lost, and g_lost() tells who waits for it
 */
struct g {
	/* Whoever makes it ready or enters it needs this line and that of its sudog. */
	_Atomic uint64_t status;
	char *sp;	     /* while not running: the frames are [sp, top of its window) */
	uint32_t win;	     /* window it is bound to for life; WIN_NONE before the first run */
	_Atomic int32_t res; /* where the frames are: RES_NONE, RES_IMAGE, or a seat */
	char *image;	     /* block of the task's heap that holds the frames when displaced */
	uint32_t image_cap;
	uint8_t waitreason, flags;
	_Atomic uint8_t preempt; /* enum preempt: asked to give way */
	uint8_t locked;		 /* pin depth */
	uint16_t life_order;	 /* its transitions so far, modulo 1024: see life.h */
	uint16_t life_stack;	 /* size of its block, as life.h writes it */
	uint32_t stack_max;
	uint64_t gid;
	struct task *task;

	/* Its end looks at this one as well. */
	int32_t err;		    /* errno, while it does not run */
	_Atomic uint32_t cancelled; /* which incarnation of it is cancelled, and 1: g_cancelled() */
	uint32_t arg_size;
	_Atomic uint16_t joined; /* somebody waits for its end: ask joiners */
	uint8_t lockedm;	 /* seat of the worker it is pinned to, or 0 */
	struct shoal_wg *wg;	 /* wait group it leaves at its end, or NULL */
	void *mutexes;		 /* struct shoal_mutex it holds, a list; or its only one: mutex.c */
	uintptr_t rwheld;	 /* rwmutexes it holds: rwmutex.c */
	struct outpart *part;	 /* lines it has begun to write, kept while it is parked */
	struct g *schedlink;	 /* free lists */
	int64_t wake_at;	 /* while waiting: a timer wakes it then; 0: none */

	struct sudog *waiting; /* sudogs of the wait in hand */
	struct sudog sudog;
	int64_t wait_since; /* ns; 0 unless waiting or runnable */
	uint64_t parent;
	char *name; /* block of the task's heap, or NULL; not NULL: GF_NAMED */

	void (*fn)(void *);
	void *arg; /* arg_inline or a block of the task's heap: kept for another attempt */
	_Alignas(16) char arg_inline[G_ARG_INLINE];
	void *gopc;	       /* who started it */
	struct sudog *joiners; /* guarded by join_lock */
	struct sh_lock join_lock;
	uint16_t attempts, attempt;
	int32_t idx;
	uint32_t migrations, grows;
	uint64_t posix[3]; /* what a thread keeps for itself: worker/posix/own.h lays it out */
} __attribute__((aligned(64)));
_Static_assert(offsetof(struct g, err) == 64 && offsetof(struct g, waiting) == 128 &&
		       offsetof(struct sudog, slot) <= 56 && sizeof(struct g) == 384,
	       "lines are where the comments of struct g say");

/* All Gs: allg(i) for i in [1, sched.ngs). */
#define allg(i) ((struct g *)(SH_BASE + SH_OFF_GS) + (i))
#define gtask_slot ((_Atomic uint32_t *)(SH_BASE + SH_OFF_GTASK))
/* For who does not believe a pointer: there may be a G, or there is none. */
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

/* The G with this gid if it still lives or has ended and was not used again; *ended tells. NULL if the number was never issued. */
struct g *g_find(uint64_t gid, bool *ended);

/* From -> to that are legal: the table of core/LIFE_OF_A_G.md. */
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
 * Cancellation: a mark in the G, good for this incarnation. It is seen by the G when it is about to
 * wait, or else the canceller sees it wait; between mark and wake the canceller calls host_barrier().
 */
static inline bool g_cancelled(const struct g *g)
{
	return __builtin_expect(atomic_load_explicit(&((struct g *)g)->cancelled, memory_order_relaxed) ==
					(uint32_t)(g->gid >> 24) + 1,
				0);
}

/*
 * Status changes. In running, copystack, dead and idle nobody but the G's owner writes the word (no
 * scan bit either: who wants its stack asks it to give way and scans it then), so casgstatus() of
 * life.h is a store there; from the others it is this, which waits while the scan bit is up.
 */
void casgstatus_shared(struct g *, unsigned from, unsigned to);
bool g_claim(struct g *);		/* runnable -> running; false: not runnable (a stale hint) */
bool g_rouse(struct g *, uint32_t seq); /* waiting -> runnable if the sequence is the one meant */
bool casfrom_preempted(struct g *);	/* preempted -> waiting; who wins must make it runnable again */
bool g_scan_lock(struct g *);		/* takes the scan bit of a waiting or runnable G; false: it is neither */
void g_scan_unlock(struct g *);

/*
 * Its end, whoever brings it: mutexes it holds are marked, its wait group counts it out, joiners
 * are told, stack and blocks are freed, and it goes to a free list. Status running (claimed by the
 * caller). May be done again after a death half-way: note.ending names it.
 */
void g_end(struct g *, int how, int signal, void *address);
void g_end_note(struct g *, int how, int signal, void *address); /* what g_end begins with, unless it is noted */
void g_end_publish(struct g *,
		   const struct note *); /* the part after status dead: joiners, counts. note: says that it ends */
#define END_AGAIN (-1)			 /* how, in the note: it starts anew, signal is its attempt */
void g_restart(struct g *);		 /* a lost one has attempts left: runnable from its entry */

void g_lay_out(struct g *);		    /* one that never was: as it begins */
struct g *gfget(void);			    /* a dead G, off the lists, noted in the seat; NULL: G_MAX reached */
void gfput(struct g *);			    /* a dead G back on the P's list */
void gfpurge(struct p *);		    /* Holds: the P. Its free Gs to the global list */
void gfreturn(struct g *, struct g **note); /* to the global list; *note, which names it, is cleared with it */

#endif
