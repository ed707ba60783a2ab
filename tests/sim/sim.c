/*
 * sim.c - runs the scheduler on seeds: a mix of goroutines, and what must hold in the end.
 *
 *   sim [--seed N] [--seeds COUNT] [--deaths] [--trace]
 *
 * Without arguments: 5,000 seeds without and 10,000 with deaths.
 *
 * Without deaths, and with deaths that took no goroutine along, all that was sent has arrived
 * once, all counts are right and nobody waits for ever. Where a goroutine was lost, others may
 * wait for what it would have done: then everybody who waits must have a reason, and nothing
 * arrives twice. In the end the task goes, and the memory is back.
 */
#include "core/life.h"
#include "tests/sim/sim.h"
#include "core/sync.h"
#include "shm/check.h"
#include "shm/heap.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PARTS 4
#define VALUES 256
#define SEEDS 5000
#define SEEDS_DEATHS 10000

enum what { CHANNEL, TREE, MUTEX, SLEEP, JOIN, TIMED, RWMUTEX, COND, SEM, CANCEL, SYSCALL, PIPE, SELECT, KINDS };

struct part {
	enum what what;
	unsigned n, k, cap; /* goroutines, rounds, capacity */
	unsigned leaves;
	struct shoal_chan *c, *c2;
	struct shoal_wg *wg, *wg2;
	struct shoal_mutex *mu;
	struct shoal_rwmutex *rw;
	struct shoal_cond *cond;
	struct shoal_sem *sem;
	unsigned inside, level, closed, counter, sent, received, done;
	unsigned char seen[VALUES];
};

struct arg {
	unsigned part, i, depth;
	char pad[100]; /* sometimes an argument has to be allocated */
};

static struct part part[PARTS];
static struct shoal_wg *root_wg;
static unsigned nparts, passed, batches_failed;
static bool root_done;

static struct { /* as a module's globals would be: outside the segment's heap */
	struct shoal_wg wg[2 * PARTS + 1];
	struct shoal_mutex mu[PARTS];
	struct shoal_rwmutex rw[PARTS];
	struct shoal_cond cond[PARTS];
	struct shoal_sem sem[PARTS];
	struct shoal_rwmutex read_only[5];
} globals;
static bool use_globals;

void sim_failed(void)
{
	printf("tests: %u passed, %u failed\n", passed, batches_failed + 1);
}

static void must(bool ok, const char *what, unsigned p, unsigned got, unsigned want)
{
	if (!ok)
		sim_fail("part %u (kind %d): %s: %u, should be %u", p, (int)part[p].what, what, got, want);
}

static uint64_t lives; /* whose every change was looked at */
static unsigned workers, pins; /* pins: those of the lost are not given back */

/* ---- goroutines ---- */

static void *shared(void *global, size_t n)
{
	void *b = global;

	if (!use_globals)
		b = g_alloc(getg(), n);
	if (!b)
		sim_fail("no memory");
	memset(b, 0, n);
	return b;
}

static shoal_gid start(struct shoal_wg *wg, void (*fn)(void *), struct arg a)
{
	struct shoal_go_opts o = {.flags = SHOAL_ISOLATED, .attempts = 1};
	size_t size = sim_below(3) ? offsetof(struct arg, pad) : sizeof a;
	shoal_gid gid;

	memset(a.pad, (int)(a.i + 1), sizeof a.pad);
	gid = wg ? shoal_wg_go_with(wg, &o, fn, &a, size) : shoal_go_with(&o, fn, &a, size);
	if (!gid)
		sim_fail("a goroutine was not started: %d", errno);
	return gid;
}

/* Stays on its worker, whatever dies. One worker is left unpinned, or nobody would be there to do anything else. */
static void pinned_for_a_while(void)
{
	int worker;

	pins++;
	shoal_pin();
	worker = shoal_worker();
	for (unsigned i = sim_below(3); i < 3; i++) {
		if (sim_below(3))
			shoal_yield();
		else
			shoal_sleep(1 + sim_below(50000));
		if (shoal_worker() != worker)
			sim_fail("pinned to worker %d, and now on %d", worker, shoal_worker());
	}
	shoal_unpin();
	pins--;
}

static void maybe_yield(void)
{
	if (pins + 1 < workers && sim_below(20) == 0)
		pinned_for_a_while();
	if (sim_below(4) == 0)
		shoal_yield();
}

