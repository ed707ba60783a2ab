/*
 * heap.h - the segment heap: malloc for goroutines.
 *
 * Go's shape: an arena of 8 KiB pages; spans of one size class; a cache per (task, P) that
 * allocates without lock or atomic read-modify-write; central structures under one lock; a page
 * map from address to span. All metadata lies in the segment, apart from the memory handed out,
 * so that a module that writes past its block cannot break it.
 *
 * OWNER  a small span belongs to one (heap, cpu), or is on the heap's partial list. Its owner
 *        allocates and frees by plain stores to one bitmap; who else frees a block flips a bit of
 *        another bitmap atomically. A block is live when its two bits differ.
 * LOCK   arena->lock guards pages, bins and lists of spans, heaps and caches.
 * DEATH  every change is committed by one store: a block by its bit, a span by its descriptor. A
 *        block allocated by a dead worker and not yet handed out is the task's until the task
 *        ends. sh_heap_repair() rebuilds what the lock protects from the descriptors, and is
 *        restartable at any instruction. The next user of a dead worker's cpu goes on with its
 *        caches: they are valid at any instruction, and what free blocks they lost sight of are
 *        found again before the heap takes more pages.
 *
 * A heap (struct sh_heap) belongs to a task. sh_heap_release() gives
 * back all spans of a heap at once, however the task ended.
 */
#ifndef SHM_HEAP_H
#define SHM_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sh_arena; /* one per segment, at the start of the range given to sh_arena_init */
struct sh_heap;	 /* in the arena's metadata, taken from a table */

#define SH_HEAP_CPUS 64		   /* caches per heap: one for each P */
#define SH_HEAP_NOCPU SH_HEAP_CPUS /* caller has no P: works on no cache, takes the lock */

/*
 * Lays an empty arena over [base, base+size), which must be zero, 4 MiB aligned and at the same
 * address in every process. limit: bytes that may be in use at once (the supervisor's --memory).
 */
struct sh_arena *sh_arena_init(void *base, size_t size, size_t limit);

/*
 * A new heap with its own limit (0: only the arena's). NULL when the table (65,536 heaps) is full.
 * seat, here and below: the caller's, in which his locks are noted. Two processes must not act for
 * one seat at once.
 */
struct sh_heap *sh_heap_new(struct sh_arena *, unsigned seat, size_t limit);

/*
 * Whether the heap may go into the arena's reserve (a 16th of the limit), which other heaps leave
 * alone: what the runtime needs for its own work is there when tasks have taken all they may.
 */
void sh_heap_privilege(struct sh_heap *, bool);

/*
 * size bytes (0 counts as 1), aligned to at least 16 and to align (a power of two, or 0).
 * cpu: the P whose cache is used; the caller must be the only one that uses that cpu now.
 * Memory is NOT zeroed unless zero is set (fresh pages are known to be zero and not cleared twice).
 * NULL when a limit is reached. Never parks. seat: the caller's seat, noted as owner of locks.
 */
void *sh_heap_alloc(struct sh_heap *, unsigned seat, unsigned cpu, size_t size, size_t align, bool zero);

/* Gives a block back, from any P, any seat, any heap. false: p is not the start of a live block, nothing done. */
bool sh_heap_try_free(struct sh_arena *, unsigned seat, unsigned cpu, void *p);
void sh_heap_free(struct sh_arena *, unsigned seat, unsigned cpu, void *p); /* checks that it is one */

/* Grows or shrinks in place if it can; true: done (same address), false: nothing changed. */
bool sh_heap_resize(struct sh_arena *, unsigned seat, unsigned cpu, void *p, size_t size);

size_t sh_heap_usable(struct sh_arena *, const void *p); /* bytes the block at p holds; 0: no live block starts there */
bool sh_heap_owns(const struct sh_arena *, const void *p);    /* p lies in the arena's block range: two compares */
struct sh_heap *sh_heap_of(struct sh_arena *, const void *p); /* the heap that the block belongs to, or NULL */

/*
 * All blocks of the heap and the heap itself are gone. Nobody may use it any more. Restartable:
 * who was killed in it, or before he noted that it was done, calls it again.
 */
void sh_heap_release(struct sh_heap *, unsigned seat);

/*
 * The heap's task is over, but processes may remember blocks that it left: libraries keep pointers
 * in variables of their own. What is free is given back; the rest counts no more as used, and is
 * kept until sh_heap_release. Blocks may still be freed. true: nothing was left, the heap is gone.
 * Restartable as release is.
 *
 * sh_heap_touch: the process in the seat (below 64) is about to run the heap's task. The bit stays
 * in sh_heap_seats until sh_heap_renewed: that process is gone, and its pointers with it.
 */
bool sh_heap_retire(struct sh_heap *, unsigned seat);
void sh_heap_touch(struct sh_heap *, unsigned seat);
void sh_heap_renewed(struct sh_heap *, unsigned seat);
uint64_t sh_heap_seats(const struct sh_heap *);
/* The heap with that number if it was left, for a walk over all from 0; *more: false past the last. */
struct sh_heap *sh_heap_retired(struct sh_arena *, uint32_t number, bool *more);
uint32_t sh_heap_number(const struct sh_heap *);

/* The P with this cpu is destroyed, or its heap's tasks are moved: its cached spans go back to the heap, empty ones to all. */
void sh_heap_flush(struct sh_heap *, unsigned seat, unsigned cpu);

/*
 * seat is dead (its process runs no more). If it held the arena's lock or was in the middle of an
 * operation, makes everything whole and frees the lock. Safe while other seats go on allocating
 * (they wait on the lock at most). May be called again after it was itself killed half-way:
 * medic: the seat that repairs. Does not wait for another dead seat's lock; release, flush and audit
 * do, so when several seats are dead all are repaired before any of these.
 */
void sh_heap_repair(struct sh_arena *, unsigned seat, unsigned medic);

struct sh_heap_stats {
	size_t used;	  /* bytes of the spans that heaps hold */
	size_t retired;	  /* bytes of the spans that sh_heap_retire has kept back */
	size_t committed; /* bytes of pages touched */
	size_t limit;
};
void sh_arena_stats(const struct sh_arena *, struct sh_heap_stats *); /* takes no lock: counters, for anybody */
/* Gives a few MiB of what is free back to the system, if more is kept than need be. true: there is more to give. */
bool sh_arena_trim(struct sh_arena *, unsigned seat);
size_t sh_heap_used(const struct sh_heap *); /* bytes of spans this heap holds */
/* The same of what may not be a heap at all, for who believes nothing of the segment: 0 then. */
size_t sh_heap_used_at(const struct sh_arena *, const void *maybe_heap);
size_t sh_arena_live(struct sh_arena *, unsigned seat); /* bytes in blocks handed out: counts them, under the lock */

/* Every invariant of the arena. Safe under load (takes the lock for short pieces). 0, or -1 with what is wrong in msg. */
int sh_heap_audit(struct sh_arena *, unsigned seat, char *msg, size_t n);

#endif
