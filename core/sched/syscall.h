/* syscall.h - goroutines in system calls. See syscall.c. */
#ifndef CORE_SCHED_SYSCALL_H
#define CORE_SCHED_SYSCALL_H

#include "core/root.h"

#include <stdbool.h>
#include <stdint.h>

struct g;

void entersyscall(void); /* on a G: until exitsyscall it may call nothing of the runtime, not even malloc */
bool syscall_backoff_wait(bool (*at_once_if)(void *), void *call);
/*
 * Before a call that may block. Parks while too few workers would be left for others. at_once_if belongs to
 * a call that waits for another goroutine or process: it makes the call if that need not wait.
 * True: at_once_if has made the call.
 */
static inline bool syscall_backoff(bool (*at_once_if)(void *), void *call)
{
	return __builtin_expect(atomic_load_explicit(&sched.crowded, memory_order_relaxed), 0) &&
	       syscall_backoff_wait(at_once_if, call);
}
void entersyscallblock(void); /* for a call that is known to block: releases the P first */
/* In the handler of the preemption signal, on behalf of the G that it interrupted: it computes on without its P. */
void entersyscall_computing(uintptr_t pc, uintptr_t sp);
void exitsyscall_computing(void); /* it is back where it can be switched out. Parks if no P is free */
void exitsyscall(void);		  /* Parks if no P is free. The caller keeps errno */
bool in_syscall(struct m *);
bool retake(struct p *);	/* medic: takes the P of a worker in a system call and finds another worker for it */
void retake_repair(struct g *); /* medic: the medic before it died in retake */
bool syscall_hold(struct g *, uint64_t s); /* takes the scan bit of a G in a system call, whose status was s */
bool syscall_release(struct g *);	   /* gives the scan bit back; false: the worker died meanwhile */
void repair_hold(struct g *);		   /* medic: the holder of that scan bit is dead */

#endif
