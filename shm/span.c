/*
 * span.c - the pages of the arena: runs, bins, and memory of the system. heap_int.h says what a run is.
 *
 * OWNER  the holder of arena->lock, except the memory of runs in use or in PURGE
 * LOCK   arena->lock. System calls are made outside of it
 * ORDER  the desc of a new part is written first, where no process reads yet; then the one store that splits or
 *        joins runs
 * DEATH  bins, head bits, back lengths and counters can be computed from the descs; if the lock was held,
 *        sh_runs_rebuild computes them again. A seat that dies in a purge has the run in its note: the medic purges
 *        it again, or, if the lock is taken, the next process in the seat
 */
#include "shm/kernel.h"
#include "shm/check.h"
#include "shm/heap_int.h"
#include "shm/kill.h"
#include "shm/syscall.h"

#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define PURGE_STEP (4ul << 20 >> PAGE_SHIFT) /* pages returned in one call: half a millisecond */
#define TRIM_STEP (2 * PURGE_STEP)
#define BIN_TRIES 16
#define FINISH_TRIES 200

/* ---- bits ---- */

static inline void set_head(struct sh_arena *a, uint32_t p)
{
	atomic_store_explicit(&a->head[p / 64],
			      atomic_load_explicit(&a->head[p / 64], memory_order_relaxed) | 1ul << p % 64,
			      memory_order_relaxed);
}

static inline void clear_head(struct sh_arena *a, uint32_t p)
{
	atomic_store_explicit(&a->head[p / 64],
			      atomic_load_explicit(&a->head[p / 64], memory_order_relaxed) & ~(1ul << p % 64),
			      memory_order_relaxed);
}

static inline bool is_head(struct sh_arena *a, uint32_t p)
{
	return atomic_load_explicit(&a->head[p / 64], memory_order_relaxed) >> p % 64 & 1;
}

/* The bits of [p, p+n) that are in the word of p. */
static inline uint64_t range_mask(uint32_t p, uint32_t n)
{
	uint32_t left = 64 - p % 64;

	return (n >= left ? ~0ul : (1ul << n) - 1) << p % 64;
}

static void set_dirty(struct sh_arena *a, uint32_t p, uint32_t n, bool dirty)
{
	for (uint32_t end = p + n; p < end; p = (p | 63) + 1) {
		uint64_t was = atomic_load_explicit(&a->dirty[p / 64], memory_order_relaxed);
		uint64_t mask = range_mask(p, end - p);

		atomic_store_explicit(&a->dirty[p / 64], dirty ? was | mask : was & ~mask, memory_order_relaxed);
	}
}

uint32_t sh_pages_dirty(struct sh_arena *a, uint32_t p, uint32_t n)
{
	uint32_t sum = 0;

	for (uint32_t end = p + n; p < end; p = (p | 63) + 1)
		sum += (uint32_t)__builtin_popcountl(atomic_load_explicit(&a->dirty[p / 64], memory_order_relaxed) &
						     range_mask(p, end - p));
	return sum;
}

bool sh_page_dirty(struct sh_arena *a, uint32_t p)
{
	return atomic_load_explicit(&a->dirty[p / 64], memory_order_relaxed) >> p % 64 & 1;
}

uint32_t sh_run_head(struct sh_arena *a, uint32_t p)
{
	uint32_t w = p / 64;
	uint64_t bits = atomic_load_explicit(&a->head[w], memory_order_relaxed) & (~0ul >> (63 - p % 64));

	sh_check(p >= a->first);
	while (!bits) {
		sh_check(w > a->first / 64);
		bits = atomic_load_explicit(&a->head[--w], memory_order_relaxed);
	}
	return w * 64 + 63 - (uint32_t)__builtin_clzl(bits);
}

/* ---- bins of free runs ---- */

/* One bin for each length up to 64, then four for each doubling. */
static unsigned bin_of(uint32_t n)
{
	unsigned k;

	sh_check(n > 0);
	if (n <= 64)
		return n - 1;
	k = 31 - (unsigned)__builtin_clz(n); /* 6 for 65..127 */
	return 64 + (k - 6) * 4 + (n >> (k - 2) & 3);
}

