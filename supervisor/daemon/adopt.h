/*
 * adopt.h - a new supervisor goes on where the last one stopped.
 */
#ifndef SUPERVISOR_DAEMON_ADOPT_H
#define SUPERVISOR_DAEMON_ADOPT_H

#include <stdbool.h>

bool sh_adopt_begin(int *link); /* asks the keeper; ends the process if what it holds belongs to another user */
void sh_adopt_end(void);	/* in the loop: the zygote has done all that the last supervisor asked */
void sh_keeper_first(int segment, int ledger, int link, int event);
void sh_keeper_begin(void); /* starts another keeper and gives it everything */

#endif
