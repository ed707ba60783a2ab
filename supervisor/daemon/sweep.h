/*
 * sweep.h - descriptors that a death left open are closed.
 */
#ifndef SUPERVISOR_DAEMON_SWEEP_H
#define SUPERVISOR_DAEMON_SWEEP_H

#include <stdbool.h>

void sh_sweep_look(void);	  /* starts a sweep if one is due and nothing prevents it */
void sh_sweep_renewed(bool done); /* all workers were replaced for the sweep; false: that failed */

#endif
