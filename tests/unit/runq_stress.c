/*
 * runq_stress.c - run queues under several processes at once.
 *
 * Each process is an M with a P. All make Gs runnable, put them into their queues (ring, runnext,
 * from there to the hand, and by overflow the global one), take them out again, steal from each other,
 * and claim what they got. Each time a G is made runnable it must be claimed exactly once; at the end
 * every queue is empty of what may run.
 *
 * runq_stress [milliseconds]
 */
#include "core/g/g.h"
#include "core/host.h"
#include "core/root.h"
#include "core/sched/m.h"
#include "core/sched/p.h"
#include "core/sched/proc.h"
#include "core/sched/runq.h"
#include "shm/segment.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#define MS 4u
#define GS 2000u /* more than the rings hold */

static struct shared {
	_Atomic uint64_t made[GS + 1], claimed[GS + 1];
	_Atomic uint64_t local, global, stolen, stale;
	_Atomic uint32_t over, failed;
} * sh;

/*
 * What a process lends the core (host.h) is wanted by other parts of it: the Makefile has the linker
 * leave these out. Whoever calls one crashes.
 */
int64_t host_now(void)
{
	return (int64_t)sh_now();
}

static uint64_t rng;

static uint32_t below(uint32_t n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (uint32_t)(rng >> 20) % n;
}

static void must(bool so, const char *what)
{
	if (so)
		return;
	fprintf(stderr, "runq_stress: %s\n", what);
	atomic_store(&sh->failed, 1);
	exit(1);
}

/* Dead Gs that we win become runnable, and ours to queue. */
static void make_some(struct p *p)
{
	for (uint32_t n = below(300); n > 0; n--) {
		struct g *g = allg(1 + below(GS));
		uint64_t s = atomic_load(&g->status);

		if ((s & G_STATE) != G_DEAD)
			continue;
		getm->note.ready = g;
		if (!atomic_compare_exchange_strong(&g->status, &s, G_MAKE(G_RUNNABLE, G_SEQ(s) + 1)))
			continue;
		atomic_fetch_add(&sh->made[g_index(g)], 1);
		if (below(50) == 0)
			globrunqput(g);
		else
			runqput(p, g, below(3) == 0);
		getm->note.ready = NULL;
	}
}

/* Takes a hint from a queue. True if this process claimed the G. */
static bool ran(struct g *g, _Atomic uint64_t *from)
{
	uint32_t i = g_index(g);
	bool mine = g_claim(g);

	getm->note.ready = NULL;
	if (!mine) {
		atomic_fetch_add(&sh->stale, 1);
		return false;
	}
	must(G_OWNER_SEAT(atomic_load(&g->status)) == getm->seat, "claimed, and names another");
	atomic_fetch_add(&sh->claimed[i], 1);
	atomic_fetch_add(from, 1);
	atomic_store(&getm->curg, NULL);
	atomic_store(&g->status, G_MAKE(G_DEAD, G_SEQ(atomic_load(&g->status))));
	return true;
}

static bool run_one(struct p *p)
{
	bool inherit;
	struct g *g;

	while ((g = runqget(p, &inherit)))
		if (ran(g, &sh->local))
			return true;
	while (atomic_load(&sched.grunq_head) != atomic_load(&sched.grunq_tail) && (g = globrunqget(p, RUNQ_SIZE / 2)))
		if (ran(g, &sh->global))
			return true;
	for (unsigned round = 0; round < STEAL_ROUNDS; round++) {
		unsigned at, step;

		stealorder(below(1u << 30), MS, &at, &step);
		for (unsigned i = 0; i < MS; i++, at = (at + step) % MS)
			while (allp(at) != p && runqsteal(p, allp(at), round == STEAL_ROUNDS - 1, &g))
				if (ran(g, &sh->stolen))
					return true;
	}
	return false;
}

static _Noreturn void be(unsigned seat)
{
	struct p *p = allp(seat - 1);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	rng = 0x9e3779b97f4a7c15u * (seat + 7);
	getm = allm(seat);
	sh_seat_take(seat);
	atomic_store(&p->m, (int32_t)seat);
	atomic_store(&getm->p, (int32_t)p->id);
	while (!atomic_load(&sh->over)) {
		if (below(4) || seat == 1) /* one makes more than the others, which have to steal */
			make_some(p);
		for (uint32_t n = below(seat == 1 ? 100 : 400); n > 0 && run_one(p); n--)
			;
	}
	while (run_one(p))
		;
	exit(0);
}

static uint64_t check(void)
{
	uint64_t n = 0;

	for (uint32_t i = 1; i <= GS; i++) {
		uint64_t made = atomic_load(&sh->made[i]), claimed = atomic_load(&sh->claimed[i]);

		if (made != claimed) {
			fprintf(stderr, "runq_stress: G %u was made runnable %lu times and claimed %lu times\n", i,
				(unsigned long)made, (unsigned long)claimed);
			atomic_store(&sh->failed, 1);
		}
		n += claimed;
	}
	for (unsigned i = 0; i < MS; i++)
		must(runqempty(allp(i)), "a queue is not empty, and nothing in it is to be had");
	return n;
}

int main(int argc, char **argv)
{
	long ms = argc > 1 ? atol(argv[1]) : 1500;
	int fd = sh_segment_create(0), status;
	uint64_t n;

	sh = mmap(NULL, sizeof *sh, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (fd < 0 || sh == MAP_FAILED) {
		fprintf(stderr, "runq_stress: no segment\n");
		return 1;
	}
	schedinit(MS);
	getm = allm(0);
	atomic_store(&sched.ngs, GS + 1);
	for (uint32_t i = 1; i <= GS; i++)
		atomic_store(&allg(i)->status, G_MAKE(G_DEAD, 0));
	for (unsigned seat = 1; seat <= MS; seat++)
		if (fork() == 0)
			be(seat);
	nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
	atomic_store(&sh->over, 1);
	while (wait(&status) > 0)
		must(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a process failed");
	n = check();
	printf("runq: %lu run by %u processes: %lu local, %lu from the global queue, %lu stolen at first hand; %lu stale hints\n",
	       (unsigned long)n, MS, (unsigned long)sh->local, (unsigned long)sh->global, (unsigned long)sh->stolen,
	       (unsigned long)sh->stale);
	must(sh->local && sh->global && sh->stolen, "one of the ways was never gone");
	return atomic_load(&sh->failed) != 0;
}