static void bin_put(struct sh_arena *a, uint32_t p, uint32_t n)
{
	unsigned b = bin_of(n);
	struct sh_span *s = &a->span[p];

	s->prev = 0;
	s->next = a->bin[b];
	if (s->next)
		a->span[s->next].prev = p;
	a->bin[b] = p;
	a->binmap[b / 64] |= 1ul << b % 64;
	a->span[p + n - 1].back = n;
}

static void bin_drop(struct sh_arena *a, uint32_t p, uint32_t n)
{
	unsigned b = bin_of(n);
	struct sh_span *s = &a->span[p];

	if (s->next)
		a->span[s->next].prev = s->prev;
	if (s->prev) {
		a->span[s->prev].next = s->next;
	} else {
		sh_check(a->bin[b] == p);
		a->bin[b] = s->next;
		if (!s->next)
			a->binmap[b / 64] &= ~(1ul << b % 64);
	}
}

/* Returns the page at which n aligned pages fit into a free run, or 0. */
static uint32_t fit(struct sh_arena *a, uint32_t p, uint32_t len, uint32_t n, size_t align)
{
	uintptr_t at = ((uintptr_t)page_at(a, p) + align - 1) & ~(align - 1);
	uint64_t from = (at - (uintptr_t)a) >> PAGE_SHIFT;

	return from + n <= (uint64_t)p + len ? (uint32_t)from : 0;
}

/* The smallest free run that is large enough, or nearly the smallest. */
static uint32_t find_run(struct sh_arena *a, uint32_t n, size_t align)
{
	unsigned b = bin_of(n);

	for (unsigned w = b / 64; w < 3; w++) {
		uint64_t map = a->binmap[w] & (w == b / 64 ? ~0ul << b % 64 : ~0ul);

		for (; map; map &= map - 1) {
			uint32_t p = a->bin[w * 64 + (unsigned)__builtin_ctzl(map)];

			for (unsigned t = 0; p && t < BIN_TRIES; t++, p = a->span[p].next) {
				uint32_t len = desc_pages(span_desc(a, p));

				if (len >= n && fit(a, p, len, n, align))
					return p;
			}
		}
	}
	return 0;
}

/* ---- runs ---- */

static inline void set_desc(struct sh_arena *a, uint32_t p, uint64_t d)
{
	atomic_store_explicit(&a->span[p].desc, d, memory_order_release);
}

static inline uint64_t free_desc(uint32_t n)
{
	return desc_make(RUN_FREE, 0, 0, 0, n);
}

/* Returns the free run that ends at page p, or 0. back may be stale, so the run at which it points is checked. */
static uint32_t free_before(struct sh_arena *a, uint32_t p)
{
	uint32_t back = a->span[p - 1].back;
	uint64_t d;

	if (p == a->first || !back || back > p - a->first || !is_head(a, p - back))
		return 0;
	d = span_desc(a, p - back);
	return desc_state(d) == RUN_FREE && desc_pages(d) == back ? p - back : 0;
}

/* Appends unused pages to the last free run until n pages fit into it. Returns that run, or 0. */
static uint32_t extend(struct sh_arena *a, uint32_t n, size_t align)
{
	uint32_t top = a->top, last = free_before(a, top), q = last ? last : top, p = fit(a, q, a->end - q, n, align);

	sh_check(HOLDS(a));
	if (!p || p + n <= top) /* large enough: find_run missed it, because it tries only the first runs of a bin */
		return p ? q : 0;
	if (last)
		bin_drop(a, last, top - last);
	set_desc(a, top, free_desc(p + n - top));
	KILL_POINT("heap.top.written");
	a->top = p + n;
	KILL_POINT("heap.top.moved");
	set_desc(a, q, free_desc(p + n - q));
	set_head(a, q);
	KILL_POINT("heap.top.joined");
	bin_put(a, q, p + n - q);
	return q;
}

