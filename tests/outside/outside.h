/*
 * outside.h - a running supervisor, from outside: by the shell, by its socket, by its segment. For programs that
 * start one and look.
 */
#ifndef TESTS_OUTSIDE_OUTSIDE_H
#define TESTS_OUTSIDE_OUTSIDE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

/* A shell command; what it prints is in text, with a 0 behind it. Its exit code, 128 + signal, or -1. */
int outside_sh(char *text, size_t room, const char *fmt, va_list);
/* A number in the text that a verb has printed with --json; otherwise if the key is not there. */
long outside_number(const char *text, const char *key, long otherwise);
int outside_connect(const char *socket_path); /* -1: nobody takes connections */
bool outside_map(long pid);		      /* the segment of the supervisor pid is at SH_BASE from here on */

#endif
