/*
 * futex.c - the system call futex, as a program makes it by number: std::latch, std::counting_semaphore and
 * std::atomic::wait do.
 *
 * The kernel would hold up the worker, and finds no waiter of another process for a private futex. So a goroutine that
 * waits parks in the table of waits of its task, as it does for a mutex (word.c). Only a word in a mapping of the task
 * that is not marked as private goes to the kernel: another process may have the same file mapped. A requeue
 * wakes the waiters that it would move; each of them looks at its word again.
 */
#include "worker/posix/sync/futex.h"
#include "worker/posix/clock.h"
#include "worker/posix/sync/word.h"
#include "shm/area.h"

#include <linux/futex.h>

/* The arguments of the call, by the names of futex(2). */
struct futex_call {
	_Atomic uint32_t *at, *at2;
	uint32_t op, val, val3;
	const struct timespec *time;
	uint32_t val2; /* in place of time */
	bool shared;
};

static int futex_wait(struct g *g, const struct futex_call *f)
{
	struct word_waiter w = {.why = WAIT_FUTEX, .shared = f->shared};
	bool absolute = (f->op & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET;

	if (f->time && (f->time->tv_sec < 0 || f->time->tv_nsec < 0 || f->time->tv_nsec >= SECOND_NS))
		return EINVAL;
	if (absolute && !(w.bits = f->val3))
		return EINVAL;
	if (f->time && absolute)
		w.when = sh_word_deadline(f->op & FUTEX_CLOCK_REALTIME ? CLOCK_REALTIME : CLOCK_MONOTONIC, f->time);
	else if (f->time)
		w.when = ns_of_timespec(f->time) ? deadline_after(ns_of_timespec(f->time)) : WORD_PAST;
	if (atomic_load(f->at) != f->val)
		return EAGAIN;
	return sh_word_wait(g, f->at, f->val, &w);
}

/* Changes the second word as val3 says. True: waiters for it are woken as well. */
static bool change_and_compare(_Atomic uint32_t *at, uint32_t what)
{
	uint32_t op = what >> 28, cmp = what >> 24 & 15, oparg = what >> 12 & 0xfff, cmparg = what & 0xfff;
	int32_t old, to = (int32_t)(cmparg << 20) >> 20;

	if (op & FUTEX_OP_OPARG_SHIFT)
		oparg = 1u << (oparg & 31);
	else
		oparg = (uint32_t)((int32_t)(oparg << 20) >> 20);
	switch (op & 7) {
	case FUTEX_OP_SET: old = (int32_t)atomic_exchange(at, oparg); break;
	case FUTEX_OP_ADD: old = (int32_t)atomic_fetch_add(at, oparg); break;
	case FUTEX_OP_OR: old = (int32_t)atomic_fetch_or(at, oparg); break;
	case FUTEX_OP_ANDN: old = (int32_t)atomic_fetch_and(at, ~oparg); break;
	default: old = (int32_t)atomic_fetch_xor(at, oparg); break;
	}
	switch (cmp) {
	case FUTEX_OP_CMP_EQ: return old == to;
	case FUTEX_OP_CMP_NE: return old != to;
	case FUTEX_OP_CMP_LT: return old < to;
	case FUTEX_OP_CMP_LE: return old <= to;
	case FUTEX_OP_CMP_GT: return old > to;
	default: return old >= to;
	}
}

static unsigned wake_both(struct g *g, const struct futex_call *f)
{
	bool second = change_and_compare(f->at2, f->val3);
	unsigned n = sh_word_wake(g, f->at, f->val, 0, f->shared);

	return n + (second ? sh_word_wake(g, f->at2, f->val2, 0, f->shared) : 0);
}

static uint32_t wake_and_move(uint32_t wake, uint32_t move)
{
	return wake + move < WORD_ALL && wake + move >= wake ? wake + move : WORD_ALL;
}

static bool misaligned(const void *p)
{
	return ((uintptr_t)p & 3) != 0;
}

/* The number that the call returns, or a negative error. */
static long do_futex(struct g *g, const struct futex_call *f)
{
	switch (f->op & FUTEX_CMD_MASK) {
	case FUTEX_WAIT:
	case FUTEX_WAIT_BITSET: return -futex_wait(g, f);
	case FUTEX_WAKE: return sh_word_wake(g, f->at, f->val, 0, f->shared);
	case FUTEX_WAKE_BITSET: return f->val3 ? (long)sh_word_wake(g, f->at, f->val, f->val3, f->shared) : -EINVAL;
	case FUTEX_CMP_REQUEUE:
		if (atomic_load(f->at) != f->val3)
			return -EAGAIN;
		return sh_word_wake(g, f->at, wake_and_move(f->val, f->val2), 0, f->shared);
	case FUTEX_REQUEUE: return sh_word_wake(g, f->at, wake_and_move(f->val, f->val2), 0, f->shared);
	case FUTEX_WAKE_OP: return misaligned(f->at2) ? -EINVAL : (long)wake_both(g, f);
	default: return -ENOSYS;
	}
}

long sh_posix_futex(const long *a)
{
	struct futex_call f = {
		.at = (void *)a[0],
		.op = (uint32_t)a[1],
		.val = (uint32_t)a[2],
		.time = (void *)a[3],
		.val2 = (uint32_t)a[3],
		.at2 = (void *)a[4],
		.val3 = (uint32_t)a[5],
		.shared = !(a[1] & FUTEX_PRIVATE_FLAG) && sh_in_area((uintptr_t)a[0]),
	};
	long r = misaligned(f.at) ? -EINVAL : !f.at ? -EFAULT : do_futex(posix_enter(), &f);

	if (r >= 0)
		return r;
	errno = (int)-r;
	return -1;
}
