/*
 * mix.h - the malloc mix: two workers (or threads) replace blocks of mixed sizes at random; half of
 * the blocks go through boxes that both reach into, so most of those are freed by the other one.
 *
 * Included by suite.c, for goroutines, and by malloc_compare.c, for threads of other allocators.
 */
#ifndef TESTS_BENCH_MIX_H
#define TESTS_BENCH_MIX_H

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

#define MIX_SLOTS 2048
#define MIX_BOXES 512
#define MIX_OPS 1000000 /* of each of the two: a free and a malloc */

/* OWNER slot: who runs it; box: both, by exchange */
static struct mix {
	_Atomic(void *) box[MIX_BOXES];
	void *slot[2][MIX_SLOTS];
	atomic_uint arrived;
} mix;

static inline uint64_t mix_next(uint64_t *rng)
{
	*rng ^= *rng << 13;
	*rng ^= *rng >> 7;
	*rng ^= *rng << 17;
	return *rng;
}

/* Seven of ten blocks are small, one is of up to 16 KiB. */
static inline size_t mix_size(uint64_t r)
{
	unsigned kind = (unsigned)(r & 1023), more = (unsigned)(r >> 10 & 0xffff);

	if (kind < 717)
		return 16 + more % 240;
	if (kind < 922)
		return 256 + more % 1792;
	return 2048 + more % 14336;
}

static void mix_run(unsigned who, unsigned ops)
{
	uint64_t rng = 88172645463325252ull + who * 7919;
	void **slot = mix.slot[who];

	for (unsigned i = 0; i < ops; i++) {
		uint64_t r = mix_next(&rng);
		void **at = &slot[r >> 40 & (MIX_SLOTS - 1)], *p = *at;

		if (r >> 63)
			p = atomic_exchange_explicit(&mix.box[r >> 52 & (MIX_BOXES - 1)], p, memory_order_acq_rel);
		free(p);
		p = malloc(mix_size(r));
		if (!p)
			abort();
		*(volatile char *)p = 1;
		*at = p;
	}
}

static void mix_clear(void)
{
	for (unsigned i = 0; i < 2 * MIX_SLOTS; i++) {
		free(mix.slot[i / MIX_SLOTS][i % MIX_SLOTS]);
		mix.slot[i / MIX_SLOTS][i % MIX_SLOTS] = NULL;
	}
	for (unsigned i = 0; i < MIX_BOXES; i++)
		free(atomic_exchange(&mix.box[i], NULL));
	atomic_store(&mix.arrived, 0);
}

#endif
