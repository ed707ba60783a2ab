/*
 * procs.c - the number of Ps, asked for by command, or because the machine allows us another number of
 * processors now. The medic does it (core/sched/procs.c); here we wait for it.
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
	struct asker *asker; /* NULL: nobody has asked */
	uint32_t n;
};

static struct want *wants, **wants_end = &wants;
static uv_timer_t *timer;
static bool under_way;

static void look(uv_timer_t *unused)
{
	struct want *w = wants;
	json_t *reply;
	bool failed;

	(void)unused;
	if (!w || atomic_load(&sched.procs_asked)) /* somebody else's is under way, or ours */
		return;
	if (!under_way && (w->asker || !atomic_load(&sched.procs_custom))) {
		under_way = true;
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
		if (under_way && !failed) /* else somebody has set it by hand meanwhile, or the next look asks again */
			sh_log("%u procs from now on: what the machine allows has changed", atomic_load(&sched.procs));
	} else if (failed) {
		sh_answer_error(w->asker, CODE_FAILED, NULL, "a goroutine did not come to a point where it can stop");
	} else {
		reply = json_pack("{s:b, s:i, s:i}", "ok", 1, "version", 1, "procs", (int)atomic_load(&sched.procs));
		sh_answer(w->asker, reply, NULL, 0);
	}
	under_way = false;
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
	uv_timer_start(timer, look, 0, LOOK_MS);
}

void sh_procs(struct asker *a, uint32_t n)
{
	atomic_store(&sched.procs_custom, 1);
	want(a, n);
}

/* Once a second. While all is idle nobody minds, and we do not look. */
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
