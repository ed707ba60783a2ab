/*
 * hold.c - the restart delay of a task whose goroutines crash. See hold.h.
 *
 * A worker whose goroutine crashed is replaced at once: that costs the others nothing but the clone. The delay
 * belongs to the task:
 *   - After HELD_AFTER crashes within WITHIN_NS, each further crash holds back for DELAY_NS what may crash next:
 *     isolated goroutines that start, goroutines that start again, and the root. So a task that does nothing but
 *     crash costs others little, and a server whose handlers crash goes on answering others.
 *   - A goroutine (or root) that has crashed more than HELD_AFTER times itself waits DELAY_NS, twice as long each
 *     time, DELAY_MAX_NS at most.
 *
 * OWNER  crash_ns, crashes, paused_until of the task: the medic writes them, goroutines read paused_until
 * LOCK   none
 * ORDER  none: a goroutine that reads an old paused_until starts too early
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
#define DELAY_NS 100000000l
#define DELAY_MAX_NS 10000000000

void sh_task_crashed(struct task *t)
{
	int64_t now = host_now(), *oldest = &t->crash_ns[t->crashes % HELD_AFTER];
	bool often = *oldest && now - *oldest <= WITHIN_NS;

	sh_check(getm->seat == SH_SEAT_MEDIC);
	*oldest = now;
	t->crashes++;
	KILL_POINT("task.crash.counted");
	if (often && !atomic_load_explicit(&sched.no_delay, memory_order_relaxed))
		atomic_store_explicit(&t->paused_until, now + DELAY_NS, memory_order_relaxed);
}

/* In ns: how much longer a goroutine waits than others of its task, because it has itself crashed so often. */
static int64_t own_delay(unsigned crashes)
{
	unsigned more = crashes > HELD_AFTER ? crashes - HELD_AFTER : 0;

	if (!more)
		return 0;
	return more > 7 ? DELAY_MAX_NS - DELAY_NS : (DELAY_NS << (more - 1)) - DELAY_NS;
}

void sh_task_wait_held(struct g *g)
{
	struct task *t = g->task;
	bool root = (g->flags & GF_ROOT) != 0;
	unsigned crashes = (root ? atomic_load(&t->attempt) : (unsigned)g->attempt) - 1;
	int64_t until = atomic_load_explicit(&t->paused_until, memory_order_relaxed) + own_delay(crashes);

	if (!root && !(g->flags & GF_ISOLATED) && !crashes)
		return;
	while (!g_cancelled(g) && until > host_now()) {
		gopark(NULL, WAIT_RESTART, until);
		if (!own_delay(crashes)) /* another one has crashed meanwhile */
			until = atomic_load_explicit(&t->paused_until, memory_order_relaxed);
	}
}
