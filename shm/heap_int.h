/*
 * heap_int.h - the structures of the heap, for arena.c, heap.c, large.c, span.c and heap_repair.c only.
 *
 * The arena is cut into pages of 8 KiB, numbered from its start. Page 0 is metadata, so 0 means "none" in every
 * link. Runs cover the pages [first, top) without a gap; page top and all behind it were never used. A run is
 * described by the struct sh_span of its first page. Its desc word is the truth:
 *
 *   63                                  33 32     26 25            10 9       3 2     0
 *   +-------------------------------------+---------+----------------+---------+-------+
 *   |                pages                |  owner  |      heap      |  class  | state |
 *   +-------------------------------------+---------+----------------+---------+-------+
 *
 *   FREE   no owner; in a bin
 *   SMALL  blocks of one class, belongs to a heap; owner is the cpu that allocates from it, or OWNER_NONE if
 *          the span is on the partial list of its heap
 *   LARGE  one block of whole pages
 *   PURGE  a seat is returning its memory to the system
 *
 * A block is live if its bit in a and its bit in r differ (struct sh_bits):
 *
 *   word a (owner of the span, plain store)    0 1 1 0 1     allocate: flip a
 *   word r (all others, atomic xor)            0 0 1 0 0     free: owner flips a, others flip r
 *                                              ---------
 *   live                                       0 1 0 0 1
 *
 * So each operation commits by one bit, and nothing has to be collected. Bits behind the last block are set in a
 * for ever. The two words are neighbours: another process fetches one cache line to free a block.
 *
 * mark says how free blocks of a SMALL span are found again:
 *   FULL     not at all: a process that frees a block must list the span (owner: -> LISTED, others: -> QUEUED)
 *   QUEUED   it is on the slot's remote stack, or is being pushed by the seat whose note names it
 *   LISTED   it is on the owner's list, or on the partial list of the heap
 *   CURRENT  the slot allocates from it
 * Marks and lists are hints; only the bits say whether a block is free. So a hint that a death loses costs memory
 * until the cache is rebuilt, and nothing else.
 */
#ifndef SHM_HEAP_INT_H
#define SHM_HEAP_INT_H

#include "shm/heap.h"
#include "shm/lock.h"

#include <stdatomic.h>

#define PAGE_SHIFT 13
#define PAGE_BYTES (1ul << PAGE_SHIFT)
#define CLASSES 72
#define SMALL_MAX 32768ul
#define STEPS 4		  /* sizes of the spans of a class, from the first to the largest */
#define SPAN_PAGES_MAX 16 /* offsets in a span stay below 2^17: see block_index */
#define PAGE_WORDS 8	  /* struct sh_bits for a page: 512 blocks of 16 bytes */
#define BINS 136
#define HEAP_SEATS 128
#define OWNER_NONE (SH_HEAP_NOCPU + 1)
#define LATE 8

enum run_state { RUN_FREE, RUN_SMALL, RUN_LARGE, RUN_PURGE };
enum span_mark { MARK_LISTED, MARK_CURRENT, MARK_FULL, MARK_QUEUED };
enum heap_state { HEAP_FREE, HEAP_LIVE, HEAP_RELEASING, HEAP_RETIRED };

/*
 * 64 blocks of a SMALL span.
 * OWNER  a: the owner of the span; r: all others, atomically
 * LOCK   none
 * ORDER  flipped with release, read with acquire
 * DEATH  one flip commits an allocation or a free
 */
struct sh_bits {
	_Atomic uint64_t a, r; /* pairs with word_live: a block is reused only after its free is seen */
};

/*
 * The run that starts at a page.
 * OWNER  desc: the holder of the arena's lock. lnext, lprev: the owner cpu, or for OWNER_NONE the lock.
 *        rnext: the process that moved mark to QUEUED, until the span is popped
 * LOCK   arena->lock guards next, prev, back
 * ORDER  desc is stored with release and loaded with acquire; mark changes by atomic exchange
 * DEATH  desc changes by one store, so the chain of runs is always whole; all else is rebuilt from it
 */
struct sh_span {
	_Atomic uint64_t desc;	/* pairs with span_desc */
	_Atomic uint32_t mark;	/* pairs with free_remote, which reads it after it flips r */
	_Atomic uint32_t rnext; /* link of the remote stack */
	uint32_t lnext, lprev;	/* links of the slot's list or the heap's partial list */
	uint32_t next, prev;	/* links of the heap's spans; of a free run: of its bin */
	uint32_t back;		/* in the last page of a free run: its length */
	uint32_t blocks;
	uint32_t pad[4];
} __attribute__((aligned(64)));

