/*
 * heap.c - malloc for goroutines: blocks of size classes. heap.h has the contract, heap_int.h the structures.
 *
 * An allocation looks for a free block in this order, and only the last step takes the lock:
 *
 *   avail of the slot's word -> other words of the CURRENT span -> the slot's list -> the remote stack
 *   -> a partial span of the heap, or a new span
 *
 * OWNER  a (heap, cpu) allocates from its cache; SH_HEAP_NOCPU is one that holds the arena's lock. The owner
 *        of a span frees by a plain store, all others by one atomic xor
 * LOCK   arena->lock, see span.c
 * ORDER  see heap_int.h
 * DEATH  a block is live or free by its two bits, so every operation has one commit. A death can only damage the
 *        lists that lead to free blocks: a cache that is found busy is rebuilt by its next user, and after any death
 *        every cache is rebuilt once before it takes more pages
 */
#include "shm/check.h"
#include "shm/heap_int.h"
#include "shm/kill.h"

#include <string.h>

#define LATE_MAX 4096 /* only blocks up to this size are freed late */

/* A compiler barrier: if the process ends, the store before it is in memory before the one after it. */
#define in_order() atomic_signal_fence(memory_order_seq_cst)

/* ---- from a pointer to its block ---- */

struct place {
	uint64_t desc;
	uint32_t page; /* first page of the span */
	uint32_t word; /* index of the block's word in bits */
	unsigned bit;
};

/* Prefetches the cache line for writing. If it were fetched for reading first, it would be transferred twice. */
static inline void want_line(const void *line)
{
#if defined(__x86_64__)
	__asm__ volatile("prefetchw %0" : : "m"(*(const char *)line));
#else
	__builtin_prefetch(line, 1);
#endif
}

/* Finds the place of the block in a SMALL span, if a block (live or not) starts at p; otherwise only desc and page. */
static inline __attribute__((always_inline)) bool locate_small(struct sh_arena *a, const void *p, struct place *at)
{
	size_t off = (uintptr_t)p - (uintptr_t)a, in;
	uint32_t page = (uint32_t)(off >> PAGE_SHIFT), first;
	unsigned class, i;
	uint64_t d;

	if (off >= a->size || page < a->first || off % 16)
		return false;
	first = atomic_load_explicit(&a->map[page], memory_order_relaxed);
	if (first > page || first < a->first)
		return false;
	d = span_desc(a, first);
	if (page - first >= desc_pages(d))
		return false;
	at->desc = d;
	at->page = first;
	if (desc_state(d) != RUN_SMALL)
		return false;
	in = off - ((size_t)first << PAGE_SHIFT);
	class = desc_class(d);
	i = (unsigned)(in * sh_class_recip[class] >> 32);
	if (i * class_bytes(class) != in || i >= a->span[first].blocks)
		return false;
	at->word = first * PAGE_WORDS + i / 64;
	at->bit = i % 64;
	return true;
}

/* True if a live block starts at p. change: its bits are about to be written. */
static inline __attribute__((always_inline)) bool locate(struct sh_arena *a, const void *p, struct place *at,
							 bool change)
{
	at->page = 0;
	if (!locate_small(a, p, at))
		return at->page && desc_state(at->desc) == RUN_LARGE && p == page_at(a, at->page);
	if (change)
		want_line(&a->bits[at->word]);
	return (word_live(a, at->word) >> at->bit & 1) != 0;
}

size_t sh_heap_usable(struct sh_arena *a, const void *p)
{
	struct place at;

	if (!locate(a, p, &at, false))
		return 0;
	return desc_state(at.desc) == RUN_SMALL ? class_bytes(desc_class(at.desc))
						: (size_t)desc_pages(at.desc) << PAGE_SHIFT;
}

bool sh_heap_owns(const struct sh_arena *a, const void *p)
{
	size_t meta = (size_t)a->first << PAGE_SHIFT;

	return (uintptr_t)p - (uintptr_t)a - meta < a->size - meta;
}

struct sh_heap *sh_heap_of(struct sh_arena *a, const void *p)
{
	struct place at;

	return locate(a, p, &at, false) ? &a->heap[desc_heap(at.desc)] : NULL;
}

/* ---- the list of a slot ---- */

