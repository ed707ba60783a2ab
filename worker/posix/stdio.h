/*
 * stdio.h - a stream that a goroutine has opened.
 */
#ifndef WORKER_POSIX_STDIO_H
#define WORKER_POSIX_STDIO_H

#include "core/sync/waitq.h"
#include "worker/worker.h"

#include <stdio.h>

/*
 * A block of the task's heap, to which FILE._lock points. libc does not lock such a stream: its locks name
 * their owner by the address of the thread, which is the same in every worker, and only wake waiters of the
 * own process. stdio_lock.c locks mu instead.
 * OWNER  the holder of mu, during a call
 * DEATH  as for any mutex; the next holder finds the stream as the dead one left it
 */
struct stream {
	char libc_lock[16]; /* fclose writes here */
	struct stream *next;
	FILE *file;
	bool parks;	/* it is on a socket or pipe: its reads, writes and close are ours and park */
	uint32_t depth; /* nesting of flockfile */
	struct shoal_mutex mu;
};

/* The block of a stream that a goroutine has opened; NULL for other streams. */
static inline struct stream *stream_of(const FILE *f)
{
	const char *lock = (const char *)f->_lock;

	/* libc's own lock lies inside the block that fopen has allocated, close to the FILE. */
	return sh_in_segment(lock) && (size_t)(lock - (const char *)f) >= 1024 ? (struct stream *)lock : NULL;
}

/* Locks the stream. Parks. NULL, and nothing is locked, if not on a goroutine or if the stream is not one of a goroutine. */
struct stream *stream_hold(FILE *);
void stream_drop(struct stream *);
bool stream_try(struct stream *);

#endif
