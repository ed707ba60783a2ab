/* sem.h - semaphores, for repair. */
#ifndef CORE_SYNC_SEM_H
#define CORE_SYNC_SEM_H

struct note;
struct shoal_sem;

void sem_repair(struct shoal_sem *, const struct note *);

#endif
