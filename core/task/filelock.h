/*
 * filelock.h - the locks on files that a task holds.
 *
 * The kernel takes all workers for one owner of classic record locks, because they share one
 * descriptor table. So a task has, for each file that it has locked with fcntl or lockf, one open
 * file description of its own, the lock file: record locks of the task are
 * open-file-description locks on it. Two tasks exclude each other, and so do a task and any
 * process outside. A lock file is an inner descriptor (POLL_INNER): the task cannot see or close it.
 *
 * The entry of a descriptor says what is locked through it:
 *
 *   LOCKED_RECORDS  the descriptor is a lock file; dev and ino name the locked file
 *   LOCKED_WHOLE    the task's own descriptor, on which flock or F_OFD_SETLK was called by a
 *                   goroutine that may run again
 *
 * OWNER  the task whose list (task->file_locks) the entry is in
 * LOCK   task->lock for the list and for dev, ino, gid; wait_gid is claimed by compare-and-swap
 * ORDER  an entry is complete before it is linked; one store links it and one store unlinks it
 * DEATH  a lock file that was opened and not yet linked is closed at the task's end. A waiter that
 *        died leaves wait_gid: lock_waits() finds that this goroutine is not in a system call
 */
#ifndef CORE_TASK_FILELOCK_H
#define CORE_TASK_FILELOCK_H

#include "core/sched/netpoll.h"
#include "shm/segment.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct g;
struct task;

enum locked { LOCKED_NOTHING, LOCKED_RECORDS, LOCKED_WHOLE };

struct fd_lock {
	uint32_t next; /* descriptor + 1 of the next entry of the task's list */
	uint32_t kind; /* enum locked */
	uint64_t dev, ino;
	uint64_t gid;		   /* the goroutine that locked; 0: several have */
	int32_t pid;		   /* what getpid() gave it: F_GETLK of others tells this */
	_Atomic uint64_t wait_gid; /* the goroutine that waits for a lock of this file; 0: none */
	int64_t wait_start, wait_len;
};
_Static_assert(sizeof(struct fd_lock) <= 64, "an entry is one cache line");

#define fd_lock(fd) (&((struct fd_lock *)(SH_BASE + SH_OFF_POLL + (3ul << 27)))[fd])

/* The lock file of the task for that file, or -1. Holds: task->lock. */
int sh_filelock_find(struct task *, uint64_t dev, uint64_t ino);
/* Links the entry of fd, which the caller has filled in but for next. Holds: task->lock. */
void sh_filelock_link(struct task *, int fd);
/* Unlinks it. False: it was not in the list. Holds: task->lock. */
bool sh_filelock_unlink(struct task *, int fd);
/* The goroutine is about to run again from its entry: the locks that it alone has made are released. By the medic. */
void sh_filelock_restart(struct g *);
/* What is wrong with the list, or NULL. By the medic. */
const char *sh_filelock_fault(struct task *);

#endif
