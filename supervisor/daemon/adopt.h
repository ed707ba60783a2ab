/*
 * adopt.h - a new supervisor takes over a runtime whose supervisor has died.
 */
#ifndef SUPERVISOR_DAEMON_ADOPT_H
#define SUPERVISOR_DAEMON_ADOPT_H

#include <stdbool.h>

/* asks the keeper for everything; ends the process if the runtime belongs to another user */
bool sh_adopt_begin(int *link);
void sh_adopt_end(void); /* called in the loop, after the zygote has served the last supervisor's requests */
void sh_keeper_first(int segment, int ledger, int link, int event);
void sh_keeper_begin(void); /* starts another keeper and gives it everything */

#endif
