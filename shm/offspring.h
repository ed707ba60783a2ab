/*
 * offspring.h - the programs that tasks start, and the programs that those start: which task they belong to.
 */
#ifndef SHM_OFFSPRING_H
#define SHM_OFFSPRING_H

#include <stdbool.h>
#include <stdint.h>

#define SH_OFFSPRING_ALL 0 /* of all tasks of this runtime */

/* Processes that this one makes from here on belong to the task, until sh_offspring_unmark, which takes the result. */
uint64_t sh_offspring_mark(uint64_t task);
void sh_offspring_unmark(uint64_t old);
/*
 * Sends a signal to the programs of a task, or of all tasks, but not to those that have detached themselves.
 * How many were still alive. Allocates nothing.
 */
unsigned sh_offspring_kill(uint64_t task, int sig);

/*
 * No supervisor will ever come: ends the workers, then what their tasks have started, and then the caller, which is
 * the medic or, if there is none, the zygote.
 */
_Noreturn void sh_offspring_end_runtime(void);

#endif
