/*
 * heap_int.h - what arena.c, heap.c, large.c, span.c and heap_repair.c know in common. Nobody else includes it.
 *
 * The arena is cut into pages of 8 KiB, numbered from its start (so page 0 is metadata, and 0
 * means "none" in every link). Pages [first, top) are covered without a gap by runs; page top and
 * all above were never used. A run is described by the struct sh_span of its first page; its desc
 * word is the truth, all else about runs is derived from it:
 *
 *   FREE   nobody's, in a bin
 *   SMALL  blocks of one size class, belongs to a heap; owner is the cpu that allocates from it,
 *          or OWNER_NONE: on the heap's partial list
 *   LARGE  one block of whole pages
 *   PURGE  its memory is being given back to the system by a seat
 *
 * A block is live when its bit in a and its bit in r differ (struct sh_bits). Allocating it, and
 * freeing it by the owner, flips the bit in a with a plain store (one writer); freeing it by anybody
 * else flips the bit in r atomically. So there is one commit each, and nothing to harvest. Bits past
 * the last block are set in a, and so live for ever. The two words lie side by side: who frees
 * another's block fetches one line from him.
 *
 * mark says who looks at a SMALL span's free blocks next:
 *   FULL     nobody: who frees a block must make it known (owner: ->LISTED, others: ->QUEUED)
 *   QUEUED   on the slot's remote stack, or being put there by the seat whose note names it
 *   LISTED   on the owner's list (or on the heap's partial list)
 *   CURRENT  the span the slot allocates from
 * marks and lists are hints that make free blocks findable; that a block is free is said by its
 * bits alone. So losing a hint in a death costs memory until the cache is rebuilt, never more.
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
#define STEPS 4		  /* span sizes of a class, from the first span to the largest */
#define SPAN_PAGES_MAX 16 /* offsets in a span stay below 2^17: see block_index */
#define PAGE_WORDS 8	  /* struct sh_bits for a page: 512 blocks of 16 bytes */
#define BINS 136
#define HEAP_SEATS 128
#define OWNER_NONE (SH_HEAP_NOCPU + 1)
#define LATE 8

enum run_state { RUN_FREE, RUN_SMALL, RUN_LARGE, RUN_PURGE };
enum span_mark { MARK_LISTED, MARK_CURRENT, MARK_FULL, MARK_QUEUED };
enum heap_state { HEAP_FREE, HEAP_LIVE, HEAP_RELEASING, HEAP_RETIRED };

/* 64 blocks of a SMALL span. OWNER a: the span's owner; r: anybody else, atomically */
struct sh_bits {
	_Atomic uint64_t a, r;
};

/*
 * The run that starts at a page.
 * OWNER  desc: who holds the arena's lock. lnext, lprev: the owner cpu; of a span of
 *        OWNER_NONE, the lock. rnext: who moved mark to QUEUED, until the span is taken off
 * LOCK   arena->lock for next, prev, back
 * DEATH  desc changes by one store, so the chain of runs is whole at any time; all else is
 *        rebuilt
 */
struct sh_span {
	_Atomic uint64_t desc;
	_Atomic uint32_t mark;
	_Atomic uint32_t rnext; /* remote stack */
	uint32_t lnext, lprev;	/* slot's list, heap's partial list */
	uint32_t next, prev;	/* the heap's spans; of a free run: its bin */
	uint32_t back;		/* of the last page of a free run: its length */
	uint32_t blocks;
	uint32_t pad[4];
} __attribute__((aligned(64)));

/*
 * What a (heap, cpu) allocates one class from.
 * OWNER  who uses the cpu; for SH_HEAP_NOCPU who holds the arena's lock. remote: anybody pushes
 * DEATH  avail is always a subset of the free blocks of the word in at: a block leaves avail
 *        before its bit is flipped, and comes to it after. at is one store
 */
struct sh_slot {
	uint64_t avail; /* free blocks of the current word */
	uint64_t at; /* the word: index in bits, 26 bits; its last block, 6; its block 0, 16 bytes from the arena, 32 */
	uint32_t span;		 /* CURRENT, or 0 */
	uint32_t list;		 /* LISTED spans */
	_Atomic uint32_t remote; /* QUEUED spans */
	uint32_t id;		 /* class, and cpu + 1 above 8 bits; set before at */
};

