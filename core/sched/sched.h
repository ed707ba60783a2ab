/*
 * sched.h - P, M and sched.
 *
 * P  a place to run Gs: local queue, runnext, free Gs, timers. At most one M has it.
 * M  a worker: a seat and the process in it (struct m is the core's half of the seat).
 * sched (Go's schedt)  what all share: global queue, idle Ps and Ms, free Gs.
 */
#ifndef CORE_SCHED_SCHED_H
#define CORE_SCHED_SCHED_H

#include "core/g/g.h"

#define P_MAX 64
#define RUNQ_SIZE 256
#define RUNQ_HAND 4
#define WORKERS_MAX 64	       /* seats 1..63: one bit each in the masks of sched */
#define GRUNQ_SIZE (2 * G_MAX) /* global queue: power of two */
#define STEAL_ROUNDS 4
#define SCHEDTICK_GLOBAL 61
#define GFREE_MAX 64
#define GFREE_LOW 32

enum p_status { P_IDLE, P_RUNNING, P_SYSCALL_UNUSED, P_GCSTOP, P_DEAD };

/* An entry of a timer heap: a hint, as in a run queue; g and seq say whom it wakes. */
struct timer_entry {
	int64_t when;
	struct g *g;
	uint32_t seq, pad;
};
#define TIMERS_MAX (1u << 22) /* a P; sparse */

enum timers_dirty { TIMERS_WHOLE, TIMERS_STEP, TIMERS_ALL };

/*
 * OWNER  the M that has it (p->m); thieves take from runq by CAS on head. runnext and hand only
 *        its M writes: a thief claims the G that they name and leaves the name where it is
 * LOCK   timers_lock: the timer heap
 * ORDER  runqtail is stored with release by the owner, runqhead moved by CAS with release
 * DEATH  an entry of the ring is there once tail is past it; what a thief has in hand is in its
 *        seat's note. p->m names the dead M: the P is taken from it and given to another
 */
struct p {
	_Atomic uint32_t status;
	_Atomic int32_t m; /* seat, NOSEAT; P_HANDED, P_GIVEN + seat: on its way there */
	uint32_t id;
	_Atomic uint32_t schedtick, syscalltick;
	_Atomic(struct g *) runnext;
	struct g *gfree;
	uint32_t ngfree;
	uint64_t created, migrations, grows, steals, preemptions, syscalls; /* counters of this P */
	_Alignas(64) _Atomic uint32_t runqhead;
	_Alignas(64) _Atomic uint32_t runqtail;
	_Atomic uint32_t hand_at, hand_n; /* hand[at..n): taken off the ring in one go, still to run */
	_Atomic(struct g *) hand[RUNQ_HAND];
	_Atomic(struct g *) runq[RUNQ_SIZE];
	_Alignas(64) struct sh_lock timers_lock;
	_Atomic uint32_t ntimers;
	uint32_t timers_dirty; /* enum timers_dirty: a change of the heap is under way, after a death it is put right */
	_Atomic int64_t timer_when; /* of the earliest, 0 if none */
	uint32_t timers_compact;    /* at this many entries those that wake nobody are thrown out */
	uint32_t sysmon_tick, sysmon_systick;
	int64_t sysmon_when, sysmon_syswhen;
	struct timer_entry timer_aside; /* TIMERS_ALL: the one that is between two places */
} __attribute__((aligned(128)));

#define p_timers(p) \
	((struct timer_entry *)(SH_BASE + SH_OFF_TIMERS + (uint64_t)(p)->id * TIMERS_MAX * sizeof(struct timer_entry)))

/*
 * What a worker has in hand, written before each commit; read by the medic only. A note may name
 * what was done already or never begun: repair looks at the facts again.
 */
