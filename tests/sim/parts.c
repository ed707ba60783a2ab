/* parts.c - the workloads of the goroutines of a simulated run, and what must hold for each. See parts.h. */
#include "tests/sim/parts.h"
#include "core/sched/proc.h"
#include "core/g/api.h"
#include "core/host.h"
#include "core/sched/m.h"
#include "core/sched/syscall.h"
#include "core/shoal.h"
#include "core/sync/chan.h"
#include "core/sync/mutex.h"
#include "shm/segment.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct arg {
	unsigned part, i, depth;
	char pad[100]; /* sometimes an argument has to be allocated */
};

struct part part[PARTS];
static struct shoal_wg *root_wg;
unsigned nparts;
static bool root_done;

static struct { /* as a module's globals would be: outside the segment's heap */
	struct shoal_wg wg[2 * PARTS + 1];
	struct shoal_mutex mu[PARTS], inner[PARTS];
	struct shoal_rwmutex rw[PARTS];
	struct shoal_cond cond[PARTS];
	struct shoal_sem sem[PARTS];
	struct shoal_rwmutex read_only[5];
} globals;
static bool use_globals;

static void must(bool ok, const char *what, unsigned p, unsigned got, unsigned want)
{
	if (!ok)
		sim_fail("part %u (kind %d): %s: %u, should be %u", p, (int)part[p].what, what, got, want);
}

unsigned workers;
static unsigned pins; /* a lost goroutine does not release its units */

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
	struct shoal_go_opts o = {.flags = SHOAL_ISOLATED | (sim_below(2) ? GO_THREAD : 0), .attempts = 1};
	size_t size = sim_below(3) ? offsetof(struct arg, pad) : sizeof a;
	shoal_gid gid;

	memset(a.pad, (int)(a.i + 1), sizeof a.pad);
	gid = wg ? shoal_wg_go_with(wg, &o, fn, &a, size) : shoal_go_with(&o, fn, &a, size);
	if (!gid)
		sim_fail("a goroutine was not started: %d", errno);
	return gid;
}

/* Pins itself to its worker. One worker is left unpinned, so that the others can run. */
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
			return; /* the goroutine that would have closed it may be lost */
	}
}

