/*
 * hold.c - the restart delay of a task whose goroutines crash. See hold.h.
 *
 * A worker whose goroutine crashed is replaced at once: that costs the others nothing but the clone. The delay
 * belongs to the task. After HELD_AFTER crashes within WITHIN_NS, each further crash holds back what may crash next:
 *   - goroutines that start again, and the root: by a delay that begins with DELAY_NS, doubles up to DELAY_MAX_NS,
 *     and is forgotten after HEALTHY_NS without a crash;
 *   - isolated goroutines that are new: by DELAY_NS. So a server whose handlers crash goes on answering others, and
 *     a task that does nothing but crash costs others little.
 *
 * OWNER  crash_ns, crashes, hold_ns, held_until, paused_until of the task: the medic writes them, goroutines read held_until
 * LOCK   none
 * ORDER  none: a goroutine that reads an old held_until starts too early
 * DEATH  a medic that dies here has counted a crash or not
 */
#include "core/task/hold.h"
#include "core/g/g.h"
#include "core/g/names.h"
#include "core/host.h"
#include "core/root.h"
#include "core/sched/proc.h"
#include "core/sched/sched.h"
#include "shm/check.h"
#include "shm/kill.h"

#define WITHIN_NS 10000000000
#define DELAY_NS 100000000
#define DELAY_MAX_NS 10000000000
#define HEALTHY_NS 30000000000

void sh_task_crashed(struct task *t)
{
	int64_t now = host_now(), *oldest = &t->crash_ns[t->crashes % HELD_AFTER];
	bool often = *oldest && now - *oldest <= WITHIN_NS;

	sh_check(getm->seat == SH_SEAT_MEDIC);
	if (now - t->crash_ns[(t->crashes + HELD_AFTER - 1) % HELD_AFTER] >= HEALTHY_NS)
		t->hold_ns = 0;
	*oldest = now;
	t->crashes++;
	KILL_POINT("task.crash.counted");
	if (atomic_load_explicit(&sched.no_delay, memory_order_relaxed) || !(often || t->hold_ns))
		return;
	t->hold_ns = !t->hold_ns ? DELAY_NS : t->hold_ns < DELAY_MAX_NS / 2 ? 2 * t->hold_ns : DELAY_MAX_NS;
	atomic_store_explicit(&t->paused_until, now + DELAY_NS, memory_order_relaxed);
	atomic_store_explicit(&t->held_until, now + t->hold_ns, memory_order_relaxed);
}

void sh_task_wait_held(struct g *g)
{
	struct task *t = g->task;
	bool again = (g->flags & GF_ROOT) || g->attempt > 1;
	_Atomic int64_t *end = again ? &t->held_until : &t->paused_until;
	int64_t until;

	if (!again && !(g->flags & GF_ISOLATED))
		return;
	while (!g_cancelled(g) && (until = atomic_load_explicit(end, memory_order_relaxed)) > host_now())
		gopark(NULL, WAIT_RESTART, until);
}
