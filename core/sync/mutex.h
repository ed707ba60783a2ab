/*
 * mutex.h - the mutex, for those who hold one inside.
 */
#ifndef CORE_SYNC_MUTEX_H
#define CORE_SYNC_MUTEX_H

#include <stdint.h>

struct g;
struct shoal_mutex;

/* The mutex without the ado of an interface call: for cond and once. */
int mutex_acquire(struct shoal_mutex *, struct g *);
static inline uint64_t mutex_holder(uint64_t owner) /* its gid, without the flags in the three highest bits */
{
	return owner << 3 >> 3;
}
void mutex_release(struct shoal_mutex *, struct g *);
void mutex_abandon(struct shoal_mutex *, struct g *);
void mutexes_abandon(struct g *); /* at its end: the next holder is told */

#endif
