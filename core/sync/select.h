/*
 * select.h - a select from inside.
 */
#ifndef CORE_SYNC_SELECT_H
#define CORE_SYNC_SELECT_H

#include "core/sync/chan.h"

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

struct select_wait *select_wait_of(struct g *); /* for others than g: what it waits with, NULL if it is in no select */
void select_relink(struct g *, struct shoal_chan *); /* medic: waitq_relink_near for each of its sudogs there */
bool select_claim(struct sudog *);		     /* false: another case of its select was chosen, or it is over */
void select_forget(struct g *); /* a lost G may be in the middle of a select: it is in no queue any more */

#endif
