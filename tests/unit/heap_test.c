/*
 * heap_test.c - the segment heap in one process: contract, accounting, limits, reuse, and repair
 * after a child was stopped in the middle. The storms are in heap_stress.c.
 */
#include "shm/heap.h"
#include "shm/heap_int.h"
#include "shm/segment.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MiB (1ul << 20)
#define KiB (1ul << 10)

static struct sh_arena *a;
static struct sh_heap *h;

static void set_up(void)
{
	cr_assert(sh_segment_create(512 * MiB) >= 0);
	a = sh_root->arena;
	h = sh_heap_new(a, 0, 0);
	cr_assert(h);
}

static void audit(void)
{
	char msg[200] = "";

	cr_assert_eq(sh_heap_audit(a, 0, msg, sizeof msg), 0, "%s", msg);
}

static size_t used(void)
{
	return sh_arena_live(a, 0);
}

/* Blocks freed late are freed, too. */
static void flush(struct sh_heap *heap)
{
	for (unsigned cpu = 0; cpu < 8; cpu++)
		sh_heap_flush(heap, 0, cpu);
}

static size_t committed(void)
{
	struct sh_heap_stats st;

	sh_arena_stats(a, &st);
	return st.committed;
}

TestSuite(heap, .init = set_up, .timeout = 20);

Test(heap, classes_waste_an_eighth_at_most)
{
	for (size_t size = 1; size <= 32 * KiB; size++) {
		unsigned c = class_of(size);

		cr_assert(c < CLASSES && class_bytes(c) >= size && (c == 0 || class_bytes(c - 1) < size), "size %zu",
			  size);
		cr_assert(size <= 128 || (class_bytes(c) - size) * 8 <= class_bytes(c), "size %zu", size);
	}
	for (size_t size = 256; size <= 2048; size *= 2)
		cr_assert_eq(class_bytes(class_of(size)), size);
	for (unsigned c = 0; c < CLASSES; c++)
		for (size_t off = 0; off < SPAN_PAGES_MAX * PAGE_BYTES; off++)
			cr_assert((off * sh_class_recip[c] >> 32) == off / class_bytes(c), "class %u offset %zu", c,
				  off);
}

Test(heap, blocks_hold_what_was_asked_and_do_not_overlap)
{
	enum { N = 3000 };
	static unsigned char *p[N];
	static size_t size[N];

	for (unsigned i = 0; i < N; i++) {
		size[i] = i % 100 == 99 ? i * 97 : (i * 7919) % 5000;
		p[i] = sh_heap_alloc(h, 0, i % 3 ? i % 5 : SH_HEAP_NOCPU, size[i], 0, false);
		cr_assert(p[i] && (uintptr_t)p[i] % 16 == 0);
		cr_assert(sh_heap_usable(a, p[i]) >= (size[i] ? size[i] : 1));
		cr_assert(sh_heap_owns(a, p[i]) && sh_heap_of(a, p[i]) == h);
		memset(p[i], (int)i & 255, size[i]);
	}
	audit();
	for (unsigned i = 0; i < N; i++) {
		for (size_t k = 0; k < size[i]; k++)
			cr_assert(p[i][k] == (i & 255), "block %u byte %zu", i, k);
		sh_heap_free(a, 0, i % 2, p[i]);
	}
	flush(h);
	cr_assert_eq(used(), 0);
	audit();
}

Test(heap, alignment)
{
	for (size_t align = 1; align <= 8 * MiB; align *= 2)
		for (size_t size = 1; size < 300 * KiB; size = size * 5 + 3) {
			void *p = sh_heap_alloc(h, 0, 0, size, align, false);

			cr_assert(p && (uintptr_t)p % align == 0, "size %zu align %zu", size, align);
			cr_assert(sh_heap_usable(a, p) >= size);
		}
	audit();
	sh_heap_release(h, 0);
	audit();
}

