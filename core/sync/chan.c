/*
 * chan.c - channels, with Go's semantics (chan.go). The picture is in chan.h.
 *
 * Values are copied through the segment. The value for a waiting receiver goes to its sudog (slot or a block
 * of the heap), never to its stack, which may be in another worker.
 *
 * LOCK   c->lock guards all of it
 * ORDER  sendx and recvx only grow; the value is in buf before sendx passes it
 * DEATH  note.sg names the waiter that was taken off its queue, note.sg_mark the sendx that commits its
 *        value. The chains are whole by next after every store. A waiter whose wait was not finished goes
 *        back to the head of its queue, as if nothing had begun; one whose wait was finished is made
 *        runnable. See chan_repair().
 */
#include "core/sync/chan.h"
#include "core/g/api.h"
#include "core/g/g.h"
#include "core/g/names.h"
#include "core/host.h"
#include "core/repair/note.h"
#include "core/repair/repair.h"
#include "core/sched/m.h"
#include "core/sched/proc.h"
#include "core/shoal.h"
#include "core/sync/select.h"
#include "core/sync/waitq.h"
#include "shm/check.h"
#include "shm/heap.h"
#include "shm/kill.h"
#include "shm/lock.h"
#include "shm/segment.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct shoal_chan *shoal_chan_new(size_t elem, size_t cap)
{
	struct g *g = api_enter("shoal_chan_new");
	struct shoal_chan *c;
	size_t bytes;

	if (elem > UINT32_MAX || __builtin_mul_overflow(elem, cap, &bytes) || bytes > SH_HEAP_SIZE) {
		errno = EINVAL;
		return NULL;
	}
	c = g_alloc(g, sizeof *c + bytes);
	if (!c) {
		errno = ENOMEM;
		return NULL;
	}
	memset(c, 0, sizeof *c);
	c->lock.kind = SH_LOCK_CHAN;
	c->magic = CHAN_MAGIC;
	c->elem = elem;
	c->cap = cap;
	c->task = g->task;
	return c;
}

struct shoal_chan *chan_check(struct shoal_chan *c, const char *call)
{
	if (__builtin_expect((uintptr_t)c - (SH_BASE + SH_OFF_HEAP) >= SH_HEAP_SIZE - sizeof *c || (uintptr_t)c % 8 ||
				     c->magic != CHAN_MAGIC,
			     0))
		host_misuse(call);
	return c;
}

void shoal_chan_free(struct shoal_chan *c)
{
	struct g *g = api_enter("shoal_chan_free");

	if (!c)
		return;
	chan_check(c, "shoal_chan_free: not a channel");
	/* A matched peer may still hold the lock: it drops it without looking at c again. */
	sh_lock_take(&c->lock, (unsigned)getm->seat);
	c->magic = 0;
	KILL_POINT("chan.free.marked");
	sh_lock_drop(&c->lock, (unsigned)getm->seat);
	g_free(g, c);
}

size_t shoal_chan_len(struct shoal_chan *c)
{
	return c ? atomic_load(&c->sendx) - atomic_load(&c->recvx) : 0;
}

size_t shoal_chan_cap(struct shoal_chan *c)
{
	return c ? c->cap : 0;
}

/* Finishes the wait of the sudog in note.sg. Holds: c->lock; drops it. */
static void chan_finish_wait(struct shoal_chan *c, struct sudog *sg, uint32_t how)
{
	struct m *m = getm;
	uint32_t seq = sg->seq;
	struct g *g = sg->g;

	atomic_store_explicit(&sg->state, how, memory_order_release);
	KILL_POINT("chan.finish.delivered");
	sh_lock_drop(&c->lock, (unsigned)m->seat);
	goready(g, seq);
	m->note.sg = NULL;
}

/* Names in the note the waiter that is about to be unlinked. */
static inline void note_waiter(struct note *n, struct sudog *sg)
{
	n->sg_seq = sg->seq;
	n->sg_mark = 0;
	sh_noted();
	n->sg = sg;
	sh_noted();
}

