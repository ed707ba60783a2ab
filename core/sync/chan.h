/*
 * chan.h - the inside of a channel, for chan.c, select.c and repair.
 *
 *   sendq: senders that wait          buf: cap slots                  recvq: receivers that wait
 *   +----+   +----+                   +---+---+---+---+---+          +----+   +----+
 *   | sg |-->| sg |   - - send - ->   |   | v | v | v |   |  - recv ->| sg |-->| sg |
 *   +----+   +----+                   +---+---+---+---+---+          +----+   +----+
 *                                       recvx ^       ^ sendx, both modulo cap
 */
#ifndef CORE_SYNC_CHAN_H
#define CORE_SYNC_CHAN_H

#include "core/g/api.h"
#include "core/g/g.h"
#include "core/g/names.h"
#include "core/sched/m.h"
#include "core/sched/proc.h"
#include "core/sync/waitq.h"
#include "shm/check.h"

#include <errno.h>

/*
 * A channel.
 * OWNER  the task whose heap it is in
 * LOCK   lock guards all of it; closed, sendx and recvx are also read without it
 * ORDER  a value is in buf before sendx passes it, and out of it before recvx does
 * DEATH  chan_repair() makes it whole, by the notes of the dead worker
 */
struct shoal_chan {
	struct sh_lock lock;
	uint32_t magic;
	_Atomic uint32_t closed;
	uint64_t elem, cap;
	_Atomic uint64_t sendx, recvx; /* grow under the lock; pairs with shoal_chan_len, which reads without it */
	struct waitq recvq, sendq;
	struct task *task;
	_Alignas(16) char buf[];
};
#define CHAN_MAGIC 0x6e616863u
#define SLOT(c, x) ((c)->buf + ((x) % (c)->cap) * (c)->elem)

/* sudog.n of a waiter: the operation in bit 0; for a select also the index of the case and SG_SELECT. */
#define SG_SELECT 0x80000000u
#define SG_OP(n) ((n)&1u)
#define SG_CASE(n) (((n) & ~SG_SELECT) >> 1)

static inline struct waitq *chan_queue(struct shoal_chan *c, const struct sudog *sg)
{
	return SG_OP(sg->n) == SHOAL_SEND ? &c->sendq : &c->recvq;
}

/* ends the caller as a crash if this is not a channel */
struct shoal_chan *chan_check(struct shoal_chan *, const char *call);
/* Without waiting: 0 or 1 as shoal_send and shoal_recv return; -EPIPE; -EAGAIN if they would wait. */
int chan_try_send(struct shoal_chan *, const void *value);
int chan_try_recv(struct shoal_chan *, void *value);
/* On no channel at all: waits until the time-out. Inlined, so that dump finds the line of the call of the interface. Parks. */
static inline __attribute__((always_inline)) int chan_block_forever(struct g *g, int64_t timeout, enum waitreason why)
{
	sh_check(g == getg());
	if (timeout == 0)
		return -EAGAIN;
	gopark(NULL, why, deadline(timeout));
	return g_cancelled(g) ? -ECANCELED : -ETIMEDOUT;
}
/* Makes the channel whole. Holds: its lock, in a dead worker's name. */
void chan_repair(struct sh_lock *, struct note *);
/* Takes a lost goroutine's sudog off the queue in which it may still be. */
void chan_forget(struct sh_lock *, struct sudog *);

static inline void copy_value(void *to, const void *from, size_t n)
{
	if (n == 8)
		__builtin_memcpy(to, from, 8);
	else if (n)
		__builtin_memcpy(to, from, n);
}

#endif
