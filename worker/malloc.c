/*
 * malloc.c - malloc for all: the segment heap on a goroutine, jemalloc elsewhere.
 *
 * malloc looks at where it stands, free at the address. What a goroutine allocates belongs to its
 * task and is good in every worker; what libuv, the loader and the supervisor allocate is private
 * to the process.
 */
#include "shm/heap.h"
#include "worker/worker.h"

#include <errno.h>
#include <jemalloc/jemalloc.h>
#include <stdlib.h>
#include <string.h>

struct sh_heap *sh_loading_heap;

#define ZYGOTE_SEAT (SH_SEATS - 1)

static inline struct sh_heap *heap_here(unsigned *seat, unsigned *cpu)
{
	struct g *g = on_g();

	if (g) {
		*seat = (unsigned)getm->seat;
		*cpu = (unsigned)atomic_load_explicit(&getm->p, memory_order_relaxed);
		return g->task->heap;
	}
	if (sh_loading_heap) {
		*seat = ZYGOTE_SEAT;
		*cpu = SH_HEAP_NOCPU;
	}
	return sh_loading_heap;
}

static inline bool ours(const void *p)
{
	return (uintptr_t)p - (SH_BASE + SH_OFF_HEAP) < SH_HEAP_SIZE;
}

static void *take(size_t n, size_t align, bool zero)
{
	unsigned seat, cpu;
	struct sh_heap *h = heap_here(&seat, &cpu);
	void *p;

	if (h)
		p = sh_heap_alloc(h, seat, cpu, n, align, zero);
	else
		p = mallocx(n ? n : 1, (align > 16 ? MALLOCX_ALIGN(align) : 0) | (zero ? MALLOCX_ZERO : 0));
	if (!p)
		errno = ENOMEM;
	return p;
}

static void seat_and_cpu(unsigned *seat, unsigned *cpu)
{
	int p = getm ? atomic_load_explicit(&getm->p, memory_order_relaxed) : -1;

	*seat = getm ? (unsigned)getm->seat : ZYGOTE_SEAT;
	*cpu = p >= 0 ? (unsigned)p : SH_HEAP_NOCPU;
}

void *malloc(size_t n)
{
	return take(n, 0, false);
}

void *calloc(size_t n, size_t size)
{
	size_t all;

	if (__builtin_mul_overflow(n, size, &all)) {
		errno = ENOMEM;
		return NULL;
	}
	return take(all, 0, true);
}

void free(void *p)
{
	unsigned seat, cpu;
	int err;

	if (!p)
		return;
	if (!ours(p)) {
		err = errno;
		dallocx(p, 0);
		errno = err;
		return;
	}
	seat_and_cpu(&seat, &cpu);
	if (__builtin_expect(!sh_heap_usable(sh_root->arena, p), 0)) {
		if (on_g())
			host_misuse("free: not the start of a block in use");
		return;
	}
	sh_heap_free(sh_root->arena, seat, cpu, p);
}

size_t malloc_usable_size(void *p)
{
	if (!p)
		return 0;
	return ours(p) ? sh_heap_usable(sh_root->arena, p) : sallocx(p, 0);
}

void *realloc(void *p, size_t n)
{
	unsigned seat, cpu;
	size_t had;
	void *q;

	if (!p)
		return malloc(n);
	if (!n) {
		free(p);
		return NULL;
	}
	if (!ours(p) && !on_g() && !sh_loading_heap) {
		q = rallocx(p, n, 0);
		if (!q)
			errno = ENOMEM;
		return q;
	}
	if (ours(p)) {
		seat_and_cpu(&seat, &cpu);
		if (!sh_heap_usable(sh_root->arena, p) && on_g())
			host_misuse("realloc: not the start of a block in use");
		if (sh_heap_resize(sh_root->arena, seat, cpu, p, n))
			return p;
	}
	had = malloc_usable_size(p);
	q = malloc(n);
	if (!q)
		return NULL;
	memcpy(q, p, had < n ? had : n);
	free(p);
	return q;
}

void *reallocarray(void *p, size_t n, size_t size)
{
	size_t all;

	if (__builtin_mul_overflow(n, size, &all)) {
		errno = ENOMEM;
		return NULL;
	}
	return realloc(p, all);
}

void *memalign(size_t align, size_t n)
{
	if (!align || (align & (align - 1))) {
		errno = EINVAL;
		return NULL;
	}
	return take(n, align, false);
}

void *aligned_alloc(size_t align, size_t n)
{
	return memalign(align, n);
}

int posix_memalign(void **out, size_t align, size_t n)
{
	int err = errno;
	void *p;

	if (align < sizeof(void *) || (align & (align - 1)))
		return EINVAL;
	p = take(n, align, false);
	errno = err;
	if (!p)
		return ENOMEM;
	*out = p;
	return 0;
}

void *valloc(size_t n)
{
	return take(n, 4096, false);
}

void *pvalloc(size_t n);
void *pvalloc(size_t n)
{
	return take((n + 4095) & ~4095ul, 4096, false);
}
