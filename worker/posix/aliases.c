/*
 * posix/aliases.c - other names under which libc exports calls that park: those that a program calls when it
 * is compiled with _FORTIFY_SOURCE, which check the size of a buffer first, and those with two underscores.
 */
#pragma GCC diagnostic ignored "-Wmissing-prototypes" /* libc declares most of them in no header */
#include "worker/posix/posix.h"

#include <fcntl.h>
#include <mqueue.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

_Noreturn void __chk_fail(void); /* libc's */

/* ---- checked ---- */

static void check_room(size_t n, size_t room)
{
	if (n > room)
		__chk_fail();
}

ssize_t __read_chk(int fd, void *p, size_t n, size_t room)
{
	check_room(n, room);
	return read(fd, p, n);
}

ssize_t __pread_chk(int fd, void *p, size_t n, off_t at, size_t room)
{
	check_room(n, room);
	return pread(fd, p, n, at);
}

ssize_t __pread64_chk(int fd, void *p, size_t n, off64_t at, size_t room)
{
	check_room(n, room);
	return pread(fd, p, n, at);
}

ssize_t __recv_chk(int fd, void *p, size_t n, size_t room, int flags)
{
	check_room(n, room);
	return recv(fd, p, n, flags);
}

ssize_t __recvfrom_chk(int fd, void *p, size_t n, size_t room, int flags, struct sockaddr *from, socklen_t *len)
{
	check_room(n, room);
	return recvfrom(fd, p, n, flags, from, len);
}

int __poll_chk(struct pollfd *p, nfds_t n, int ms, size_t room)
{
	check_room(n, room / sizeof *p);
	return poll(p, n, ms);
}

int __ppoll_chk(struct pollfd *p, nfds_t n, const struct timespec *timeout, const sigset_t *mask, size_t room)
{
	check_room(n, room / sizeof *p);
	return ppoll(p, n, timeout, mask);
}

/* Without a mode: it must not be asked for a new file. */
static void check_mode(int flags)
{
	if (flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE)
		__chk_fail();
}

int __open_2(const char *path, int flags)
{
	check_mode(flags);
	return open(path, flags);
}

int __openat_2(int dir, const char *path, int flags)
{
	check_mode(flags);
	return openat(dir, path, flags);
}

mqd_t __mq_open_2(const char *name, int flags)
{
	check_mode(flags);
	return mq_open(name, flags);
}

int __vdprintf_chk(int fd, int flag, const char *fmt, va_list ap)
{
	(void)flag;
	return vdprintf(fd, fmt, ap);
}

int __dprintf_chk(int fd, int flag, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = __vdprintf_chk(fd, flag, fmt, ap);
	va_end(ap);
	return n;
}

int __open64_2(const char *, int) __attribute__((alias("__open_2")));
int __openat64_2(int, const char *, int) __attribute__((alias("__openat_2")));

/* ---- two underscores ---- */

ssize_t __read(int fd, void *p, size_t n)
{
	return read(fd, p, n);
}

ssize_t __write(int fd, const void *p, size_t n)
{
	return write(fd, p, n);
}

ssize_t __pread64(int fd, void *p, size_t n, off64_t at)
{
	return pread(fd, p, n, at);
}

ssize_t __pwrite64(int fd, const void *p, size_t n, off64_t at)
{
	return pwrite(fd, p, n, at);
}

ssize_t __send(int fd, const void *p, size_t n, int flags)
{
	return send(fd, p, n, flags);
}

int __connect(int fd, const struct sockaddr *a, socklen_t len)
{
	return connect(fd, a, len);
}

int __open(const char *path, int flags, ...)
{
	mode_t mode;
	va_list ap;

	va_start(ap, flags);
	mode = va_arg(ap, mode_t);
	va_end(ap);
	return open(path, flags, mode);
}
int __open64(const char *, int, ...) __attribute__((alias("__open")));

int __close(int fd)
{
	return close(fd);
}

int __dup2(int fd, int to)
{
	return dup2(fd, to);
}

int __pipe(int fd[2])
{
	return pipe(fd);
}

int __poll(struct pollfd *p, nfds_t n, int ms)
{
	return poll(p, n, ms);
}

int __select(int n, fd_set *r, fd_set *w, fd_set *x, struct timeval *timeout)
{
	return select(n, r, w, x, timeout);
}

int __nanosleep(const struct timespec *want, struct timespec *left)
{
	return nanosleep(want, left);
}

int __sched_yield(void)
{
	return sched_yield();
}

int __sigsuspend(const sigset_t *mask)
{
	return sigsuspend(mask);
}

pid_t __wait(int *status)
{
	return wait(status);
}

pid_t __waitpid(pid_t pid, int *status, int flags)
{
	return waitpid(pid, status, flags);
}