Test(heap, zeroed_after_reuse)
{
	static const size_t sizes[] = {16, 100, 4000, 32768, 50000, 3000000};

	for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++)
		for (unsigned round = 0; round < 3; round++) {
			unsigned char *p = sh_heap_alloc(h, 0, 0, sizes[i], 0, true);

			cr_assert(p);
			for (size_t k = 0; k < sizes[i]; k++)
				cr_assert(p[k] == 0, "size %zu round %u byte %zu", sizes[i], round, k);
			memset(p, 0xff, sh_heap_usable(a, p));
			sh_heap_free(a, 0, 0, p);
		}
}

Test(heap, only_starts_of_live_blocks_are_usable)
{
	char *p = sh_heap_alloc(h, 0, 0, 100, 0, false), *big = sh_heap_alloc(h, 0, 0, 100000, 0, false);
	int local;

	cr_assert_eq(sh_heap_usable(a, p), 112);
	cr_assert_eq(sh_heap_usable(a, big), 13 * 8192);
	cr_assert_eq(sh_heap_usable(a, p + 16), 0);
	cr_assert_eq(sh_heap_usable(a, p + 1), 0);
	cr_assert_eq(sh_heap_usable(a, p + 112), 0); /* not handed out */
	cr_assert_eq(sh_heap_usable(a, big + 8192), 0);
	cr_assert_eq(sh_heap_usable(a, a), 0);
	cr_assert_eq(sh_heap_usable(a, &local), 0);
	cr_assert_eq(sh_heap_usable(a, NULL), 0);
	cr_assert_eq(sh_heap_usable(a, (char *)a + SH_HEAP_SIZE - 16), 0);
	cr_assert_not(sh_heap_owns(a, a));
	cr_assert_not(sh_heap_owns(a, &local));
	cr_assert_null(sh_heap_of(a, &local));
	sh_heap_free(a, 0, 0, p);
	sh_heap_free(a, 0, 1, big);
	cr_assert_eq(sh_heap_usable(a, p), 0);
	cr_assert_eq(sh_heap_usable(a, big), 0);
	cr_assert_null(sh_heap_of(a, p));
}

Test(heap, past_the_last_block_is_nothing)
{
	char *p[8], *end;

	for (unsigned i = 0; i < 7; i++) /* 7 blocks of 1152 bytes in a page, 128 bytes over */
		p[i] = sh_heap_alloc(h, 0, 0, 1152, 0, false);
	end = p[6] + 1152;
	cr_assert_eq(sh_heap_usable(a, end), 0);
	p[7] = sh_heap_alloc(h, 0, 0, 1152, 0, false);
	cr_assert(p[7] != end && sh_heap_usable(a, p[7]) == 1152);
}

Test(heap, double_free_local, .signal = SIGABRT)
{
	char *p = sh_heap_alloc(h, 0, 0, 100, 0, false);

	sh_heap_free(a, 0, 0, p);
	sh_heap_free(a, 0, 0, p);
}

Test(heap, double_free_remote, .signal = SIGABRT)
{
	char *p = sh_heap_alloc(h, 0, 0, 100, 0, false);

	sh_heap_free(a, 0, 1, p);
	sh_heap_free(a, 0, 0, p);
}

/* Freed by one cpu and not yet so by its bits: freed again by the same, or by another when its bits say it. */
Test(heap, double_free_late, .signal = SIGABRT)
{
	char *p = sh_heap_alloc(h, 0, 0, 100, 0, false);

	sh_heap_free(a, 0, 1, sh_heap_alloc(h, 0, 1, 100, 0, false)); /* cpu 1 has a cache */
	sh_heap_free(a, 0, 1, p);
	sh_heap_free(a, 0, 1, p);
}

