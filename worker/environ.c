/*
 * environ.c - the environment of a task.
 *
 * libc keeps the list of strings in a variable of each process; the task's own list is in its
 * record, and every worker looks there. Strings and lists are blocks of the task's heap.
 *
 * LOCK   task->lock around a change: two goroutines of a task may change it on two workers
 * DEATH  task->envp is one store; a death before it leaves the list as it was
 */
#include "shm/kill.h"
#include "worker/worker.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

extern char **environ;

static void *real(const char *name)
{
	return dlsym(RTLD_NEXT, name);
}

/* The task, locked, with its list in place. */
static struct task *begin(void)
{
	struct task *t = process_state_begin();

	if (t)
		environ = t->envp;
	return t;
}

static void end(struct task *t)
{
	if (t)
		t->envp = environ;
	KILL_POINT("environ.changed");
	process_state_end(t, true);
}

int setenv(const char *name, const char *value, int replace)
{
	static int (*libc)(const char *, const char *, int);
	struct task *t = begin();
	int r;

	if (!libc)
		*(void **)&libc = real("setenv");
	r = libc(name, value, replace);
	end(t);
	return r;
}

int unsetenv(const char *name)
{
	static int (*libc)(const char *);
	struct task *t = begin();
	int r;

	if (!libc)
		*(void **)&libc = real("unsetenv");
	r = libc(name);
	end(t);
	return r;
}

int putenv(char *string)
{
	static int (*libc)(char *);
	struct task *t = begin();
	int r;

	if (!libc)
		*(void **)&libc = real("putenv");
	r = libc(string);
	end(t);
	return r;
}

int clearenv(void)
{
	struct task *t = begin();

	environ = NULL;
	end(t);
	return 0;
}

char *getenv(const char *name)
{
	struct g *g = on_g();
	char **list = g ? g->task->envp : environ;
	size_t n = strlen(name);

	for (; list && *list && n; list++)
		if (strncmp(*list, name, n) == 0 && (*list)[n] == '=')
			return *list + n + 1;
	return NULL;
}
