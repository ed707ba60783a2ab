/*
 * chan_cases.c [killed] - channels: what Go's own tests ask of them.
 */
#include "tests/modules/language/cases.h"

static struct shoal_chan *c, *c2;
static atomic_int seen[4096], count, flag;
static atomic_long sum;

static void fresh(size_t elem, size_t cap)
{
	c = shoal_chan_new(elem, cap);
	MUST(c);
	memset(seen, 0, sizeof seen);
	atomic_store(&count, 0);
	atomic_store(&flag, 0);
	atomic_store(&sum, 0);
}

/* A receive from an empty channel and a send to a full one block; without waiting they say so. */
static void receive_one(void *arg)
{
	int v = 0, r = shoal_recv(c, &v);

	(void)arg;
	MUST(r == 1 || r == -ECANCELED);
	if (r == 1)
		atomic_store(&flag, v);
}

static void send_one(void *arg)
{
	int r = shoal_send(c, arg);

	MUST(r == 0 || r == -ECANCELED);
	if (r == 0)
		atomic_fetch_add(&flag, 1);
}

static void blocks(void)
{
	for (size_t cap = 0; cap < 20; cap++) {
		int v = 7;

		fresh(sizeof v, cap);
		MUST(shoal_recv_timed(c, &v, 0) == -EAGAIN);
		MUST(shoal_recv_timed(c, &v, MS / 10) == -ETIMEDOUT);
		spawn(receive_one, NULL, 0);
		shoal_sleep(MS / 5);
		MUST(atomic_load(&flag) == 0);
		MUST(shoal_send_timed(c, &v, cases_killed ? MS * 20 : SHOAL_FOREVER) == 0 || cases_killed);
		finish();
		WANT(atomic_load(&flag) == 7);
		while (shoal_recv_timed(c, NULL, 0) == 1) /* of one who was lost */
			;
		for (size_t i = 0; i < cap; i++)
			MUST(shoal_send_timed(c, &v, 0) == 0);
		MUST(shoal_chan_len(c) == cap && shoal_chan_cap(c) == cap);
		MUST(shoal_send_timed(c, &v, 0) == -EAGAIN);
		MUST(shoal_send_timed(c, &v, MS / 10) == -ETIMEDOUT);
		atomic_store(&flag, 0);
		spawn(send_one, &v, sizeof v);
		shoal_sleep(MS / 5);
		MUST(atomic_load(&flag) == 0);
		MUST(shoal_recv_timed(c, &v, cases_killed ? MS * 20 : SHOAL_FOREVER) == 1 || cases_killed);
		finish();
		WANT(atomic_load(&flag) == 1);
	}
}

/* A closed channel delivers its values, then zeros; waiters are woken. */
static void receive_closed(void *arg)
{
	int v = 5, r = shoal_recv(c, &v);

	(void)arg;
	MUST((r == 0 && v == 0) || r == -ECANCELED);
}

static void closes(void)
{
	for (size_t cap = 0; cap < 20; cap++) {
		int v = 9;

		fresh(sizeof v, cap);
		for (size_t i = 0; i < cap; i++)
			MUST(shoal_send(c, &v) == 0);
		MUST(shoal_close(c) == 0 && shoal_close(c) == -EPIPE);
		MUST(shoal_send(c, &v) == -EPIPE && shoal_send_timed(c, &v, 0) == -EPIPE);
		for (size_t i = 0; i < cap; i++) {
			v = 0;
			MUST(shoal_recv(c, &v) == 1 && v == 9);
		}
		for (int i = 0; i < 3; i++) {
			v = 3;
			MUST(shoal_recv(c, &v) == 0 && v == 0);
			MUST(shoal_recv_timed(c, &v, 0) == 0);
		}
		shoal_chan_free(c);
		fresh(sizeof v, cap);
		spawn(receive_closed, NULL, 0);
		spawn(receive_closed, NULL, 0);
		shoal_sleep(MS / 5);
		MUST(shoal_close(c) == 0);
		finish();
		shoal_chan_free(c);
	}
}

/* In order. */
static void sends_in_order(void *arg)
{
	(void)arg;
	for (int i = 0; i < 100; i++)
		if (shoal_send(c, &i) != 0)
			return;
}

