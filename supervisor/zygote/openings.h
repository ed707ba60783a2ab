/*
 * openings.h - the zygote loads what goroutines open (core/task/library.h).
 */
#ifndef SUPERVISOR_ZYGOTE_OPENINGS_H
#define SUPERVISOR_ZYGOTE_OPENINGS_H

#include <poll.h>
#include <stdbool.h>

void sh_openings_start(void); /* makes the eventfd by which workers ring */
void sh_openings_all(void);   /* a standby has taken over: every request that has no answer */
void sh_openings_look(void);  /* somebody has rung */
/* Descriptors of trials that are under way. How many, at most max. */
unsigned sh_openings_poll(struct pollfd *, unsigned max);
void sh_openings_ready(int fd); /* that trial has ended */

#endif
