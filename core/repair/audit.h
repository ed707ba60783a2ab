/* audit.h - checks every invariant of the scheduler without stopping anybody. */
#ifndef CORE_REPAIR_AUDIT_H
#define CORE_REPAIR_AUDIT_H

#include <stddef.h>

struct sudog;

int audit(char *msg, size_t n); /* returns the number of faults; the first one in msg, or "clean" */
/* the list that this waiting sudog is in; NULL: it waits in no such list */
struct waitq *queue_waited_in(const struct sudog *);

#endif
