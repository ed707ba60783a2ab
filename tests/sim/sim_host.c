/*
 * sim_host.c - core/host.h for simulated workers. See sim.h.
 *
 * A worker has a context for g0; a goroutine has one for its body, on a stack that never moves. At
 * a point the running worker's context is kept wherever it stands, on g0 or in a body. What lies
 * in the windows is not the bodies' frames but a pattern of the same size, written when a
 * goroutine leaves and looked at when it goes on: so migration, displacement and growth are
 * checked byte for byte.
 */
#undef _FORTIFY_SOURCE /* its longjmp knows one stack only */
#include "tests/sim/sim.h"
#include "core/g/g.h"
#include "core/g/names.h"
#include "core/g/stack.h"
#include "core/host.h"
#include "core/repair/audit.h"
#include "core/repair/repair.h"
#include "core/root.h"
#include "core/sched/idle.h"
#include "core/sched/m.h"
#include "core/sched/netpoll.h"
#include "core/sched/preempt.h"
#include "core/sched/proc.h"
#include "core/sched/procs.h"
#include "core/sched/sysmon.h"
#include "core/sync/select.h"
#include "core/sync/waitq.h"
#include "core/task/checkdead.h"
#include "core/task/task.h"
#include "shm/check.h"
#include "shm/kill.h"
#include "shm/lock.h"
#include "shm/segment.h"

#include <errno.h>
#include <linux/futex.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#define SEATS 8
#define BODIES 4096
#define G0_STACK (256ul << 10)
#define BODY_STACK (64ul << 10)
#define POINTS_MAX 3000000u
#define LAST 64u
#define REAP_NS 1000000
#define STW_NS 20000

enum state { C_NONE, C_RUN, C_SLEEP, C_DEAD };

struct ctx {
	jmp_buf base, here;
	enum state state;
	bool made, fresh, woken, leave;
	unsigned seat;
	int64_t until;
	struct g *(*fn)(struct g *);
	struct g *g;
};

struct body {
	jmp_buf base, here;
	bool made;
	struct g *g;
	char *sp;
	uint64_t pattern, parks;
};

struct sim_count sim_count;
bool sim_trace;
void (*sim_probe)(const char *point);
uint32_t sim_windows = 4;

static struct ctx ctx[SEATS], driver, *cur;
static struct body body[BODIES];
static jmp_buf maker;
static struct ctx *making;
static struct body *making_body;
static struct sim_plan plan;
static struct task *task;
static void (*on_stall)(struct task *);
static uint64_t rng, run_seed;
static int64_t now;
static bool active, stalled;
static unsigned medic_lives, waiting;
#define NOT_DEAD UINT64_MAX
static unsigned suspended;
static uint64_t entered, dead_at; /* goroutines gone on with so far; how many when all were said to sleep for good */
static void medic(void);
static void enter(struct g *);
static struct {
	const char *name;
	unsigned seat;
} last[LAST];

/* ---- chance, and failure ---- */

