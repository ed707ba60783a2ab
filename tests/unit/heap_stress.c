/*
 * heap_stress.c - the segment heap under sudden deaths.
 *
 * Worker processes allocate, free, hand blocks to each other and make and release heaps; the
 * parent kills one at a random moment, repairs (in a child that is itself killed at times),
 * audits, and puts a new process in its place. Every block is filled with a number of its own and
 * checked when it is freed, so a block handed out twice shows. Ends with figures.
 *
 * heap_stress [seed [milliseconds]]; with seed "bench" only the figures.
 *
 * Built with -DSHOAL_KILL_POINTS (build/kill/heap_stress) processes end at the kill points instead:
 * each point of the heap and of the locks in turn, on each of its first three hits, also those of
 * the repair. It fails if one is never come by.
 */
#include "shm/heap.h"
#include "shm/heap_int.h"
#include "shm/kill.h"
#include "shm/segment.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WORKERS 4
#define MEDIC 5 /* the seat of the child that repairs */
#define HELD 400
#define PATIENCE 20000 /* looks, 50 us apart */
#define BOXES 256
#define LIMIT (192ul << 20)

struct entry {
	_Atomic uintptr_t block;
	uint64_t stamp;
	size_t size;
};

/*
 * OWNER  a worker: its row of held, its task heap; box: anybody, by exchange
 * DEATH  an entry holds a block only after it was filled, and is emptied before the block is freed
 */
static struct shared {
	struct entry held[WORKERS + 1][HELD];
	_Atomic uintptr_t box[BOXES];
	struct sh_heap *_Atomic task[WORKERS + 1];
	struct sh_heap *_Atomic system;
	_Atomic uint64_t ops, tasks, full;
	_Atomic int failed, stop;
	_Atomic int armed;  /* kill points to go by before the next death */
	_Atomic int target; /* the only kill point that counts, or -1 */
	_Atomic int at_medic;
	char where[64];
	uint32_t killed[256]; /* by kill point */
} * sh;

static struct sh_arena *arena;
static uint64_t rng;
static bool mortal;	 /* a worker or a child that repairs */
static unsigned planned; /* kill points: which is next, and on which hit */
#define HITS 3

static uint64_t next(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng * 0x2545f4914f6cdd1dul >> 8;
}

#ifdef SHOAL_KILL_POINTS
/* Ours instead of shm/kill.c: it is the storm that chooses. */
void sh_kill_seated(void)
{
}

void sh_kill_hit(const struct sh_kill_point *here)
{
	if (!mortal || atomic_load_explicit(&sh->armed, memory_order_relaxed) <= 0)
		return;
	if (atomic_load(&sh->target) >= 0 && &__start_shoal_kill[atomic_load(&sh->target)] != here)
		return;
	if (atomic_load(&sh->at_medic) && getpid() != atomic_load(&sh->at_medic))
		return;
	if (atomic_fetch_sub(&sh->armed, 1) != 1)
		return;
	for (unsigned i = 0; __start_shoal_kill + i < __stop_shoal_kill; i++)
		if (&__start_shoal_kill[i] == here)
			sh->killed[i % 256]++;
	snprintf(sh->where, sizeof sh->where, "%s", here->name);
	kill(getpid(), SIGKILL);
	for (;;)
		pause();
}

static unsigned npoints(void)
{
	return (unsigned)(__stop_shoal_kill - __start_shoal_kill);
}

static const char *point(unsigned i)
{
	return __start_shoal_kill[i].name;
}

static int find_point(const char *name)
{
	for (unsigned i = 0; i < npoints(); i++)
		if (!strcmp(point(i), name))
			return (int)i;
	fprintf(stderr, "heap_stress: no kill point %s\n", name);
	abort();
}

/* True if workers or repairs of this program pass the point: the seats of the segment have no processes here. */
static bool concerns_us(unsigned i)
{
	return !strncmp(point(i), "heap.", 5) || !strncmp(point(i), "lock.", 5);
}

static bool of_repair(unsigned i)
{
	return !strncmp(point(i), "heap.repair.", 12) || !strncmp(point(i), "lock.try.", 9);
}

