/*
 * posix/cputime.c - an estimate of the processor time that a task has had, for timers that count it.
 *
 * Nothing is counted at a switch: that would make each one slower. While somebody watches, each look reads the
 * kernel's clock of each worker, and what it has grown by since the last look is the task's if a goroutine of
 * the task runs there now. On the watcher's own worker that is the watcher, so what ran there before counts too.
 *
 * OWNER  the task; the watchers take turns by the compare-and-swap of seat[].seen
 * DEATH  of the worker that looks: the growth since the last look of one worker is lost
 */
#include "worker/posix/cputime.h"
#include "worker/posix/signal.h"

#include <time.h>

static struct cputime *table_of(struct task *t)
{
	struct signals *s = signals_there(t);

	return s ? &s->cpu : NULL;
}

static int64_t clock_of(int32_t pid)
{
	struct timespec t;

	if (pid <= 0 || syscall(SYS_clock_gettime, (~pid << 3) | 2, &t) < 0)
		return 0;
	return t.tv_sec * 1000000000l + t.tv_nsec;
}

static bool works_for(unsigned seat, const struct task *task)
{
	struct g *g = atomic_load(&allm(seat)->curg);

	return g_plausible(g) && g->task == task;
}

int64_t cputime_of(struct task *task)
{
	struct cputime *c = table_of(task);

	if (!c)
		return 0;
	for (unsigned i = 1; i < WORKERS_MAX; i++) {
		int32_t pid = atomic_load(&sh_root->seat[i].pid);
		int64_t now = clock_of(pid), was = atomic_load(&c->seen[i]);

		if (!now || !atomic_compare_exchange_strong(&c->seen[i], &was, now))
			continue;
		KILL_POINT("cputime.seen");
		if (was && now > was && works_for(i, task)) {
			atomic_fetch_add(&c->total, now - was);
			KILL_POINT("cputime.counted");
		}
	}
	return atomic_load(&c->total);
}

void cputime_watch(struct task *task, bool on)
{
	struct cputime *c = table_of(task);

	if (!c)
		return;
	if (!on) {
		atomic_fetch_sub(&c->watchers, 1);
	} else if (atomic_fetch_add(&c->watchers, 1) == 0) {
		for (unsigned i = 1; i < WORKERS_MAX; i++)
			atomic_store(&c->seen[i], clock_of(atomic_load(&sh_root->seat[i].pid)));
	}
}
