/*
 * output.h - what tasks wrote, kept for run and logs.
 */
#ifndef SUPERVISOR_DAEMON_TASK_OUTPUT_H
#define SUPERVISOR_DAEMON_TASK_OUTPUT_H

#include <stdbool.h>

struct job;

int sh_output_open(struct job *);
void sh_output_keep(struct job *); /* the task has ended */
void sh_output_drop(struct job *);
int sh_output_reader(int fd, bool empty); /* a descriptor that only reads; -1 */
void sh_output_trim(void);		  /* called now and then */

#endif
