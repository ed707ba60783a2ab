/*
 * output.h - what tasks wrote, kept for run and logs.
 */
#ifndef SUPERVISOR_DAEMON_TASK_OUTPUT_H
#define SUPERVISOR_DAEMON_TASK_OUTPUT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct job;

int sh_output_open(struct job *);
void sh_output_begin(struct job *); /* accepted: its record says how far it may write */
void sh_output_look(struct job *);  /* a writer may have asked for room */
void sh_output_keep(struct job *);  /* the task has ended */
void sh_output_drop(struct job *);  /* the job is being freed */
void sh_output_adopt(struct job *); /* a live task of a predecessor */
void sh_output_tick(void);	    /* called now and then */
uint64_t sh_output_dropped(const struct job *, int stream);
uint64_t sh_output_moved(const struct job *, int stream); /* up to here it is in a file, or dropped */
uint64_t sh_output_size(const struct job *, int stream);
/* A descriptor of stdout (0) or stderr (1) that only reads; -1. */
int sh_output_reader(const struct job *, int stream);
int sh_file_reader(int fd);
/* Adds to a reply how much is in files ("moved"), and to two descriptors those of the files. How many there are then. */
int sh_output_files(const struct job *, json_t *reply, int fds[4]);

/*
 * A reader, known by its connection, has read all bytes before at[]. None behind that is dropped, and the task
 * is held back when it is too far ahead, until the connection ends. The first call attaches the reader, and
 * then at[] comes back as where it has to begin, because what is before that was dropped.
 */
void sh_output_read(struct job *, const void *conn, uint64_t at[2]);
void sh_output_glance(struct job *, const void *conn); /* the same for a moment, for a `logs` without -f */
void sh_output_detach(const void *conn);
void sh_output_patience_over(void); /* adopted readers that have not come back by now are gone */

#endif
