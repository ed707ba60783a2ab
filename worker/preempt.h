/*
 * preempt.h - the preemption signal: preempt.c.
 */
#ifndef WORKER_PREEMPT_H
#define WORKER_PREEMPT_H

#include "core/g/g.h"

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

void preempt_start(void); /* once in each worker: how large the registers are that a preemption saves */
void preempt_signal(int sig, siginfo_t *, void *ucontext);

/* In a handler: the interrupted code calls sh_preempted, which parks. False: the stack has no room for that. */
bool preempt_here(const struct g *, void *ucontext);
bool preempt_has_room(const struct g *, uintptr_t sp); /* and a page for what is called until then */

#endif