/* The first waiter belongs to a select: unlinks it, and before it those that were matched elsewhere. */
static __attribute__((noinline)) struct sudog *take_select(struct waitq *q)
{
	struct note *n = &getm->note;
	struct sudog *sg;

	while ((sg = q->first)) {
		bool claimed;

		note_waiter(n, sg);
		KILL_POINT("chan.take.select");
		claimed = !(sg->n & SG_SELECT) || select_claim(sg);
		KILL_POINT("chan.take.claimed");
		waitq_pop(q);
		if (claimed)
			return sg;
		atomic_store_explicit(&sg->state, SG_IDLE, memory_order_release); /* it is in no queue any more */
		KILL_POINT("chan.take.stale");
		n->sg = NULL;
	}
	return NULL;
}

/* Unlinks the first waiter of a queue and names it in the note. */
static struct sudog *take_first(struct waitq *q)
{
	struct m *m = getm;
	struct sudog *sg = q->first;

	if (!sg)
		return NULL;
	if (__builtin_expect(sg->n & SG_SELECT, 0))
		return take_select(q);
	note_waiter(&m->note, sg);
	KILL_POINT("chan.take.noted");
	waitq_pop(q);
	return sg;
}

/* A timer or a cancellation ended the wait, but a partner may be finishing it right now. */
static __attribute__((noinline)) int chan_give_up(struct shoal_chan *c, struct g *g)
{
	struct sudog *sg = &g->sudog;
	int how;

	sh_check(sg->queue == c);
	sh_lock_take(&c->lock, (unsigned)getm->seat);
	how = (int)atomic_load_explicit(&sg->state, memory_order_acquire);
	if (how == SG_QUEUED)
		waitq_remove(chan_queue(c, sg), sg);
	sh_lock_drop(&c->lock, (unsigned)getm->seat);
	return how;
}

/*
 * Waits in q. 0, or what ended the wait without a partner. Holds: c->lock; drops it. Parks.
 *
 * Inlined into its two callers, which keep little across it: the stack of a goroutine that waits for a channel
 * should fit the smallest image.
 */
static inline __attribute__((always_inline)) int wait_in(struct shoal_chan *c, struct waitq *q, struct g *g,
							 int64_t timeout, enum waitreason why)
{
	struct sudog *sg = &g->sudog;
	int how;

	sg->g = g;
	sg->seq = g_next_seq(g);
	sg->queue = c;
	sg->n = why == WAIT_SEND ? SHOAL_SEND : SHOAL_RECV;
	atomic_store_explicit(&sg->state, SG_QUEUED, memory_order_relaxed);
	g->waiting = sg;
	waitq_push(q, sg);
	KILL_POINT("chan.wait.queued");
	gopark(&c->lock, why, deadline(timeout));
	g->waiting = NULL;
	how = (int)atomic_load_explicit(&sg->state, memory_order_acquire);
	if (__builtin_expect(how == SG_QUEUED, 0))
		how = chan_give_up(c, g);
	atomic_store_explicit(&sg->state, SG_IDLE, memory_order_relaxed);
	sg->queue = NULL;
	KILL_POINT("chan.wait.over");
	if (how == SG_DELIVERED)
		return 0;
	if (how == SG_CLOSED)
		return -EPIPE;
	return g_cancelled(g) ? -ECANCELED : -ETIMEDOUT;
}

static int slot_for(struct g *g, size_t n)
{
	struct sudog *sg = &g->sudog;

	sg->size = (uint32_t)n;
	sg->elem = sg->slot;
	if (n <= SLOT_INLINE)
		return 0;
	sg->elem = g_alloc(g, n);
	return sg->elem ? 0 : -ENOMEM;
}

static void slot_done(struct g *g)
{
	if (g->sudog.elem && g->sudog.elem != g->sudog.slot)
		g_free(g, g->sudog.elem);
	g->sudog.elem = NULL;
}

/* No receiver and no room: waits. Holds: c->lock; drops it. Parks. */
static __attribute__((noinline)) int send_park(struct shoal_chan *c, const void *value, int64_t timeout)
{
	struct g *g = getg();

	if (timeout == 0 || g_cancelled(g)) {
		sh_lock_drop(&c->lock, (unsigned)getm->seat);
		return timeout == 0 ? -EAGAIN : -ECANCELED;
	}
	if (c->elem <= SLOT_INLINE)
		slot_for(g, c->elem);
	copy_value(g->sudog.elem, value, c->elem);
	return wait_in(c, &c->sendq, g, timeout, WAIT_SEND);
}