struct note {
	struct g *g; /* taken off a free list, or being put on one */
	uint64_t gid;
	struct g *ready;	  /* being made runnable and queued */
	struct g *kicked;	  /* leaves runnext for the ring */
	struct g *scan;		  /* its scan bit is ours */
	struct g *suspend;	  /* asked to stop for us, or stopped */
	uint32_t handed;	  /* id + 1 of our P on its way to a pinned worker, or of the one we take */
	uint32_t closed;	  /* descriptor + 1 whose waiters are being told that it means another file now */
	uint32_t grab_at, grab_n; /* ring slots of our P that a steal or a batch is filling */
	void *chan;		  /* channel or sync object under way, with its lock held */
	struct sudog *sg;	  /* taken off its queue, to be told and readied */
	uint32_t sg_seq;
	uint64_t sg_mark;    /* chan->sendx before its value is put */
	struct shoal_wg *wg; /* its count is being changed to wg_count, and *wg_slot with it to wg_value */
	struct shoal_wg **wg_slot, *wg_value;
	int64_t wg_count;
	struct shoal_wg *wg_given; /* counts a member that is being made: g, if that is noted */
	struct g *cleared;	   /* a G being ended, with its gid and how */
	uint64_t cleared_gid;
	int32_t cleared_how, cleared_signal;
	void *cleared_address;
	uint64_t *cleared_at, cleared_count; /* who counts the ends, and what it says after this one */
	uint64_t making;		     /* number of a G that never was: ours, if its status names us */
	uint64_t made; /* what counts the Gs of g's task on our P says once g is made; 0: not yet to be counted */
};

/* As epoll_wait writes it: worker/netpoll.c checks that. */
struct net_event {
	uint32_t events;
#if !defined(__x86_64__)
	uint32_t pad;
#endif
	uint32_t fd, gen;
};
#define NET_READ 0x201bu /* EPOLLIN, PRI, ERR, HUP, RDHUP */
#define NET_WRITE 0x1cu	 /* EPOLLOUT, ERR, HUP */
#define NET_END 0x2018u	 /* EPOLLERR, HUP, RDHUP */
#define POLL_BATCH 64

enum crash_kind { CRASH_SIGNAL = 1, CRASH_CHECK, CRASH_MISUSE, CRASH_OVERFLOW };
#define CRASH_FRAMES 64
#define CRASH_STACK 8192u
struct crash {
	_Atomic uint32_t valid;
	int32_t kind, signal, code;
	void *address;
	uint64_t gid, task;
	int64_t when; /* CLOCK_REALTIME ns */
	int32_t pid, worker;
	uint64_t regs[23];	     /* gregs of the ucontext */
	char message[256], name[32]; /* of the goroutine */
	int32_t nframes;
	void *frame[CRASH_FRAMES];
	uint64_t stack_at; /* the top of its stack, from here on, as it was */
	uint32_t stack_bytes;
	char stack[CRASH_STACK];
};

/* What the running G has written to stdout and stderr and not yet given to the file: a ring. */
#define OUT_SIZE 4096
struct outbuf {
	_Atomic uint64_t held; /* how many << 32 | where the first one is; 0: none. Stored after the bytes */
	char buf[OUT_SIZE];
};

#define WIN_COUNT 1024u
#define WIN_SIZE (1ul << 20)
#define WIN_LARGE_COUNT 16u
#define WIN_LARGE_SIZE (64ul << 20)
#define WIN_ALL (WIN_COUNT + WIN_LARGE_COUNT)
#define WIN_NONE 0xffffffffu

/*
 * OWNER  the process in the seat
 * DEATH  the medic reads all of it, trusts none of it, and clears it
 */
