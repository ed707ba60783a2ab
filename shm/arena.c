/*
 * arena.c - makes the arena; makes and releases heaps and caches. See heap_int.h.
 *
 * OWNER  a heap belongs to its task, a cache to its (heap, cpu)
 * LOCK   arena->lock
 * ORDER  the contents, then the commit: state of a heap, cache[cpu] for a cache
 * DEATH  a heap exists when its state says LIVE, a cache when cache[cpu] of its heap names it; the lists of
 *        free ones are rebuilt from that. An incomplete release is called again and continues. A complete
 *        one is not harmed by a second call, because a heap rests among HEAPS_REST free ones before it
 *        is reused, and one process alone makes and releases the heaps of tasks
 */
#include "shm/check.h"
#include "shm/heap_int.h"
#include "shm/kill.h"
#include "shm/segment.h"

#include <string.h>

#define MAGIC 0x70616568736c6873ul
#define SLACK_BYTES (64ul << 20)
#define RESERVE_PART 16 /* part of the limit that is reserved for the runtime */
#define RELEASE_STEP 64 /* number of spans that are freed before the lock is dropped for a moment */
#define HEAPS_REST 64

#define EIGHT(k, X) \
	X((128ul << k) + (16ul << k)), X((128ul << k) + (32ul << k)), X((128ul << k) + (48ul << k)), \
		X((128ul << k) + (64ul << k)), X((128ul << k) + (80ul << k)), X((128ul << k) + (96ul << k)), \
		X((128ul << k) + (112ul << k)), X((128ul << k) + (128ul << k))
#define ALL_CLASSES(X) \
	X(16), X(32), X(48), X(64), X(80), X(96), X(112), X(128), EIGHT(0, X), EIGHT(1, X), EIGHT(2, X), EIGHT(3, X), \
		EIGHT(4, X), EIGHT(5, X), EIGHT(6, X), EIGHT(7, X)
#define UNITS(x) (uint16_t)((x) / 16)
#define RECIP(x) (uint32_t)(0xffffffffu / (x) + 1)

const uint16_t sh_class_units[CLASSES] = {ALL_CLASSES(UNITS)};
const uint32_t sh_class_recip[CLASSES] = {ALL_CLASSES(RECIP)};

/* ---- the arena ---- */

/* Returns the number of pages of a span of the class: the largest, up to max, that wastes at most a 16th. */
static uint8_t pick_pages(unsigned class, unsigned max)
{
	size_t size = class_bytes(class);
	unsigned n;

	for (n = max; n > 0; n--)
		if (n * PAGE_BYTES >= size && (n * PAGE_BYTES % size) * 16 <= n * PAGE_BYTES)
			return (uint8_t)n;
	for (n = 1; n < SPAN_PAGES_MAX; n++)
		if (n * PAGE_BYTES >= size && (n * PAGE_BYTES % size) * 8 <= n * PAGE_BYTES)
			break;
	return (uint8_t)n;
}

static size_t clamp(size_t n, size_t low, size_t high)
{
	return n < low ? low : n > high ? high : n;
}

/* Cuts n elements off the range that begins at *at. */
static void *carve(uintptr_t *at, size_t n, size_t bytes)
{
	void *p = (void *)*at;

	*at += (n * bytes + SH_PAGE - 1) & ~(SH_PAGE - 1);
	return p;
}

struct sh_arena *sh_arena_init(void *base, size_t size, size_t limit)
{
	struct sh_arena *a = base;
	uintptr_t at = (uintptr_t)base + ((sizeof *a + SH_PAGE - 1) & ~(SH_PAGE - 1));
	uint32_t pages = (uint32_t)(size >> PAGE_SHIFT);