Test(heap, a_deferred_free_is_completed_soon)
{
	enum { N = 100 };
	char *p[N];
	unsigned live = 0;

	for (unsigned i = 0; i < N; i++)
		p[i] = sh_heap_alloc(h, 0, 0, 100, 0, false);
	sh_heap_free(a, 0, 1, sh_heap_alloc(h, 0, 1, 100, 0, false));
	for (unsigned i = 0; i < N; i++)
		sh_heap_free(a, 0, 1, p[i]);
	for (unsigned i = 0; i < N; i++)
		live += sh_heap_usable(a, p[i]) != 0;
	cr_assert_eq(live, LATE);
	sh_heap_flush(h, 0, 1);
	for (unsigned i = 0; i < N; i++)
		cr_assert_eq(sh_heap_usable(a, p[i]), 0);
	audit();
}

Test(heap, double_free_large, .signal = SIGABRT)
{
	char *p = sh_heap_alloc(h, 0, 0, 100000, 0, false);

	sh_heap_free(a, 0, 0, p);
	sh_heap_free(a, 0, 0, p);
}

Test(heap, free_inside_a_block, .signal = SIGABRT)
{
	sh_heap_free(a, 0, 0, (char *)sh_heap_alloc(h, 0, 0, 100, 0, false) + 16);
}

Test(heap, free_past_the_last_block, .signal = SIGABRT)
{
	char *p = NULL;

	for (unsigned i = 0; i < 7; i++)
		p = sh_heap_alloc(h, 0, 0, 1152, 0, false);
	sh_heap_free(a, 0, 0, p + 1152);
}

Test(heap, freed_by_another_is_used_again)
{
	enum { N = 5000 };
	static void *p[N];
	size_t top;

	for (unsigned i = 0; i < N; i++)
		p[i] = sh_heap_alloc(h, 0, 0, 200, 0, false);
	top = sh_heap_used(h);
	for (unsigned round = 0; round < 5; round++) {
		for (unsigned i = 0; i < N; i++)
			sh_heap_free(a, 0, round % 2 ? SH_HEAP_NOCPU : 3, p[i]);
		cr_assert_eq(used(), 0);
		for (unsigned i = 0; i < N; i++)
			p[i] = sh_heap_alloc(h, 0, 0, 200, 0, false);
		cr_assert(sh_heap_used(h) <= top + 64 * KiB);
	}
	audit();
}

Test(heap, the_heap_works_without_a_cpu_number)
{
	enum { N = 2000 };
	static void *p[N];

	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < N; i++)
			cr_assert(p[i] = sh_heap_alloc(h, 0, SH_HEAP_NOCPU, 64, 0, true));
		for (unsigned i = 0; i < N; i++)
			sh_heap_free(a, 0, SH_HEAP_NOCPU, p[i]);
	}
	cr_assert_eq(used(), 0);
	cr_assert(sh_heap_used(h) <= 256 * KiB);
	audit();
}

Test(heap, empty_spans_go_back)
{
	enum { N = 20000 };
	static void *p[N];
	size_t top;

	for (unsigned i = 0; i < N; i++)
		p[i] = sh_heap_alloc(h, 0, 0, 512, 0, false);
	top = sh_heap_used(h);
	for (unsigned i = 0; i < N; i++)
		sh_heap_free(a, 0, 0, p[(i * 7919ul) % N]);
	cr_assert(sh_heap_used(h) < top / 20, "%zu of %zu", sh_heap_used(h), top);
	audit();
	sh_heap_flush(h, 0, 0);
	cr_assert_eq(sh_heap_used(h), 0);
	audit();
}

Test(heap, flushed_spans_serve_other_cpus)
{
	enum { N = 1000 };
	static void *p[N];
	size_t top;

	for (unsigned i = 0; i < N; i++)
		p[i] = sh_heap_alloc(h, 0, 0, 512, 0, false);
	for (unsigned i = 0; i < N; i += 2)
		sh_heap_free(a, 0, 0, p[i]);
	sh_heap_flush(h, 0, 0);
	top = sh_heap_used(h);
	for (unsigned i = 0; i < N; i += 2)
		p[i] = sh_heap_alloc(h, 0, 1, 512, 0, false);
	cr_assert_eq(sh_heap_used(h), top);
	audit();
	for (unsigned i = 0; i < N; i++)
		sh_heap_free(a, 0, 0, p[i]);
	flush(h);
	cr_assert_eq(used(), 0);
	audit();
}