void sh_cache_list(struct sh_arena *a, struct sh_slot *s, uint32_t p)
{
	struct sh_span *n = &a->span[p];

	n->lprev = 0;
	n->lnext = s->list;
	if (s->list)
		a->span[s->list].lprev = p;
	s->list = p;
	KILL_POINT("heap.list.linked");
	atomic_store_explicit(&n->mark, MARK_LISTED, memory_order_release);
	KILL_POINT("heap.list.marked");
}

static void heap_unlist(struct sh_arena *a, struct sh_slot *s, uint32_t p)
{
	struct sh_span *n = &a->span[p];

	if (n->lnext)
		a->span[n->lnext].lprev = n->lprev;
	KILL_POINT("heap.unlist.half");
	if (n->lprev) {
		a->span[n->lprev].lnext = n->lnext;
	} else {
		sh_check(s->list == p);
		s->list = n->lnext;
	}
}

static inline void set_busy(struct sh_cache *k)
{
	k->busy = 1;
	in_order();
	KILL_POINT("heap.cache.busy");
}

static inline void clear_busy(struct sh_cache *k)
{
	in_order();
	k->busy = 0;
}

/* Points the slot at a word. avail is 0 before, and set last. */
static inline void aim(struct sh_arena *a, struct sh_cache *k, unsigned class, uint32_t p, unsigned w, uint64_t avail)
{
	struct sh_slot *s = &k->slot[class];
	uint64_t block0 = ((uint64_t)p << (PAGE_SHIFT - 4)) + (uint64_t)w * 64 * sh_class_units[class];
	unsigned left = a->span[p].blocks - w * 64, last = left >= 64 ? 63 : left - 1;

	s->id = class | (k->cpu + 1) << 8;
	in_order();
	s->at = (p * PAGE_WORDS + w) | (uint64_t)last << 26 | block0 << 32;
	in_order();
	KILL_POINT("heap.aim.at");
	s->avail = avail;
	KILL_POINT("heap.aim.avail");
}

/* Frees an empty span of a (heap, cpu). Takes the lock unless the caller holds it. */
static void give_back(struct sh_arena *a, struct sh_slot *s, unsigned seat, bool locked, uint32_t p)
{
	sh_check(seat < HEAP_SEATS);
	if (at_word(s->at) - p * PAGE_WORDS < span_words(&a->span[p])) {
		s->avail = 0;
		in_order();
		s->at = 0;
	}
	if (!locked)
		sh_lock_take(&a->lock, seat);
	sh_span_free(a, p);
	if (!locked)
		sh_lock_drop(&a->lock, seat);
}

/* ---- refill ---- */

/* Looks for a free block in the words [w, end) of the CURRENT span. */
static bool scan(struct sh_arena *a, struct sh_cache *k, unsigned class, unsigned w, unsigned end)
{
	uint32_t p = k->slot[class].span;

	for (; w < end; w++) {
		uint64_t avail = ~word_live(a, (size_t)p * PAGE_WORDS + w);

		if (avail) {
			aim(a, k, class, p, w, avail);
			return true;
		}
	}
	return false;
}

static bool scan_current(struct sh_arena *a, struct sh_cache *k, unsigned class)
{
	struct sh_slot *s = &k->slot[class];
	struct sh_span *sp = &a->span[s->span];
	unsigned n = span_words(sp), from = at_word(s->at) - s->span * PAGE_WORDS + 1;
	uint32_t full = MARK_FULL;

	if (scan(a, k, class, from <= n ? from : 0, n))
		return true;
	/*
	 * From here on a process that frees a block of this span queues the span; blocks that were freed before
	 * are found below. Pairs with free_remote.
	 */
	atomic_exchange(&sp->mark, MARK_FULL);
	KILL_POINT("heap.scan.full");
	if (scan(a, k, class, 0, n)) {
		/*
		 * If another process has queued the span in between, the span is queued and CURRENT, which does no
		 * harm.
		 */
		if (atomic_compare_exchange_strong(&sp->mark, &full, MARK_CURRENT))
			return true;
		s->span = 0;
		return true;
	}
	s->span = 0;
	KILL_POINT("heap.scan.left");
	return false;
}

