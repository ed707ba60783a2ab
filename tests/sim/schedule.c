/*
 * schedule.c - what schedule() picks, in which order, and that nothing is missed by one who goes idle.
 *
 * How many rounds of stealing were made is read off the M's random numbers: one is drawn a round.
 */
#include "tests/sim/white.h"
#include "core/g/g.h"
#include "core/g/names.h"
#include "core/host.h"
#include "core/root.h"
#include "core/sched/idle.h"
#include "core/sched/m.h"
#include "core/sched/netpoll.h"
#include "core/sched/p.h"
#include "core/sched/proc.h"
#include "core/sched/runq.h"
#include "core/sched/timer.h"

#include <string.h>

/* The one that is chosen next is G n; it leaves its M again, and waits. */
static bool next_is(uint32_t n)
{
	struct g *g = schedule();

	if (g != allg(n))
		printf("white: G %u, and not %u\n", g_index(g), n);
	white_leave(g);
	return g == allg(n);
}

static void all_global(uint32_t from, uint32_t to)
{
	for (; from <= to; from++)
		globrunqput(allg(from));
}

/* A goroutine waits for a byte in pipe 0, which has one. */
static void polled(struct g *g)
{
	white_wait(g, WAIT_IO);
	atomic_store(&polldesc(SIM_PIPE_FD(0))->slot[POLL_READ][0], (uint64_t)g_index(g) << 32 | 1);
	sim_pipe_watch(0);
	sim_pipe_put(0);
}

static void timed(struct p *p, struct g *g, int64_t when)
{
	white_wait(g, WAIT_SLEEP);
	g->wake_at = when;
	timer_add(p, when, g, 1);
}

/* ---- the order ---- */

static bool one_in_61_comes_from_the_global_queue_first(void)
{
	struct p *p;

	white_begin(1, 400);
	p = white_p(0, 1);
	for (uint32_t i = 1; i <= 200; i++)
		runqput(p, allg(i), false);
	all_global(201, 210);
	for (uint32_t tick = 0, local = 1, global = 201; tick < 200; tick++) {
		uint32_t want = tick % 61 == 0 ? global++ : local++;

		MUST(atomic_load(&p->schedtick) == tick);
		MUST(next_is(want));
	}
	return true;
}

/* A goroutine that inherits its waker's time slice counts as no tick. */
static bool the_next_one_inherits_the_tick(void)
{
	struct p *p;

	white_begin(1, 10);
	p = white_p(0, 1);
	atomic_store(&p->schedtick, 5);
	runqput(p, allg(1), false);
	runqput(p, allg(2), true);
	MUST(next_is(2));
	MUST(atomic_load(&p->schedtick) == 5);
	MUST(next_is(1));
	MUST(atomic_load(&p->schedtick) == 6);
	return true;
}

/* Something in every place there is. */
static bool each_place_in_its_turn(void)
{
	struct p *p, *other;

	white_begin(2, 32);
	p = white_p(0, 1);
	other = white_p(1, 2);
	atomic_store(&p->schedtick, 61);
	runqput(p, allg(2), false);
	runqput(p, allg(3), false);
	runqput(p, allg(1), true);
	all_global(4, 8);
	polled(allg(9));
	getm = allm(2);
	runqput(other, allg(10), false);
	runqput(other, allg(11), true);
	getm = allm(1);
	timed(other, allg(12), host_now());
	MUST(next_is(4)); /* the 61st tick: one of the global queue */
	MUST(runqlen(p) == 3);
	MUST(next_is(1)); /* runnext */
	MUST(next_is(2)); /* the ring */
	MUST(next_is(3));
	MUST(next_is(5)); /* its share of the global queue with 2 Ps: 4, and one more */
	MUST(runqlen(p) == 2);
	MUST(next_is(6) && next_is(7) && next_is(8));
	MUST(next_is(9));  /* the net */
	MUST(next_is(10)); /* another one's ring */
	MUST(next_is(12)); /* its timers */
	MUST(next_is(11)); /* and runnext last */
	return true;
}

/* Its own timers come first: a sleeper that is due goes to the tail of the ring. */
static bool own_timers_are_run_before_the_queues(void)
{
	struct p *p;

	white_begin(1, 8);
	p = white_p(0, 1);
	atomic_store(&p->schedtick, 1);
	runqput(p, allg(1), false);
	globrunqput(allg(2));
	timed(p, allg(3), host_now());
	timed(p, allg(4), host_now() + 1000000);
	MUST(next_is(1));
	MUST(next_is(3));
	MUST(next_is(2));
	return true;
}