Test(heap, limit_of_a_heap)
{
	struct sh_heap *small = sh_heap_new(a, 0, MiB);
	void *first = sh_heap_alloc(small, 0, 0, 1000, 0, false);
	unsigned n = 1;

	cr_assert_null(sh_heap_alloc(small, 0, 0, 2 * MiB, 0, false));
	while (sh_heap_alloc(small, 0, 0, 1000, 0, false))
		n++;
	cr_assert(sh_heap_used(small) <= MiB && n >= 1000, "%u blocks", n);
	cr_assert(sh_heap_alloc(h, 0, 0, 1000, 0, false)); /* others are not concerned */
	sh_heap_free(a, 0, 0, first);
	cr_assert(sh_heap_alloc(small, 0, 0, 1000, 0, false));
	audit();
	sh_heap_release(small, 0);
	audit();
}

Test(heap, limit_counts_blocks_of_all_classes)
{
	enum { N = 1 << 14 };
	struct sh_heap *small = sh_heap_new(a, 0, MiB);
	static void *p[N];
	unsigned n = 0, big = 0;

	while (n < N && (p[n] = sh_heap_alloc(small, 0, 0, 64, 0, false)))
		n++;
	for (; n > 0; n--)
		sh_heap_free(a, 0, n % 3, p[n - 1]);
	while (sh_heap_alloc(small, 0, 0, 2000, 0, false)) /* blocks that others freed are found, too */
		big++;
	cr_assert(big >= 400, "%u", big);
	audit();
}

Test(heap, limit_of_the_arena)
{
	unsigned n = 0;
	struct sh_heap_stats st;

	while (sh_heap_alloc(h, 0, 0, MiB, 0, false))
		n++;
	cr_assert_eq(n, 480); /* a 16th is the runtime's */
	sh_arena_stats(a, &st);
	cr_assert(st.used == 480 * MiB && st.limit == 512 * MiB);
	audit();
}

Test(heap, reserve_of_the_arena)
{
	struct sh_heap *own = sh_heap_new(a, 0, 0);
	unsigned n = 0;

	sh_heap_privilege(own, true);
	while (sh_heap_alloc(h, 0, 0, 8 * KiB, 0, false))
		;
	cr_assert_null(sh_heap_alloc(h, 0, 1, 256, 0, false));
	while (sh_heap_alloc(own, 0, SH_HEAP_NOCPU, 256, 0, false))
		n++;
	cr_assert(n >= 32 * MiB / 256 * 99 / 100, "%u", n);
	sh_heap_release(own, 0);
	cr_assert_null(sh_heap_alloc(h, 0, 1, 256, 0, false));
	audit();
}

Test(heap, stale_data_of_a_heap_is_not_reused)
{
	enum { N = 4000 };
	struct sh_heap *t = sh_heap_new(a, 0, 0), *u = sh_heap_new(a, 0, 0);
	struct sh_heap_stats st;
	static char *p[N];
	bool more;
	size_t was = used();

	for (unsigned i = 0; i < N; i++) {
		p[i] = sh_heap_alloc(t, 0, i % 3, 16 + i % 500, 0, false);
		memset(p[i], 7, 16);
	}
	p[0] = sh_heap_alloc(t, 0, 0, 100000, 0, false);
	sh_heap_touch(t, 5);
	cr_assert_not(sh_heap_retire(t, 0));
	cr_assert_not(sh_heap_retire(t, 0)); /* as after a death */
	sh_arena_stats(a, &st);
	cr_assert(st.used == sh_heap_used(h) && st.retired == sh_heap_used(t));
	audit();
	sh_heap_free(a, 0, 0, p[0]); /* by a library that replaces its cache */
	sh_heap_free(a, 0, 0, p[1]);
	sh_heap_free(a, 0, 7, p[2]);
	for (unsigned i = 0; i < 3 * N; i++) {
		char *q = sh_heap_alloc(u, 0, i % 3, 16 + i % 500, 0, false);

		cr_assert_neq(sh_heap_of(a, q), t);
		memset(q, 1, 16);
	}
	for (unsigned i = 3; i < N; i++)
		cr_assert(p[i][0] == 7 && p[i][15] == 7);
	cr_assert_eq(sh_heap_retired(a, 1, &more), t);
	cr_assert_eq(sh_heap_seats(t), 1ul << 5);
	sh_heap_renewed(t, 5);
	cr_assert_eq(sh_heap_seats(t), 0);
	if (fork() == 0) { /* the sums are computed again after a death */
		sh_lock_take(&a->lock, 3);
		a->retired = a->used = 12345;
		kill(getpid(), SIGKILL);
	}
	wait(NULL);
	sh_heap_repair(a, 3, 0);
	audit();
	sh_heap_release(t, 0);
	sh_heap_release(u, 0);
	sh_arena_stats(a, &st);
	cr_assert_eq(st.retired, 0);
	cr_assert_eq(used(), was);
	cr_assert(sh_heap_retire(sh_heap_new(a, 0, 0), 0)); /* nothing in it */
	audit();
}