/* Makes the first span of the list CURRENT. */
static void pop_list(struct sh_arena *a, struct sh_cache *k, unsigned class)
{
	struct sh_slot *s = &k->slot[class];
	uint32_t p = s->list;
	uint64_t d = span_desc(a, p);

	sh_check(desc_state(d) == RUN_SMALL && desc_class(d) == class && desc_heap(d) == k->heap &&
		 desc_owner(d) == k->cpu);
	heap_unlist(a, s, p);
	KILL_POINT("heap.pop.unlisted");
	atomic_store_explicit(&a->span[p].mark, MARK_CURRENT, memory_order_release);
	if (k->spare[class] && span_empty(a, p))
		k->spare[class] = 0;
	s->span = p;
	KILL_POINT("heap.pop.current");
}

/* Moves queued spans to the list; keeps the first empty one and gives the others back. */
static void heap_drain(struct sh_arena *a, struct sh_cache *k, unsigned class, unsigned seat, bool locked)
{
	struct sh_slot *s = &k->slot[class];
	uint32_t p = atomic_exchange(&s->remote, 0), next;

	KILL_POINT("heap.drain.taken");
	for (; p; p = next) {
		next = atomic_load_explicit(&a->span[p].rnext, memory_order_relaxed);
		if (span_empty(a, p) && s->span != p) {
			if (k->spare[class]) {
				give_back(a, s, seat, locked, p);
				continue;
			}
			k->spare[class] = 1;
		}
		sh_cache_list(a, s, p);
	}
}

/* Takes a span of the heap that has no owner. Holds: the lock. */
static uint32_t take_partial(struct sh_arena *a, struct sh_heap *h, struct sh_cache *k, unsigned class)
{
	uint32_t p = h->partial[class];

	sh_check(HOLDS(a));
	if (p) {
		uint64_t d = span_desc(a, p);

		h->partial[class] = a->span[p].lnext;
		KILL_POINT("heap.partial.unlinked");
		sh_check(desc_state(d) == RUN_SMALL && desc_owner(d) == OWNER_NONE);
		atomic_store_explicit(&a->span[p].desc, desc_make(RUN_SMALL, class, h->index, k->cpu, desc_pages(d)),
				      memory_order_release);
		KILL_POINT("heap.partial.owned");
	}
	return p;
}

/* Makes a span, as large as the slot has earned and the limits allow. Holds: the lock. */
static uint32_t new_span(struct sh_arena *a, struct sh_heap *h, struct sh_cache *k, unsigned class, uint32_t *dirty)
{
	sh_check(HOLDS(a));
	for (unsigned step = k->step[class] + 1u; step-- > 0;) {
		uint32_t n = a->pages[class][step], p;
		unsigned blocks = (unsigned)(n * PAGE_BYTES / class_bytes(class)), words = (blocks + 63) / 64;

		if (!sh_span_allowed(h, n) || !(p = sh_run_take(a, n, PAGE_BYTES)))
			continue;
		*dirty = sh_pages_dirty(a, p, n);
		a->span[p].blocks = blocks;
		atomic_store_explicit(&a->span[p].mark, MARK_LISTED, memory_order_relaxed);
		for (unsigned w = 0; w < words; w++) {
			atomic_store_explicit(&a->bits[p * PAGE_WORDS + w].a, word_empty(&a->span[p], w),
					      memory_order_relaxed);
			atomic_store_explicit(&a->bits[p * PAGE_WORDS + w].r, 0, memory_order_relaxed);
		}
		for (uint32_t i = 0; i < n; i++)
			atomic_store_explicit(&a->map[p + i], p, memory_order_relaxed);
		KILL_POINT("heap.span.written");
		sh_span_commit(a, p, desc_make(RUN_SMALL, class, h->index, k->cpu, n));
		if (k->step[class] < STEPS - 1)
			k->step[class]++;
		return p;
	}
	return 0;
}

static void free_all_late(struct sh_arena *a, struct sh_cache *k, unsigned seat);

/* A limit is reached: gives back the empty spans of all classes. */
static bool reclaim(struct sh_arena *a, struct sh_cache *k, unsigned seat, bool locked)
{
	bool some = false;

	free_all_late(a, k, seat);
	for (unsigned c = 0; c < CLASSES; c++) {
		struct sh_slot *s = &k->slot[c];

		if (atomic_load_explicit(&s->remote, memory_order_relaxed))
			heap_drain(a, k, c, seat, locked);
		for (uint32_t p = s->list, next; p; p = next) {
			next = a->span[p].lnext;
			if (!span_empty(a, p))
				continue;
			heap_unlist(a, s, p);
			give_back(a, s, seat, locked, p);
			some = true;
		}
		k->spare[c] = 0;
		if (s->span && span_empty(a, s->span)) {
			uint32_t p = s->span;

			s->span = 0;
			give_back(a, s, seat, locked, p);
			some = true;
		}
	}
	return some;
}