static inline __attribute__((always_inline)) int chan_send(struct shoal_chan *c, const void *value, int64_t timeout)
{
	unsigned seat = (unsigned)getm->seat;
	struct sudog *sg;
	uint64_t x;

	sh_lock_take(&c->lock, seat);
	/* The channel is closed. */
	if (atomic_load_explicit(&c->closed, memory_order_relaxed)) {
		sh_lock_drop(&c->lock, seat);
		return -EPIPE;
	}
	/* A receiver waits: give it the value and finish its wait. */
	if ((sg = take_first(&c->recvq))) {
		copy_value(sg->elem, value, c->elem);
		chan_finish_wait(c, sg, SG_DELIVERED);
		return 0;
	}
	/* The buffer has room: put the value there. */
	x = atomic_load_explicit(&c->sendx, memory_order_relaxed);
	if (x - atomic_load_explicit(&c->recvx, memory_order_relaxed) < c->cap) {
		copy_value(SLOT(c, x), value, c->elem);
		KILL_POINT("chan.send.slot");
		atomic_store_explicit(&c->sendx, x + 1, memory_order_release);
		KILL_POINT("chan.send.stored");
		sh_lock_drop(&c->lock, seat);
		return 0;
	}
	/* Nothing of that: wait. */
	return send_park(c, value, timeout);
}

/* Allocates the block for the value before it takes the lock. */
static __attribute__((noinline)) int send_large(struct shoal_chan *c, const void *value, int64_t timeout)
{
	struct g *g = getg();
	int r;

	sh_check(c->elem > SLOT_INLINE);
	if (slot_for(g, c->elem) < 0)
		return -ENOMEM;
	r = chan_send(c, value, timeout);
	slot_done(g);
	return r;
}

int shoal_send_timed(struct shoal_chan *c, const void *value, int64_t timeout)
{
	struct g *g = api_enter("shoal_send");

	api_check_value(value, "shoal_send: the value is on another goroutine's stack");
	if (!c)
		return chan_block_forever(g, timeout, WAIT_SEND_NIL);
	chan_check(c, "shoal_send: not a channel");
	if (__builtin_expect(c->elem > SLOT_INLINE, 0))
		return send_large(c, value, timeout);
	return chan_send(c, value, timeout);
}

/* The buffer was full and a sender waits: its value goes into the slot that has just become free. */
static void refill_from_sender(struct shoal_chan *c, struct sudog *sg)
{
	uint64_t x = atomic_load_explicit(&c->sendx, memory_order_relaxed);

	getm->note.sg_mark = x + 1; /* once sendx has this value, the sender's value is in the buffer */
	copy_value(SLOT(c, x), sg->elem, c->elem);
	KILL_POINT("chan.refill.slot");
	atomic_store_explicit(&c->sendx, x + 1, memory_order_release);
	KILL_POINT("chan.refill.stored");
}

/* 1: received; 0: closed and empty; -EAGAIN: nothing there. Holds: c->lock; drops it unless -EAGAIN. */
static int take_ready(struct shoal_chan *c, void *value)
{
	unsigned seat = (unsigned)getm->seat;
	uint64_t x = atomic_load_explicit(&c->recvx, memory_order_relaxed);
	struct sudog *sg;

	/* The buffer has a value: take it, and let a waiting sender fill the slot. */
	if (atomic_load_explicit(&c->sendx, memory_order_relaxed) != x) {
		if (value)
			copy_value(value, SLOT(c, x), c->elem);
		atomic_store_explicit(&c->recvx, x + 1, memory_order_release);
		KILL_POINT("chan.recv.taken");
		if ((sg = take_first(&c->sendq))) {
			refill_from_sender(c, sg);
			chan_finish_wait(c, sg, SG_DELIVERED);
		} else {
			sh_lock_drop(&c->lock, seat);
		}
		return 1;
	}
	/* A sender waits and there is no buffer: take the value from its slot. */
	if ((sg = take_first(&c->sendq))) {
		if (value)
			copy_value(value, sg->elem, c->elem);
		chan_finish_wait(c, sg, SG_DELIVERED);
		return 1;
	}
	/* The channel is closed and empty: the value is zero. */
	if (atomic_load_explicit(&c->closed, memory_order_relaxed)) {
		sh_lock_drop(&c->lock, seat);
		if (value)
			memset(value, 0, c->elem);
		return 0;
	}
	return -EAGAIN;
}