/*
 * OWNER  as its slots; heap and cpu are set while nobody has it
 * DEATH  busy is set around every change of a list: who finds it set rebuilds the cache. A block
 *        in late is freed by the store that puts it there; taken out and not yet free in its span
 *        it is lost to the task's end
 *
 * late: blocks of other cpus' spans. Their bits are flipped LATE such frees later, when the line
 * that holds them, asked for at once, has come: nobody waits for it.
 */
struct sh_cache {
	struct sh_slot slot[CLASSES];
	uint8_t step[CLASSES];	/* size of the class's next span */
	uint8_t spare[CLASSES]; /* an empty span is on the list */
	uint32_t heap, cpu;
	uint32_t busy;
	uint32_t deaths; /* of the arena, when last rebuilt */
	uint32_t next;	 /* free caches */
	uint32_t late_at;
	uint32_t late[LATE]; /* index in bits, and the bit in the low 6 */
	uint32_t pad[14];
} __attribute__((aligned(64)));

/*
 * OWNER  its task
 * LOCK   arena->lock for all but seats, and cache[cpu] being read by who uses the cpu
 * DEATH  state and cache[cpu] are commits; spans, partial and used are rebuilt. A bit too many in
 *        seats keeps the blocks longer; it is set before the seat runs the task
 */
struct sh_heap {
	struct sh_arena *arena;
	uint64_t limit;		/* pages */
	_Atomic uint64_t used;	/* pages */
	_Atomic uint64_t seats; /* whose process may remember blocks */
	_Atomic uint32_t state;
	_Atomic uint32_t privileged;
	uint32_t index;
	uint32_t spans;			  /* all its runs */
	uint32_t next;			  /* free heaps */
	uint32_t cache[SH_HEAP_CPUS + 1]; /* index, or 0 */
	uint32_t partial[CLASSES];
} __attribute__((aligned(64)));

/* What a seat has in hand. OWNER the seat's process, after its death the medic. */
struct sh_heap_note {
	_Atomic uint32_t queue; /* span it is about to push on a remote stack */
	_Atomic uint32_t purge; /* run it gives back to the system */
	uint32_t pad[14];
} __attribute__((aligned(64)));

/*
 * The slot that a cpu last allocated from. OWNER who uses the cpu; a hint, to be checked: the
 * slot may have become another's with its heap's release.
 */
struct sh_recent {
	struct sh_slot *slot;
	uint32_t pad[14];
} __attribute__((aligned(64)));

/*
 * OWNER  the first block of fields is written once, by sh_arena_init
 * LOCK   lock for the rest; the atomic counters are read by anybody
 * DEATH  with the lock held: sh_heap_repair rebuilds all of it from the runs, heaps and caches
 */
struct sh_arena {
	uint64_t magic;
	size_t size;
	uint32_t first, end; /* pages for blocks */
	uint32_t heaps, caches;
	uint32_t rest;			/* a freed heap is used again only when so many are free */
	uint64_t limit, slack, reserve; /* pages */
	struct sh_heap *heap;
	struct sh_cache *cache;
	_Atomic uint64_t *head;	 /* a bit for each page: a run starts here */
	_Atomic uint64_t *dirty; /* of a free page: holds memory, not zero. Of a used one: did when it was taken */
	_Atomic uint32_t *map;	 /* first page of the span a page belongs to: believed only if that span says so too */
	struct sh_span *span;
	struct sh_bits *bits;
	uint8_t pages[CLASSES][STEPS];

	struct sh_lock lock __attribute__((aligned(64)));
	_Atomic uint32_t top;
	_Atomic uint32_t deaths;
	_Atomic uint64_t used, retired, kept; /* pages of heaps in use, of those left; free pages that hold memory */
	uint64_t changes;
	_Atomic uint32_t heap_top, cache_top;
	uint32_t heap_first, heap_last, heap_nfree;
	uint32_t cache_first;
	uint64_t binmap[3];
	uint32_t bin[BINS];
	struct sh_heap_note note[HEAP_SEATS];
	struct sh_recent recent[SH_HEAP_CPUS];
};

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

