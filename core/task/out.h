/*
 * out.h - where stdout or stderr of a task goes, and how far each may grow.
 */
#ifndef CORE_TASK_OUT_H
#define CORE_TASK_OUT_H

#include "shm/lock.h"

#include <stdatomic.h>
#include <stdint.h>

/*
 * How far a stream may grow: a task that writes faster than an attached reader reads is held back.
 *
 *   0         dropped      slowest reader          size        limit
 *   |-- gone --|--- kept ---|------- unread --------|-- room ----|   size > limit: writers wait
 *
 * The supervisor knows the readers and sets limit; a worker compares before it writes and parks the
 * goroutine. A write that has begun is made to its end, so size exceeds limit by a buffer at most.
 *
 * OWNER  size, woken: the writer under the lock of the stream; the medic. All others: the supervisor
 * LOCK   none. Waiters are in the task's table of waits, at the address of limit
 * ORDER  the supervisor stores limit, then raised, then rings the medic, which wakes the waiters and then
 *        stores woken. A waiter reads limit under the lock of the queue that the medic takes to wake it
 * DEATH  of a worker that was to ring the supervisor: the supervisor looks once a second. Of the medic:
 *        woken still differs from raised, so the next one wakes them. Of the supervisor: writers wait at
 *        limit until its successor has come
 */
struct task_room {
	_Atomic uint64_t size;	 /* of the file after the last write */
	_Atomic uint64_t limit;	 /* writers wait while size is above it */
	_Atomic uint64_t ask_at; /* the writer that passes it rings the supervisor; ROOM_ASKED, ROOM_NEVER */
	_Atomic uint32_t raised; /* counts the raises of limit, after limit: pairs with task_wake_writers */
	_Atomic uint32_t woken;	 /* the raise for which waiters have been woken */
	_Atomic uint32_t kept;	 /* the stream leads to the kept file; 0: the task has redirected it */
	uint64_t device, file;	 /* the kept file: st_dev and st_ino */
};
#define ROOM_ASKED UINT64_MAX
#define ROOM_NEVER (UINT64_MAX - 1) /* attached readers report how far they are: nothing to ask for */

/*
 * Where stdout or stderr of a task goes.
 * OWNER  the task; room: see there
 * LOCK   lock: whole lines are written under it, so lines of two goroutines never mix
 * ORDER  the fields that describe a write are stored before n
 * DEATH  the write in progress is described by n and the fields below it. Repair looks how much of it is in
 *        the file, writes the rest and stores `then` in *left, the writer's count of what is unwritten
 */
struct task_out {
	struct sh_lock lock;
	_Atomic uint32_t n; /* bytes of the write in progress; 0: none */
	int32_t fd;
	uint64_t from;	      /* size of the file before the write */
	const char *piece[2]; /* both lie in the segment */
	uint32_t len[2];
	_Atomic uint64_t *left;
	uint64_t then;
	_Atomic int32_t error; /* errno of a write that failed: the next writer gets it */
	/* the task has redirected the stream to a pipe or the like: lines go there at once, and may block */
	_Atomic uint32_t piped;
	struct task_room room;
};

#endif
