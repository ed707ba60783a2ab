/*
 * see/fair.c - who may not starve whom, after Go's own tests: fair.so CASE
 *
 *   progress  one that gives way in a loop of receives that do not wait lets the root send to it
 *   hog       two pairs that play ping-pong, one doing a thousand times more at each turn, on one P:
 *             their totals stay within a factor of 20
 *   timer     two that keep a channel busy do not keep a timer of 20 ms from its goroutine
 *   calls     two hand a flag to each other by spinning with calls of functions, on one P
 *   turns     as many as there are Ps spin in strict turns: they all run at once
 *   crowd     a thousand come to their ends while more spin than there are Ps
 */
#include <shoal.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct shoal_wg wg;
static struct shoal_chan *a, *b;
static atomic_int over, flag;

/* ---- progress ---- */

static void poll_channel(void *arg)
{
	(void)arg;
	while (shoal_recv_timed(a, NULL, 0) != 1)
		shoal_yield();
}

static int progress(void)
{
	a = shoal_chan_new(0, 0);
	shoal_wg_go(&wg, poll_channel, NULL, 0);
	shoal_send(a, NULL);
	shoal_wg_wait(&wg);
	return 0;
}

/* ---- hog ---- */

static struct pair {
	struct shoal_chan *there, *back;
	long step;
	_Atomic long done;
} pairs[2];

static void play(struct pair *p, struct shoal_chan *in, struct shoal_chan *out)
{
	while (shoal_recv(in, NULL) == 1) {
		for (volatile long i = 0; i < p->step; i++)
			;
		atomic_fetch_add(&p->done, p->step);
		if (over || shoal_send(out, NULL) != 0)
			break;
	}
	shoal_close(out);
}

static void ping(void *arg)
{
	struct pair *p = &pairs[*(int *)arg];

	play(p, p->back, p->there);
}

static void pong(void *arg)
{
	struct pair *p = &pairs[*(int *)arg];

	play(p, p->there, p->back);
}

static int hog(void)
{
	long x, y;

	for (int i = 0; i < 2; i++) {
		pairs[i].there = shoal_chan_new(0, 1);
		pairs[i].back = shoal_chan_new(0, 1);
		pairs[i].step = i ? 1000 : 1000000;
		shoal_wg_go(&wg, ping, &i, sizeof i);
		shoal_wg_go(&wg, pong, &i, sizeof i);
		shoal_send(pairs[i].there, NULL);
	}
	shoal_sleep(500000000);
	over = 1;
	shoal_wg_wait(&wg);
	x = pairs[0].done;
	y = pairs[1].done;
	if (!x || !y || x / y > 20 || y / x > 20) {
		printf("%ld to %ld\n", x, y);
		return 1;
	}
	return 0;
}

/* ---- timer ---- */

static void keep_busy(void *arg)
{
	struct shoal_chan *in = *(int *)arg ? a : b, *out = *(int *)arg ? b : a;

	while (!over && shoal_recv(in, NULL) == 1)
		shoal_send(out, NULL);
	shoal_close(out);
}

static int timer(void)
{
	int64_t start = shoal_now(), late;

	a = shoal_chan_new(0, 1);
	b = shoal_chan_new(0, 1);
	for (int i = 0; i < 2; i++)
		shoal_wg_go(&wg, keep_busy, &i, sizeof i);
	shoal_send(a, NULL);
	for (int i = 0; i < 10; i++)
		shoal_sleep(20000000);
	late = shoal_now() - start - 200000000;
	over = 1;
	shoal_wg_wait(&wg);
	if (late > 300000000)
		printf("late by %ld ms\n", (long)(late / 1000000));
	return late > 300000000;
}

/* ---- calls ---- */

static __attribute__((noinline)) int flag_is(int n)
{
	__asm__ volatile("" ::: "memory");
	return flag == n;
}

static void hand_over(void *arg)
{
	int me = *(int *)arg;

	for (int i = 0; i < 20; i++) {
		while (!flag_is(me))
			;
		flag = !me;
	}
}

static int calls(void)
{
	for (int i = 0; i < 2; i++)
		shoal_wg_go(&wg, hand_over, &i, sizeof i);
	shoal_wg_wait(&wg);
	return 0;
}

/* ---- turns ---- */

static int players;

static void in_turn(void *arg)
{
	int me = *(int *)arg;

	for (int i = 0; i < 100; i++) {
		while (flag != i * players + me)
			;
		flag = i * players + me + 1;
	}
}

static int turns(void)
{
	players = shoal_procs(0);
	for (int t = 0; t < 10; t++) {
		flag = 0;
		for (int i = 0; i < players; i++)
			shoal_wg_go(&wg, in_turn, &i, sizeof i);
		shoal_wg_wait(&wg);
	}
	return 0;
}

/* ---- crowd ---- */

static void spin_on(void *arg)
{
	(void)arg;
	while (!over)
		;
}

static void count_up(void *arg)
{
	(void)arg;
	flag++;
}

static int crowd(void)
{
	static struct shoal_wg all;

	for (int i = 0; i <= shoal_procs(0); i++)
		shoal_wg_go(&wg, spin_on, NULL, 0);
	for (int i = 0; i < 1000; i++)
		shoal_wg_go(&all, count_up, NULL, 0);
	shoal_wg_wait(&all);
	over = 1;
	shoal_wg_wait(&wg);
	return flag != 1000;
}

int shoal_main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(void);
	} cases[] = {{"progress", progress}, {"hog", hog},     {"timer", timer},
		     {"calls", calls},	     {"turns", turns}, {"crowd", crowd}};

	for (size_t i = 0; argc == 2 && i < sizeof cases / sizeof *cases; i++)
		if (strcmp(argv[1], cases[i].name) == 0)
			return cases[i].run();
	return 2;
}
