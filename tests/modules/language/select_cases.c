/*
 * select_cases.c [killed] - select: what Go's own tests ask of it.
 */
#include "tests/modules/language/cases.h"

static struct shoal_chan *c[4];
static atomic_int seen[8192], count;

static void fresh(size_t cap0, size_t cap1, size_t cap2, size_t cap3)
{
	size_t cap[4] = {cap0, cap1, cap2, cap3};

	for (int i = 0; i < 4; i++)
		c[i] = shoal_chan_new(sizeof(int), cap[i]);
	memset(seen, 0, sizeof seen);
	atomic_store(&count, 0);
}

static void no_case(void)
{
	struct shoal_case nil[2] = {{SHOAL_RECV, NULL, NULL, 0}, {SHOAL_SEND, NULL, NULL, 0}};
	int64_t from = shoal_now();

	MUST(shoal_select(NULL, 0, 0) == -EAGAIN);
	MUST(shoal_select(NULL, 0, 5 * MS) == -ETIMEDOUT && shoal_now() - from >= 5 * MS);
	MUST(shoal_select(nil, 2, 0) == -EAGAIN && shoal_select(nil, 2, MS) == -ETIMEDOUT);
	fresh(0, 1, 0, 0);
	nil[0].chan = c[0];
	MUST(shoal_select(nil, 1, 0) == -EAGAIN && shoal_select(nil, 2, MS) == -ETIMEDOUT);
}

static void closed(void)
{
	int v = 5, r;
	struct shoal_case k[2] = {{SHOAL_RECV, NULL, &v, 9}, {SHOAL_SEND, NULL, &v, 9}};

	fresh(0, 0, 0, 0);
	shoal_close(c[0]);
	shoal_close(c[1]);
	k[0].chan = c[0];
	r = shoal_select(k, 2, SHOAL_FOREVER);
	MUST(r == 0 && k[0].result == 0 && v == 0);
	k[0].chan = c[2];
	k[1].chan = c[1];
	r = shoal_select(k, 2, SHOAL_FOREVER);
	MUST(r == 1 && k[1].result == -EPIPE);
}

/* Go's TestNonblockSelectRace: one of two is always ready, so it is never found otherwise. */
static void looks_once(void *arg)
{
	int v;
	struct shoal_case k[2] = {{SHOAL_RECV, c[0], &v, 0}, {SHOAL_RECV, c[1], &v, 0}};

	(void)arg;
	MUST(shoal_select(k, 2, 0) >= 0);
}

static void one_moment(void)
{
	for (int i = 0; i < (cases_killed ? 100 : 5000); i++) {
		int v = 1;

		fresh(1, 1, 0, 0);
		MUST(shoal_send(c[0], &v) == 0);
		spawn(looks_once, NULL, 0);
		MUST(shoal_send(c[1], &v) == 0);
		MUST(shoal_recv_timed(c[0], &v, 0) != 0);
		finish();
		for (int k = 0; k < 4; k++)
			shoal_chan_free(c[k]);
	}
}

/* Go's TestNonblockSelectRace2: the same with a close. */
static void one_moment_closed(void)
{
	for (int i = 0; i < (cases_killed ? 100 : 5000); i++) {
		int v = 1;

		fresh(1, 0, 0, 0);
		MUST(shoal_send(c[0], &v) == 0);
		spawn(looks_once, NULL, 0);
		MUST(shoal_close(c[1]) == 0);
		MUST(shoal_recv_timed(c[0], &v, 0) != 0);
		finish();
		for (int k = 0; k < 4; k++)
			shoal_chan_free(c[k]);
	}
}

/* Go's TestSelfSelect: both directions of one channel; a goroutine never receives its own value. */
static void selects_itself(void *arg)
{
	int me = *(int *)arg;

	for (int i = 0; i < 1000; i++) {
		int out = me, in = -1, r;
		struct shoal_case k[2] = {{SHOAL_SEND, c[0], &out, 0}, {SHOAL_RECV, c[0], &in, 0}};
		struct shoal_case swapped[2] = {k[1], k[0]}, *use = i % 2 ? k : swapped;

		if (me == 0)
			r = shoal_select(k, 2, 200 * MS), use = k;
		else
			r = shoal_select(use, 2, 200 * MS);
		if (r < 0)
			return;
		if (use[r].op == SHOAL_RECV)
			MUST(shoal_chan_cap(c[0]) || in == 1 - me);
	}
}

