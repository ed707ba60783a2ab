/*
 * output.h - what a goroutine has written to stdout and stderr and the worker has not yet given to the file.
 *
 * core reserves the room in struct m and knows no more of it than the size.
 */
#ifndef WORKER_OUTPUT_H
#define WORKER_OUTPUT_H

#include "core/sched/m.h"

#include <stdatomic.h>
#include <stdint.h>

/* What the running G has written to stdout and stderr and not yet given to the file: a ring. */
#define OUT_SIZE 4096
struct outbuf {
	_Atomic uint64_t held; /* how many << 32 | where the first one is; 0: none. Stored after the bytes */
	char buf[OUT_SIZE];
};
_Static_assert(2 * sizeof(struct outbuf) <= M_OUTPUT_SIZE, "both buffers fit the room in struct m");

static inline struct outbuf *m_out(struct m *m, int stream)
{
	return (struct outbuf *)m->output + stream;
}

#endif
