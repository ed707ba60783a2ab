/*
 * sim.c - runs the scheduler on seeds: a mix of goroutines (parts.c), and what must hold in the end.
 *
 *   sim [--base N] [--of COUNT]   COUNT (5,000) seeds from N on without deaths, twice as many with deaths
 *   sim [--seed N] [--seeds COUNT] [--deaths] [--trace]   those seeds, from 1 on if none is named
 *
 * Without --base the first seed is another one in each run. The run prints it, and a failure prints its own
 * seed and the command that replays it.
 *
 * Without deaths, and with deaths that took no goroutine along, all that was sent has arrived
 * once, all counts are right and nobody waits for ever. Where a goroutine was lost, others may
 * wait for what it would have done: then everybody who waits must have a reason, and nothing
 * arrives twice. In the end the task goes, and the memory is back.
 */
#include "tests/sim/sim.h"
#include "tests/sim/parts.h"
#include "core/g/g.h"
#include "core/g/life.h"
#include "core/g/names.h"
#include "core/host.h"
#include "core/repair/audit.h"
#include "core/root.h"
#include "core/sched/proc.h"
#include "core/sync/mutex.h"
#include "core/task/task.h"
#include "shm/heap.h"
#include "shm/segment.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define SEEDS 5000

static unsigned passed, batches_failed;
static uint64_t lives; /* whose every change was looked at */

void sim_failed(void)
{
	printf("tests: %u passed, %u failed\n", passed, batches_failed + 1);
}

/* ---- a run ---- */

/* All sleep for ever, the task is not over. With everybody alive this is a lost wake-up. */
static void stalled(struct task *t)
{
	uint64_t ngs = atomic_load(&sched.ngs);

	for (uint64_t i = 1; i < ngs; i++) {
		struct g *g = allg(i);
		unsigned how = atomic_load(&g->sudog.state);

		if (g_state(g) == G_DEAD)
			continue;
		if (g_state(g) != G_WAITING)
			sim_fail("all sleep, and G %lu is %s", (unsigned long)i, g_status_name(g_state(g)));
		if (g->wake_at)
			sim_fail("all sleep, and G %lu was to be woken by a timer", (unsigned long)i);
		if (how == SG_DELIVERED || how == SG_CLOSED)
			sim_fail("all sleep, and G %lu was told that its wait is over", (unsigned long)i);
		for (unsigned p = 0; p < nparts; p++) {
			struct part *q = &part[p];

			if (q->what == PIPE && g->waitreason == WAIT_IO && q->wg && g->wg == q->wg2 && sim_pipe_lost(p))
				sim_fail("all sleep, and G %lu waits for a byte that is there", (unsigned long)i);
			if (q->c && g->sudog.queue == q->c && g->waitreason == WAIT_RECV && shoal_chan_len(q->c))
				sim_fail("all sleep, and G %lu waits for a value that is there", (unsigned long)i);
			if (q->c && g->sudog.queue == q->c && g->waitreason == WAIT_SEND &&
			    shoal_chan_len(q->c) < q->cap)
				sim_fail("all sleep, and G %lu waits for room that is there", (unsigned long)i);
			if (q->mu && g->sudog.queue == &q->mu->q && !mutex_holder(atomic_load(&q->mu->owner)))
				sim_fail("all sleep, and G %lu waits for a free mutex", (unsigned long)i);
			if (q->rw && g->sudog.queue == q->rw && !q->rw->writer && !q->rw->readers)
				sim_fail("all sleep, and G %lu waits for a free rwmutex", (unsigned long)i);
			if (q->sem && g->sudog.queue == q->sem && q->sem->q.first == &g->sudog &&
			    q->sem->units >= g->sudog.n)
				sim_fail("all sleep, and G %lu waits for units that are there", (unsigned long)i);
			if (q->wg && (g->sudog.queue == &q->wg->q
					      ? !atomic_load(&q->wg->count)
					      : q->wg2 && g->sudog.queue == &q->wg2->q && !atomic_load(&q->wg2->count)))
				sim_fail("all sleep, and G %lu waits for an empty wait group", (unsigned long)i);
		}
	}
	if (!sim_count.lost)
		sim_fail("all sleep, and nobody was lost");
	task_end(t, TASK_CANCELLED, 130, 0);
}

static struct sim_plan make_plan(bool deaths)
{
	static const unsigned rates[] = {3, 10, 50};
	struct sim_plan p = {0};

