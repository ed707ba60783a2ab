/*
 * signame.h - names of signals.
 */
#ifndef SHM_SIGNAME_H
#define SHM_SIGNAME_H

/* "SIGSEGV", "SIGRTMIN+3", "signal 33", or "?" if there is no such number. The text is static. */
const char *sh_signal_name(int sig);

#endif
