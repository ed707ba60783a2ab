/* sysmon.h - supervision of the workers that have Ps. See sysmon.c. */
#ifndef CORE_SCHED_SYSMON_H
#define CORE_SCHED_SYSMON_H

#include <stdbool.h>
#include <stdint.h>

struct p;

int64_t sysmon(int64_t now); /* medic: one round; returns ns until the next one, 0: not before it is rung */
bool others_wait(struct p *, int64_t now); /* true if the P has work that its M does not do right now */

#endif