	p.workers = 1 + sim_below(4);
	p.procs = 1 + sim_below(4);
	p.switch_rate = rates[sim_below(3)];
	p.renewals = sim_below(2) ? sim_below(4) : 0;
	if (deaths) {
		p.deaths = 1 + sim_below(4);
		p.death_rate = 50 + sim_below(3000);
		p.medic_dies = sim_below(2);
	}
	sim_windows = 1 + sim_below(6);
	return p;
}

static void check_end(struct task *t, size_t used_before)
{
	uint64_t ngs = atomic_load(&sched.ngs);
	size_t used;
	char msg[256];

	if (audit(msg, sizeof msg) != 0)
		sim_fail("audit: %s", msg);
	for (uint64_t i = 1; i < ngs; i++)
		if (g_state(allg(i)) != G_DEAD)
			sim_fail("in the end G %lu is %s", (unsigned long)i, g_status_name(g_state(allg(i))));
	used = sh_arena_live(sh_root->arena, 0);
	if (used != used_before)
		sim_fail("memory in use: %zu before, %zu after", used_before, used);
	if (sim_count.lost == 0 && (!parts_done() || atomic_load(&t->exit_code) != 7))
		sim_fail("the root did not come to its end, exit code %d", atomic_load(&t->exit_code));
	if (sim_count.deaths == 0 && task_goroutines(t) != 0)
		sim_fail("%lu goroutines too many are counted", (unsigned long)task_goroutines(t));
}

/*
 * Every recorded change of status is legal. If no worker died, each goroutine left every state as often as it
 * entered it.
 */
static void check_lives(void)
{
	static struct {
		uint64_t gid;
		int16_t balance[16];
	} life[8192];
	static struct life_event e[LIFE_RING];
	uint64_t lost = 0;
	unsigned used = 0;

	memset(life, 0, sizeof life);
	for (unsigned seat = 0; seat <= workers; seat++) {
		uint64_t at = 0;
		unsigned n = life_read(seat, &at, e, LIFE_RING, &lost);

		for (unsigned i = 0; i < n; i++) {
			struct life l;
			unsigned k;

			life_decode(&e[i], seat, host_now(), &l);
			if (!(g_legal[l.from] & G_BIT(l.to)))
				sim_fail("goroutine %lu went from %s to %s", (unsigned long)l.gid,
					 g_status_name(l.from), g_status_name(l.to));
			for (k = (unsigned)(l.gid * 0x9e3779b97f4a7c15u >> 51); life[k].gid && life[k].gid != l.gid;
			     k = (k + 1) % 8192)
				;
			used += !life[k].gid;
			if (used > 8000)
				return;
			life[k].gid = l.gid;
			life[k].balance[l.from]--;
			life[k].balance[l.to]++;
		}
	}
	if (lost || sim_count.deaths)
		return;
	for (unsigned k = 0; k < 8192; k++)
		for (unsigned s = 0; s < 16 && life[k].gid; s++)
			if (life[k].balance[s] && s != G_IDLE &&
			    s != G_DEAD) /* it becomes dead once more often than it is created */
				sim_fail("goroutine %lu came %d times more to %s than it left",
					 (unsigned long)life[k].gid, life[k].balance[s], g_status_name(s));
	lives += used;
}

/* A fresh segment: its pages that are not zero. */
#define FRESH_MAX 4096
#define PAGE 4096ul
static int segment = -1;
static struct {
	off_t at;
	char bytes[PAGE];
} * fresh;
static unsigned nfresh;

static void each_page(void (*fn)(off_t at))
{
	off_t from, to;

	for (to = 0; (from = lseek(segment, to, SEEK_DATA)) >= 0 && (to = lseek(segment, from, SEEK_HOLE)) > from;)
		for (off_t at = from; at < to; at += PAGE)
			fn(at);
}

static void keep_page(off_t at)
{
	const char *page = (const char *)SH_BASE + at;

	if (page[0] == 0 && memcmp(page, page + 1, PAGE - 1) == 0)
		return;
	if (nfresh == FRESH_MAX)
		sim_fail("a fresh segment has more than %u pages", FRESH_MAX);
	fresh[nfresh].at = at;
	memcpy(fresh[nfresh++].bytes, page, PAGE);
}

static void clear_page(off_t at)
{
	char *page = at < (off_t)SH_STACKS_FILE ? (char *)SH_BASE + at : (char *)SH_STACKS + (at - SH_STACKS_FILE);

	memset(page, 0, PAGE);
}

