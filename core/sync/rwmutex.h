/* rwmutex.h - reader/writer locks, for the end of a goroutine and for repair. */
#ifndef CORE_SYNC_RWMUTEX_H
#define CORE_SYNC_RWMUTEX_H

struct g;
struct note;
struct sh_lock;
struct sudog;

void rw_abandon(struct g *);
void rw_repair(struct sh_lock *, struct note *);
void rw_forget(struct sh_lock *, struct sudog *);

#endif