uint32_t sh_run_take(struct sh_arena *a, uint32_t n, size_t align)
{
	uint32_t q = find_run(a, n, align), p, len;

	sh_check(HOLDS(a));
	sh_check(n > 0);
	if (!q)
		q = extend(a, n, align);
	if (!q)
		return 0;
	len = desc_pages(span_desc(a, q));
	sh_check(desc_state(span_desc(a, q)) == RUN_FREE && q + len <= a->top);
	p = fit(a, q, len, n, align);
	bin_drop(a, q, len);
	KILL_POINT("heap.take.unbinned");
	if (q + len > p + n) { /* the rest behind it */
		set_desc(a, p + n, free_desc(q + len - p - n));
		set_head(a, p + n);
		KILL_POINT("heap.take.rest");
		bin_put(a, p + n, q + len - p - n);
	}
	if (p > q) { /* the rest before it */
		set_desc(a, p, free_desc(n));
		set_head(a, p);
		KILL_POINT("heap.take.middle");
		set_desc(a, q, free_desc(p - q));
		bin_put(a, q, p - q);
	} else {
		set_desc(a, p, free_desc(n));
	}
	KILL_POINT("heap.take.split");
	return p;
}

static void link_span(struct sh_arena *a, struct sh_heap *h, uint32_t p)
{
	struct sh_span *s = &a->span[p];

	s->prev = 0;
	s->next = h->spans;
	if (s->next)
		a->span[s->next].prev = p;
	h->spans = p;
}

static void unlink_span(struct sh_arena *a, struct sh_heap *h, uint32_t p)
{
	struct sh_span *s = &a->span[p];

	if (s->next)
		a->span[s->next].prev = s->prev;
	if (s->prev)
		a->span[s->prev].next = s->next;
	else {
		sh_check(h->spans == p);
		h->spans = s->next;
	}
}

static inline void add_used(struct sh_arena *a, struct sh_heap *h, uint64_t n)
{
	sh_count(&h->used, n);
	sh_count(atomic_load_explicit(&h->state, memory_order_relaxed) == HEAP_RETIRED ? &a->retired : &a->used, n);
	a->changes++;
}

static uint64_t mapped_pages(const _Atomic uint64_t *bytes)
{
	return atomic_load_explicit((_Atomic uint64_t *)bytes, memory_order_relaxed) >> PAGE_SHIFT;
}

bool sh_span_allowed(const struct sh_heap *h, uint32_t n)
{
	const struct sh_arena *a = h->arena;
	uint64_t limit = a->limit - (atomic_load_explicit(&h->privileged, memory_order_relaxed) ? 0 : a->reserve);

	return atomic_load_explicit(&a->used, memory_order_relaxed) + mapped_pages(&a->mapped) + n <= limit &&
	       atomic_load_explicit(&h->used, memory_order_relaxed) + mapped_pages(&h->mapped) + n <= h->limit;
}

void sh_span_commit(struct sh_arena *a, uint32_t p, uint64_t d)
{
	struct sh_heap *h = &a->heap[desc_heap(d)];

	sh_check(HOLDS(a));
	sh_check(desc_state(span_desc(a, p)) == RUN_FREE && desc_pages(span_desc(a, p)) == desc_pages(d));
	set_desc(a, p, d);
	KILL_POINT("heap.span.committed");
	link_span(a, h, p);
	add_used(a, h, desc_pages(d));
	sh_count(&a->kept, -(uint64_t)sh_pages_dirty(a, p, desc_pages(d)));
}

/* Joins a FREE run with its free neighbours and puts the result into a bin. */
static void join(struct sh_arena *a, uint32_t p, uint32_t n)
{
	uint32_t next = p + n, last = free_before(a, p);
	uint64_t d;

	sh_check(n > 0 && p >= a->first);
	if (next < a->top && desc_state(d = span_desc(a, next)) == RUN_FREE) {
		bin_drop(a, next, desc_pages(d));
		n += desc_pages(d);
		set_desc(a, p, free_desc(n));
		clear_head(a, next);
		KILL_POINT("heap.join.next");
	}
	if (last) {
		bin_drop(a, last, p - last);
		n += p - last;
		set_desc(a, last, free_desc(n));
		clear_head(a, p);
		KILL_POINT("heap.join.back");
		p = last;
	}
	bin_put(a, p, n);
}