struct m {
	int32_t seat;
	_Atomic int32_t p;	   /* id of its P, -1 */
	_Atomic(struct g *) curg;  /* claimed by this M */
	_Atomic uint32_t oncpu;	   /* 1: has jumped to curg, whose frames are being changed */
	_Atomic uint32_t blocked;  /* idle: sleeps or is about to */
	uint32_t parking;	   /* curg is on its way to waiting: the medic finishes that */
	struct sh_lock *park_lock; /* dropped once it waits */
	bool (*park_unlockf)(struct g *, void *);
	void *park_arg;
	uint32_t park_seq;			   /* of the wait that park_unlockf commits */
	int64_t park_when;			   /* it is woken at this time; 0: no timer */
	void *gopc;				   /* who calls newproc */
	uintptr_t syscallpc, syscallsp, syscallbp; /* the frame that curg entered its system call from */
	struct g *lockedg;			   /* pinned here: it runs nothing else */
	_Atomic int32_t handed;			   /* P brought for lockedg, -1 */
	uint32_t locks;				   /* acquirem depth */
	uint32_t fenced;			   /* enum fence_why: the medic has ended it */
	uint32_t nwfree; /* free windows, the last freed on top; rebuilt from occ by a new process */
	uint16_t wfree[1040];
	uint32_t whand; /* next window to displace */
	uint64_t rng;
	struct g *eyed; /* runnext of the P eyed_p, as of eyed_ns; NULL: none. See runnext_ripe */
	uint64_t eyed_status;
	int64_t eyed_ns;
	uint32_t eyed_p;
	uint32_t eyed_fresh; /* since the last nap: somebody made one ready that he is about to run himself */
	uint64_t life_now;   /* its last look at the clock, as life.h writes it */
	struct note note;
	struct g *occ[WIN_ALL]; /* whose frames are in each window, if that G says so too (g->res, g->win) */
	struct net_event events[POLL_BATCH]; /* taken out of the set and not yet delivered; 0 in events: none */
	struct crash crash;
	struct outbuf out[2];
} __attribute__((aligned(128)));

struct schedt {
	struct sh_lock lock;			 /* global queue, idle lists, free Gs, allp size */
	_Atomic uint64_t grunq_head, grunq_tail; /* positions, modulo GRUNQ_SIZE */
	/*
	 * One bit a P or seat, where Go has lists and counts: each change is one atomic operation, so
	 * there is no moment at which a death leaves list and count apart. pidle and midle are hints:
	 * p->m says who has a P.
	 */
	_Atomic uint64_t pidle, midle, mspinning;
	_Atomic uint64_t mlocked; /* seats with a pinned goroutine */
	_Atomic uint32_t needspinning;
	_Atomic int32_t poller; /* seat that sleeps until the next timer, NOSEAT */
	_Atomic int64_t poll_until;
	_Atomic uint32_t procs;	     /* Ps in use: allp[0..procs) */
	_Atomic uint32_t procs_most; /* ever: those from here on were never anybody's. Raised before procs */
	_Atomic uint32_t gcwaiting;  /* the world is being stopped, or has been: see procs.c */
	_Atomic uint64_t procs_by, procs_failed; /* who asks for another number; who was told that it did not work */
	_Atomic uint64_t procs_done;		 /* whose turn is over, while procs_want is PROCS_OVER */
	_Atomic uint32_t procs_want, procs_asked;
	_Atomic uint32_t procs_custom; /* set by hand: it does not follow what the machine allows any more */
	int64_t stw_since, stw_kicked; /* the medic's */
	_Atomic uint64_t ngs;	       /* Gs made so far + 1 */
	struct g *gfree;
	_Atomic uint32_t sysmonwait;  /* sysmon sleeps until rung */
	_Atomic uint32_t want_worker; /* all are in system calls: the medic asks the supervisor for one more */
	_Atomic uint32_t crowded;     /* almost all workers are in system calls: see syscall_turn. A hint */
	uint32_t sysmon_rounds, idle_looks, starved; /* sysmon's own */
	int64_t lastpoll;
	_Atomic uint32_t netpolled;    /* some descriptor is in the epoll set */
	_Atomic uint32_t pollmore;     /* blocks of poll slots taken */
	_Atomic uint32_t children_top; /* entries of worker/posix/spawn.c that were used so far */
	_Atomic uint32_t fd_top;       /* above the highest descriptor that a task has had */
	_Atomic uint64_t task_states;  /* numbers given out: task_new_state */
	_Atomic uint32_t draining;
	_Atomic uint32_t told[64];   /* signals given to conditions of pthreads: worker/posix/thread.c */
	_Atomic uint64_t wake_asked; /* seats that the medic is to wake, for who cannot */
	_Atomic uint32_t tracing;    /* somebody traces: events look at the clock */
	_Atomic uint32_t
		fds_lost; /* goroutines that died with their worker, and may have left a descriptor: supervisor/zygote/sweep.c */
	uint64_t deaths, tasks_done, tasks_crashed;
};

