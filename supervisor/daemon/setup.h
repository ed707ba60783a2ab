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
int sh_setup_log(void); /* opens the log file next to the socket as descriptors 1 and 2 */
unsigned sh_setup_cpus(void);
size_t sh_setup_memory(void);
size_t sh_setup_output_memory(void);
const char *sh_default_socket(void);

#endif
