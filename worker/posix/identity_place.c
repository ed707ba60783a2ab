/*
 * identity_place.c - where a process stands: session and process group, root folder, namespaces, personality, access
 * to ports, tracing; and the registers of its thread. Rules as in identity.c.
 */
#include "worker/posix/identity.h"
#include "worker/posix/posix.h"

#include <asm/prctl.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/io.h>
#include <sys/personality.h>
#include <sys/ptrace.h>

/* ---- sessions and process groups ---- */

pid_t setsid(void)
{
	return sh_identity_may(IDENTITY_setsid) ? (pid_t)syscall(SYS_setsid) : -1;
}

static bool keeps_group(pid_t group)
{
	return getpgrp() == (group ? group : getpid());
}

int setpgid(pid_t pid, pid_t group)
{
	return CHANGE_OF(setpgid, pid, keeps_group(group), SYS_setpgid, sh_identity_pid(pid), group);
}

int setpgrp(void)
{
	return setpgid(0, 0);
}

/* ---- root folder, namespaces ---- */

int chroot(const char *path)
{
	return CHANGE(chroot, false, SYS_chroot, path);
}

int pivot_root(const char *root, const char *old);
int pivot_root(const char *root, const char *old)
{
	return CHANGE(pivot_root, false, SYS_pivot_root, root, old);
}

/* A worker has its own current folder already (CLONE_FS), and must not part from the table of descriptors. */
int unshare(int flags)
{
	if (on_g() && flags & (CLONE_FILES | CLONE_VM | CLONE_SIGHAND | CLONE_THREAD) &&
	    !sh_identity_never(IDENTITY_unshare, "workers share their descriptors"))
		return -1;
	return CHANGE(unshare, !(flags & ~CLONE_FS), SYS_unshare, flags);
}

int setns(int fd, int kind)
{
	return CHANGE(setns, false, SYS_setns, fd, kind);
}

/* ---- personality, ports, tracing ---- */

#define PERSONALITY_READ 0xfffffffful

int personality(unsigned long what)
{
	long now = syscall(SYS_personality, PERSONALITY_READ);

	if (what == PERSONALITY_READ || (on_g() && now == (long)what))
		return (int)now;
	return sh_identity_may(IDENTITY_personality) ? (int)syscall(SYS_personality, what) : -1;
}

int iopl(int level)
{
	return CHANGE(iopl, false, SYS_iopl, level);
}

int ioperm(unsigned long from, unsigned long n, int on)
{
	return CHANGE(ioperm, n == 0, SYS_ioperm, from, n, on);
}

/* Its tracer would be the supervisor. Tracing another process is as in libc: a word is read through the result. */
long ptrace(enum __ptrace_request request, ...)
{
	void *address, *data;
	long r, word;
	va_list ap;
	pid_t pid;

	va_start(ap, request);
	pid = va_arg(ap, pid_t);
	address = va_arg(ap, void *);
	data = va_arg(ap, void *);
	va_end(ap);
	if (on_g() && (request == PTRACE_TRACEME || sh_identity_whose(pid) != NO_WORKER) &&
	    !sh_identity_never(IDENTITY_ptrace, "it would stop a worker, which other tasks use"))
		return -1;
	if (request > PTRACE_TRACEME && request <= PTRACE_PEEKUSER)
		data = &word;
	r = syscall(SYS_ptrace, request, pid, address, data);
	if (r < 0 || data != &word)
		return r;
	errno = 0;
	return word;
}

/* ---- the registers of the thread ---- */

int arch_prctl(int code, unsigned long address);
int arch_prctl(int code, unsigned long address)
{
	bool reads = code == ARCH_GET_FS || code == ARCH_GET_GS || code == ARCH_GET_CPUID;

	if (on_g() && !reads && !sh_identity_never(IDENTITY_arch_prctl, "the registers are the worker's"))
		return -1;
	return (int)syscall(SYS_arch_prctl, code, address);
}
