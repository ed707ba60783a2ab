/* semtable.h - goroutines that wait for a word in memory, whatever it is part of. See semtable.c. */
#ifndef CORE_SYNC_SEMTABLE_H
#define CORE_SYNC_SEMTABLE_H

#include "core/sync/waitq.h"

/* The locked queue for an address, in the table of the goroutine's task. NULL: no memory for the table. */
struct shoal_waitq_ *semtable_lock(struct g *, const void *at);
void semtable_unlock(struct shoal_waitq_ *);
/*
 * Waits for `at` until the time `when` (0: no limit). Holds: the queue's lock; drops it. Parks. 0: its wait was
 * finished; -EAGAIN: check again; -ETIMEDOUT; -ECANCELED if a wait for this reason can be cancelled. -EINTR: a handler has run that
 * ends this wait.
 */
int semtable_wait(struct shoal_waitq_ *, struct g *, const void *at, enum waitreason why, int64_t when);
/* The same in two steps: enqueue (the caller drops the lock), then park. */
void semtable_enqueue(struct shoal_waitq_ *, struct g *, const void *at, enum waitreason why);
int semtable_park(struct shoal_waitq_ *, struct g *, enum waitreason why, int64_t when);
/* Finishes the wait of the first that waits for `at`, or of all. The caller has stored the word before. */
void semtable_wake(struct g *, const void *at, bool all);
/* the same for the medic, which is no goroutine of the task */
void semtable_wake_in(struct task *, const void *at, bool all);
/*
 * Finishes the wait of up to n of those that wait for `at` with one of these bits in sudog.n; bits 0: of any.
 * Returns how many.
 */
unsigned semtable_wake_some(struct g *, const void *at, unsigned n, uint32_t bits);
/* All that wait in this table check again. */
void semtable_wake_all(struct task *);
/* This run of g will never finish (GF_GONE): all waiters of its task check again. */
void semtable_g_gone(struct g *);

#endif
