/*
 * heap.h - the segment heap: malloc for goroutines.
 *
 * It has Go's shape: an arena of 8 KiB pages; spans, each with blocks of one size class; a cache per (task, P) that
 * allocates without lock or atomic read-modify-write; central structures under one lock; a page map from
 * address to span. All metadata lies in the segment, apart from the blocks, so that a module that writes
 * past its block cannot break it.
 *
 *   arena                             heap of a task              cache of (task, P)
 *   +---------------------------+     +-------------------+       +-----------------------+
 *   | runs of pages, bins       |<----| spans, partial    |<------| a slot for each class |--> block
 *   | lock                      |     | cache[cpu]        |       | (no lock)             |
 *   +---------------------------+     +-------------------+       +-----------------------+
 *
 * A heap (struct sh_heap) belongs to a task. sh_heap_release() gives back all its spans at once.
 *
 * OWNER  a small span belongs to one (heap, cpu), or is on the partial list of its heap. Its owner
 *        allocates and frees by plain stores to one bitmap; any other process frees by an atomic flip of
 *        a bit in a second bitmap. A block is live if its two bits differ
 * LOCK   arena->lock guards pages, bins, and the lists of spans, heaps and caches
 * ORDER  the bits of a block are flipped with release and read with acquire
 * DEATH  every change commits by one store: a block by its bit, a span by its descriptor. A block that was
 *        allocated by a dead worker and not handed out stays until the task ends. sh_heap_repair() rebuilds
 *        from the descriptors what the lock guards. The next user of a dead worker's cpu continues with
 *        its caches, which are valid at any instruction; free blocks that they lost are found again before
 *        the heap takes more pages
 */
#ifndef SHM_HEAP_H
#define SHM_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sh_arena; /* one per segment, at the start of the range given to sh_arena_init */
struct sh_heap;	 /* in the arena's metadata, from a table */

#define SH_HEAP_CPUS 64		   /* caches of a heap: one for each P */
#define SH_HEAP_NOCPU SH_HEAP_CPUS /* the caller has no P: it uses no cache and takes the lock */

/*
 * Makes an empty arena in [base, base+size), which must be zero, aligned to 4 MiB and at the same address in
 * every process. limit: bytes that may be in use at once (--memory of the supervisor).
 */
struct sh_arena *sh_arena_init(void *base, size_t size, size_t limit);

/*
 * Makes a heap with a limit of its own (0: only the arena's). NULL: the table (65,536 heaps) is full. seat, here
 * and below: the seat of the caller, which notes its locks. Two processes must not use one seat at once.
 */
struct sh_heap *sh_heap_new(struct sh_arena *, unsigned seat, size_t limit);

/*
 * Sets whether the heap may use the arena's reserve (a 16th of the limit). Other heaps cannot, so the runtime has
 * memory for its own work when tasks have used up theirs.
 */
void sh_heap_privilege(struct sh_heap *, bool);

/*
 * Allocates size bytes (0 counts as 1), aligned to 16 or to align (a power of two), whichever is more. cpu: the P
 * whose cache is used; the caller must be its only user. The memory is not zeroed unless zero is set. NULL: a
 * limit is reached. Never parks.
 */
void *sh_heap_alloc(struct sh_heap *, unsigned seat, unsigned cpu, size_t size, size_t align, bool zero);

/* Frees a block, from any P and any seat, of any heap. False: no live block starts at p. */
bool sh_heap_try_free(struct sh_arena *, unsigned seat, unsigned cpu, void *p);
/* The same, but a pointer that is not a live block ends the process. */
void sh_heap_free(struct sh_arena *, unsigned seat, unsigned cpu, void *p);

/* Grows or shrinks the block in place. False: not possible, nothing changed. */
bool sh_heap_resize(struct sh_arena *, unsigned seat, unsigned cpu, void *p, size_t size);

