/*
 * futex.h - the system call futex, made by number on a goroutine: futex.c.
 */
#ifndef WORKER_POSIX_SYNC_FUTEX_H
#define WORKER_POSIX_SYNC_FUTEX_H

/* a: the six arguments of futex(2). On a goroutine. Parks. -1 and errno, as syscall() gives it. */
long sh_posix_futex(const long *a);

#endif
