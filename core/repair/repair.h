/*
 * repair.h - what the medic does for a dead worker.
 */
#ifndef CORE_REPAIR_REPAIR_H
#define CORE_REPAIR_REPAIR_H

#include <stdbool.h>

struct note;

void note_wake_finished(struct note *); /* medic: whom note.sg names was told, if so, and is woken for certain */
void repair_begin(void);		/* medic, before all else: its waits repair dead owners */
void repair_seat(unsigned seat);	/* medic: all that the dead process in the seat held */
bool repair_pending(void);		/* somebody is dead and not repaired */
void repair_wake(void); /* after it. The dead one may have been about to wake somebody: all look for themselves */

#endif