/* One writer, the holder of the lock; readers want no lock. */
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

/* What a^r of word w of the span is when all its blocks are free. */
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

extern const uint16_t sh_class_units[CLASSES]; /* block size in 16 bytes */
extern const uint32_t sh_class_recip[CLASSES]; /* 2^32 / block size, rounded up */

static inline size_t class_bytes(unsigned class)
{
	return (size_t)sh_class_units[class] * 16;
}

/* 16 to 128 in steps of 16, then eight classes to each doubling. */
static inline unsigned class_of(size_t size)
{
	size_t s = size - 1;
	unsigned k = 56 - (unsigned)__builtin_clzl(s | 128); /* 0 up to 255; no branch: sizes are anybody's guess */

	return k * 8 + (unsigned)(s >> (k + 4));
}

/* ---- span.c: all hold arena->lock unless said ---- */

/* A free run of n pages, its address a multiple of align, taken out of its bin; it is still FREE. 0: none. */
uint32_t sh_run_take(struct sh_arena *, uint32_t n, size_t align);
/* Makes a free run from sh_run_take a span: the commit, and all that follows from it. */
void sh_span_commit(struct sh_arena *, uint32_t p, uint64_t desc);
/* The span's pages are free again. */
void sh_span_free(struct sh_arena *, uint32_t p);
/* LARGE only: n pages from now on. false: what follows is not free. */
bool sh_span_resize(struct sh_arena *, uint32_t p, uint32_t n);
/* Whether heap and arena may have n pages more. */
bool sh_span_allowed(const struct sh_heap *, uint32_t n);
/* How many of the pages hold memory already; any caller for its own run. */
uint32_t sh_pages_dirty(struct sh_arena *, uint32_t p, uint32_t n);
bool sh_page_dirty(struct sh_arena *, uint32_t p);
/* Holds nothing. Faults pages in at once, if this process has not done so before. */
void sh_span_populate(struct sh_arena *, uint32_t p, uint32_t n, uint32_t dirty);
/* Holds nothing; takes the lock. Gives memory back while more than the slack is kept; about `pages` of it. */
void sh_arena_purge(struct sh_arena *, unsigned seat, uint64_t pages);
/*
 * Holds nothing. Ends a purge that a dead seat had in hand. false: the lock is not to be had; it may
 * be another dead seat's, for whose repair the medic must not wait. Then the note stays.
 */
bool sh_purge_finish(struct sh_arena *, unsigned dead, unsigned by);
/* The first page of the run that p lies in. */
uint32_t sh_run_head(struct sh_arena *, uint32_t p);
/* Builds all that is derived anew from the descs. */
void sh_runs_rebuild(struct sh_arena *);

/* ---- heap_repair.c ---- */

/* Finds all free blocks of a (heap, cpu) again; leaves it busy. Holds the lock, and the cpu is the caller's. */
void sh_cache_rebuild(struct sh_arena *, struct sh_heap *, unsigned cpu);

/* ---- heap.c ---- */
void sh_cache_list(struct sh_arena *, struct sh_slot *, uint32_t p); /* puts a span on the owner's list */
/* Hold the lock, and the cpu. A rebuilt cache: late and queued blocks are free, no list leads anywhere; then whole again. */
void sh_cache_settle(struct sh_arena *, struct sh_cache *, unsigned seat);
void sh_cache_settled(struct sh_cache *);

/* ---- large.c ---- */
void *sh_large_alloc(struct sh_heap *, unsigned seat, size_t size, size_t align, bool zero);
void sh_large_free(struct sh_arena *, uint32_t p, unsigned seat);
bool sh_large_resize(struct sh_arena *, uint32_t p, unsigned seat, size_t size); /* in place, or false */

/* ---- arena.c: hold arena->lock ---- */
struct sh_cache *sh_cache_new(struct sh_heap *, unsigned cpu); /* NULL: there are no more */
void sh_cache_free(struct sh_arena *, uint32_t c);

#endif
