/*
 * calls.h - the system calls that the runtime cannot do without.
 */
#ifndef SUPERVISOR_DAEMON_CALLS_H
#define SUPERVISOR_DAEMON_CALLS_H

/* Ends the process with exit code 1 and one line that names the call, if the kernel or a filter does not permit one. */
void sh_calls_check(void);

#endif