/*
 * The place from which a (heap, cpu) allocates blocks of one class. The word `at`:
 *
 *   63                          32 31     26 25                     0
 *   +-----------------------------+---------+------------------------+
 *   | block 0, in 16 bytes from   | last    |  index in arena->bits  |
 *   | the start of the arena      | block   |                        |
 *   +-----------------------------+---------+------------------------+
 *
 * OWNER  the user of the cpu; for SH_HEAP_NOCPU the holder of the arena's lock. remote: any process pushes
 * LOCK   none
 * ORDER  avail is set after at. remote: pushed by compare-and-swap with release, taken by exchange
 * DEATH  avail is always a subset of the free blocks of the word: a block leaves avail before its bit is
 *        flipped, and enters it afterwards. at changes by one store
 */
struct sh_slot {
	uint64_t avail;		 /* free blocks of the current word */
	uint64_t at;		 /* the current word: see above */
	uint32_t span;		 /* the CURRENT span, or 0 */
	uint32_t list;		 /* LISTED spans */
	_Atomic uint32_t remote; /* QUEUED spans; pairs with heap_drain */
	uint32_t id;		 /* class, and cpu + 1 above the low 8 bits; set before at */
};

/*
 * The cache of a (heap, cpu).
 * OWNER  as its slots; heap and cpu are set while no process uses it
 * LOCK   none
 * ORDER  busy is set before and cleared after every change of a list
 * DEATH  a user that finds busy set rebuilds the cache. A block in late is freed by the store that puts it
 *        there; taken out and not yet free in its span, it is lost until the task ends
 *
 * late: blocks of spans of other cpus. Their bits are flipped LATE such frees later, when the cache line that was
 * prefetched has arrived, so nothing waits for it.
 */
struct sh_cache {
	struct sh_slot slot[CLASSES];
	uint8_t step[CLASSES];	/* size of the next span of the class */
	uint8_t spare[CLASSES]; /* an empty span is on the list */
	uint32_t heap, cpu;
	uint32_t busy;
	uint32_t deaths; /* arena->deaths when the cache was last rebuilt */
	uint32_t next;	 /* next free cache */
	uint32_t late_at;
	uint32_t late[LATE]; /* index in bits, and the bit in the low 6 bits */
	uint32_t pad[14];
} __attribute__((aligned(64)));

/*
 * A heap: the memory of a task.
 * OWNER  its task
 * LOCK   arena->lock guards all but seats; the user of a cpu reads cache[cpu] without it
 * ORDER  cache[cpu] is stored with release when the cache is complete
 * DEATH  state and cache[cpu] are commits; spans, partial and used are rebuilt. A bit too many in seats keeps
 *        blocks longer; it is set before the seat runs the task
 */
struct sh_heap {
	struct sh_arena *arena;
	uint64_t limit;		 /* in pages */
	_Atomic uint64_t used;	 /* in pages */
	_Atomic uint64_t mapped; /* bytes that the task has mapped outside of the arena */
	_Atomic uint64_t seats;	 /* seats whose processes may have pointers to blocks */
	_Atomic uint32_t state;	 /* stored last of a new heap: pairs with sh_heap_retired */
	_Atomic uint32_t privileged;
	uint32_t index;
	uint32_t spans;			  /* all its runs */
	uint32_t next;			  /* next free heap */
	uint32_t cache[SH_HEAP_CPUS + 1]; /* index of a cache, or 0 */
	uint32_t partial[CLASSES];
} __attribute__((aligned(64)));

/*
 * The heap operation that a seat has started.
 * OWNER  the process in the seat; after its death the medic
 * LOCK   none
 * ORDER  set before the commit that it announces, cleared after it
 * DEATH  sh_heap_repair completes what it names
 */
struct sh_heap_note {
	_Atomic uint32_t queue; /* span that is about to be pushed on a remote stack; pairs with sh_heap_repair */
	_Atomic uint32_t purge; /* run whose memory is being returned to the system */
	uint32_t pad[14];
} __attribute__((aligned(64)));

/*
 * The slot from which a cpu last allocated.
 * OWNER  the user of the cpu
 * LOCK   none
 * ORDER  none: one process
 * DEATH  a hint, checked at each use: with the release of its heap the slot may have become another's
 */
