/*
 * repair.c - T7: how long the repair of one worker takes among 100,000 goroutines, and how long a
 * goroutine that has nothing to do with it is held up meanwhile.
 */
#include "tests/faults/faults.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool mended(void *arg)
{
	unsigned seat = *(unsigned *)arg;

	return sh_root->seat[seat].mended_ns >= sh_root->seat[seat].dead_ns && atomic_load(&sh_root->seat[seat].state) != SEAT_DEAD &&
	       !sh_seat_dead(seat);
}

static bool has_all(void *arg)
{
	return figure("stats", "goroutines") >= *(long *)arg;
}

static void among(const char *how, unsigned kills)
{
	long n = quick ? 20000 : 100000, id;
	struct samples took = {0};
	unsigned seat = 0;
	char what[80];

	runtime_start("nodelay", "--procs 2 --spare 2");
	id = submit("--attempts 1000 build/tests/modules/faults_many.so %ld %s %d", n, how, quick ? 8 : 60);
	if (!wait_for(has_all, &n, 60))
		failed("there are no %ld goroutines", n);
	for (unsigned i = 0; i < kills; i++) {
		struct sh_seat *s;
		int64_t before;

		do
			seat = seat % (WORKERS_MAX - 1) + 1;
		while (atomic_load(&sh_root->seat[seat].state) != SEAT_LIVE || sh_seat_dead(seat));
		s = &sh_root->seat[seat];
		before = s->mended_ns;
		kill(atomic_load(&s->pid), SIGKILL);
		for (int k = 0; k < 20000 && (s->mended_ns == before || !mended(&seat)); k++)
			nap_us(100);
		if (s->mended_ns == before)
			failed("worker %u is not mended", seat);
		sample(&took, (double)(s->mended_ns - s->dead_ns));
		nap_us(10000);
	}
	snprintf(what, sizeof what, "repair of a worker among %ld goroutines, %s", n, how);
	row_times("T7", what, &took, 0, 20e6, 5);
	sh("build/shoal cancel %ld; timeout 60 build/shoal wait %ld 2>&1", id, id);
	runtime_stop();
}

void part_repair(void)
{
	unsigned kills = quick ? 6 : 100;

	among("parked", kills);
	among("timed", kills);
	among("runnable", kills);
}