static void producer(void *p)
{
	struct arg *a = p;
	struct part *q = &part[a->part];

	for (unsigned i = 0; i < q->k; i++) {
		uint64_t v = a->i * q->k + i;
		int r;

		maybe_yield();
		r = shoal_send(q->c, &v);
		must(r == 0, "send", a->part, (unsigned)-r, 0);
		q->sent++;
	}
}

static void got(unsigned p, uint64_t v)
{
	must(v < part[p].n * part[p].k, "a value that nobody sent", p, (unsigned)v, 0);
	must(!part[p].seen[v], "a value arrived twice", p, (unsigned)v, 0);
	part[p].seen[v] = 1;
	part[p].received++;
}

static void consumer(void *p)
{
	struct arg *a = p;
	uint64_t v = ~0ull;
	int r;

	while ((r = shoal_recv(part[a->part].c, &v)) == 1) {
		got(a->part, v);
		maybe_yield();
	}
	must(r == 0, "receive", a->part, (unsigned)-r, 0);
}

static void timed_sender(void *p)
{
	struct arg *a = p;
	struct part *q = &part[a->part];

	for (unsigned i = 0; i < q->k; i++) {
		uint64_t v = a->i * q->k + i;
		int r = shoal_send_timed(q->c, &v, 1 + (int64_t)sim_below(100000));

		must(r == 0 || r == -ETIMEDOUT, "timed send", a->part, (unsigned)-r, 0);
		q->sent += r == 0;
	}
}

static void timed_receiver(void *p)
{
	struct arg *a = p;
	unsigned late = 0;
	uint64_t v;
	int r;

	while ((r = shoal_recv_timed(part[a->part].c, &v, 1 + (int64_t)sim_below(100000))) != 0) {
		must(r == 1 || r == -ETIMEDOUT, "timed receive", a->part, (unsigned)-r, 0);
		if (r == 1)
			got(a->part, v);
		else if (sim_count.lost && ++late > 50)
			return; /* who would have closed it may be gone */
	}
}

/* Sends each of its values once, by either channel, or takes one instead; never one that it has sent itself. */
static void selecter(void *p)
{
	struct arg *a = p;
	struct part *q = &part[a->part];

	for (unsigned i = 0; i < q->k;) {
		uint64_t v = a->i * q->k + i, in1 = ~0ull, in2 = ~0ull;
		struct shoal_case k[5] = {{SHOAL_SEND, q->c, &v, 0}, {SHOAL_RECV, q->c, &in1, 0}, {SHOAL_SEND, q->c2, &v, 0},
					  {SHOAL_RECV, q->c2, &in2, 0}, {SHOAL_RECV, NULL, NULL, 0}};
		int64_t timeout = sim_below(2) ? SHOAL_FOREVER : sim_below(3) ? 1 + (int64_t)sim_below(100000) : 0;
		int r = shoal_select(k, 5, timeout);

		if (r == -ETIMEDOUT || r == -EAGAIN) {
			must(timeout != SHOAL_FOREVER, "select gave up", a->part, (unsigned)-r, 0);
			continue;
		}
		must(r >= 0 && r < 4, "select", a->part, (unsigned)-r, 0);
		if (r == 0 || r == 2) {
			must(k[r].result == 0, "select's send", a->part, (unsigned)k[r].result, 0);
			q->sent++;
			i++;
			continue;
		}
		must(k[r].result == 1, "select's receive", a->part, (unsigned)k[r].result, 1);
		must(q->cap || (r == 1 ? in1 : in2) / q->k != a->i, "received what it had sent itself", a->part, a->i, 0);
		got(a->part, r == 1 ? in1 : in2);
	}
}

/* Takes from both until both are closed. */
static void select_drainer(void *p)
{
	struct arg *a = p;
	struct part *q = &part[a->part];
	struct shoal_chan *c[2] = {q->c, q->c2};

	while (c[0] || c[1]) {
		uint64_t v[2];
		struct shoal_case k[3] = {{SHOAL_RECV, c[0], &v[0], 0}, {SHOAL_RECV, c[1], &v[1], 0}, {SHOAL_RECV, c[0], &v[0], 0}};
		int r = shoal_select(k, 3, SHOAL_FOREVER);

		must(r >= 0, "select", a->part, (unsigned)-r, 0);
		if (k[r].result)
			got(a->part, v[r % 2]);
		else
			c[r % 2] = NULL;
		maybe_yield();
	}
}

