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

static inline struct waitq *queue_of(struct shoal_chan *c, const struct sudog *sg)
{
	return SG_OP(sg->n) == SHOAL_SEND ? &c->sendq : &c->recvq;
}

/*
 * What a select waits with: a block of the task's heap. g->waiting names its first sudog.
 * OWNER  the G; who takes a sudog of it off a queue must win claim first
 * ORDER  claim changes once from 0, by compare-and-swap: to the number of the case and 1, by who
 *        matched it, under that channel's lock; or to SELECT_OVER by the G itself
 * DEATH  see select.c
 */
struct select_wait {
	_Atomic uint32_t claim;
	uint32_t n; /* sudogs that may be in a queue: the first n */
	_Alignas(16) struct sudog sg[];
};
#define SELECT_OVER 0xffffffffu

static inline struct select_wait *select_of(struct sudog *sg)
{
	return (struct select_wait *)((char *)(sg - SG_CASE(sg->n)) - offsetof(struct select_wait, sg));
}

struct shoal_chan *chan_known(struct shoal_chan *, const char *call); /* refuses what is no channel */
/* Without waiting: 0 or 1 done, as send and receive say; -EPIPE; -EAGAIN. */
int chan_try_send(struct shoal_chan *, const void *value);
int chan_try_recv(struct shoal_chan *, void *value);
int chan_block_forever(struct g *, int64_t timeout, enum waitreason);
struct select_wait *select_wait_of(struct g *); /* for others than g: what it waits with, NULL if it is in no select */
void select_mend(struct g *, struct shoal_chan *); /* medic: waitq_mend_at for each of its sudogs there */
bool select_claim(struct sudog *);		   /* false: another case of its select was chosen, or it is over */

static inline void copy_value(void *to, const void *from, size_t n)
{
	if (n == 8)
		__builtin_memcpy(to, from, 8);
	else if (n)
		__builtin_memcpy(to, from, n);
}

#endif
