/*
 * output.h - keeps what tasks write, for `run` and `logs`.
 */
#ifndef SUPERVISOR_DAEMON_TASK_OUTPUT_H
#define SUPERVISOR_DAEMON_TASK_OUTPUT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct job;

int sh_output_open(struct job *);
void sh_output_begin(struct job *);	  /* the task was accepted: sets the first limits */
void sh_output_grant_asked(struct job *); /* grants more room if a writer has asked for it */
void sh_output_keep(struct job *);	  /* the task has ended */
void sh_output_drop(struct job *);	  /* the job is being freed */
void sh_output_adopt(struct job *);	  /* takes over a live task of the predecessor */
void sh_output_tick(void);		  /* called regularly by the loop */
uint64_t sh_output_dropped(const struct job *, int stream);
uint64_t sh_output_moved(const struct job *, int stream); /* bytes before this are in a file or dropped */
uint64_t sh_output_size(const struct job *, int stream);
/* Opens stdout (0) or stderr (1) of the task for reading only. Returns -1 on failure. */
int sh_output_reader(const struct job *, int stream);
int sh_file_reader(int fd);
/*
 * Adds "moved" (how much is in files) to a reply, appends descriptors of the files to fds, which already has two,
 * and returns the number of descriptors.
 */
int sh_output_files(const struct job *, json_t *reply, int fds[4]);

/*
 * The reader with this connection has read all bytes before at[]. While it is attached, later bytes are not
 * dropped, and the task is held back when it is too far ahead. The first call attaches the reader and raises at[]
 * to the first byte that was not dropped.
 */
void sh_output_read(struct job *, const void *conn, uint64_t at[2]);
void sh_output_read_briefly(struct job *, const void *conn); /* the same for a short time, for a `logs` without -f */
void sh_output_detach(const void *conn);
void sh_output_forget_adopted(void); /* detaches the predecessor's readers that have not reconnected */

#endif
