/*
 * output_room.h - how far a stream of a task may grow: output_room.c.
 */
#ifndef WORKER_OUTPUT_ROOM_H
#define WORKER_OUTPUT_ROOM_H

#include "core/task/task.h"

static inline bool room_is_full(const struct task_room *r)
{
	return __builtin_expect(atomic_load_explicit(&((struct task_room *)r)->size, memory_order_relaxed) >
					atomic_load_explicit(&((struct task_room *)r)->limit, memory_order_relaxed),
				0) &&
	       atomic_load_explicit(&((struct task_room *)r)->kept, memory_order_relaxed);
}

/* Parks until the stream may grow. 0, or ECANCELED. On a goroutine that holds no lock. */
int room_wait(struct task_room *);
/* The kept file has this size after a write. Holds: the lock of the stream. */
void room_written(struct task_room *, uint64_t size);

#endif
