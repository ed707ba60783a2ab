/*
 * procstat.h - reads the state of a process from /proc/PID/stat.
 */
#ifndef SHM_PROCSTAT_H
#define SHM_PROCSTAT_H

#include <stdbool.h>
#include <stdint.h>

struct sh_procstat {
	char state; /* R running, S sleeping, D in a wait that cannot be interrupted, T stopped, t traced, Z zombie, X dead */
	int32_t parent;
	uint64_t flags; /* PF_* of the kernel */
};
#define SH_PROCSTAT_EXITING 4u /* PF_EXITING: the process is being torn down */

/* Calls the kernel directly and allocates nothing. Returns false if there is no such process, or no /proc. */
bool sh_procstat_read(int32_t pid, struct sh_procstat *);

#endif
