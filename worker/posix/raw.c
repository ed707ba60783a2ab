/*
 * posix/raw.c - syscall(): system calls that a program makes by number.
 *
 * A call for which there is a function that means something else on a goroutine is a call of that
 * function: it parks, or is refused, or works on what the task owns. Calls that return at once are made
 * at once. The runtime refuses a call that would change the process without its knowledge. All others
 * count as system calls that may block: another worker takes the P meanwhile, and cancellation ends the call.
 *
 * The calls of the runtime itself go to the kernel: shm/syscall.h.
 */
#include "worker/posix/identity.h"
#include "worker/posix/posix.h"
#include "worker/posix/signal.h"
#include "worker/posix/sync/futex.h"
#include "worker/posix/thread.h"

#include <fcntl.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>

#undef syscall
#define KERNEL_SIGSET 8 /* bytes */

/* The kernel's signal set as libc's; NULL stays NULL. */
static const sigset_t *mask_of(const void *kernel, sigset_t *mask)
{
	if (!kernel)
		return NULL;
	memset(mask, 0, sizeof *mask);
	memcpy(mask, kernel, KERNEL_SIGSET);
	return mask;
}

static int pselect_of(const long *a)
{
	const struct {
		const void *mask;
		size_t size;
	} *m = (const void *)a[5];
	sigset_t mask;

	return pselect((int)a[0], (fd_set *)a[1], (fd_set *)a[2], (fd_set *)a[3], (const struct timespec *)a[4],
		       mask_of(m ? m->mask : NULL, &mask));
}

/* True: r is what the function gave that stands for the call. */
static bool files_and_sockets(long nr, const long *a, long *r)
{
	int fd = (int)a[0];

	switch (nr) {
	case SYS_read: *r = read(fd, (void *)a[1], (size_t)a[2]); break;
	case SYS_write: *r = write(fd, (void *)a[1], (size_t)a[2]); break;
	case SYS_readv: *r = readv(fd, (void *)a[1], (int)a[2]); break;
	case SYS_writev: *r = writev(fd, (void *)a[1], (int)a[2]); break;
	case SYS_preadv2: *r = preadv2(fd, (void *)a[1], (int)a[2], a[3], (int)a[5]); break;
	case SYS_pwritev2: *r = pwritev2(fd, (void *)a[1], (int)a[2], a[3], (int)a[5]); break;
	case SYS_sendfile: *r = sendfile(fd, (int)a[1], (void *)a[2], (size_t)a[3]); break;
	case SYS_splice: *r = splice(fd, (void *)a[1], (int)a[2], (void *)a[3], (size_t)a[4], (unsigned)a[5]); break;
	case SYS_tee: *r = tee(fd, (int)a[1], (size_t)a[2], (unsigned)a[3]); break;
	case SYS_vmsplice: *r = vmsplice(fd, (void *)a[1], (size_t)a[2], (unsigned)a[3]); break;
	case SYS_copy_file_range:
		*r = copy_file_range(fd, (void *)a[1], (int)a[2], (void *)a[3], (size_t)a[4], (unsigned)a[5]);
		break;
	case SYS_recvfrom: *r = recvfrom(fd, (void *)a[1], (size_t)a[2], (int)a[3], (void *)a[4], (void *)a[5]); break;
	case SYS_recvmsg: *r = recvmsg(fd, (void *)a[1], (int)a[2]); break;
	case SYS_recvmmsg: *r = recvmmsg(fd, (void *)a[1], (unsigned)a[2], (int)a[3], (void *)a[4]); break;
	case SYS_sendto: *r = sendto(fd, (void *)a[1], (size_t)a[2], (int)a[3], (void *)a[4], (socklen_t)a[5]); break;
	case SYS_sendmsg: *r = sendmsg(fd, (void *)a[1], (int)a[2]); break;
	case SYS_sendmmsg: *r = sendmmsg(fd, (void *)a[1], (unsigned)a[2], (int)a[3]); break;
	case SYS_accept: *r = accept(fd, (void *)a[1], (void *)a[2]); break;
	case SYS_accept4: *r = accept4(fd, (void *)a[1], (void *)a[2], (int)a[3]); break;
	case SYS_connect: *r = connect(fd, (void *)a[1], (socklen_t)a[2]); break;
	case SYS_setsockopt: *r = setsockopt(fd, (int)a[1], (int)a[2], (void *)a[3], (socklen_t)a[4]); break;
	case SYS_flock: *r = flock(fd, (int)a[1]); break;
	case SYS_fcntl: *r = fcntl(fd, (int)a[1], (void *)a[2]); break;
	default: return false;
	}
	return true;
}

