/*
 * posix/process.c - what would copy, replace or end the process, which is a worker and not the task's.
 *
 * A task ends by exit and its like, also where libc calls them inside (err, argp). A call that would make a copy of
 * the worker, or run another program in it, is refused with ENOTSUP; posix_spawn starts programs.
 */
#include "worker/posix/posix.h"

#include <pthread.h>
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>

static int refused(void)
{
	errno = ENOTSUP;
	return -1;
}

/* ---- its end ---- */

static _Noreturn void end_task(int code)
{
	struct g *g = getg();

	host_g_end(g);
	task_end(g->task, TASK_DONE, code & 0xff, 0);
	for (;;)
		gopark(NULL, WAIT_ZERO, 0);
}

void _exit(int code)
{
	if (on_g()) {
		getg()->flags &= (uint8_t)~GF_OWN; /* no destructors */
		end_task(code);
	}
	for (;;)
		syscall(SYS_exit_group, code);
}

void _Exit(int code)
{
	_exit(code);
}

void exit(int code)
{
	static void (*real)(int);

	if (on_g()) {
		host_task_exit(getg());
		end_task(code);
	}
	LIBC_FIND(real, "exit");
	real(code);
	abort();
}

/* libc calls its own exit inside: the first of its handlers is this one, which goes no further. */
static void exit_inside(int code, void *unused)
{
	if (!on_g())
		return;
	on_exit(exit_inside, unused); /* for the next one: it is off the list */
	exit(code);
}

void process_start(void)
{
	on_exit(exit_inside, NULL);
}

/* ---- a copy of it, or another program ---- */

REAL(pid_t, fork, (void), )
REAL(pid_t, _Fork, (void), )
REAL(int, daemon, (int nochdir, int noclose), nochdir, noclose)
REAL(int, forkpty, (int *fd, char *name, const struct termios *t, const struct winsize *w), fd, name, t, w)

pid_t fork(void)
{
	return on_g() ? refused() : real_fork();
}

pid_t _Fork(void)
{
	return on_g() ? refused() : real__Fork();
}

/* Off a goroutine as fork: what we would return from has been left when the parent comes back. */
pid_t vfork(void)
{
	return fork();
}

int daemon(int nochdir, int noclose)
{
	return on_g() ? refused() : real_daemon(nochdir, noclose);
}

int forkpty(int *fd, char *name, const struct termios *t, const struct winsize *w)
{
	return on_g() ? refused() : real_forkpty(fd, name, t, w);
}

int clone(int (*fn)(void *), void *stack, int flags, void *arg, ...)
{
	static int (*real)(int (*)(void *), void *, int, void *, ...);
	void *more[3];
	va_list ap;

	if (on_g())
		return refused();
	LIBC_FIND(real, "clone");
	va_start(ap, arg);
	for (int i = 0; i < 3; i++)
		more[i] = va_arg(ap, void *);
	va_end(ap);
	return real(fn, stack, flags, arg, more[0], more[1], more[2]);
}

int execve(const char *path, char *const argv[], char *const env[])
{
	return on_g() ? refused() : (int)syscall(SYS_execve, path, argv, env);
}

int execveat(int dir, const char *path, char *const argv[], char *const env[], int flags)
{
	return on_g() ? refused() : (int)syscall(SYS_execveat, dir, path, argv, env, flags);
}

REAL(int, execvpe, (const char *name, char *const argv[], char *const env[]), name, argv, env)
REAL(int, fexecve, (int fd, char *const argv[], char *const env[]), fd, argv, env)

int execvpe(const char *name, char *const argv[], char *const env[])
{
	return on_g() ? refused() : real_execvpe(name, argv, env);
}

int fexecve(int fd, char *const argv[], char *const env[])
{
	return on_g() ? refused() : real_fexecve(fd, argv, env);
}

int execv(const char *path, char *const argv[])
{
	return execve(path, argv, environ);
}

int execvp(const char *name, char *const argv[])
{
	return execvpe(name, argv, environ);
}

/* The list as an array; the environment behind it, if there is one. */
#define LIST_MAX 256
static int list(const char *first, va_list ap, char **argv)
{
	int n = 0;

	for (argv[n++] = (char *)first; n < LIST_MAX && argv[n - 1];)
		argv[n++] = va_arg(ap, char *);
	if (argv[n - 1]) {
		errno = E2BIG;
		return -1;
	}
	return 0;
}

#define EXEC_LIST(name, does, environment) \
	int name(const char *what, const char *first, ...) \
	{ \
		char *argv[LIST_MAX]; \
		va_list ap; \
		int r; \
		va_start(ap, first); \
		r = list(first, ap, argv); \
		if (r == 0) \
			r = does(what, argv, environment); \
		va_end(ap); \
		return r; \
	}

EXEC_LIST(execl, execve, environ)
EXEC_LIST(execlp, execvpe, environ)
EXEC_LIST(execle, execve, va_arg(ap, char **))
