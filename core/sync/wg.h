/* wg.h - wait groups, for the end of a goroutine and for repair. */
#ifndef CORE_SYNC_WG_H
#define CORE_SYNC_WG_H

struct g;
struct note;
struct shoal_wg;

void wg_leave(struct g *);
void wg_unpromise(struct shoal_wg **);
void wg_repair(struct shoal_wg *, struct note *); /* Holds: the lock, in the dead worker's name */

#endif