struct sh_recent {
	struct sh_slot *slot;
	uint32_t pad[14];
} __attribute__((aligned(64)));

/*
 * The arena.
 * OWNER  the first fields are written once, by sh_arena_init
 * LOCK   lock guards the rest; the atomic counters are read by any process
 * ORDER  desc of a run, then everything that can be computed from it
 * DEATH  with the lock held: sh_heap_repair rebuilds all of it from runs, heaps and caches
 */
struct sh_arena {
	uint64_t magic;
	size_t size;
	uint32_t first, end; /* pages for blocks */
	uint32_t heaps, caches;
	uint32_t rest;			/* a freed heap is reused only when this many are free */
	uint64_t limit, slack, reserve; /* in pages */
	struct sh_heap *heap;
	struct sh_cache *cache;
	_Atomic uint64_t *head; /* one bit for each page: a run starts here */
	/* Of a free page: its memory is not zero. Of a used page: its memory was not zero when it was taken. */
	_Atomic uint64_t *dirty;
	/* first page of the span to which a page belongs; trusted only if that span agrees */
	_Atomic uint32_t *map;
	struct sh_span *span;
	struct sh_bits *bits;
	uint8_t pages[CLASSES][STEPS];

	struct sh_lock lock __attribute__((aligned(64)));
	_Atomic uint32_t top;
	_Atomic uint32_t deaths;
	/* pages of live heaps, pages of retired heaps, free pages that hold memory */
	_Atomic uint64_t used, retired, kept;
	_Atomic uint64_t mapped; /* sum of the heaps' */
	uint64_t changes;
	_Atomic uint32_t heap_top, cache_top;
	uint32_t heap_first, heap_last, heap_nfree;
	uint32_t cache_first;
	uint64_t binmap[3];
	uint32_t bin[BINS];
	struct sh_heap_note note[HEAP_SEATS];
	struct sh_recent recent[SH_HEAP_CPUS];
};

/* A process holds the lock of the arena: the caller, or a dead seat whose holdings the caller repairs. */
#define HOLDS(a) (atomic_load_explicit(&(a)->lock.owner, memory_order_relaxed) != 0)

/* ---- desc ---- */

static inline uint64_t desc_make(unsigned state, unsigned class, unsigned heap, unsigned owner, uint32_t pages)
{
	return (uint64_t)state | (uint64_t) class << 3 | (uint64_t)heap << 10 | (uint64_t)owner << 26 |
	       (uint64_t)pages << 33;
}

static inline unsigned desc_state(uint64_t d)
{
	return d & 7;
}

static inline unsigned desc_class(uint64_t d)
{
	return d >> 3 & 127;
}

static inline unsigned desc_heap(uint64_t d)
{
	return d >> 10 & 0xffff;
}

static inline unsigned desc_owner(uint64_t d)
{
	return d >> 26 & 127;
}

static inline uint32_t desc_pages(uint64_t d)
{
	return (uint32_t)(d >> 33);
}

static inline uint64_t span_desc(struct sh_arena *a, uint32_t p)
{
	return atomic_load_explicit(&a->span[p].desc, memory_order_acquire);
}

/* Only the holder of the lock writes; readers need no lock. */
static inline void sh_count(_Atomic uint64_t *sum, uint64_t n)
{
	atomic_store_explicit(sum, atomic_load_explicit(sum, memory_order_relaxed) + n, memory_order_relaxed);
}

/* ---- places ---- */

static inline char *page_at(const struct sh_arena *a, uint32_t p)
{
	return (char *)(uintptr_t)a + ((size_t)p << PAGE_SHIFT);
}

static inline unsigned span_words(const struct sh_span *s)
{
	return (s->blocks + 63) / 64;
}

static inline uint32_t at_word(uint64_t at)
{
	return at & ((1u << 26) - 1);
}

static inline unsigned at_last(uint64_t at)
{
	return at >> 26 & 63;
}

/* Returns a ^ r of word w for an empty span. */
static inline uint64_t word_empty(const struct sh_span *s, unsigned w)
{
	unsigned n = s->blocks - w * 64;

	return n >= 64 ? 0 : ~0ul << n;
}

static inline uint64_t word_live(struct sh_arena *a, size_t word)
{
	return atomic_load_explicit(&a->bits[word].a, memory_order_relaxed) ^
	       atomic_load_explicit(&a->bits[word].r, memory_order_acquire);
}