void sh_span_free(struct sh_arena *a, uint32_t p)
{
	uint64_t d = span_desc(a, p);
	struct sh_heap *h = &a->heap[desc_heap(d)];
	uint32_t n = desc_pages(d);

	sh_check(HOLDS(a));
	sh_check(p >= a->first && p < a->end);
	sh_check(desc_state(d) == RUN_SMALL || desc_state(d) == RUN_LARGE);
	unlink_span(a, h, p);
	add_used(a, h, -(uint64_t)n);
	sh_count(&a->kept, n);
	set_dirty(a, p, n, true); /* before the run is free, because a later user relies on clean pages being zero */
	atomic_store_explicit(&a->span[p].mark, MARK_LISTED, memory_order_relaxed);
	KILL_POINT("heap.span.dirty");
	set_desc(a, p, free_desc(n));
	KILL_POINT("heap.span.freed");
	join(a, p, n);
}

/* Extends a span into the free pages behind it, and beyond top. */
static bool absorb(struct sh_arena *a, uint32_t p, uint32_t old, uint32_t n)
{
	uint64_t d = span_desc(a, p), f;
	uint32_t next = p + old, more = n - old, len = 0;

	sh_check(n > old);
	if (next < a->top) {
		f = span_desc(a, next);
		len = desc_pages(f);
		if (desc_state(f) != RUN_FREE)
			return false;
	}
	if (len < more && (next + len < a->top || a->end - next < more))
		return false;
	if (len) {
		bin_drop(a, next, len);
		clear_head(a, next);
	}
	if (len < more) {
		set_desc(a, a->top, free_desc(more - len));
		KILL_POINT("heap.grow.top");
		a->top = next + more;
		KILL_POINT("heap.grow.moved");
	}
	sh_count(&a->kept, -(uint64_t)sh_pages_dirty(a, next, more));
	if (len > more) {
		set_desc(a, next + more, free_desc(len - more));
		set_head(a, next + more);
		KILL_POINT("heap.grow.rest");
		bin_put(a, next + more, len - more);
	}
	set_desc(a, p, desc_make(RUN_LARGE, 0, desc_heap(d), OWNER_NONE, n));
	KILL_POINT("heap.grow.committed");
	return true;
}

bool sh_span_resize(struct sh_arena *a, uint32_t p, uint32_t n)
{
	uint64_t d = span_desc(a, p);
	struct sh_heap *h = &a->heap[desc_heap(d)];
	uint32_t old = desc_pages(d);

	sh_check(HOLDS(a));
	sh_check(desc_state(d) == RUN_LARGE && n > 0);
	if (n > old) {
		if (!sh_span_allowed(h, n - old) || !absorb(a, p, old, n))
			return false;
		add_used(a, h, n - old);
	} else if (n < old) {
		set_dirty(a, p + n, old - n, true);
		set_desc(a, p + n, free_desc(old - n));
		KILL_POINT("heap.shrink.rest");
		set_desc(a, p, desc_make(RUN_LARGE, 0, desc_heap(d), OWNER_NONE, n));
		KILL_POINT("heap.shrink.committed");
		set_head(a, p + n);
		add_used(a, h, -(uint64_t)(old - n));
		sh_count(&a->kept, old - n);
		join(a, p + n, old - n);
	}
	return true;
}

/* ---- memory of the system ---- */

/*
 * The pages that are in the page tables of this process. Private, and only a hint: for a page that another process
 * has touched, a fault costs a microsecond here.
 */
static struct {
	const void *arena;
	_Atomic uint64_t has[(64ul << 30 >> PAGE_SHIFT) / 64];
} mapped;

void sh_span_populate(struct sh_arena *a, uint32_t p, uint32_t n, uint32_t dirty)
{
	bool known = dirty == n;

	if (!mapped.arena)
		mapped.arena = a;
	if (mapped.arena == a && p + n <= 64 * sizeof mapped.has / sizeof mapped.has[0])
		for (uint32_t q = p, end = p + n; q < end; q = (q | 63) + 1) {
			uint64_t has = atomic_load_explicit(&mapped.has[q / 64], memory_order_relaxed);
			uint64_t mask = range_mask(q, end - q);

			if ((has & mask) != mask) {
				known = false;
				atomic_store_explicit(&mapped.has[q / 64], has | mask, memory_order_relaxed);
			}
		}
	/* a failure shows at the store */
	if (!known)
		kernel_madvise(page_at(a, p), (size_t)n << PAGE_SHIFT, MADV_POPULATE_WRITE);
}

