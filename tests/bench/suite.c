/*
 * suite.c - the benchmarks, run by Shoal itself: shoal run suite.so NAME
 *
 * Prints "NAME FIGURE" lines: nanoseconds an operation, or bytes a goroutine. What lasts no longer
 * than a line of code is measured in rounds after a warm-up, and the median printed. "parked" is
 * one cold round: main.c repeats it, each time in a new supervisor, because memory that an earlier
 * round has touched is neither counted nor paid for again.
 *
 * What goroutines share is global: a stack is nobody else's to look at.
 */
#include <shoal.h>

#include "tests/bench/mix.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define ROUNDS 5
#define SPAWNS 1000000
#define SPAWN_BATCH 100
#define YIELDS 1000000 /* of each of the two */
#define ROUND_TRIPS 1000000
#define PARKED 1000000
#define MOVES 200000
#define MOVE_LIMIT_NS 5000000000 /* a round that cannot move gives up */

static _Noreturn void give_up(const char *what)
{
	fprintf(stderr, "bench: %s\n", what);
	exit(1);
}

static void must_go(shoal_gid gid)
{
	if (!gid)
		give_up("no goroutine to be had");
}

static struct shoal_chan *must_chan(size_t elem_size)
{
	struct shoal_chan *c = shoal_chan_new(elem_size, 0);

