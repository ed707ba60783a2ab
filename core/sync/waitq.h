/*
 * waitq.h - wait queues.
 *
 * A wait queue is a FIFO of sudogs. A public object (struct shoal_waitq_: mutex, rwmutex, cond, semaphore, wait
 * group) has one together with its lock:
 *
 *   struct shoal_waitq_
 *   +------+------+-------+------+
 *   | lock | kind | first | last |
 *   +------+------+-------+------+
 *                    |       +--------------------+
 *                    v                            v
 *                 +----+ next +----+ next      +----+
 *                 | sg |----->| sg |-- ... --->| sg |
 *                 +----+<-----+----+<- ... ----+----+
 *                        prev
 *
 * To finish a wait: unlink the sudog, then store its state. After that store the waiter may reuse the sudog,
 * because a timer or a cancellation may have woken it already.
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
 * OWNER  the object that it is part of
 * LOCK   the lock of that object
 * ORDER  under the lock: each operation commits with one store
 * DEATH  every change is one store to a next pointer (or to first); prev and last follow from these
 */
struct waitq {
	struct sudog *first, *last;
};

void waitq_push(struct waitq *, struct sudog *);
void waitq_pop(struct waitq *);
void waitq_push_first(struct waitq *, struct sudog *);
void waitq_remove(struct waitq *, struct sudog *);
/* Computes prev and last from next, for the whole queue. Holds: the lock, in a dead worker's name. */
void waitq_relink(struct waitq *);
/*
 * The same in two short steps, for queues that may be long: around a sudog that the dead worker may have been
 * unlinking, then at both ends. One change can leave nothing else incomplete.
 */
void waitq_relink_near(struct waitq *, struct sudog *touched);
void waitq_relink_ends(struct waitq *);
bool waitq_has(const struct waitq *,
	       /* true if sg is in q, whose links are whole; sg waited there or in another queue */
	       const struct sudog *);

/* The lock and the list of a public object. */
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

/*
 * Waits in q, at its head if `first`. Holds: the lock; drops it. Parks. 0: finished by a waker; -EAGAIN: check
 * again (after a repair); -ECANCELED.
 */
int waitq_wait(struct shoal_waitq_ *, struct g *, enum waitreason, bool first);
int waitq_wait_end(struct shoal_waitq_ *, struct g *); /* the part of waitq_wait after the park */
/*
 * Finishes the wait of sg. note: the caller's, or the one of the dead worker that the medic repairs. Holds:
 * the lock.
 */
void waitq_finish(struct shoal_waitq_ *, struct sudog *, struct note *);
/*
 * The same for the last one to finish, or for all that wait. Holds: the lock; drops it and does not touch the
 * object again.
 */
void waitq_finish_unlock(struct shoal_waitq_ *, struct sudog *);
void waitq_finish_all(struct shoal_waitq_ *);
/*
 * Finishes the wait that the dead worker was finishing; the waiter checks again. Holds: the lock, in its
 * name.
 */
void waitq_repair_noted(struct shoal_waitq_ *, struct note *);
/* Makes the object whole. Holds: the lock, in a dead worker's name. */
void waitq_repair(struct sh_lock *, struct note *);
void waitq_forget(struct sh_lock *, struct sudog *);

#endif