static void receives_in_order(void *arg)
{
	int v, last = -1;

	(void)arg;
	for (int i = 0; i < 100 && shoal_recv(c, &v) == 1; i++) {
		MUST(v > last);
		WANT(cases_killed || v == i);
		last = v;
	}
}

static void in_order(void)
{
	for (size_t cap = 0; cap < 200; cap = cap * 2 + 1) {
		fresh(sizeof(int), cap);
		spawn(sends_in_order, NULL, 0);
		spawn(receives_in_order, NULL, 0);
		finish();
	}
}

/* Four senders, four receivers: each value once. */
static void sends_thousand(void *arg)
{
	int me = *(int *)arg;

	for (int i = 0; i < 1000; i++) {
		int v = me * 1000 + i;

		if (shoal_send(c, &v) != 0)
			return;
		atomic_fetch_add(&count, 1);
	}
}

static void receives_all(void *arg)
{
	int v;

	(void)arg;
	while (shoal_recv_timed(c, &v, 100 * MS) == 1) {
		MUST(v >= 0 && v < 4000);
		MUST(atomic_fetch_add(&seen[v], 1) == 0);
		atomic_fetch_add(&sum, 1);
	}
}

static void many_to_many(void)
{
	for (size_t cap = 0; cap < 200; cap += 66) {
		fresh(sizeof(int), cap);
		spawn_n(receives_all, 4);
		spawn_n(sends_thousand, 4);
		finish();
		WANT(atomic_load(&sum) == 4000 && atomic_load(&count) == 4000);
	}
}

/* Values that are too large for the sudog's own space are never torn. */
struct large {
	long n, pad[40];
};

static void sends_large(void *arg)
{
	struct large v;

	for (long i = 0; i < 200; i++) {
		v.n = *(int *)arg * 1000 + i;
		for (int k = 0; k < 40; k++)
			v.pad[k] = v.n * (k + 1);
		if (shoal_send(c, &v) != 0)
			return;
	}
}

static void receives_large(void *arg)
{
	struct large v;

	(void)arg;
	while (shoal_recv_timed(c, &v, 100 * MS) == 1) {
		for (int k = 0; k < 40; k++)
			MUST(v.pad[k] == v.n * (k + 1));
		MUST(atomic_fetch_add(&seen[v.n], 1) == 0);
		atomic_fetch_add(&count, 1);
	}
}

static void large_values(void)
{
	for (size_t cap = 0; cap < 3; cap++) {
		fresh(sizeof(struct large), cap);
		spawn_n(receives_large, 2);
		spawn_n(sends_large, 3);
		finish();
		WANT(atomic_load(&count) == 600);
	}
}

static void sends_nothing(void *arg)
{
	(void)arg;
	for (int i = 0; i < 100 && shoal_send(c, NULL) == 0; i++)
		;
}

static void receives_nothing(void *arg)
{
	(void)arg;
	while (shoal_recv_timed(c, NULL, 100 * MS) == 1)
		atomic_fetch_add(&count, 1);
}

static void no_size(void)
{
	fresh(0, 3);
	spawn_n(sends_nothing, 2);
	spawn_n(receives_nothing, 2);
	finish();
	WANT(atomic_load(&count) == 200);
}

/* Go's TestNonblockRecvRace: a value in the buffer is received although the channel is being closed. */
static void closer(void *arg)
{
	(void)arg;
	shoal_close(c);
}

static void receive_race(void)
{
	for (int i = 0; i < (cases_killed ? 100 : 2000); i++) {
		int v = 1;

		fresh(sizeof v, 1);
		MUST(shoal_send(c, &v) == 0);
		spawn(closer, NULL, 0);
		MUST(shoal_recv_timed(c, &v, 0) == 1);
		finish();
		shoal_chan_free(c);
	}
}

/* Go's TestMultiConsumer: each value comes out at the other end, through 23 goroutines. */
static void consumer(void *arg)
{
	int v, me = *(int *)arg;

	while (shoal_recv_timed(c, &v, 200 * MS) == 1) {
		if (v % 11 == me % 11)
			shoal_yield();
		if (shoal_send(c2, &v) != 0)
			return;
	}
}

static void feeds(void *arg)
{
	(void)arg;
	for (int i = 0; i < 2718; i++) {
		int v = i;

		if (shoal_send(c, &v) != 0)
			return;
		atomic_fetch_add(&sum, v);
	}
}

