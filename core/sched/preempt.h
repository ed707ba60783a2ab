/*
 * preempt.h - goroutines that give way or hold still.
 */
#ifndef CORE_SCHED_PREEMPT_H
#define CORE_SCHED_PREEMPT_H

#include <stdbool.h>
#include <stdint.h>

struct g;

void gopreempt(void);	      /* on a G that was asked: gives way, or stops for who suspends it. Parks. */
void preempt_ask(struct g *); /* to give way; a request to stop stays */
enum suspended { SUSPEND_GONE, SUSPEND_HELD, SUSPEND_STOPPED, SUSPEND_SYSCALL, SUSPEND_NOT };
/*
 * The stack of the goroutine holds still: its scan bit is ours (HELD), and it was made to stop for
 * us (STOPPED). SYSCALL: from the frame on that its worker's m names. GONE: it has ended. NOT: it did
 * not come to a point where it can stop until then. Whatever it says, resumeG follows, which says
 * whether it has held still all the time. Waits; not for goroutines.
 */
enum suspended suspendG(struct g *, uint64_t gid, int64_t until);
bool resumeG(struct g *, enum suspended);
void unpreempt(struct g *);
void suspend_withdraw(struct g *);
void repair_suspend(struct g *); /* medic */

#endif
