/*
 * sim_net.c - descriptors of a simulated kernel: pipes of bytes, and the epoll set with its edges.
 *
 * What the kernel does is not interrupted: there is no point inside. An edge that came while a
 * pipe's last one was not taken yet is the same one, as in epoll.
 */
#include "tests/sim/sim.h"
#include "core/g/g.h"
#include "core/host.h"
#include "core/root.h"
#include "core/sched/m.h"
#include "core/sched/netpoll.h"
#include "shm/kill.h"

#include <errno.h>
#include <string.h>

#define PIPES 8

static struct {
	unsigned bytes;
	bool closed, watched, edge;
	uint32_t gen; /* with which it was put into the set */
} pipes[PIPES];

void sim_net_begin(void)
{
	memset(pipes, 0, sizeof pipes);
}

bool sim_net_edge(void)
{
	for (unsigned i = 0; i < PIPES; i++)
		if (pipes[i].edge)
			return true;
	return false;
}

bool sim_pipe_lost(unsigned i)
{
	return pipes[i].bytes > 0 || pipes[i].closed;
}

static void edge_on(unsigned i)
{
	if (!pipes[i].watched || pipes[i].closed)
		return;
	pipes[i].edge = true;
	if (atomic_load(&sched.poller) != NOSEAT)
		host_wake((unsigned)atomic_load(&sched.poller)); /* wakes the worker that sleeps in epoll */
}

void sim_pipe_watch(unsigned i)
{
	pipes[i].watched = true;
	pipes[i].gen = atomic_load(&polldesc(SIM_PIPE_FD(i))->gen);
}

void sim_pipe_put(unsigned i)
{
	pipes[i].bytes++;
	edge_on(i);
}

void sim_pipe_close(unsigned i)
{
	pipes[i].closed = true; /* this end is closed: only the runtime can tell its waiters */
	pipes[i].edge = false;
	netpoll_closed(SIM_PIPE_FD(i));
}

int sim_pipe_take(unsigned i, int64_t when)
{
	for (;;) {
		struct pollwait w = netpoll_begin(SIM_PIPE_FD(i), POLL_READ);
		int r;

		KILL_POINT("sim.pipe.looked");
		if (pipes[i].closed)
			return -EBADF;
		if (pipes[i].bytes > 0) {
			pipes[i].bytes--;
			return 0;
		}
		KILL_POINT("sim.pipe.empty");
		if (!pipes[i].watched && !pipes[i].closed) {
			pipes[i].watched = true;
			pipes[i].gen = w.gen;
			if (pipes[i].bytes > 0)
				edge_on(i);
		}
		r = netpoll_wait(&w, 1, when);
		if (r < 0)
			return r;
	}
}

unsigned host_poll(void)
{
	struct m *m = getm;
	unsigned n = 0;

	for (unsigned i = 0; i < PIPES; i++)
		if (pipes[i].edge) {
			pipes[i].edge = false;
			m->events[n++] =
				(struct net_event){.events = 1, .fd = (uint32_t)SIM_PIPE_FD(i), .gen = pipes[i].gen};
		}
	if (!n)
		return 0;
	KILL_POINT("sim.net.taken");
	return netpoll_deliver(m, n);
}
