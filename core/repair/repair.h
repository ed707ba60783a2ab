/* repair.h - what the medic does for a dead worker. See repair.c. */
#ifndef CORE_REPAIR_REPAIR_H
#define CORE_REPAIR_REPAIR_H

#include <stdbool.h>

struct note;

void note_wake_finished(struct note *); /* if the wait of note.sg is finished, wakes that goroutine for certain */
void repair_begin(void);		/* medic, first of all: from now on its waits for locks repair dead owners */
void repair_seat(unsigned seat);	/* releases or completes all that the dead process in the seat held */
bool repair_pending(void);		/* true if a worker is dead and not yet repaired */
/* after a repair, wakes all sleeping workers: the dead one may have been about to wake one of them */
void repair_wake(void);

#endif
