/*
 * select.c - one of several channel operations, with Go's semantics (select.go).
 *
 * Go locks all channels of a select at once. Here one at a time is enough, and a worker's list of locks stays
 * short however many cases there are:
 *
 *   1  try each channel, in random order
 *   2  enter the queue of each channel; under its lock, check whether the operation is possible after all
 *   3  park, until a waker has claimed the select
 *   4  leave all queues
 *
 * A waker must win the claim word. So from its first queue on, the select is matched at most once; and when it
 * is in its last queue, none of its channels was ready: that is the one moment that the select observes, even
 * if it must not wait.
 *
 * OWNER  the goroutine
 * LOCK   the lock of each channel
 * ORDER  see struct select_wait
 * DEATH  the goroutine, in step 2 or 4: select_forget stores SELECT_OVER, then takes it off all queues. A
 *        waker that has claimed it and not finished its wait: others have skipped it meanwhile, so the medic
 *        stores SG_RETRY, and it begins with step 1
 */
#include "core/sync/select.h"
#include "core/g/api.h"
#include "core/g/g.h"
#include "core/g/names.h"
#include "core/host.h"
#include "core/sched/m.h"
#include "core/sched/proc.h"
#include "core/shoal.h"
#include "core/sync/chan.h"
#include "core/sync/waitq.h"
#include "shm/check.h"
#include "shm/heap.h"
#include "shm/kill.h"
#include "shm/lock.h"
#include "shm/segment.h"
#include "shm/syscall.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define CASES_MAX 65536u
#define ORDER_INLINE 16u
#define SPINS 200

bool select_claim(struct sudog *sg)
{
	uint32_t none = 0;

	return atomic_compare_exchange_strong(&select_of(sg)->claim, &none, SG_CASE(sg->n) + 1);
}

static int try_case(struct shoal_case *k)
{
	return k->op == SHOAL_SEND ? chan_try_send(k->chan, k->value) : chan_try_recv(k->chan, k->value);
}

/* Tries each case once, in an order that is equally likely as any other. The index, or -EAGAIN. */
static int try_all(struct shoal_case *cases, size_t n, uint16_t *order)
{
	uint32_t k = 0;

	for (size_t i = 0; i < n; i++) {
		uint32_t j;

		if (!cases[i].chan)
			continue;
		j = (uint32_t)((uint64_t)m_random(getm) * (k + 1) >> 32);
		order[k++] = order[j];
		order[j] = (uint16_t)i;
	}
	for (uint32_t i = 0; i < k; i++) {
		int r = try_case(&cases[order[i]]);

		if (r == -EAGAIN)
			continue;
		cases[order[i]].result = r;
		return order[i];
	}
	return -EAGAIN;
}

/* ---- waiting ---- */

static struct select_wait *new_wait(struct g *g, const struct shoal_case *cases, size_t n)
{
	size_t size = sizeof(struct select_wait) + n * sizeof(struct sudog), at = (size + 15) & ~15ul;
	struct select_wait *w;

	sh_check(n > 0 && n <= CASES_MAX);
	for (size_t i = 0; i < n; i++) /* at most 65,536 values of 4 GiB: no overflow */
		if (cases[i].chan && cases[i].chan->elem > SLOT_INLINE)
			size = ((size + 15) & ~15ul) + cases[i].chan->elem;
	w = g_alloc(g, size);
	if (!w)
		return NULL;
	atomic_store_explicit(&w->claim, 0, memory_order_relaxed);
	w->n = 0;
	for (size_t i = 0; i < n; i++) {
		struct sudog *sg = &w->sg[i];
		size_t elem = cases[i].chan ? cases[i].chan->elem : 0;

		sg->g = g;
		sg->queue = NULL;
		sg->n = SG_SELECT | (uint32_t)i << 1 | (cases[i].op == SHOAL_RECV);
		sg->size = (uint32_t)elem;
		sg->elem = sg->slot;
		atomic_store_explicit(&sg->state, SG_IDLE, memory_order_relaxed);
		if (elem <= SLOT_INLINE)
			continue;
		sg->elem = (char *)w + at;
		at = (at + elem + 15) & ~15ul;
	}
	return w;
}

/* True if a goroutine other than g waits there and was not matched elsewhere. Holds: the channel's lock. */
static bool peer_waits(const struct waitq *q, const struct g *g)
{
	for (struct sudog *sg = q->first; sg; sg = sg->next)
		if (sg->g != g && (!(sg->n & SG_SELECT) || !atomic_load(&select_of(sg)->claim)))
			return true;
	return false;
}

