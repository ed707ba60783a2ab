/*
 * setup.h - socket, lock file, log file, limits of the machine.
 */
#ifndef SUPERVISOR_DAEMON_SETUP_H
#define SUPERVISOR_DAEMON_SETUP_H

#include <stdbool.h>
#include <stddef.h>

/* Makes lock file, folder and socket. Returns the socket, or -1 with the reason in error. */
int sh_setup_socket(char *error, size_t n);
void sh_setup_remove_socket(void);
/* Opens the log file next to the socket as descriptors 1 and 2. Returns 0, or -1 with the reason in error. */
int sh_setup_log(char *error, size_t n);
/* Opens the log file again, because its name may stand for another file. False if the log is not a file of ours. */
bool sh_setup_reopen_log(void);
unsigned sh_setup_cpus(void);
size_t sh_setup_memory(void);
size_t sh_setup_output_memory(void);
const char *sh_default_socket(void);

#endif
