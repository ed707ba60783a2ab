/*
 * stdio.h - what stdio.c and stdio_lock.c know of a stream that a goroutine has opened.
 */
#ifndef WORKER_POSIX_STDIO_H
#define WORKER_POSIX_STDIO_H

#include "core/sync/waitq.h"
#include "worker/worker.h"

#include <dlfcn.h>
#include <stdio.h>

/*
 * Block of the task's heap. FILE._lock leads here: libc is told not to lock (its locks know the
 * address of a thread, the same in every worker, and its waits end at the process), and we do.
 * OWNER  mu's holder, while a call is under way
 * DEATH  as that of a mutex; the next holder finds the stream as it is
 */
struct stream {
	char libc_lock[16]; /* written to by fclose */
	struct stream *next;
	FILE *file;
	bool parks;	/* its reads, writes and close are calls of ours */
	uint32_t depth; /* flockfile nests */
	struct shoal_mutex mu;
};

/* Of a stream that a goroutine has opened; NULL for all others. */
static inline struct stream *stream_of(const FILE *f)
{
	const char *lock = (const char *)f->_lock;

	/* libc's own is a part of the block that it has allocated. */
	return sh_in_segment(lock) && (size_t)(lock - (const char *)f) >= 1024 ? (struct stream *)lock : NULL;
}

/* Parks. NULL: not on a goroutine, or not such a stream; nothing is held then. */
struct stream *stream_hold(FILE *);
void stream_drop(struct stream *);
bool stream_try(struct stream *);

/* A call of libc's of the same name, looked up once in a worker: not before a park that precedes the call. */
#define LIBC(result, name, ...) \
	static result (*libc)(__VA_ARGS__); \
	if (!libc) \
	*(void **)&libc = dlsym(RTLD_NEXT, name)

#endif
