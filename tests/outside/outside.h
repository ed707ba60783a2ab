/*
 * outside.h - access to a running supervisor by shell commands, its socket and its segment. For programs that start
 * one.
 */
#ifndef TESTS_OUTSIDE_OUTSIDE_H
#define TESTS_OUTSIDE_OUTSIDE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

/* Runs a shell command and stores its output, with a final 0, in text. Returns its exit code, 128 + signal, or -1. */
int outside_sh(char *text, size_t room, const char *fmt, va_list);
/* The number with this key in the object that a verb has printed with --json; otherwise if there is none. */
long outside_number(const char *text, const char *key, long otherwise);
int outside_connect(const char *socket_path); /* -1: no process accepts connections */
bool outside_map(long pid);		      /* maps the segment of the supervisor pid at SH_BASE */

#endif
