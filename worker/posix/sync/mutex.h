/*
 * mutex.h - what conditions need of the mutex that they are used with: mutex.c.
 */
#ifndef WORKER_POSIX_SYNC_MUTEX_H
#define WORKER_POSIX_SYNC_MUTEX_H

#include "core/g/g.h"

#include <pthread.h>

/* A kind that knows its holder, and g is not that. */
bool mutex_not_held(const struct g *, const pthread_mutex_t *);
int mutex_lock_again(struct g *, pthread_mutex_t *); /* not a point of cancellation. Parks. As pthread_mutex_lock */
int mutex_unlock(struct g *, pthread_mutex_t *);

#endif