static void self_select(void)
{
	for (size_t cap = 0; cap <= 10; cap += 10) {
		fresh(cap, 0, 0, 0);
		spawn_n(selects_itself, 2);
		finish();
	}
}

/* Go's TestSelectStress: plain operations and selects of four, on the same channels. */
#define ROUNDS 300
static void sends_plainly(void *arg)
{
	for (int i = 0; i < ROUNDS; i++)
		if (shoal_send(c[*(int *)arg], &i) != 0)
			return;
	atomic_fetch_add(&count, 1);
}

static void receives_plainly(void *arg)
{
	int v;

	for (int i = 0; i < ROUNDS; i++)
		if (shoal_recv(c[*(int *)arg], &v) != 1)
			return;
	atomic_fetch_add(&count, 1);
}

static void four_ways(int op)
{
	int left[4] = {ROUNDS, ROUNDS, ROUNDS, ROUNDS}, v = 0;
	struct shoal_case k[4];

	for (int n = 0; n < 4 * ROUNDS; n++) {
		int r;

		for (int i = 0; i < 4; i++)
			k[i] = (struct shoal_case){op, left[i] ? c[i] : NULL, &v, 0};
		r = shoal_select(k, 4, SHOAL_FOREVER);
		if (r < 0) {
			MUST(r == -ECANCELED);
			return;
		}
		MUST(left[r] > 0 && k[r].result == (op == SHOAL_RECV));
		left[r]--;
	}
	atomic_fetch_add(&count, 1);
}

static void sends_four(void *arg)
{
	(void)arg;
	four_ways(SHOAL_SEND);
}

static void receives_four(void *arg)
{
	(void)arg;
	four_ways(SHOAL_RECV);
}

static void stress(void)
{
	fresh(0, 0, 2, 3);
	spawn_n(sends_plainly, 4);
	spawn_n(receives_plainly, 4);
	spawn(sends_four, NULL, 0);
	spawn(receives_four, NULL, 0);
	finish();
	WANT(atomic_load(&count) == 10);
}

/* Go's TestSelectFairness: two of four are always ready, each gets its half. */
static void fairness(void)
{
	int got[4] = {0}, v = 0, diff;
	struct shoal_case k[4];

	fresh(0, 0, 0, 0);
	shoal_close(c[0]);
	shoal_close(c[1]);
	for (int i = 0; i < 4; i++)
		k[i] = (struct shoal_case){SHOAL_RECV, c[i], &v, 0};
	for (int i = 0; i < 10000; i++) {
		int r = shoal_select(k, 4, SHOAL_FOREVER);

		MUST(r == 0 || r == 1);
		got[r & 3]++;
	}
	diff = got[0] - 5000;
	MUST(diff > -500 && diff < 500); /* ten standard deviations */
}

/* Go's TestPseudoRandomSend. */
static void takes_bits(void *arg)
{
	int v, zeros = 0, n = 0;

	(void)arg;
	for (; n < 1000 && shoal_recv_timed(c[0], &v, 200 * MS) == 1; n++)
		zeros += v == 0;
	WANT(n == 1000);
	MUST(n < 1000 || (zeros > 100 && zeros < 900));
}

static void random_send(void)
{
	for (size_t cap = 0; cap < 3; cap++) {
		int zero = 0, one = 1;
		struct shoal_case k[2];

		fresh(cap, 0, 0, 0);
		k[0] = (struct shoal_case){SHOAL_SEND, c[0], &zero, 0};
		k[1] = (struct shoal_case){SHOAL_SEND, c[0], &one, 0};
		spawn(takes_bits, NULL, 0);
		for (int i = 0; i < 1000; i++)
			if (shoal_select(k, 2, cases_killed ? 50 * MS : SHOAL_FOREVER) < 0)
				break;
		finish();
	}
}