static void tree(void *p)
{
	struct arg a = *(struct arg *)p;

	if (a.depth == 0) {
		part[a.part].counter++;
		if (pins + 1 < workers && sim_below(10) == 0)
			shoal_pin(); /* ends so: its process goes, and another comes */
		return;
	}
	for (unsigned i = 0; i < 2; i++) {
		start(part[a.part].wg, tree, (struct arg){.part = a.part, .i = i, .depth = a.depth - 1});
		maybe_yield();
	}
}

static void locker(void *p)
{
	struct arg *a = p;
	struct part *q = &part[a->part];

	for (unsigned i = 0; i < q->k; i++) {
		int r = sim_below(4) ? shoal_mutex_lock(q->mu) : shoal_mutex_trylock(q->mu);
		unsigned seen;

		if (r == -EBUSY) {
			r = shoal_mutex_lock(q->mu);
		}
		must(r == 0 || (r == -EOWNERDEAD && sim_count.lost), "lock", a->part, (unsigned)-r, 0);
		must(!q->inside || r == -EOWNERDEAD, "two have the mutex", a->part, q->inside, 0);
		q->inside = 1;
		seen = q->counter;
		maybe_yield();
		q->counter = seen + 1;
		q->inside = 0;
		shoal_mutex_unlock(q->mu);
	}
}

/* 0, or told that a holder died, which is right if one did. */
static void lock_it(unsigned p, int r)
{
	must(r == 0 || (r == -EOWNERDEAD && sim_count.lost), "lock", p, (unsigned)-r, 0);
}

static void reader_writer(void *p)
{
	struct arg *a = p;
	struct part *q = &part[a->part];

	for (unsigned i = 0; i < q->k; i++) {
		unsigned seen, more;
		int r;

		if ((a->i + i) % 3) {
			lock_it(a->part, shoal_rwmutex_rlock(q->rw));
			must(!q->inside || sim_count.lost, "a reader beside a writer", a->part, q->inside, 0);
			more = sim_below(3) ? 0 : sim_below(7); /* the table of what it holds */
			for (unsigned n = 0; n < more; n++)
				lock_it(a->part, shoal_rwmutex_rlock(&globals.read_only[n % 5]));
			maybe_yield();
			for (unsigned n = 0; n < more; n++)
				shoal_rwmutex_runlock(&globals.read_only[n % 5]);
			must(!q->inside || sim_count.lost, "a writer beside a reader", a->part, q->inside, 0);
			shoal_rwmutex_runlock(q->rw);
			continue;
		}
		r = shoal_rwmutex_lock(q->rw);
		lock_it(a->part, r);
		must(!q->inside || sim_count.lost, "two writers", a->part, q->inside, 0);
		q->inside = 1;
		seen = q->counter;
		maybe_yield();
		q->counter = seen + 1;
		q->inside = 0;
		shoal_rwmutex_unlock(q->rw);
	}
}

static void cond_producer(void *p)
{
	struct arg *a = p;
	struct part *q = &part[a->part];

	for (unsigned i = 0; i < q->k; i++) {
		maybe_yield();
		lock_it(a->part, shoal_mutex_lock(q->mu));
		q->level++;
		q->sent++;
		shoal_cond_signal(q->cond);
		shoal_mutex_unlock(q->mu);
	}
}

static void cond_consumer(void *p)
{
	struct arg *a = p;
	struct part *q = &part[a->part];

	lock_it(a->part, shoal_mutex_lock(q->mu));
	while (q->level || !q->closed) {
		if (q->level) {
			q->level--;
			q->received++;
			continue;
		}
		lock_it(a->part, shoal_cond_wait(q->cond, q->mu));
		must(mutex_holder(q->mu->owner) == shoal_self(), "cond_wait came back without the mutex", a->part, 0, 1);
	}
	shoal_mutex_unlock(q->mu);
}

static void sem_user(void *p)
{
	struct arg *a = p;
	struct part *q = &part[a->part];
	unsigned units = 1 + a->i % 2;

	for (unsigned i = 0; i < q->k; i++) {
		int r = shoal_sem_acquire(q->sem, (int)units);

		must(r == 0, "acquire", a->part, (unsigned)-r, 0);
		q->inside += units;
		must(q->inside <= q->cap + 2 || sim_count.lost, "units in use", a->part, q->inside, q->cap + 2);
		maybe_yield();
		q->inside -= units;
		q->counter++;
		shoal_sem_release(q->sem, (int)units);
	}
}

