/* stuck.h - workers that are alive and cannot go on: killed by the medic. See stuck.c. */
#ifndef CORE_SCHED_STUCK_H
#define CORE_SCHED_STUCK_H

#include <stdbool.h>
#include <stdint.h>

enum stuck_why { STUCK_NOT, STUCK_STOPPED, STUCK_HANGS };
extern int64_t stuck_call_ns;
bool stuck_scan(int64_t now);
void stuck_check_waited(int seat); /* the medic waits for something that this worker holds */

#endif
