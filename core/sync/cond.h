/* cond.h - condition variables, for repair. */
#ifndef CORE_SYNC_COND_H
#define CORE_SYNC_COND_H

struct shoal_cond;

void cond_signal_first(struct shoal_cond *); /* finishes the wait of the first waiter */

#endif
