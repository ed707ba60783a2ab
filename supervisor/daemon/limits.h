/*
 * limits.h - how many processors and how much memory control groups let us have.
 */
#ifndef SUPERVISOR_DAEMON_LIMITS_H
#define SUPERVISOR_DAEMON_LIMITS_H

/*
 * What is set for our group and those it is in; -1: nothing. root: the folder in which proc and sys are
 * looked for, "" but in tests. Processors are a quota by its period, rounded up.
 */
long sh_limit_cpus(const char *root);
long sh_limit_memory(const char *root);

/* Go's rule: a limit counts from 2 on, and never for more than there are. */
unsigned sh_cpus_within(unsigned cpus, long limit);

#endif
