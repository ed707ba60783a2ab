/* cancel.h - cancellation of goroutines. See cancel.c. */
#ifndef CORE_SYNC_CANCEL_H
#define CORE_SYNC_CANCEL_H

#include <stdbool.h>
#include <stdint.h>

struct g;

void g_cancel_mark(struct g *, uint64_t gid);
void g_cancel_wake(struct g *);
void g_signal_wake(struct g *); /* marked PREEMPT_SIGNAL: it looks, now */
/* True if the wait with this park sequence was finished or cancelled before it began. */
bool wait_finished(struct g *, uint32_t seq);
bool wait_cancellable(unsigned why);
bool wait_interruptible(unsigned why); /* a signal ends the park; whoever parked calls wait_signals then */

#endif