	sh_check((uintptr_t)base % (4ul << 20) == 0);
	if (size < (2ul << 20) || size > (64ul << 30))
		return NULL;
	a->size = size;
	a->end = pages;
	a->heaps = (uint32_t)clamp(pages / 8, 64, 65536);
	a->rest = HEAPS_REST;
	a->caches = (uint32_t)clamp(pages / 8, 128, 1ul << 20);
	a->limit = limit / PAGE_BYTES;
	a->reserve = clamp(a->limit / RESERVE_PART, 0, SLACK_BYTES / PAGE_BYTES);
	a->slack = clamp(a->limit / 4, (1ul << 20) / PAGE_BYTES, SLACK_BYTES / PAGE_BYTES);
	a->heap = carve(&at, a->heaps, sizeof *a->heap);
	a->cache = carve(&at, a->caches, sizeof *a->cache);
	a->head = carve(&at, pages / 64 + 1, 8);
	a->dirty = carve(&at, pages / 64 + 1, 8);
	a->map = carve(&at, pages, 4);
	a->span = carve(&at, (size_t)pages + 1, sizeof *a->span);
	a->bits = carve(&at, pages, PAGE_WORDS * sizeof *a->bits);
	a->first = (uint32_t)((at - (uintptr_t)base + PAGE_BYTES - 1) >> PAGE_SHIFT);
	a->top = a->first;
	if (a->first >= a->end)
		return NULL;
	a->cache_top = 1; /* 0 means none */
	for (unsigned c = 0; c < CLASSES; c++)
		for (unsigned s = 0; s < STEPS; s++)
			a->pages[c][s] = pick_pages(c, (class_bytes(c) > 4096 ? 2u : 1u) << s);
	a->lock.kind = SH_LOCK_HEAP;
	a->magic = MAGIC;
	return a;
}

/* ---- heaps ---- */

static struct sh_heap *take_heap(struct sh_arena *a)
{
	struct sh_heap *h;

	if (a->heap_first && (a->heap_nfree >= a->rest || a->heap_top == a->heaps)) {
		h = &a->heap[a->heap_first - 1];
		a->heap_first = h->next;
		a->heap_nfree--;
	} else if (a->heap_top < a->heaps) {
		h = &a->heap[a->heap_top];
		h->index = a->heap_top;
		h->arena = a;
		KILL_POINT("heap.new.written");
		a->heap_top++;
	} else {
		return NULL;
	}
	return h;
}

struct sh_heap *sh_heap_new(struct sh_arena *a, unsigned seat, size_t limit)
{
	struct sh_heap *h;

	sh_check(a->magic == MAGIC && seat < HEAP_SEATS);
	sh_lock_take(&a->lock, seat);
	h = take_heap(a);
	if (h) {
		KILL_POINT("heap.new.taken");
		h->limit = limit ? (limit + PAGE_BYTES - 1) / PAGE_BYTES : a->limit;
		atomic_store_explicit(&h->privileged, 0, memory_order_relaxed);
		atomic_store_explicit(&h->seats, 0, memory_order_relaxed);
		atomic_store_explicit(&h->state, HEAP_LIVE, memory_order_release);
		KILL_POINT("heap.new.live");
	}
	sh_lock_drop(&a->lock, seat);
	return h;
}

void sh_heap_privilege(struct sh_heap *h, bool yes)
{
	atomic_store_explicit(&h->privileged, yes, memory_order_relaxed);
	KILL_POINT("heap.privilege");
}

struct sh_cache *sh_cache_new(struct sh_heap *h, unsigned cpu)
{
	struct sh_arena *a = h->arena;
	uint32_t c = a->cache_first;

	sh_check(HOLDS(h->arena));
	sh_check(cpu <= SH_HEAP_CPUS);
	if (c) {
		a->cache_first = a->cache[c].next;
		a->cache[c].next = 0;
	} else if (a->cache_top < a->caches) {
		c = a->cache_top++;
	} else {
		return NULL;
	}
	KILL_POINT("heap.cache.taken");
	a->cache[c].heap = h->index;
	a->cache[c].cpu = cpu;
	a->cache[c].deaths = atomic_load(&a->deaths);
	h->cache[cpu] = c;
	KILL_POINT("heap.cache.set");
	return &a->cache[c];
}

void sh_cache_free(struct sh_arena *a, uint32_t c)
{
	struct sh_cache *k = &a->cache[c];

	sh_check(HOLDS(a));
	sh_check(c > 0 && c < a->cache_top);
	memset(k, 0, sizeof *k);
	KILL_POINT("heap.cache.cleared");
	k->next = a->cache_first;
	a->cache_first = c;
}

