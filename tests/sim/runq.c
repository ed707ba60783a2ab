/*
 * runq.c - white-box tests of the run queues: every length, every share that a thief takes, and what a reader may
 * see while the owner changes them. No goroutine runs.
 */
#include "tests/sim/white.h"
#include "core/g/g.h"
#include "core/root.h"
#include "core/sched/p.h"
#include "core/sched/runq.h"

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define KICKS 100000

static void set_up(void)
{
	white_begin(2, 2 * RUNQ_SIZE);
}

static void fill(struct p *p, uint32_t n)
{
	for (uint32_t i = 1; i <= n; i++)
		runqput(p, allg(i), false);
}

static bool every_length_comes_out_in_order(void)
{
	struct p *p = allp(0);
	bool inherit;

	set_up();
	for (uint32_t n = 0; n <= RUNQ_SIZE; n++) {
		MUST(runqempty(p));
		fill(p, n);
		MUST(runqempty(p) == (n == 0));
		for (uint32_t i = 1; i <= n; i++)
			MUST(runqget(p, &inherit) == allg(i));
		MUST(!runqget(p, &inherit));
	}
	return true;
}

static bool a_thief_takes_half_rounded_up_and_nothing_twice(void)
{
	struct p *victim = allp(0), *thief = allp(1);
	unsigned char seen[RUNQ_SIZE + 1];
	struct g *g;
	bool inherit;

	set_up();
	for (uint32_t n = 0; n <= RUNQ_SIZE; n++) {
		uint32_t taken = 0, left = 0;

		memset(seen, 0, sizeof seen);
		fill(victim, n);
		MUST(runqsteal(thief, victim, false, &g) == (n + 1) / 2);
		for (; n && g; g = runqget(thief, &inherit), taken++)
			seen[g_index(g)]++;
		for (; (g = runqget(victim, &inherit)); left++)
			seen[g_index(g)]++;
		MUST(taken == (n + 1) / 2);
		MUST(left == n / 2);
		for (uint32_t i = 1; i <= n; i++)
			MUST(seen[i] == 1);
	}
	return true;
}

static bool the_next_one_is_stolen_last_and_only_while_it_is_runnable(void)
{
	struct p *victim = allp(0), *thief = allp(1);
	struct g *g = NULL;

	set_up();
	runqput(victim, allg(1), true);
	runqput(victim, allg(2), true); /* 1 is kicked into the ring */
	MUST(runqsteal(thief, victim, true, &g) == 1);
	MUST(g == allg(1));
	MUST(runqsteal(thief, victim, false, &g) == 0);
	MUST(runqsteal(thief, victim, true, &g) == 1);
	MUST(g == allg(2));
	MUST(g_claim(g));
	MUST(runqsteal(thief, victim, true, &g) == 0);
	MUST(runqempty(victim));
	return true;
}

static bool what_overflows_goes_to_the_global_queue_and_comes_back(void)
{
	struct p *p = allp(0);
	unsigned char seen[2 * RUNQ_SIZE + 1] = {0};
	struct g *g;
	bool inherit;

	set_up();
	fill(p, 2 * RUNQ_SIZE);
	for (uint32_t n = 0; n < 2 * RUNQ_SIZE; n++) {
		g = runqget(p, &inherit);
		if (!g)
			g = globrunqget(p, RUNQ_SIZE / 2);
		MUST(g);
		seen[g_index(g)]++;
	}
	for (uint32_t i = 1; i <= 2 * RUNQ_SIZE; i++)
		MUST(seen[i] == 1);
	return true;
}

/* Another process looks while one goes from runnext to the ring again and again. */
static bool is_never_seen_empty_while_it_is_not(void)
{
	struct p *p = allp(0);
	_Atomic uint32_t *over = &sched.needspinning; /* a word that both see */
	bool inherit;
	int status;
	pid_t reader;

	set_up();
	runqput(p, allg(1), true);
	reader = fork();
	if (reader == 0) {
		while (!atomic_load(over))
			if (runqempty(p))
				_exit(1);
		_exit(0);
	}
	for (unsigned i = 0; i < KICKS; i++) {
		runqput(p, allg(2 - i % 2), true); /* two in the queue: the other goes to the ring */
		MUST(runqget(p, &inherit));
		runqput(p, allg(2 - i % 2), true);
		MUST(runqget(p, &inherit));
	}
	atomic_store(over, 1);
	MUST(waitpid(reader, &status, 0) == reader);
	MUST(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	return true;
}

static bool thieves_visit_each_p_once_whatever_the_number(void)
{
	for (unsigned n = 1; n <= P_MAX; n++)
		for (uint32_t start = 0; start < n; start++)
			for (uint32_t skip = 0; skip < P_MAX; skip++) {
				uint64_t seen = 0;
				unsigned at, step;

				stealorder(skip << 8 | start, n, &at, &step);
				for (unsigned i = 0; i < n; i++, at = (at + step) % n) {
					MUST(at < n);
					seen |= 1ull << at;
				}
				MUST(seen == (n == 64 ? ~0ull : (1ull << n) - 1));
			}
	return true;
}

unsigned runq_tests(void)
{
	return WHITE_RUN("runq", every_length_comes_out_in_order, a_thief_takes_half_rounded_up_and_nothing_twice,
			 the_next_one_is_stolen_last_and_only_while_it_is_runnable,
			 what_overflows_goes_to_the_global_queue_and_comes_back, is_never_seen_empty_while_it_is_not,
			 thieves_visit_each_p_once_whatever_the_number);
}
