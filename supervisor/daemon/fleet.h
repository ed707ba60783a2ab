/*
 * fleet.h - the processes of the runtime: clones, restarts, deaths.
 */
#ifndef SUPERVISOR_DAEMON_FLEET_H
#define SUPERVISOR_DAEMON_FLEET_H

#include <stdbool.h>
#include <sys/types.h>

struct asker;

#define STATUS_UNKNOWN (-1) /* neither WIFEXITED nor WIFSIGNALED: the process is not our child */
typedef void child_done(void *arg, int status);
void sh_fleet_start(pid_t zygote, unsigned workers);
void sh_fleet_adopt(unsigned workers); /* the processes exist already, and none is a child of this process */
void sh_fleet_zygote(pid_t);	       /* a standby has taken over as the zygote */
void sh_fleet_look(void);
void sh_fleet_tick(void);
/* Replaces one worker, or all if only is 0. Answers the asker when done; without an asker it calls sh_sweep_renewed. */
void sh_fleet_renew(struct asker *, unsigned only);
void sh_fleet_reap(void);			     /* after SIGCHLD */
void sh_fleet_watch(pid_t, child_done *, void *arg); /* calls back when that child ends */
void sh_fleet_kill(void);			     /* kills all processes and waits for them */
pid_t sh_fleet_pid(unsigned seat);
unsigned sh_fleet_seats(void); /* seats 1..n are in use */

#endif
