/*
 * tls.h - whose thread-local variables a thread of this process uses: tls.c.
 */
#ifndef WORKER_POSIX_TLS_H
#define WORKER_POSIX_TLS_H

#include "core/sched/m.h"
#include "worker/stacks.h"

#include <stddef.h>

/* The goroutine that this thread runs, on whatever stack it stands; NULL: none. */
static inline struct g *tls_g(void)
{
	return __builtin_expect(on_worker_thread(), 1) ? getg() : NULL;
}

#endif
