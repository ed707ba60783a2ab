/*
 * spill.h - output of tasks in files: --output-dir.
 */
#ifndef SUPERVISOR_DAEMON_TASK_SPILL_H
#define SUPERVISOR_DAEMON_TASK_SPILL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Makes the folder if it is missing and locks it. fresh: removes files of a runtime that has ended. 0; -1: error says why. */
int sh_spill_start(const char *dir, bool fresh, char *error, size_t n);
bool sh_spill_on(void);

/* The bytes [from, to) of a stream are in its file; err: they are not, 0 or -errno. */
typedef void spill_done(uint64_t task, int stream, uint64_t from, uint64_t to, int err);
/* Copies them from fd in a thread; done is called in the loop. false: not now, too much is under way. */
bool sh_spill_copy(uint64_t task, int stream, int fd, uint64_t from, uint64_t to, spill_done *done);
int sh_spill_reader(uint64_t task, int stream); /* a descriptor of the file that only reads; -1 */
void sh_spill_remove(uint64_t task, int stream);
void sh_spill_stop(void); /* removes all files */

#endif
