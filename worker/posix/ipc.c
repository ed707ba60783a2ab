/*
 * posix/ipc.c - what else can wait in the kernel: message queues, semaphores of System V, terminals, locks
 * of files. All as system calls: the P goes on without them, cancellation gets them out (blocking.c).
 */
#include "worker/posix/posix.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <mqueue.h>
#include <stdarg.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <termios.h>
#include <time.h>

/* ---- System V ---- */

int msgsnd(int id, const void *msg, size_t n, int flags)
{
	return (int)(posix_enter() ? BLOCKING(SYS_msgsnd, id, msg, n, flags) : syscall(SYS_msgsnd, id, msg, n, flags));
}

ssize_t msgrcv(int id, void *msg, size_t n, long type, int flags)
{
	return posix_enter() ? BLOCKING(SYS_msgrcv, id, msg, n, type, flags)
			     : syscall(SYS_msgrcv, id, msg, n, type, flags);
}

int semtimedop(int id, struct sembuf *ops, size_t n, const struct timespec *timeout)
{
	struct timespec left = timeout ? *timeout : (struct timespec){0, 0};
	int64_t when = 0, ns;
	long r;

	if (!posix_enter())
		return (int)syscall(SYS_semtimedop, id, ops, n, timeout);
	if (timeout && timeout->tv_sec >= 0 && timeout->tv_sec < INT32_MAX)
		when = host_now() + timeout->tv_sec * 1000000000l + timeout->tv_nsec;
	while ((r = BLOCKING_ONCE(SYS_semtimedop, id, ops, n, timeout ? &left : NULL)) < 0 && errno == EINTR)
		if (when) {
			ns = when - host_now();
			ns = ns > 0 ? ns : 0;
			left = (struct timespec){ns / 1000000000, ns % 1000000000};
		}
	return (int)r;
}

int semop(int id, struct sembuf *ops, size_t n)
{
	return semtimedop(id, ops, n, NULL);
}

/* ---- message queues of POSIX: descriptors ---- */

mqd_t mq_open(const char *name, int flags, ...)
{
	static mqd_t (*libc)(const char *, int, mode_t, struct mq_attr *);
	struct mq_attr *attr = NULL;
	mode_t mode = 0;
	va_list ap;

	if (flags & O_CREAT) {
		va_start(ap, flags);
		mode = va_arg(ap, mode_t);
		attr = va_arg(ap, struct mq_attr *);
		va_end(ap);
	}
	if (!libc)
		*(void **)&libc = dlsym(RTLD_NEXT, "mq_open");
	return fd_made(libc(name, flags, mode, attr));
}

int mq_close(mqd_t q)
{
	return close(q);
}

static int send_until(mqd_t q, const char *msg, size_t n, unsigned prio, const struct timespec *when)
{
	return (int)(posix_enter() ? BLOCKING(SYS_mq_timedsend, q, msg, n, prio, when)
				   : syscall(SYS_mq_timedsend, q, msg, n, prio, when));
}

static ssize_t receive_until(mqd_t q, char *msg, size_t n, unsigned *prio, const struct timespec *when)
{
	return posix_enter() ? BLOCKING(SYS_mq_timedreceive, q, msg, n, prio, when)
			     : syscall(SYS_mq_timedreceive, q, msg, n, prio, when);
}

int mq_timedsend(mqd_t q, const char *msg, size_t n, unsigned prio, const struct timespec *when)
{
	return send_until(q, msg, n, prio, when);
}

ssize_t mq_timedreceive(mqd_t q, char *restrict msg, size_t n, unsigned *restrict prio,
			const struct timespec *restrict when)
{
	return receive_until(q, msg, n, prio, when);
}

int mq_send(mqd_t q, const char *msg, size_t n, unsigned prio)
{
	return send_until(q, msg, n, prio, NULL);
}

ssize_t mq_receive(mqd_t q, char *msg, size_t n, unsigned *prio)
{
	return receive_until(q, msg, n, prio, NULL);
}

REAL(int, mq_notify, (mqd_t q, const struct sigevent *e), q, e)

/* The kernel would signal the worker, which has nothing to do with it. */
int mq_notify(mqd_t q, const struct sigevent *e)
{
	if (!on_g() || !e)
		return real_mq_notify(q, e);
	errno = ENOTSUP;
	return -1;
}

/* ---- the rest: libc makes these of calls of its own ---- */

int lockf(int fd, int op, off_t n)
{
	struct flock l = {.l_type = op == F_ULOCK ? F_UNLCK : F_WRLCK, .l_whence = SEEK_CUR, .l_len = n};

	switch (op) {
	case F_ULOCK:
	case F_TLOCK: return fcntl(fd, F_SETLK, &l);
	case F_LOCK: return fcntl(fd, F_SETLKW, &l);
	case F_TEST:
		if (fcntl(fd, F_GETLK, &l) < 0)
			return -1;
		if (l.l_type == F_UNLCK || (!on_g() && l.l_pid == getpid()))
			return 0;
		errno = EACCES;
		return -1;
	default: errno = EINVAL; return -1;
	}
}

int lockf64(int fd, int op, off64_t n)
{
	return lockf(fd, op, n);
}

int eventfd_read(int fd, eventfd_t *value)
{
	return read(fd, value, sizeof *value) == sizeof *value ? 0 : -1;
}

int eventfd_write(int fd, eventfd_t value)
{
	return write(fd, &value, sizeof value) == sizeof value ? 0 : -1;
}

int tcdrain(int fd)
{
	return (int)(posix_enter() ? BLOCKING(SYS_ioctl, fd, TCSBRK, 1) : syscall(SYS_ioctl, fd, TCSBRK, 1));
}

REAL(int, tcsetattr, (int fd, int how, const struct termios *t), fd, how, t)

/* Those that wait for what is on its way out. */
int tcsetattr(int fd, int how, const struct termios *t)
{
	if (posix_enter() && how != TCSANOW && tcdrain(fd) < 0)
		return -1;
	return real_tcsetattr(fd, how == TCSADRAIN ? TCSANOW : how, t);
}
