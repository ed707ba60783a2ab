/* cancel.h - cancellation of goroutines. See cancel.c. */
#ifndef CORE_SYNC_CANCEL_H
#define CORE_SYNC_CANCEL_H

#include <stdbool.h>
#include <stdint.h>

struct g;

/*
 * g->cancelled while the goroutine holds cancellation back: not asked, asked. Every other value is g_cancelled's.
 */
#define CANCEL_HELD UINT32_MAX
#define CANCEL_HELD_ASKED (UINT32_MAX - 1)

/* Marks it. False: it holds cancellation back, and is not to be woken. The medic may wake it until g_cancel_wake. */
bool g_cancel_ask(struct g *, uint64_t gid);
/* By the goroutine itself: from now on g_cancel_ask has no effect; until now. */
void g_cancel_hold(struct g *);
void g_cancel_release(struct g *);
void g_cancel_interrupt(struct g *); /* one that runs is interrupted, if it can be */
void g_cancel_mark(struct g *, uint64_t gid);
void g_cancel_wake(struct g *);
void g_signal_wake(struct g *); /* marked PREEMPT_SIGNAL: it looks, now */
/* True if the wait with this park sequence was finished or cancelled before it began. */
bool wait_finished(struct g *, uint32_t seq);
bool wait_cancellable(unsigned why);
bool wait_interruptible(unsigned why); /* a signal ends the park; whoever parked calls wait_signals then */

#endif
