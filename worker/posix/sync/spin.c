/*
 * spin.c - spinlocks of pthreads. A goroutine that has spun for a while parks: the holder may have been
 * preempted, and may need the P that the spinning one has.
 *
 *	0 free   1 taken   2 taken, and somebody may wait
 *
 * OWNER  the program: the object lies in its memory
 * LOCK   none: one word
 * DEATH  it stays locked, as one of a dead thread does
 */
#include "worker/posix/sync/word.h"

#include <pthread.h>
#include <sched.h>

#define SPINS 100

#define WORD(l) ((_Atomic uint32_t *)(l))

int pthread_spin_init(pthread_spinlock_t *l, int shared)
{
	(void)shared; /* between tasks as well it is looked at again and again */
	atomic_store(WORD(l), 0);
	return 0;
}

int pthread_spin_destroy(pthread_spinlock_t *l)
{
	(void)l;
	return 0;
}

int pthread_spin_trylock(pthread_spinlock_t *l)
{
	uint32_t zero = 0;

	return atomic_compare_exchange_strong(WORD(l), &zero, 1) ? 0 : EBUSY;
}

int pthread_spin_lock(pthread_spinlock_t *l)
{
	struct word_waiter w = {.why = WAIT_PTHREAD_LOCK};
	struct g *g = posix_enter();

	for (unsigned i = 0; i < SPINS; i++) {
		if (pthread_spin_trylock(l) == 0)
			return 0;
		sh_pause(20);
	}
	while (atomic_exchange(WORD(l), 2) != 0) {
		if (g) {
			w.when = host_now() +
				 1000000; /* the holder may be another task's, which wakes nobody of this one */
			sh_word_wait(g, WORD(l), 2, &w);
		} else {
			sched_yield();
		}
	}
	return 0;
}

int pthread_spin_unlock(pthread_spinlock_t *l)
{
	struct g *g = on_g();

	if (atomic_exchange(WORD(l), 0) == 2 && g)
		sh_word_wake_one(g, WORD(l), false);
	return 0;
}