static void blocks_for_ever(void *p)
{
	struct arg *a = p;
	struct part *q = &part[a->part];
	uint64_t v;
	int r = 0;

	maybe_yield();
	switch (a->i % 4) {
	case 0:
		r = shoal_sleep(SHOAL_FOREVER);
		break;
	case 1:
		r = shoal_recv(q->c, &v);
		break;
	case 2:
		r = shoal_sem_acquire(q->sem, 1);
		break;
	case 3:
		lock_it(a->part, shoal_mutex_lock(q->mu));
		r = shoal_cond_wait(q->cond, q->mu);
		if (r == 0 || r == -EOWNERDEAD) /* a death may wake it; what counts is the next wait */
			r = sim_count.lost ? -ECANCELED : r;
		shoal_mutex_unlock(q->mu);
		break;
	}
	must(r == -ECANCELED, "cancelled", a->part, (unsigned)-r, ECANCELED);
	q->counter++;
}

static void sleeper(void *p)
{
	struct arg *a = p;

	for (unsigned i = 0; i < part[a->part].k; i++) {
		int64_t ns = 1 + (int64_t)sim_below(sim_below(4) ? 30000 : 3000000), from = shoal_now();
		int r = shoal_sleep(ns);

		must(r == 0, "sleep", a->part, (unsigned)-r, 0);
		must(shoal_now() - from >= ns, "slept too little", a->part, (unsigned)(shoal_now() - from), (unsigned)ns);
		part[a->part].counter++;
	}
}

static void joined(void *p)
{
	struct arg *a = p;

	maybe_yield();
	if (sim_below(3) == 0)
		shoal_sleep(1 + sim_below(20000));
	part[a->part].counter++;
}

/* In and out of system calls, short ones and such as take longer than sysmon waits. */
static void caller(void *p)
{
	struct arg *a = p;

	for (unsigned i = 0; i < part[a->part].k; i++) {
		if (sim_below(4))
			entersyscall();
		else
			entersyscallblock();
		if (sim_below(2))
			sim_block(1 + (int64_t)sim_below(sim_below(3) ? 2000 : 300000));
		exitsyscall();
		part[a->part].counter++;
		maybe_yield();
	}
}

static void pipe_writer(void *p)
{
	struct arg *a = p;

	for (unsigned i = 0; i < part[a->part].k; i++) {
		maybe_yield();
		if (sim_below(3) == 0)
			shoal_sleep(1 + sim_below(20000));
		sim_pipe_put(a->part);
		part[a->part].sent++;
	}
}

static void pipe_reader(void *p)
{
	struct arg *a = p;
	unsigned late = 0;
	int r;

	while ((r = sim_pipe_take(a->part, part[a->part].cap && sim_below(2) ? host_now() + 1 + sim_below(50000) : 0)) != -EBADF) {
		must(r == 0 || r == -ETIMEDOUT, "take", a->part, (unsigned)-r, 0);
		part[a->part].received += r == 0;
		if (r && sim_count.lost && ++late > 50)
			return;
		maybe_yield();
	}
}

/* ---- parts ---- */

static void pipe_part(unsigned p)
{
	struct part *q = &part[p];

	for (unsigned i = 0; i < q->n; i++) {
		start(q->wg, pipe_writer, (struct arg){.part = p, .i = i});
		start(q->wg2, pipe_reader, (struct arg){.part = p, .i = i});
	}
	shoal_wg_wait(q->wg);
	for (unsigned i = 0; q->received < q->sent && i < 2000 && !sim_count.lost; i++)
		shoal_sleep(10000);
	sim_pipe_close(p);
	shoal_wg_wait(q->wg2);
	if (!sim_count.lost)
		must(q->received == q->n * q->k, "taken", p, q->received, q->n * q->k);
}

static void channel_part(unsigned p, void (*send)(void *), void (*recv)(void *))
{
	struct part *q = &part[p];
	unsigned consumers = 1 + sim_below(3);

	for (unsigned i = 0; i < q->n || i < consumers; i++) {
		if (i < q->n)
			start(q->wg, send, (struct arg){.part = p, .i = i});
		if (i < consumers)
			start(q->wg2, recv, (struct arg){.part = p, .i = i});
	}
	shoal_wg_wait(q->wg);
	must(shoal_close(q->c) == 0, "close", p, 1, 0);
	shoal_wg_wait(q->wg2);
	if (!sim_count.lost) {
		must(q->received == q->sent, "received", p, q->received, q->sent);
		must(q->what == TIMED || q->sent == q->n * q->k, "sent", p, q->sent, q->n * q->k);
		shoal_chan_free(q->c);
	}
}

