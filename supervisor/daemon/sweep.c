/*
 * sweep.c - decides when stray descriptors are closed. A descriptor is stray if a goroutine opened it and died
 * with its worker before the runtime recorded the owner. strays.c, in the zygote, finds and closes them.
 *
 * While no task exists: the supervisor replaces all workers, so that no worker has an unlisted descriptor of its
 * own. Then it asks the zygote to close every descriptor without an owner. The zygote does nothing else meanwhile.
 *
 * While tasks exist: the zygote lists the descriptors without an owner twice, ten seconds apart, and holds those
 * that are the same both times. Then the workers are replaced one after the other. After that no process can know
 * these descriptors any more, and the zygote closes them.
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
static uint32_t swept_deaths; /* sched.gs_lost at the start: the deaths that this sweep covers */
static uint32_t
	/*
	 * The deaths that the last sweep beside running tasks covered. It may miss strays, which the next full
	 * sweep finds.
	 */
	seen_to;
static uint32_t generation[SEATS_MAX]; /* of the process in each seat when the descriptors were held; 0: none */

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

/* Called at the end of a sweep. A supervisor that adopts the runtime before this starts the sweep again. */
static void end_sweep(void)
{
	if (step == ALL)
		atomic_compare_exchange_strong(&sched.gs_lost, &(uint32_t){swept_deaths}, 0);
	seen_to = step == ALL ? 0 : swept_deaths;
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
	if (rep->count)
		sh_log("closed %u descriptors that dead workers had left open", rep->count);
	end_sweep();
}

static void cancelled(void *arg, const struct zrep *rep)
{
	(void)arg;
	(void)rep;
}

/* ---- while tasks exist ---- */

static void cancel_sweep(void)
{
	ask(SWEEP_CANCEL, cancelled);
	later();
}

/* Replaces the next worker that existed when the descriptors were held. */
static void renew_next(void)
{
	for (unsigned i = 1; i < SEATS_MAX; i++) {
		struct sh_seat *s = &sh_root->seat[i];
		uint32_t state = atomic_load(&s->state);

		if (!generation[i] || s->generation != generation[i] || state == SEAT_VACANT || state == SEAT_EMPTY)
			continue;
		if (atomic_load(&sched.mlocked) >> i & 1) { /* a goroutine is pinned to this worker: leave it */
			cancel_sweep();
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
	} else if (rep->count) {
		for (unsigned i = 1; i < SEATS_MAX; i++)
			generation[i] =
				atomic_load(&sh_root->seat[i].state) == SEAT_EMPTY ? 0 : sh_root->seat[i].generation;
		step = HOLDS;
		renew_next();
	} else {
		end_sweep();
	}
}

static void on_strays_listed(void *arg, const struct zrep *rep)
{
	(void)arg;
	if (rep->code) {
		later();
		return;
	}
	if (!rep->count) {
		end_sweep();
		return;
	}
	step = LOOKED;
	not_before_ns = sh_now() + again_ns();
}

/* ---- both kinds of sweep ---- */

void sh_sweep_renewed(bool done)
{
	if (step == HOLDS && done && !sh_stopping)
		renew_next();
	else if (step == HOLDS)
		cancel_sweep();
	else if (!done || sh_jobs_live() || sh_stopping)
		later();
	else
		ask(SWEEP_ALL, swept);
}

void sh_sweep_if_due(void)
{
	if (sh_stopping || sh_options.one_shot)
		return;
	if (step == LOOKED && !sh_jobs_live()) { /* no task exists any more: use the full sweep */
		step = ALL;
		swept_deaths = atomic_load(&sched.gs_lost);
		sh_fleet_renew(NULL, 0);
	} else if (sh_now() < not_before_ns) {
		;
	} else if (step == LOOKED) {
		step = LOOKS;
		ask(SWEEP_HOLD, held);
	} else if (step == REST && (swept_deaths = atomic_load(&sched.gs_lost)) != 0) {
		if (!sh_jobs_live()) {
			step = ALL;
			sh_fleet_renew(NULL, 0);
		} else if (swept_deaths != seen_to) {
			step = LOOKS;
			ask(SWEEP_LOOK, on_strays_listed);
		}
	}
}
