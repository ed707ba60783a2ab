/* old_heaps.h - heaps of ended tasks that still hold blocks. See old_heaps.c. */
#ifndef CORE_REPAIR_OLD_HEAPS_H
#define CORE_REPAIR_OLD_HEAPS_H

#include <stdbool.h>
#include <stdint.h>

struct sh_heap;

void old_heaps_find(void);	       /* a new medic: finds all of them */
void old_heaps_add(struct sh_heap *);  /* the task of this heap has ended */
void old_heaps_renewed(unsigned seat); /* the process in the seat is gone */
bool old_heaps_scan(int64_t now);      /* asks a worker to leave if too much has gathered. True: call again soon */

#endif