static bool descriptors(long nr, const long *a, long *r)
{
	int fd = (int)a[0];

	switch (nr) {
	case SYS_open: *r = open((char *)a[0], (int)a[1], (mode_t)a[2]); break;
	case SYS_openat: *r = openat(fd, (char *)a[1], (int)a[2], (mode_t)a[3]); break;
	case SYS_creat: *r = creat((char *)a[0], (mode_t)a[1]); break;
	case SYS_close: *r = close(fd); break;
	case SYS_close_range: *r = close_range((unsigned)a[0], (unsigned)a[1], (int)a[2]); break;
	case SYS_dup: *r = dup(fd); break;
	case SYS_dup2: *r = dup2(fd, (int)a[1]); break;
	case SYS_dup3: *r = dup3(fd, (int)a[1], (int)a[2]); break;
	case SYS_pipe: *r = pipe((int *)a[0]); break;
	case SYS_pipe2: *r = pipe2((int *)a[0], (int)a[1]); break;
	case SYS_socket: *r = socket((int)a[0], (int)a[1], (int)a[2]); break;
	case SYS_socketpair: *r = socketpair((int)a[0], (int)a[1], (int)a[2], (int *)a[3]); break;
	case SYS_eventfd: *r = eventfd((unsigned)a[0], 0); break;
	case SYS_eventfd2: *r = eventfd((unsigned)a[0], (int)a[1]); break;
	case SYS_timerfd_create: *r = timerfd_create((clockid_t)a[0], (int)a[1]); break;
	case SYS_epoll_create: *r = epoll_create((int)a[0]); break;
	case SYS_epoll_create1: *r = epoll_create1((int)a[0]); break;
	case SYS_inotify_init: *r = inotify_init(); break;
	case SYS_inotify_init1: *r = inotify_init1((int)a[0]); break;
	case SYS_memfd_create: *r = memfd_create((char *)a[0], (unsigned)a[1]); break;
	case SYS_signalfd:
	case SYS_signalfd4:
		errno = ENOTSUP;
		*r = -1;
		break;
	default: return false;
	}
	return true;
}

static bool waits(long nr, const long *a, long *r)
{
	sigset_t mask;

	switch (nr) {
	case SYS_poll: *r = poll((void *)a[0], (nfds_t)a[1], (int)a[2]); break;
	case SYS_ppoll: *r = ppoll((void *)a[0], (nfds_t)a[1], (void *)a[2], mask_of((void *)a[3], &mask)); break;
	case SYS_select: *r = select((int)a[0], (void *)a[1], (void *)a[2], (void *)a[3], (void *)a[4]); break;
	case SYS_pselect6: *r = pselect_of(a); break;
	case SYS_epoll_wait: *r = epoll_wait((int)a[0], (void *)a[1], (int)a[2], (int)a[3]); break;
	case SYS_epoll_pwait:
		*r = epoll_pwait((int)a[0], (void *)a[1], (int)a[2], (int)a[3], mask_of((void *)a[4], &mask));
		break;
	case SYS_epoll_pwait2:
		*r = epoll_pwait2((int)a[0], (void *)a[1], (int)a[2], (void *)a[3], mask_of((void *)a[4], &mask));
		break;
	case SYS_nanosleep: *r = nanosleep((void *)a[0], (void *)a[1]); break;
	case SYS_clock_nanosleep:
		errno = clock_nanosleep((clockid_t)a[0], (int)a[1], (void *)a[2], (void *)a[3]);
		*r = errno ? -1 : 0;
		break;
	case SYS_pause: *r = pause(); break;
	case SYS_rt_sigsuspend: *r = sigsuspend(mask_of((void *)a[0], &mask)); break;
	case SYS_rt_sigtimedwait:
		*r = sigtimedwait(mask_of((void *)a[0], &mask), (siginfo_t *)a[1], (void *)a[2]);
		break;
	case SYS_msgsnd: *r = msgsnd((int)a[0], (void *)a[1], (size_t)a[2], (int)a[3]); break;
	case SYS_msgrcv: *r = msgrcv((int)a[0], (void *)a[1], (size_t)a[2], a[3], (int)a[4]); break;
	case SYS_semop: *r = semop((int)a[0], (void *)a[1], (size_t)a[2]); break;
	case SYS_semtimedop: *r = semtimedop((int)a[0], (void *)a[1], (size_t)a[2], (void *)a[3]); break;
	case SYS_mq_timedsend:
		*r = mq_timedsend((mqd_t)a[0], (char *)a[1], (size_t)a[2], (unsigned)a[3], (void *)a[4]);
		break;
	case SYS_mq_timedreceive:
		*r = mq_timedreceive((mqd_t)a[0], (char *)a[1], (size_t)a[2], (unsigned *)a[3], (void *)a[4]);
		break;
	case SYS_wait4: *r = wait4((pid_t)a[0], (int *)a[1], (int)a[2], (void *)a[3]); break;
	case SYS_waitid: *r = waitid((idtype_t)a[0], (id_t)a[1], (siginfo_t *)a[2], (int)a[3]); break;
	case SYS_futex: *r = sh_posix_futex(a); break;
	case SYS_sched_yield: *r = sched_yield(); break;
	default: return false;
	}
	return true;
}

