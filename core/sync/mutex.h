/* mutex.h - the mutex, for cond.c, once and repair. See mutex.c. */
#ifndef CORE_SYNC_MUTEX_H
#define CORE_SYNC_MUTEX_H

#include <stdint.h>

struct g;
struct shoal_mutex;

/* Lock and unlock without the checks of an interface call. */
int mutex_acquire(struct shoal_mutex *, struct g *);
static inline uint64_t mutex_holder(uint64_t owner) /* gid of the holder, without the flags in the three highest bits */
{
	return owner << 3 >> 3;
}
void mutex_release(struct shoal_mutex *, struct g *);
void mutex_abandon(struct shoal_mutex *, struct g *);
/* at the end of a goroutine: marks its mutexes, so that the next holder gets -EOWNERDEAD */
void mutexes_abandon(struct g *);

#endif
