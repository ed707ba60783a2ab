/*
 * old_heaps.c - heaps of ended tasks that still hold blocks.
 *
 * A library may have a pointer to such a block in a variable of its own, in every process that ran the task (time
 * zone, locale, resolver, loader). So the heap stays until all those processes are gone: by a death, by a
 * renewal, or, if much has gathered, because the medic asks them to leave.
 *
 * OWNER  the medic
 * LOCK   none
 * ORDER  a seat's bit in a heap is set before it runs the task, and cleared before the seat is VACANT
 * DEATH  the heaps themselves say that they are old and which seats may have pointers; a new medic finds
 *        them again (old_heaps_find). Bits of a seat may be cleared twice, but never for the next process
 */
#include "core/repair/old_heaps.h"
#include "core/host.h"
#include "core/root.h"
#include "core/sched/m.h"
#include "shm/check.h"
#include "shm/heap.h"
#include "shm/kill.h"
#include "shm/segment.h"

#include <string.h>

#define HEAPS 65536u
#define RETAINED_MAX (64ul << 20) /* bytes that may gather, or a 16th of the limit */
#define HEAPS_MAX 8192u
#define LEAVE_NS 1000000000 /* wait this long for one worker before the next is asked */
#define WORKERS (~1ul)	    /* seat 0 stands for the zygote, whose pointers stay */

static uint64_t old_heaps[HEAPS / 64]; /* by number of the heap; private to the process, each medic makes its own */
static uint32_t nold_heaps;
static int64_t asked_at;

static void old_heap_forget(uint32_t i)
{
	sh_check(i < HEAPS && nold_heaps > 0);
	old_heaps[i / 64] &= ~(1ul << i % 64);
	nold_heaps--;
}

static void old_heap_remember(uint32_t i)
{
	sh_check(i < HEAPS);
	nold_heaps += !(old_heaps[i / 64] >> i % 64 & 1);
	old_heaps[i / 64] |= 1ul << i % 64;
}

/* Each old heap h, with its number i. */
#define FOR_OLD_HEAPS(i, h) \
	for (uint32_t w_ = 0, i = 0; nold_heaps && w_ < HEAPS / 64; w_++) \
		for (uint64_t bits_ = old_heaps[w_]; bits_; bits_ &= bits_ - 1) \
			if (i = w_ * 64 + (uint32_t)__builtin_ctzl(bits_), \
			    (h = sh_heap_retired(sh_root->arena, i, &(bool){false})))

void old_heaps_find(void)
{
	bool more = true;

	memset(old_heaps, 0, sizeof old_heaps);
	nold_heaps = 0;
	for (uint32_t i = 0; more && i < HEAPS; i++) {
		struct sh_heap *h = sh_heap_retired(sh_root->arena, i, &more);

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

	sh_check(h != NULL);
	if (sh_heap_retire(h, seat))
		return;
	if (sh_heap_seats(h))
		old_heap_remember(sh_heap_number(h));
	/* no worker ran its task */
	else
		sh_heap_release(h, seat);
}

void old_heaps_renewed(unsigned seat)
{
	struct sh_heap *h;

	sh_check(seat < SH_SEATS);
	FOR_OLD_HEAPS(i, h)
	{
		sh_heap_renewed(h, seat);
		if (sh_heap_seats(h))
			continue;
		sh_heap_release(h, (unsigned)getm->seat);
		old_heap_forget(i);
	}
}

/* True while a worker that was asked to leave, or its successor, is not ready. */
static bool worker_is_leaving(int64_t now)
{
	for (unsigned i = 1; i < WORKERS_MAX; i++)
		if (atomic_load(&sh_root->seat[i].leave))
			return now - asked_at < LEAVE_NS;
	return false;
}

static void ask_one(int64_t now)
{
	struct sh_heap_stats st;
	struct sh_heap *h;
	uint64_t seats = 0;
	size_t bytes = 0, most;

	sh_arena_stats(sh_root->arena, &st);
	most = st.limit / 16 < RETAINED_MAX ? st.limit / 16 : RETAINED_MAX;
	if ((st.retired <= most && nold_heaps <= HEAPS_MAX) || worker_is_leaving(now))
		return;
	FOR_OLD_HEAPS(i, h)
	if (sh_heap_seats(h) & WORKERS) {
		bytes += sh_heap_used(h);
		seats |= sh_heap_seats(h) & WORKERS;
	}
	if (bytes <= most && nold_heaps <= HEAPS_MAX)
		return;
	/*
	 * One after the other, so that some workers always work. Not one with a pinned goroutine, which may depend on this
	 * very process.
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
