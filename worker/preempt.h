/*
 * preempt.h - the preemption signal: preempt.c.
 */
#ifndef WORKER_PREEMPT_H
#define WORKER_PREEMPT_H

#include <signal.h>

void preempt_start(void); /* once in each worker: how large the registers are that a preemption saves */
void preempt_signal(int sig, siginfo_t *, void *ucontext);

#endif
