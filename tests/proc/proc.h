/*
 * proc.h - a supervisor of its own for each test, used through the command line as a person would.
 *
 * A test never waits for a time: it waits until something is so (WAIT_FOR, until), as long as that takes
 * on a machine with other work. What a verb prints with --json is read with jansson (see, number_in, count_in).
 */
#ifndef TESTS_PROC_PROC_H
#define TESTS_PROC_PROC_H

#include <criterion/criterion.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern char dir[64];	    /* the test's folder: its socket is in it */
extern char text[1u << 20]; /* the output of the last command */

/* Runs a shell command; its output is in text. Returns its exit code. */
int sh(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void make_dir(void); /* dir, and SHOAL_SOCKET in it, without a supervisor */
void start(void);    /* a supervisor with two Ps */
void start_options(const char *options);
void start_nodelay(void); /* which replaces a worker at once, however many have died */
void stop(void);	  /* after an audit */

/* ---- waiting ---- */

#define WAIT_S 40 /* a condition that does not come true in this time never does */
double now_ms(void);
/* Repeats the shell command until its exit code is 0; the last output is in text. */
void until(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/*
 * Lets time pass that is part of the test: an outage, the pace of a client, an interval in which something is
 * measured. Never to wait for an event.
 */
void pass_ms(unsigned ms);
/* Evaluates the condition until it is true. */
#define WAIT_FOR(...) \
	do { \
		double until_ = now_ms() + WAIT_S * 1e3; \
		while (!(__VA_ARGS__)) { \
			cr_assert(now_ms() < until_, "waited %d s in vain for: %s; %.2000s", WAIT_S, #__VA_ARGS__, \
				  text); \
			usleep(5000); \
		} \
	} while (0)

/* ---- the output of verbs with --json ---- */

/* The whole object, kept until the next call; NULL: the verb failed. */
json_t *see(const char *verb, ...) __attribute__((format(printf, 1, 2)));
/* A number at the top level, -1: there is none. */
long number_in(const char *verb, const char *key);
/* The sum of this number over all members of the list. */
long sum_in(const char *verb, const char *list, const char *key);
/* Parses text, which must be JSON; the object is kept until the next call of this or of see. */
json_t *parse_text(void);
bool is_true(json_t *, const char *key);
bool is_text(json_t *, const char *key, const char *want); /* the member is this string */
/* Members of the list whose key has this value (NULL: any). */
unsigned count_in(const char *verb, const char *list, const char *key, const char *value);
/* the pid of supervisor ("pid"), medic, zygote, standby or keeper; 0: none at the moment */
int pid_of(const char *whom);
unsigned worker_pids(int *pid, unsigned most); /* of those that run */
bool kill_worker(unsigned which);	       /* the which-th of them, modulo their number */
bool gone(int pid);			       /* the process does not exist, or is a zombie */
/* So many goroutines have this status, or wait for this reason, in all tasks together. */
unsigned with_status(const char *status);
unsigned waiting_for(const char *reason);
bool all_parked(long goroutines); /* there are this many, and all Ps are idle */

/* The number of workers that have started. More are started while system calls last. */
int count_workers(void);
#define FDS_OF_A_WORKER 5 /* its loop's, and its seat's, in the table that all of them share */

/*
 * Starts `shoal trace` for this many seconds into a file of dir, and returns when it records. Its exit code is
 * written to NAME.code.
 */
void trace_start(double seconds, const char *name);
unsigned recorders(void); /* processes that record for the supervisor */

/* ---- a thread that kills workers until it is stopped ---- */

/* pauses between two kills, and the most kills */
void killer_start(unsigned least_ms, unsigned most_ms, unsigned most);
unsigned killer_kills(void); /* so far */
unsigned killer_stop(void);  /* how many were killed in all */

#define TEST_S 300 /* against hangs; the runner has a guard of its own */
#define PROC_TEST(name, ...) Test(proc, name, .init = start, .fini = stop, .timeout = TEST_S, ##__VA_ARGS__)

#endif
