/*
 * kernel.h - system calls for the code of the runtime itself.
 *
 * In shoald the names of libc (close, read, mmap, ...) belong to worker/posix: on a goroutine they act for
 * the task and may park. shm, core and the supervisor's processes mean the kernel, so they call these. Each
 * takes and returns what the libc function of that name does: -1 and errno on failure, EINTR included.
 * tests/lint checks that they call no stand-in.
 */
#ifndef SHM_KERNEL_H
#define SHM_KERNEL_H

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include "shm/syscall.h"
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ---- descriptors ---- */

static inline int kernel_open(const char *path, int flags, mode_t mode)
{
	return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}
static inline int kernel_openat(int dir, const char *path, int flags, mode_t mode)
{
	return (int)syscall(SYS_openat, dir, path, flags, mode);
}
static inline int kernel_close(int fd)
{
	return (int)syscall(SYS_close, fd);
}
static inline int kernel_close_range(unsigned from, unsigned to, int flags)
{
	return (int)syscall(SYS_close_range, from, to, flags);
}
static inline ssize_t kernel_read(int fd, void *buf, size_t n)
{
	return syscall(SYS_read, fd, buf, n);
}
static inline ssize_t kernel_write(int fd, const void *buf, size_t n)
{
	return syscall(SYS_write, fd, buf, n);
}
static inline ssize_t kernel_pread(int fd, void *buf, size_t n, off_t at)
{
	return syscall(SYS_pread64, fd, buf, n, at);
}
static inline ssize_t kernel_pwrite(int fd, const void *buf, size_t n, off_t at)
{
	return syscall(SYS_pwrite64, fd, buf, n, at);
}
static inline int kernel_dup(int fd)
{
	return (int)syscall(SYS_dup, fd);
}
static inline int kernel_dup3(int fd, int to, int flags)
{
	return (int)syscall(SYS_dup3, fd, to, flags);
}
static inline int kernel_dup2(int fd, int to)
{
	return fd == to ? fd : (int)syscall(SYS_dup3, fd, to, 0);
}
static inline int kernel_fcntl(int fd, int command, long arg)
{
	return (int)syscall(SYS_fcntl, fd, command, arg);
}
static inline int kernel_flock(int fd, int operation)
{
	return (int)syscall(SYS_flock, fd, operation);
}
static inline int kernel_ftruncate(int fd, off_t size)
{
	return (int)syscall(SYS_ftruncate, fd, size);
}
static inline int kernel_fallocate(int fd, int mode, off_t at, off_t n)
{
	return (int)syscall(SYS_fallocate, fd, mode, at, n);
}
static inline ssize_t kernel_sendfile(int to, int from, off_t *at, size_t n)
{
	return syscall(SYS_sendfile, to, from, at, n);
}
static inline int kernel_pipe2(int ends[2], int flags)
{
	return (int)syscall(SYS_pipe2, ends, flags);
}
static inline int kernel_memfd_create(const char *name, unsigned flags)
{
	return (int)syscall(SYS_memfd_create, name, flags);
}
static inline int kernel_eventfd(unsigned count, int flags)
{
	return (int)syscall(SYS_eventfd2, count, flags);
}
static inline int kernel_signalfd(int fd, const sigset_t *set, int flags)
{
	return (int)syscall(SYS_signalfd4, fd, set, 8, flags); /* size of the kernel's signal set */
}
static inline int kernel_epoll_create1(int flags)
{
	return (int)syscall(SYS_epoll_create1, flags);
}
static inline int kernel_poll(struct pollfd *fds, nfds_t n, int ms)
{
	struct timespec t = {ms / 1000, ms % 1000 * 1000000l};

	return (int)syscall(SYS_ppoll, fds, n, ms < 0 ? NULL : &t, NULL, 0);
}

/* ---- files ---- */

static inline int kernel_unlink(const char *path)
{
	return (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}
static inline int kernel_mkdir(const char *path, mode_t mode)
{
	return (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
}
static inline int kernel_rmdir(const char *path)
{
	return (int)syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR);
}
static inline mode_t kernel_umask(mode_t mask)
{
	return (mode_t)syscall(SYS_umask, mask);
}

/* ---- sockets ---- */

static inline int kernel_socket(int domain, int type, int protocol)
{
	return (int)syscall(SYS_socket, domain, type, protocol);
}
static inline int kernel_socketpair(int domain, int type, int protocol, int ends[2])
{
	return (int)syscall(SYS_socketpair, domain, type, protocol, ends);
}
static inline int kernel_connect(int fd, const void *address, socklen_t n)
{
	return (int)syscall(SYS_connect, fd, address, n);
}
static inline int kernel_accept4(int fd, void *address, socklen_t *n, int flags)
{
	return (int)syscall(SYS_accept4, fd, address, n, flags);
}
static inline ssize_t kernel_send(int fd, const void *buf, size_t n, int flags)
{
	return syscall(SYS_sendto, fd, buf, n, flags, NULL, 0);
}
static inline ssize_t kernel_recv(int fd, void *buf, size_t n, int flags)
{
	return syscall(SYS_recvfrom, fd, buf, n, flags, NULL, NULL);
}

/* ---- memory ---- */

static inline void *kernel_mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset)
{
	return (void *)syscall(SYS_mmap, at, n, protection, flags, fd, offset);
}
static inline int kernel_munmap(void *at, size_t n)
{
	return (int)syscall(SYS_munmap, at, n);
}
static inline int kernel_mprotect(void *at, size_t n, int protection)
{
	return (int)syscall(SYS_mprotect, at, n, protection);
}
static inline void *kernel_mremap(void *at, size_t had, size_t n, int flags, void *to)
{
	return (void *)syscall(SYS_mremap, at, had, n, flags, to);
}
static inline int kernel_mincore(void *at, size_t n, unsigned char *in)
{
	return (int)syscall(SYS_mincore, at, n, in);
}
static inline int kernel_madvise(void *at, size_t n, int advice)
{
	return (int)syscall(SYS_madvise, at, n, advice);
}

/* ---- processes and time ---- */

static inline int kernel_kill(pid_t pid, int sig)
{
	return (int)syscall(SYS_kill, pid, sig);
}
static inline pid_t kernel_waitpid(pid_t pid, int *status, int options)
{
	return (pid_t)syscall(SYS_wait4, pid, status, options, NULL);
}
static inline int kernel_sigprocmask(int how, const sigset_t *set, sigset_t *old)
{
	return (int)syscall(SYS_rt_sigprocmask, how, set, old, 8); /* size of the kernel's signal set */
}
static inline int kernel_setrlimit(int resource, const struct rlimit *limit)
{
	return (int)syscall(SYS_prlimit64, 0, resource, limit, NULL);
}
static inline int kernel_nanosleep(const struct timespec *t, struct timespec *left)
{
	return (int)syscall(SYS_nanosleep, t, left);
}

#endif
