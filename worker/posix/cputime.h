/*
 * cputime.h - processor time that a task has had: cputime.c.
 */
#ifndef WORKER_POSIX_CPUTIME_H
#define WORKER_POSIX_CPUTIME_H

#include <stdbool.h>
#include <stdint.h>

struct task;

int64_t cputime_of(struct task *); /* ns since some time; it goes on only while somebody watches */
void cputime_watch(struct task *, bool on);

#endif