/* Holds: the lock. */
static bool can_go_on(struct shoal_chan *c, int op, const struct g *g)
{
	uint64_t held = atomic_load_explicit(&c->sendx, memory_order_relaxed) -
			atomic_load_explicit(&c->recvx, memory_order_relaxed);

	if (atomic_load_explicit(&c->closed, memory_order_relaxed))
		return true;
	return op == SHOAL_SEND ? held < c->cap || peer_waits(&c->recvq, g) : held > 0 || peer_waits(&c->sendq, g);
}

/* Enters all queues. False: an operation is possible, or the select was matched already. */
static bool queue_all(struct select_wait *w, struct shoal_case *cases, size_t n, struct g *g)
{
	uint32_t seq = g_next_seq(g);

	sh_check(w->n == 0);
	for (uint32_t i = 0; i < n; i++) {
		struct shoal_chan *c = cases[i].chan;
		struct sudog *sg = &w->sg[i];

		w->n = i + 1;
		if (!c)
			continue;
		sg->seq = seq;
		if (cases[i].op == SHOAL_SEND)
			copy_value(sg->elem, cases[i].value, c->elem);
		sh_lock_take(&c->lock, (unsigned)getm->seat);
		/* Possible after all: the caller tries all cases again. */
		if (can_go_on(c, cases[i].op, g)) {
			sh_lock_drop(&c->lock, (unsigned)getm->seat);
			return false;
		}
		sg->queue = c;
		atomic_store_explicit(&sg->state, SG_QUEUED, memory_order_relaxed);
		waitq_push(chan_queue(c, sg), sg);
		KILL_POINT("select.queued");
		sh_lock_drop(&c->lock, (unsigned)getm->seat);
		if (atomic_load(&w->claim))
			return false;
	}
	return true;
}

/*
 * A waker that has claimed the select holds the channel's lock and finishes the wait soon; if it is dead, the
 * medic does.
 */
static uint32_t select_result(struct sudog *sg)
{
	uint32_t how;

	for (unsigned n = 0; (how = atomic_load_explicit(&sg->state, memory_order_acquire)) == SG_QUEUED; n++) {
		if (n >= SPINS)
			syscall(SYS_sched_yield);
		else
			sh_pause(1);
		KILL_POINT("select.claimed.wait");
	}
	return how;
}

/* Leaves all queues. The index of the matched case, or -1. */
static int unqueue_all(struct select_wait *w)
{
	uint32_t claim = 0;

	if (atomic_compare_exchange_strong(&w->claim, &claim, SELECT_OVER))
		claim = 0;
	KILL_POINT("select.over");
	for (uint32_t i = 0; i < w->n; i++) {
		struct sudog *sg = &w->sg[i];
		struct shoal_chan *c = sg->queue;

		if (!c || i + 1 == claim)
			continue;
		if (atomic_load_explicit(&sg->state, memory_order_acquire) == SG_QUEUED) {
			sh_lock_take(&c->lock, (unsigned)getm->seat);
			if (atomic_load_explicit(&sg->state, memory_order_relaxed) == SG_QUEUED)
				waitq_remove(chan_queue(c, sg), sg);
			atomic_store_explicit(&sg->state, SG_IDLE, memory_order_relaxed);
			sh_lock_drop(&c->lock, (unsigned)getm->seat);
		}
		sg->queue = NULL;
		KILL_POINT("select.unqueued");
	}
	if (!claim)
		return -1;
	select_result(&w->sg[claim - 1]);
	return (int)claim - 1;
}

static int select_finish(struct shoal_case *k, struct sudog *sg)
{
	unsigned how = atomic_load_explicit(&sg->state, memory_order_acquire);

	if (how == SG_RETRY)
		return -EAGAIN;
	if (k->op == SHOAL_SEND) {
		k->result = how == SG_DELIVERED ? 0 : -EPIPE;
		return 0;
	}
	k->result = how == SG_DELIVERED;
	if (!k->value)
		return 0;
	if (how == SG_DELIVERED)
		copy_value(k->value, sg->elem, sg->size);
	else
		memset(k->value, 0, sg->size);
	return 0;
}

static bool still_waits(struct g *g, void *w)
{
	(void)g;
	return atomic_load(&((struct select_wait *)w)->claim) == 0;
}

/*
 * The index; -EAGAIN: try again; -ETIMEDOUT: `when` is past, or nothing is ready and it must not wait. Parks.
 */