/* Comes by only where memory, or the table of heaps, was never used before: at_the_top sees to it. */
static bool of_top(unsigned i)
{
	return !strncmp(point(i), "heap.top.", 9) || !strcmp(point(i), "heap.grow.top") ||
	       !strcmp(point(i), "heap.grow.moved") || !strcmp(point(i), "heap.new.written");
}

/* The point to die at next; for one of the repair: one that leaves something to repair. -1: all have been. */
static int plan(void)
{
	while (planned < npoints() * HITS && (!concerns_us(planned / HITS) || of_top(planned / HITS)))
		planned++;
	if (planned == npoints() * HITS)
		return -1;
	if (!of_repair(planned / HITS))
		return (int)planned / HITS;
	if (!strcmp(point(planned / HITS), "heap.repair.purged") || !strncmp(point(planned / HITS), "lock.try.", 9))
		return find_point("heap.purge.begun");
	return find_point("heap.span.committed");
}
#endif

static _Noreturn void fail(const char *what, const void *p)
{
	fprintf(stderr, "heap_stress: %s at %p (seat process %d)\n", what, p, (int)getpid());
	atomic_store(&sh->failed, 1);
	_exit(3);
}

static size_t pick_size(void)
{
	uint64_t r = next() % 1000;

	if (r < 700)
		return next() % 256;
	if (r < 950)
		return next() % 4096;
	if (r < 990)
		return next() % 40000;
	return next() % 600000;
}

/* The block says its size and number itself, and is full of the number. */
static void fill(uint64_t *p, size_t size, uint64_t stamp)
{
	p[0] = stamp;
	p[1] = size;
	for (size_t i = 2; i < size / 8; i++)
		p[i] = stamp;
}

static void check_block(const uint64_t *p, uint64_t stamp)
{
	size_t have = sh_heap_usable(arena, p);

	if (have < 16 || have < p[1])
		fail("block is not live", p);
	if (stamp && p[0] != stamp)
		fail("block has another's number", p);
	for (size_t i = 2; i < p[1] / 8; i++)
		if (p[i] != p[0])
			fail("block was written by another", p);
}

static void *take(struct sh_heap *h, unsigned seat, unsigned cpu, uint64_t stamp)
{
	size_t size = pick_size() | 16, align = next() % 64 ? 0 : 16ul << next() % 12;
	bool zero = next() % 16 == 0;
	uint64_t *p = sh_heap_alloc(h, seat, cpu, size, align, zero);

	if (!p) {
		atomic_fetch_add(&sh->full, 1);
		return NULL;
	}
	if (((uintptr_t)p & ((align ? align : 16) - 1)) || sh_heap_of(arena, p) != h)
		fail("misplaced block", p);
	if (zero)
		for (size_t i = 0; i < size / 8; i++)
			if (p[i])
				fail("block is not zero", p);
	fill(p, size, stamp);
	return p;
}

static void step_held(struct sh_heap *h, unsigned seat, unsigned cpu)
{
	struct entry *e = &sh->held[seat][next() % HELD];
	uint64_t *p = (uint64_t *)atomic_load(&e->block);

	if (next() % 256 == 0) { /* a mapping comes and goes: counted, and no memory of the heap's */
		sh_heap_set_mapped(h, seat, PAGE_BYTES);
		sh_heap_set_mapped(h, seat, 0);
	}
	if (p) {
		check_block(p, e->stamp);
		if (next() % 8 == 0 && sh_heap_resize(arena, seat, cpu, p, p[1] + next() % 9000)) {
			if (sh_heap_usable(arena, p) < p[1])
				fail("resized too small", p);
			return;
		}
		if (p[1] > 100000 && next() % 2) { /* the block says its new size first: less is always true */
			p[1] = 40000 + next() % 40000;
			sh_heap_resize(arena, seat, cpu, p, p[1]);
			return;
		}
		atomic_store(&e->block, 0);
		sh_heap_free(arena, seat, cpu, p);
		return;
	}
	e->stamp = next() | 1;
	p = take(h, seat, cpu, e->stamp);
	atomic_store(&e->block, (uintptr_t)p);
}

