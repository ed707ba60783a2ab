/*
 * faults.h - the figures of what happens when somebody is killed, stopped or hangs.
 *
 * Each part starts a supervisor of its own, does harm, and prints rows: what was measured, what it
 * should be, ok or MISSED. A row that is far beyond its figure, or a count that must be exact and is
 * not, makes the program fail: figures vary with the machine, promises do not.
 */
#ifndef TESTS_FAULTS_FAULTS_H
#define TESTS_FAULTS_FAULTS_H

#include "tests/faults/faults.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

extern bool quick;	/* a few seconds, as in `make test` */
extern unsigned effort; /* FAULTS_LONG: times as many of everything */
extern char dir[64];	/* of the part: its socket is in it */

/* ---- a runtime of its own ---- */

void runtime_start(const char *debug, const char *options); /* SHOAL_DEBUG, and options of shoal start */
void runtime_stop(void);				    /* after an audit */
void runtime_map(void); /* its segment is at SH_BASE from here on; once more after its supervisor was replaced */

/* A shell command; what it prints is in text. Returns its exit code. */
extern char text[1u << 20];
int sh(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
long figure(const char *verb, const char *key);				 /* a number out of the JSON of a verb */
long submit(const char *fmt, ...) __attribute__((format(printf, 1, 2))); /* the task's id */

/* The same without a process for each: a connection, and a line there and one back. NULL: it is broken. fds: -1, or what came along. */
int ask_open(void);
json_t *ask(int s, int fds[2], const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* ---- time ---- */

int64_t now_ns(void);
void nap_us(unsigned us); /* as exact as a sleep can be */
void measuring(bool yes);
bool wait_for(bool (*done)(void *), void *arg, double seconds);

/* ---- rows ---- */

struct samples {
	unsigned n, room;
	double *ns;
};
void sample(struct samples *, double ns);
double percentile(struct samples *, double p); /* sorts */

/* Times, with what they should be at most: 0 for no such figure. hard: fails beyond so many times that. */
void row_times(const char *id, const char *what, struct samples *, double p50_ns, double p99_ns, double hard);
/* One number, at most (or, with a minus, at least) what it should be. exact: beyond it, the program fails. */
void row_number(const char *id, const char *what, double is, double most, const char *unit, bool exact);
void row_least(const char *id, const char *what, double is, double least, const char *unit, double hard);
/* Kills a worker that lives, the next one after seat n; its seat, or n. */
unsigned kill_next(unsigned n);
/* What there is of memory, descriptors, processes, goroutines; and rows of how much more there is now. */
void left_begin(void);
void left_rows(const char *id, const char *after);
void failed(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void note(const char *fmt, ...) __attribute__((format(printf, 1, 2))); /* on stderr, for who watches */

/* ---- the parts ---- */

void part_crash(void);								 /* T3 */
void part_kill(void);								 /* T4, T5 */
void floor_of_deaths(unsigned n, struct samples *taken, struct samples *served); /* the same without a runtime */
void part_stop(void);								 /* T12 */
void part_repair(void);								 /* T7 */
void part_books(void);								 /* T1, T8 */
void part_pids(void);								 /* process numbers come again */
void part_few_pids(void);   /* the same from inside; only when asked for */
void part_ends(void);	    /* all the ways in which a task ends */
void part_module(void);	    /* T11 */
void part_policy(void);	    /* the delays before a restart */
void part_supervisor(void); /* T6 */

#endif