/* Returns the usable size of the block at p, or 0 if no live block starts there. */
size_t sh_heap_usable(struct sh_arena *, const void *p);
bool sh_heap_owns(const struct sh_arena *, const void *p);    /* true if p lies in the range of blocks */
struct sh_heap *sh_heap_of(struct sh_arena *, const void *p); /* the heap to which the block belongs, or NULL */

/*
 * Frees all blocks of the heap and the heap itself. No process may use it any more. Restartable: if the caller
 * dies during the call, or before it has recorded the end, the next medic calls this again.
 */
void sh_heap_release(struct sh_heap *, unsigned seat);

/*
 * The task of the heap has ended, but processes may still have pointers to blocks: libraries keep some in variables of
 * their own. Frees what is free already. The rest no longer counts as used and stays until sh_heap_release; its
 * blocks may still be freed. Returns true if no block was left and the heap itself was freed. Restartable.
 *
 * sh_heap_touch: the process in the seat (below 64) is about to run the task of the heap. sh_heap_seats has its bit
 * until sh_heap_renewed, which says that the process has ended and its pointers are gone.
 */
bool sh_heap_retire(struct sh_heap *, unsigned seat);
void sh_heap_touch(struct sh_heap *, unsigned seat);
void sh_heap_renewed(struct sh_heap *, unsigned seat);
uint64_t sh_heap_seats(const struct sh_heap *);
/*
 * Returns the heap with this number if it is retired, otherwise NULL. A walk starts at number 0 and ends when
 * *more is false.
 */
struct sh_heap *sh_heap_retired(struct sh_arena *, uint32_t number, bool *more);
uint32_t sh_heap_number(const struct sh_heap *);

/* Called when the P with this cpu goes out of use: its cached spans go back to the heap, empty ones to the arena. */
void sh_heap_flush(struct sh_heap *, unsigned seat, unsigned cpu);

/*
 * Repairs what the dead process in the seat held: if it held the arena's lock or died during an operation,
 * completes the structures and frees the lock. Other seats may continue to allocate; at most they wait for the
 * lock. Restartable. medic: the seat of the caller. This call does not wait for the lock of another dead seat;
 * release, flush and audit do, so if several seats are dead, repair all of them before any of these.
 */
void sh_heap_repair(struct sh_arena *, unsigned seat, unsigned medic);

struct sh_heap_stats {
	size_t used;	  /* bytes of the spans that live heaps have, and of what their tasks have mapped */
	size_t retired;	  /* bytes of the spans of retired heaps */
	size_t committed; /* bytes of pages that hold memory */
	size_t limit;
};
void sh_arena_stats(const struct sh_arena *, struct sh_heap_stats *); /* takes no lock, callable by any process */
/* Returns some MiB of free memory to the system, if more is kept than necessary. True: there is more. */
bool sh_arena_trim(struct sh_arena *, unsigned seat);
size_t sh_heap_used(const struct sh_heap *); /* bytes of the spans of this heap, and of what its task has mapped */
/* The same for a pointer that may be damaged: 0 if it is not a heap. */
size_t sh_heap_used_at(const struct sh_arena *, const void *maybe_heap);
size_t sh_arena_live(struct sh_arena *, unsigned seat); /* bytes in live blocks; counts them under the lock */

/*
 * Checks every invariant of the arena. Safe under load: takes the lock for short times. 0, or -1 and what is
 * wrong in msg.
 */
int sh_heap_audit(struct sh_arena *, unsigned seat, char *msg, size_t n);

/*
 * Adds bytes that the heap's task has mapped outside of the arena to its memory. Returns false, and changes
 * nothing, if a limit would be exceeded. sh_heap_set_mapped sets the sum.
 */
bool sh_heap_map(struct sh_heap *, unsigned seat, size_t bytes);
void sh_heap_unmap(struct sh_heap *, unsigned seat, size_t bytes);
void sh_heap_set_mapped(struct sh_heap *, unsigned seat, size_t bytes);
size_t sh_heap_mapped(const struct sh_heap *);

#endif