/* Puts a span with free blocks on the slot's list, if the limits allow it. */
static bool grow(struct sh_heap *h, struct sh_cache *k, unsigned class, unsigned seat, bool locked)
{
	struct sh_arena *a = h->arena;
	uint32_t p, dirty = 0, deaths = atomic_load(&a->deaths);
	bool fresh = false;

	if (!locked)
		sh_lock_take(&a->lock, seat);
	if (k->deaths != deaths) { /* a dead worker may have lost free blocks: find them first */
		sh_cache_rebuild(a, h, k->cpu);
		if (k->slot[class].list) {
			if (!locked)
				sh_lock_drop(&a->lock, seat);
			return true;
		}
	}
	p = take_partial(a, h, k, class);
	if (!p) {
		p = new_span(a, h, k, class, &dirty);
		fresh = true;
	}
	if (!locked)
		sh_lock_drop(&a->lock, seat);
	KILL_POINT("heap.grow.got");
	if (!p)
		return reclaim(a, k, seat, locked);
	if (fresh)
		sh_span_populate(a, p, desc_pages(span_desc(a, p)), dirty);
	sh_cache_list(a, &k->slot[class], p);
	return true;
}

/* Makes a block available in the slot. False: a limit is reached. */
static bool refill(struct sh_heap *h, struct sh_cache *k, unsigned class, unsigned seat, bool locked)
{
	struct sh_arena *a = h->arena;
	struct sh_slot *s = &k->slot[class];

	if (k->busy) { /* the last user of the cache died during a change */
		if (!locked)
			sh_lock_take(&a->lock, seat);
		sh_cache_rebuild(a, h, k->cpu);
		if (!locked)
			sh_lock_drop(&a->lock, seat);
	}
	set_busy(k);
	for (;;) {
		if (s->span) {
			if (scan_current(a, k, class))
				break;
		} else if (s->list) {
			pop_list(a, k, class);
		} else if (atomic_load_explicit(&s->remote, memory_order_relaxed)) {
			heap_drain(a, k, class, seat, locked);
		} else if (!grow(h, k, class, seat, locked)) {
			break;
		}
	}
	clear_busy(k);
	return s->avail != 0;
}

/* ---- alloc ---- */

/* Takes the first available block of the slot. */
static inline void *take_block(struct sh_arena *a, struct sh_slot *s, unsigned class)
{
	uint64_t avail = s->avail, at = s->at;
	unsigned b = (unsigned)__builtin_ctzl(avail);
	_Atomic uint64_t *word = &a->bits[at_word(at)].a;

	s->avail = avail & (avail - 1);
	in_order();
	KILL_POINT("heap.alloc.left");
	atomic_store_explicit(word, atomic_load_explicit(word, memory_order_relaxed) ^ 1ul << b, memory_order_relaxed);
	KILL_POINT("heap.alloc.committed");
	return (char *)a + (((at >> 32) + (uint64_t)b * sh_class_units[class]) << 4);
}

static __attribute__((noinline)) void *alloc_small(struct sh_heap *h, unsigned seat, unsigned cpu, unsigned class)
{
	struct sh_arena *a = h->arena;
	uint32_t c = h->cache[cpu];
	struct sh_cache *k = c ? &a->cache[c] : NULL;
	bool locked = cpu == SH_HEAP_NOCPU;
	void *p = NULL;

	if (!k || locked) {
		sh_lock_take(&a->lock, seat);
		if (h->cache[cpu])
			k = &a->cache[h->cache[cpu]];
		else
			k = sh_cache_new(h, cpu);
		if (!k && !locked) { /* no cache is left: use the one that is shared by callers without a cpu */
			sh_lock_drop(&a->lock, seat);
			return alloc_small(h, seat, SH_HEAP_NOCPU, class);
		}
		if (!locked)
			sh_lock_drop(&a->lock, seat);
	}
	if (k && (k->slot[class].avail || refill(h, k, class, seat, locked)))
		p = take_block(a, &k->slot[class], class);
	if (locked)
		sh_lock_drop(&a->lock, seat);
	return p;
}

