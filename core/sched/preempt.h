/* preempt.h - goroutines that give way or hold still for a reader of their stack. See preempt.c. */
#ifndef CORE_SCHED_PREEMPT_H
#define CORE_SCHED_PREEMPT_H

#include <stdbool.h>
#include <stdint.h>

struct g;

void gopreempt(void);	      /* on a G that was asked: gives way, or stops for suspendG. Parks. */
void preempt_ask(struct g *); /* asks a G to give way; a pending request to stop stays */
/*
 * After a park that may have ended because of a signal (wait_interruptible): runs the handlers that are due. 0: none
 * has run. -ERESTART: all that ran want the call to go on (SA_RESTART). -EINTR: the call ends with it. May park.
 */
int wait_signals(struct g *);
enum suspended { SUSPEND_GONE, SUSPEND_HELD, SUSPEND_STOPPED, SUSPEND_SYSCALL, SUSPEND_NOT };
/*
 * Makes the stack of a goroutine hold still. HELD: we have its scan bit. STOPPED: it also stopped for us.
 * SYSCALL: it is in a system call; its stack is still from the frame in its worker's syscallsp on. GONE:
 * it has ended. NOT: it did not reach a point where it can stop before `until`. In each case the caller
 * then calls resumeG, which returns whether the stack held still all the time. Sleeps in short naps.
 */
enum suspended suspendG(struct g *, uint64_t gid, int64_t until);
bool resumeG(struct g *, enum suspended);
void unpreempt(struct g *);
void suspend_withdraw(struct g *);
void repair_suspend(struct g *); /* medic: a dead process had suspended this G */

#endif
