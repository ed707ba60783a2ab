/*
 * lock_test.c - a lock whose holder keeps it for long: the waiter naps, and what it says and leaves behind.
 */
#include "shm/lock.h"
#include "shm/segment.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <sys/time.h>

#define HOLDER 2
#define WAITER 3
#define NAPS 300 /* the waiter spins and yields before it naps: some of these are naps */

static struct sh_lock *lock;
static unsigned waits;
static volatile sig_atomic_t signals;

static void on_signal(int sig)
{
	(void)sig;
	signals++;
}

static void release_after_naps(struct sh_lock *l, unsigned seat)
{
	cr_assert_eq(seat, WAITER);
	if (++waits == NAPS)
		sh_lock_drop(l, HOLDER);
}

static void set_up(void)
{
	static struct sh_lock held;

	cr_assert(sh_segment_create(16ul << 20) >= 0);
	lock = &held;
	waits = 0;
	sh_lock_wait_hook = release_after_naps;
	sh_lock_take(lock, HOLDER);
}

/* A signal ends a nap with EINTR, which must not reach the caller. */
Test(lock, taking_it_keeps_errno_although_signals_end_the_naps, .init = set_up, .timeout = 60)
{
	struct sigaction act = {.sa_handler = on_signal};

	sigaction(SIGALRM, &act, NULL);
	setitimer(ITIMER_REAL, &(struct itimerval){{0, 100}, {0, 100}}, NULL);
	errno = ENOTDIR;
	sh_lock_take(lock, WAITER);
	cr_expect_eq(errno, ENOTDIR, "errno %d after %d signals", errno, (int)signals);
	setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
	cr_expect_eq(waits, NAPS);
	cr_expect_gt(signals, 0);
	cr_expect(sh_lock_held(lock, WAITER));
	sh_lock_drop(lock, WAITER);
}

Test(lock, is_listed_in_the_seat_of_its_holder_alone, .init = set_up)
{
	cr_expect_eq(sh_seat_held(HOLDER)->lock[0], lock);
	cr_expect(!sh_lock_try(lock, WAITER));
	cr_expect_null(sh_seat_held(WAITER)->lock[0]);
	sh_lock_drop(lock, HOLDER);
	cr_expect_null(sh_seat_held(HOLDER)->lock[0]);
	cr_expect(sh_lock_try(lock, WAITER));
	cr_expect_eq(sh_seat_held(WAITER)->lock[0], lock);
	cr_expect(sh_lock_held(lock, WAITER) && !sh_lock_held(lock, HOLDER));
	sh_lock_drop(lock, WAITER);
	cr_expect_null(sh_seat_held(WAITER)->lock[0]);
}
