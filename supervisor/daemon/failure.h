/*
 * failure.h - why a request failed: an exit code of the command line and a line of text.
 */
#ifndef SUPERVISOR_DAEMON_FAILURE_H
#define SUPERVISOR_DAEMON_FAILURE_H

/* Exit codes of the command line for errors. */
enum {
	CODE_FAILED = 1,
	CODE_USAGE = 2,
	CODE_DENIED = 4,
	CODE_UNKNOWN = 5,
	CODE_QUARANTINED = 75,
	CODE_SHOAL = 125,
	CODE_NOT_LOADABLE = 126,
	CODE_NOT_FOUND = 127
};

struct failure {
	int code; /* 0: no failure */
	char text[512];
	char *detail; /* many lines, or NULL; the receiver does not free it */
};

#endif
