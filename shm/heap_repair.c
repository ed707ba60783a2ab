/*
 * heap_repair.c - repairs caches and arena after a death; and the audit.
 *
 * OWNER  sh_heap_repair works for a seat whose process is dead. If that seat holds the arena's lock, the repair
 *        works under that lock
 * LOCK   arena->lock
 * ORDER  the dead seat's lock is freed after the rebuild, its notes are cleared after their operations are
 *        completed
 * DEATH  nothing is trusted but descs, block bits, marks, heap states and cache[cpu], each of which changes by one
 *        store; so a repair that was killed is simply repeated
 */
#include "shm/check.h"
#include "shm/heap_int.h"
#include "shm/kill.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define PIECE 256 /* runs checked while the lock is held once */

/* ---- a cache ---- */

/* True if a seat is about to push the span; ask this before is_stacked. */
static bool is_noted(struct sh_arena *a, uint32_t p)
{
	for (unsigned i = 0; i < HEAP_SEATS; i++)
		if (atomic_load(&a->note[i].queue) == p)
			return true;
	return false;
}

static bool is_stacked(struct sh_arena *a, struct sh_slot *s, uint32_t p)
{
	for (uint32_t q = atomic_load(&s->remote); q; q = atomic_load(&a->span[q].rnext))
		if (q == p)
			return true;
	return false;
}

static bool has_free(struct sh_arena *a, uint32_t p)
{
	for (unsigned w = 0; w < span_words(&a->span[p]); w++)
		if (~word_live(a, (size_t)p * PAGE_WORDS + w))
			return true;
	return false;
}

void sh_cache_rebuild(struct sh_arena *a, struct sh_heap *h, unsigned cpu)
{
	struct sh_cache *k = &a->cache[h->cache[cpu]];
	uint32_t deaths = atomic_load(&a->deaths);
	bool whole = true;

	sh_check(HOLDS(a));
	sh_check(cpu <= SH_HEAP_CPUS);
	k->busy = 1;
	atomic_signal_fence(memory_order_seq_cst);
	for (unsigned c = 0; c < CLASSES; c++) {
		k->slot[c].avail = 0;
		atomic_signal_fence(memory_order_seq_cst);
		k->slot[c].at = 0;
		k->slot[c].span = k->slot[c].list = 0;
		k->spare[c] = 0;
	}
	KILL_POINT("heap.rebuild.cleared");
	for (uint32_t p = h->spans; p; p = a->span[p].next) {
		uint64_t d = span_desc(a, p);
		struct sh_slot *s = &k->slot[desc_class(d)];
		uint32_t full = MARK_FULL, mark = atomic_load(&a->span[p].mark);

		if (desc_state(d) != RUN_SMALL || desc_owner(d) != cpu)
			continue;
		if (mark == MARK_FULL &&
		    (!has_free(a, p) || !atomic_compare_exchange_strong(&a->span[p].mark, &full, MARK_LISTED)))
			continue;
		if (mark == MARK_QUEUED) {
			if (is_noted(a, p)) { /* it will be pushed; or its seat is dead and the medic pushes it */
				whole = false;
				continue;
			}
			if (is_stacked(a, s, p))
				continue;
		}
		sh_cache_list(a, s, p);
	}
	if (whole)
		k->deaths = deaths;
}

/* ---- the arena ---- */

static void rebuild_heaps(struct sh_arena *a)
{
	uint64_t mapped = 0;

	a->heap_first = a->heap_last = a->heap_nfree = 0;
	for (uint32_t i = 0; i < a->heap_top; i++) {
		struct sh_heap *h = &a->heap[i];

		mapped += sh_heap_mapped(h);
		if (atomic_load(&h->state) != HEAP_FREE)
			continue;
		h->next = 0;
		if (a->heap_nfree++ == 0)
			a->heap_first = i + 1;
		else
			a->heap[a->heap_last - 1].next = i + 1;
		a->heap_last = i + 1;
	}
	atomic_store(&a->mapped, mapped);
	KILL_POINT("heap.repair.mapped");
	a->cache_first = 0;
	for (uint32_t c = 1; c < a->cache_top; c++) {
		struct sh_cache *k = &a->cache[c];

		if (k->heap < a->heap_top && k->cpu <= SH_HEAP_CPUS && a->heap[k->heap].cache[k->cpu] == c)
			continue;
		sh_cache_free(a, c);
	}
}

