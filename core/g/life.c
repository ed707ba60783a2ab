/* life.c - reading the rings of life.h. */
#include "core/g/life.h"
#include "core/host.h"
#include "core/sched/m.h"

void life_look(struct m *m)
{
	life_clock(m, host_now());
}

__attribute__((noinline)) void life_record_traced(struct m *m, uint64_t gid, uint64_t what, unsigned stack)
{
	life_look(m);
	life_write(m, gid, what, stack);
}

/* Six bits of mantissa, four of exponent, in units of 256 bytes: exact up to 16 KiB. */
uint16_t life_size(uint32_t bytes)
{
	uint32_t units = (bytes + 255) / 256;
	unsigned exp = 0;

	while (units >= 64 && exp < 15) {
		units = (units + 1) / 2;
		exp++;
	}
	return (uint16_t)(exp << 6 | (units < 64 ? units : 63));
}

void life_decode(const struct life_event *e, unsigned seat, int64_t now, struct life *l)
{
	uint64_t turn = 1ull << 52, t = e->a >> 18 << 6, at = ((uint64_t)now & ~(turn - 1)) | t;

	if (at > (uint64_t)now + turn / 2)
		at -= turn; /* the clock has carried into the bits that an event does not hold */
	l->ns = (int64_t)at;
	l->stack = ((uint32_t)(e->a >> 8) & 63) * 256u << (e->a >> 14 & 15);
	l->p = (int8_t)(e->a & 255);
	l->gid = e->b >> 24;
	l->from = e->b >> 20 & 15;
	l->to = e->b >> 16 & 15;
	l->why = e->b >> 10 & 63;
	l->order = e->b % LIFE_ORDERS;
	l->worker = (int)seat;
}

unsigned life_read(unsigned seat, uint64_t *at, struct life_event *to, unsigned max, uint64_t *lost)
{
	struct life_ring *r = life_ring_of(seat);
	uint64_t n = atomic_load_explicit(&r->n, memory_order_acquire), first = *at;
	unsigned k = 0, skip = 0;

	if (n > LIFE_RING && first < n - LIFE_RING)
		first = n - LIFE_RING;
	while (first + k < n && k < max) {
		to[k] = r->e[(first + k) % LIFE_RING];
		k++;
	}
	atomic_thread_fence(memory_order_acquire); /* events, then n again: pairs with the release of n by the writer */
	n = atomic_load_explicit(&r->n, memory_order_relaxed);
	/* While the counter says n, the writer may be overwriting the slot of number n. */
	if (n + 1 > LIFE_RING && first < n + 1 - LIFE_RING)
		skip = (unsigned)(n + 1 - LIFE_RING - first < k ? n + 1 - LIFE_RING - first : k);
	if (skip)
		__builtin_memmove(to, to + skip, (k - skip) * sizeof *to);
	*lost += first + skip - *at;
	*at = first + k;
	return k - skip;
}
