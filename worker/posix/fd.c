/*
 * posix/fd.c - descriptors come and go: open, dup, pipe, close and what else works on files.
 *
 * Each descriptor that a goroutine makes is its task's: written down in poll_owner, closed when the
 * task ends, and closed by no other task. Descriptors 0, 1 and 2 are the runtime's.
 *
 * DEATH  between the system call that made a descriptor and fd_made() nobody knows it: it stays open until
 *        no task is there (supervisor/zygote/strays.c)
 */
#include "worker/posix/filelock.h"
#include "worker/posix/posix.h"
#include "shm/kill.h"
#include "worker/posix/thread_cancel.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/timerfd.h>

/* ---- open ---- */

static int open_at(int dir, const char *path, int flags, mode_t mode)
{
	struct blocking k = {SYSTEM_CALL(SYS_openat, dir, path, flags, mode), .comes_out = true, .makes_fd = true};
	struct stat st;
	long r;

	if (!posix_enter())
		return (int)syscall(SYS_openat, dir, path, flags, mode);
	r = blocking_once(&k);
	if (r < 0 && errno == EINTR) {
		if (fstatat(dir, path, &st, 0) == 0 && S_ISFIFO(st.st_mode) && (flags & O_ACCMODE) != O_RDWR)
			return sh_fifo_open(dir, path, flags, mode);
		k.comes_out = false;
		r = blocking(&k);
	}
	return fd_made((int)r);
}

#define MODE_OF(flags, mode) \
	do { \
		va_list ap_; \
		va_start(ap_, flags); \
		(mode) = (flags) & (O_CREAT | O_TMPFILE) ? va_arg(ap_, mode_t) : 0; \
		va_end(ap_); \
	} while (0)

