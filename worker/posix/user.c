/*
 * posix/user.c - names of users and groups.
 *
 * libc asks libraries of other people's, under a lock of the process: one that opened a socket on a
 * goroutine would park there, and the lock be dropped in another process. So they are asked off it.
 * What getpwnam and its like give out without being given room is the task's.
 */
#include "worker/posix/own.h"
#include "worker/posix/posix.h"
#include "shm/kill.h"

#include <grp.h>
#include <pwd.h>

#define ROOM 4096ul
#define ROOM_MAX (1ul << 20)

struct room { /* of a task, for all its life */
	size_t size;
	union {
		struct passwd pw;
		struct group gr;
	} entry;
	char buf[];
};

/* The task's, with room for at least n bytes; the one before stays, as somebody may look at it. */
static struct room *room_of(struct g *g, _Atomic(void *) *slot, size_t n)
{
	struct room *had = atomic_load(slot), *r;

	if (had && had->size >= n)
		return had;
	r = g_alloc(g, sizeof *r + n);
	if (!r) {
		errno = ENOMEM;
		return NULL;
	}
	r->size = n;
	atomic_store(slot, r);
	KILL_POINT("user.room");
	return r;
}

/* NAME_r as libc has it, run off the goroutine; and NAME, with the task's room. */
#define BY(name, type, key_type, slot) \
	struct name##_call { \
		key_type key; \
		struct type *to, **answer; \
		char *buf; \
		size_t n; \
		int r, err; \
	}; \
	static void name##_ask(void *arg) \
	{ \
		static int (*libc)(key_type, struct type *, char *, size_t, struct type **); \
		struct name##_call *c = arg; \
		LIBC_FIND(libc, #name "_r"); \
		c->r = libc(c->key, c->to, c->buf, c->n, c->answer); \
		c->err = errno; \
	} \
	int name##_r(key_type key, struct type *restrict to, char *restrict buf, size_t n, \
		     struct type **restrict answer) \
	{ \
		struct name##_call c = {key, to, answer, buf, n, 0, 0}; \
		if (posix_enter()) \
			outcall(name##_ask, &c); \
		else \
			name##_ask(&c); \
		errno = c.err; \
		return c.r; \
	} \
	struct type *name(key_type key) \
	{ \
		static struct type *(*libc)(key_type); \
		struct g *g = posix_enter(); \
		struct type *answer = NULL; \
		int r = ERANGE; \
		if (!g) { \
			LIBC_FIND(libc, #name); \
			return libc(key); \
		} \
		for (size_t n = ROOM; r == ERANGE && n <= ROOM_MAX; n *= 2) { \
			struct room *room = room_of(g, &task_own(g->task)->slot, n); \
			if (!room) \
				return NULL; \
			r = name##_r(key, (struct type *)&room->entry, room->buf, room->size, &answer); \
		} \
		if (r) \
			errno = r; \
		return r ? NULL : answer; \
	}

BY(getpwnam, passwd, const char *, user)
BY(getpwuid, passwd, uid_t, user)
BY(getgrnam, group, const char *, group)
BY(getgrgid, group, gid_t, group)

struct lists {
	const char *user;
	gid_t group, *groups;
	int *n, r, err;
};

static void list_groups(void *arg)
{
	static int (*libc)(const char *, gid_t, gid_t *, int *);
	struct lists *l = arg;

	LIBC_FIND(libc, "getgrouplist");
	l->r = libc(l->user, l->group, l->groups, l->n);
	l->err = errno;
}

int getgrouplist(const char *user, gid_t group, gid_t *groups, int *n)
{
	struct lists l = {user, group, groups, n, 0, 0};

	if (posix_enter())
		outcall(list_groups, &l);
	else
		list_groups(&l);
	errno = l.err;
	return l.r;
}
