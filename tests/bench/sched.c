/*
 * sched.c - benchmarks of the scheduler at work, run by Shoal itself: shoal run sched.so NAME
 *
 * Prints "NAME FIGURE" lines, as suite.c does.
 */
#include <shoal.h>

#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 5
#define RING 503
#define HOPS 1000000
#define LEAVES 1000000
#define FIB 35
#define FIB_SERIAL 12
#define DEEP 4000
#define SLEEPERS 100000
#define SLEEPS 10
#define SLEEP_NS 10000000
#define WAITS 40

static _Noreturn void give_up(const char *what)
{
	fprintf(stderr, "bench: %s\n", what);
	exit(1);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* The first round warms up. */
static void print_median(const char *name, double (*one_round)(void))
{
	double v[ROUNDS];

	one_round();
	for (int i = 0; i < ROUNDS; i++)
		v[i] = one_round();
	qsort(v, ROUNDS, sizeof v[0], compare);
	printf("%s %.2f\n", name, v[ROUNDS / 2]);
}

static double ms_since(int64_t start)
{
	return (double)(shoal_now() - start) / 1e6;
}

/* ---- ring: a token goes round 503 goroutines over unbuffered channels ---- */

static struct shoal_chan *link_to[RING], *round_done;
static struct shoal_wg members;

static void member(void *arg)
{
	int i = *(int *)arg;
	int64_t left;

	while (shoal_recv(link_to[i], &left) == 1)
		if (--left == 0)
			shoal_send(round_done, NULL);
		else
			shoal_send(link_to[(i + 1) % RING], &left);
}

static double ring_round(void)
{
	int64_t hops = HOPS, start;

	round_done = shoal_chan_new(0, 0);
	for (int i = 0; i < RING; i++)
		link_to[i] = shoal_chan_new(sizeof(int64_t), 0);
	for (int i = 0; i < RING; i++)
		shoal_wg_go(&members, member, &i, sizeof i);
	start = shoal_now();
	shoal_send(link_to[0], &hops);
	shoal_recv(round_done, NULL);
	hops = shoal_now() - start;
	for (int i = 0; i < RING; i++)
		shoal_close(link_to[i]);
	shoal_wg_wait(&members);
	for (int i = 0; i < RING; i++)
		shoal_chan_free(link_to[i]);
	shoal_chan_free(round_done);
	return (double)hops / HOPS;
}

/* ---- skynet: a tree of goroutines, ten children each, a million leaves; sums come up by channels ---- */

struct node {
	struct shoal_chan *up;
	int64_t num, size;
};

static void skynet(void *arg)
{
	struct node *n = arg;
	struct shoal_chan *mine;
	int64_t sum = 0, value;

	if (n->size == 1) {
		shoal_send(n->up, &n->num);
		return;
	}
	mine = shoal_chan_new(sizeof(int64_t), 10);
	for (int i = 0; i < 10; i++)
		shoal_go(skynet, &(struct node){mine, n->num + i * (n->size / 10), n->size / 10}, sizeof *n);
	for (int i = 0; i < 10; i++) {
		shoal_recv(mine, &value);
		sum += value;
	}
	shoal_send(n->up, &sum);
	shoal_chan_free(mine);
}

static double skynet_round(void)
{
	struct shoal_chan *up = shoal_chan_new(sizeof(int64_t), 0);
	int64_t start = shoal_now(), sum;
	double ms;

	shoal_go(skynet, &(struct node){up, 0, LEAVES}, sizeof(struct node));
	shoal_recv(up, &sum);
	ms = ms_since(start);
	if (sum != (int64_t)LEAVES * (LEAVES - 1) / 2)
		give_up("skynet: a wrong sum");
	shoal_chan_free(up);
	return ms;
}

/* ---- fib: fork and join ---- */

struct fork {
	int n;
	int64_t *result;
};

static int64_t serial_fib(int n)
{
	return n < 2 ? n : serial_fib(n - 1) + serial_fib(n - 2);
}

static int64_t fib(int n);

static void fib_child(void *arg)
{
	struct fork *f = arg;

	*f->result = fib(f->n);
}

static int64_t fib(int n)
{
	int64_t *result, sum;
	shoal_gid child;

	if (n <= FIB_SERIAL)
		return serial_fib(n);
	result = malloc(sizeof *result); /* not on the stack: the child may not write there */
	child = shoal_go(fib_child, &(struct fork){n - 1, result}, sizeof(struct fork));
	if (!child)
		give_up("fib: no goroutine to be had");
	sum = fib(n - 2);
	shoal_join(child, NULL);
	sum += *result;
	free(result);
	return sum;
}

static double fib_round(void)
{
	int64_t start = shoal_now();

	if (fib(FIB) != 9227465)
		give_up("fib: a wrong sum");
	return ms_since(start);
}

/* ---- growstack: a goroutine that parks with 2, 4, 8 ... 64 KiB of stack in use ---- */

static struct shoal_wg divers;

static __attribute__((noinline)) int dive(int kib)
{
	volatile char frame[1024 - 64];

	frame[0] = frame[sizeof frame - 1] = (char)kib;
	if ((kib & (kib - 1)) == 0)
		shoal_yield();
	return kib == 64 ? frame[0] : dive(kib + 1) + frame[sizeof frame - 1];
}

static void diver(void *arg)
{
	(void)arg;
	dive(2);
}

static double growstack_round(void)
{
	int64_t start = shoal_now();

	for (int i = 0; i < DEEP; i++) {
		if (!shoal_wg_go(&divers, diver, NULL, 0))
			give_up("growstack: no goroutine to be had");
		if (i % 16 == 15)
			shoal_wg_wait(&divers);
	}
	shoal_wg_wait(&divers);
	return (double)(shoal_now() - start) / DEEP;
}

/* ---- sleepers: 100,000 that sleep ten times 10 ms ---- */

static struct shoal_wg bed;

static void sleeper(void *arg)
{
	(void)arg;
	for (int i = 0; i < SLEEPS; i++)
		shoal_sleep(SLEEP_NS);
}

/* CPU time of the supervisor and all its children: workers come and go with the Ps that they have. */
static double cpu_seconds(void)
{
	struct timespec t;
	char path[64];
	double sum = 0;
	clockid_t clock;
	long pid = getppid();
	FILE *f;

	snprintf(path, sizeof path, "/proc/%ld/task/%ld/children", pid, pid);
	f = fopen(path, "r");
	if (!f)
		give_up("sleepers: who are the workers?");
	do
		if (clock_getcpuclockid((pid_t)pid, &clock) == 0 && clock_gettime(clock, &t) == 0)
			sum += (double)t.tv_sec + (double)t.tv_nsec / 1e9;
	while (fscanf(f, "%ld", &pid) == 1);
	fclose(f);
	return sum;
}

static void sleepers(void)
{
	double cpu = cpu_seconds();
	int64_t start = shoal_now();

	for (int i = 0; i < SLEEPERS; i++)
		if (!shoal_wg_go(&bed, sleeper, NULL, 0))
			give_up("sleepers: no goroutine to be had");
	shoal_wg_wait(&bed);
	printf("sleepers %.1f\n", ms_since(start));
	printf("sleepers_cpu %.1f\n", (cpu_seconds() - cpu) * 1e3);
}

/* ---- preempt: how long a timer waits for a loop that makes no call ---- */

static _Atomic int spin = 1;

static void spinner(void *arg)
{
	(void)arg;
	while (atomic_load_explicit(&spin, memory_order_relaxed))
		;
}

static void preempt(void)
{
	double late[WAITS], sum = 0;

	shoal_go(spinner, NULL, 0);
	for (int i = 0; i < WAITS; i++) {
		int64_t due = shoal_now() + 1000000;

		shoal_sleep(1000000);
		late[i] = (double)(shoal_now() - due) / 1e6;
		sum += late[i];
	}
	atomic_store(&spin, 0);
	qsort(late, WAITS, sizeof late[0], compare);
	printf("preempt %.2f\npreempt_worst %.2f\n", sum / WAITS, late[WAITS - 1]);
}

int shoal_main(int argc, char **argv)
{
	const char *name = argc == 2 ? argv[1] : "";

	if (strcmp(name, "ring") == 0)
		print_median(name, ring_round);
	else if (strcmp(name, "skynet") == 0)
		print_median(name, skynet_round);
	else if (strcmp(name, "fib") == 0)
		print_median(name, fib_round);
	else if (strcmp(name, "growstack") == 0)
		print_median(name, growstack_round);
	else if (strcmp(name, "sleepers") == 0)
		sleepers();
	else if (strcmp(name, "preempt") == 0)
		preempt();
	else {
		fprintf(stderr, "bench: one of ring, skynet, fib, growstack, sleepers, preempt\n");
		return 2;
	}
	return 0;
}
