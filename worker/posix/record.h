/*
 * record.h - what a goroutine has of its own because a thread would: thread-local variables, C++ destructors of
 * them, values of keys, and what pthreads keep of a thread. Shared by tls.c, key.c, thread.c and their like.
 */
#ifndef WORKER_POSIX_RECORD_H
#define WORKER_POSIX_RECORD_H

#include "worker/posix/posix.h"

#include <pthread.h>

/* The thread-local variables of one library: a block of the task's heap. module: as the loader numbers them, 0: none. */
struct tls_block {
	size_t module;
	char *at;
};

struct tls_destructor {
	void (*fn)(void *);
	void *arg;
	struct tls_destructor *next;
};

struct key_value {
	pthread_key_t key;
	const void *value;
};

#define TLS_NEAR 4
#define OWN_MAGIC 0x6e776f73u

enum thread_state { THREAD_DETACHED = 1, THREAD_ENDED = 2, THREAD_JOINING = 4 };
#define CANCEL_PENDING 1u
#define CANCEL_DISABLED 2u
#define CANCEL_ASYNC 4u
#define CANCEL_EXITING 8u /* it is being left: no cancellation any more */
#define CANCEL_INSIDE 16u /* its caller holds something of the runtime */

/*
 * A pthread_t is the address of one. The goroutine's is made when it first needs one, that of a thread by its
 * creator. It stays until the thread has ended and is joined or detached.
 * OWNER  the goroutine, by g->own; GF_OWN says that there is one
 * LOCK   none: only the worker that runs the goroutine touches it, but for state and cancel, which change by
 *        atomic operations. Who sets the second of THREAD_ENDED and THREAD_DETACHED frees it; so does who has joined it
 * ORDER  result is stored before THREAD_ENDED; THREAD_JOINING is set before the joiner looks for that
 * DEATH  a goroutine that is lost takes it along: the memory comes back with the task. One that starts
 *        again begins with none, or, a thread, with all but state anew
 */
struct own {
	struct tls_block near[TLS_NEAR]; /* near[module % TLS_NEAR] */
	struct tls_block *far;		 /* the others: a hash table of far_size entries, at most half of them in use */
	uint32_t far_size, far_used;
	struct tls_destructor *destructors;
	struct key_value *values; /* a hash table of `room` entries, at most half of them in use */
	uint32_t nvalues, room;

	uint32_t magic;
	_Atomic uint32_t state; /* enum thread_state */
	uint64_t gid;		/* of its goroutine */
	void *result;
	struct own *joins;	 /* the thread that it waits for */
	_Atomic uint32_t cancel; /* CANCEL_PENDING is set by others */
	void *cleanups;		 /* __pthread_unwind_buf_t of the innermost handler; old_cleanups: of the old macros */
	void *old_cleanups;
	void *unwinding; /* the exception that unwinds its stack */
	uint64_t cpus;	 /* its affinity as it was set, 0: it was not */
	uint8_t policy, priority;
	char name[16];
	char *stack; /* memory that the program gave for its stack, or NULL */
	size_t stack_size;
};

static inline struct own *own_of(const struct g *g)
{
	return g->own;
}

struct own *own_make(struct g *); /* thread.c. NULL: there is no memory */

void tls_free(struct g *, struct own *); /* the blocks; the goroutine touches no thread-local variable any more */
void tls_run_destructors(struct g *);	 /* last one first, and those that they add. May park */
void key_run_destructors(struct g *, struct own *); /* key.c. May park */

#endif