static void step_box(struct sh_heap *h, unsigned seat, unsigned cpu)
{
	uint64_t *p = next() % 4 ? take(h, seat, cpu, next() | 1) : NULL;

	p = (uint64_t *)atomic_exchange(&sh->box[next() % BOXES], (uintptr_t)p);
	if (p) {
		check_block(p, 0);
		sh_heap_free(arena, seat, cpu, p);
	}
}

static void run_task(unsigned seat, unsigned cpu)
{
	struct sh_heap *h = sh_heap_new(arena, seat, next() % 2 ? 0 : 1 << 20);
	unsigned n = 1 + (unsigned)(next() % 60);
	void *p[64];

	if (!h)
		fail("no heap", NULL);
	atomic_store(&sh->task[seat], h);
	sh_heap_privilege(h, n % 2);
	for (unsigned i = 0; i < n; i++)
		p[i] = take(h, seat, i % 16 == 15 ? SH_HEAP_NOCPU : cpu, 1);
	for (unsigned i = 0; i < n; i += 3)
		if (p[i])
			sh_heap_free(arena, seat, cpu, p[i]);
	if (next() % 2) { /* some are left, and one of them is freed later, perhaps by another cpu */
		sh_heap_touch(h, seat);
		if (!sh_heap_retire(h, seat) && n > 1 && p[1])
			sh_heap_free(arena, seat, next() % 2 ? cpu : SH_HEAP_NOCPU, p[1]);
		sh_heap_renewed(h, seat);
	}
	sh_heap_release(h, seat);
	atomic_store(&sh->task[seat], NULL);
	atomic_fetch_add(&sh->tasks, 1);
}

static _Noreturn void work(unsigned seat, uint64_t seed)
{
	struct sh_heap *h = atomic_load(&sh->system);
	unsigned cpu = seat - 1;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	rng = seed | 1;
	mortal = true;
	while (!atomic_load_explicit(&sh->stop, memory_order_relaxed)) {
		uint64_t r = next() % 4096;

		if (r < 20)
			run_task(seat, cpu);
		else if (r < 24)
			sh_heap_flush(h, seat, cpu);
		else if (r < 2600)
			step_box(h, seat, r % 16 == 0 ? SH_HEAP_NOCPU : cpu);
		else
			step_held(h, seat, cpu);
		atomic_fetch_add_explicit(&sh->ops, 1, memory_order_relaxed);
	}
	_exit(0);
}

static pid_t start(unsigned seat)
{
	uint64_t seed = next();
	pid_t pid = fork();

	if (pid == 0)
		work(seat, seed);
	return pid;
}

static void audit(const char *when)
{
	char msg[200] = "";

	if (sh_heap_audit(arena, 0, msg, sizeof msg) == 0)
		return;
	fprintf(stderr, "heap_stress: audit %s (after %s): %s\n", when, sh->where, msg);
	atomic_store(&sh->failed, 1);
}

/* Repairs in a child that may be killed; at last ourselves. */
static void repair(unsigned seat)
{
	int target = -1;

#ifdef SHOAL_KILL_POINTS
	if (planned < npoints() * HITS && of_repair(planned / HITS))
		target = (int)planned / HITS;
#endif
	for (int tries = 0; tries < (target < 0 ? 2 : 1) && (target >= 0 || next() % 4 == 0); tries++) {
		uint64_t hits = target >= 0 ? 1 + planned % HITS : 1 + next() % 40;
		pid_t pid;
		int status;

		atomic_store(&sh->armed, 0);
		pid = fork();
		if (pid == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			mortal = true;
			atomic_store(&sh->at_medic, getpid());
			atomic_store(&sh->target, target);
			atomic_store(&sh->armed, (int)hits);
			sh_heap_repair(arena, seat, MEDIC);
			_exit(0);
		}
#ifndef SHOAL_KILL_POINTS
		struct timespec t = {0, (long)(next() % 300000)};

		nanosleep(&t, NULL);
		kill(pid, SIGKILL);
#endif
		waitpid(pid, &status, 0);
		atomic_store(&sh->armed, 0);
		atomic_store(&sh->at_medic, 0);
		sh_heap_repair(arena, MEDIC, 0);
	}
	sh_heap_repair(arena, seat, 0);
}

