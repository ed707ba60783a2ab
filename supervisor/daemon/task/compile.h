/*
 * compile.h - a source file becomes a module.
 */
#ifndef SUPERVISOR_DAEMON_TASK_COMPILE_H
#define SUPERVISOR_DAEMON_TASK_COMPILE_H

#include "supervisor/daemon/failure.h"

#define COMPILE_DIR "/tmp/shoal-cc-"
/* so_fd belongs to the receiver; deps, the text of the dependency file, is freed by the caller. */
typedef void compile_done(void *arg, int so_fd, char *deps, const struct failure *);
void sh_compile(const char *path, const char *cc, compile_done *, void *arg);

#endif