/* Go's TestSelectDuplicateChannel: a waiter behind a select that has the channel twice is woken. */
static void has_it_twice(void *arg)
{
	int v;
	struct shoal_case k[3] = {{SHOAL_RECV, c[0], &v, 0}, {SHOAL_RECV, c[0], &v, 0}, {SHOAL_RECV, c[1], &v, 0}};
	int r = shoal_select(k, 3, SHOAL_FOREVER);

	(void)arg;
	MUST(r >= 0 || r == -ECANCELED);
	atomic_fetch_add(&count, r >= 0);
}

static void receives_second(void *arg)
{
	int v, r = shoal_recv(c[0], &v);

	(void)arg;
	atomic_fetch_add(&count, r == 1);
}

static void duplicates(void)
{
	int v = 1;

	fresh(0, 0, 0, 0);
	spawn(has_it_twice, NULL, 0);
	shoal_sleep(2 * MS);
	spawn(receives_second, NULL, 0);
	shoal_sleep(2 * MS);
	MUST(shoal_send_timed(c[1], &v, cases_killed ? 20 * MS : SHOAL_FOREVER) == 0 || cases_killed);
	MUST(shoal_send_timed(c[0], &v, cases_killed ? 20 * MS : SHOAL_FOREVER) == 0 || cases_killed);
	finish();
	WANT(atomic_load(&count) == 2);
}

/* Many cases, values of all sizes, and each value once. */
#define WIDE 300
static struct shoal_chan *wide[WIDE];
struct thing {
	long n, pad[9];
};

static void sends_wide(void *arg)
{
	int me = *(int *)arg;

	for (int i = me; i < WIDE; i += 4) {
		struct thing t = {i, {i + 1, i + 2}};

		if (shoal_send(wide[(i * 7) % WIDE], &t) != 0)
			return;
	}
}

static void receives_wide(void *arg)
{
	static struct shoal_case k[WIDE];
	struct thing t;

	(void)arg;
	while (atomic_load(&count) < WIDE) {
		int r;

		for (int i = 0; i < WIDE; i++)
			k[i] = (struct shoal_case){SHOAL_RECV, wide[i], &t, 0};
		r = shoal_select(k, WIDE, 200 * MS);
		if (r < 0)
			return;
		MUST(k[r].result == 1 && t.pad[0] == t.n + 1 && t.pad[1] == t.n + 2);
		MUST(atomic_fetch_add(&seen[t.n], 1) == 0);
		atomic_fetch_add(&count, 1);
	}
}

static void wide_select(void)
{
	fresh(0, 0, 0, 0);
	for (int i = 0; i < WIDE; i++)
		wide[i] = shoal_chan_new(sizeof(struct thing), (size_t)i % 2);
	spawn(receives_wide, NULL, 0);
	spawn_n(sends_wide, 4);
	finish();
	WANT(atomic_load(&count) == WIDE);
}

static void select_cancelled(void *arg)
{
	int v;
	struct shoal_case k[2] = {{SHOAL_RECV, c[0], &v, 0}, {SHOAL_RECV, c[1], &v, 0}};

	(void)arg;
	MUST(shoal_select(k, 2, SHOAL_FOREVER) == -ECANCELED);
	MUST(shoal_select(k, 2, SHOAL_FOREVER) == -ECANCELED && shoal_select(k, 2, 0) == -EAGAIN);
	atomic_fetch_add(&count, 1);
}

static void cancelled(void)
{
	int v = 1;

	fresh(0, 0, 0, 0);
	spawn(select_cancelled, NULL, 0);
	shoal_sleep(MS);
	MUST(shoal_cancel(group[0]) == 0);
	shoal_join(group[0], NULL);
	MUST(atomic_load(&count) == 1 || cases_killed);
	MUST(shoal_send_timed(c[0], &v, 0) == -EAGAIN); /* it is in no queue any more */
	group_n = 0;
	atomic_store(&group_left, 0);
}

int shoal_main(int argc, char **argv)
{
	cases_begin(argc, argv);
	RUN(no_case);
	RUN(closed);
	RUN(one_moment);
	RUN(one_moment_closed);
	RUN(self_select);
	RUN(stress);
	RUN(fairness);
	RUN(random_send);
	RUN(duplicates);
	RUN(wide_select);
	RUN(cancelled);
	return cases_failed;
}
