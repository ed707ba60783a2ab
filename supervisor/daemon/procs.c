/*
 * procs.c - changes the number of Ps: by a client's request, or because affinity or control groups allow another
 * number of processors. The medic makes the change (core/sched/procs.c); the supervisor waits for it.
 */
#include "supervisor/daemon/procs.h"
#include "supervisor/daemon/control.h"
#include "supervisor/daemon/failure.h"
#include "supervisor/daemon/log.h"
#include "supervisor/daemon/main.h"
#include "supervisor/daemon/setup.h"
#include "core/root.h"
#include "core/sched/idle.h"
#include "core/sched/m.h"
#include "core/sched/procs.h"
#include "shm/segment.h"

#include <stdlib.h>

#define LOOK_MS 2u

struct want {
	struct want *next;
	struct asker *asker; /* NULL: no client asked, the machine allows another number */
	uint32_t n;
};

static struct want *wants, **wants_end = &wants;
static uv_timer_t *timer;
static bool procs_under_way;

static void poll_procs(uv_timer_t *unused)
{
	struct want *w = wants;
	json_t *reply;
	bool failed;

	(void)unused;
	if (!w || atomic_load(&sched.procs_asked)) /* another change, or this one, is not finished */
		return;
	if (!procs_under_way && (w->asker || !atomic_load(&sched.procs_custom))) {
		procs_under_way = true;
		atomic_store(&sched.procs_failed, 0);
		atomic_store(&sched.procs_asked, w->n);
		sh_bell();
		return;
	}
	failed = atomic_load(&sched.procs_failed) == PROCS_COMMAND;
	wants = w->next;
	if (!wants) {
		wants_end = &wants;
		uv_timer_stop(timer);
	}
	if (!w->asker) {
		if (procs_under_way &&
		    !failed) /* otherwise a client has set the number meanwhile, or the next call asks again */
			sh_log("the number of Ps is now %u, because the machine allows another number of processors",
			       atomic_load(&sched.procs));
	} else if (failed) {
		sh_answer_error(w->asker, CODE_FAILED, NULL,
				"a goroutine did not reach a point where it can be stopped");
	} else {
		reply = json_pack("{s:b, s:i, s:i}", "ok", 1, "version", 1, "procs", (int)atomic_load(&sched.procs));
		sh_answer(w->asker, reply, NULL, 0);
	}
	procs_under_way = false;
	free(w);
}

static void want(struct asker *a, uint32_t n)
{
	struct want *w = malloc(sizeof *w);

	if (!w)
		abort();
	*w = (struct want){NULL, a, n};
	*wants_end = w;
	wants_end = &w->next;
	if (!timer) {
		timer = malloc(sizeof *timer);
		if (!timer)
			abort();
		uv_timer_init(sh_loop, timer);
	}
	uv_timer_start(timer, poll_procs, 0, LOOK_MS);
}

void sh_procs(struct asker *a, uint32_t n)
{
	atomic_store(&sched.procs_custom, 1);
	want(a, n);
}

/* Called once a second. Does nothing while the runtime is idle, because the number of Ps does not matter then. */
void sh_procs_follow(void)
{
	uint32_t n;

	if (atomic_load(&sched.procs_custom) || wants || npidle() >= atomic_load(&sched.procs))
		return;
	n = sh_setup_cpus();
	if (n > WORKERS_MAX - 2)
		n = WORKERS_MAX - 2;
	if (n != atomic_load(&sched.procs))
		want(NULL, n);
}
