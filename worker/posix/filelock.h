/*
 * filelock.h - locks on files, for the calls that take, pass on or close descriptors. See filelock.c.
 */
#ifndef WORKER_POSIX_FILELOCK_H
#define WORKER_POSIX_FILELOCK_H

#include "worker/posix/posix.h"

#include <fcntl.h>

/* F_GETLK, F_SETLK, F_SETLKW on a goroutine. F_SETLKW parks. */
int sh_filelock_record(int fd, int op, struct flock *);
/* After flock or F_OFD_SETLK on fd: a goroutine that may run again holds a lock through it. */
void sh_filelock_whole(int fd);
/* Before fd is closed or means another file: the record locks of its task on that file are released. */
void sh_filelock_closing(int fd);
/* Moves fd, which the runtime holds for the task, to a number where the task does not expect its own. Takes fd over. -1 and errno. */
int fd_inner(int fd);

#endif
