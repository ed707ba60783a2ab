/*
 * proc.h - a supervisor of its own for each test, used through the command line as a person would.
 */
#ifndef TESTS_PROC_PROC_H
#define TESTS_PROC_PROC_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern char dir[64];	    /* the test's folder: its socket is in it */
extern char text[1u << 20]; /* what the last command printed */

/* Runs a shell command; what it prints is in text. Returns its exit code. */
int sh(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void start(void); /* two Ps */
void stop(void);  /* after an audit */

/* Workers that are there and have what they need. More come when system calls last. */
int count_workers(void);
#define FDS_OF_A_WORKER 5 /* its loop's, and its seat's, in the table that all of them share */

#define PROC_TEST(name, ...) Test(proc, name, .init = start, .fini = stop, .timeout = 60, ##__VA_ARGS__)

#endif
