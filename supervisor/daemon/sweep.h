/*
 * sweep.h - closes descriptors that a dead worker left open.
 */
#ifndef SUPERVISOR_DAEMON_SWEEP_H
#define SUPERVISOR_DAEMON_SWEEP_H

#include <stdbool.h>

void sh_sweep_if_due(void);	  /* starts a sweep if one is due and nothing prevents it */
void sh_sweep_renewed(bool done); /* all workers were replaced for the sweep; false: that failed */

#endif
