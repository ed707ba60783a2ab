/*
 * main.h - options, loop and the way to the end of the supervisor.
 *
 * The supervisor has one thread and one libuv loop. Nothing in it waits: a question to the zygote, the
 * medic, a compiler or a client is answered by a callback. It believes nothing that it reads in the
 * segment unchecked: every index and pointer is compared with its bounds before use, and it takes no
 * lock that a worker can hold.
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
	const char *output_dir; /* where output goes beyond output_memory; NULL: it is dropped */
	size_t output_memory;	/* budget of kept output */
	int ready_fd;		/* -1: nobody waits for us to be ready */
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
void sh_stop_look(void);  /* something ended: exit if a stop was asked for and nothing is left */
void sh_look_again(void); /* the medic wrote: look at seats, tasks, audit, crashes */

#endif
