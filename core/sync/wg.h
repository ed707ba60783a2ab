/*
 * wg.h - wait groups: what repair and the end of a G need.
 */
#ifndef CORE_SYNC_WG_H
#define CORE_SYNC_WG_H

struct g;
struct note;
struct shoal_wg;

void wg_leave(struct g *);
void wg_unpromise(struct shoal_wg **);
void wg_repair(struct shoal_wg *, struct note *); /* Holds: the lock, in the dead seat's name */

#endif
