/*
 * audit.h - every invariant of the scheduler, looked at without stopping anybody.
 */
#ifndef CORE_REPAIR_AUDIT_H
#define CORE_REPAIR_AUDIT_H

#include <stddef.h>

struct sudog;

int audit(char *msg, size_t n);			     /* 0 clean, else the number of faults; the first in msg */
struct waitq *queue_waited_in(const struct sudog *); /* of one that waits; NULL: no such queue */

#endif
