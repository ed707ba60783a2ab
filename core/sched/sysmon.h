/*
 * sysmon.h - who looks after those who have the Ps.
 */
#ifndef CORE_SCHED_SYSMON_H
#define CORE_SCHED_SYSMON_H

#include <stdbool.h>
#include <stdint.h>

struct p;

int64_t sysmon(int64_t now);		   /* medic: one look; ns to the next, 0: when rung */
bool others_wait(struct p *, int64_t now); /* there is work for the P that its M does not do right now */

#endif