/* Unlists the lock of a seat that died between listing and taking it, or between freeing and unlisting it. */
static void forget_lock(struct sh_arena *a, unsigned seat)
{
	struct sh_held *held = sh_seat_held(seat);

	for (unsigned i = 0; i < SH_HELD_MAX; i++)
		if (held->lock[i] == &a->lock)
			held->lock[i] = NULL;
}

void sh_heap_repair(struct sh_arena *a, unsigned seat, unsigned medic)
{
	sh_check(seat < HEAP_SEATS && medic < HEAP_SEATS);
	if (sh_lock_held(&a->lock, seat)) {
		sh_runs_rebuild(a);
		KILL_POINT("heap.repair.runs");
		rebuild_heaps(a);
		KILL_POINT("heap.repair.heaps");
		a->changes++;
		sh_lock_drop(&a->lock, seat);
	}
	forget_lock(a, seat);
	sh_purge_finish(a, seat, medic);
	atomic_store(&a->note[seat].queue, 0);
	KILL_POINT("heap.repair.notes");
	atomic_fetch_add(&a->deaths, 1); /* each cache looks for lost blocks before it takes more pages */
}

/* ---- figures ---- */

/* Bytes in live blocks of a run. Holds: the lock. */
static size_t run_live(struct sh_arena *a, uint32_t p, uint64_t d)
{
	size_t n = 0;

	if (desc_state(d) == RUN_LARGE)
		return (size_t)desc_pages(d) << PAGE_SHIFT;
	if (desc_state(d) != RUN_SMALL)
		return 0;
	for (unsigned w = 0; w < span_words(&a->span[p]); w++)
		n += (size_t)__builtin_popcountl(word_live(a, (size_t)p * PAGE_WORDS + w) &
						 ~word_empty(&a->span[p], w));
	return n * class_bytes(desc_class(d));
}

size_t sh_arena_live(struct sh_arena *a, unsigned seat)
{
	uint32_t p = a->first;
	size_t live = 0;

	do {
		sh_lock_take(&a->lock, seat);
		if (p < a->top && p > a->first)
			p = sh_run_head(a, p);
		for (unsigned n = 0; n < PIECE && p < a->top; n++) {
			uint64_t d = span_desc(a, p);

			live += run_live(a, p, d);
			p += desc_pages(d);
		}
		sh_lock_drop(&a->lock, seat);
	} while (p < a->top);
	return live;
}

static size_t pages_of(const _Atomic uint64_t *sum)
{
	return (size_t)atomic_load_explicit((_Atomic uint64_t *)sum, memory_order_relaxed) << PAGE_SHIFT;
}

/* Each counter is right by itself; a span may be moving between two of them. */
void sh_arena_stats(const struct sh_arena *a, struct sh_heap_stats *st)
{
	uint32_t top = atomic_load_explicit(&((struct sh_arena *)a)->top, memory_order_relaxed);

	st->limit = (size_t)a->limit << PAGE_SHIFT;
	st->used = pages_of(&a->used) + atomic_load_explicit(&((struct sh_arena *)a)->mapped, memory_order_relaxed);
	st->retired = pages_of(&a->retired);
	st->committed =
		st->used + st->retired + pages_of(&a->kept) +
		(size_t)(top - a->first) * (sizeof *a->span + sizeof *a->bits * PAGE_WORDS + sizeof *a->map) +
		atomic_load_explicit(&((struct sh_arena *)a)->heap_top, memory_order_relaxed) * sizeof *a->heap +
		atomic_load_explicit(&((struct sh_arena *)a)->cache_top, memory_order_relaxed) * sizeof *a->cache +
		sizeof *a;
}

size_t sh_heap_used(const struct sh_heap *h)
{
	return pages_of(&h->used) + sh_heap_mapped(h);
}