#ifdef SHOAL_KILL_POINTS
/* A single process allocates larger and larger blocks at the end of the used part and grows them beyond it. */
static _Noreturn void climb(struct sh_heap *h)
{
	mortal = true;
	for (;;) {
		size_t size = ((size_t)8 << 20) + atomic_fetch_add(&sh->ops, 1) * 64 * PAGE_BYTES;
		void *p = sh_heap_alloc(h, 1, 0, size, 0, false);

		if (!p || !sh_heap_resize(arena, 1, 0, p, size + 32 * PAGE_BYTES))
			fail("no room at the top", p);
		sh_heap_free(arena, 1, 0, p);
		sh_heap_release(sh_heap_new(arena, 1, 0), 1);
	}
}

static void at_the_top(void)
{
	for (unsigned i = 0; i < npoints(); i++)
		for (int hit = 1; hit <= HITS && of_top(i); hit++) {
			struct sh_heap *h = sh_heap_new(arena, 0, 0);
			int status;
			pid_t pid;

			atomic_store(&sh->target, (int)i);
			atomic_store(&sh->armed, hit);
			if ((pid = fork()) == 0)
				climb(h);
			waitpid(pid, &status, 0);
			if (!WIFSIGNALED(status))
				atomic_store(&sh->failed, 1);
			repair(1);
			audit("at the top");
			sh_heap_release(h, 0);
		}
}
#else
static void at_the_top(void)
{
}
#endif

/* Waits until one is dead: killed by us, or at a kill point. Returns its seat, 0 for none. */
static unsigned await_death(const pid_t *pid)
{
	struct timespec t = {0, (long)(next() % 1500000)};
	unsigned seat = 1 + (unsigned)(next() % WORKERS);
	int status;
	pid_t dead;

#ifdef SHOAL_KILL_POINTS
	(void)t;
	atomic_store(&sh->target, plan());
	atomic_store(&sh->armed, of_repair(planned / HITS) ? 1 : 1 + (int)(planned % HITS));
	for (unsigned n = 0; (dead = waitpid(-1, &status, WNOHANG)) == 0; n++) {
		nanosleep(&(struct timespec){0, 50000}, NULL);
		if (n > PATIENCE && atomic_exchange(&sh->armed, 0) > 0)
			return 0; /* nobody comes by */
	}
#else
	nanosleep(&t, NULL);
	kill(pid[seat], SIGKILL);
	dead = waitpid(pid[seat], &status, 0);
#endif
	for (seat = WORKERS; seat > 0 && pid[seat] != dead; seat--)
		;
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) {
		fprintf(stderr, "heap_stress: worker %u ended with status %x\n", seat, status);
		atomic_store(&sh->failed, 1);
	}
	return seat;
}

#ifdef SHOAL_KILL_POINTS
static bool go_on(uint64_t until)
{
	(void)until;
	return plan() >= 0;
}
#else
static bool go_on(uint64_t until)
{
	return sh_now() < until;
}
#endif

static uint64_t storm(uint64_t until)
{
	pid_t pid[WORKERS + 1];
	uint64_t deaths = 0;

	for (unsigned s = 1; s <= WORKERS; s++)
		pid[s] = start(s);
	while (go_on(until) && !atomic_load(&sh->failed)) {
		unsigned seat = await_death(pid);
		struct sh_heap *h;

		if (!seat) {
			planned++;
			continue;
		}
		deaths++;
		repair(seat);
		h = atomic_load(&sh->task[seat]);
		if (h)
			sh_heap_release(h, 0);
		atomic_store(&sh->task[seat], NULL);
		if (deaths % 4 == 0)
			audit("under load");
		pid[seat] = start(seat);
		planned++;
	}
	atomic_store(&sh->armed, 0);
	atomic_store(&sh->stop, 1);
	for (unsigned s = 1; s <= WORKERS; s++)
		waitpid(pid[s], NULL, 0);
	return deaths;
}

