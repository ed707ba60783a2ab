/*
 * openings.h - loads the libraries that goroutines open (core/task/library.h), in the zygote.
 */
#ifndef SUPERVISOR_ZYGOTE_OPENINGS_H
#define SUPERVISOR_ZYGOTE_OPENINGS_H

#include <poll.h>
#include <stdbool.h>

void sh_openings_init(void);	    /* makes the eventfd with which workers wake the zygote */
void sh_openings_restart(void);	    /* called by a standby that takes over: starts every request without an answer */
void sh_openings_start_asked(void); /* the eventfd was written: starts the new requests */
/* Fills in the descriptors of the running trials and returns their number, at most max. */
unsigned sh_openings_poll(struct pollfd *, unsigned max);
/*
 * the trial with this descriptor has ended: loads the library or answers with the error
 */
void sh_openings_trial_ended(int fd);

#endif
