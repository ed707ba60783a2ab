/*
 * view.h - what this process has mapped of its current task's address space: view.c.
 */
#ifndef WORKER_VIEW_H
#define WORKER_VIEW_H

#include "core/task/maps.h"

#include <signal.h>

struct g;

/* The worker turns to this task: its process has the task's mappings from now on, and nobody else's. */
void sh_view_turn_to(struct task *);
/* Applies what has changed. True: something had, and a system call that gave EFAULT is worth another try. */
bool sh_view_refresh(void);
/* In the crash handler: the fault was at a mapping of the task that this process had not mapped yet, and has now. */
bool sh_view_fault(const siginfo_t *, const void *ucontext);
/* In the handler of the preemption signal, on the worker's thread: the task has written code there, and runs it. */
bool sh_view_runs(uintptr_t pc);
/* In the handler of the preemption signal. */
void sh_view_signal(void);
/*
 * A change of the table begins: task->lock and the space's lock are taken, and no signal handler works on the view.
 * sh_view_end applies the change here. Returns the space, or NULL and ENOMEM.
 */
struct map_space *sh_view_begin(struct g *);
void sh_view_end(struct map_space *);
/* Waits until every worker that runs a goroutine of the task has applied all changes so far. Parks. */
void sh_view_wait(struct map_space *);

#endif
