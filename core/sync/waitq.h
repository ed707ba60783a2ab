/*
 * waitq.h - wait queues.
 */
#ifndef CORE_SYNC_WAITQ_H
#define CORE_SYNC_WAITQ_H

#include "core/g/g.h"
#include "core/g/names.h"
#include "core/shoal.h"
#include "shm/lock.h"

#include <stddef.h>

/*
 * A FIFO of sudogs.
 * LOCK   the lock of the object it is part of
 * DEATH  every change is one store to a next pointer (or first); prev and last are derived
 */
struct waitq {
	struct sudog *first, *last;
};

void waitq_push(struct waitq *, struct sudog *);
void waitq_pop(struct waitq *);
void waitq_push_first(struct waitq *, struct sudog *);
void waitq_remove(struct waitq *, struct sudog *);
/* Holds: the lock, of one who died with it. prev and last from next, all the way. */
void waitq_relink(struct waitq *);
/*
 * The same where nobody may be held up for long, in two steps: next to each sudog that the dead may have
 * been taking out, then at both ends. That is all that one change can have left half done.
 */
void waitq_relink_near(struct waitq *, struct sudog *touched);
void waitq_relink_ends(struct waitq *);
bool waitq_has(const struct waitq *,
	       const struct sudog *); /* of a whole queue. A sudog that waited there, or in another */

/* The lock and the queue of a public object. */
static inline struct sh_lock *waitq_lock(struct shoal_waitq_ *q)
{
	struct sh_lock *l = (struct sh_lock *)q;

	l->kind = SH_LOCK_WAITQ;
	return l;
}

static inline struct waitq *waitq_list(struct shoal_waitq_ *q)
{
	return (struct waitq *)&q->first;
}
_Static_assert(offsetof(struct shoal_waitq_, first) == sizeof(struct sh_lock), "a waitq begins with its lock");

/* Waits in q, at its head if first. Holds: its lock; drops it. Parks. 0 told, -EAGAIN look again (a repair), -ECANCELED. */
int waitq_wait(struct shoal_waitq_ *, struct g *, enum waitreason, bool first);
int waitq_wait_end(struct shoal_waitq_ *, struct g *); /* the part of it after the park */
/* Tells a waiter that its wait is over; the note is the caller's, or the one that the medic mends by. Holds: the lock. */
void waitq_finish(struct shoal_waitq_ *, struct sudog *, struct note *);
/* The same, of the last to be told, or of all that wait. Holds: the lock; drops it and touches the object no more. */
void waitq_finish_unlock(struct shoal_waitq_ *, struct sudog *);
void waitq_finish_all(struct shoal_waitq_ *);
/* Holds: the lock, in a dead seat's name. Whom it was telling looks again. */
void waitq_repair_noted(struct shoal_waitq_ *, struct note *);
/* The same of an object that the dead had in hand: Holds: the lock, in a dead seat's name. */
void waitq_repair(struct sh_lock *, struct note *);
void waitq_forget(struct sh_lock *, struct sudog *);

#endif
