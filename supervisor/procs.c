/*
 * procs.c - the number of Ps, asked for by command. The medic does it (core/procs.c); here we wait for it.
 */
#include "supervisor/super.h"

#include <stdlib.h>

#define LOOK_MS 2u

struct want {
	struct want *next;
	struct asker *asker;
	uint32_t n;
};

static struct want *wants, **wants_end = &wants;
static uv_timer_t *timer;
static bool under_way;

static void look(uv_timer_t *unused)
{
	struct want *w = wants;
	json_t *reply;

	(void)unused;
	if (!w || atomic_load(&sched.procs_asked)) /* somebody else's is under way, or ours */
		return;
	if (!under_way) {
		under_way = true;
		atomic_store(&sched.procs_failed, 0);
		atomic_store(&sched.procs_asked, w->n);
		sh_bell();
		return;
	}
	under_way = false;
	wants = w->next;
	if (!wants) {
		wants_end = &wants;
		uv_timer_stop(timer);
	}
	if (atomic_load(&sched.procs_failed) == PROCS_COMMAND) {
		sh_answer_error(w->asker, CODE_FAILED, NULL, "a goroutine did not come to a point where it can stop");
	} else {
		reply = json_pack("{s:b, s:i, s:i}", "ok", 1, "version", 1, "procs", (int)atomic_load(&sched.procs));
		sh_answer(w->asker, reply, NULL, 0);
	}
	free(w);
}

void sh_procs(struct asker *a, uint32_t n)
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
