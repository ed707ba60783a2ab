/*
 * checkdead.h - tasks in which all goroutines are asleep for good.
 */
#ifndef CORE_TASK_CHECKDEAD_H
#define CORE_TASK_CHECKDEAD_H

#include <stdbool.h>

struct task;

/* All goroutines of a running task sleep for good. By the medic. */
bool checkdead(struct task *);

#endif
