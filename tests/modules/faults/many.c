/*
 * faults/many.c N HOW SECONDS - N goroutines at once, for so long.
 *   parked    they wait on a channel
 *   timed     they sleep until a time after the end
 *   runnable  they give way again and again
 *   watched   they wait on a channel, and two others go through channels, heap, timers and spawns without a
 *             pause: "victim", whose worker may be killed, and "watcher", who notes how long each round took
 *             it, without the time that its worker waited for a processor, unless it gave way. Prints "watcher GID"; after
 *             QUIET seconds deaths may begin; at the end, for before and after:
 *             "quiet ROUNDS LONGEST_NS OVER_1_MS", "deaths ROUNDS LONGEST_NS OVER_1_MS"
 */
#define _GNU_SOURCE
#if !defined(SHOAL_DEBUG)
#define SHOAL_DEBUG 0
#endif
#include "core/g/g.h"
#include "core/root.h"
#include <shoal.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define QUIET 4

static struct shoal_chan *gate, *box[2];
static struct shoal_wg wg;
static struct shoal_mutex mu;
static int64_t began, until;
static struct {
	long rounds, over;
	int64_t longest;
} seen[2]; /* before deaths begin, and after */

static void parked(void *arg)
{
	char c;

	(void)arg;
	shoal_recv(gate, &c);
}

static void timed(void *arg)
{
	(void)arg;
	shoal_sleep(until - shoal_now());
}

static void runnable(void *arg)
{
	(void)arg;
	while (shoal_now() < until)
		shoal_yield();
}

static void nothing(void *arg)
{
	(void)arg;
}

/* Takes each kind of lock; no part of it waits for another goroutine. */
static void round_of(struct shoal_chan *c)
{
	char *small = calloc(1, 48), *large = malloc(40000);
	struct shoal_case k = {SHOAL_RECV, gate, NULL, 0};

	if (!small || !large)
		abort();
	shoal_send_timed(c, small, 0);
	shoal_recv_timed(c, small, 0);
	shoal_select(&k, 1, 0);
	shoal_mutex_lock(&mu);
	shoal_mutex_unlock(&mu);
	free(small);
	free(large);
}

/* How long this process has waited for a processor so far: the kernel's second number. Past the runtime: it costs no P. */
static int64_t waited_for_cpu(void)
{
	char line[96];
	long fd = syscall(SYS_openat, AT_FDCWD, "/proc/self/schedstat", O_RDONLY | O_CLOEXEC), n;
	char *at;

	if (fd < 0)
		return 0;
	n = syscall(SYS_read, fd, line, sizeof line - 1);
	syscall(SYS_close, fd);
	line[n > 0 ? n : 0] = '\0';
	at = strchr(line, ' ');
	return at ? atoll(at) : 0;
}

static void victim(void *arg)
{
	(void)arg;
	for (unsigned i = 0; shoal_now() < until; i++) {
		round_of(box[0]);
		shoal_recv_timed(gate, NULL, 1000); /* a timer */
		if (i % 16 == 0)
			shoal_go(nothing, NULL, 0);
	}
}

/* Changes of its status so far, as the scheduler counts them: the same before and after, it has neither parked nor moved. */
static unsigned changes_of_self(void)
{
	const struct g *self = atomic_load(&allm(shoal_worker())->curg);

	return self->life_order;
}

static void watcher(void *arg)
{
	(void)arg;
	printf("watcher %lu\n", (unsigned long)shoal_self());
	fflush(stdout);
	while (shoal_now() < until) {
		int64_t waited, t, took;
		unsigned changes;
		int when;

		shoal_yield(); /* its turn begins */
		changes = changes_of_self();
		waited = waited_for_cpu();
		t = shoal_now();
		when = t - began > QUIET * 1000000000l;
		round_of(box[1]);
		took = shoal_now() - t;
		if (took > 100000)
			took -= waited_for_cpu() - waited;
		if (changes_of_self() != changes) /* it has given way */
			continue;
		seen[when].rounds++;
		seen[when].over += took > 1000000;
		if (took > seen[when].longest)
			seen[when].longest = took;
	}
}

int shoal_main(int argc, char **argv)
{
	long n = argc > 1 ? atol(argv[1]) : 100000;
	const char *how = argc > 2 ? argv[2] : "parked";
	void (*fn)(void *) = strcmp(how, "timed") == 0 ? timed : strcmp(how, "runnable") == 0 ? runnable : parked;
	struct shoal_go_opts again = {.attempts = 10000, .flags = SHOAL_ISOLATED};

	gate = shoal_chan_new(1, 0);
	until = shoal_now() + (argc > 3 ? atol(argv[3]) : 5) * 1000000000l;
	for (long i = 0; i < n; i++)
		if (!shoal_wg_go_with(&wg, &again, fn, NULL, 0))
			return 2;
	puts("ready");
	if (strcmp(how, "watched") == 0) {
		box[0] = shoal_chan_new(48, 2);
		box[1] = shoal_chan_new(48, 2);
		began = shoal_now();
		again.name = "victim";
		shoal_wg_go_with(&wg, &again, victim, NULL, 0);
		again.name = "watcher";
		shoal_wg_go_with(&wg, &again, watcher, NULL, 0);
	}
	shoal_sleep(until - shoal_now());
	shoal_close(gate);
	shoal_wg_wait(&wg);
	if (strcmp(how, "watched") == 0)
		for (int i = 0; i < 2; i++)
			printf("%s %ld %ld %ld\n", i ? "deaths" : "quiet", seen[i].rounds, (long)seen[i].longest,
			       seen[i].over);
	printf("%ld\n", n);
	return 0;
}
