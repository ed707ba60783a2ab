/* checkdead.h - finds tasks in which all goroutines are asleep for good. See checkdead.c. */
#ifndef CORE_TASK_CHECKDEAD_H
#define CORE_TASK_CHECKDEAD_H

#include <stdbool.h>

struct task;

/* medic: true if all goroutines of a running task sleep for good */
bool checkdead(struct task *);

#endif