#include "core/task/task.h"

#define CRASH_KEPT 1000
struct shoal_root {
	struct sh_segment sh;
	struct schedt schedt;
	struct p ps[P_MAX];
	struct m ms[SH_SEATS];
	struct task_table tasks;
	_Atomic uint64_t ncrashes; /* written so far; crash[n % CRASH_KEPT] */
	struct crash crash[CRASH_KEPT];
	char audit[4096]; /* answer of the last audit the medic made */
	_Atomic uint32_t audit_asked, audit_done;
};
#define rt ((struct shoal_root *)SH_BASE)
#define sched (rt->schedt)
#define allp(i) (&rt->ps[i])
#define allm(i) (&rt->ms[i])

/* Idle Ps. Who put one down that is no longer in use may have marked it late. */
static inline unsigned npidle(void)
{
	unsigned procs = atomic_load_explicit(&sched.procs, memory_order_relaxed);

	return (unsigned)__builtin_popcountll(atomic_load(&sched.pidle) & (procs < 64 ? (1ull << procs) - 1 : ~0ull));
}

extern struct m *getm; /* the M this process is; the medic is one without a P */
#define getg() (atomic_load_explicit(&getm->curg, memory_order_relaxed))
static inline struct p *getp(void)
{
	int id = atomic_load_explicit(&getm->p, memory_order_relaxed);
	return id < 0 ? NULL : allp(id);
}

/* Lays out an empty runtime in a fresh segment: procs Ps, all idle. */
void schedinit(unsigned procs);

/* ---- run queues (runq.c) ---- */
void runqput(struct p *, struct g *, bool next);
struct g *runqget(struct p *, bool *inherit);
bool runqempty(struct p *);
uint32_t runqlen(struct p *);				      /* about: others are at it */
bool runnext_ripe(struct m *, struct p *victim, int64_t now); /* it stands there for long enough to be stolen */
unsigned runqsteal(struct p *, struct p *victim, bool steal_next, struct g **out);
void stealorder(uint32_t r, unsigned n, unsigned *at,
		unsigned *step);		 /* at, at + step, ... modulo n is each of n once */
void globrunqput(struct g *);			 /* takes sched.lock */
void globrunqput_locked(struct g *);		 /* Holds: sched.lock */
struct g *globrunqget(struct p *, unsigned max); /* first to run, the rest to p's ring. Takes the lock */

/* ---- idle Ps and workers (idle.c) ---- */
#define MBIT(seat) (1ull << (unsigned)(seat)) /* in the masks of sched */
static inline bool spinning(const struct m *m)
{
	return (atomic_load_explicit(&sched.mspinning, memory_order_relaxed) & MBIT(m->seat)) != 0;
}
struct p *pidleget(int to); /* an idle P, which says so in p->m from now on; NULL */
void pidleput(struct p *);
void acquirep(struct p *);
struct p *releasep(void);
void wakep(void);
void handoffp(struct p *);
void handonp(void);
void resetspinning(struct m *);
bool work_in_sight(void);
struct p *given_p(struct m *);		     /* takes the P that somebody has given to it */
void give_up_others(struct m *, struct p *); /* it has this one: what else was given to it */
void stopm(struct m *);			     /* without a P: sleeps until it has one */
void gcstopm(struct m *);

/* ---- the scheduler (proc.c) ---- */
void keep_frames(struct m *, struct g *);
struct g *schedule(void); /* on g0: the G to enter, ready to be; sleeps until there is one */
void gmain(struct g *);	  /* the first function of every G; ends it */
/*
 * Running -> waiting. Parks. lock (or NULL) is held and is dropped once the G waits; when: it is
 * woken at that time (monotonic ns), 0 for never. Who called looks at its sudog to see why it woke.
 */