static void set_mapped(struct sh_arena *a, struct sh_heap *h, uint64_t bytes)
{
	uint64_t others = atomic_load_explicit(&a->mapped, memory_order_relaxed) -
			  atomic_load_explicit(&h->mapped, memory_order_relaxed);

	atomic_store_explicit(&h->mapped, bytes, memory_order_relaxed);
	KILL_POINT("heap.mapped.heap");
	atomic_store_explicit(&a->mapped, others + bytes, memory_order_relaxed);
	KILL_POINT("heap.mapped.arena");
	a->changes++;
}

bool sh_heap_retire(struct sh_heap *h, unsigned seat)
{
	struct sh_arena *a = h->arena;
	bool empty;

	sh_check(seat < HEAP_SEATS);
	sh_lock_take(&a->lock, seat);
	if (sh_heap_mapped(h))
		set_mapped(a, h, 0);
	empty = h->spans == 0;
	if (!empty && atomic_load_explicit(&h->state, memory_order_relaxed) == HEAP_LIVE) {
		atomic_store_explicit(&h->state, HEAP_RETIRED, memory_order_release);
		KILL_POINT("heap.retire.done");
		sh_count(&a->used, -atomic_load_explicit(&h->used, memory_order_relaxed));
		KILL_POINT("heap.retire.counted");
		sh_count(&a->retired, atomic_load_explicit(&h->used, memory_order_relaxed));
		a->changes++;
	}
	sh_lock_drop(&a->lock, seat);
	if (empty)
		sh_heap_release(h, seat);
	return empty;
}

void sh_heap_touch(struct sh_heap *h, unsigned seat)
{
	sh_check(seat < 64);
	atomic_fetch_or(&h->seats, 1ul << seat);
	KILL_POINT("heap.touch");
}

bool sh_heap_map(struct sh_heap *h, unsigned seat, size_t bytes)
{
	struct sh_arena *a = h->arena;
	bool allowed;

	sh_lock_take(&a->lock, seat);
	allowed = bytes >> PAGE_SHIFT <= UINT32_MAX && sh_span_allowed(h, (uint32_t)(bytes >> PAGE_SHIFT));
	if (allowed)
		set_mapped(a, h, atomic_load_explicit(&h->mapped, memory_order_relaxed) + bytes);
	sh_lock_drop(&a->lock, seat);
	return allowed;
}

void sh_heap_set_mapped(struct sh_heap *h, unsigned seat, size_t bytes)
{
	struct sh_arena *a = h->arena;

	sh_lock_take(&a->lock, seat);
	set_mapped(a, h, bytes);
	sh_lock_drop(&a->lock, seat);
}

void sh_heap_unmap(struct sh_heap *h, unsigned seat, size_t bytes)
{
	struct sh_arena *a = h->arena;

	sh_lock_take(&a->lock, seat);
	set_mapped(a, h, atomic_load_explicit(&h->mapped, memory_order_relaxed) - bytes);
	sh_lock_drop(&a->lock, seat);
}

size_t sh_heap_mapped(const struct sh_heap *h)
{
	return atomic_load_explicit(&((struct sh_heap *)h)->mapped, memory_order_relaxed);
}

void sh_heap_renewed(struct sh_heap *h, unsigned seat)
{
	if (seat < 64)
		atomic_fetch_and(&h->seats, ~(1ul << seat));
	KILL_POINT("heap.renewed");
}

uint64_t sh_heap_seats(const struct sh_heap *h)
{
	return atomic_load(&((struct sh_heap *)h)->seats);
}

uint32_t sh_heap_number(const struct sh_heap *h)
{
	return h->index;
}

struct sh_heap *sh_heap_retired(struct sh_arena *a, uint32_t number, bool *more)
{
	struct sh_heap *h = &a->heap[number];

	*more = number < atomic_load(&a->heap_top);
	return *more && atomic_load(&h->state) == HEAP_RETIRED ? h : NULL;
}

