/*
 * repair.c - T7: how long the repair of one worker takes among 100,000 goroutines, and how long a
 * goroutine that has nothing to do with it is held up meanwhile.
 */
#include "tests/faults/faults.h"
#include "core/g/g.h"
#include "core/root.h"
#include "core/sched/m.h"
#include "shm/segment.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool mended(void *arg)
{
	unsigned seat = *(unsigned *)arg;

	return sh_root->seat[seat].repaired_ns >= sh_root->seat[seat].dead_ns &&
	       atomic_load(&sh_root->seat[seat].state) != SEAT_DEAD && !sh_seat_dead(seat);
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
	id = submit("--attempts 1000 build/tests/modules/faults/many.so %ld %s %d", n, how, quick ? 8 : 60);
	if (!wait_for(has_all, &n, 60))
		failed("there are no %ld goroutines", n);
	for (unsigned i = 0; i < kills; i++) {
		struct sh_seat *s;
		int64_t before;

		do
			seat = seat % (WORKERS_MAX - 1) + 1;
		while (atomic_load(&sh_root->seat[seat].state) != SEAT_LIVE || sh_seat_dead(seat));
		s = &sh_root->seat[seat];
		before = s->repaired_ns;
		kill(atomic_load(&s->pid), SIGKILL);
		for (int k = 0; k < 20000 && (s->repaired_ns == before || !mended(&seat)); k++)
			nap_us(100);
		if (s->repaired_ns == before)
			failed("worker %u is not mended", seat);
		sample(&took, (double)(s->repaired_ns - s->dead_ns));
		nap_us(10000);
	}
	snprintf(what, sizeof what, "repair of a worker among %ld goroutines, %s", n, how);
	row_times("T7", what, &took, 0, 20e6, 5);
	sh("build/shoal cancel %ld; timeout 60 build/shoal wait %ld 2>&1", id, id);
	runtime_stop();
}

/* ---- goroutines that the death does not concern ---- */

#define QUIET_S 4 /* faults/many.c */

/* A worker that runs one of the task's goroutines, and not the watcher. */
static unsigned busy_one(uint64_t watcher)
{
	for (int looks = 0; looks < 20000; looks++) {
		for (unsigned seat = 1; seat < WORKERS_MAX; seat++) {
			struct g *g = atomic_load(&allm(seat)->curg);

			if (atomic_load(&sh_root->seat[seat].state) == SEAT_LIVE && !sh_seat_dead(seat) && g &&
			    g->gid != watcher && g_state(g) == G_RUNNING && g->gid != 0)
				return seat;
		}
		nap_us(50);
	}
	return 0;
}

struct held {
	long rounds, longest, over;
};

static struct held told(const char *when)
{
	struct held h = {0};
	char *at = strstr(text, when);

	if (!at || sscanf(at + strlen(when), "%ld %ld %ld", &h.rounds, &h.longest, &h.over) != 3)
		failed("faults_many does not tell of %s: %.200s", when, text);
	return h;
}

static void watched(unsigned kills)
{
	long n = quick ? 20000 : 100000, id, seconds = QUIET_S + 2 + (long)kills * 15 / 1000;
	struct held quiet, deaths;
	uint64_t watcher = 0;
	unsigned done = 0;
	char what[120];

	runtime_start("nodelay", "--procs 2 --spare 2");
	id = submit("--attempts 1000 build/tests/modules/faults/many.so %ld watched %ld", n, seconds);
	for (int i = 0; i < 400 && !watcher; i++) {
		char *at;

		nap_us(20000);
		if (sh("build/shoal logs %ld 2>&1", id) == 0 && (at = strstr(text, "watcher ")))
			watcher = strtoull(at + strlen("watcher "), NULL, 10);
	}
	if (!watcher)
		failed("there is no watcher: %.200s", text);
	nap_us(QUIET_S * 1000000 + 200000);
	for (; watcher && done < kills; done++) {
		unsigned seat = busy_one(watcher);

		if (!seat)
			break;
		kill(atomic_load(&sh_root->seat[seat].pid), SIGKILL);
		nap_us(10000);
	}
	sh("timeout 60 build/shoal wait %ld 2>&1; build/shoal logs %ld", id, id);
	quiet = told("quiet ");
	deaths = told("deaths ");
	if (done < kills / 2)
		failed("%u of %u workers were killed", done, kills);
	note("held up: %ld rounds without deaths, longest %.3f ms, %ld of more than 1 ms", quiet.rounds,
	     (double)quiet.longest / 1e6, quiet.over);
	snprintf(what, sizeof what, "others held up, %ld goroutines, %u deaths", n, done);
	row_number("T7", what, (double)deaths.longest / 1e6, 1 + (double)quiet.longest / 1e6, " ms", false);
	snprintf(what, sizeof what, "for more than 1 ms, of %ld rounds", deaths.rounds);
	row_number("T7", what, (double)deaths.over, (double)quiet.over, "", false);
	runtime_stop();
}

void part_repair(void)
{
	unsigned kills = quick ? 6 : 100;

	among("parked", kills);
	among("timed", kills);
	among("runnable", kills);
	watched(quick ? 40 : 200);
}