/* ---- batches ---- */

static bool a_batch_is_a_share_and_not_more_than_half_a_ring(void)
{
	static const struct {
		unsigned procs;
		uint32_t queued, taken;
	} batch[] = {{1, 10, 10}, {2, 10, 6}, {4, 10, 3}, {8, 4, 1}, {1, 400, 128}, {2, 400, 128}, {4, 400, 101}};

	for (unsigned i = 0; i < sizeof batch / sizeof *batch; i++) {
		struct p *p;

		white_begin(batch[i].procs, 400);
		p = white_p(0, 1);
		atomic_store(&p->schedtick, 1);
		all_global(1, batch[i].queued);
		MUST(next_is(1));
		MUST(runqlen(p) == batch[i].taken - 1);
		MUST(atomic_load(&sched.grunq_tail) - atomic_load(&sched.grunq_head) ==
		     batch[i].queued - batch[i].taken);
	}
	return true;
}

/* ---- stealing ---- */

static unsigned rounds(uint64_t rng)
{
	for (unsigned n = 0; n < 1000; n++) {
		if (rng == getm->rng)
			return n;
		rng ^= rng << 13;
		rng ^= rng >> 7;
		rng ^= rng << 17;
	}
	return 1000;
}

enum { RING, NEXT, LEFT, TIMER };
#define RIPE_NS 3000

static bool found_in_round(int where, unsigned round)
{
	struct p *other;
	uint64_t rng;
	int64_t began;

	white_begin(4, 8);
	white_p(0, 1);
	atomic_store(&allp(0)->schedtick, 1);
	other = white_p(2, 2);
	getm = allm(2);
	if (where == TIMER)
		timed(other, allg(1), host_now());
	else
		runqput(other, allg(1), where == NEXT || where == LEFT);
	if (where == LEFT)
		atomic_store(&other->status, P_IDLE);
	getm = allm(1);
	rng = getm->rng;
	began = host_now();
	MUST(next_is(1));
	MUST(round ? rounds(rng) == round : rounds(rng) > STEAL_ROUNDS && rounds(rng) % STEAL_ROUNDS == 0);
	MUST(getp() == allp(0));
	MUST(where == NEXT ? host_now() - began >= RIPE_NS : host_now() - began < RIPE_NS);
	return true;
}

static bool a_ring_is_robbed_in_the_first_round(void)
{
	return found_in_round(RING, 1);
}

static bool what_another_is_to_run_next_is_taken_when_it_has_stood_there_for_a_while(void)
{
	return found_in_round(NEXT, 0);
}

static bool what_nobody_is_there_to_run_next_is_taken_in_the_fourth(void)
{
	return found_in_round(LEFT, 4);
}

static bool anothers_timers_are_run_in_the_fourth(void)
{
	return found_in_round(TIMER, 4);
}

static bool half_is_taken(void)
{
	struct p *other;

	white_begin(2, 16);
	white_p(0, 1);
	atomic_store(&allp(0)->schedtick, 1);
	other = white_p(1, 2);
	getm = allm(2);
	for (uint32_t i = 1; i <= 9; i++)
		runqput(other, allg(i), false);
	getm = allm(1);
	MUST(next_is(5)); /* the last of its catch first, as in Go */
	MUST(runqlen(allp(0)) == 4 && runqlen(other) == 4);
	MUST(next_is(1) && next_is(2) && next_is(3) && next_is(4));
	return true;
}

/* ---- going idle ---- */

static struct {
	unsigned at, passed; /* work comes at the at-th point of the way down */
	int where;
	bool there, lost;
} work;

/* Another worker makes work as all do: into a queue, then wakep. */
static void make_work(void)
{
	struct m *us = getm;

	work.there = true;
	getm = allm(2);
	if (work.where == RING)
		runqput(getp(), allg(1), false);
	else if (work.where == NEXT)
		runqput(getp(), allg(1), true);
	else
		globrunqput(allg(1));
	wakep();
	getm = us;
}

static bool given(int seat)
{
	for (unsigned i = 0; i < P_MAX; i++)
		if (atomic_load(&allp(i)->m) == P_GIVEN + seat)
			return true;
	return false;
}

static void on_the_way_down(const char *point)
{
	void (*me)(const char *) = sim_probe;

	if (work.there) {
		if (!strcmp(point, "host.idle") && !given(1))
			work.lost = true;
		if (work.lost) /* it would sleep for ever; the test notes that and continues */
			wakep();
		return;
	}
	if (++work.passed < work.at && strcmp(point, "host.idle"))
		return;
	sim_probe = NULL;
	make_work();
	sim_probe = me;
}

