/*
 * recover.c - a crash is recorded, a killed worker's P runs elsewhere, another process takes its seat.
 */
#include "tests/faults/faults.h"
#include "core/g/g.h"
#include "core/g/life.h"
#include "core/repair/crash.h"
#include "core/root.h"
#include "core/sched/m.h"
#include "shm/segment.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- T3 ---- */

/* The module stores to an address that tells the time; the record has that address and its own time. */
static double record_latency(const struct crash *c)
{
	uint64_t mask = (1ull << 40) - 1;

	return (double)(((uint64_t)c->when - (uint64_t)c->address) & mask);
}

static void crashes(const char *what, unsigned ms_apart)
{
	uint64_t before = atomic_load(&rt->ncrashes);
	unsigned n = quick ? 40 : 400;
	struct samples s = {0};

	/* The task is on a goroutine with attempts, so it continues whatever else dies. */
	if (sh("timeout 120 build/shoal run build/tests/modules/survive/crash.so timed %u %u 2>&1", n, ms_apart))
		failed("survive_crash timed: %.200s", text);
	for (uint64_t i = before; i < atomic_load(&rt->ncrashes); i++)
		if (rt->crash[i % CRASH_KEPT].signal == SIGSEGV)
			sample(&s, record_latency(&rt->crash[i % CRASH_KEPT]));
	if (s.n != n)
		failed("%u goroutines crashed, and %u records were kept", n, s.n);
	row_times("T3", what, &s, 10e3, 100e3, quick ? 20 : 10);
}

void part_crash(void)
{
	runtime_start("nodelay", "--procs 2");
	crashes("SIGSEGV -> crash record written", 10);
	crashes("the same while those before are still being taken down", 0);
	runtime_stop();
}

/* ---- T4, T5 ---- */

/* Bytes of the segment that are mapped in the process: what the kernel tears down when it dies. */
static long mapped_bytes(int pid)
{
	long size, resident = 0;
	char path[64];
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/statm", pid);
	f = fopen(path, "re");
	if (!f || fscanf(f, "%ld %ld", &size, &resident) != 2)
		resident = 0;
	if (f)
		fclose(f);
	return resident * 4096;
}

struct victim {
	unsigned seat;
	long bytes;
};

/*
 * A victim has a P, runs a goroutine that is not the root (whose death would restart the task) and has touched
 * enough memory.
 */
static bool found_victim(void *arg)
{
	struct victim *v = arg;

	for (unsigned i = 0; i < WORKERS_MAX; i++) {
		struct sh_seat *s;
		struct m *m;
		struct g *g;
		int p;

		v->seat = v->seat % (WORKERS_MAX - 1) + 1;
		s = &sh_root->seat[v->seat];
		m = allm(v->seat);
		p = atomic_load(&m->p);
		g = atomic_load(&m->curg);
		if (g_plausible(g) && !(g->flags & GF_ROOT) && atomic_load(&s->state) == SEAT_LIVE && p >= 0 &&
		    atomic_load(&allp(p)->m) == (int)v->seat && atomic_load(&m->oncpu) &&
		    mapped_bytes(atomic_load(&s->pid)) >= v->bytes)
			return true;
	}
	return false;
}

static bool runs_elsewhere(int p, unsigned seat, uint32_t generation)
{
	int m = atomic_load(&allp(p)->m);

	return m > 0 && m < SH_SEATS && (m != (int)seat || sh_root->seat[m].generation != generation) &&
	       atomic_load(&allm(m)->p) == p;
}

/*
 * The time when another worker first used the P, from the events of all workers (sched.tracing: with exact times).
 */
static int64_t first_event(int p, unsigned victim, int64_t began)
{
	static struct life_event e[LIFE_RING];
	int64_t first = INT64_MAX, now = now_ns();

	for (unsigned seat = 1; seat < WORKERS_MAX; seat++) {
		int64_t from = seat == victim ? sh_root->seat[seat].dead_ns : began;
		uint64_t at = 0, lost = 0;
		unsigned n = life_read(seat, &at, e, LIFE_RING, &lost);
		struct life l;

		while (n--) {
			life_decode(&e[n], seat, now, &l);
			if (l.ns < began)
				break;
			if (l.p == p && l.ns > from && l.ns < first)
				first = l.ns;
		}
	}
	return first;
}