/* Starts n of each (the second may be NULL), and waits for both. */
static void both(unsigned p, void (*one)(void *), void (*two)(void *))
{
	struct part *q = &part[p];

	for (unsigned i = 0; i < q->n; i++) {
		start(q->wg, one, (struct arg){.part = p, .i = i});
		if (two)
			start(q->wg2, two, (struct arg){.part = p, .i = i});
	}
	shoal_wg_wait(q->wg);
	if (!two)
		return;
	lock_it(p, shoal_mutex_lock(q->mu));
	q->closed = 1;
	shoal_cond_broadcast(q->cond);
	shoal_mutex_unlock(q->mu);
	shoal_wg_wait(q->wg2);
}

static void select_part(unsigned p)
{
	struct part *q = &part[p];

	if (!(q->c2 = shoal_chan_new(8, q->cap ? 1 : 0)))
		sim_fail("no channel");
	for (unsigned i = 0; i < q->n; i++)
		start(q->wg, selecter, (struct arg){.part = p, .i = i});
	start(q->wg2, select_drainer, (struct arg){.part = p});
	shoal_wg_wait(q->wg);
	must(shoal_close(q->c2) == 0 && shoal_close(q->c) == 0, "close", p, 1, 0);
	shoal_wg_wait(q->wg2);
	if (sim_count.lost)
		return;
	must(q->received == q->sent && q->sent == q->n * q->k, "received", p, q->received, q->sent);
	shoal_chan_free(q->c);
	shoal_chan_free(q->c2);
}

static unsigned writes_of(const struct part *q)
{
	unsigned n = 0;

	for (unsigned g = 0; g < q->n; g++)
		for (unsigned i = 0; i < q->k; i++)
			n += (g + i) % 3 == 0;
	return n;
}

static void cancel_part(unsigned p)
{
	struct part *q = &part[p];
	struct shoal_end end;
	shoal_gid gid[8];

	for (unsigned i = 0; i < q->n; i++)
		gid[i] = start(q->wg, blocks_for_ever, (struct arg){.part = p, .i = i});
	maybe_yield();
	for (unsigned i = 0; i < q->n; i++) {
		if (sim_below(2))
			shoal_sleep(1 + sim_below(30000));
		must(shoal_cancel(gid[i]) == 0, "cancel", p, 1, 0);
	}
	for (unsigned i = 0; i < q->n; i++) {
		must(shoal_join(gid[i], &end) == 0, "join", p, 1, 0);
		must(end.how == SHOAL_CANCELLED || sim_count.lost, "its end", p, (unsigned)end.how, SHOAL_CANCELLED);
	}
	shoal_wg_wait(q->wg);
}

static void run_part(void *arg)
{
	unsigned p = ((struct arg *)arg)->part, want = 0;
	struct part *q = &part[p];
	shoal_gid gid[8];

	q->wg = shared(&globals.wg[2 * p], sizeof *q->wg);
	q->wg2 = shared(&globals.wg[2 * p + 1], sizeof *q->wg2);
	q->mu = shared(&globals.mu[p], sizeof *q->mu);
	q->rw = shared(&globals.rw[p], sizeof *q->rw);
	q->cond = shared(&globals.cond[p], sizeof *q->cond);
	q->sem = shared(&globals.sem[p], sizeof *q->sem);
	if (!(q->c = shoal_chan_new(8, q->cap)))
		sim_fail("no channel");
	switch (q->what) {
	case CHANNEL:
		channel_part(p, producer, consumer);
		break;
	case TIMED:
		channel_part(p, timed_sender, timed_receiver);
		break;
	case TREE:
		start(q->wg, tree, (struct arg){.part = p, .depth = q->k % 4});
		shoal_wg_wait(q->wg);
		want = 1u << q->k % 4;
		break;
	case SELECT:
		select_part(p);
		break;
	case RWMUTEX:
		both(p, reader_writer, NULL);
		want = writes_of(q);
		break;
	case COND:
		both(p, cond_producer, cond_consumer);
		q->counter = q->received;
		want = q->n * q->k;
		break;
	case SEM:
		shoal_sem_release(q->sem, (int)q->cap + 2);
		both(p, sem_user, NULL);
		want = q->n * q->k;
		must(q->sem->units == q->cap + 2 || sim_count.lost, "units left", p, (unsigned)q->sem->units, q->cap + 2);
		break;
	case CANCEL:
		cancel_part(p);
		want = q->n;
		break;
	case PIPE:
		pipe_part(p);
		break;
	case MUTEX:
	case SLEEP:
	case SYSCALL:
		for (unsigned i = 0; i < q->n; i++)
			start(q->wg, q->what == MUTEX ? locker : q->what == SLEEP ? sleeper : caller,
			      (struct arg){.part = p, .i = i});
		shoal_wg_wait(q->wg);
		want = q->n * q->k;
		break;
	default:
		for (unsigned i = 0; i < q->n; i++)
			gid[i] = start(NULL, joined, (struct arg){.part = p, .i = i});
		for (unsigned i = 0; i < q->n; i++) {
			struct shoal_end end;
			int r = shoal_join(gid[i], &end);

			must(r == 0, "join", p, (unsigned)-r, 0);
			must(end.how == SHOAL_DONE || (end.how == SHOAL_LOST && sim_count.lost), "its end", p,
			     (unsigned)end.how, SHOAL_DONE);
		}
		want = q->n;
	}
	if (!sim_count.lost)
		must(q->counter == want, "count", p, q->counter, want);
	q->done = 1;
}

