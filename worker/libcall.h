/*
 * libcall.h - preemption of a goroutine that computes outside the code of its task: libcall.c.
 */
#ifndef WORKER_LIBCALL_H
#define WORKER_LIBCALL_H

#include "core/g/g.h"

#include <signal.h>
#include <stdbool.h>

void libcall_start(void); /* once in each worker, before the first preemption signal */

/*
 * In the handler of the preemption signal, which interrupted g outside the text of its task. The goroutine gives way
 * when it returns to that text. If it computes in the C library, its P is handed on at once. Async-signal-safe.
 */
void libcall_preempt(struct g *g, void *ucontext);

/* In the handler of SIGSEGV. True: the fault was the return to the text of the task, and the program can go on. */
bool libcall_returned(const siginfo_t *, void *ucontext);

/* In the handler of a fault: ends the walk over the goroutine's frames that libcall_preempt is about, if it is about one. */
void libcall_end_walk(void);

#endif
