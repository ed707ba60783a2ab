/*
 * old_heaps.c - the memory that ended tasks left allocated.
 *
 * A library may have kept a pointer to such a block in a variable of its own, in every process
 * that ran the task (time zone, locale, resolver, loader). So the heap stays until all of those
 * have been replaced: by a death, a renewal, or, when much has gathered, because we ask them to go.
 *
 * OWNER  the medic, all of it
 * DEATH  the heaps themselves say that they were left and by whom they may be remembered; a new
 *        medic finds them again (old_heaps_find). A seat's bits are cleared before the seat is VACANT,
 *        so they are cleared again by the next medic, and never for the next process in it
 */
#include "core/repair/old_heaps.h"
#include "core/host.h"
#include "core/root.h"
#include "core/sched/m.h"
#include "shm/heap.h"
#include "shm/kill.h"
#include "shm/segment.h"

#include <string.h>

#define HEAPS 65536u
#define LEFT_MOST (64ul << 20) /* bytes that may gather, or a 16th of the limit */
#define HEAPS_MOST 8192u
#define GOING_NS 1000000000 /* so long one worker is waited for before the next is asked */
#define WORKERS (~1ul)	    /* seat 0 stands for the zygote: what it remembers stays */

static uint64_t left[HEAPS / 64]; /* by number; process-private, a medic makes its own */
static uint32_t nleft;
static int64_t asked_at;

static void old_heap_forget(uint32_t i)
{
	left[i / 64] &= ~(1ul << i % 64);
	nleft--;
}

static void old_heap_remember(uint32_t i)
{
	nleft += !(left[i / 64] >> i % 64 & 1);
	left[i / 64] |= 1ul << i % 64;
}

/* Each heap that was left, with its number. */
#define FOR_LEFT(i, h) \
	for (uint32_t w_ = 0, i = 0; nleft && w_ < HEAPS / 64; w_++) \
		for (uint64_t bits_ = left[w_]; bits_; bits_ &= bits_ - 1) \
			if (i = w_ * 64 + (uint32_t)__builtin_ctzl(bits_), \
			    (h = sh_heap_left(sh_root->arena, i, &(bool){false})))

void old_heaps_find(void)
{
	bool more = true;

	memset(left, 0, sizeof left);
	nleft = 0;
	for (uint32_t i = 0; more && i < HEAPS; i++) {
		struct sh_heap *h = sh_heap_left(sh_root->arena, i, &more);

		if (!h)
			continue;
		if (sh_heap_seats(h))
			old_heap_remember(i);
		else
			sh_heap_release(h, (unsigned)getm->seat);
	}
}

void old_heaps_add(struct sh_heap *h)
{
	unsigned seat = (unsigned)getm->seat;

	if (sh_heap_leave(h, seat))
		return;
	if (sh_heap_seats(h))
		old_heap_remember(sh_heap_number(h));
	else
		sh_heap_release(h, seat); /* nobody has run it */
}

void old_heaps_renewed(unsigned seat)
{
	struct sh_heap *h;

	FOR_LEFT(i, h)
	{
		sh_heap_renewed(h, seat);
		if (sh_heap_seats(h))
			continue;
		sh_heap_release(h, (unsigned)getm->seat);
		old_heap_forget(i);
	}
}

/* A worker that was asked to go, or whose successor is not there yet. */
static bool one_is_going(int64_t now)
{
	for (unsigned i = 1; i < WORKERS_MAX; i++)
		if (atomic_load(&sh_root->seat[i].leave))
			return now - asked_at < GOING_NS;
	return false;
}

static void ask_one(int64_t now)
{
	struct sh_heap_stats st;
	struct sh_heap *h;
	uint64_t seats = 0;
	size_t bytes = 0, most;

	sh_arena_stats(sh_root->arena, &st);
	most = st.limit / 16 < LEFT_MOST ? st.limit / 16 : LEFT_MOST;
	if ((st.left <= most && nleft <= HEAPS_MOST) || one_is_going(now))
		return;
	FOR_LEFT(i, h)
	if (sh_heap_seats(h) & WORKERS) {
		bytes += sh_heap_used(h);
		seats |= sh_heap_seats(h) & WORKERS;
	}
	if (bytes <= most && nleft <= HEAPS_MOST)
		return;
	/*
	 * One after the other, so that somebody is always there to work; not one that a goroutine is
	 * pinned to, which has reasons to want this very process.
	 */
	seats &= ~atomic_load(&sched.mlocked);
	for (unsigned i = 1; i < WORKERS_MAX; i++)
		if ((seats >> i & 1) && atomic_load(&sh_root->seat[i].state) == SEAT_LIVE &&
		    !atomic_load(&sh_root->seat[i].leave)) {
			asked_at = now;
			atomic_store(&sh_root->seat[i].leave, 1);
			KILL_POINT("old_heaps.asked");
			host_wake(i);
			return;
		}
}

bool old_heaps_scan(int64_t now)
{
	ask_one(now);
	return sh_arena_trim(sh_root->arena, (unsigned)getm->seat);
}