static int root(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	root_wg = shared(&globals.wg[2 * PARTS], sizeof *root_wg);
	for (unsigned i = 0; i < nparts; i++)
		start(root_wg, run_part, (struct arg){.part = i});
	shoal_wg_wait(root_wg);
	root_done = true;
	return 7;
}

/* ---- a run ---- */

/* All sleep for ever, the task is not over. With everybody alive this is a lost wake-up. */
static void stalled(struct task *t)
{
	uint64_t ngs = atomic_load(&sched.ngs);

	for (uint64_t i = 1; i < ngs; i++) {
		struct g *g = allg(i);
		unsigned how = atomic_load(&g->sudog.state);

		if (g_state(g) == G_DEAD)
			continue;
		if (g_state(g) != G_WAITING)
			sim_fail("all sleep, and G %lu is %s", (unsigned long)i, g_status_name(g_state(g)));
		if (g->wake_at)
			sim_fail("all sleep, and G %lu was to be woken by a timer", (unsigned long)i);
		if (how == SG_DELIVERED || how == SG_CLOSED)
			sim_fail("all sleep, and G %lu was told that its wait is over", (unsigned long)i);
		for (unsigned p = 0; p < nparts; p++) {
			struct part *q = &part[p];

			if (q->what == PIPE && g->waitreason == WAIT_IO && q->wg && g->wg == q->wg2 && sim_pipe_lost(p))
				sim_fail("all sleep, and G %lu waits for a byte that is there", (unsigned long)i);
			if (q->c && g->sudog.queue == q->c && g->waitreason == WAIT_RECV && shoal_chan_len(q->c))
				sim_fail("all sleep, and G %lu waits for a value that is there", (unsigned long)i);
			if (q->c && g->sudog.queue == q->c && g->waitreason == WAIT_SEND && shoal_chan_len(q->c) < q->cap)
				sim_fail("all sleep, and G %lu waits for room that is there", (unsigned long)i);
			if (q->mu && g->sudog.queue == &q->mu->q && !mutex_holder(atomic_load(&q->mu->owner)))
				sim_fail("all sleep, and G %lu waits for a free mutex", (unsigned long)i);
			if (q->rw && g->sudog.queue == q->rw && !q->rw->writer && !q->rw->readers)
				sim_fail("all sleep, and G %lu waits for a free rwmutex", (unsigned long)i);
			if (q->sem && g->sudog.queue == q->sem && q->sem->q.first == &g->sudog && q->sem->units >= g->sudog.n)
				sim_fail("all sleep, and G %lu waits for units that are there", (unsigned long)i);
			if (q->wg && (g->sudog.queue == &q->wg->q ? !atomic_load(&q->wg->count) :
				      q->wg2 && g->sudog.queue == &q->wg2->q && !atomic_load(&q->wg2->count)))
				sim_fail("all sleep, and G %lu waits for an empty wait group", (unsigned long)i);
		}
	}
	if (!sim_count.lost)
		sim_fail("all sleep, and nobody was lost");
	task_end(t, TASK_CANCELLED, 130, 0);
}