void sh_heap_release(struct sh_heap *h, unsigned seat)
{
	struct sh_arena *a = h->arena;
	unsigned n = 0;

	sh_check(seat < HEAP_SEATS);
	sh_lock_take(&a->lock, seat);
	/* a caller that died before it recorded the release has done it already */
	if (atomic_load_explicit(&h->state, memory_order_relaxed) == HEAP_FREE) {
		sh_lock_drop(&a->lock, seat);
		return;
	}
	if (atomic_load_explicit(&h->state, memory_order_relaxed) == HEAP_RETIRED) {
		sh_count(&a->retired, -atomic_load_explicit(&h->used, memory_order_relaxed));
		sh_count(&a->used, atomic_load_explicit(&h->used, memory_order_relaxed));
	}
	if (sh_heap_mapped(h))
		set_mapped(a, h, 0);
	atomic_store_explicit(&h->state, HEAP_RELEASING, memory_order_relaxed);
	KILL_POINT("heap.release.begun");
	while (h->spans) {
		sh_span_free(a, h->spans);
		if (++n % RELEASE_STEP == 0) {
			sh_lock_drop(&a->lock, seat);
			sh_lock_take(&a->lock, seat);
		}
	}
	for (unsigned cpu = 0; cpu <= SH_HEAP_CPUS; cpu++) {
		uint32_t c = h->cache[cpu];

		if (!c)
			continue;
		h->cache[cpu] = 0;
		KILL_POINT("heap.release.cache");
		sh_cache_free(a, c);
	}
	memset(h->partial, 0, sizeof h->partial);
	atomic_store_explicit(&h->state, HEAP_FREE, memory_order_release);
	KILL_POINT("heap.release.free");
	h->next = 0;
	if (a->heap_nfree++ == 0)
		a->heap_first = h->index + 1;
	else
		a->heap[a->heap_last - 1].next = h->index + 1;
	a->heap_last = h->index + 1;
	sh_lock_drop(&a->lock, seat);
	sh_arena_purge(a, seat, 0);
}

/* ---- flush ---- */

/* Moves the span to its heap's partial list, or frees it if it is empty. Holds: the lock and the cpu. */
static void give_to_heap(struct sh_arena *a, struct sh_heap *h, uint32_t p)
{
	uint64_t d = span_desc(a, p);

	sh_check(HOLDS(a));
	if (span_empty(a, p)) {
		sh_span_free(a, p);
		return;
	}
	atomic_store_explicit(&a->span[p].mark, MARK_LISTED, memory_order_release);
	KILL_POINT("heap.flush.marked");
	atomic_store_explicit(&a->span[p].desc,
			      desc_make(RUN_SMALL, desc_class(d), h->index, OWNER_NONE, desc_pages(d)),
			      memory_order_release);
	KILL_POINT("heap.flush.left");
	a->span[p].lnext = h->partial[desc_class(d)];
	h->partial[desc_class(d)] = p;
}

void sh_heap_flush(struct sh_heap *h, unsigned seat, unsigned cpu)
{
	struct sh_arena *a = h->arena;
	struct sh_cache *k;
	uint32_t p, next;

	sh_check(seat < HEAP_SEATS && cpu <= SH_HEAP_NOCPU);
	sh_lock_take(&a->lock, seat);
	if (h->cache[cpu]) {
		k = &a->cache[h->cache[cpu]];
		sh_cache_rebuild(a, h, cpu);
		sh_cache_settle(a, k, seat);
		for (p = h->spans; p; p = next) {
			uint64_t d = span_desc(a, p);
			uint32_t mark = atomic_load(&a->span[p].mark), full = MARK_FULL;

			next = a->span[p].next;
			if (desc_state(d) != RUN_SMALL || desc_owner(d) != cpu || mark == MARK_QUEUED)
				continue;
			if (mark == MARK_FULL && !atomic_compare_exchange_strong(&a->span[p].mark, &full, MARK_LISTED))
				continue; /* another process has just queued it: it stays with the cpu */
			give_to_heap(a, h, p);
		}
		sh_cache_settled(k);
	}
	sh_lock_drop(&a->lock, seat);
	sh_arena_purge(a, seat, 0);
}
