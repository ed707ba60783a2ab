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
void runtime_map(void); /* maps its segment at SH_BASE; called again after its supervisor was replaced */

/* Runs a shell command; its output is in text. Returns its exit code. */
extern char text[1u << 20];
int sh(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
long figure(const char *verb, const char *key);				 /* a number out of the JSON of a verb */
long submit(const char *fmt, ...) __attribute__((format(printf, 1, 2))); /* the task's id */

/*
 * Sends one request line over a connection and returns the answer, without a process. NULL: the connection is
 * broken. fds: the descriptors that came with it, or -1.
 */
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

/* Prints times with their figure (0: none). hard: the program fails beyond this multiple of it. */
void row_times(const char *id, const char *what, struct samples *, double p50_ns, double p99_ns, double hard);
/*
 * Prints one number; it should be at most (with a minus: at least) the figure. exact: beyond it the program fails.
 */
void row_number(const char *id, const char *what, double is, double most, const char *unit, bool exact);
void row_least(const char *id, const char *what, double is, double least, const char *unit, double hard);
/* Kills a worker that lives, the next one after seat n; its seat, or n. */
unsigned kill_next(unsigned n);
/* Counts memory, descriptors, processes and goroutines; a later call prints rows of what was added since. */
void left_begin(void);
void left_rows(const char *id, const char *after);
void failed(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void note(const char *fmt, ...) __attribute__((format(printf, 1, 2))); /* on stderr: progress */

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
