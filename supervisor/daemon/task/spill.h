/*
 * spill.h - copies output of tasks to files (--output-dir).
 */
#ifndef SUPERVISOR_DAEMON_TASK_SPILL_H
#define SUPERVISOR_DAEMON_TASK_SPILL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Makes the folder if it is missing, and locks it. fresh: removes files of an earlier runtime. Returns 0, or -1
 * with a message in error.
 */
int sh_spill_start(const char *dir, bool fresh, char *error, size_t n);
bool sh_spill_on(void);

/* Called when the bytes [from, to) of a stream were copied to its file. err is 0, or -errno if the copy failed. */
typedef void spill_done(uint64_t task, int stream, uint64_t from, uint64_t to, int err);
/*
 * Copies the bytes from fd in a thread and then calls done in the loop. Returns false if too many copies are
 * running.
 */
bool sh_spill_copy(uint64_t task, int stream, int fd, uint64_t from, uint64_t to, spill_done *done);
int sh_spill_reader(uint64_t task, int stream); /* opens the file for reading; -1: failed */
void sh_spill_remove(uint64_t task, int stream);
void sh_spill_stop(void); /* removes all files */

#endif