size_t sh_heap_used_at(const struct sh_arena *a, const void *maybe_heap)
{
	uintptr_t off = (uintptr_t)maybe_heap - (uintptr_t)a->heap;

	if (off % sizeof *a->heap || off / sizeof *a->heap >= a->heaps)
		return 0;
	return sh_heap_used(maybe_heap);
}

/* ---- audit ---- */

struct audit {
	struct sh_arena *a;
	char *msg;
	size_t n;
	uint64_t used, kept, free_runs;
	bool last_free;
};

static int __attribute__((format(printf, 2, 3))) wrong(struct audit *au, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (au->n)
		vsnprintf(au->msg, au->n, fmt, ap);
	va_end(ap);
	return -1;
}

static int audit_small(struct audit *au, uint32_t p, uint64_t d)
{
	struct sh_arena *a = au->a;
	struct sh_span *s = &a->span[p];
	unsigned class = desc_class(d), owner = desc_owner(d), mark = atomic_load(&s->mark);

	if (class >= CLASSES)
		return wrong(au, "span %u: class %u", p, class);
	if (s->blocks != desc_pages(d) * PAGE_BYTES / class_bytes(class))
		return wrong(au, "span %u: %u blocks of %zu bytes in %u pages", p, s->blocks, class_bytes(class),
			     desc_pages(d));
	if (owner > OWNER_NONE || (owner <= SH_HEAP_CPUS && !a->heap[desc_heap(d)].cache[owner]))
		return wrong(au, "span %u: owner %u has no cache", p, owner);
	if (mark > MARK_QUEUED || (owner == OWNER_NONE && mark != MARK_LISTED))
		return wrong(au, "span %u: mark %u of owner %u", p, mark, owner);
	for (uint32_t i = 0; i < desc_pages(d); i++)
		if (atomic_load(&a->map[p + i]) != p)
			return wrong(au, "span %u: page %u leads to %u", p, p + i, atomic_load(&a->map[p + i]));
	for (unsigned w = 0; w < span_words(s); w++) {
		uint64_t tail = word_empty(s, w);

		if ((atomic_load(&a->bits[p * PAGE_WORDS + w].a) & tail) != tail ||
		    (atomic_load(&a->bits[p * PAGE_WORDS + w].r) & tail))
			return wrong(au, "span %u: word %u has bits past the last block", p, w);
	}
	return 0;
}

static int audit_used(struct audit *au, uint32_t p, uint64_t d)
{
	struct sh_arena *a = au->a;
	struct sh_heap *h = &a->heap[desc_heap(d)];
	struct sh_span *s = &a->span[p];

	if (desc_heap(d) >= a->heap_top || atomic_load(&h->state) == HEAP_FREE)
		return wrong(au, "run %u: heap %u is free", p, desc_heap(d));
	if (s->prev ? a->span[s->prev].next != p : h->spans != p)
		return wrong(au, "run %u: not on the list of heap %u", p, desc_heap(d));
	if (s->next && a->span[s->next].prev != p)
		return wrong(au, "run %u: list of heap %u is broken", p, desc_heap(d));
	if (atomic_load(&a->map[p]) != p)
		return wrong(au, "run %u: its page leads to %u", p, atomic_load(&a->map[p]));
	au->used += desc_pages(d);
	return desc_state(d) == RUN_SMALL ? audit_small(au, p, d) : 0;
}

/* Checks one run. Holds: the lock. */
static int audit_run(struct audit *au, uint32_t p)
{
	struct sh_arena *a = au->a;
	uint64_t d = span_desc(a, p);
	uint32_t n = desc_pages(d);
	struct sh_span *s = &a->span[p];

	sh_check(HOLDS(au->a));
	if (n == 0 || n > a->top - p)
		return wrong(au, "run %u: %u pages, top %u", p, n, a->top);
	if (sh_run_head(a, p) != p || (n > 1 && sh_run_head(a, p + n - 1) != p))
		return wrong(au, "run %u: head bits are wrong", p);
	if (desc_state(d) == RUN_FREE) {
		if (au->last_free)
			return wrong(au, "run %u: free beside a free one", p);
		if (a->span[p + n - 1].back != n)
			return wrong(au, "run %u: its end says %u pages, not %u", p, a->span[p + n - 1].back, n);
		if ((s->prev && a->span[s->prev].next != p) || (s->next && a->span[s->next].prev != p))
			return wrong(au, "run %u: its bin is broken", p);
		au->kept += sh_pages_dirty(a, p, n);
		au->free_runs++;
	}
	au->last_free = desc_state(d) == RUN_FREE;
	if (desc_state(d) > RUN_PURGE)
		return wrong(au, "run %u: state %u", p, desc_state(d));
	if (desc_state(d) == RUN_SMALL || desc_state(d) == RUN_LARGE)
		return audit_used(au, p, d);
	return 0;
}