#ifdef SHOAL_KILL_POINTS
static void list_points(void)
{
	unsigned n = 0, kills = 0;

	for (unsigned i = 0; i < npoints(); i++) {
		n += concerns_us(i);
		kills += sh->killed[i % 256];
		if (!concerns_us(i) || sh->killed[i % 256])
			continue;
		fprintf(stderr, "heap_stress: never killed at %s\n", point(i));
		atomic_store(&sh->failed, 1);
	}
	printf("%u kill points, %u kills survived\n", n, kills);
}
#else
static void list_points(void)
{
}
#endif

/* Frees all known blocks, then releases all heaps: nothing may be left. */
static void settle(uint64_t deaths)
{
	struct sh_heap *h = atomic_load(&sh->system);
	struct sh_heap_stats st;

	audit("at rest");
	for (unsigned s = 1; s <= WORKERS; s++)
		for (unsigned i = 0; i < HELD; i++) {
			uint64_t *p = (uint64_t *)atomic_load(&sh->held[s][i].block);

			if (p) {
				check_block(p, sh->held[s][i].stamp);
				sh_heap_free(arena, 0, s - 1, p);
			}
		}
	for (unsigned i = 0; i < BOXES; i++)
		if (atomic_load(&sh->box[i])) {
			check_block((void *)atomic_load(&sh->box[i]), 0);
			sh_heap_free(arena, 0, i % 3 ? 0 : SH_HEAP_NOCPU, (void *)atomic_load(&sh->box[i]));
		}
	for (unsigned cpu = 0; cpu < WORKERS; cpu++)
		sh_heap_flush(h, 0, cpu);
	audit("flushed");
	printf("after all was freed: %zu bytes in blocks that %lu deaths lost, heap has %zu\n", sh_arena_live(arena, 0),
	       (unsigned long)deaths, sh_heap_used(h));
	sh_heap_release(h, 0);
	audit("released");
	sh_arena_stats(arena, &st);
	printf("after release: used %zu, committed %zu KiB\n", st.used, st.committed >> 10);
	if (st.used) {
		fprintf(stderr, "heap_stress: %zu bytes left\n", st.used);
		atomic_store(&sh->failed, 1);
	}
}

/* ---- figures ---- */

#define MIX 20000
static void *mix_block[MIX];

static double ns_per(uint64_t t0, uint64_t n)
{
	return (double)(sh_now() - t0) / (double)n;
}

static size_t mix_size(void)
{
	uint64_t r = next();

	return r % 10 < 7 ? 16 + r / 16 % 240 : r % 10 < 9 ? 256 + r / 16 % 1792 : 2048 + r / 16 % 14000;
}

/* Random replacement; every remote-th block is freed by another cpu. heap NULL: malloc. */
static double mix(struct sh_heap *h, unsigned remote, unsigned n)
{
	uint64_t t0;
	double ns;

	rng = 12345;
	memset(mix_block, 0, sizeof mix_block);
	for (unsigned i = 0; i < MIX; i++)
		mix_block[i] = h ? sh_heap_alloc(h, 0, 0, mix_size(), 0, false) : malloc(mix_size());
	t0 = sh_now();
	for (unsigned i = 0; i < n; i++) {
		uint64_t r = next();
		void **b = &mix_block[r % MIX];

		if (h) {
			sh_heap_free(arena, 0, remote && r / MIX % remote == 0, *b);
			*b = sh_heap_alloc(h, 0, 0, mix_size(), 0, false);
		} else {
			free(*b);
			*b = malloc(mix_size());
		}
		*(char *)*b = 1;
	}
	ns = ns_per(t0, n);
	for (unsigned i = 0; i < MIX; i++) {
		if (h)
			sh_heap_free(arena, 0, 0, mix_block[i]);
		else
			free(mix_block[i]);
	}
	return ns;
}

static double pairs(struct sh_heap *h, size_t size, unsigned n)
{
	uint64_t t0 = sh_now();

	for (unsigned i = 0; i < n; i++) {
		void *p = h ? sh_heap_alloc(h, 0, 0, size, 0, false) : malloc(size);

		__asm__ volatile("" : "+r"(p) : : "memory");
		if (h)
			sh_heap_free(arena, 0, 0, p);
		else
			free(p);
	}
	return ns_per(t0, n);
}

