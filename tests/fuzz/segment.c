/*
 * segment.c [--seed N] [--runs N] - the supervisor believes nothing that it reads in the segment: words of it are made
 * others, everything that it shows is asked for, and they are put back.
 *
 * Nothing runs meanwhile: 300 goroutines are parked. What is wrong may be shown; the supervisor answers, and is the
 * same process in the end. Seats and locks are left alone: pids are there, and workers wait there.
 */
#include "tests/fuzz/fuzz.h"
#include "tests/outside/outside.h"
#include "core/g/g.h"
#include "core/g/life.h"
#include "core/host.h"
#include "core/root.h"
#include "core/sched/m.h"
#include "core/sched/p.h"
#include "core/task/task.h"
#include "shm/segment.h"

#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PARKED 300
#define WORDS 64
#define PATIENCE_MS 30000

static const char *build;
static char dir[32] = "/tmp/shoal-fuzz.XXXXXX", text[1 << 16];

static _Noreturn void end(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	printf("FAILED: ");
	vprintf(fmt, ap);
	va_end(ap);
	puts("\ntests: 0 passed, 1 failed");
	exit(1);
}

static int sh(const char *fmt, ...)
{
	va_list ap;
	int code;

	va_start(ap, fmt);
	code = outside_sh(text, sizeof text, fmt, ap);
	va_end(ap);
	return code;
}

static long supervisor(void)
{
	if (sh("timeout 30 %s/shoal info --json 2>&1", build))
		end("no supervisor answers: %.200s", text);
	return outside_number(text, "pid", -1);
}

/* The core's library calls it when it reads the rings. */
int64_t host_now(void)
{
	return (int64_t)sh_now();
}

/* ---- damage ---- */

static struct changed {
	uint64_t *at, was;
} changed[WORDS];
static unsigned nchanged;

static uint64_t below(uint64_t n)
{
	return fuzz_random() % n;
}

static uint64_t wrong(uint64_t was)
{
	switch (below(6)) {
	case 0: return was ^ 1ull << below(64);
	case 1: return fuzz_random();
	case 2: return ~0ull;
	case 3: return SH_BASE + below(SH_SIZE);
	case 4: return was + below(1024) - 512;
	default: return 0x4141414141414141;
	}
}

static void change(void *from, size_t bytes)
{
	uint64_t *at = (uint64_t *)((uintptr_t)from & ~7ul) + below(bytes / 8);

	if (nchanged == WORDS)
		return;
	changed[nchanged++] = (struct changed){at, *at};
	*at = wrong(*at);
}

static void put_back(void)
{
	while (nchanged) {
		nchanged--;
		*changed[nchanged].at = changed[nchanged].was;
	}
}

static void change_something(void)
{
	struct life_ring *r = life_ring_of(below(5));
	struct g *g = allg(1 + below(PARKED + 20));

	switch (below(8)) {
	case 0:
	case 1:
	case 2: change(g, sizeof *g); break;
	case 3: change(allm(below(5)), offsetof(struct m, output)); break;
	case 4: change(allp(below(4)), sizeof(struct p)); break;
	case 5: change(task_at(below(3)), sizeof(struct task)); break;
	case 6:
		if (below(2))
			change((void *)&r->n, 8);
		else
			change(r->e, 512 * sizeof r->e[0]);
		break;
	case 7:
		if (below(2))
			change((void *)&rt->ncrashes, 8);
		else
			change(&rt->crash[below(4)], sizeof rt->crash[0]);
	}
}

/* ---- requests ---- */

static int connected(uint64_t run)
{
	char path[64];
	int s;

	snprintf(path, sizeof path, "%s/s", dir);
	s = outside_connect(path);
	if (s < 0)
		end("no connection any more: run %lu", (unsigned long)run);
	return s;
}

/*
 * A child copies the stacks and may die of the damage; the medic repairs it and may not finish. So nothing waits for
 * the answer.
 */
