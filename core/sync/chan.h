/*
 * chan.h - a channel from inside, for chan.c and select.c.
 */
#ifndef CORE_SYNC_CHAN_H
#define CORE_SYNC_CHAN_H

#include "core/sync/waitq.h"

struct shoal_chan {
	struct sh_lock lock;
	uint32_t magic;
	_Atomic uint32_t closed;
	uint64_t elem, cap;
	_Atomic uint64_t sendx, recvx;
	struct waitq recvq, sendq;
	struct task *task;
	_Alignas(16) char buf[];
};
#define CHAN_MAGIC 0x6e616863u
#define SLOT(c, x) ((c)->buf + ((x) % (c)->cap) * (c)->elem)

/* sudog.n of a waiter: the operation in bit 0; of a select's also the number of the case. */
#define SG_SELECT 0x80000000u
#define SG_OP(n) ((n)&1u)
#define SG_CASE(n) (((n) & ~SG_SELECT) >> 1)

static inline struct waitq *chan_queue(struct shoal_chan *c, const struct sudog *sg)
{
	return SG_OP(sg->n) == SHOAL_SEND ? &c->sendq : &c->recvq;
}

struct shoal_chan *chan_check(struct shoal_chan *, const char *call); /* refuses what is no channel */
/* Without waiting: 0 or 1 done, as send and receive say; -EPIPE; -EAGAIN. */
int chan_try_send(struct shoal_chan *, const void *value);
int chan_try_recv(struct shoal_chan *, void *value);
int chan_block_forever(struct g *, int64_t timeout, enum waitreason);
/* Holds: the lock, in a dead seat's name. */
void chan_repair(struct sh_lock *, struct note *);
/* Takes a lost G's sudog off the queue it may still be in. */
void chan_forget(struct sh_lock *, struct sudog *);

static inline void copy_value(void *to, const void *from, size_t n)
{
	if (n == 8)
		__builtin_memcpy(to, from, 8);
	else if (n)
		__builtin_memcpy(to, from, n);
}

#endif