/* Frees the purged run, whose memory was returned. Holds: the lock. */
static void end_purge(struct sh_arena *a, uint32_t p)
{
	uint32_t n = desc_pages(span_desc(a, p));

	sh_check(HOLDS(a));
	set_dirty(a, p, n, false);
	KILL_POINT("heap.purge.clean");
	set_desc(a, p, free_desc(n));
	KILL_POINT("heap.purge.free");
	join(a, p, n);
	a->changes++;
}

/* Returns the longest free run with memory, cut to about `want` pages, or 0. Holds: the lock. */
static uint32_t pick_purge(struct sh_arena *a, uint64_t want, unsigned seat)
{
	sh_check(HOLDS(a));
	for (unsigned w = 3; w-- > 0;)
		for (uint64_t map = a->binmap[w]; map;) {
			unsigned b = 63 - (unsigned)__builtin_clzl(map);
			uint32_t p = a->bin[w * 64 + b];

			map &= ~(1ul << b);
			for (unsigned t = 0; p && t < BIN_TRIES; t++, p = a->span[p].next) {
				uint32_t n = desc_pages(span_desc(a, p)), dirty = sh_pages_dirty(a, p, n), from = p;

				if (!dirty)
					continue;
				bin_drop(a, p, n);
				while (!sh_page_dirty(a, from)) /* skips the pages before the first one with memory */
					from++;
				if (from > p) {
					set_desc(a, from, free_desc(p + n - from));
					set_head(a, from);
					set_desc(a, p, free_desc(from - p));
					bin_put(a, p, from - p);
					n -= from - p;
				}
				if (n > want) {
					set_desc(a, from + (uint32_t)want, free_desc(n - (uint32_t)want));
					set_head(a, from + (uint32_t)want);
					bin_put(a, from + (uint32_t)want, n - (uint32_t)want);
					n = (uint32_t)want;
				}
				a->note[seat].purge = from;
				KILL_POINT("heap.purge.noted");
				sh_count(&a->kept, -(uint64_t)sh_pages_dirty(a, from, n));
				a->changes++;
				set_desc(a, from, desc_make(RUN_PURGE, 0, seat, OWNER_NONE, n));
				KILL_POINT("heap.purge.begun");
				return from;
			}
		}
	return 0;
}

bool sh_purge_finish(struct sh_arena *a, unsigned dead, unsigned by)
{
	uint32_t p = a->note[dead].purge;
	uint64_t d;

	if (!p)
		return true;
	d = span_desc(a, p);
	/* The seat is dead or the caller's, so no other process changes the run that the seat purges. */
	if (desc_state(d) == RUN_PURGE && desc_heap(d) == dead) {
		kernel_madvise(page_at(a, p), (size_t)desc_pages(d) << PAGE_SHIFT, MADV_REMOVE);
		for (unsigned n = 0; !sh_lock_try(&a->lock, by); n++) {
			if (n == FINISH_TRIES)
				return false;
			/*
			 * a direct system call: on a goroutine the sched_yield of libc would park with the lock
			 * held
			 */
			syscall(SYS_sched_yield);
		}
		end_purge(a, p);
		sh_lock_drop(&a->lock, by);
	}
	KILL_POINT("heap.repair.purged");
	a->note[dead].purge = 0;
	return true;
}

/* True if free pages keep more memory than the slack, or the memory in use and kept together exceeds the limit. */
static bool too_much_kept(const struct sh_arena *a)
{
	uint64_t kept = atomic_load_explicit(&a->kept, memory_order_relaxed);

	return kept > a->slack || (kept > 0 && kept + atomic_load_explicit(&a->used, memory_order_relaxed) > a->limit);
}