/* struct sigaction of the kernel. */
struct kernel_action {
	void *handler;
	unsigned long flags;
	void *restorer;
	uint64_t mask;
};

static long sigaction_of(const long *a)
{
	const struct kernel_action *new = (void *)a[1];
	struct kernel_action *old = (void *)a[2];
	struct sigaction in, out;
	int r;

	if (new) {
		in.sa_handler = (sighandler_t) new->handler;
		in.sa_flags = (int)new->flags;
		mask_of(&new->mask, &in.sa_mask);
	}
	r = sigaction((int)a[0], new ? &in : NULL, old ? &out : NULL);
	if (r == 0 && old) {
		*old = (struct kernel_action){(void *)out.sa_handler, (unsigned long)out.sa_flags, NULL, 0};
		memcpy(&old->mask, &out.sa_mask, KERNEL_SIGSET);
	}
	return r;
}

static long sigmask_of(const long *a)
{
	sigset_t new, old;
	int r = sigprocmask((int)a[0], mask_of((void *)a[1], &new), &old);

	if (r == 0 && a[2])
		memcpy((void *)a[2], &old, KERNEL_SIGSET);
	return r;
}

/* To the goroutine whose thread number this is. */
static long to_thread(int number, int sig)
{
	struct g *g = allg((uint64_t)number & (G_MAX - 1));
	int err = ESRCH;

	if (number > 0 && thread_number(g) == number)
		err = signal_send_goroutine(g->gid, sig, SI_TKILL, (union sigval){0});
	if (err == 0)
		sh_signals_due();
	errno = err ? err : errno;
	return err ? -1 : 0;
}

static bool signals(long nr, const long *a, long *r)
{
	sigset_t set;

	switch (nr) {
	case SYS_kill: *r = kill((pid_t)a[0], (int)a[1]); break;
	case SYS_tkill: *r = to_thread((int)a[0], (int)a[1]); break;
	case SYS_tgkill: *r = to_thread((int)a[1], (int)a[2]); break;
	case SYS_rt_sigaction: *r = sigaction_of(a); break;
	case SYS_rt_sigprocmask: *r = sigmask_of(a); break;
	case SYS_rt_sigpending:
		*r = sigpending(&set);
		memcpy((void *)a[0], &set, KERNEL_SIGSET);
		break;
	case SYS_sigaltstack: *r = sigaltstack((void *)a[0], (void *)a[1]); break;
	case SYS_alarm: *r = alarm((unsigned)a[0]); break;
	case SYS_setitimer: *r = setitimer((int)a[0], (void *)a[1], (void *)a[2]); break;
	case SYS_getitimer: *r = getitimer((int)a[0], (void *)a[1]); break;
	default: return false;
	}
	return true;
}