void gopark(struct sh_lock *lock, enum waitreason, int64_t when);
/* The same, for waits that no lock guards: commit is called on g0 once g waits; false: it does not wait after all. */
void gopark_commit(bool (*commit)(struct g *, void *), void *arg, enum waitreason, int64_t when);
void goready(struct g *, uint32_t seq); /* wakes if the sequence is the one meant; to runnext */
/*
 * Go's injectglist, one by one: wakes for a poller or a timer; to the tail, or without a P to the global
 * queue. A list of them in hand would be lost with a death. Who has woken some calls wakep once.
 */
bool injectg(struct g *, uint32_t seq);
void ready(struct g *); /* just made runnable by us: queue it; note.ready names it, and no more then */
void goyield(void);	/* Parks. */
_Noreturn void goexit(void);
#define GO_ROOT (1u << 31) /* in shoal_go_opts.flags: the root of its task. The medic's alone */
struct g *newproc(struct task *, const struct shoal_go_opts *, void (*fn)(void *), const void *arg, size_t size,
		  struct shoal_wg *wg, int *err);
struct g *mstart(unsigned seat); /* the worker's entry to the scheduler, on g0: takes a P, or idles; its first G */
void gogive(struct g *);	 /* adds a hint to the global queue and wakes a P: repair, tasks */

/* ---- preemption (preempt.c) ---- */
void gopreempt(void);	      /* on a G that was asked: gives way, or stops for who suspends it. Parks. */
void preempt_ask(struct g *); /* to give way; a request to stop stays */
enum suspended { SUSPEND_GONE, SUSPEND_HELD, SUSPEND_STOPPED, SUSPEND_SYSCALL, SUSPEND_NOT };
/*
 * The stack of the goroutine holds still: its scan bit is ours (HELD), and it was made to stop for
 * us (STOPPED). SYSCALL: from the frame on that its worker's m names. GONE: it has ended. NOT: it did
 * not come to a point where it can stop until then. Whatever it says, resumeG follows, which says
 * whether it has held still all the time. Waits; not for goroutines.
 */
enum suspended suspendG(struct g *, uint64_t gid, int64_t until);
bool resumeG(struct g *, enum suspended);
void unpreempt(struct g *);
void suspend_withdraw(struct g *);
void repair_suspend(struct g *); /* medic */

/* ---- the number of Ps (procs.c) ---- */
#define PROCS_MAX (WORKERS_MAX - 2)
#define PROCS_COMMAND UINT64_MAX
#define PROCS_OVER UINT32_MAX
bool procs_step(int64_t now); /* medic: a step of what was asked for. True: there is more to do, soon */
void runqdrain(struct p *);   /* Holds: the P. All to the global queue */
void timers_move(struct p *from, struct p *to); /* Holds: from */
void gfpurge(struct p *);			/* Holds: the P. Its free Gs to the global list */

/* ---- pinning (pin.c) ---- */
#define P_HANDED 1000 /* in p->m, added to the seat of a pinned worker: on its way there */
#define P_GIVEN 2000  /* the same for an idle one: whoever changes it does so by compare-and-swap */
#define PINNED_MAX (WORKERS_MAX - 8)
void pin(struct g *);
void unpin(struct g *);
bool pin_room(void);
_Noreturn void pin_retire(struct m *);
struct g *stoplockedm(struct m *);
void startlockedm(struct m *, struct g *);
void pin_begin(struct m *);
void repair_pinned(struct m *, struct g *);
void repair_pin(struct m *, struct g *);
void repair_handed(struct m *);

/* ---- between the files of the scheduler; on g0 ---- */
void left_cpu(struct m *, struct g *); /* its frames are whole: a death of this worker loses nothing of it */
void dropg(struct m *);

/* ---- system calls (syscall.c), sysmon (sysmon.c) ---- */
void entersyscall(void); /* on a G: nothing of the runtime until exitsyscall, not even malloc */
bool syscall_turn_comes(bool (*at_once_if)(void *), void *call);
/*
 * Parks. Before a call that may block: waits while too few workers would be left. at_once_if: of a call that
 * waits for others, for as long as it takes; makes it if it need not wait. True: that is what was done.
 */