static void collects(void *arg)
{
	int v;

	(void)arg;
	while (atomic_load(&count) < 2718 && shoal_recv_timed(c2, &v, 200 * MS) == 1) {
		MUST(atomic_fetch_add(&seen[v], 1) == 0);
		atomic_fetch_sub(&sum, v);
		atomic_fetch_add(&count, 1);
	}
}

static void multi_consumer(void)
{
	fresh(sizeof(int), 23);
	c2 = shoal_chan_new(sizeof(int), 69);
	spawn_n(consumer, 23);
	spawn(feeds, NULL, 0);
	spawn(collects, NULL, 0);
	finish();
	WANT(atomic_load(&count) == 2718 && atomic_load(&sum) == 0);
}

/* Go's chanbarrier: a request carries the channel for its reply. */
struct request {
	struct shoal_chan *reply;
	long v;
};

static void asks(void *arg)
{
	struct request q = {shoal_chan_new(sizeof(long), 0), 0};
	long got;

	for (int i = 0; i < 100; i++) {
		q.v = *(int *)arg * 1000 + i;
		if (shoal_send(c, &q) != 0 || shoal_recv(q.reply, &got) != 1)
			return;
		MUST(got == q.v * 3);
	}
	atomic_fetch_add(&count, 1);
}

static void answers(void *arg)
{
	struct request q;

	(void)arg;
	while (atomic_load(&count) < 20) {
		int r = shoal_recv_timed(c, &q, 50 * MS);
		long v = q.v * 3;

		if (r == -ECANCELED)
			return;
		if (r == 1 && shoal_send(q.reply, &v) != 0)
			return;
	}
}

static void request_reply(void)
{
	fresh(sizeof(struct request), 0);
	spawn(answers, NULL, 0);
	spawn_n(asks, 20);
	finish();
	WANT(atomic_load(&count) == 20);
}

static shoal_gid sleeper;

static void sleeps(void *arg)
{
	(void)arg;
	MUST(shoal_sleep(SHOAL_FOREVER) == -ECANCELED);
}

/* A NULL channel blocks for ever; a cancellation ends that, and any other wait. */
static void waits_cancelled(void *arg)
{
	int v = 0, r = -1;

	switch (*(int *)arg) {
	case 0: r = shoal_recv(NULL, &v); break;
	case 1: r = shoal_send(NULL, &v); break;
	case 2: r = shoal_recv(c, &v); break;
	case 3: r = shoal_send(c, &r); break;
	case 4: r = shoal_sleep(SHOAL_FOREVER); break;
	case 5: r = shoal_join(sleeper, NULL); break;
	}
	MUST(r == -ECANCELED);
	MUST(shoal_sleep(1000 * MS) == -ECANCELED && shoal_recv(c, &v) == -ECANCELED); /* from now on all do */
	MUST(shoal_recv_timed(c, &v, 0) == -EAGAIN);
	atomic_fetch_add(&count, 1);
}

static void cancelled(void)
{
	struct shoal_end end;

	fresh(sizeof(int), 0);
	MUST(shoal_recv_timed(NULL, NULL, 0) == -EAGAIN && shoal_send_timed(NULL, NULL, MS / 10) == -ETIMEDOUT);
	spawn(sleeps, NULL, 0);
	sleeper = group[0];
	for (int i = 0; i < 6; i++) {
		spawn(waits_cancelled, &i, sizeof i);
		shoal_sleep(MS / 2);
		MUST(shoal_cancel(group[group_n - 1]) == 0);
		MUST(shoal_join(group[group_n - 1], &end) == 0);
		MUST(end.how == SHOAL_CANCELLED || (end.how == SHOAL_LOST && cases_killed));
	}
	MUST(shoal_cancel(1ull << 62) == -ESRCH);
	MUST(shoal_cancel(sleeper) == 0 && shoal_join(sleeper, NULL) == 0 && shoal_cancel(sleeper) == 0);
	MUST(atomic_load(&count) == 6 || cases_killed);
	group_n = 0;
	atomic_store(&group_left, 0);
}

int shoal_main(int argc, char **argv)
{
	cases_begin(argc, argv);
	RUN(blocks);
	RUN(closes);
	RUN(in_order);
	RUN(many_to_many);
	RUN(large_values);
	RUN(no_size);
	RUN(receive_race);
	RUN(multi_consumer);
	RUN(request_reply);
	RUN(cancelled);
	return cases_failed;
}