	if (!c)
		give_up("no channel to be had");
	return c;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* A round returns ns an operation. The first one warms up. */
static void print_median(const char *name, double (*one_round)(void))
{
	double ns[ROUNDS];

	one_round();
	for (int i = 0; i < ROUNDS; i++)
		ns[i] = one_round();
	qsort(ns, ROUNDS, sizeof(ns[0]), compare);
	printf("%s %.2f\n", name, ns[ROUNDS / 2]);
}

static double per(int64_t since, double operations)
{
	return (double)(shoal_now() - since) / operations;
}

/* ---- spawn: spawn, run and end of a goroutine that does nothing ---- */

static void nothing(void *arg)
{
	(void)arg;
}

static double spawn_round(void)
{
	int64_t start = shoal_now();
	shoal_gid last = 0;

	for (int i = 0; i < SPAWNS / SPAWN_BATCH; i++) {
		for (int k = 0; k < SPAWN_BATCH; k++)
			must_go(last = shoal_go(nothing, NULL, 0));
		shoal_yield();
	}
	shoal_join(last, NULL);
	return per(start, SPAWNS);
}

/* ---- yield: two goroutines that give way to each other ---- */

static struct shoal_wg yielders;

static void yield_often(void *arg)
{
	(void)arg;
	for (int i = 0; i < YIELDS; i++)
		shoal_yield();
}

static double yield_round(void)
{
	int64_t start = shoal_now();

	must_go(shoal_wg_go(&yielders, yield_often, NULL, 0));
	must_go(shoal_wg_go(&yielders, yield_often, NULL, 0));
	shoal_wg_wait(&yielders);
	return per(start, 2.0 * YIELDS);
}

/* ---- pingpong: 8 bytes there and back over two unbuffered channels ---- */

static struct shoal_chan *ping, *pong;

static void echo(void *arg)
{
	uint64_t value;

	(void)arg;
	while (shoal_recv(ping, &value) == 1)
		shoal_send(pong, &value);
}

static double pingpong_round(void)
{
	uint64_t got;
	shoal_gid other;
	int64_t start;
	double ns;

	ping = must_chan(sizeof(uint64_t));
	pong = must_chan(sizeof(uint64_t));
	must_go(other = shoal_go(echo, NULL, 0));
	start = shoal_now();
	for (uint64_t i = 0; i < ROUND_TRIPS; i++)
		if (shoal_send(ping, &i) != 0 || shoal_recv(pong, &got) != 1 || got != i)
			give_up("a value was lost on its way");
	ns = per(start, ROUND_TRIPS);
	shoal_close(ping);
	shoal_join(other, NULL);
	shoal_chan_free(ping);
	shoal_chan_free(pong);
	return ns;
}

/* ---- chan128, chan8: 8 bytes over a channel of 128, from one to one, from eight to eight ---- */

#define CHAN_VALUES 2000000

static struct shoal_chan *wide;
static struct shoal_wg crowd;
static int crowd_size;

static void pours(void *arg)
{
	(void)arg;
	for (uint64_t i = 0; i < CHAN_VALUES / (uint64_t)crowd_size; i++)
		shoal_send(wide, &i);
}

static void drinks(void *arg)
{
	uint64_t value;

	(void)arg;
	for (uint64_t i = 0; i < CHAN_VALUES / (uint64_t)crowd_size; i++)
		if (shoal_recv(wide, &value) != 1)
			give_up("a value was lost on its way");
}

static double crowd_round(int n)
{
	int64_t start;
	double ns;

	crowd_size = n;
	if (!(wide = shoal_chan_new(sizeof(uint64_t), 128)))
		give_up("no channel to be had");
	start = shoal_now();
	for (int i = 0; i < n; i++) {
		must_go(shoal_wg_go(&crowd, pours, NULL, 0));
		must_go(shoal_wg_go(&crowd, drinks, NULL, 0));
	}
	shoal_wg_wait(&crowd);
	ns = per(start, CHAN_VALUES);
	shoal_chan_free(wide);
	return ns;
}

static double chan128_round(void)
{
	return crowd_round(1);
}

static double chan8_round(void)
{
	return crowd_round(8);
}

/* ---- select2: one selects over two unbuffered channels that two others send to ---- */

#define SELECTS 500000

static void sends_to(void *arg)
{
	struct shoal_chan *c = *(struct shoal_chan **)arg;

	for (uint64_t i = 0; i < SELECTS / 2; i++)
		shoal_send(c, &i);
}

static double select_round(void)
{
	struct shoal_chan *c[2] = {must_chan(sizeof(uint64_t)), must_chan(sizeof(uint64_t))};
	uint64_t value;
	int64_t start;
	double ns;

	for (int i = 0; i < 2; i++)
		must_go(shoal_wg_go(&crowd, sends_to, &c[i], sizeof c[i]));
	start = shoal_now();
	for (int i = 0; i < SELECTS; i++) {
		struct shoal_case k[2] = {{SHOAL_RECV, c[0], &value, 0}, {SHOAL_RECV, c[1], &value, 0}};

		if (shoal_select(k, 2, SHOAL_FOREVER) < 0)
			give_up("a select failed");
	}
	ns = per(start, SELECTS);
	shoal_wg_wait(&crowd);
	shoal_chan_free(c[0]);
	shoal_chan_free(c[1]);
	return ns;
}

/* ---- mutex8: eight that take one mutex by turns ---- */

#define LOCKS 2000000

static struct shoal_mutex contended;
static uint64_t guarded;

static void locks(void *arg)
{
	(void)arg;
	for (int i = 0; i < LOCKS / 8; i++) {
		shoal_mutex_lock(&contended);
		guarded++;
		shoal_mutex_unlock(&contended);
	}
}

static double mutex_round(void)
{
	int64_t start = shoal_now();

	guarded = 0;
	for (int i = 0; i < 8; i++)
		must_go(shoal_wg_go(&crowd, locks, NULL, 0));
	shoal_wg_wait(&crowd);
	if (guarded != LOCKS)
		give_up("two held the mutex");
	return per(start, LOCKS);
}

/* ---- parked: a million goroutines that wait for one channel ---- */

static struct shoal_chan *gate, *all_there;
static struct shoal_wg sleepers;
static atomic_int arrived;

static size_t resident_in(uintptr_t from, uintptr_t to, unsigned char *pages, size_t step)
{
	size_t count = 0;

	for (; from < to; from += step) {
		size_t n = to - from < step ? to - from : step;

		if (mincore((void *)from, n, pages) != 0)
			give_up("mincore does not tell what is resident");
		for (size_t i = 0; i < n / 4096; i++)
			count += pages[i] & 1;
	}
	return count * 4096;
}

/*
 * Bytes of the segment that have memory behind them, whichever process touched them: mincore asks
 * the file, not the page table. The increase therefore holds all that a goroutine takes there: its
 * struct, its image, windows, heap metadata, queues. Preferred to memory_committed of stats, which
 * knows the heap only, and to Rss, which knows this worker only. Page tables are not in it.
 *
 * The windows are further mappings of the same file; only the mapping that begins at the file's
 * start, in pieces or whole, is counted.
 */
static double segment_bytes(void)
{
	const size_t step = 1ul << 30;
	unsigned char *pages = malloc(step / 4096);
	FILE *maps = fopen("/proc/self/maps", "r");
	uintptr_t from, to, offset, base = 0;
	size_t bytes = 0;
	char line[512];

	if (!pages || !maps)
		give_up("cannot read the list of mappings");
	while (fgets(line, sizeof(line), maps)) {
		if (!strstr(line, " /memfd:shoal (deleted)"))
			continue;
		if (sscanf(line, "%lx-%lx %*s %lx", &from, &to, &offset) != 3)
			give_up("cannot make sense of the list of mappings");
		if (!base && offset == 0)
			base = from;
		if (base && from - offset == base)
			bytes += resident_in(from, to, pages, step);
	}
	fclose(maps);
	free(pages);
	if (!bytes)
		give_up("cannot find the segment");
	return (double)bytes;
}

static void wait_at_gate(void *arg)
{
	(void)arg;
	if (atomic_fetch_add(&arrived, 1) + 1 == PARKED)
		shoal_send(all_there, NULL);
	shoal_recv(gate, NULL);
}

static void parked(void)
{
	double before, after, create;
	int64_t start;

	gate = must_chan(0);
	all_there = must_chan(0);
	before = segment_bytes();
	start = shoal_now();
	for (int i = 0; i < PARKED; i++)
		must_go(shoal_wg_go(&sleepers, wait_at_gate, NULL, 0));
	shoal_recv(all_there, NULL);
	shoal_yield(); /* the last one has still to park */
	create = per(start, PARKED);
	after = segment_bytes();
	start = shoal_now();
	shoal_close(gate);
	shoal_wg_wait(&sleepers);
	printf("parked_wake %.2f\n", per(start, PARKED));
	printf("parked_create %.2f\n", create);
	printf("parked_bytes %.1f\n", (after - before) / PARKED);
}

/*
 * ---- migrate: one goroutine that runs on another worker at every step ----
 *
 * On each of two Ps a ferryman spins. The traveller names the other one and parks; that one wakes
 * it, which puts it next on his own P, and gives way. So nobody sleeps, nothing is stolen, and a
 * step is a park, a wake across two cores, and the copy of the frames. Steps that did not change
 * the worker do not count, but their time does.
 */
static struct shoal_chan *ferry;
static struct shoal_wg crew;
static atomic_int shore; /* the ferryman who has to fetch it; -1: they may go home */
static double move_ns;	 /* result of a round; 0: it never moved */

static void ferryman(void *arg)
{
	int mine = *(int *)arg, now;

	for (unsigned spins = 1; (now = atomic_load(&shore)) >= 0; spins++)
		if ((now == mine && shoal_send_timed(ferry, NULL, 0) == 0) || spins % 4096 == 0)
			shoal_yield();
}

static void travel(void *arg)
{
	int64_t start = shoal_now();
	int at = shoal_worker(), moves = 0;

	(void)arg;
	for (int i = 0; moves < MOVES; i++) {
		atomic_store(&shore, !atomic_load(&shore));
		if (shoal_recv(ferry, NULL) != 1)
			give_up("the ferry went down");
		if (shoal_worker() != at)
			moves++;
		at = shoal_worker();
		if (i % 1024 == 0 && shoal_now() - start > MOVE_LIMIT_NS)
			break;
	}
	move_ns = moves ? per(start, moves) : 0;
	atomic_store(&shore, -1);
}

static double migrate_round(void)
{
	const int left = 0, right = 1;

	ferry = must_chan(0);
	atomic_store(&shore, left);
	must_go(shoal_wg_go(&crew, ferryman, &left, sizeof(left)));
	must_go(shoal_wg_go(&crew, ferryman, &right, sizeof(right)));
	must_go(shoal_wg_go(&crew, travel, NULL, 0));
	shoal_wg_wait(&crew);
	shoal_chan_free(ferry);
	if (move_ns <= 0)
		give_up("it never changed its worker: are there two Ps?");
	return move_ns;
}

/* ---- malloc_mix: see mix.h ---- */

static struct shoal_wg mixers;

static void mixer(void *arg)
{
	atomic_fetch_add(&mix.arrived, 1);
	while (atomic_load(&mix.arrived) < 2)
		shoal_yield();
	mix_run(*(unsigned *)arg, MIX_OPS);
}

static double malloc_mix_round(void)
{
	int64_t start = shoal_now();
	double ns;

	for (unsigned who = 0; who < 2; who++)
		must_go(shoal_wg_go(&mixers, mixer, &who, sizeof(who)));
	shoal_wg_wait(&mixers);
	ns = per(start, MIX_OPS);
	mix_clear();
	return ns;
}

int shoal_main(int argc, char **argv)
{
	const char *name = argc == 2 ? argv[1] : "";

	if (strcmp(name, "spawn") == 0)
		print_median(name, spawn_round);
	else if (strcmp(name, "yield") == 0)
		print_median(name, yield_round);
	else if (strcmp(name, "pingpong") == 0)
		print_median(name, pingpong_round);
	else if (strcmp(name, "chan128") == 0)
		print_median(name, chan128_round);
	else if (strcmp(name, "chan8") == 0)
		print_median(name, chan8_round);
	else if (strcmp(name, "select2") == 0)
		print_median(name, select_round);
	else if (strcmp(name, "mutex8") == 0)
		print_median(name, mutex_round);
	else if (strcmp(name, "parked") == 0)
		parked();
	else if (strcmp(name, "malloc_mix") == 0)
		print_median(name, malloc_mix_round);
	else if (strcmp(name, "migrate") == 0)
		print_median(name, migrate_round);
	else {
		fprintf(stderr,
			"bench: one of spawn, yield, pingpong, chan128, chan8, select2, mutex8, parked, malloc_mix, migrate\n");
		return 2;
	}
	return 0;
}