static inline bool span_empty(struct sh_arena *a, uint32_t p)
{
	for (unsigned w = 0; w < span_words(&a->span[p]); w++)
		if (word_live(a, (size_t)p * PAGE_WORDS + w) != word_empty(&a->span[p], w))
			return false;
	return true;
}

extern const uint16_t sh_class_units[CLASSES]; /* size of a block in units of 16 bytes */
extern const uint32_t sh_class_recip[CLASSES]; /* 2^32 / size of a block, rounded up */

static inline size_t class_bytes(unsigned class)
{
	return (size_t)sh_class_units[class] * 16;
}

/* 16 to 128 in steps of 16, then eight classes for each doubling. */
static inline unsigned class_of(size_t size)
{
	size_t s = size - 1;
	/* 0 for up to 255; computed without a branch, because sizes are unpredictable */
	unsigned k = 56 - (unsigned)__builtin_clzl(s | 128);

	return k * 8 + (unsigned)(s >> (k + 4));
}

/* ---- span.c: callers hold arena->lock unless the comment says otherwise ---- */

/* Takes a free run of n pages out of its bin, aligned; it stays FREE. 0: none. */
uint32_t sh_run_take(struct sh_arena *, uint32_t n, size_t align);
/* Makes a span of a run from sh_run_take: stores desc, the commit, and everything that can be computed from it. */
void sh_span_commit(struct sh_arena *, uint32_t p, uint64_t desc);
/* Frees the pages of a span. */
void sh_span_free(struct sh_arena *, uint32_t p);
/* For LARGE only: changes the span to n pages. Returns false if the pages behind it are not free. */
bool sh_span_resize(struct sh_arena *, uint32_t p, uint32_t n);
/* True if the limits of heap and arena allow n more pages. */
bool sh_span_allowed(const struct sh_heap *, uint32_t n);
/* Returns how many of the pages hold memory already. Needs no lock for the caller's own run. */
uint32_t sh_pages_dirty(struct sh_arena *, uint32_t p, uint32_t n);
bool sh_page_dirty(struct sh_arena *, uint32_t p);
/* Needs no lock. Faults the pages in at once, unless this process did so before. */
void sh_span_populate(struct sh_arena *, uint32_t p, uint32_t n, uint32_t dirty);
/* Takes the lock. Returns about `pages` of memory to the system while more than the slack is kept. */
void sh_arena_purge(struct sh_arena *, unsigned seat, uint64_t pages);
/*
 * Needs no lock. Completes the purge of a dead seat. False: the lock is taken, perhaps by another dead seat, for
 * whose repair the medic must not wait; the note stays.
 */
bool sh_purge_finish(struct sh_arena *, unsigned dead, unsigned by);
/* Returns the first page of the run that contains p. */
uint32_t sh_run_head(struct sh_arena *, uint32_t p);
/* Rebuilds everything that can be computed from the descs. */
void sh_runs_rebuild(struct sh_arena *);

/* ---- heap_repair.c ---- */

/*
 * Finds all free blocks of a (heap, cpu) again and leaves the cache busy. Holds: the lock; the cpu is the
 * caller's.
 */
void sh_cache_rebuild(struct sh_arena *, struct sh_heap *, unsigned cpu);

/* ---- heap.c ---- */
void sh_cache_list(struct sh_arena *, struct sh_slot *, uint32_t p); /* puts a span on the owner's list */
/*
 * Called after a rebuild: frees late and queued blocks and empties the lists; then the cache is valid. Holds: the
 * lock and the cpu.
 */
void sh_cache_settle(struct sh_arena *, struct sh_cache *, unsigned seat);
void sh_cache_settled(struct sh_cache *);

/* ---- large.c ---- */
void *sh_large_alloc(struct sh_heap *, unsigned seat, size_t size, size_t align, bool zero);
void sh_large_free(struct sh_arena *, uint32_t p, unsigned seat);
bool sh_large_resize(struct sh_arena *, uint32_t p, unsigned seat, size_t size); /* in place; false: not possible */

/* ---- arena.c: hold arena->lock ---- */
struct sh_cache *sh_cache_new(struct sh_heap *, unsigned cpu); /* NULL: no cache is left */
void sh_cache_free(struct sh_arena *, uint32_t c);

#endif
