/*
 * semtable.h - goroutines that wait for a word, whatever it is part of: semtable.c.
 */
#ifndef CORE_SYNC_SEMTABLE_H
#define CORE_SYNC_SEMTABLE_H

#include "core/sync/waitq.h"

/* The queue for an address, locked; NULL: there is no memory for the table. Of the current goroutine's task. */
struct shoal_waitq_ *semtable_lock(struct g *, const void *at);
void semtable_unlock(struct shoal_waitq_ *);
/*
 * Waits for `at`, until `when` (0: for ever). Holds: the queue's lock; drops it. Parks. 0 told, -EAGAIN
 * look again, -ETIMEDOUT; -ECANCELED if why can be cancelled.
 */
int semtable_wait(struct shoal_waitq_ *, struct g *, const void *at, enum waitreason why, int64_t when);
/* The same in two steps: in the queue, whose lock is then the caller's to drop; and asleep. */
void semtable_enqueue(struct shoal_waitq_ *, struct g *, const void *at, enum waitreason why);
int semtable_park(struct shoal_waitq_ *, struct g *, enum waitreason why, int64_t when);
/* Tells the first that waits for `at`, or all. The word that makes their wait needless has been stored. */
void semtable_wake(struct g *, const void *at, bool all);
void semtable_wake_in(struct task *, const void *at,
		      bool all); /* the same, for the medic, which is no goroutine of the task */
/* All who wait here look again. */
void semtable_wake_all(struct task *);
/* This one will not go on from where it was: who waits for what it was at looks again, and sees that (GF_GONE). */
void semtable_g_gone(struct g *);

#endif
