/*
 * fence.h - workers that cannot go on: the medic's.
 */
#ifndef CORE_SCHED_FENCE_H
#define CORE_SCHED_FENCE_H

#include <stdbool.h>
#include <stdint.h>

enum fence_why { FENCE_NOT, FENCE_STOPPED, FENCE_HANGS };
extern int64_t fence_call_ns;
bool fence_look(int64_t now);
void fence_waits(int seat); /* it waits for what that worker has */

#endif