/*
 * Kills it, sleeps until the others are done, and reads their notes. Polling would take processor time from the
 * processes that it measures, first of all from the dying one.
 */
static void kill_one(unsigned seat, struct samples *taken, struct samples *replaced)
{
	struct sh_seat *s = &sh_root->seat[seat];
	uint32_t generation = s->generation;
	int p = atomic_load(&allm(seat)->p);
	bool other = false, serves = false;
	int64_t began = now_ns(), first = INT64_MAX;

	kill(atomic_load(&s->pid), SIGKILL);
	while (!(other && serves && first != INT64_MAX) && now_ns() - began < 2000000000) {
		nap_us(3000);
		other = other || runs_elsewhere(p, seat, generation);
		serves = s->generation != generation && atomic_load(&s->state) == SEAT_LIVE;
		if (other) /* it has the P; has it found something to run? */
			first = first_event(p, seat, began);
	}
	if (!other || !serves || first == INT64_MAX) {
		failed("worker %u was killed: its P %d %s, its seat %s", seat, p, other ? "runs" : "does not run",
		       serves ? "is filled" : "stays empty");
		return;
	}
	sample(taken, (double)(first - began));
	sample(replaced, (double)((int64_t)s->live_ns - began));
	if (getenv("FAULTS_STEPS"))
		note("seen %ld mended %ld taken %ld started %ld live %ld us", (s->dead_ns - began) / 1000,
		     (s->repaired_ns - began) / 1000, (first - began) / 1000, ((int64_t)s->started_ns - began) / 1000,
		     ((int64_t)s->live_ns - began) / 1000);
}

static void kill_many(const char *size, unsigned mib, unsigned n)
{
	struct samples taken = {0}, replaced = {0};
	struct victim v = {1, (long)mib << 20};
	char what[80];
	long id;

	runtime_start("nodelay", "--procs 2 --spare 2 --memory 4G");
	id = submit("--attempts 10000 build/tests/modules/faults/busy.so 8 600 %u", mib);
	measuring(true);
	atomic_fetch_add(&sched.tracing, 1); /* with exact times */
	for (unsigned i = 0; i < n; i++) {
		if (!wait_for(found_victim, &v, 20)) {
			failed("no worker runs with %u MiB touched", mib);
			break;
		}
		kill_one(v.seat, &taken, &replaced);
		nap_us(10000 + (unsigned)(now_ns() % 7919));
	}
	atomic_fetch_sub(&sched.tracing, 1);
	measuring(false);
	snprintf(what, sizeof what, "SIGKILL -> another worker runs its P, %s touched", size);
	row_times("T4", what, &taken, 100e3, 5e6, quick ? 1000 : 100);
	snprintf(what, sizeof what, "SIGKILL -> the replacement serves, %s touched", size);
	row_times("T5", what, &replaced, 1e6, 10e6, quick ? 300 : 30);
	sh("build/shoal cancel %ld; timeout 20 build/shoal wait %ld 2>&1", id, id);
	runtime_stop();
}

static void kernels_part(unsigned n)
{
	struct samples taken = {0}, served = {0};

	measuring(true);
	floor_of_deaths(n, &taken, &served);
	measuring(false);
	row_times("T4", "  the kernel's part: watcher and sleeper that do nothing else", &taken, 0, 0, 0);
	row_times("T5", "  the kernel's part: a watcher that forks", &served, 0, 0, 0);
}

void part_kill(void)
{
	kernels_part(quick ? 20 : 200);
	kill_many("4 MiB", 4, quick ? 20 : 500);
	if (!quick)
		kill_many("1 GiB", 1024, 100);
}