/* The lost wake-up: at each point of the way from the last look to sleep, another worker makes work. */
static bool work_is_seen_whenever_it_comes(void)
{
	unsigned points = 0;

	for (int where = RING; where <= TIMER; where++) { /* TIMER: the global queue here */
		for (unsigned at = 1;; at++) {
			white_begin(2, 8);
			white_p(0, 1);
			white_p(1, 2);
			atomic_store(&allp(0)->schedtick, 1);
			memset(&work, 0, sizeof work);
			work.at = at;
			work.where = where;
			sim_probe = on_the_way_down;
			MUST(next_is(1));
			sim_probe = NULL;
			MUST(!work.lost);
			MUST(getp());
			if (work.passed < at) /* it had come to its sleep before */
				break;
			points = at > points ? at : points;
		}
	}
	MUST(points >= 8);
	return true;
}

static bool gave_up;

static void at_the_barrier(const char *point)
{
	gave_up |= !strcmp(point, "m.stop.blocked");
	if (work.there || strcmp(point, "host.barrier"))
		return;
	work.there = true;
	sim_probe = NULL;
	make_work();
	sim_probe = at_the_barrier;
}

/* The last check before sleep: the P is released, and the worker searches once more. */
static bool another_look_is_taken_before_it_lies_down(void)
{
	white_begin(2, 8);
	white_p(0, 1);
	white_p(1, 2);
	atomic_store(&allp(0)->schedtick, 1);
	memset(&work, 0, sizeof work);
	gave_up = false;
	sim_probe = at_the_barrier;
	MUST(next_is(1));
	MUST(work.there && !gave_up);
	return true;
}

static unsigned slept;

static void count_sleeps(const char *point)
{
	slept += !strcmp(point, "host.idle");
	if (slept > 3)
		sim_fail("it sleeps on past its timer");
}

/* Nothing but a timer of another P: it sleeps until then, takes an idle P, and the timer is run. */
static bool an_idle_one_wakes_for_the_next_timer(void)
{
	int64_t when;

	white_begin(2, 8);
	white_p(0, 1);
	atomic_store(&allp(0)->schedtick, 1);
	when = host_now() + 50000000;
	timed(allp(1), allg(1), when);
	slept = 0;
	sim_probe = count_sleeps;
	MUST(next_is(1));
	MUST(slept == 1);
	MUST(host_now() >= when && host_now() < when + 1000000);
	return true;
}

static uint64_t rng_at_sleep;

static void wake_from_sleep(const char *point)
{
	if (strcmp(point, "host.idle"))
		return;
	rng_at_sleep = getm->rng;
	sim_probe = NULL;
	make_work();
}

/* Of four busy workers one more may search beside a spinning one; beside two it sleeps at once. */
static bool not_more_than_half_of_the_busy_search(void)
{
	for (unsigned others = 0; others < 3; others++) {
		uint64_t rng;

		white_begin(4, 8);
		for (unsigned i = 0; i < 4; i++)
			white_p(i, (int)i + 1);
		atomic_store(&allp(0)->schedtick, 1);
		atomic_store(&sched.mspinning, others == 0 ? 0 : others == 1 ? MBIT(3) : MBIT(3) | MBIT(4));
		memset(&work, 0, sizeof work);
		work.where = RING;
		rng_at_sleep = 0;
		rng = getm->rng;
		sim_probe = wake_from_sleep;
		MUST(next_is(1));
		MUST((rng_at_sleep != rng) == (others < 2));
	}
	return true;
}

unsigned schedule_tests(void)
{
	return WHITE_RUN("schedule", one_in_61_comes_from_the_global_queue_first, the_next_one_inherits_the_tick,
			 each_place_in_its_turn, own_timers_are_run_before_the_queues,
			 a_batch_is_a_share_and_not_more_than_half_a_ring, a_ring_is_robbed_in_the_first_round,
			 what_another_is_to_run_next_is_taken_when_it_has_stood_there_for_a_while,
			 what_nobody_is_there_to_run_next_is_taken_in_the_fourth, anothers_timers_are_run_in_the_fourth,
			 half_is_taken, work_is_seen_whenever_it_comes, another_look_is_taken_before_it_lies_down,
			 an_idle_one_wakes_for_the_next_timer, not_more_than_half_of_the_busy_search);
}
