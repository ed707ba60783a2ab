/*
 * large.c - blocks of whole pages. See heap_int.h.
 *
 * OWNER  the memory: the user of the block
 * LOCK   arena->lock, during each call
 * ORDER  as in span.c
 * DEATH  a block exists when the desc of its run says LARGE; see span.c
 */
#include "shm/check.h"
#include "shm/heap_int.h"

#include <string.h>

#define POPULATE_MAX (1ul << 20 >> PAGE_SHIFT) /* larger blocks may be meant to stay sparse */

/* Clears the pages that held something before; the others are zero. */
static void large_clear(struct sh_arena *a, uint32_t p, uint32_t n)
{
	for (uint32_t q = p; q < p + n; q++)
		if (sh_page_dirty(a, q))
			memset(page_at(a, q), 0, PAGE_BYTES);
}

void *sh_large_alloc(struct sh_heap *h, unsigned seat, size_t size, size_t align, bool zero)
{
	struct sh_arena *a = h->arena;
	uint32_t n, p = 0, dirty = 0;

	sh_check(seat < HEAP_SEATS);
	if (size > a->size || align > a->size)
		return NULL;
	n = (uint32_t)((size + PAGE_BYTES - 1) >> PAGE_SHIFT);
	sh_lock_take(&a->lock, seat);
	if (sh_span_allowed(h, n))
		p = sh_run_take(a, n, align > PAGE_BYTES ? align : PAGE_BYTES);
	if (p) {
		dirty = sh_pages_dirty(a, p, n);
		atomic_store_explicit(&a->map[p], p, memory_order_relaxed);
		sh_span_commit(a, p, desc_make(RUN_LARGE, 0, h->index, OWNER_NONE, n));
	}
	sh_lock_drop(&a->lock, seat);
	if (!p)
		return NULL;
	if (n <= POPULATE_MAX)
		sh_span_populate(a, p, n, dirty);
	if (zero && dirty)
		large_clear(a, p, n);
	return page_at(a, p);
}

void sh_large_free(struct sh_arena *a, uint32_t p, unsigned seat)
{
	uint32_t n;

	sh_check(seat < HEAP_SEATS);
	sh_lock_take(&a->lock, seat);
	n = desc_pages(span_desc(a, p));
	sh_check(desc_state(span_desc(a, p)) == RUN_LARGE); /* no other process has freed it meanwhile */
	sh_span_free(a, p);
	sh_lock_drop(&a->lock, seat);
	sh_arena_purge(a, seat, n);
}

bool sh_large_resize(struct sh_arena *a, uint32_t p, unsigned seat, size_t size)
{
	uint32_t n, old;
	bool done;

	if (size > a->size)
		return false;
	n = (uint32_t)((size + PAGE_BYTES - 1) >> PAGE_SHIFT);
	old = desc_pages(span_desc(a, p));
	if (n == old)
		return true;
	if (n < old && size <= SMALL_MAX / 2)
		return false; /* its size belongs to a class */
	sh_lock_take(&a->lock, seat);
	done = sh_span_resize(a, p, n);
	sh_lock_drop(&a->lock, seat);
	if (done && n < old)
		sh_arena_purge(a, seat, old - n);
	return done;
}
