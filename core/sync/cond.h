/*
 * cond.h - condition variables: what repair needs.
 */
#ifndef CORE_SYNC_COND_H
#define CORE_SYNC_COND_H

struct shoal_cond;

void cond_signal_first(struct shoal_cond *); /* tells the first waiter */

#endif
