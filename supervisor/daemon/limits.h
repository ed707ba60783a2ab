/*
 * limits.h - the numbers of processors and bytes that control groups allow.
 */
#ifndef SUPERVISOR_DAEMON_LIMITS_H
#define SUPERVISOR_DAEMON_LIMITS_H

/*
 * Return the limit that is set for the group of this process or one of its parents, or -1. root: the folder that
 * contains proc and sys, "" except in tests. The number of processors is the quota divided by the period, rounded
 * up.
 */
long sh_limit_cpus(const char *root);
long sh_limit_memory(const char *root);

/* As in Go, a limit is at least 2, and at most the number of processors. */
unsigned sh_cpus_within(unsigned cpus, long limit);

#endif
