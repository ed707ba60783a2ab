/*
 * filelock.c - the list of a task's locks on files. See filelock.h.
 */
#include "core/task/filelock.h"
#include "core/g/g.h"
#include "core/host.h"
#include "core/sched/m.h"
#include "core/sched/netpoll.h"
#include "core/task/task.h"
#include "shm/kill.h"
#include "shm/lock.h"

#define LIST_MAX POLL_FDS /* bounds a walk over a list that is damaged */

static int filelock_first(const struct task *t)
{
	return (int)t->file_locks - 1;
}

static int next_of(int fd)
{
	return (int)fd_lock(fd)->next - 1;
}

static bool in_table(int fd)
{
	return fd >= 0 && (unsigned)fd < POLL_FDS;
}

int sh_filelock_find(struct task *t, uint64_t dev, uint64_t ino)
{
	unsigned n = 0;

	for (int fd = filelock_first(t); in_table(fd) && n++ < LIST_MAX; fd = next_of(fd))
		if (fd_lock(fd)->kind == LOCKED_RECORDS && fd_lock(fd)->dev == dev && fd_lock(fd)->ino == ino)
			return fd;
	return -1;
}

void sh_filelock_link(struct task *t, int fd)
{
	fd_lock(fd)->next = t->file_locks;
	KILL_POINT("filelock.link.ready");
	t->file_locks = (uint32_t)fd + 1;
	KILL_POINT("filelock.link.done");
}

bool sh_filelock_unlink(struct task *t, int fd)
{
	uint32_t *at = &t->file_locks;
	unsigned n = 0;

	for (; *at != (uint32_t)fd + 1; at = &fd_lock(*at - 1)->next)
		if (!*at || *at > POLL_FDS || n++ > LIST_MAX)
			return false;
	*at = fd_lock(fd)->next;
	KILL_POINT("filelock.unlink.done");
	return true;
}

void sh_filelock_restart(struct g *g)
{
	struct task *t = g->task;
	unsigned seat = (unsigned)getm->seat, n = 0;

	if (!t->file_locks)
		return;
	sh_lock_take(&t->lock, seat);
	for (int fd = filelock_first(t); in_table(fd) && n++ < LIST_MAX; fd = next_of(fd)) {
		if (fd_lock(fd)->gid != g->gid)
			continue;
		host_file_unlock(fd, fd_lock(fd)->kind == LOCKED_WHOLE);
		KILL_POINT("filelock.restart.released");
	}
	sh_lock_drop(&t->lock, seat);
}

const char *sh_filelock_fault(struct task *t)
{
	unsigned n = 0;

	if (atomic_load(&t->state) != TASK_RUNNING)
		return NULL;
	for (int fd = filelock_first(t); fd >= 0; fd = next_of(fd)) {
		uint32_t owner;

		if (!in_table(fd) || n++ > LIST_MAX)
			return "its list of file locks is damaged: task";
		owner = atomic_load(&poll_owner[fd]) & ~POLL_CLOSING;
		if (owner != (t->slot + 1) && owner != ((t->slot + 1) | POLL_INNER))
			return "lists a file lock on a descriptor of another: task";
	}
	return NULL;
}
