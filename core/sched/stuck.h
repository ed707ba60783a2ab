/*
 * stuck.h - workers that cannot go on: the medic's.
 */
#ifndef CORE_SCHED_STUCK_H
#define CORE_SCHED_STUCK_H

#include <stdbool.h>
#include <stdint.h>

enum stuck_why { STUCK_NOT, STUCK_STOPPED, STUCK_HANGS };
extern int64_t stuck_call_ns;
bool stuck_scan(int64_t now);
void stuck_check_waited(int seat); /* it waits for what that worker has */

#endif
