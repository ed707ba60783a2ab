/*
 * trace.h - records the events of some seconds.
 */
#ifndef SUPERVISOR_DAEMON_VIEW_TRACE_H
#define SUPERVISOR_DAEMON_VIEW_TRACE_H

#include <stdint.h>

struct asker;

void sh_trace(struct asker *, int64_t ns); /* answers with a descriptor when the time is over */
void sh_trace_end_abandoned(void);	   /* ends recordings whose client has disconnected */

#endif