static void ask_for_stacks(uint64_t run)
{
	static const char dump[] = "{\"verb\":\"dump\"}\n";
	int s = connected(run);

	if (send(s, dump, sizeof dump - 1, MSG_NOSIGNAL) < 0)
		end("the connection breaks: run %lu", (unsigned long)run);
	close(s);
}

static void ask(uint64_t run)
{
	static const char questions[] =
		"{\"verb\":\"ps\"}\n{\"verb\":\"ps\",\"task\":1}\n{\"verb\":\"workers\"}\n{\"verb\":\"stats\"}\n"
		"{\"verb\":\"tasks\",\"all\":true}\n{\"verb\":\"sched\"}\n{\"verb\":\"crash\"}\n{\"verb\":\"life\",\"gid\":%lu}\n"
		"{\"verb\":\"info\"}\n";
	int s = connected(run), left = 9;
	static char buf[1 << 16];
	ssize_t n;

	snprintf(buf, sizeof buf, questions, (unsigned long)(1 + below(PARKED)));
	if (send(s, buf, strlen(buf), MSG_NOSIGNAL) < 0)
		end("the connection breaks: run %lu", (unsigned long)run);
	while (left > 0) {
		char *from = buf;

		if (poll(&(struct pollfd){s, POLLIN, 0}, 1, PATIENCE_MS) != 1 || (n = recv(s, buf, sizeof buf, 0)) <= 0)
			end("%d questions have no answer: run %lu", left, (unsigned long)run);
		while ((from = memchr(from, '\n', (size_t)(buf + n - from)))) {
			left--;
			from++;
		}
	}
	close(s);
}

/* All goroutines of the task have begun and wait. */
static void wait_until_parked(void)
{
	for (unsigned i = 0; i < 600; i++) {
		if (!sh("timeout 30 %s/shoal stats --json 2>&1", build) &&
		    outside_number(text, "goroutines", 0) == PARKED + 1 &&
		    !sh("timeout 30 %s/shoal sched 2>&1 | grep -q 'gomaxprocs=2 idleprocs=2 '", build))
			return;
		nanosleep(&(struct timespec){0, 50000000}, NULL);
	}
	end("the goroutines do not park: %.200s", text);
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{"seed", required_argument, NULL, 's'}, {"runs", required_argument, NULL, 'r'}, {NULL, 0, NULL, 0}};
	uint64_t seed = 1, runs = 200;
	char path[64];
	long pid;
	int c;

	build = getenv("SHOAL_BUILD") ? getenv("SHOAL_BUILD") : "build";
	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1)
		if (c == 's')
			seed = strtoull(optarg, NULL, 0);
		else if (c == 'r')
			runs = strtoull(optarg, NULL, 0);
		else
			return 2;
	if (!mkdtemp(dir))
		return 2;
	snprintf(path, sizeof path, "%s/s", dir);
	setenv("SHOAL_SOCKET", path, 1);
	if (sh("timeout 30 %s/shoal start --procs 2 2>&1 && timeout 30 %s/shoal submit %s/tests/modules/basic/many.so %d 3600000 2>&1",
	       build, build, build, PARKED))
		end("no supervisor: %.200s", text);
	pid = supervisor();
	if (!outside_map(pid))
		end("cannot map the segment");
	wait_until_parked();
	for (uint64_t i = 0; i < runs; i++) {
		fuzz_begin(seed + i);
		for (uint64_t times = 1 + below(12); times; times--)
			change_something();
		if (i % 4 == 0)
			ask_for_stacks(i);
		ask(i);
		put_back();
	}
	if (supervisor() != pid)
		end("it is another supervisor");
	sh("timeout 60 %s/shoal stop --now; rm -rf %s", build, dir);
	printf("segment: %lu, from seed %lu\ntests: 1 passed, 0 failed\n", (unsigned long)runs, (unsigned long)seed);
	return 0;
}