int open(const char *path, int flags, ...)
{
	CANCEL_POINT();
	mode_t mode;

	MODE_OF(flags, mode);
	return open_at(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
	CANCEL_POINT();
	mode_t mode;

	MODE_OF(flags, mode);
	return open_at(AT_FDCWD, path, flags, mode);
}

int openat(int dir, const char *path, int flags, ...)
{
	CANCEL_POINT();
	mode_t mode;

	MODE_OF(flags, mode);
	return open_at(dir, path, flags, mode);
}

int openat64(int dir, const char *path, int flags, ...)
{
	CANCEL_POINT();
	mode_t mode;

	MODE_OF(flags, mode);
	return open_at(dir, path, flags, mode);
}

int creat(const char *path, mode_t mode)
{
	CANCEL_POINT();
	return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

int creat64(const char *path, mode_t mode)
{
	return creat(path, mode);
}

/* ---- others that make one ---- */

int pipe2(int fd[2], int flags)
{
	int r = (int)syscall(SYS_pipe2, fd, flags);

	if (r == 0) {
		fd_made(fd[0]);
		fd_made(fd[1]);
	}
	return r;
}

int pipe(int fd[2])
{
	return pipe2(fd, 0);
}

int eventfd(unsigned n, int flags)
{
	return fd_made((int)syscall(SYS_eventfd2, n, flags));
}

int timerfd_create(int clock, int flags)
{
	return fd_made((int)syscall(SYS_timerfd_create, clock, flags));
}

int epoll_create1(int flags)
{
	return fd_made((int)syscall(SYS_epoll_create1, flags));
}

int epoll_create(int size)
{
	if (size <= 0) {
		errno = EINVAL;
		return -1;
	}
	return epoll_create1(0);
}

int inotify_init1(int flags)
{
	return fd_made((int)syscall(SYS_inotify_init1, flags));
}

int memfd_create(const char *name, unsigned flags)
{
	return fd_made((int)syscall(SYS_memfd_create, name, flags));
}

int inotify_init(void)
{
	return inotify_init1(0);
}

int signalfd(int fd, const sigset_t *mask, int flags)
{
	if (!on_g())
		return (int)syscall(SYS_signalfd4, fd, mask, _NSIG / 8, flags);
	errno = ENOTSUP; /* the kernel's signals are the worker's: sigwaitinfo knows the task's */
	return -1;
}

/* libc's own, which opens inside. */
#define MAKES_ONE(name, params, ...) \
	int name params \
	{ \
		static int(*libc_) params; \
		LIBC_FIND(libc_, #name); \
		return fd_made(libc_(__VA_ARGS__)); \
	}

MAKES_ONE(mkstemp, (char *template), template)
MAKES_ONE(mkstemp64, (char *template), template)
MAKES_ONE(mkostemp, (char *template, int flags), template, flags)
MAKES_ONE(mkostemp64, (char *template, int flags), template, flags)
MAKES_ONE(mkstemps, (char *template, int n), template, n)
MAKES_ONE(mkstemps64, (char *template, int n), template, n)
MAKES_ONE(mkostemps, (char *template, int n, int flags), template, n, flags)
MAKES_ONE(mkostemps64, (char *template, int n, int flags), template, n, flags)
MAKES_ONE(shm_open, (const char *name, int flags, mode_t mode), name, flags, mode)
MAKES_ONE(posix_openpt, (int flags), flags)

/* ---- folders: libc opens and closes inside ---- */

static DIR *folder(DIR *d)
{
	if (d && on_g())
		fd_made(dirfd(d));
	return d;
}

DIR *opendir(const char *path)
{
	static DIR *(*real)(const char *);

	LIBC_FIND(real, "opendir");
	return folder(real(path));
}

int closedir(DIR *d)
{
	static int (*real)(DIR *);

	LIBC_FIND(real, "closedir");
	if (on_g()) {
		fd_closing(dirfd(d));
		fd_emptied(dirfd(d)); /* what libc closes next is the bare number */
	}
	return real(d);
}

/* ---- dup ---- */

/* Where 1 and 2 of the task really lead. */
static int output_fd(int fd)
{
	struct g *g = fd == 1 || fd == 2 ? on_g() : NULL;

	return !g ? fd : fd == 1 ? g->task->fd_out : g->task->fd_err;
}

int dup(int fd)
{
	return fd_made((int)syscall(SYS_dup, output_fd(fd)));
}

/* Descriptors 1 and 2 of a task are where its output goes. */
static int redirect(struct task *t, int fd, int to)
{
	int copy = (int)syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 3);
	struct stat st;

	if (copy < 0)
		return -1;
	output_flush(getg(), false);
	atomic_store(&t->out[to - 1].error, 0);
	if (fstat(copy, &st) == 0) {
		struct task_room *r = &t->out[to - 1].room;

		atomic_store(&t->out[to - 1].piped, !S_ISREG(st.st_mode));
		atomic_store(&r->kept, st.st_dev == r->device && st.st_ino == r->file);
	}
	fd_made(copy);
	if (to == 1)
		t->fd_out = copy;
	else
		t->fd_err = copy;
	KILL_POINT("fd.redirected");
	return to;
}

int dup3(int fd, int to, int flags)
{
	struct g *g = posix_enter();
	bool is_open;
	int r;

	if (!g)
		return (int)syscall(SYS_dup3, fd, to, flags);
	fd = output_fd(fd);
	if (to == 1 || to == 2)
		return redirect(g->task, fd, to);
	if (!fd_ours(to) || syscall(SYS_fcntl, fd, F_GETFD) < 0) {
		errno = EBADF;
		return -1;
	}
	sh_filelock_closing(to);
	is_open = to >= 0 && (unsigned)to < POLL_FDS && atomic_load(&poll_owner[to]);
	if (is_open)
		sh_fd_replacing(to);
	r = (int)BLOCKING(SYS_dup3, fd, to, flags);
	if (is_open)
		netpoll_closed(to);
	return fd_made(r);
}

int dup2(int fd, int to)
{
	if (fd == to)
		return syscall(SYS_fcntl, fd, F_GETFD) < 0 ? -1 : to;
	return dup3(fd, to, 0);
}

int fcntl(int fd, int op, ...)
{
	CANCEL_POINT();
	va_list ap;
	void *arg;
	long r;

	va_start(ap, op);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (posix_enter()) {
		if (op == F_SETLK || op == F_SETLKW || op == F_GETLK)
			return sh_filelock_record(output_fd(fd), op, arg);
		if (op == F_OFD_SETLK || op == F_OFD_SETLKW)
			sh_filelock_whole(fd);
		if (op == F_OFD_SETLKW) {
			struct pollwait w = netpoll_begin(fd, POLL_READ);

			return (int)BLOCKING_ON(&w, SYS_fcntl, fd, op, arg);
		}
	}
	r = syscall(SYS_fcntl, output_fd(fd), op, arg);
	return op == F_DUPFD || op == F_DUPFD_CLOEXEC ? fd_made((int)r) : (int)r;
}

int fcntl64(int, int, ...) __attribute__((alias("fcntl")));
int __fcntl(int, int, ...) __attribute__((alias("fcntl")));

/* ---- close ---- */

int close(int fd)
{
	CANCEL_POINT();
	if (!posix_enter())
		return (int)syscall(SYS_close, fd);
	if (fd >= 0 && fd <= 2)
		return 0;
	if (!fd_ours(fd)) {
		errno = EBADF;
		return -1;
	}
	return fd_close(fd);
}

int close_range(unsigned first, unsigned last, int flags)
{
	if (!posix_enter())
		return (int)syscall(SYS_close_range, first, last, flags);
	if (first > last || (flags & ~(int)CLOSE_RANGE_CLOEXEC)) { /* the table stays shared */
		errno = EINVAL;
		return -1;
	}
	for (unsigned fd = first > 3 ? first : 3; fd <= last && fd < atomic_load(&sched.fd_top); fd++)
		if (atomic_load(&poll_owner[fd]) != getg()->task->slot + 1)
			;
		else if (flags)
			syscall(SYS_fcntl, fd, F_SETFD, FD_CLOEXEC);
		else
			fd_close((int)fd);
	return 0;
}

void closefrom(int first)
{
	close_range(first < 0 ? 0 : (unsigned)first, ~0u, 0);
}

/* ---- calls that a slow disk or somebody else's lock can hold up ---- */

#define AS_SYSCALL(name, params, ...) \
	int name params \
	{ \
		return (int)(posix_enter() ? after_write(BLOCKING(__VA_ARGS__)) : syscall(__VA_ARGS__)); \
	}

AS_SYSCALL(fsync, (int fd), SYS_fsync, fd)
AS_SYSCALL(fdatasync, (int fd), SYS_fdatasync, fd)
AS_SYSCALL(syncfs, (int fd), SYS_syncfs, fd)
AS_SYSCALL(ftruncate, (int fd, off_t n), SYS_ftruncate, fd, n)
AS_SYSCALL(truncate, (const char *path, off_t n), SYS_truncate, path, n)
AS_SYSCALL(fallocate, (int fd, int mode, off_t at, off_t n), SYS_fallocate, fd, mode, at, n)
AS_SYSCALL(sync_file_range, (int fd, off_t at, off_t n, unsigned flags), SYS_sync_file_range, fd, at, n, flags)
AS_SYSCALL(unlink, (const char *path), SYS_unlinkat, AT_FDCWD, path, 0)
AS_SYSCALL(rename, (const char *from, const char *to), SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0)
AS_SYSCALL(mkdir, (const char *path, mode_t mode), SYS_mkdirat, AT_FDCWD, path, mode)
AS_SYSCALL(rmdir, (const char *path), SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR)

int flock(int fd, int op)
{
	CANCEL_POINT();
	struct pollwait w;

	if (!posix_enter())
		return (int)syscall(SYS_flock, fd, op);
	sh_filelock_whole(fd);
	if (op & LOCK_NB)
		return (int)syscall(SYS_flock, fd, op);
	w = netpoll_begin(fd, POLL_READ);
	return (int)BLOCKING_ON(&w, SYS_flock, fd, op);
}
