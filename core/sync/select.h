/* select.h - the inside of a select. See select.c. */
#ifndef CORE_SYNC_SELECT_H
#define CORE_SYNC_SELECT_H

#include "core/sync/chan.h"

/*
 * What a select waits with: a block of the task's heap. g->waiting points to its first sudog.
 * OWNER  the G. A waker that takes one of its sudogs off a queue must win claim first
 * LOCK   each sudog: the lock of its channel
 * ORDER  claim changes once, from 0, by compare-and-swap: to index + 1 of the case, by the waker, under the
 *        lock of that channel; or to SELECT_OVER, by the G
 * DEATH  the G: select_forget takes its sudogs off all queues. A waker that has claimed it and not
 *        finished its wait: the medic stores SG_RETRY, and the select begins anew
 */
struct select_wait {
	_Atomic uint32_t claim;
	uint32_t n; /* the first n sudogs may be in queues */
	_Alignas(16) struct sudog sg[];
};
#define SELECT_OVER 0xffffffffu

static inline struct select_wait *select_of(struct sudog *sg)
{
	return (struct select_wait *)((char *)(sg - SG_CASE(sg->n)) - offsetof(struct select_wait, sg));
}

struct select_wait *select_wait_of(struct g *); /* the select in which another goroutine waits; NULL: none */
/* medic: repairs the links around its sudogs in this channel */
void select_relink(struct g *, struct shoal_chan *);
bool select_claim(struct sudog *); /* false: another case was chosen, or the select is over */
void select_forget(struct g *);	   /* medic: takes a lost goroutine's select out of all queues */

#endif
