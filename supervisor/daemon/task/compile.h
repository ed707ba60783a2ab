/*
 * compile.h - compiles a source file to a module.
 */
#ifndef SUPERVISOR_DAEMON_TASK_COMPILE_H
#define SUPERVISOR_DAEMON_TASK_COMPILE_H

#include "supervisor/daemon/failure.h"

#define COMPILE_DIR "/tmp/shoal-cc-"
/* The callee closes so_fd. The caller frees deps, the text of the dependency file. */
typedef void compile_done(void *arg, int so_fd, char *deps, const struct failure *);
void sh_compile(const char *path, const char *compiler, compile_done *, void *arg);

#endif
