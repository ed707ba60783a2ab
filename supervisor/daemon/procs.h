/*
 * procs.h - the number of Ps, by command or by what the machine allows.
 */
#ifndef SUPERVISOR_DAEMON_PROCS_H
#define SUPERVISOR_DAEMON_PROCS_H

#include <stdint.h>

struct asker;

void sh_procs(struct asker *, uint32_t n); /* answers when there are n Ps */
void sh_procs_follow(
	void); /* called now and then: as many Ps as affinity and control groups allow, unless set by hand */

#endif
