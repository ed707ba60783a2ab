/* procs.h - changing the number of Ps. See procs.c. */
#ifndef CORE_SCHED_PROCS_H
#define CORE_SCHED_PROCS_H

#include "core/sched/m.h"

#include <stdbool.h>
#include <stdint.h>

#define PROCS_MAX (WORKERS_MAX - 2)
#define PROCS_COMMAND UINT64_MAX
#define PROCS_OVER UINT32_MAX
bool procs_step(int64_t now); /* medic: makes one step of a pending request. True: call again soon */

#endif
