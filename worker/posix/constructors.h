/* constructors.h - constructors and destructors of a module and of its libraries. */
#ifndef WORKER_POSIX_CONSTRUCTORS_H
#define WORKER_POSIX_CONSTRUCTORS_H

struct task;

void constructors_undo(struct task *); /* on a goroutine of the task: calls the destructors */

#endif