static struct sim_plan make_plan(bool deaths)
{
	static const unsigned rates[] = {3, 10, 50};
	struct sim_plan p = {0};

	p.workers = 1 + sim_below(4);
	p.procs = 1 + sim_below(4);
	p.switch_rate = rates[sim_below(3)];
	p.renewals = sim_below(2) ? sim_below(4) : 0;
	if (deaths) {
		p.deaths = 1 + sim_below(4);
		p.death_rate = 50 + sim_below(3000);
		p.medic_dies = sim_below(2);
	}
	sim_windows = 1 + sim_below(6);
	return p;
}

static void make_parts(bool deaths)
{
	memset(part, 0, sizeof part);
	memset(&globals, 0, sizeof globals);
	(void)deaths;
	use_globals = sim_below(2);
	root_done = false;
	nparts = 1 + sim_below(PARTS);
	for (unsigned i = 0; i < nparts; i++) {
		part[i].what = sim_below(KINDS);
		part[i].n = 1 + sim_below(6);
		part[i].k = 1 + sim_below(8);
		part[i].cap = sim_below(2) ? 0 : 1 + sim_below(4);
	}
}

static void check_end(struct task *t, size_t used_before)
{
	uint64_t ngs = atomic_load(&sched.ngs);
	size_t used;
	char msg[256];

	if (audit(msg, sizeof msg) != 0)
		sim_fail("audit: %s", msg);
	for (uint64_t i = 1; i < ngs; i++)
		if (g_state(allg(i)) != G_DEAD)
			sim_fail("in the end G %lu is %s", (unsigned long)i, g_status_name(g_state(allg(i))));
	used = sh_arena_live(sh_root->arena, 0);
	if (used != used_before)
		sim_fail("memory in use: %zu before, %zu after", used_before, used);
	if (sim_count.lost == 0 && (!root_done || atomic_load(&t->exit_code) != 7))
		sim_fail("the root did not come to its end, exit code %d", atomic_load(&t->exit_code));
	if (sim_count.deaths == 0 && task_goroutines(t) != 0)
		sim_fail("%lu goroutines too many are counted", (unsigned long)task_goroutines(t));
	for (unsigned i = 0; i < nparts && !sim_count.lost; i++)
		must(part[i].done, "done", i, 0, 1);
}

/*
 * Every change of status that was recorded is one of the legal ones, and if nobody died each goroutine has
 * left every state as often as it came there.
 */
static void check_lives(void)
{
	static struct {
		uint64_t gid;
		int16_t balance[16];
	} life[8192];
	static struct life_event e[LIFE_RING];
	uint64_t lost = 0;
	unsigned used = 0;

	memset(life, 0, sizeof life);
	for (unsigned seat = 0; seat <= workers; seat++) {
		uint64_t at = 0;
		unsigned n = life_read(seat, &at, e, LIFE_RING, &lost);

		for (unsigned i = 0; i < n; i++) {
			struct life l;
			unsigned k;

			life_decode(&e[i], seat, host_now(), &l);
			if (!(g_legal[l.from] & G_BIT(l.to)))
				sim_fail("goroutine %lu went from %s to %s", (unsigned long)l.gid, g_status_name(l.from), g_status_name(l.to));
			for (k = (unsigned)(l.gid * 0x9e3779b97f4a7c15u >> 51); life[k].gid && life[k].gid != l.gid; k = (k + 1) % 8192)
				;
			used += !life[k].gid;
			if (used > 8000)
				return;
			life[k].gid = l.gid;
			life[k].balance[l.from]--;
			life[k].balance[l.to]++;
		}
	}
	if (lost || sim_count.deaths)
		return;
	for (unsigned k = 0; k < 8192; k++)
		for (unsigned s = 0; s < 16 && life[k].gid; s++)
			if (life[k].balance[s] && s != G_IDLE && s != G_DEAD) /* it was made dead once more than born */
				sim_fail("goroutine %lu came %d times more to %s than it left", (unsigned long)life[k].gid,
					 life[k].balance[s], g_status_name(s));
	lives += used;
}

/* What is there of a fresh segment: pages that are not zero. */
#define FRESH_MAX 4096
#define PAGE 4096ul
static int segment = -1;
static struct {
	off_t at;
	char bytes[PAGE];
} *fresh;
static unsigned nfresh;

