/*
 * procs.h - the number of Ps, set by a client or by the limits of the machine.
 */
#ifndef SUPERVISOR_DAEMON_PROCS_H
#define SUPERVISOR_DAEMON_PROCS_H

#include <stdint.h>

struct asker;

void sh_procs(struct asker *, uint32_t n); /* answers when there are n Ps */
void sh_procs_follow(
	/*
	 * called regularly: sets as many Ps as affinity and control groups allow, unless a client or an option has
	 * set the number
	 */
	void);

#endif
