/*
 * daemon.h - the request side of the supervisor (control.c, verbs.c, trace.c, module.c) in one process, with a
 * client. Tasks, workers and output are stand-ins that record what they were asked for.
 */
#ifndef TESTS_UNIT_DAEMON_H
#define TESTS_UNIT_DAEMON_H

#include "supervisor/daemon/task/tasks.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define FAKE_JOBS 8

struct fake {
	struct job *job[FAKE_JOBS]; /* accepted; job[i] has the id i + 1 */
	unsigned njobs;
	bool ended[FAKE_JOBS];
	char module[4096]; /* of the last submission */
	unsigned cancels, now, abandoned, stops, outdated;
	size_t stream_bytes, stream_sent; /* `ps` answers with this many bytes, as a stream */
	unsigned streams_freed;
	struct {
		pid_t pid;
		void (*done)(void *arg, int status);
		void *arg;
	} child; /* the last one that was watched */
};
extern struct fake fake;

void daemon_begin(void); /* segment, ledger, loop and listening socket */
void daemon_end(void);

/* Connects a client. The functions below act on the last one. */
void client_connect(void);
void client_send(const void *bytes, size_t n);
void client_send_fd(const char *line, int fd);
void client_shut(void); /* closes its sending side */
void client_close(void);
/* Runs the loop until a line comes, and returns it as JSON; NULL: the connection was closed. fd may be NULL. */
json_t *client_reply(int *fd);
size_t client_read_all(void); /* runs the loop until the connection is closed; how many bytes came */
void daemon_run(void);	      /* the loop, while anything is ready */

/* Sends one request and expects an error with this code whose text contains these words. */
void expect_refused(const char *request, int code, const char *words);
/* Sends one request and returns the answer. */
json_t *ask(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
