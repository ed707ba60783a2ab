/*
 * random.c - rand and random of a task: one sequence for all its goroutines, on whatever worker,
 * and the same as libc's. libc's own is one for each process.
 *
 * LOCK   task->lock
 * DEATH  a half-made step leaves another sequence, no other harm
 */
#include "core/sync/waitq.h"
#include "shm/kill.h"
#include "worker/posix/own.h"
#include "worker/worker.h"

#include <dlfcn.h>
#include <stdlib.h>

struct sequence {
	struct random_data data;
	char state[128];
};

/* The task's, locked; NULL off a goroutine or without memory. */
static struct sequence *begin(struct g *g)
{
	struct sequence *s;

	if (!g)
		return NULL;
	if (!task_own(g->task)->random && (s = g_alloc(g, sizeof *s))) {
		s->data.state = NULL;
		initstate_r(1, s->state, sizeof s->state, &s->data);
		acquirem();
		sh_lock_take(&g->task->lock, (unsigned)getm->seat);
		if (!task_own(g->task)->random)
			task_own(g->task)->random = s; /* else it stays unused, until the task's end */
		KILL_POINT("random.made");
	} else {
		acquirem();
		sh_lock_take(&g->task->lock, (unsigned)getm->seat);
	}
	return task_own(g->task)->random;
}

static void end(struct g *g)
{
	if (!g)
		return;
	sh_lock_drop(&g->task->lock, (unsigned)getm->seat);
	releasem();
}

long random(void)
{
	static long (*libc)(void);
	struct g *g = on_g();
	struct sequence *s = begin(g);
	int32_t r = 0;

	if (s)
		random_r(&s->data, &r);
	end(g);
	if (s)
		return r;
	if (!libc)
		*(void **)&libc = dlsym(RTLD_NEXT, "random");
	return libc();
}

void srandom(unsigned seed)
{
	static void (*libc)(unsigned);
	struct g *g = on_g();
	struct sequence *s = begin(g);

	if (s)
		srandom_r(seed, &s->data);
	end(g);
	if (s)
		return;
	if (!libc)
		*(void **)&libc = dlsym(RTLD_NEXT, "srandom");
	libc(seed);
}

int rand(void)
{
	return (int)random();
}

void srand(unsigned seed)
{
	srandom(seed);
}
