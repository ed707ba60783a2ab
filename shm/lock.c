/*
 * lock.c - locks that know their owner. See lock.h.
 *
 * DEATH  between listing the lock in the seat and taking it, or between freeing and unlisting it: the word
 *        does not name the seat, so the list entry means nothing
 */
#include "shm/lock.h"
#include "shm/check.h"
#include "shm/kill.h"
#include "shm/syscall.h"

#include <errno.h>
#include <time.h>
#include <unistd.h>

/*
 * Each wait is twice as long as the one before, up to some microseconds. Meanwhile the others have the lock and what it
 * guards in one cache, for a hundred turns. Eight senders and eight receivers on two Ps: 140 ns a value with waits
 * of one pause, 55 with 64, 39 with 256 (Go 1.19: 59).
 */
#define SPINS 16
#define SPIN_DOUBLE 8
#define YIELDS 50
#define NAP_NS 50000

void (*sh_lock_wait_hook)(struct sh_lock *, unsigned);

static inline bool grab(struct sh_lock *l, unsigned seat)
{
	uint32_t none = 0;

	return atomic_load_explicit(&l->owner, memory_order_relaxed) == 0 &&
	       atomic_compare_exchange_strong_explicit(&l->owner, &none, seat + 1, memory_order_acquire,
						       memory_order_relaxed);
}

/* A signal that ends a nap sets errno, which belongs to the goroutine: keep it. */
static __attribute__((noinline)) void lock_wait(struct sh_lock *l, unsigned seat)
{
	int err = errno;

	for (unsigned n = 0;; n++) {
		if (grab(l, seat)) {
			errno = err;
			return;
		}
		if (sh_lock_wait_hook)
			sh_lock_wait_hook(l, seat);
		/* a seat that holds the lock would wait for itself */
		sh_check(atomic_load_explicit(&l->owner, memory_order_relaxed) != seat + 1);
		if (n < SPINS)
			sh_pause(n < SPIN_DOUBLE ? 1u << n : 1u << SPIN_DOUBLE);
		else if (n < SPINS + YIELDS)
			syscall(SYS_sched_yield); /* the kernel's call: on a goroutine libc's would park */
		else
			syscall(SYS_nanosleep, &(struct timespec){0, NAP_NS}, NULL);
		KILL_POINT("lock.wait");
	}
}

/* Called if the first entry of the seat is in use: takes the next free one. */
static __attribute__((noinline)) unsigned note_next(struct sh_held *h, struct sh_lock *l)
{
	unsigned i = 1;

	while (h->lock[i]) {
		i++;
		sh_check(i < SH_HELD_MAX);
	}
	h->lock[i] = l;
	return i;
}

static __attribute__((noinline)) void unnote(struct sh_held *h, const struct sh_lock *l)
{
	for (unsigned i = 0; i < SH_HELD_MAX; i++)
		if (h->lock[i] == l) {
			h->lock[i] = NULL;
			return;
		}
	sh_check(!"a lock was dropped that its seat does not list");
}

/* Both functions are short so that they can be inlined: most callers hold one lock. */
void sh_lock_take(struct sh_lock *l, unsigned seat)
{
	struct sh_held *h = sh_seat_held(seat);

	if (__builtin_expect(!h->lock[0], 1))
		h->lock[0] = l;
	else
		note_next(h, l);
	sh_noted();
	KILL_POINT("lock.take.noted");
	if (__builtin_expect(!grab(l, seat), 0))
		lock_wait(l, seat);
	KILL_POINT("lock.take.taken");
}

void sh_lock_drop(struct sh_lock *l, unsigned seat)
{
	struct sh_held *h = sh_seat_held(seat);

	sh_check(atomic_load_explicit(&l->owner, memory_order_relaxed) == seat + 1);
	atomic_store_explicit(&l->owner, 0, memory_order_release);
	sh_noted(); /* stays listed until after the word is cleared */
	KILL_POINT("lock.drop.freed");
	if (__builtin_expect(h->lock[0] == l, 1))
		h->lock[0] = NULL;
	else
		unnote(h, l);
}

bool sh_lock_try(struct sh_lock *l, unsigned seat)
{
	struct sh_held *h = sh_seat_held(seat);
	unsigned i = 0;

	if (h->lock[0])
		i = note_next(h, l);
	else
		h->lock[0] = l;
	sh_noted();
	KILL_POINT("lock.try.noted");
	if (grab(l, seat)) {
		KILL_POINT("lock.try.taken");
		return true;
	}
	h->lock[i] = NULL;
	return false;
}

#if defined(SHOAL_KILL_POINTS) || defined(SHOAL_SIM) || SHOAL_DEBUG
void sh_lock_none(unsigned seat)
{
	struct sh_held *h = sh_seat_held(seat);

	for (unsigned i = 0; i < SH_HELD_MAX; i++)
		sh_check(!h->lock[i]);
}
#endif

bool sh_lock_held(const struct sh_lock *l, unsigned seat)
{
	return atomic_load_explicit(&((struct sh_lock *)l)->owner, memory_order_relaxed) == seat + 1;
}