static inline bool syscall_turn(bool (*at_once_if)(void *), void *call)
{
	return __builtin_expect(atomic_load_explicit(&sched.crowded, memory_order_relaxed), 0) &&
	       syscall_turn_comes(at_once_if, call);
}
void entersyscallblock(void); /* known to block: the P is handed on at once */
void exitsyscall(void);	      /* Parks if no P is to be had. errno is the caller's to keep */
bool in_syscall(struct m *);
bool retake(struct p *);		   /* medic: takes the P of a worker in a system call and hands it on */
void retake_mend(struct g *);		   /* medic: its predecessor died in retake */
bool syscall_hold(struct g *, uint64_t s); /* the scan bit of one in a system call, whose status was s */
bool syscall_let(struct g *);		   /* false: its worker has died meanwhile */
void repair_hold(struct g *);		   /* medic: who held it has died */
int64_t sysmon(int64_t now);		   /* medic: one look; ns to the next, 0: when rung */

/* ---- workers that cannot go on (fence.c): the medic's ---- */
enum fence_why { FENCE_NOT, FENCE_STOPPED, FENCE_HANGS };
extern int64_t fence_call_ns;
bool fence_look(int64_t now);
void fence_waits(int seat);		   /* it waits for what that worker has */
bool others_wait(struct p *, int64_t now); /* sysmon.c: there is work for the P that its M does not do right now */

/* ---- timers (timer.c) ---- */
void timer_add(struct p *, int64_t when, struct g *, uint32_t seq);
unsigned timers_run(struct p *, int64_t now); /* readies what is due; how many */
int64_t timers_next(void);		      /* earliest of all Ps, 0 if none */
void timers_rebuild(struct p *);	      /* medic. Holds: timers_lock */

/* ---- stacks (stack.c) ---- */
void stack_enter(struct g *);  /* its frames are in its window here when this returns */
bool stack_fit(struct g *);    /* its block is large enough for its frames: copystack. false: no memory */
void stack_free(struct g *);   /* at its death */
void windows_init(struct m *); /* free windows from occ */
char *stack_top(uint32_t win);

/* ---- channels and sync objects: what repair needs ---- */
void chan_repair(struct sh_lock *, struct note *);
void waitq_rebuild(struct sudog **first, struct sudog **last);
void sync_repair(struct sh_lock *, struct note *);
/* Takes a lost G's sudog off the queue it may still be in. */
void chan_forget(struct sh_lock *, struct sudog *);
void select_forget(struct g *); /* a lost G may be in the middle of a select: it is in no queue any more */
void sync_forget(struct sh_lock *, struct sudog *);
void join_forget(struct g *, struct sudog *);
void mutex_lost(struct shoal_mutex *, struct g *);
void mutexes_abandon(struct g *); /* at its end: the next holder is told */
void rw_abandon(struct g *);
void rw_repair(struct sh_lock *, struct note *);
void join_repair(struct sh_lock *, struct note *);
void rw_forget(struct sh_lock *, struct sudog *);
void cond_pass(struct shoal_cond *); /* tells the first waiter */
void sem_repair(struct shoal_sem *, const struct note *);
void wg_leave(struct g *);
void wg_ungive(struct shoal_wg **);

/* ---- what ended tasks left allocated (old_heaps.c): the medic's ---- */
void left_find(void);		  /* a new medic: what there is */
void left_add(struct sh_heap *);  /* the heap of a task that is over */
void left_renewed(unsigned seat); /* the process in the seat is gone */
bool left_look(int64_t now);	  /* asks workers to go when much has gathered; true: look again soon */

/* ---- repair and audit ---- */
void note_told(struct note *);	 /* medic: whom note.sg names was told, if so, and is woken for certain */
void repair_begin(void);	 /* medic, before all else: its waits repair dead owners */
void repair_seat(unsigned seat); /* medic: all that the dead process in the seat held */
bool repair_waits(void);	 /* somebody is dead and not repaired */
void repair_wake(void); /* after it. The dead one may have been about to wake somebody: all look for themselves */
int audit(char *msg, size_t n); /* 0 clean, else the number of faults; the first in msg */

void acquirem(void); /* no preemption between these: the worker must not change under the caller */
void releasem(void);

#endif
