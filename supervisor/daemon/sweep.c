/*
 * sweep.c - descriptors that a goroutine has left open which died with its worker are closed: see strays.c.
 *
 * While no task is there: all workers are renewed, so that none has anything of its own open that is not
 * written down, and all that is nobody's then is closed. The zygote is asked only while still no task is
 * there, and does nothing else meanwhile.
 *
 * While tasks go on without a pause: what is nobody's is looked at twice, ten seconds apart; what is the
 * same both times is held, and once all processes that were there at that moment have gone, one after the
 * other, nobody can know it any more, and it is closed.
 */
#include "supervisor/daemon/sweep.h"
#include "supervisor/daemon/fleet.h"
#include "supervisor/daemon/link.h"
#include "supervisor/daemon/log.h"
#include "supervisor/daemon/main.h"
#include "supervisor/daemon/task/tasks.h"
#include "supervisor/zygote/zygote.h"
#include "core/root.h"
#include "shm/segment.h"

#include <stdlib.h>
#include <string.h>

#define AGAIN_NS 10000000000ull /* SHOAL_DEBUG=sweep=MS */
#define SEATS_MAX 64

static enum { REST, ALL, LOOKS, LOOKED, HOLDS } step;
static uint64_t not_before_ns;
static uint32_t lost;	 /* of sched.fds_lost: the deaths that this is about */
static uint32_t seen_to; /* while tasks went on, which does not find all: the rest is for when none is there */
static uint32_t generation[SEATS_MAX]; /* of who was there when it was held; 0: nobody */

static uint64_t again_ns(void)
{
	long ms = sh_debug_number("sweep=", 0);

	return ms > 0 ? (uint64_t)ms * 1000000u : AGAIN_NS;
}

static void later(void)
{
	not_before_ns = sh_now() + again_ns();
	step = REST;
}

/* Until then a supervisor that comes after us begins anew. */
static void done_with(void)
{
	if (step == ALL)
		atomic_compare_exchange_strong(&sched.fds_lost, &(uint32_t){lost}, 0);
	seen_to = step == ALL ? 0 : lost;
	step = REST;
}

static void ask(uint32_t how, void (*then)(void *, const struct zrep *))
{
	struct zreq req = {.op = Z_SWEEP, .instance = how};

	sh_link_ask(&req, NULL, 0, then, NULL);
}

static void swept(void *arg, const struct zrep *rep)
{
	(void)arg;
	if (rep->code) {
		later();
		return;
	}
	if (rep->spent)
		sh_log("%u descriptors that deaths had left open are closed", rep->spent);
	done_with();
}

static void cancelled(void *arg, const struct zrep *rep)
{
	(void)arg;
	(void)rep;
}

/* ---- while tasks go on ---- */

static void let_go(void)
{
	ask(SWEEP_CANCEL, cancelled);
	later();
}

/* The next one that was there when it was held. */
static void renew_next(void)
{
	for (unsigned i = 1; i < SEATS_MAX; i++) {
		struct sh_seat *s = &sh_root->seat[i];
		uint32_t state = atomic_load(&s->state);

		if (!generation[i] || s->generation != generation[i] || state == SEAT_VACANT || state == SEAT_EMPTY)
			continue;
		if (atomic_load(&sched.mlocked) >> i & 1) { /* a goroutine is pinned to it, and has its reasons */
			let_go();
			return;
		}
		sh_fleet_renew(NULL, i);
		return;
	}
	ask(SWEEP_CLOSE, swept);
}

static void held(void *arg, const struct zrep *rep)
{
	(void)arg;
	if (rep->code || sh_stopping) {
		later();
	} else if (rep->spent) {
		for (unsigned i = 1; i < SEATS_MAX; i++)
			generation[i] =
				atomic_load(&sh_root->seat[i].state) == SEAT_EMPTY ? 0 : sh_root->seat[i].generation;
		step = HOLDS;
		renew_next();
	} else {
		done_with();
	}
}

static void looked(void *arg, const struct zrep *rep)
{
	(void)arg;
	if (rep->code) {
		later();
		return;
	}
	if (!rep->spent) {
		done_with();
		return;
	}
	step = LOOKED;
	not_before_ns = sh_now() + again_ns();
}

/* ---- both ---- */

void sh_sweep_renewed(bool done)
{
	if (step == HOLDS && done && !sh_stopping)
		renew_next();
	else if (step == HOLDS)
		let_go();
	else if (!done || sh_jobs_live() || sh_stopping)
		later();
	else
		ask(SWEEP_ALL, swept);
}

void sh_sweep_look(void)
{
	if (sh_stopping || sh_options.one_shot)
		return;
	if (step == LOOKED && !sh_jobs_live()) { /* the short way */
		step = ALL;
		lost = atomic_load(&sched.fds_lost);
		sh_fleet_renew(NULL, 0);
	} else if (sh_now() < not_before_ns) {
		;
	} else if (step == LOOKED) {
		step = LOOKS;
		ask(SWEEP_HOLD, held);
	} else if (step == REST && (lost = atomic_load(&sched.fds_lost)) != 0) {
		if (!sh_jobs_live()) {
			step = ALL;
			sh_fleet_renew(NULL, 0);
		} else if (lost != seen_to) {
			step = LOOKS;
			ask(SWEEP_LOOK, looked);
		}
	}
}
