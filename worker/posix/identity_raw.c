/*
 * identity_raw.c - the calls of identity.c made by number, and those for which libc has no function.
 */
#include "worker/posix/identity.h"
#include "worker/posix/posix.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/fsuid.h>
#include <sys/io.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>

int arch_prctl(int code, unsigned long address);
int capset(struct __user_cap_header_struct *, const struct __user_cap_data_struct *);
int pivot_root(const char *root, const char *old);

#define IOPRIO_WHO_PROCESS 1
#define WORKERS_OWN "it belongs to the worker's thread"

static bool users(long nr, const long *a, long *r)
{
	uid_t i = (uid_t)a[0], j = (uid_t)a[1], k = (uid_t)a[2];

	switch (nr) {
	case SYS_setuid: *r = setuid(i); break;
	case SYS_setreuid: *r = setreuid(i, j); break;
	case SYS_setresuid: *r = setresuid(i, j, k); break;
	case SYS_setgid: *r = setgid(i); break;
	case SYS_setregid: *r = setregid(i, j); break;
	case SYS_setresgid: *r = setresgid(i, j, k); break;
	case SYS_setgroups: *r = setgroups((size_t)a[0], (void *)a[1]); break;
	case SYS_setfsuid: *r = setfsuid(i); break;
	case SYS_setfsgid: *r = setfsgid(i); break;
	case SYS_capset: *r = capset((void *)a[0], (void *)a[1]); break;
	default: return false;
	}
	return true;
}

/* The kernel's getpriority counts from 40 to 1. */
static long priority_of(const long *a)
{
	int nice;

	errno = 0;
	nice = getpriority((__priority_which_t)a[0], (id_t)a[1]);
	return nice == -1 && errno ? -1 : 20 - nice;
}

static long affinity_of(const long *a)
{
	return syscall(SYS_sched_getaffinity, sh_identity_pid((pid_t)a[0]), a[1], a[2]);
}

static bool scheduling(long nr, const long *a, long *r)
{
	pid_t pid = (pid_t)a[0];

	switch (nr) {
	case SYS_getpriority: *r = priority_of(a); break;
	case SYS_setpriority: *r = setpriority((__priority_which_t)a[0], (id_t)a[1], (int)a[2]); break;
	case SYS_sched_setscheduler: *r = sched_setscheduler(pid, (int)a[1], (void *)a[2]); break;
	case SYS_sched_getscheduler: *r = sched_getscheduler(pid); break;
	case SYS_sched_setparam: *r = sched_setparam(pid, (void *)a[1]); break;
	case SYS_sched_getparam: *r = sched_getparam(pid, (void *)a[1]); break;
	case SYS_sched_rr_get_interval: *r = sched_rr_get_interval(pid, (void *)a[1]); break;
	case SYS_sched_setaffinity: *r = sched_setaffinity(pid, (size_t)a[1], (void *)a[2]); break;
	case SYS_sched_getaffinity: *r = affinity_of(a); break;
	case SYS_sched_setattr: *r = CHANGE_OF(sched_setattr, pid, false, nr, sh_identity_pid(pid), a[1], a[2]); break;
	case SYS_sched_getattr: *r = syscall(nr, sh_identity_pid(pid), a[1], a[2], a[3]); break;
	case SYS_ioprio_set:
		if (a[0] != IOPRIO_WHO_PROCESS) /* a group or a user: all workers */
			*r = sh_identity_never(IDENTITY_ioprio_set, ALL_WORKERS) ? 0 : -1;
		else
			*r = CHANGE_OF(ioprio_set, (pid_t)a[1], false, nr, a[0], sh_identity_pid((pid_t)a[1]), a[2]);
		break;
	default: return false;
	}
	return true;
}

static long trace(const long *a)
{
	if ((a[0] == PTRACE_TRACEME || sh_identity_whose((pid_t)a[1]) != NO_WORKER) &&
	    !sh_identity_never(IDENTITY_ptrace, WORKERS_OWN))
		return -1;
	return syscall(SYS_ptrace, a[0], a[1], a[2], a[3]);
}

static bool places(long nr, const long *a, long *r)
{
	switch (nr) {
	case SYS_setsid: *r = setsid(); break;
	case SYS_setpgid: *r = setpgid((pid_t)a[0], (pid_t)a[1]); break;
	case SYS_chroot: *r = chroot((char *)a[0]); break;
	case SYS_pivot_root: *r = pivot_root((char *)a[0], (char *)a[1]); break;
	case SYS_unshare: *r = unshare((int)a[0]); break;
	case SYS_setns: *r = setns((int)a[0], (int)a[1]); break;
	case SYS_personality: *r = personality((unsigned long)a[0]); break;
	case SYS_iopl: *r = iopl((int)a[0]); break;
	case SYS_ioperm: *r = ioperm((unsigned long)a[0], (unsigned long)a[1], (int)a[2]); break;
	case SYS_arch_prctl: *r = arch_prctl((int)a[0], (unsigned long)a[1]); break;
	case SYS_ptrace: *r = trace(a); break;
	case SYS_seccomp: *r = CHANGE(seccomp, false, nr, a[0], a[1], a[2]); break;
	case SYS_set_mempolicy: *r = CHANGE(set_mempolicy, false, nr, a[0], a[1], a[2]); break;
	case SYS_landlock_restrict_self: *r = CHANGE(landlock_restrict_self, false, nr, a[0], a[1]); break;
	default: return false;
	}
	return true;
}

/* Calls that change what libc and the runtime have set for the worker's thread. They fail, also on a pinned goroutine. */
static bool of_the_thread(long nr, long *r)
{
	switch (nr) {
	case SYS_set_robust_list: *r = sh_identity_never(IDENTITY_set_robust_list, WORKERS_OWN) ? 0 : -1; break;
	case SYS_set_tid_address: *r = sh_identity_never(IDENTITY_set_tid_address, WORKERS_OWN) ? 0 : -1; break;
	case SYS_rseq: *r = sh_identity_never(IDENTITY_rseq, WORKERS_OWN) ? 0 : -1; break;
	default: return false;
	}
	return true;
}

bool sh_identity_by_number(long nr, const long *a, long *r)
{
	return users(nr, a, r) || scheduling(nr, a, r) || places(nr, a, r) || of_the_thread(nr, r);
}