Test(heap, resize)
{
	char *p = sh_heap_alloc(h, 0, 0, 100, 0, false), *q = sh_heap_alloc(h, 0, 0, 100000, 0, false), *r;

	cr_assert(sh_heap_resize(a, 0, 0, p, 112));
	cr_assert_not(sh_heap_resize(a, 0, 0, p, 113));
	cr_assert_not(sh_heap_resize(a, 0, 0, p, 10));
	cr_assert(sh_heap_resize(a, 0, 0, q, 3 * MiB)); /* nothing behind it */
	cr_assert(sh_heap_usable(a, q) >= 3 * MiB);
	memset(q, 1, 3 * MiB);
	r = sh_heap_alloc(h, 0, 0, 100000, 0, false);
	cr_assert_not(sh_heap_resize(a, 0, 0, q, 4 * MiB));
	cr_assert(sh_heap_resize(a, 0, 0, q, MiB));
	cr_assert_eq(sh_heap_usable(a, q), MiB);
	audit();
	cr_assert(sh_heap_resize(a, 0, 0, q, 2 * MiB)); /* into what it left */
	sh_heap_free(a, 0, 0, r);
	cr_assert(sh_heap_resize(a, 0, 0, q, 8 * MiB));
	audit();
	sh_heap_free(a, 0, 0, q);
	sh_heap_free(a, 0, 0, p);
	cr_assert_eq(used(), 0);
	audit();
}

Test(heap, free_pages_join)
{
	void *p[64];

	for (unsigned i = 0; i < 64; i++)
		p[i] = sh_heap_alloc(h, 0, 0, 64 * KiB, 0, false);
	for (unsigned i = 0; i < 64; i += 2)
		sh_heap_free(a, 0, 0, p[i]);
	audit();
	for (unsigned i = 1; i < 64; i += 2)
		sh_heap_free(a, 0, 0, p[i]);
	audit();
	cr_assert_eq(sh_heap_alloc(h, 0, 0, 64 * 64 * KiB, 0, false), p[0]);
	audit();
}

Test(heap, memory_goes_back_to_the_system)
{
	enum { N = 400 };
	static char *p[N];
	size_t before = committed();

	for (unsigned i = 0; i < N; i++) {
		p[i] = sh_heap_alloc(h, 0, 0, MiB, 0, false);
		p[i][0] = 1;
	}
	cr_assert(committed() >= before + N * MiB);
	for (unsigned i = 0; i < N; i++)
		sh_heap_free(a, 0, 0, p[i]);
	cr_assert(committed() <= before + 80 * MiB, "%zu MiB", committed() / MiB);
	audit();
	p[0] = sh_heap_alloc(h, 0, 0, 300 * MiB, 0, true);
	for (size_t i = 0; i < 300; i++)
		cr_assert(p[0][i * MiB] == 0);
	audit();
}

