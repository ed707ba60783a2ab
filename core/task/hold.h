/* hold.h - the restart delay of a task whose goroutines crash: hold.c. */
#ifndef CORE_TASK_HOLD_H
#define CORE_TASK_HOLD_H

#include "core/task/task.h"

/* Medic: a goroutine of the task has crashed, and the task goes on. */
void sh_task_crashed(struct task *);
/* On a goroutine, before its first instruction: waits for the end of the delay. Parks. */
void sh_task_wait_held(struct g *);

#endif
