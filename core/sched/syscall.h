/*
 * syscall.h - goroutines in system calls.
 */
#ifndef CORE_SCHED_SYSCALL_H
#define CORE_SCHED_SYSCALL_H

#include "core/root.h"

#include <stdbool.h>
#include <stdint.h>

struct g;

void entersyscall(void); /* on a G: nothing of the runtime until exitsyscall, not even malloc */
bool syscall_backoff_wait(bool (*at_once_if)(void *), void *call);
/*
 * Parks. Before a call that may block: waits while too few workers would be left. at_once_if: of a call that
 * waits for others, for as long as it takes; makes it if it need not wait. True: that is what was done.
 */
static inline bool syscall_backoff(bool (*at_once_if)(void *), void *call)
{
	return __builtin_expect(atomic_load_explicit(&sched.crowded, memory_order_relaxed), 0) &&
	       syscall_backoff_wait(at_once_if, call);
}
void entersyscallblock(void); /* known to block: the P is handed on at once */
void exitsyscall(void);	      /* Parks if no P is to be had. errno is the caller's to keep */
bool in_syscall(struct m *);
bool retake(struct p *);		   /* medic: takes the P of a worker in a system call and hands it on */
void retake_repair(struct g *);		   /* medic: its predecessor died in retake */
bool syscall_hold(struct g *, uint64_t s); /* the scan bit of one in a system call, whose status was s */
bool syscall_release(struct g *);	   /* false: its worker has died meanwhile */
void repair_hold(struct g *);		   /* medic: who held it has died */

#endif