uint64_t sim_rand(void)
{
	uint64_t z = (rng += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

unsigned sim_below(unsigned n)
{
	return (unsigned)((sim_rand() >> 32) * n >> 32);
}

static void tell_where(void)
{
	printf("sim: seed %lu failed at point %lu, %u deaths, %u goroutines lost; the last points:\n",
	       (unsigned long)run_seed, (unsigned long)sim_count.points, sim_count.deaths, sim_count.lost);
	for (uint64_t n = sim_count.points > LAST ? sim_count.points - LAST : 0; n < sim_count.points; n++)
		printf("  %u %s\n", last[n % LAST].seat, last[n % LAST].name);
	for (unsigned i = 0; i <= plan.workers; i++)
		printf("  seat %u: state %d, P %d, G %u, oncpu %u\n", i, (int)ctx[i].state, atomic_load(&allm(i)->p),
		       atomic_load(&allm(i)->curg) ? g_index(atomic_load(&allm(i)->curg)) : 0,
		       atomic_load(&allm(i)->oncpu));
	printf("  idle Ps %lx, idle Ms %lx, spinning %lx\n", (unsigned long)atomic_load(&sched.pidle),
	       (unsigned long)atomic_load(&sched.midle), (unsigned long)atomic_load(&sched.mspinning));
	for (uint64_t i = 1; i < atomic_load(&sched.ngs) && i < 300; i++)
		if (g_state(allg(i)) != G_DEAD)
			printf("  G %lu: %s, %s, res %d\n", (unsigned long)i, g_status_name(g_state(allg(i))),
			       waitreason_name[allg(i)->waitreason], atomic_load(&allg(i)->res));
	printf("again: sim --seed %lu%s\n", (unsigned long)run_seed, plan.death_rate ? " --deaths" : "");
}

void sim_fail(const char *fmt, ...)
{
	va_list ap;

	active = false;
	fputs("sim: ", stdout);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	tell_where();
	sim_failed();
	fflush(stdout);
	_Exit(1);
}

static void on_check(const char *file, int line, const char *what)
{
	sim_fail("check failed in seat %u: %s:%d: %s", cur->seat, file, line, what);
}

/* ---- contexts ---- */

/* No frame of a context is left behind when it is entered anew: g0 and bodies begin here again and again. */
static void g0_begin(void)
{
	struct ctx *c = making;

	if (!_setjmp(c->base))
		_longjmp(maker, 1);
	c = cur;
	if (c->seat == 0)
		medic();
	else
		enter(c->fn ? c->fn(c->g) : mstart(c->seat));
	abort();
}

static void body_begin(void)
{
	struct body *b = making_body;

	if (!_setjmp(b->base))
		_longjmp(maker, 1);
	b = &body[g_index(getg())];
	gmain(b->g);
	abort();
}

static void make(void (*fn)(void), size_t size)
{
	ucontext_t u;

	getcontext(&u);
	u.uc_stack.ss_sp = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	u.uc_stack.ss_size = size;
	u.uc_link = NULL;
	if (u.uc_stack.ss_sp == MAP_FAILED)
		sim_fail("no memory for a stack");
	makecontext(&u, fn, 0);
	if (!_setjmp(maker))
		setcontext(&u);
}

static void switch_to(struct ctx *c)
{
	if (c == cur && !c->fresh)
		return;
	if (_setjmp(cur->here))
		return;
	sim_count.switches++;
	cur = c;
	getm = allm(c->seat);
	if (!c->fresh)
		_longjmp(c->here, 1);
	c->fresh = false;
	_longjmp(c->base, 1);
}

static struct ctx *pick_running(bool not_me)
{
	struct ctx *run[SEATS];
	unsigned n = 0;

	for (unsigned i = 0; i <= plan.workers; i++) {
		struct ctx *c = &ctx[i];

		if (c->state == C_SLEEP && c->until && c->until <= now)
			c->state = C_RUN;
		if (c->state == C_RUN && !(not_me && c == cur))
			run[n++] = c;
	}
	return n ? run[sim_below(n)] : NULL;
}

/* Who goes on. When all sleep, time jumps; when nothing will ever wake one of them, the medic is told. */
static struct ctx *pick(bool not_me)
{
	int64_t next = 0;
	struct ctx *c = pick_running(not_me);

	if (c)
		return c;
	if (not_me && cur->state == C_RUN)
		return cur;
	for (unsigned i = 0; i <= plan.workers; i++)
		if (ctx[i].state == C_SLEEP && ctx[i].until && (!next || ctx[i].until < next))
			next = ctx[i].until;
	if (next) {
		now = next;
		return pick_running(false);
	}
	stalled = true;
	ctx[0].state = C_RUN;
	return &ctx[0];
}

static void wake(struct ctx *c)
{
	c->woken = true;
	if (c->state == C_SLEEP)
		c->state = C_RUN;
}

static void sleep_here(int64_t until)
{
	struct ctx *c = cur;

	if (!c->woken) {
		c->until = until;
		c->state = C_SLEEP;
		switch_to(pick(false));
	}
	c->woken = false;
}

/* ---- points and deaths ---- */

static void die(void)
{
	struct ctx *c = cur;
	struct m *m = allm(c->seat);

	sim_count.deaths++;
	if (c->seat == 0) { /* the supervisor has a new one made at once */
		if (sim_trace)
			printf("  the medic dies\n");
		c->fresh = true;
		c->fn = NULL;
	} else {
		if (atomic_load(&m->oncpu) && atomic_load(&m->curg))
			sim_count.lost++;
		if (sim_trace)
			printf("  seat %u dies at %s, G %u, oncpu %u\n", c->seat,
			       last[(sim_count.points - 1) % LAST].name,
			       atomic_load(&m->curg) ? g_index(atomic_load(&m->curg)) : 0, atomic_load(&m->oncpu));
		c->state = C_DEAD;
		atomic_fetch_or(&sh_root->seat[c->seat].liveness, FUTEX_OWNER_DIED);
		wake(&ctx[0]);
	}
	switch_to(pick(false));
}

/* What is no point, and told to tests from inside alone. */
static void probe(const char *what)
{
	if (!active && sim_probe)
		sim_probe(what);
}

/* Passed so seldom that deaths there want help. */
static bool seldom(const char *name)
{
	return !strncmp(name, "netpoll.", 8) || !strncmp(name, "syscall.", 8) || !strncmp(name, "sim.", 4);
}

void sh_sim_point(const char *name)
{
	size_t n;
	bool waits;

	if (!active) {
		now += 20;
		if (sim_probe)
			sim_probe(name);
		return;
	}
	last[sim_count.points % LAST].name = name;
	last[sim_count.points % LAST].seat = cur->seat;
	if (++sim_count.points > POINTS_MAX)
		sim_fail("no end after %u points", POINTS_MAX);
	if (sim_trace)
		printf("%lu %u %s G %u\n", (unsigned long)sim_count.points, cur->seat, name,
		       atomic_load(&getm->curg) ? g_index(atomic_load(&getm->curg)) : 0);
	now += 20 + (int64_t)sim_below(400);
	if (plan.deaths && sim_below(seldom(name) ? plan.death_rate / 16 + 1 : plan.death_rate) == 0 &&
	    (cur->seat || plan.medic_dies)) {
		plan.deaths--;
		die();
	}
	if (cur->seat && sim_below(1000) == 0) /* a round of sysmon */
		wake(&ctx[0]);
	if (plan.renewals && sim_below(500) == 0) {
		struct ctx *c = &ctx[1 + sim_below(plan.workers)];

		plan.renewals--;
		if (c->state == C_RUN || c->state == C_SLEEP) {
			c->leave = true;
			wake(c);
		}
	}
	n = strlen(name);
	waiting = strcmp(name, "lock.wait") == 0 ? waiting + 1 : 0;
	if (waiting > 3000)
		sim_fail("waits for a lock for ever");
	waits = n > 5 && strcmp(name + n - 5, ".wait") == 0;
	if (waits || sim_below(plan.switch_rate) == 0)
		switch_to(pick(waits));
}

static void mend(unsigned seat)
{
	struct sh_seat *s = &sh_root->seat[seat];
	struct ctx *c = &ctx[seat];

	atomic_store(&s->state, SEAT_DEAD);
	KILL_POINT("sim.mend.dead");
	repair_seat(seat);
	sim_look_at_queues();
	sim_look_at_timers();
	repair_wake();
	atomic_store(&s->state, SEAT_VACANT);
	wakep();
	KILL_POINT("sim.mend.vacant");
	c->state = C_RUN;
	c->fresh = true;
	c->fn = NULL;
	c->woken = c->leave = false;
	atomic_store(&s->liveness, 1);
	atomic_store(&s->state, SEAT_LIVE);
}

static bool waits_for_io(void)
{
	for (uint64_t i = 1; i < atomic_load(&sched.ngs); i++)
		if (g_state(allg(i)) == G_WAITING && allg(i)->waitreason == WAIT_IO)
			return true;
	return false;
}

/* Whoever is said to sleep for good is taken at his word: none of them goes on. And when all do, it is seen. */
static void check_deadlock(bool all)
{
	bool dead;

	if (atomic_load(&task->state) != TASK_RUNNING)
		return;
	if (dead_at != NOT_DEAD && dead_at != entered)
		sim_fail("a goroutine went on after all were said to sleep for good");
	if (!all && dead_at != NOT_DEAD)
		return;
	dead = checkdead(task);
	if (dead)
		dead_at = entered;
	else if (all && !atomic_load(&task->verdict) && !waits_for_io())
		sim_fail("all sleep for good, and it is not seen");
}

/* The number of Ps is changed, and goroutines are held still and let go. */
static void disturb(void)
{
	uint64_t ngs = atomic_load(&sched.ngs);
	enum suspended how;
	struct g *g;

	if (sim_below(8) == 0 && !atomic_load(&sched.procs_asked))
		atomic_store(&sched.procs_asked, 1 + sim_below(5));
	if (sim_below(3) || ngs < 2 || atomic_load(&sched.gcwaiting))
		return;
	g = allg(1 + sim_below((unsigned)ngs - 1));
	how = suspendG(g, g->gid, now + 100000);
	suspended += how == SUSPEND_STOPPED;
	resumeG(g, how);
}

static void medic(void)
{
	unsigned looks = 0, stalls = 0, rounds = 0;
	bool stops;

	repair_begin();
	if (medic_lives++) {
		repair_seat(0);
		repair_wake();
	}
	for (;;) {
		bool soon, news = false, all = stalled;
		int64_t tick;
		uint32_t state;

		stalled = false;
		for (unsigned i = 1; i <= plan.workers; i++)
			if (ctx[i].state == C_DEAD) {
				all = false;
				mend(i);
			}
		state = atomic_load(&task->state);
		task_step(task, &news);
		check_deadlock(all);
		if (atomic_load(&task->state) == TASK_RUNNING)
			disturb();
		stops = procs_step(now);
		soon = state == TASK_ENDING && !news;
		if (soon && ++looks > 2000)
			sim_fail("the task does not end");
		if (all && state == TASK_RUNNING && atomic_load(&task->state) == TASK_RUNNING) {
			if (++stalls > 10)
				sim_fail("the task was to end, and does not");
			on_stall(task);
		} else if (all && state == TASK_ENDED) {
			active = false;
			switch_to(&driver);
		}
		if (++rounds % 16 == 0)
			sim_look_at_timers();
		tick = sysmon(now);
		sleep_here(stops ? now + STW_NS : tick ? now + tick : soon ? now + REAP_NS : 0);
	}
}

void sim_begin(uint64_t seed, const struct sim_plan *p)
{
	run_seed = seed;
	rng = seed * 0x9e3779b97f4a7c15u + 1;
	plan = *p;
	now = 1000000000;
	active = stalled = false;
	medic_lives = waiting = 0;
	entered = 0;
	dead_at = NOT_DEAD;
	memset(&sim_count, 0, sizeof sim_count);
	sim_net_begin();
	sh_check_hook = on_check;
	cur = &driver;
	getm = allm(0);
	for (unsigned i = 0; i <= p->workers; i++) {
		struct ctx *c = &ctx[i];

		c->seat = i;
		if (!c->made) {
			making = c;
			make(g0_begin, G0_STACK);
			c->made = true;
		}
		c->state = C_RUN;
		c->fresh = true;
		c->woken = c->leave = false;
		c->fn = NULL;
		atomic_store(&sh_root->seat[i].state, SEAT_LIVE);
	}
}

void sim_run(struct task *t, void (*stall)(struct task *))
{
	task = t;
	on_stall = stall;
	active = true;
	switch_to(pick(false));
	getm = allm(0);
}

/* ---- windows ---- */

char *host_window(uint32_t w)
{
	if (w < WIN_COUNT)
		return (char *)SH_WIN_BASE + (uint64_t)w * WIN_SIZE;
	return (char *)SH_WIN_BASE + WIN_COUNT * WIN_SIZE + (uint64_t)(w - WIN_COUNT) * WIN_LARGE_SIZE;
}

size_t host_window_size(uint32_t w)
{
	return w < WIN_COUNT ? WIN_SIZE : WIN_LARGE_SIZE;
}

char *host_region(unsigned seat, uint32_t w)
{
	return (char *)sh_at(SH_OFF_WINDOWS) + seat * SH_REGION + (host_window(w) - (char *)SH_WIN_BASE);
}

char *host_here(const void *at)
{
	return (char *)sh_at(SH_OFF_WINDOWS) + getm->seat * SH_REGION + ((uintptr_t)at - SH_WIN_BASE);
}

void host_window_guard(uint32_t win, size_t stack_max)
{
	(void)win;
	(void)stack_max;
}

/* ---- the switch ---- */

static size_t some_depth(void)
{
	unsigned r = sim_below(100);

	return 16 * (size_t)(r < 80 ? 4 + sim_below(60) : r < 98 ? 16 + sim_below(256) : 64 + sim_below(4032));
}

void host_mexit(struct g *(*fn)(struct g *))
{
	cur->fn = fn;
	cur->g = getg();
	_longjmp(cur->base, 1);
}

void host_mcall(struct g *(*fn)(struct g *))
{
	struct g *g = getg();
	struct body *b = &body[g_index(g)];
	uint64_t *at, *top = (uint64_t *)host_here(stack_top(g->win)), v;

	if (_setjmp(b->here))
		return;
	b->pattern = v = sim_rand();
	b->parks++;
	b->sp = g->sp = stack_top(g->win) - some_depth();
	for (at = (uint64_t *)host_here(g->sp); at < top; at++)
		*at = v += 0x9e3779b97f4a7c15u;
	cur->fn = fn;
	cur->g = g;
	_longjmp(cur->base, 1);
}

static void resume(struct g *g)
{
	struct body *b = &body[g_index(g)];
	uint64_t v = b->pattern, *top = (uint64_t *)host_here(stack_top(g->win));

	if (g->sp != b->sp || b->g != g)
		sim_fail("G %u goes on with another stack pointer", g_index(g));
	for (uint64_t *at = (uint64_t *)host_here(g->sp); at < top; at++) {
		if (*at != (v += 0x9e3779b97f4a7c15u))
			sim_fail("G %u, park %lu: its frames are not what they were, %ld bytes from the top",
				 g_index(g), (unsigned long)b->parks, (long)((char *)top - (char *)at));
		*at = ~*at; /* while it runs they change: a copy made before is of no use to anybody */
	}
	_longjmp(b->here, 1);
}

static void begin(struct g *g)
{
	struct body *b = &body[g_index(g)];

	if (g_index(g) >= BODIES)
		sim_fail("too many goroutines");
	if (!b->made) {
		making_body = b;
		make(body_begin, BODY_STACK);
		b->made = true;
	}
	b->g = g;
	b->parks = 0;
	_longjmp(b->base, 1);
}

static void enter(struct g *g)
{
	entered++;
	if (g->sp)
		resume(g);
	begin(g);
}

/* ---- time, sleep, and what a process has besides ---- */

int64_t host_now(void)
{
	return now;
}

void host_works(void)
{
}

void host_idle(int64_t until)
{
	bool poller = atomic_load(&sched.poller) == getm->seat;

	if (!active) {
		now = until > now ? until : now;
		probe("host.idle");
		return;
	}
	if (!poller || !sim_net_edge())
		sleep_here(until);
	if (poller)
		host_poll();
}

void sim_block(int64_t ns)
{
	struct ctx *c = cur;
	int64_t until = now + ns;

	while (now < until) {
		c->until = until;
		c->state = C_SLEEP;
		switch_to(pick(false));
		c->state = C_RUN;
	}
}

void host_nap(int64_t ns)
{
	if (active)
		sim_block(ns);
	else
		now += ns;
}

void host_wake(unsigned seat)
{
	if (seat <= plan.workers && ctx[seat].state != C_DEAD)
		wake(&ctx[seat]);
}

void host_bell(void)
{
	probe("host.bell");
	wake(&ctx[0]);
}

void host_kill(unsigned seat)
{
	sim_fail("seat %u would be killed: its goroutine does not give way", seat);
}

enum host_doing host_doing(unsigned seat, int64_t *cpu_ns)
{
	(void)seat;
	*cpu_ns = 0;
	return HOST_RUNS;
}

bool host_must_leave(void)
{
	return cur->leave;
}

void host_leave(void)
{
	cur->state = C_DEAD;
	atomic_fetch_or(&sh_root->seat[cur->seat].liveness, FUTEX_OWNER_DIED);
	wake(&ctx[0]);
	switch_to(pick(false));
	abort();
}

void host_outside(const char *call)
{
	sim_fail("%s: called outside a goroutine", call);
}

void host_stack_damaged(struct g *g)
{
	sim_fail("G %u: its stack pointer is outside of its stack", g_index(g));
	abort();
}

enum signals_ran host_signals(struct g *g)
{
	atomic_fetch_and(&g->preempt, (uint8_t)~PREEMPT_SIGNAL);
	return SIGNALS_NONE;
}

void host_g_inherit(struct g *parent, struct g *child)
{
	(void)parent;
	(void)child;
}

void host_misuse(const char *what)
{
	sim_fail("misuse: %s", what);
}

int *host_errno(void)
{
	return &errno;
}

void host_barrier(void)
{
	probe("host.barrier");
}

void host_kick(unsigned seat)
{
	(void)seat;
	probe("host.kick");
}

void host_switch_task(struct task *t)
{
	(void)t;
}

void host_task_start(struct task *t)
{
	(void)t;
}

void host_task_changed(struct task *t)
{
	(void)t;
}

void host_before_run(struct g *g)
{
	(void)g;
}

void host_off_cpu(struct g *g)
{
	(void)g;
}

void host_before_park(struct g *g)
{
	(void)g;
}

void host_task_begin(struct g *g)
{
	(void)g;
}

void host_task_exit(struct g *g)
{
	(void)g;
}

void host_g_end(struct g *g)
{
	(void)g;
}

void host_part_end(struct g *g)
{
	g->part = NULL;
}

void host_output_finish(unsigned seat, struct g *g)
{
	(void)seat;
	(void)g;
}

void host_output_repair(struct sh_lock *l)
{
	(void)l;
}

void host_file_close(int fd)
{
	atomic_store(&poll_owner[fd], 0);
}

void host_file_unlock(int fd, bool whole)
{
	(void)fd;
	(void)whole;
}

bool host_file_open(int fd)
{
	(void)fd;
	return true;
}

const char *host_seat_fault(unsigned seat)
{
	(void)seat;
	return NULL;
}
