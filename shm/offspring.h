/*
 * offspring.h - finds the programs that a task has started, and the programs that those have started.
 */
#ifndef SHM_OFFSPRING_H
#define SHM_OFFSPRING_H

#include <stdbool.h>
#include <stdint.h>

#define SH_OFFSPRING_ALL 0 /* of all tasks of this runtime */

/*
 * Processes that the caller makes from here on belong to the task, until the caller passes the result to
 * sh_offspring_unmark.
 */
uint64_t sh_offspring_mark(uint64_t task);
void sh_offspring_unmark(uint64_t old);
/* The task to which the process belongs, also as a zombie. 0: to none of this runtime. Async-signal-safe. */
uint64_t sh_offspring_task(int32_t pid);
/*
 * Sends a signal to the programs of a task, or of all tasks, but not to programs that have detached themselves.
 * Returns how many were still alive. Allocates nothing.
 */
unsigned sh_offspring_kill(uint64_t task, int sig);

/*
 * Called by the medic (or the zygote, if there is no medic) when no supervisor will ever come: ends the workers,
 * then the programs that tasks have started, and then the caller.
 */
_Noreturn void sh_offspring_end_runtime(void);

#endif