/* As sh_segment_create() leaves it. To make one and fault its pages in costs more than to run a seed in it. */
static void fresh_segment(void)
{
	if (segment >= 0) {
		each_page(clear_page);
		for (unsigned i = 0; i < nfresh; i++)
			memcpy((char *)SH_BASE + fresh[i].at, fresh[i].bytes, PAGE);
		return;
	}
	segment = sh_segment_create(0);
	if (segment < 0 || !(fresh = malloc(FRESH_MAX * sizeof *fresh)))
		sim_fail("no segment: %d", segment);
	each_page(keep_page);
}

static void run(uint64_t seed, bool deaths)
{
	struct sim_plan p = {.workers = 1};
	struct task *t = task_at(1);
	size_t used;

	fresh_segment();
	sim_begin(seed * 2 + deaths, &p); /* the plan itself is drawn from the seed */
	p = make_plan(deaths);
	workers = p.workers;
	parts_make();
	schedinit(p.procs);
	atomic_store(&sched.tracing, 1);
	parts_share();
	sim_begin(seed, &p);
	t->id = t->slot = 1;
	t->attempts = 1;
	t->fd_out = t->fd_err = t->fd_cwd = -1;
	t->entry = parts_root;
	atomic_store(&t->state, TASK_QUEUED);
	used = sh_arena_live(sh_root->arena, 0);
	sim_run(t, stalled);
	check_end(t, used);
	check_lives();
}

/* Returns a number that is short enough to type. */
static uint64_t random_base(void)
{
	uint32_t n;

	if (getrandom(&n, sizeof n, 0) != sizeof n)
		sim_fail("no random numbers");
	return 1 + n % 1000000000u;
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void batch(uint64_t from, uint64_t count, bool deaths)
{
	uint64_t seed = from, points = 0, switches = 0, died = 0, lost = 0;
	double began = seconds();

	for (; seed < from + count; seed++) {
		run(seed, deaths);
		points += sim_count.points;
		switches += sim_count.switches;
		died += sim_count.deaths;
		lost += sim_count.lost;
	}
	printf("sim: seeds %lu..%lu%s, %lu transitions, %lu switches, %lu deaths, %lu goroutines lost, %.1f s\n",
	       (unsigned long)from, (unsigned long)seed - 1, deaths ? " with deaths" : "", (unsigned long)points,
	       (unsigned long)switches, (unsigned long)died, (unsigned long)lost, seconds() - began);
	passed++;
}

/* All that the default run has: the tests from inside, then seeds from base on. */
static void run_all(uint64_t base, uint64_t count)
{
	static unsigned (*const inside[])(void) = {runq_tests,	sysmon_tests, schedule_tests,
						   gfree_tests, waitq_tests,  timers_tests};

	for (unsigned i = 0; i < sizeof inside / sizeof *inside; i++) {
		bool failed = inside[i]() != 0;

		passed += !failed;
		batches_failed += failed;
	}
	printf("sim: the first seed is %lu; again: sim --base %lu\n", (unsigned long)base, (unsigned long)base);
	batch(base, count, false);
	batch(base, 2 * count, true);
}

int main(int argc, char **argv)
{
	uint64_t seed = 1, count = 0, base = 0, of = SEEDS;
	bool deaths = false, one = false;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--deaths"))
			deaths = true;
		else if (!strcmp(argv[i], "--trace"))
			sim_trace = true;
		else if (!strcmp(argv[i], "--base") && i + 1 < argc)
			base = strtoull(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--of") && i + 1 < argc)
			of = strtoull(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--seed") && i + 1 < argc)
			seed = strtoull(argv[++i], NULL, 0), one = true;
		else if (!strcmp(argv[i], "--seeds") && i + 1 < argc)
			count = strtoull(argv[++i], NULL, 0);
		else {
			fprintf(stderr,
				"usage: sim [--base N] [--of COUNT] | [--seed N] [--seeds COUNT] [--deaths] [--trace]\n");
			return 2;
		}
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (one || count)
		batch(seed, count ? count : 1, deaths);
	else
		run_all(base ? base : random_base(), of);
	printf("lives: %lu goroutines, every change legal, every state left as often as entered\n",
	       (unsigned long)lives);
	printf("tests: %u passed, %u failed\n", passed, batches_failed);
	return batches_failed != 0;
}