/* The smallest class of at least size whose blocks all have the alignment, at most a page. */
static unsigned aligned_class(size_t size, size_t align)
{
	unsigned class = class_of(size < align ? align : size);

	sh_check((align & (align - 1)) == 0);
	while (class < CLASSES && class_bytes(class) % align)
		class ++;
	return class;
}

/* Handles the cases that sh_heap_alloc does not handle inline. */
static __attribute__((noinline)) void *alloc_slowly(struct sh_heap *h, unsigned seat, unsigned cpu, size_t size,
						    size_t align, bool zero)
{
	void *p;

	sh_check(cpu <= SH_HEAP_NOCPU && seat < HEAP_SEATS && (align & (align - 1)) == 0);
	size += size == 0;
	if (size > SMALL_MAX || align > PAGE_BYTES)
		return sh_large_alloc(h, seat, size, align, zero);
	p = alloc_small(h, seat, cpu, align > 16 ? aligned_class(size, align) : class_of(size));
	if (p && zero)
		memset(p, 0, size);
	return p;
}

void *sh_heap_alloc(struct sh_heap *h, unsigned seat, unsigned cpu, size_t size, size_t align, bool zero)
{
	struct sh_arena *a = h->arena;

	if (__builtin_expect(size - 1 < SMALL_MAX && align <= 16 && cpu < SH_HEAP_CPUS, 1)) {
		unsigned class = class_of(size);
		struct sh_slot *s = &a->cache[h->cache[cpu]].slot[class]; /* cache 0 is empty */

		if (__builtin_expect(s->avail != 0, 1)) {
			void *p = take_block(a, s, class);

			a->recent[cpu].slot = s;
			return __builtin_expect(zero, 0) ? memset(p, 0, size) : p;
		}
	}
	return alloc_slowly(h, seat, cpu, size, align, zero);
}

/* ---- free ---- */

/*
 * Called after the caller has freed a block of its own span: lists the span so that a later allocation finds the
 * block.
 */
static __attribute__((noinline)) void relist(struct sh_arena *a, struct sh_cache *k, unsigned class, uint32_t p,
					     unsigned seat)
{
	struct sh_slot *s = &k->slot[class];
	struct sh_span *sp = &a->span[p];
	uint32_t full = MARK_FULL;

	if (k->busy)
		return; /* the next refill rebuilds everything */
	if (atomic_load_explicit(&sp->mark, memory_order_relaxed) == MARK_FULL) {
		set_busy(k);
		if (atomic_compare_exchange_strong(&sp->mark, &full, MARK_LISTED))
			sh_cache_list(a, s, p);
		clear_busy(k);
	}
	if (atomic_load_explicit(&sp->mark, memory_order_relaxed) != MARK_LISTED || !span_empty(a, p))
		return;
	if (!k->spare[class]) {
		k->spare[class] = 1;
		return;
	}
	set_busy(k);
	heap_unlist(a, s, p);
	give_back(a, s, seat, false, p);
	clear_busy(k);
	sh_arena_purge(a, seat, 0);
}

/* Pushes a QUEUED span on its owner's remote stack. */
static void push_remote(struct sh_arena *a, uint32_t p)
{
	uint64_t d = span_desc(a, p); /* does not change while the span is QUEUED */
	struct sh_heap *h = &a->heap[desc_heap(d)];
	struct sh_slot *s = &a->cache[h->cache[desc_owner(d)]].slot[desc_class(d)];
	uint32_t top = atomic_load_explicit(&s->remote, memory_order_relaxed);

	sh_check(desc_state(d) == RUN_SMALL && desc_owner(d) <= SH_HEAP_NOCPU && h->cache[desc_owner(d)]);
	do {
		atomic_store_explicit(&a->span[p].rnext, top, memory_order_relaxed);
		KILL_POINT("heap.queue.linked");
	} while (!atomic_compare_exchange_weak(&s->remote, &top, p));
	KILL_POINT("heap.queue.pushed");
}

