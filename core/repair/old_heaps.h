/*
 * old_heaps.h - what ended tasks left allocated: the medic's.
 */
#ifndef CORE_REPAIR_OLD_HEAPS_H
#define CORE_REPAIR_OLD_HEAPS_H

#include <stdbool.h>
#include <stdint.h>

struct sh_heap;

void old_heaps_find(void);	       /* a new medic: what there is */
void old_heaps_add(struct sh_heap *);  /* the heap of a task that is over */
void old_heaps_renewed(unsigned seat); /* the process in the seat is gone */
bool old_heaps_scan(int64_t now);      /* asks workers to go when much has gathered; true: look again soon */

#endif