/* Sends each of its values once, by either channel, or takes one instead; never one that it has sent itself. */
static void selecter(void *p)
{
	struct arg *a = p;
	struct part *q = &part[a->part];

	for (unsigned i = 0; i < q->k;) {
		uint64_t v = a->i * q->k + i, in1 = ~0ull, in2 = ~0ull;
		struct shoal_case k[5] = {{SHOAL_SEND, q->c, &v, 0},
					  {SHOAL_RECV, q->c, &in1, 0},
					  {SHOAL_SEND, q->c2, &v, 0},
					  {SHOAL_RECV, q->c2, &in2, 0},
					  {SHOAL_RECV, NULL, NULL, 0}};
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
		must(q->cap || (r == 1 ? in1 : in2) / q->k != a->i, "received what it had sent itself", a->part, a->i,
		     0);
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
		struct shoal_case k[3] = {
			{SHOAL_RECV, c[0], &v[0], 0}, {SHOAL_RECV, c[1], &v[1], 0}, {SHOAL_RECV, c[0], &v[0], 0}};
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

/* Returns 0, or that a holder died, which is right if one did. */
static void lock_it(unsigned p, int r)
{
	must(r == 0 || (r == -EOWNERDEAD && sim_count.lost), "lock", p, (unsigned)-r, 0);
}

static void locker(void *p)
{
	struct arg *a = p;
	struct part *q = &part[a->part];

	for (unsigned i = 0; i < q->k; i++) {
		int r = sim_below(4) ? shoal_mutex_lock(q->mu) : shoal_mutex_trylock(q->mu);
		bool two = sim_below(3) == 0;
		unsigned seen;

		if (r == -EBUSY)
			r = shoal_mutex_lock(q->mu);
		must(r == 0 || (r == -EOWNERDEAD && sim_count.lost), "lock", a->part, (unsigned)-r, 0);
		must(!q->inside || r == -EOWNERDEAD, "two have the mutex", a->part, q->inside, 0);
		q->inside = 1;
		seen = q->counter;
		maybe_yield();
		if (two)
			lock_it(a->part, shoal_mutex_lock(q->inner));
		maybe_yield();
		q->counter = seen + 1;
		q->inside = 0;
		if (two && sim_below(2)) { /* in another order than they were taken */
			shoal_mutex_unlock(q->mu);
			maybe_yield();
			shoal_mutex_unlock(q->inner);
			continue;
		}
		if (two)
			shoal_mutex_unlock(q->inner);
		shoal_mutex_unlock(q->mu);
	}
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
			more = sim_below(3) ? 0 : sim_below(7); /* its table of held locks */
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
		must(mutex_holder(q->mu->owner) == shoal_self(), "cond_wait came back without the mutex", a->part, 0,
		     1);
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
	case 0: r = shoal_sleep(SHOAL_FOREVER); break;
	case 1: r = shoal_recv(q->c, &v); break;
	case 2: r = shoal_sem_acquire(q->sem, 1); break;
	case 3:
		lock_it(a->part, shoal_mutex_lock(q->mu));
		r = shoal_cond_wait(q->cond, q->mu);
		if (r == 0 || r == -EOWNERDEAD) /* a death may wake it; only the next wait counts */
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
		must(shoal_now() - from >= ns, "slept too little", a->part, (unsigned)(shoal_now() - from),
		     (unsigned)ns);
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

	while ((r = sim_pipe_take(a->part, part[a->part].cap && sim_below(2) ? host_now() + 1 + sim_below(50000)
									     : 0)) != -EBADF) {
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
		q->c = NULL; /* its memory may become a channel of another part */
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
	q->c = q->c2 = NULL;
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

static void join_part(unsigned p)
{
	struct part *q = &part[p];
	struct shoal_end end;
	shoal_gid gid[8];

	for (unsigned i = 0; i < q->n; i++)
		gid[i] = start(NULL, joined, (struct arg){.part = p, .i = i});
	for (unsigned i = 0; i < q->n; i++) {
		int r = shoal_join(gid[i], &end);

		must(r == 0, "join", p, (unsigned)-r, 0);
		must(end.how == SHOAL_DONE || (end.how == SHOAL_LOST && sim_count.lost), "its end", p,
		     (unsigned)end.how, SHOAL_DONE);
	}
}

static void make_objects(unsigned p)
{
	struct part *q = &part[p];

	q->wg = shared(&globals.wg[2 * p], sizeof *q->wg);
	q->wg2 = shared(&globals.wg[2 * p + 1], sizeof *q->wg2);
	q->mu = shared(&globals.mu[p], sizeof *q->mu);
	q->inner = shared(&globals.inner[p], sizeof *q->inner);
	q->rw = shared(&globals.rw[p], sizeof *q->rw);
	q->cond = shared(&globals.cond[p], sizeof *q->cond);
	q->sem = shared(&globals.sem[p], sizeof *q->sem);
	if (!(q->c = shoal_chan_new(8, q->cap)))
		sim_fail("no channel");
}

static void run_part(void *arg)
{
	unsigned p = ((struct arg *)arg)->part, want = 0;
	struct part *q = &part[p];

	make_objects(p);
	switch (q->what) {
	case CHANNEL: channel_part(p, producer, consumer); break;
	case TIMED: channel_part(p, timed_sender, timed_receiver); break;
	case TREE:
		start(q->wg, tree, (struct arg){.part = p, .depth = q->k % 4});
		shoal_wg_wait(q->wg);
		want = 1u << q->k % 4;
		break;
	case SELECT: select_part(p); break;
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
		must(q->sem->units == q->cap + 2 || sim_count.lost, "units left", p, (unsigned)q->sem->units,
		     q->cap + 2);
		break;
	case CANCEL:
		cancel_part(p);
		want = q->n;
		break;
	case PIPE: pipe_part(p); break;
	case MUTEX:
	case SLEEP:
	case SYSCALL:
		for (unsigned i = 0; i < q->n; i++)
			start(q->wg,
			      q->what == MUTEX	 ? locker
			      : q->what == SLEEP ? sleeper
						 : caller,
			      (struct arg){.part = p, .i = i});
		shoal_wg_wait(q->wg);
		want = q->n * q->k;
		break;
	default: join_part(p); want = q->n;
	}
	if (!sim_count.lost)
		must(q->counter == want, "count", p, q->counter, want);
	q->done = 1;
}

int parts_root(int argc, char **argv, char **envp)
{
	(void)argc;
	(void)argv;
	(void)envp;
	root_wg = shared(&globals.wg[2 * PARTS], sizeof *root_wg);
	for (unsigned i = 0; i < nparts; i++)
		start(root_wg, run_part, (struct arg){.part = i});
	shoal_wg_wait(root_wg);
	root_done = true;
	return 7;
}

void parts_make(void)
{
	memset(part, 0, sizeof part);
	memset(&globals, 0, sizeof globals);
	use_globals = sim_below(2);
	root_done = false;
	pins = 0;
	nparts = 1 + sim_below(PARTS);
	for (unsigned i = 0; i < nparts; i++) {
		part[i].what = sim_below(KINDS);
		part[i].n = 1 + sim_below(6);
		part[i].k = 1 + sim_below(8);
		part[i].cap = sim_below(2) ? 0 : 1 + sim_below(4);
	}
}

/* The root and all parts have ended. */
bool parts_done(void)
{
	for (unsigned i = 0; i < nparts && root_done; i++)
		must(part[i].done, "done", i, 0, 1);
	return root_done;
}

/* As the loader does with a module's variables. */
void parts_share(void)
{
	sh_data_add((uintptr_t)&globals, sizeof globals);
}
