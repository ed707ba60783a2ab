/*
 * malloc.c - malloc for all: the segment heap on a goroutine, jemalloc elsewhere.
 *
 * malloc looks at where it stands, free at the address. What a goroutine allocates belongs to its
 * task and is good in every worker; what libuv, the loader, the supervisor and threads of a
 * library's own allocate is private to the process.
 *
 * OWNER  dropped: threads put blocks there, who stands on a goroutine frees them
 * DEATH  a block in dropped is the task's until its end
 */
#include "shm/heap.h"
#include "shm/segment.h"
#include "shm/syscall.h"
#include "worker/worker.h"

#include <errno.h>
#include <jemalloc/jemalloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct sh_heap *sh_loading_heap;
bool malloc_is_private;

#define ZYGOTE_SEAT (SH_SEATS - 1)

static _Atomic(void *) dropped; /* the first word of each block leads to the next */

static inline bool ours(const void *p)
{
	return (uintptr_t)p - (SH_BASE + SH_OFF_HEAP) < SH_HEAP_SIZE;
}

/* The cache that this process may use now; a goroutine on its way out of a system call has no P. */
static inline unsigned cpu_here(const struct m *m)
{
	int p = atomic_load_explicit(&m->p, memory_order_relaxed);

	return __builtin_expect(p >= 0, 1) ? (unsigned)p : SH_HEAP_NOCPU;
}

/* A thread of a library's own: seat and caches are in use by another right now. */
static bool on_thread(void)
{
	return getm && syscall(SYS_gettid) != atomic_load(&sh_root->seat[getm->seat].pid);
}

static bool release(void *p)
{
	if (on_g() || (getm && !on_thread()))
		return sh_heap_try_free(sh_root->arena, (unsigned)getm->seat, cpu_here(getm), p);
	if (!getm)
		return sh_heap_try_free(sh_root->arena, ZYGOTE_SEAT, SH_HEAP_NOCPU, p);
	if (!sh_heap_usable(sh_root->arena, p))
		return false;
	*(void **)p = atomic_load(&dropped);
	while (!atomic_compare_exchange_weak(&dropped, (void **)p, p))
		;
	return true;
}

static __attribute__((noinline)) void free_dropped(void)
{
	void *p = atomic_exchange(&dropped, NULL), *next;

	for (; p; p = next) {
		next = *(void **)p;
		release(p);
	}
}

static __attribute__((noinline)) void *take_private(size_t n, size_t align, bool zero)
{
	void *p;

	if (sh_loading_heap)
		p = sh_heap_alloc(sh_loading_heap, ZYGOTE_SEAT, SH_HEAP_NOCPU, n, align, zero);
	else
		p = mallocx(n ? n : 1, (align > 16 ? MALLOCX_ALIGN(align) : 0) | (zero ? MALLOCX_ZERO : 0));
	if (!p)
		errno = ENOMEM;
	return p;
}

static inline void *take(size_t n, size_t align, bool zero)
{
	struct g *g = on_g();
	struct m *m = getm;
	void *p;

	if (__builtin_expect(!g, 0))
		return take_private(n, align, zero);
	if (__builtin_expect(atomic_load_explicit(&dropped, memory_order_relaxed) != NULL, 0))
		free_dropped();
	p = sh_heap_alloc(g->task->heap, (unsigned)m->seat, cpu_here(m), n, align, zero);
	if (__builtin_expect(!p, 0))
		errno = ENOMEM;
	return p;
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
	int err;

	if (__builtin_expect(ours(p), 1)) {
		if (__builtin_expect(!release(p), 0) && on_g())
			host_misuse("free: not the start of a block in use");
		return;
	}
	if (!p)
		return;
	err = errno;
	malloc_is_private = true;
	dallocx(p, 0);
	malloc_is_private = false;
	errno = err;
}

size_t malloc_usable_size(void *p)
{
	if (!p)
		return 0;
	return ours(p) ? sh_heap_usable(sh_root->arena, p) : sallocx(p, 0);
}

/* In place: only a block of our own task, or what another left to a library would come to be ours and go with it. */
static bool resize(struct g *g, void *p, size_t n)
{
	struct sh_heap *h = sh_heap_of(sh_root->arena, p);

	if (!h && g)
		host_misuse("realloc: not the start of a block in use");
	return g && h == g->task->heap && sh_heap_resize(sh_root->arena, (unsigned)getm->seat, cpu_here(getm), p, n);
}

void *realloc(void *p, size_t n)
{
	struct g *g = on_g();
	size_t had;
	void *q;

	if (!p)
		return malloc(n);
	if (!n) {
		free(p);
		return NULL;
	}
	if (!ours(p) && !g && !sh_loading_heap) {
		q = rallocx(p, n, 0);
		if (!q)
			errno = ENOMEM;
		return q;
	}
	if (ours(p) && resize(g, p, n))
		return p;
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

void *pages_take(size_t n)
{
	return take((n + SH_PAGE - 1) & ~(SH_PAGE - 1), SH_PAGE, true);
}

void pages_give(void *p)
{
	release(p);
}

void *valloc(size_t n)
{
	return take(n, SH_PAGE, false);
}

void *pvalloc(size_t n);
void *pvalloc(size_t n)
{
	return take((n + SH_PAGE - 1) & ~(SH_PAGE - 1), SH_PAGE, false);
}