/* Checks that the caches belong to their heaps, and the sums. Holds: the lock. */
static int audit_heaps(struct audit *au)
{
	struct sh_arena *a = au->a;
	uint64_t used = 0, retired = 0, mapped = 0, bins = 0;

	sh_check(HOLDS(au->a));
	for (uint32_t i = 0; i < a->heap_top; i++) {
		struct sh_heap *h = &a->heap[i];

		*(atomic_load(&h->state) == HEAP_RETIRED ? &retired : &used) += h->used;
		mapped += sh_heap_mapped(h);
		if (atomic_load(&h->state) == HEAP_FREE && (h->spans || h->used || h->mapped))
			return wrong(au, "heap %u: free, but has %lu pages", i, (unsigned long)h->used);
		for (unsigned cpu = 0; cpu <= SH_HEAP_CPUS; cpu++) {
			uint32_t c = h->cache[cpu];

			if (c && (c >= a->cache_top || a->cache[c].heap != i || a->cache[c].cpu != cpu))
				return wrong(au, "heap %u: cache %u of cpu %u is another's", i, c, cpu);
		}
	}
	if (used != a->used || retired != a->retired)
		return wrong(au, "heaps have %lu + %lu pages, the arena %lu + %lu", (unsigned long)used,
			     (unsigned long)retired, (unsigned long)a->used, (unsigned long)a->retired);
	if (mapped != a->mapped)
		return wrong(au, "heaps have %lu bytes mapped, the arena %lu", (unsigned long)mapped,
			     (unsigned long)a->mapped);
	for (unsigned b = 0; b < BINS; b++) {
		if (!a->bin[b] != !(a->binmap[b / 64] >> b % 64 & 1))
			return wrong(au, "bin %u: its bit is wrong", b);
		for (uint32_t p = a->bin[b]; p; p = a->span[p].next)
			bins++;
	}
	if (bins != au->free_runs)
		return wrong(au, "%lu free runs, %lu in bins", (unsigned long)au->free_runs, (unsigned long)bins);
	return 0;
}

int sh_heap_audit(struct sh_arena *a, unsigned seat, char *msg, size_t n)
{
	struct audit au = {.a = a, .msg = msg, .n = n};
	uint32_t p = a->first;
	uint64_t changes;
	int err = 0;

	sh_lock_take(&a->lock, seat);
	changes = a->changes;
	for (;;) {
		for (unsigned i = 0; i < PIECE && p < a->top && !err; i++) {
			err = audit_run(&au, p);
			p += desc_pages(span_desc(a, p));
		}
		if (err || p >= a->top)
			break;
		sh_lock_drop(&a->lock, seat);
		sh_lock_take(&a->lock, seat);
		if (p < a->top && sh_run_head(a, p) != p) {
			p = sh_run_head(a, p); /* it was joined with the run before it */
			au.last_free = false;
		}
		if (a->changes != changes)
			au.last_free = false;
	}
	/* The sums hold only if nothing changed meanwhile. */
	if (!err && a->changes == changes) {
		if (au.used != a->used + a->retired)
			err = wrong(&au, "%lu pages in use, counted %lu", (unsigned long)(a->used + a->retired),
				    (unsigned long)au.used);
		else if (au.kept != a->kept)
			err = wrong(&au, "%lu free pages kept, counted %lu", (unsigned long)a->kept,
				    (unsigned long)au.kept);
		else
			err = audit_heaps(&au);
	}
	sh_lock_drop(&a->lock, seat);
	return err;
}