Test(heap, small_heap_costs_little)
{
	size_t before = committed();
	struct sh_heap *t = sh_heap_new(a, 0, 0);

	for (size_t size = 16; size <= 1024; size *= 2)
		cr_assert(sh_heap_alloc(t, 0, 0, size, 0, false));
	cr_assert(committed() - before <= 7 * 8 * KiB + 8 * KiB, "%zu", committed() - before);
	sh_heap_release(t, 0);
}

Test(heap, a_block_of_256_bytes_uses_264)
{
	enum { N = 400000 };
	size_t before = committed();

	for (unsigned i = 0; i < N; i++)
		cr_assert(sh_heap_alloc(h, 0, 0, 256, 0, false));
	cr_assert((committed() - before) / N <= 264, "%zu", (committed() - before) / N);
}

Test(heap, heaps_come_and_go)
{
	for (unsigned i = 0; i < 70000; i++) {
		struct sh_heap *t = sh_heap_new(a, 0, 0);
		char *p;

		cr_assert(t);
		p = sh_heap_alloc(t, 0, i % 64, 100, 0, true);
		cr_assert(p && p[0] == 0 && p[99] == 0);
		memset(p, 1, 100);
		sh_heap_release(t, 0);
		sh_heap_release(t, 0); /* as after a death */
	}
	cr_assert_eq(used(), 0);
	audit();
}

Test(heap, table_of_heaps_is_bounded)
{
	unsigned n = 1;
	struct sh_heap *last = h, *t;

	while ((t = sh_heap_new(a, 0, 0))) {
		last = t;
		n++;
	}
	cr_assert_eq(n, 65536);
	cr_assert(sh_heap_alloc(last, 0, 0, 10, 0, false));
	sh_heap_release(last, 0);
	cr_assert_eq(sh_heap_new(a, 0, 0), last);
	audit();
}

Test(heap, repair_of_a_holder)
{
	enum { N = 300 };
	static void *p[N];
	struct sh_heap *t = sh_heap_new(a, 0, 0);

	for (unsigned i = 0; i < N; i++)
		p[i] = sh_heap_alloc(i % 2 ? h : t, 0, i % 4, i * 37, 0, false);
	for (unsigned i = 0; i < N; i += 3)
		sh_heap_free(a, 0, 0, p[i]);
	flush(h);
	flush(t);
	if (fork() == 0) { /* dies with the lock, having spoiled all that it guards */
		sh_lock_take(&a->lock, 3);
		memset(a->bin, 0xff, sizeof a->bin);
		a->binmap[0] = ~0ul;
		a->used = a->kept = 77;
		a->heap_first = a->heap_nfree = 99;
		h->spans = t->spans = 5;
		h->used = 1;
		kill(getpid(), SIGKILL);
	}
	wait(NULL);
	cr_assert(sh_lock_held(&a->lock, 3));
	sh_heap_repair(a, 3, 0);
	cr_assert_not(sh_lock_held(&a->lock, 3));
	audit();
	for (unsigned i = 0; i < N; i++) {
		cr_assert_eq(sh_heap_usable(a, p[i]) != 0, i % 3 != 0);
		if (i % 3)
			sh_heap_free(a, 0, 1, p[i]);
	}
	flush(h);
	flush(t);
	cr_assert_eq(used(), 0);
	sh_heap_release(t, 0);
	sh_heap_release(h, 0);
	audit();
}