/* No value and no sender: waits. Holds: c->lock; drops it. Parks. */
static __attribute__((noinline)) int recv_park(struct shoal_chan *c, void *value, int64_t timeout)
{
	struct g *g = getg();
	int r;

	if (timeout == 0 || g_cancelled(g)) {
		sh_lock_drop(&c->lock, (unsigned)getm->seat);
		return timeout == 0 ? -EAGAIN : -ECANCELED;
	}
	if (c->elem <= SLOT_INLINE)
		slot_for(g, c->elem);
	r = wait_in(c, &c->recvq, g, timeout, WAIT_RECV);
	if (r == 0) {
		if (value)
			copy_value(value, g->sudog.elem, c->elem);
		return 1;
	}
	if (r != -EPIPE)
		return r;
	if (value)
		memset(value, 0, c->elem);
	return 0;
}

static inline __attribute__((always_inline)) int chan_recv(struct shoal_chan *c, void *value, int64_t timeout)
{
	int r;

	sh_lock_take(&c->lock, (unsigned)getm->seat);
	r = take_ready(c, value);
	return r != -EAGAIN ? r : recv_park(c, value, timeout);
}

static __attribute__((noinline)) int recv_large(struct shoal_chan *c, void *value, int64_t timeout)
{
	struct g *g = getg();
	int r;

	sh_check(c->elem > SLOT_INLINE);
	if (slot_for(g, c->elem) < 0)
		return -ENOMEM;
	r = chan_recv(c, value, timeout);
	slot_done(g);
	return r;
}

int shoal_recv_timed(struct shoal_chan *c, void *value, int64_t timeout)
{
	struct g *g = api_enter("shoal_recv");

	api_check_value(value, "shoal_recv: the value would go to another goroutine's stack");
	if (!c)
		return chan_block_forever(g, timeout, WAIT_RECV_NIL);
	chan_check(c, "shoal_recv: not a channel");
	if (__builtin_expect(c->elem > SLOT_INLINE, 0))
		return recv_large(c, value, timeout);
	return chan_recv(c, value, timeout);
}

int chan_try_send(struct shoal_chan *c, const void *value)
{
	return chan_send(c, value, 0);
}

int chan_try_recv(struct shoal_chan *c, void *value)
{
	return chan_recv(c, value, 0);
}

int shoal_send(struct shoal_chan *c, const void *value)
{
	return shoal_send_timed(c, value, SHOAL_FOREVER);
}

int shoal_recv(struct shoal_chan *c, void *value)
{
	return shoal_recv_timed(c, value, SHOAL_FOREVER);
}

int shoal_close(struct shoal_chan *c)
{
	unsigned seat;
	struct sudog *sg;

	api_enter("shoal_close");
	seat = (unsigned)getm->seat;
	if (!c)
		host_misuse("shoal_close: close of nil channel");
	chan_check(c, "shoal_close: not a channel");
	sh_lock_take(&c->lock, seat);
	if (atomic_load(&c->closed)) {
		sh_lock_drop(&c->lock, seat);
		return -EPIPE;
	}
	atomic_store(&c->closed, 1);
	KILL_POINT("chan.close.closed");
	while ((sg = take_first(&c->recvq)) || (sg = take_first(&c->sendq))) {
		chan_finish_wait(c, sg, SG_CLOSED);
		sh_lock_take(&c->lock, seat);
	}
	sh_lock_drop(&c->lock, seat);
	return 0;
}

/*
 * A waiter that is off its queue and whose wait is not finished goes back, as if nothing had begun. Returns
 * its new state.
 */
static uint32_t chan_undo(struct shoal_chan *c, struct sudog *sg)
{
	if (sg->n & SG_SELECT) {
		/* Other wakers have skipped it since it was claimed: it must try all its channels again. */
		if (atomic_load(&select_of(sg)->claim) == SG_CASE(sg->n) + 1)
			return atomic_load(&c->closed) ? SG_CLOSED : SG_RETRY;
		return SG_IDLE;
	}
	if (atomic_load(&c->closed))
		return SG_CLOSED;
	waitq_push_first(chan_queue(c, sg), sg);
	return SG_QUEUED;
}

