/*
 * time_cases.c [killed] - sleeping and timeouts: what Go's own tests ask of timers.
 */
#include "tests/modules/language/cases.h"

static struct shoal_chan *c;
static atomic_int order[64], next_in_order, stop;
static atomic_long turns;

static void fresh(void)
{
	c = shoal_chan_new(sizeof(int), 0);
	atomic_store(&next_in_order, 0);
	atomic_store(&stop, 0);
	atomic_store(&turns, 0);
}

/* Go's TestSleep: at least as long. */
static void sleeps_enough(void *arg)
{
	int64_t ns = (*(int *)arg % 7) * MS + 1, from = shoal_now();

	MUST(shoal_sleep(ns) == 0 || cases_killed);
	MUST(shoal_now() - from >= ns || cases_killed);
}

static void sleep_long_enough(void)
{
	int64_t from = shoal_now();

	MUST(shoal_sleep(0) == 0);
	spawn_n(sleeps_enough, 100);
	finish();
	WANT(shoal_now() - from < 2000 * MS);
}

/* Go's TestAfterQueuing: in the order of their times, whatever the order of their starts. */
static void sleeps_slot(void *arg)
{
	int slot = *(int *)arg;

	if (shoal_sleep((slot + 1) * 8 * MS) == 0)
		atomic_store(&order[atomic_fetch_add(&next_in_order, 1)], slot);
}

static void in_order(void)
{
	static const int slots[] = {5, 3, 6, 6, 6, 1, 1, 2, 7, 9, 4, 8, 0};
	int n = sizeof slots / sizeof *slots, last = -1;

	fresh();
	for (int i = 0; i < n; i++)
		spawn(sleeps_slot, &slots[i], sizeof slots[i]);
	finish();
	WANT(atomic_load(&next_in_order) == n);
	for (int i = 0; i < atomic_load(&next_in_order); i++) {
		WANT(atomic_load(&order[i]) >= last);
		last = atomic_load(&order[i]);
	}
}

/* Go's TestTimerFairness: two that never pause do not keep a timer from being seen. */
static void sends_on(void *arg)
{
	int v = 1;

	(void)arg;
	while (!atomic_load(&stop) && shoal_send_timed(c, &v, 200 * MS) == 0)
		atomic_fetch_add(&turns, 1);
}

static void receives_on(void *arg)
{
	int v;

	(void)arg;
	while (!atomic_load(&stop) && shoal_recv_timed(c, &v, 200 * MS) == 1)
		;
}

static void fairness(void)
{
	int64_t from;

	fresh();
	spawn(sends_on, NULL, 0);
	spawn(receives_on, NULL, 0);
	from = shoal_now();
	shoal_sleep(20 * MS);
	WANT(shoal_now() - from < 500 * MS);
	WANT(atomic_load(&turns) > 100);
	atomic_store(&stop, 1);
	finish();
}

/* A timeout that is not needed does no harm later, and one that comes late finds the value there. */
static void answers_late(void *arg)
{
	int v = *(int *)arg;

	shoal_sleep(v % 3 * MS / 4);
	shoal_send_timed(c, &v, 20 * MS);
}

static void timeouts(void)
{
	int late = 0, right = 0;

	for (int i = 0; i < 100; i++) {
		int v = -1, r;

		fresh();
		spawn(answers_late, &i, sizeof i);
		r = shoal_recv_timed(c, &v, MS / 3);
		MUST(r == 1 || r == -ETIMEDOUT);
		if (r == 1)
			MUST(v == i);
		right += r == 1;
		late += r == -ETIMEDOUT;
		if (r != 1 && shoal_recv_timed(c, &v, 10 * MS) == 1)
			MUST(v == i);
		finish();
		shoal_chan_free(c);
	}
	WANT(right + late == 100 && late > 0);
}

/* Many at once, with the timers of both Ps. */
static void naps(void *arg)
{
	for (int i = 0; i < 10; i++)
		shoal_sleep((1 + (*(int *)arg + i) % 5) * MS / 4);
	atomic_fetch_add(&turns, 1);
}

static void many_sleepers(void)
{
	fresh();
	for (int round = 0; round < 5; round++) {
		spawn_n(naps, 100);
		finish();
	}
	WANT(atomic_load(&turns) == 500);
}

/* The time left until a past time is 0, never "for ever". A value that is ready is received. */
static void past_times(void)
{
	struct shoal_case k = {SHOAL_RECV, NULL, NULL, 0};
	int64_t from = shoal_now();
	int v = 1;

	c = shoal_chan_new(sizeof(int), 1);
	k.chan = c;
	MUST(shoal_sleep(-5) == 0 && shoal_sleep(INT64_MIN) == 0);
	MUST(shoal_recv_timed(c, &v, -1000 * MS) == -ETIMEDOUT);
	MUST(shoal_select(&k, 1, -2) == -ETIMEDOUT && shoal_select(NULL, 0, -2) == -ETIMEDOUT);
	MUST(shoal_send_timed(c, &v, -2) == 0 && shoal_send_timed(c, &v, -2) == -ETIMEDOUT);
	MUST(shoal_recv_timed(c, &v, -2) == 1);
	WANT(shoal_now() - from < 500 * MS);
	shoal_chan_free(c);
}

static void clock_goes_on(void)
{
	int64_t last = shoal_now();

	for (int i = 0; i < 1000; i++) {
		int64_t now = shoal_now();

		MUST(now >= last);
		last = now;
		if (i % 10 == 0)
			shoal_yield();
	}
}

int shoal_main(int argc, char **argv)
{
	cases_begin(argc, argv);
	RUN(sleep_long_enough);
	RUN(in_order);
	RUN(fairness);
	RUN(timeouts);
	RUN(past_times);
	RUN(many_sleepers);
	RUN(clock_goes_on);
	return cases_failed;
}