Test(heap, repair_of_a_queuer)
{
	enum { N = 32 };
	void *p[N];
	uint32_t page;
	size_t held;

	for (unsigned i = 0; i < N; i++)
		p[i] = sh_heap_alloc(h, 0, 0, 256, 0, false); /* fills the first span */
	page = (uint32_t)(((char *)p[0] - (char *)a) >> PAGE_SHIFT);
	(void)sh_heap_alloc(h, 0, 0, 256, 0, false);
	cr_assert_eq(a->span[page].mark, MARK_FULL);
	held = sh_heap_used(h);
	/* A seat frees all, and dies between saying that the span is queued and doing so. */
	for (unsigned i = 0; i < N; i++)
		a->bits[page * PAGE_WORDS].r ^= 1ul << i;
	a->note[3].queue = page;
	a->span[page].mark = MARK_QUEUED;
	sh_heap_repair(a, 3, 0);
	audit();
	for (unsigned i = 0; i < 63 + N; i++) /* the rest of the second span, then the lost one */
		(void)sh_heap_alloc(h, 0, 0, 256, 0, false);
	cr_assert_eq(sh_heap_used(h), held);
	audit();
}

Test(heap, a_cache_that_a_death_left_busy_is_rebuilt)
{
	enum { N = 200 };
	void *p[N];
	struct sh_cache *k;
	size_t held;

	for (unsigned i = 0; i < N; i++)
		p[i] = sh_heap_alloc(h, 0, 0, 256, 0, false);
	held = sh_heap_used(h);
	for (unsigned i = 0; i < N; i += 2)
		sh_heap_free(a, 0, 0, p[i]);
	k = &a->cache[h->cache[0]];
	k->busy = 1; /* as if its user had died while it moved spans, and all links were lost */
	k->slot[class_of(256)].avail = 0;
	k->slot[class_of(256)].list = 0;
	k->slot[class_of(256)].span = 0;
	for (unsigned i = 0; i < N; i += 2)
		p[i] = sh_heap_alloc(h, 0, 0, 256, 0, false);
	cr_assert_eq(sh_heap_used(h), held);
	for (unsigned i = 0; i < N; i++) {
		cr_assert(sh_heap_usable(a, p[i]) == 256);
		sh_heap_free(a, 0, 0, p[i]);
	}
	audit();
}

Test(heap, repair_ends_a_purge)
{
	char *p = sh_heap_alloc(h, 0, 0, MiB, 0, false), *q;
	uint32_t page = (uint32_t)((p - (char *)a) >> PAGE_SHIFT);

	memset(p, 1, MiB);
	(void)sh_heap_alloc(h, 0, 0, MiB, 0, false);
	sh_heap_free(a, 0, 0, p);
	/* As a seat leaves it that dies in madvise. */
	sh_lock_take(&a->lock, 3);
	cr_assert_eq(sh_run_take(a, MiB / PAGE_BYTES, PAGE_BYTES), page);
	a->kept -= MiB / PAGE_BYTES;
	a->note[3].purge = page;
	a->span[page].desc = desc_make(RUN_PURGE, 0, 3, OWNER_NONE, MiB / PAGE_BYTES);
	sh_lock_drop(&a->lock, 3);
	sh_heap_repair(a, 3, 0);
	sh_heap_repair(a, 3, 0);
	audit();
	q = sh_heap_alloc(h, 0, 0, MiB, 0, true);
	cr_assert_eq(q, p);
	for (size_t i = 0; i < MiB; i++)
		cr_assert(q[i] == 0);
}

TestSuite(heap_small, .timeout = 20);

Test(heap_small, arena_of_4_mib)
{
	static char room[9 * MiB];
	char *base = (char *)(((uintptr_t)room + 4 * MiB - 1) & ~(4 * MiB - 1)), msg[200];
	unsigned n = 0;

	cr_assert(sh_segment_create(16 * MiB) >= 0); /* the seats are there */
	a = sh_arena_init(base, 4 * MiB, 4 * MiB);
	cr_assert(a);
	h = sh_heap_new(a, 0, 0);
	for (unsigned round = 0; round < 3; round++) {
		while (sh_heap_alloc(h, 0, n % 2, 1 + n * 13 % 3000, 0, false))
			n++;
		cr_assert(n > 1000, "%u", n);
		cr_assert_eq(sh_heap_audit(a, 0, msg, sizeof msg), 0, "%s", msg);
		sh_heap_release(h, 0);
		h = sh_heap_new(a, 0, 0);
		cr_assert_eq(used(), 0);
	}
}
