/*
 * log.h - what supervisor, zygote and medic all use: one line to the log, and what SHOAL_DEBUG says.
 */
#ifndef SUPERVISOR_DAEMON_LOG_H
#define SUPERVISOR_DAEMON_LOG_H

/* Writes "time pid text\n" to descriptor 2 with one write. Allocates nothing; keeps errno. */
void sh_log(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* The number behind a key such as "hung=" in SHOAL_DEBUG; none if the key is not there. */
long sh_debug_number(const char *key, long none);

#endif
