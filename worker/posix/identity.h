/*
 * identity.h - calls that change the process itself: its user, limits, priority, root folder. See identity.c.
 */
#ifndef WORKER_POSIX_IDENTITY_H
#define WORKER_POSIX_IDENTITY_H

#include <stdbool.h>
#include <sys/types.h>

/* The calls that get one line each on the stderr of a task that they are refused to. */
/* clang-format off */
#define IDENTITY_CALLS(X) \
	X(setuid) X(seteuid) X(setreuid) X(setresuid) X(setgid) X(setegid) X(setregid) X(setresgid) X(setgroups) \
	X(initgroups) X(setfsuid) X(setfsgid) X(capset) X(nice) X(setpriority) X(sched_setscheduler) X(sched_setparam) \
	X(sched_setattr) X(sched_setaffinity) X(setrlimit) X(prlimit) X(ulimit) X(prctl) X(arch_prctl) X(personality) \
	X(unshare) X(setns) X(chroot) X(pivot_root) X(seccomp) X(iopl) X(ioperm) X(ioprio_set) X(setsid) X(setpgid) \
	X(ptrace) X(set_mempolicy) X(landlock_restrict_self) X(set_robust_list) X(set_tid_address) X(rseq)
/* clang-format on */
#define IDENTITY_ENUM(name) IDENTITY_##name,
enum identity_call { IDENTITY_CALLS(IDENTITY_ENUM) IDENTITY_COUNT };

/*
 * On a goroutine: true if it may change this worker, because it is pinned; the worker is replaced when it unpins.
 * Otherwise false and EPERM, after a line on the task's stderr. True off a goroutine.
 */
bool sh_identity_may(enum identity_call);
/* The same for what no goroutine may do, and why. False on a goroutine. */
bool sh_identity_never(enum identity_call, const char *why);
/* True: the number is that of a call which concerns the process, and r is its result (errno). */
bool sh_identity_by_number(long nr, const long *a, long *r);
#define ALL_WORKERS "it would change other workers, which other tasks use"

enum whose { THIS_WORKER, ANOTHER_WORKER, NO_WORKER };
enum whose sh_identity_whose(pid_t); /* the process with that number; 0: the caller's. ANOTHER: also the supervisor's */
pid_t sh_identity_pid(pid_t);	     /* the number for the kernel, which does not know the numbers of goroutines */

/* A change of this process by a system call. same: it would change nothing. */
#define CHANGE(call, same, ...) \
	(on_g() && (same) ? 0 : sh_identity_may(IDENTITY_##call) ? (int)syscall(__VA_ARGS__) : -1)
/* The same for a call that names a process. */
#define CHANGE_OF(call, pid, same, ...) \
	(!on_g() || sh_identity_whose(pid) == NO_WORKER ? (int)syscall(__VA_ARGS__) \
	 : sh_identity_whose(pid) == ANOTHER_WORKER	? (sh_identity_never(IDENTITY_##call, ALL_WORKERS), -1) \
							: CHANGE(call, same, __VA_ARGS__))

#endif
