/*
 * output.h - the output buffers of a worker: what its goroutine has written and the file does not have yet.
 *
 * core reserves the room in struct m and knows only its size.
 */
#ifndef WORKER_OUTPUT_H
#define WORKER_OUTPUT_H

#include "core/sched/m.h"

#include <stdatomic.h>
#include <stdint.h>

#define OUT_SIZE 4096
/*
 * Output of the running G, for stdout or stderr: a ring.
 * OWNER  the worker
 * LOCK   none
 * ORDER  the bytes, then held with release
 * DEATH  the medic writes what held names before the G can run again: host_output_finish
 */
struct outbuf {
	_Atomic uint64_t held; /* number of bytes << 32 | position of the first; 0: none */
	char buf[OUT_SIZE];
};
_Static_assert(2 * sizeof(struct outbuf) <= M_OUTPUT_SIZE, "both buffers fit the room in struct m");

static inline struct outbuf *m_out(struct m *m, int stream)
{
	return (struct outbuf *)m->output + stream;
}

#endif