static int wait_once(struct shoal_case *cases, size_t n, int64_t when, bool wait)
{
	struct g *g = getg();
	struct select_wait *w = new_wait(g, cases, n);
	bool queued, parked = false;
	int r, i;

	sh_check(g && getm->locks == 0);
	if (!w)
		return -ENOMEM;
	g->waiting = w->sg;
	KILL_POINT("select.block");
	queued = queue_all(w, cases, n, g);
	if (queued && wait) {
		parked = true;
		gopark_commit(still_waits, w, WAIT_SELECT, when);
	}
	i = unqueue_all(w);
	/*
	 * the waker will wake a wait that did not begin: use up its park sequence, so that it wakes no later
	 * one
	 */
	if (i >= 0 && !parked)
		atomic_fetch_add(&g->status, 1ull << 32);
	if (i >= 0)
		r = select_finish(&cases[i], &w->sg[i]) ? -EAGAIN : i;
	else if (g_cancelled(g) && parked)
		r = -ECANCELED;
	else
		r = queued && (!wait || (when && host_now() >= when)) ? -ETIMEDOUT : -EAGAIN;
	g->waiting = NULL;
	KILL_POINT("select.done");
	g_free(g, w);
	return r;
}

static int select_with(struct shoal_case *cases, size_t n, int64_t timeout, size_t channels, uint16_t *order)
{
	int64_t when = deadline(timeout);
	int r;

	sh_check(channels > 0);
	for (;;) {
		r = try_all(cases, n, order);
		if (r != -EAGAIN || (timeout == 0 && channels == 1))
			return r;
		if (timeout != 0 && g_cancelled(getg()))
			return -ECANCELED;
		r = wait_once(cases, n, when, timeout != 0);
		if (r == -ETIMEDOUT && timeout == 0)
			return -EAGAIN;
		if (r != -EAGAIN)
			return r;
	}
}

static size_t check_cases(struct shoal_case *cases, size_t n)
{
	size_t channels = 0;

	api_check_value(cases, "shoal_select: the cases are on another goroutine's stack");
	for (size_t i = 0; i < n; i++) {
		api_check_value(cases[i].value, "shoal_select: a value is on another goroutine's stack");
		if (cases[i].op != SHOAL_SEND && cases[i].op != SHOAL_RECV)
			host_misuse("shoal_select: a case is neither SHOAL_SEND nor SHOAL_RECV");
		if (!cases[i].chan)
			continue;
		chan_check(cases[i].chan, "shoal_select: not a channel");
		channels++;
	}
	return channels;
}

int shoal_select(struct shoal_case *cases, size_t n, int64_t timeout)
{
	struct g *g = api_enter("shoal_select");
	uint16_t few[ORDER_INLINE], *order = few;
	size_t channels;
	int r;

	if (n > CASES_MAX)
		return -EINVAL;
	channels = check_cases(cases, n);
	if (!channels)
		return chan_block_forever(g, timeout, WAIT_SELECT_EMPTY);
	if (n > ORDER_INLINE && !(order = g_alloc(g, n * sizeof *order)))
		return -ENOMEM;
	r = select_with(cases, n, timeout, channels, order);
	if (order != few)
		g_free(g, order);
	return r;
}

struct select_wait *select_wait_of(struct g *g)
{
	struct sudog *first = g->waiting;
	struct select_wait *w;
	size_t room;

	if (!first || first == &g->sudog)
		return NULL;
	w = (struct select_wait *)((char *)first - offsetof(struct select_wait, sg));
	room = sh_heap_usable(sh_root->arena, w);
	return room >= sizeof *w && room - sizeof *w >= w->n * sizeof w->sg[0] ? w : NULL;
}

void select_relink(struct g *g, struct shoal_chan *c)
{
	struct select_wait *w = select_wait_of(g);

	for (uint32_t i = 0; w && i < w->n; i++)
		if (w->sg[i].queue == c)
			waitq_relink_near(chan_queue(c, &w->sg[i]), &w->sg[i]);
}

void select_forget(struct g *g)
{
	struct select_wait *w = select_wait_of(g);
	uint32_t none = 0;

	if (!w)
		return;
	atomic_compare_exchange_strong(&w->claim, &none, SELECT_OVER);
	KILL_POINT("select.forget.over");
	for (uint32_t i = 0; i < w->n; i++)
		if (w->sg[i].queue)
			chan_forget(w->sg[i].queue, &w->sg[i]);
	g->waiting = NULL;
	KILL_POINT("select.forget.done");
	g_free(g, w);
}
