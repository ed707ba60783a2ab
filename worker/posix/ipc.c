/*
 * posix/ipc.c - what else can wait in the kernel: message queues, semaphores of System V, terminals, locks
 * of files. POSIX queues park, for they can be polled. The rest are system calls: the P goes on without
 * them, cancellation and a close get them out (blocking.c).
 */
#include "worker/posix/clock.h"
#include "worker/posix/posix.h"
#include "worker/posix/thread_cancel.h"

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
	CANCEL_POINT();
	return (int)(posix_enter() ? BLOCKING(SYS_msgsnd, id, msg, n, flags) : syscall(SYS_msgsnd, id, msg, n, flags));
}

ssize_t msgrcv(int id, void *msg, size_t n, long type, int flags)
{
	CANCEL_POINT();
	return posix_enter() ? BLOCKING(SYS_msgrcv, id, msg, n, type, flags)
			     : syscall(SYS_msgrcv, id, msg, n, type, flags);
}

int semtimedop(int id, struct sembuf *ops, size_t n, const struct timespec *timeout)
{
	CANCEL_POINT();
	struct timespec left;
	int64_t when, ns;
	long r;

	if (!posix_enter())
		return (int)syscall(SYS_semtimedop, id, ops, n, timeout);
	if (!timeout || !is_timespec(timeout))
		return (int)BLOCKING(SYS_semtimedop, id, ops, n, timeout);
	when = deadline_after(ns_of_timespec(timeout));
	do {
		ns = when - host_now();
		left = timespec_of_ns(ns > 0 ? ns : 0);
		r = BLOCKING_ONCE(SYS_semtimedop, id, ops, n, &left);
	} while (r < 0 && errno == EINTR);
	return (int)r;
}

int semop(int id, struct sembuf *ops, size_t n)
{
	CANCEL_POINT();
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
	LIBC_FIND(libc, "mq_open");
	return fd_made(libc(name, flags, mode, attr));
}

int mq_close(mqd_t q)
{
	mq_notify_forget(q);
	return close(q);
}

/*
 * A queue can be polled: each call is tried with a time that is past, and parks until the queue is ready.
 * at: when it gives up; NULL: never.
 */
static long queue_until(long nr, mqd_t q, const char *msg, size_t n, unsigned long prio, const struct timespec *at)
{
	static const struct timespec past = {0, 0};
	struct pollwait w;
	struct timespec now;
	int64_t when = 0;
	long r;

	if (!posix_enter() || (at && !is_timespec(at)))
		return syscall(nr, q, msg, n, prio, at);
	w = netpoll_begin(q, nr == SYS_mq_timedsend ? POLL_WRITE : POLL_READ);
	for (;;) {
		r = syscall(nr, q, msg, n, prio, &past);
		if (r >= 0 || (errno != ETIMEDOUT && errno != EINTR))
			return r;
		if (errno == EINTR)
			continue;
		if (!fd_watch(&w))
			return BLOCKING(nr, q, msg, n, prio, at);
		if (at) {
			clock_gettime(CLOCK_REALTIME, &now);
			when = ns_between(&now, at);
			when = when > 0 ? deadline_after(when) : 1;
		}
		if (fd_wait(&w, 1, when) < 0) {
			if (errno == EAGAIN)
				errno = ETIMEDOUT;
			return -1;
		}
	}
}

static int send_until(mqd_t q, const char *msg, size_t n, unsigned prio, const struct timespec *when)
{
	return (int)queue_until(SYS_mq_timedsend, q, msg, n, prio, when);
}

static ssize_t receive_until(mqd_t q, char *msg, size_t n, unsigned *prio, const struct timespec *when)
{
	return queue_until(SYS_mq_timedreceive, q, msg, n, (unsigned long)prio, when);
}

int mq_timedsend(mqd_t q, const char *msg, size_t n, unsigned prio, const struct timespec *when)
{
	CANCEL_POINT();
	return send_until(q, msg, n, prio, when);
}

ssize_t mq_timedreceive(mqd_t q, char *restrict msg, size_t n, unsigned *restrict prio,
			const struct timespec *restrict when)
{
	CANCEL_POINT();
	return receive_until(q, msg, n, prio, when);
}

int mq_send(mqd_t q, const char *msg, size_t n, unsigned prio)
{
	CANCEL_POINT();
	return send_until(q, msg, n, prio, NULL);
}

ssize_t mq_receive(mqd_t q, char *msg, size_t n, unsigned *prio)
{
	CANCEL_POINT();
	return receive_until(q, msg, n, prio, NULL);
}

/* ---- the rest: libc makes these of calls of its own ---- */

int lockf(int fd, int op, off_t n)
{
	CANCEL_POINT();
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
	CANCEL_POINT();
	struct pollwait w;

	if (!posix_enter())
		return (int)syscall(SYS_ioctl, fd, TCSBRK, 1);
	w = netpoll_begin(fd, POLL_WRITE);
	return (int)BLOCKING_ON(&w, SYS_ioctl, fd, TCSBRK, 1);
}

REAL(int, tcsetattr, (int fd, int how, const struct termios *t), fd, how, t)

/* Those that wait for what is on its way out. */
int tcsetattr(int fd, int how, const struct termios *t)
{
	if (posix_enter() && how != TCSANOW && tcdrain(fd) < 0)
		return -1;
	return real_tcsetattr(fd, how == TCSADRAIN ? TCSANOW : how, t);
}
