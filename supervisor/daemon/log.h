/*
 * log.h - writes the log and reads SHOAL_DEBUG, for supervisor, zygote and medic.
 */
#ifndef SUPERVISOR_DAEMON_LOG_H
#define SUPERVISOR_DAEMON_LOG_H

/* Writes "time pid text\n" to descriptor 2 with one write. Allocates nothing; keeps errno. */
void sh_log(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Returns the number behind a key such as "hung=" in SHOAL_DEBUG, or none if the key is missing. */
long sh_debug_number(const char *key, long none);

#endif