/* The waiter in the dead worker's note: its wait is finished, or nothing has begun. */
static void chan_repair_noted(struct shoal_chan *c, struct note *n)
{
	struct sudog *sg = n->sg;

	if (!sg || !sh_in_segment(sg) || sg->queue != c)
		return;
	if (atomic_load(&sg->state) == SG_QUEUED) {
		struct waitq *q = chan_queue(c, sg);
		bool there = waitq_has(q, sg);

		if (there && (sg->n & SG_SELECT) && atomic_load(&select_of(sg)->claim)) {
			waitq_remove(q, sg);
			there = false;
		}
		if (n->sg_mark && atomic_load(&c->sendx) >= n->sg_mark)
			atomic_store(&sg->state, SG_DELIVERED); /* its value is in the buffer */
		else if (!there)
			atomic_store(&sg->state, chan_undo(c, sg));
		KILL_POINT("chan.repair.waiter");
	}
	note_wake_finished(n);
	n->sg = NULL;
	KILL_POINT("chan.repair.noted");
}

/* Unlinks the first waiter of q for the medic and names it in the note. False: its select is over. */
static bool take_for_repair(struct shoal_chan *c, struct waitq *q, struct note *n)
{
	struct sudog *sg = q->first;
	bool claimed;

	note_waiter(n, sg);
	KILL_POINT("chan.repair.taken");
	claimed = !(sg->n & SG_SELECT) || select_claim(sg);
	waitq_pop(q);
	if (!claimed)
		chan_repair_noted(c, n);
	return claimed;
}

/* Wakes the waiters that the dead closer did not reach. */
static void close_on(struct shoal_chan *c, struct waitq *q, struct note *n)
{
	while (q->first)
		if (take_for_repair(c, q, n))
			chan_repair_noted(c, n);
}

/*
 * A hundred thousand goroutines may wait here, and workers may wait for the lock. So only links that the dead
 * worker can have touched are repaired.
 */
static void chan_relink(struct shoal_chan *c, const struct note *n)
{
	struct m *m = (struct m *)((char *)n - offsetof(struct m, note));
	struct g *g = atomic_load(&m->curg);

	if (n->sg && sh_in_segment(n->sg) && n->sg->queue == c)
		waitq_relink_near(chan_queue(c, n->sg), n->sg);
	if (g_plausible(g)) {
		if (g->sudog.queue == c)
			waitq_relink_near(chan_queue(c, &g->sudog), &g->sudog);
		select_relink(g, c);
	}
	waitq_relink_ends(&c->recvq);
	waitq_relink_ends(&c->sendq);
}

/*
 * Makes the channel whole. Holds: the lock, in the dead worker's name. The medic writes its steps to the dead
 * worker's note, because it may be killed itself and its successor must find them.
 */
void chan_repair(struct sh_lock *l, struct note *n)
{
	struct shoal_chan *c = (struct shoal_chan *)l;
	struct sudog *sg;

	if (!sh_heap_usable(sh_root->arena, c) || c->magic != CHAN_MAGIC)
		return;
	chan_relink(c, n);
	chan_repair_noted(c, n);
	if (atomic_load(&c->closed)) {
		close_on(c, &c->recvq, n);
		close_on(c, &c->sendq, n);
		return;
	}
	/* The buffer has room and a sender waits: a receiver died between the two. */
	while ((sg = c->sendq.first) && c->cap && atomic_load(&c->sendx) - atomic_load(&c->recvx) < c->cap) {
		uint64_t x = atomic_load(&c->sendx);

		if (!take_for_repair(c, &c->sendq, n))
			continue;
		n->sg_mark = x + 1;
		copy_value(SLOT(c, x), sg->elem, c->elem);
		KILL_POINT("chan.repair.slot");
		atomic_store(&c->sendx, x + 1);
		KILL_POINT("chan.repair.stored");
		chan_repair_noted(c, n);
	}
}

void chan_forget(struct sh_lock *l, struct sudog *sg)
{
	struct shoal_chan *c = (struct shoal_chan *)l;
	unsigned seat = (unsigned)getm->seat;

	if (!sh_heap_usable(sh_root->arena, c) || c->magic != CHAN_MAGIC)
		return;
	sh_lock_take(&c->lock, seat);
	if (waitq_has(chan_queue(c, sg), sg))
		waitq_remove(chan_queue(c, sg), sg);
	if (sg->n & SG_SELECT)
		atomic_store(&sg->state, SG_IDLE);
	KILL_POINT("chan.forget.idle");
	sh_lock_drop(&c->lock, seat);
}
