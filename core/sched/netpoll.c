/* netpoll.c - waiting for descriptors. See netpoll.h. */
#include "core/sched/netpoll.h"
#include "core/g/g.h"
#include "core/g/names.h"
#include "core/host.h"
#include "core/root.h"
#include "core/sched/idle.h"
#include "core/sched/m.h"
#include "core/sched/preempt.h"
#include "core/sched/proc.h"
#include "core/task/task.h"
#include "shm/check.h"
#include "shm/kill.h"

#include <errno.h>

_Static_assert(sizeof(struct polldesc) <= 128 && POLL_FDS * sizeof(struct polldesc) <= 1ul << 27,
	       "the table fits its range");
_Static_assert(sizeof(struct pollmore) == 128, "a block of slots");

#define WAITER(g, seq) ((uint64_t)g_index(g) << 32 | (seq))
#define WAITER_G(v) allg((v) >> 32)
#define WAITER_SEQ(v) ((uint32_t)(v))

/* ---- slots ---- */

static bool stale(uint64_t v)
{
	uint64_t s = atomic_load_explicit(&WAITER_G(v)->status, memory_order_relaxed);

	return (s & G_STATE) != G_WAITING || G_SEQ(s) != WAITER_SEQ(v);
}

static bool put_slot(_Atomic uint64_t *slot, unsigned n, uint64_t v)
{
	for (unsigned i = 0; i < n; i++) {
		uint64_t was = atomic_load_explicit(&slot[i], memory_order_relaxed);

		if ((was == 0 || stale(was)) && atomic_compare_exchange_strong(&slot[i], &was, v)) {
			KILL_POINT("netpoll.put.slot");
			return true;
		}
	}
	return false;
}

/* Appends a block to the chain. */
static uint32_t chain(_Atomic uint32_t *link)
{
	uint32_t i = atomic_fetch_add(&sched.pollmore, 1) + 1, none = 0;

	if (i >= POLL_POOL) {
		atomic_store(&sched.pollmore, POLL_POOL - 1);
		return 0;
	}
	KILL_POINT("netpoll.more.taken");
	/* another waiter was faster: append behind its block */
	while (!atomic_compare_exchange_strong(link, &none, i)) {
		link = &pollmore(none)->next;
		none = 0;
	}
	KILL_POINT("netpoll.more.chained");
	return i;
}

static bool netpoll_publish(int fd, unsigned mode, uint64_t v)
{
	struct polldesc *d = polldesc(fd);
	_Atomic uint32_t *link = &d->more[mode];
	uint32_t i;

	sh_check((unsigned)fd < POLL_FDS && mode < POLL_MODES);
	if (put_slot(d->slot[mode], POLL_SLOTS, v))
		return true;
	for (;;) {
		i = atomic_load_explicit(link, memory_order_acquire); /* pairs with chain */
		if (!i && !(i = chain(link)))
			return false;
		if (put_slot(pollmore(i)->slot, POLL_MORE, v))
			return true;
		link = &pollmore(i)->next;
	}
}

static void withdraw_from(_Atomic uint64_t *slot, unsigned n, uint64_t v)
{
	for (unsigned i = 0; i < n; i++) {
		uint64_t was = v;

		if (atomic_load_explicit(&slot[i], memory_order_relaxed) == v)
			atomic_compare_exchange_strong(&slot[i], &was, 0);
	}
}

/* Only keeps the slots free; correctness does not need it. */
static void withdraw_slots(int fd, unsigned mode, uint64_t v)
{
	struct polldesc *d = polldesc(fd);

	sh_check((unsigned)fd < POLL_FDS && mode < POLL_MODES);
	withdraw_from(d->slot[mode], POLL_SLOTS, v);
	for (uint32_t i = atomic_load(&d->more[mode]); i; i = atomic_load(&pollmore(i)->next))
		withdraw_from(pollmore(i)->slot, POLL_MORE, v);
}

/* ---- waking ---- */

static unsigned wake_slots(_Atomic uint64_t *slot, unsigned n)
{
	unsigned woken = 0;

	for (unsigned i = 0; i < n; i++) {
		uint64_t v = atomic_load(&slot[i]);

		if (!v)
			continue;
		woken += injectg(WAITER_G(v), WAITER_SEQ(v));
		atomic_compare_exchange_strong(&slot[i], &v, 0);
		KILL_POINT("netpoll.wake.cleared");
	}
	return woken;
}

static unsigned wake_waiters(struct polldesc *d, unsigned mode)
{
	unsigned woken;

	sh_check(mode < POLL_MODES);
	atomic_fetch_add(&d->edges[mode], 1);
	KILL_POINT("netpoll.edge.raised");
	woken = wake_slots(d->slot[mode], POLL_SLOTS);
	for (uint32_t i = atomic_load(&d->more[mode]); i; i = atomic_load(&pollmore(i)->next))
		woken += wake_slots(pollmore(i)->slot, POLL_MORE);
	return woken;
}

static unsigned deliver_event(const struct net_event *e)
{
	struct polldesc *d = polldesc(e->fd);
	unsigned woken = 0;

	if (e->fd >= POLL_FDS || atomic_load(&d->gen) != e->gen)
		return 0; /* an event of a file that is closed by now */
	if (e->events & NET_READ)
		woken += wake_waiters(d, POLL_READ);
	if (e->events & NET_WRITE)
		woken += wake_waiters(d, POLL_WRITE);
	return woken;
}

