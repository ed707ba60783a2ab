/*
 * environ.c - the environment of a task.
 *
 * task->envp points to the list, at first a block of the task's heap. A worker that turns to the task sets its
 * environ to it. libc's setenv remembers the list of one task in the process and would free it while it runs
 * another task, so a goroutine's changes are made here. Lists and strings that are replaced stay until the
 * task ends, because another goroutine may be reading them.
 *
 * A program may also assign a list of its own to environ. The worker sees that when the goroutine calls one of
 * these functions, or when the root goroutine leaves the processor, and makes it the task's list.
 *
 * LOCK   task->lock around a change; readers take none
 * DEATH  a list is whole after each store: strings are put before their place counts
 */
#include "core/sync/waitq.h"
#include "shm/kill.h"
#include "worker/posix/libc.h"
#include "worker/posix/own.h"
#include "worker/worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char **find(char **list, const char *name, size_t n)
{
	for (; list && *list; list++)
		if (strncmp(*list, name, n) == 0 && (*list)[n] == '=')
			return list;
	return NULL;
}

/* The task's list becomes the one that the program has assigned to environ. Holds: the task's lock. */
static void adopt_environ(struct task *t)
{
	if (environ == t->envp)
		return;
	task_own(t)->environ_room = 0;
	KILL_POINT("environ.adopt.room");
	t->envp = environ;
	KILL_POINT("environ.adopted");
}

void environ_left(struct g *g)
{
	struct task *t = g->task;

	if (__builtin_expect(environ == t->envp, 1))
		return;
	sh_lock_take(&t->lock, (unsigned)getm->seat);
	adopt_environ(t);
	task_own(t)->settings = posix_new_state();
	task_own(t)->state = task_own(t)->settings;
	KILL_POINT("environ.left");
	sh_lock_drop(&t->lock, (unsigned)getm->seat);
}

/* Puts the string into the list, in place of one of the same name. Holds: the task's lock. 0, or -1 and ENOMEM. */
static int put_variable(struct g *g, char *string, size_t n)
{
	struct task *t = g->task;
	char **at = find(t->envp, string, n), **list;
	size_t count = 0;

	if (at) {
		*at = string;
		return 0;
	}
	while (t->envp && t->envp[count])
		count++;
	if (count + 1 >= task_own(t)->environ_room) {
		size_t room = 2 * count + 16;

		list = g_alloc(g, room * sizeof *list);
		if (!list) {
			errno = ENOMEM;
			return -1;
		}
		memset(list, 0, room * sizeof *list);
		if (count)
			memcpy(list, t->envp, count * sizeof *list);
		list[count] = string;
		task_own(t)->environ_room = (uint32_t)room;
		KILL_POINT("environ.list");
		environ = t->envp = list;
	} else {
		t->envp[count] = string; /* what follows is NULL */
	}
	KILL_POINT("environ.put");
	return 0;
}

int setenv(const char *name, const char *value, int replace)
{
	LIBC(int, "setenv", const char *, const char *, int);
	struct g *g = on_g();
	struct task *t;
	size_t n, len;
	char *string;
	int r = 0;

	if (!g)
		return libc(name, value, replace);
	if (!name || !*name || strchr(name, '=')) {
		errno = EINVAL;
		return -1;
	}
	n = strlen(name);
	len = strlen(value) + 1;
	string = g_alloc(g, n + 1 + len);
	if (!string) {
		errno = ENOMEM;
		return -1;
	}
	memcpy(string, name, n);
	string[n] = '=';
	memcpy(string + n + 1, value, len);
	t = process_state_begin();
	adopt_environ(t);
	if (replace || !find(t->envp, name, n))
		r = put_variable(g, string, n);
	process_state_end(t, true);
	return r;
}

int unsetenv(const char *name)
{
	LIBC(int, "unsetenv", const char *);
	struct g *g = on_g();
	struct task *t;
	size_t n;

	if (!g)
		return libc(name);
	if (!*name || strchr(name, '=')) {
		errno = EINVAL;
		return -1;
	}
	n = strlen(name);
	t = process_state_begin();
	adopt_environ(t);
	for (char **at; (at = find(t->envp, name, n));)
		for (; *at; at++) {
			at[0] = at[1];
			KILL_POINT("environ.unset");
		}
	process_state_end(t, true);
	return 0;
}

int putenv(char *string)
{
	LIBC(int, "putenv", char *);
	struct g *g = on_g();
	const char *equals = strchr(string, '=');
	struct task *t;
	int r;

	if (!g)
		return libc(string);
	if (!equals)
		return unsetenv(string);
	t = process_state_begin();
	adopt_environ(t);
	r = put_variable(g, string, (size_t)(equals - string));
	process_state_end(t, true);
	return r;
}

int clearenv(void)
{
	struct task *t = process_state_begin();

	environ = NULL;
	if (t) {
		task_own(t)->environ_room = 0;
		t->envp = NULL;
		KILL_POINT("environ.cleared");
	}
	process_state_end(t, true);
	return 0;
}

char *getenv(const char *name)
{
	size_t n = strlen(name);
	char **at = n ? find(environ, name, n) : NULL;

	return at ? *at + n + 1 : NULL;
}
