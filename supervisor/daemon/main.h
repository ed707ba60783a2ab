/*
 * main.h - options, loop and end of the supervisor.
 *
 * The supervisor has one thread and one libuv loop, and never waits: the answers of zygote, medic, compiler and
 * clients arrive as callbacks. It checks everything that it reads in the segment: each index and pointer is
 * compared with its bounds before use. It takes no lock that a worker can hold.
 */
#ifndef SUPERVISOR_DAEMON_MAIN_H
#define SUPERVISOR_DAEMON_MAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct options {
	const char *socket;
	unsigned procs, spare;
	size_t memory;
	const char *output_dir; /* folder for output beyond output_memory; NULL: such output is dropped */
	size_t output_memory;	/* budget of kept output */
	int ready_fd;		/* descriptor for the message that the supervisor is ready; -1: none */
	bool one_shot;		/* the supervisor ends with its last connection */
	bool procs_custom;	/* the number of Ps was given as an option, not derived from the machine */
};

extern struct options sh_options;
extern uv_loop_t *sh_loop;
extern uint64_t sh_start_ns;

enum { STOP_NO, STOP_DRAIN, STOP_NOW, STOP_GONE };
extern int sh_stopping;
/* Logs the message and exits. Only before the supervisor takes tasks. */
_Noreturn void sh_fail(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void sh_stop(bool now);
void sh_stop_if_done(void);  /* called when something ended: exits if a stop was asked for and no task is left */
void sh_check_segment(void); /* called when the medic has written: checks seats, tasks, audit and crashes */

#endif
