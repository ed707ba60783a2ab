/*
 * source.h - finds the module of a file, and compiles C and C++ files.
 */
#ifndef SUPERVISOR_DAEMON_TASK_SOURCE_H
#define SUPERVISOR_DAEMON_TASK_SOURCE_H

#include "supervisor/daemon/failure.h"

struct module;

typedef void module_done(void *arg, struct module *, const struct failure *);

/* Options of the submitter for one module file. */
struct wish {
	const char *compiler; /* command and flags, a newline, then what comes behind the file: libraries */
	const char *search;   /* LD_LIBRARY_PATH, only absolute paths; "": none */
};

enum source_language { SOURCE_NONE, SOURCE_C, SOURCE_CXX };
enum source_language sh_source_language(const char *path); /* by the end of its name. NONE: it is a module */

/* Finds the module and calls done, before it returns or later. cwd: the folder for a relative path, or -1. */
void sh_source_get(const char *path, int cwd, const struct wish *, module_done *, void *arg);
/*
 * Makes all paths of LD_LIBRARY_PATH absolute; empty and relative ones begin at cwd. The caller frees the result.
 * NULL: there are no paths.
 */
char *sh_search_path(const char *value, int cwd);
void sh_source_forget(void); /* SIGHUP: forgets all files, so they are read again */

#endif