unsigned netpoll_deliver(struct m *m, unsigned n)
{
	unsigned woken = 0;

	sh_check(n <= POLL_BATCH);
	for (unsigned i = 0; i < n; i++) {
		struct net_event *e = &m->events[i];

		if (!e->events)
			continue;
		woken += deliver_event(e);
		e->events = 0;
		KILL_POINT("netpoll.deliver.done");
	}
	return woken;
}

/* The kind of the file is determined again. */
static void forget_kind(struct polldesc *d)
{
	atomic_store(&d->kind, PD_UNKNOWN);
	atomic_store(&d->sock_type, 0);
	atomic_store(&d->lowat, 0);
	atomic_store(&d->in_calls, 0);
	atomic_store(&d->timeo[POLL_READ], 0);
	atomic_store(&d->timeo[POLL_WRITE], 0);
	KILL_POINT("netpoll.closed.forgotten");
}

/* Calls that are blocked in the kernel on the file: their workers see that gen has changed, and end the calls. */
static void interrupt_calls(int fd)
{
	for (unsigned seat = 1; seat < WORKERS_MAX; seat++)
		if (atomic_load(&allm(seat)->call_fd) == (uint32_t)fd + 1)
			host_kick(seat);
}

void netpoll_closed(int fd)
{
	struct polldesc *d = polldesc(fd);
	struct m *m = getm;
	bool in_calls = atomic_load(&d->in_calls);

	sh_check((unsigned)fd < POLL_FDS);
	m->note.closed = (uint32_t)fd + 1;
	KILL_POINT("netpoll.closed.noted");
	atomic_fetch_add(&d->gen, 1);
	KILL_POINT("netpoll.closed.gen");
	if (__builtin_expect(in_calls, 0)) /* after gen: pairs with call_begin */
		interrupt_calls(fd);
	forget_kind(d);
	atomic_store(&d->accepting, 0);
	KILL_POINT("netpoll.closed.reset");
	if (wake_waiters(d, POLL_READ) + wake_waiters(d, POLL_WRITE))
		wakep();
	m->note.closed = 0;
	KILL_POINT("netpoll.closed.told");
}

/* Which file the number means now is unknown: wake all waiters. */
unsigned netpoll_closed_repair(uint32_t closed)
{
	struct polldesc *d = polldesc(closed - 1);

	if (closed - 1 >= POLL_FDS)
		return 0;
	forget_kind(d);
	return wake_waiters(d, POLL_READ) + wake_waiters(d, POLL_WRITE);
}

/* ---- waiting ---- */

struct waits {
	struct pollwait *w;
	unsigned n;
	uint32_t seq; /* of this park, which a timer may already have ended */
};

/* On g0, when g is waiting already. False: wake it at once. */
static bool commit(struct g *g, void *arg)
{
	const struct waits *ws = arg; /* on the stack of g, which does not change until a worker runs g */
	unsigned n = ws->n;
	uint64_t v = WAITER(g, ws->seq);

	for (unsigned i = 0; i < n; i++) {
		if (stale(v))
			return true;
		if (!netpoll_publish(ws->w[i].fd, ws->w[i].mode, v))
			return false;
	}
	KILL_POINT("netpoll.commit.published");
	if (stale(v))
		return true;
	for (unsigned i = 0; i < n; i++) {
		struct polldesc *d = polldesc(ws->w[i].fd);

		if (atomic_load(&d->edges[ws->w[i].mode]) != ws->w[i].edges || atomic_load(&d->gen) != ws->w[i].gen)
			return false;
	}
	return !g_cancelled(g);
}

int netpoll_wait(struct pollwait *w, unsigned n, int64_t when)
{
	struct g *g = getg();
	struct waits ws = {w, n, g_next_seq(g)};
	uint64_t v = WAITER(g, ws.seq);

	sh_check(g && getm->locks == 0);
	if (g_cancelled(g))
		return -ECANCELED;
	if (when && host_now() >= when)
		return -ETIMEDOUT;
	gopark_commit(commit, &ws, n ? WAIT_IO : WAIT_SELECT_EMPTY, when);
	for (unsigned i = 0; i < n; i++)
		withdraw_slots(w[i].fd, w[i].mode, v);
	for (unsigned i = 0; i < n; i++)
		if (atomic_load(&polldesc(w[i].fd)->gen) != w[i].gen)
			return -EBADF;
	return g_cancelled(g) ? -ECANCELED : wait_signals(g);
}

/* ---- a task's descriptors ---- */

void netpoll_task_over(struct task *t)
{
	uint32_t top = atomic_load(&sched.fd_top), mine = t->slot + 1;

	sh_check(t->slot < TASK_SLOTS);
	if (!atomic_load(&t->fds))
		return;
	for (uint32_t fd = 0; fd < top; fd++) {
		if ((atomic_load_explicit(&poll_owner[fd], memory_order_relaxed) & ~(POLL_CLOSING | POLL_INNER)) !=
		    mine)
			continue;
		host_file_close((int)fd); /* wakes the waiters and clears the owner before it frees the number */
		KILL_POINT("netpoll.task.closed");
	}
	atomic_store(&t->fds, 0);
}
