/*
 * source.h - finds the module that a file leads to; compiles .c files.
 */
#ifndef SUPERVISOR_DAEMON_TASK_SOURCE_H
#define SUPERVISOR_DAEMON_TASK_SOURCE_H

#include "supervisor/daemon/failure.h"

struct module;

typedef void module_done(void *arg, struct module *, const struct failure *);

/* How the submitter wants the file to be made a module. */
struct wish {
	const char *cc;	    /* the compiler of a .c file; NULL or "": cc */
	const char *search; /* LD_LIBRARY_PATH, with absolute paths; "": none */
};

/* Calls done now or later. cwd: for a relative path, or -1. */
void sh_source_get(const char *path, int cwd, const struct wish *, module_done *, void *arg);
/* LD_LIBRARY_PATH with absolute paths only: an empty or relative one starts at cwd. To be freed; NULL: none. */
char *sh_search_path(const char *value, int cwd);
void sh_source_forget(void); /* SIGHUP: files are read afresh */

#endif
