/*
 * sweep.c - when no task is there, and a goroutine has died with its worker since the last time, the
 * descriptors that such deaths may have left open are closed: see strays.c.
 *
 * All workers are renewed before, so that none has anything of its own open that is not written down;
 * the zygote is asked only while still no task is there, and does nothing else meanwhile.
 */
#include "supervisor/super.h"

#define AGAIN_NS 10000000000ull

static bool under_way;
static uint64_t not_before_ns;

static void later(void)
{
	atomic_store(&sched.fds_lost, 1);
	not_before_ns = sh_now() + AGAIN_NS;
	under_way = false;
}

static void swept(void *arg, const struct zrep *rep)
{
	(void)arg;
	under_way = false;
	if (rep->code)
		later();
	else if (rep->spent)
		sh_log("%u descriptors that deaths had left open are closed", rep->spent);
}

void sh_sweep_renewed(bool done)
{
	struct zreq req = {.op = Z_SWEEP};

	if (!done || sh_jobs_live() || sh_stopping)
		later();
	else
		sh_link_ask(&req, NULL, 0, swept, NULL);
}

void sh_sweep_look(void)
{
	if (under_way || !atomic_load(&sched.fds_lost) || sh_jobs_live() || sh_stopping || sh_options.one_shot ||
		sh_now() < not_before_ns)
		return;
	under_way = true;
	atomic_store(&sched.fds_lost, 0);
	sh_fleet_renew(NULL, 0);
}
