/* join.h - the joiners of a goroutine, for repair. */
#ifndef CORE_SYNC_JOIN_H
#define CORE_SYNC_JOIN_H

struct g;
struct note;
struct sh_lock;
struct sudog;

void join_repair(struct sh_lock *, struct note *);
void join_forget(struct g *, struct sudog *);

#endif