/* Called after a block of a FULL span was freed: queues the span for its owner, unless another process does it. */
static __attribute__((noinline)) void queue_span(struct sh_arena *a, uint32_t p, unsigned seat)
{
	uint32_t full = MARK_FULL;

	sh_check(seat < HEAP_SEATS);
	atomic_store(&a->note[seat].queue, p);
	KILL_POINT("heap.queue.noted");
	if (atomic_compare_exchange_strong(&a->span[p].mark, &full, MARK_QUEUED)) {
		KILL_POINT("heap.queue.marked");
		push_remote(a, p);
	}
	atomic_store_explicit(&a->note[seat].queue, 0, memory_order_release);
	KILL_POINT("heap.queue.done");
}

static void free_remote(struct sh_arena *a, const struct place *at, unsigned seat)
{
	/* Read before the xor: after it the owner may allocate the block again. */
	uint64_t allocated = atomic_load_explicit(&a->bits[at->word].a, memory_order_relaxed) >> at->bit & 1;
	uint64_t was = atomic_fetch_xor(&a->bits[at->word].r, 1ul << at->bit) & 1ul << at->bit;

	KILL_POINT("heap.free.remote");
	sh_check((was != 0) != allocated); /* two processes free the same block: the second finds it free */
	/* Pairs with scan: either we see FULL, or the owner sees our bit. */
	if (atomic_load(&a->span[at->page].mark) == MARK_FULL)
		queue_span(a, at->page, seat);
}

static inline struct place late_place(struct sh_arena *a, uint32_t late)
{
	uint32_t word = late >> 6;

	return (struct place){.word = word,
			      .bit = late & 63,
			      .page = atomic_load_explicit(&a->map[word / PAGE_WORDS], memory_order_relaxed)};
}

/*
 * Frees a live block of a span of another cpu. It counts as free at once, but its bits change later. Returns false
 * if it was free already.
 */
static inline bool free_late(struct sh_arena *a, struct sh_cache *k, const struct place *at, unsigned seat)
{
	uint32_t this = at->word << 6 | at->bit, i = k->late_at % LATE, old = k->late[i];
	struct place then;
	bool twice = false;

	for (unsigned n = 0; n < LATE; n++)
		twice |= k->late[n] == this;
	if (__builtin_expect(twice, 0))
		return false;
	k->late[i] = this;
	KILL_POINT("heap.late.put");
	k->late_at = i + 1;
	if (old) {
		then = late_place(a, old);
		free_remote(a, &then, seat);
	}
	return true;
}

/* Changes the bits of all late blocks in their spans. */
static void free_all_late(struct sh_arena *a, struct sh_cache *k, unsigned seat)
{
	for (unsigned i = 0; i < LATE; i++) {
		struct place at = late_place(a, k->late[i]);

		if (!k->late[i])
			continue;
		k->late[i] = 0;
		KILL_POINT("heap.late.taken");
		free_remote(a, &at, seat);
	}
}

/*
 * Frees a block in the word from which the cpu last allocated, without a look at the page map. This shortens the
 * usual pair of free and allocate. Returns false if the block is not in that word, or not live. It reads at before
 * id: a slot that has the id of this cpu now had it before too, because only the user of the cpu can change it.
 */
static inline bool free_recent(struct sh_arena *a, unsigned cpu, const void *p)
{
	struct sh_slot *s = a->recent[cpu].slot;
	uint64_t at, off, units, i, now;
	_Atomic uint64_t *word;
	uint32_t id;

	if (!s)
		return false;
	at = __atomic_load_n(&s->at, __ATOMIC_ACQUIRE);
	id = __atomic_load_n(&s->id, __ATOMIC_RELAXED);
	off = (uintptr_t)p - (uintptr_t)a - ((at >> 32) << 4);
	units = sh_class_units[id & 127];
	if (id >> 8 != cpu + 1 || off >= 64 * units * 16)
		return false;
	i = off * sh_class_recip[id & 127] >> 32;
	word = &a->bits[at_word(at)].a;
	now = atomic_load_explicit(word, memory_order_relaxed);
	if (i * units * 16 != off || i > at_last(at) ||
	    !((now ^ atomic_load_explicit(&a->bits[at_word(at)].r, memory_order_relaxed)) >> i & 1))
		return false;
	atomic_store_explicit(word, now ^ 1ul << i, memory_order_relaxed);
	in_order();
	KILL_POINT("heap.free.recent");
	s->avail |= 1ul << i;
	KILL_POINT("heap.free.again");
	return true;
}

