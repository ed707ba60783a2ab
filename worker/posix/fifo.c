/*
 * posix/fifo.c - opening a FIFO, which waits for somebody to open the other end.
 *
 * An end that is opened with O_NONBLOCK counts for the other end like one that waits, so the goroutine
 * opens it so, parks until the other end is there, and takes the flag away. No event tells that a
 * process has opened the other end, so it looks every few milliseconds.
 */
#include "worker/posix/posix.h"

#include <fcntl.h>
#include <poll.h>

#define LOOK_NS 500000
#define LOOK_MAX_NS 10000000

static int64_t look_after(int64_t *ns)
{
	*ns = *ns < LOOK_MAX_NS ? *ns * 3 / 2 : LOOK_MAX_NS;
	return host_now() + *ns;
}

/* Somebody has opened the other end of this one, which reads: tee tells "nothing yet" from "nobody". */
static bool has_writer(int fd)
{
	int p[2], err;
	long r;

	if (poll_now(fd, POLLIN) != 0) /* there is something to read, or all writers have gone again */
		return true;
	if (syscall(SYS_pipe2, p, O_CLOEXEC) < 0)
		return false;
	r = syscall(SYS_tee, fd, p[1], 1, SPLICE_F_NONBLOCK);
	err = errno;
	syscall(SYS_close, p[0]);
	syscall(SYS_close, p[1]);
	return r > 0 || (r < 0 && err == EAGAIN);
}

static int with_flags(int fd, int flags)
{
	syscall(SYS_fcntl, fd, F_SETFL, flags & ~(O_NONBLOCK | O_CREAT | O_EXCL | O_TRUNC | O_CLOEXEC));
	return fd;
}

static int open_reader(int dir, const char *path, int flags, mode_t mode)
{
	int fd = fd_made((int)syscall(SYS_openat, dir, path, flags | O_NONBLOCK, mode)), err;
	struct pollwait w = netpoll_begin(fd, POLL_READ);
	int64_t ns = LOOK_NS;

	if (fd < 0)
		return -1;
	fd_watch(&w);
	while (!has_writer(fd))
		if (fd_wait(&w, 1, look_after(&ns)) < 0 && errno != EAGAIN) {
			err = errno;
			fd_close(fd);
			errno = err;
			return -1;
		}
	return with_flags(fd, flags);
}

/* ENXIO: nobody reads yet. */
static int open_writer(int dir, const char *path, int flags, mode_t mode)
{
	int64_t ns = LOOK_NS;
	int fd;

	while ((fd = (int)syscall(SYS_openat, dir, path, flags | O_NONBLOCK, mode)) < 0 && errno == ENXIO)
		if (fd_wait(NULL, 0, look_after(&ns)) < 0 && errno != EAGAIN)
			return -1;
	return fd < 0 ? -1 : with_flags(fd_made(fd), flags);
}

int sh_fifo_open(int dir, const char *path, int flags, mode_t mode)
{
	return (flags & O_ACCMODE) == O_RDONLY ? open_reader(dir, path, flags, mode)
					       : open_writer(dir, path, flags, mode);
}
