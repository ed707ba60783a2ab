/*
 * output_room.c - holds back a goroutine whose task writes faster than its readers read.
 *
 * The supervisor says how far each stream may grow: struct task_room. A goroutine that finds its stream
 * beyond that parks, whichever function it writes by; it holds no lock and its worker runs others. It goes
 * on when the supervisor has raised the limit, because readers have read or have gone, or when it is
 * cancelled.
 *
 * The writer and the supervisor:
 *
 *   writer                                  supervisor
 *   a  takes the lock of the wait queue     d  stores limit
 *   b  reads limit: too low                 e  stores raised, rings the medic
 *   c  queues itself, parks, drops the lock
 *                                           the medic
 *                                           f  reads raised, takes the lock, wakes who is queued
 *
 * If b reads the old limit, then c comes before f by the lock, and f wakes the writer. No wake-up is lost.
 */
#include "worker/output_room.h"
#include "shm/syscall.h"
#include "worker/worker.h"
#include "core/g/g.h"
#include "core/g/names.h"
#include "core/process.h"
#include "core/shoal.h"
#include "core/sync/cancel.h"
#include "core/sync/semtable.h"
#include "core/sync/waitq.h"
#include "shm/kill.h"

#include <errno.h>
#include <unistd.h>

static void ring_supervisor(void)
{
	uint64_t one = 1;

	while (syscall(SYS_write, sh_medic_fd, &one, sizeof one) < 0 && errno == EINTR)
		;
}

/* Once for each limit: the supervisor sets ask_at anew when it has looked. */
static void ask_for_room(struct task_room *r)
{
	uint64_t at = atomic_load_explicit(&r->ask_at, memory_order_relaxed);

	if (at >= ROOM_NEVER || atomic_exchange(&r->ask_at, ROOM_ASKED) == ROOM_ASKED)
		return;
	KILL_POINT("output.room.asked");
	ring_supervisor();
}

void room_written(struct task_room *r, uint64_t size)
{
	if (!atomic_load_explicit(&r->kept, memory_order_relaxed))
		return;
	atomic_store_explicit(&r->size, size, memory_order_relaxed);
	KILL_POINT("output.room.size");
	if (__builtin_expect(size > atomic_load_explicit(&r->ask_at, memory_order_relaxed), 0))
		ask_for_room(r);
}

int room_wait(struct task_room *r)
{
	while (room_is_full(r)) {
		struct g *g = getg();
		struct shoal_waitq_ *q;

		if (g_cancelled(g))
			return ECANCELED;
		ask_for_room(r);
		q = semtable_lock(g, &r->limit);
		if (!q) { /* no memory for the table: look again now and then */
			shoal_sleep(1000000);
			continue;
		}
		if (!room_is_full(r)) {
			semtable_unlock(q);
			return 0;
		}
		if (semtable_wait(q, g, &r->limit, WAIT_OUTPUT, 0) == -ECANCELED)
			return ECANCELED;
	}
	return 0;
}
