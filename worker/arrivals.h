/*
 * arrivals.h - signals that come to a worker from outside of the runtime: arrivals.c.
 */
#ifndef WORKER_ARRIVALS_H
#define WORKER_ARRIVALS_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

struct g;

void arrivals_start(void);
bool arrivals_wait(void);    /* some have not been passed on */
void arrivals_pass_on(void); /* to the tasks that they are for. On g0 or on a goroutine, holding no lock */
void arrivals_child(void);   /* in the handler of SIGCHLD: children of tasks have ended */
/* posix/spawn.c: the task that last started a process with this number; 0: none. And SIGCHLD to the tasks whose children have ended. */
uint64_t children_task_of(int32_t pid);
uint64_t children_only_task(void); /* the one task that has living children of this worker; 0: none, or several */
void children_tell(void);

#endif