void sh_arena_purge(struct sh_arena *a, unsigned seat, uint64_t pages)
{
	if (pages < PURGE_STEP)
		pages = PURGE_STEP;
	while (pages > 0 && too_much_kept(a)) { /* read without the lock: a hint */
		uint32_t p, n;

		if (!sh_purge_finish(a, seat, seat)) /* a purge that the last process in this seat did not finish */
			return;
		sh_lock_take(&a->lock, seat);
		p = too_much_kept(a) ? pick_purge(a, pages < PURGE_STEP ? pages : PURGE_STEP, seat) : 0;
		sh_lock_drop(&a->lock, seat);
		if (!p)
			return;
		n = desc_pages(span_desc(a, p));
		kernel_madvise(page_at(a, p), (size_t)n << PAGE_SHIFT, MADV_REMOVE);
		KILL_POINT("heap.purge.removed");
		sh_lock_take(&a->lock, seat);
		end_purge(a, p);
		a->note[seat].purge = 0;
		sh_lock_drop(&a->lock, seat);
		pages -= n < pages ? n : pages;
	}
}

bool sh_arena_trim(struct sh_arena *a, unsigned seat)
{
	sh_arena_purge(a, seat, TRIM_STEP);
	return too_much_kept(a);
}

/* ---- repair ---- */

/* The sums of a rebuild. They are stored at its end, so that no reader sees incomplete sums. */
struct sums {
	_Atomic uint64_t used, retired, kept;
};

static void rebuild_run(struct sh_arena *a, struct sums *sum, uint32_t p, uint64_t d)
{
	uint32_t n = desc_pages(d);
	struct sh_heap *h = &a->heap[desc_heap(d)];

	set_head(a, p);
	switch (desc_state(d)) {
	case RUN_FREE:
		sh_count(&sum->kept, sh_pages_dirty(a, p, n));
		bin_put(a, p, n);
		break;
	case RUN_SMALL:
		if (desc_owner(d) == OWNER_NONE) {
			a->span[p].lnext = h->partial[desc_class(d)];
			h->partial[desc_class(d)] = p;
		}
		/* fall through */
	case RUN_LARGE:
		sh_check(desc_heap(d) < a->heap_top && atomic_load(&h->state) != HEAP_FREE);
		link_span(a, h, p);
		sh_count(&h->used, n);
		sh_count(atomic_load(&h->state) == HEAP_RETIRED ? &sum->retired : &sum->used, n);
		break;
	}
}

void sh_runs_rebuild(struct sh_arena *a)
{
	struct sums sum = {0, 0, 0};
	uint32_t p, n;
	uint64_t d, f;

	sh_check(HOLDS(a));
	for (unsigned b = 0; b < BINS; b++)
		a->bin[b] = 0;
	a->binmap[0] = a->binmap[1] = a->binmap[2] = 0;
	for (uint32_t i = 0; i < a->heap_top; i++) {
		struct sh_heap *h = &a->heap[i];

		h->spans = 0;
		h->used = 0;
		for (unsigned c = 0; c < CLASSES; c++)
			h->partial[c] = 0;
	}
	for (uint32_t w = a->first / 64; w <= a->top / 64; w++)
		atomic_store_explicit(&a->head[w], 0, memory_order_relaxed);
	KILL_POINT("heap.repair.cleared");
	if (a->top < a->end)
		set_desc(a, a->top, 0); /* it was written before top was moved */
	for (p = a->first; p < a->top; p += n) {
		d = span_desc(a, p);
		n = desc_pages(d);
		sh_check(n > 0 && n <= a->top - p);
		while (desc_state(d) == RUN_FREE && p + n < a->top && desc_state(f = span_desc(a, p + n)) == RUN_FREE) {
			sh_check(desc_pages(f) > 0 && desc_pages(f) <= a->top - p - n);
			n += desc_pages(f);
			set_desc(a, p, d = free_desc(n));
		}
		rebuild_run(a, &sum, p, d);
		KILL_POINT("heap.repair.run");
	}
	atomic_store(&a->used, sum.used);
	atomic_store(&a->retired, sum.retired);
	atomic_store(&a->kept, sum.kept);
	a->changes++;
}