/* Frees a block of another cpu's span, a large block, or any block for a caller without a cpu. */
static __attribute__((noinline)) bool free_elsewhere(struct sh_arena *a, unsigned seat, unsigned cpu, const void *p)
{
	struct place at = {0};
	uint32_t c;

	sh_check(seat < HEAP_SEATS);
	if (__builtin_expect(!locate(a, p, &at, true), 0))
		return false;
	if (desc_state(at.desc) == RUN_LARGE) {
		sh_large_free(a, at.page, seat);
		return true;
	}
	c = cpu < SH_HEAP_CPUS ? a->heap[desc_heap(at.desc)].cache[cpu] : 0;
	if (c && sh_class_units[desc_class(at.desc)] <= LATE_MAX / 16)
		return free_late(a, &a->cache[c], &at, seat);
	free_remote(a, &at, seat);
	return true;
}

/*
 * Called if the slot has no block available: continues at the block that was just freed, because its cache line is
 * hot.
 */
static __attribute__((noinline)) void aim_here(struct sh_arena *a, struct sh_cache *k, unsigned class, uint32_t p,
					       uint32_t word)
{
	aim(a, k, class, p, word - p * PAGE_WORDS, ~word_live(a, word));
}

bool sh_heap_try_free(struct sh_arena *a, unsigned seat, unsigned cpu, void *p)
{
	struct place at = {0};
	struct sh_cache *k;
	struct sh_slot *s;
	struct sh_span *span;
	unsigned class;
	uint64_t now;

	if (__builtin_expect(cpu >= SH_HEAP_CPUS, 0))
		return free_elsewhere(a, seat, cpu, p);
	if (free_recent(a, cpu, p))
		return true;
	if (!locate_small(a, p, &at) || desc_owner(at.desc) != cpu)
		return free_elsewhere(a, seat, cpu, p);
	now = atomic_load_explicit(&a->bits[at.word].a, memory_order_relaxed);
	if (__builtin_expect(!((now ^ atomic_load_explicit(&a->bits[at.word].r, memory_order_acquire)) >> at.bit & 1),
			     0))
		return false;
	now ^= 1ul << at.bit;
	class = desc_class(at.desc);
	k = &a->cache[a->heap[desc_heap(at.desc)].cache[cpu]];
	s = &k->slot[class];
	span = &a->span[at.page];
	atomic_store_explicit(&a->bits[at.word].a, now, memory_order_relaxed);
	in_order();
	KILL_POINT("heap.free.committed");
	if (at_word(s->at) == at.word) {
		s->avail |= 1ul << at.bit;
		KILL_POINT("heap.free.avail");
	} else if (!s->avail) {
		aim_here(a, k, class, at.page, at.word);
	} else if (atomic_load_explicit(&span->mark, memory_order_relaxed) == MARK_FULL ||
		   (now ^ atomic_load_explicit(&a->bits[at.word].r, memory_order_relaxed)) ==
			   word_empty(span, at.word - at.page * PAGE_WORDS)) {
		relist(a, k, class, at.page, seat);
	}
	return true;
}

void sh_heap_free(struct sh_arena *a, unsigned seat, unsigned cpu, void *p)
{
	if (__builtin_expect(!sh_heap_try_free(a, seat, cpu, p), 0))
		sh_check(!"free() of a pointer that is not a live block");
}

bool sh_heap_resize(struct sh_arena *a, unsigned seat, unsigned cpu, void *p, size_t size)
{
	struct place at;

	(void)cpu;
	sh_check(locate(a, p, &at, false));
	size += size == 0;
	if (desc_state(at.desc) == RUN_SMALL) {
		size_t have = class_bytes(desc_class(at.desc));

		return size <= have && (have <= 64 || size * 2 > have); /* a much smaller block is worth a copy */
	}
	return sh_large_resize(a, at.page, seat, size);
}

/* ---- for a flush ---- */

void sh_cache_settle(struct sh_arena *a, struct sh_cache *k, unsigned seat)
{
	sh_check(HOLDS(a));
	free_all_late(a, k, seat);
	for (unsigned c = 0; c < CLASSES; c++)
		heap_drain(a, k, c, seat, true);
	KILL_POINT("heap.flush.drained");
	for (unsigned c = 0; c < CLASSES; c++)
		k->slot[c].list = 0;
}

void sh_cache_settled(struct sh_cache *k)
{
	memset(k->spare, 0, sizeof k->spare);
	clear_busy(k);
}
