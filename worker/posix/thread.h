/*
 * thread.h - threads of pthreads and C11 are goroutines: thread.c, thread_attr.c, thread_cancel.c.
 */
#ifndef WORKER_POSIX_THREAD_H
#define WORKER_POSIX_THREAD_H

#include "worker/posix/record.h"

#include <pthread.h>

/*
 * This process has threads that are no goroutines: libraries' own. (__libc_single_threaded says always that there
 * are threads, so that C++ counts references by atomic operations.)
 */
extern bool thread_real_ones;
/* The record that a pthread_t of this task means; NULL: it means no thread, or one that was joined. */
struct own *thread_of(pthread_t);
/* Its goroutine, NULL: it has ended. */
struct g *thread_g(const struct own *);
int thread_number(const struct g *); /* as gettid gives it: no thread of the system has such a number */
void thread_adopt(struct g *child);  /* in host_g_inherit: the record that pthread_create has made for it */
/* What attributes ask for. */
struct thread_options {
	struct shoal_go_opts go;
	int detach;
	char *given; /* memory for its stack, or NULL */
	size_t given_size;
};
/* The attributes may be NULL. 0 or an error of pthread_create. */
int thread_options(const pthread_attr_t *, struct thread_options *);

#endif