static long refuse(const char *name, int err)
{
	char line[120];

	sh_format(line, sizeof line, "shoal: syscall(SYS_%s) is refused: a worker runs other tasks as well\n", name);
	output_append(1, line, strlen(line));
	errno = err;
	return -1;
}

static bool process(long nr, const long *a, long *r)
{
	switch (nr) {
	case SYS_exit: pthread_exit(NULL);
	case SYS_exit_group: _exit((int)a[0]);
	case SYS_gettid: *r = gettid(); break;
	case SYS_fork: *r = refuse("fork", ENOTSUP); break;
	case SYS_vfork: *r = refuse("vfork", ENOTSUP); break;
	case SYS_clone: *r = refuse("clone", ENOTSUP); break;
	case SYS_clone3: *r = refuse("clone3", ENOTSUP); break;
	case SYS_execve: *r = refuse("execve", ENOTSUP); break;
	case SYS_execveat: *r = refuse("execveat", ENOTSUP); break;
	case SYS_rt_sigqueueinfo: *r = refuse("rt_sigqueueinfo", ENOTSUP); break;
	case SYS_rt_tgsigqueueinfo: *r = refuse("rt_tgsigqueueinfo", ENOTSUP); break;
	case SYS_timer_create: *r = refuse("timer_create", ENOTSUP); break;
	case SYS_setrlimit: *r = setrlimit((__rlimit_resource_t)a[0], (void *)a[1]); break;
	case SYS_prlimit64: *r = prlimit((pid_t)a[0], (enum __rlimit_resource)a[1], (void *)a[2], (void *)a[3]); break;
	case SYS_chdir: *r = chdir((char *)a[0]); break;
	case SYS_fchdir: *r = fchdir((int)a[0]); break;
	case SYS_prctl: *r = prctl((int)a[0], a[1], a[2], a[3], a[4]); break;
	case SYS_umask: *r = umask((mode_t)a[0]); break;
	default: return false;
	}
	return true;
}

static bool memory(long nr, const long *a, long *r)
{
	void *at = (void *)a[0];

	switch (nr) {
	case SYS_mmap: *r = (long)mmap(at, (size_t)a[1], (int)a[2], (int)a[3], (int)a[4], a[5]); break;
	case SYS_munmap: *r = munmap(at, (size_t)a[1]); break;
	case SYS_mprotect: *r = mprotect(at, (size_t)a[1], (int)a[2]); break;
	case SYS_madvise: *r = madvise(at, (size_t)a[1], (int)a[2]); break;
	case SYS_mremap: *r = (long)mremap(at, (size_t)a[1], (size_t)a[2], (int)a[3], (void *)a[4]); break;
	case SYS_msync: *r = msync(at, (size_t)a[1], (int)a[2]); break;
	case SYS_mlock: *r = mlock(at, (size_t)a[1]); break;
	case SYS_munlock: *r = munlock(at, (size_t)a[1]); break;
	case SYS_mlockall: *r = mlockall((int)a[0]); break;
	case SYS_munlockall: *r = munlockall(); break;
	case SYS_brk: *r = at && brk(at) < 0 ? -1 : (long)sbrk(0); break;
	default: return false;
	}
	return true;
}

/* They never wait. */
static bool is_quick(long nr)
{
	switch (nr) {
	case SYS_getpid:
	case SYS_getppid:
	case SYS_getuid:
	case SYS_geteuid:
	case SYS_getgid:
	case SYS_getegid:
	case SYS_getcpu:
	case SYS_time:
	case SYS_gettimeofday:
	case SYS_clock_gettime: return true;
	default: return false;
	}
}

long syscall(long nr, ...)
{
	long a[6], r;
	va_list ap;

	va_start(ap, nr);
	for (unsigned i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	if (!posix_enter() || is_quick(nr))
		return sh_kernel(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
	if (files_and_sockets(nr, a, &r) || waits(nr, a, &r) || descriptors(nr, a, &r) || memory(nr, a, &r) ||
	    signals(nr, a, &r) || process(nr, a, &r) || sh_identity_by_number(nr, a, &r))
		return r;
	return BLOCKING(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
}