static void each_page(void (*fn)(off_t at))
{
	off_t from, to;

	for (to = 0; (from = lseek(segment, to, SEEK_DATA)) >= 0 && (to = lseek(segment, from, SEEK_HOLE)) > from;)
		for (off_t at = from; at < to; at += PAGE)
			fn(at);
}

static void keep_page(off_t at)
{
	const char *page = (const char *)SH_BASE + at;

	if (page[0] == 0 && memcmp(page, page + 1, PAGE - 1) == 0)
		return;
	if (nfresh == FRESH_MAX)
		sim_fail("a fresh segment has more than %u pages", FRESH_MAX);
	fresh[nfresh].at = at;
	memcpy(fresh[nfresh++].bytes, page, PAGE);
}

static void clear_page(off_t at)
{
	memset((char *)SH_BASE + at, 0, PAGE);
}

/* As sh_segment_create() leaves it. To make one and fault its pages in costs more than to run a seed in it. */
static void fresh_segment(void)
{
	if (segment >= 0) {
		each_page(clear_page);
		for (unsigned i = 0; i < nfresh; i++)
			memcpy((char *)SH_BASE + fresh[i].at, fresh[i].bytes, PAGE);
		return;
	}
	segment = sh_segment_create(0);
	if (segment < 0 || !(fresh = malloc(FRESH_MAX * sizeof *fresh)))
		sim_fail("no segment: %d", segment);
	each_page(keep_page);
}

static void run(uint64_t seed, bool deaths)
{
	struct sim_plan p = {.workers = 1};
	struct task *t = task_at(1);
	size_t used;

	fresh_segment();
	sim_begin(seed * 2 + deaths, &p); /* the plan itself is drawn from the seed */
	p = make_plan(deaths);
	workers = p.workers;
	pins = 0;
	make_parts(deaths);
	schedinit(p.procs);
	atomic_store(&sched.tracing, 1);
	sh_data_add((uintptr_t)&globals, sizeof globals);
	sim_begin(seed, &p);
	t->id = t->slot = 1;
	t->attempts = 1;
	t->fd_out = t->fd_err = t->fd_cwd = -1;
	t->entry = root;
	atomic_store(&t->state, TASK_QUEUED);
	used = sh_arena_live(sh_root->arena, 0);
	sim_run(t, stalled);
	check_end(t, used);
	check_lives();
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void batch(uint64_t from, uint64_t count, bool deaths)
{
	uint64_t seed = from, points = 0, switches = 0, died = 0, lost = 0;
	double began = seconds();

	for (; seed < from + count; seed++) {
		run(seed, deaths);
		points += sim_count.points;
		switches += sim_count.switches;
		died += sim_count.deaths;
		lost += sim_count.lost;
	}
	printf("sim: seeds %lu..%lu%s, %lu transitions, %lu switches, %lu deaths, %lu goroutines lost, %.1f s\n",
	       (unsigned long)from, (unsigned long)seed - 1, deaths ? " with deaths" : "", (unsigned long)points,
	       (unsigned long)switches, (unsigned long)died, (unsigned long)lost, seconds() - began);
	passed++;
}

int main(int argc, char **argv)
{
	uint64_t seed = 0, count = 0;
	bool deaths = false, one = false;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--deaths"))
			deaths = true;
		else if (!strcmp(argv[i], "--trace"))
			sim_trace = true;
		else if (!strcmp(argv[i], "--seed") && i + 1 < argc)
			seed = strtoull(argv[++i], NULL, 0), one = true;
		else if (!strcmp(argv[i], "--seeds") && i + 1 < argc)
			count = strtoull(argv[++i], NULL, 0);
		else {
			fprintf(stderr, "usage: sim [--seed N] [--seeds COUNT] [--deaths] [--trace]\n");
			return 2;
		}
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (one || count) {
		batch(one ? seed : 1, count ? count : 1, deaths);
	} else {
		static unsigned (*const inside[])(void) = {runq_tests, schedule_tests, sysmon_tests, gfree_tests};

		for (unsigned i = 0; i < sizeof inside / sizeof *inside; i++) {
			bool failed = inside[i]() != 0;

			passed += !failed;
			batches_failed += failed;
		}
		batch(1, SEEDS, false);
		batch(1, SEEDS_DEATHS, true);
	}
	printf("lives: %lu goroutines, every change legal, every state left as often as entered\n", (unsigned long)lives);
	printf("tests: %u passed, %u failed\n", passed, batches_failed);
	return batches_failed != 0;
}
