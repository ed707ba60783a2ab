/*
 * barrier.c - barriers of pthreads on goroutines.
 *
 * Each arrival takes a number. The last one of a round says in `done` how many rounds are over, and wakes the
 * others. Arrivals have 64 bits, so rounds are counted from 0 for ever.
 *
 * OWNER  the program: the object lies in its memory
 * LOCK   none: arrivals and done change by atomic operations
 * DEATH  one that dies after its arrival is counted; one that dies before it leaves the others waiting
 */
#include "worker/posix/sync/word.h"
#include "worker/posix/libc.h"

#include <pthread.h>

REAL(int, pthread_barrier_init, (pthread_barrier_t * b, const pthread_barrierattr_t *a, unsigned n), b, a, n)
REAL(int, pthread_barrier_wait, (pthread_barrier_t * b), b)
REAL(int, pthread_barrier_destroy, (pthread_barrier_t * b), b)

struct barrier { /* the first words are libc's */
	unsigned in;
	_Atomic uint32_t done; /* rounds, modulo 2^32 */
	unsigned count;
	int shared;
	unsigned out, unused;
	_Atomic uint64_t arrivals;
};
_Static_assert(sizeof(struct barrier) <= sizeof(pthread_barrier_t), "ours fits libc's");

int pthread_barrier_init(pthread_barrier_t *restrict at, const pthread_barrierattr_t *restrict attr, unsigned n)
{
	int r = real_pthread_barrier_init(at, attr, n);

	if (r == 0)
		atomic_store(&((struct barrier *)at)->arrivals, 0);
	return r;
}

static bool is_over(uint32_t done, uint32_t round)
{
	return (int32_t)(done - round) > 0;
}

int pthread_barrier_wait(pthread_barrier_t *at)
{
	struct word_waiter w = {.why = WAIT_PTHREAD_LOCK};
	struct barrier *b = (struct barrier *)at;
	struct g *g = posix_enter();
	uint64_t arrival;
	uint32_t round, done;

	if (!g)
		return real_pthread_barrier_wait(at);
	w.shared = b->shared != 0;
	arrival = atomic_fetch_add(&b->arrivals, 1);
	round = (uint32_t)(arrival / b->count);
	done = atomic_load(&b->done);
	if (arrival % b->count == b->count - 1) {
		while (!is_over(done, round) && !atomic_compare_exchange_weak(&b->done, &done, round + 1))
			;
		sh_word_wake_all(g, &b->done,
				 w.shared); /* the address is all that is used of it: it may be destroyed by now */
		return PTHREAD_BARRIER_SERIAL_THREAD;
	}
	while (!is_over(done, round)) {
		sh_word_wait(g, &b->done, done, &w);
		done = atomic_load(&b->done);
	}
	return 0;
}

int pthread_barrier_destroy(pthread_barrier_t *at)
{
	struct barrier *b = (struct barrier *)at;

	if (!on_g())
		return real_pthread_barrier_destroy(at);
	return atomic_load(&b->arrivals) % b->count ? EBUSY : 0;
}