/* Takes many blocks of 256 bytes: ns and bytes of memory each; then frees them. */
static void park(struct sh_heap *h)
{
	enum { N = 400000 };
	struct sh_heap_stats before, after;
	void **p = mmap(NULL, N * sizeof *p, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	uint64_t t0;
	double in, out;

	sh_arena_stats(arena, &before);
	t0 = sh_now();
	for (unsigned i = 0; i < N; i++) {
		p[i] = sh_heap_alloc(h, 0, 0, 256, 0, false);
		*(char *)p[i] = 1;
	}
	in = ns_per(t0, N);
	sh_arena_stats(arena, &after);
	t0 = sh_now();
	for (unsigned i = 0; i < N; i++)
		sh_heap_free(arena, 0, 0, p[i]);
	out = ns_per(t0, N);
	printf("blocks of 256 bytes: alloc %.1f ns, free %.1f ns, %.1f bytes each\n", in, out,
	       (double)(after.committed - before.committed) / N);
	sh_arena_stats(arena, &after);
	printf("then committed %zu MiB, used %zu\n", after.committed >> 20, after.used);
	munmap(p, N * sizeof *p);
}

static void small_tasks(void)
{
	enum { N = 20000 };
	uint64_t in_release = 0, t0 = sh_now(), t1;

	for (unsigned i = 0; i < N; i++) {
		struct sh_heap *h = sh_heap_new(arena, 0, 0);

		for (size_t size = 32; size <= 512; size *= 2)
			*(char *)sh_heap_alloc(h, 0, 0, size, 0, false) = 1;
		t1 = sh_now();
		sh_heap_release(h, 0);
		in_release += sh_now() - t1;
	}
	printf("task heap with 5 spans: %.0f ns, of which release %.0f\n", ns_per(t0, N), (double)in_release / N);
}

static void bench(void)
{
	struct sh_heap *h = sh_heap_new(arena, 0, 0);
	unsigned n = 1000000;

	park(h);
	printf("pair 64 B: %.1f ns (malloc %.1f)\n", pairs(h, 64, 10 * n), pairs(NULL, 64, 10 * n));
	printf("pair 40000 B: %.1f ns (malloc %.1f)\n", pairs(h, 40000, n / 10), pairs(NULL, 40000, n / 10));
	printf("mix: %.1f ns, a half freed remotely %.1f, all %.1f (malloc %.1f)\n", mix(h, 0, n), mix(h, 2, n),
	       mix(h, 1, n), mix(NULL, 0, n));
	small_tasks();
	sh_heap_release(h, 0);
	audit("after the figures");
}

int main(int argc, char **argv)
{
	bool only_bench = argc > 1 && !strcmp(argv[1], "bench");
	uint64_t seed =
		argc > 1 && !only_bench ? strtoull(argv[1], NULL, 0) : (uint64_t)time(NULL) ^ (uint64_t)getpid() << 32;
	uint64_t ms = argc > 2 ? strtoull(argv[2], NULL, 0) : 1800, deaths;
	int fd = sh_segment_create(only_bench ? 2ul << 30 : LIMIT);

	sh = mmap(NULL, sizeof *sh, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (fd < 0 || sh == MAP_FAILED) {
		perror("heap_stress: segment");
		return 1;
	}
	arena = sh_root->arena;
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!only_bench) {
		printf("heap_stress: seed %#lx\n", (unsigned long)seed);
		rng = seed | 1;
		arena->rest = 4096; /* four make and release them here, and a dead one's is released late */
		arena->slack = (2ul << 20) / PAGE_BYTES; /* much goes back to the system and comes again */
		atomic_store(&sh->system, sh_heap_new(arena, 0, 0));
		at_the_top();
		deaths = storm(sh_now() + ms * 1000000);
		printf("%lu deaths, %lu operations, %lu tasks, %lu times full\n", (unsigned long)deaths,
		       (unsigned long)atomic_load(&sh->ops), (unsigned long)atomic_load(&sh->tasks),
		       (unsigned long)atomic_load(&sh->full));
		settle(deaths);
		list_points();
	}
	if (!atomic_load(&sh->failed) && only_bench)
		bench();
	puts(atomic_load(&sh->failed) ? "heap_stress: FAILED" : "heap_stress: ok");
	return atomic_load(&sh->failed);
}
