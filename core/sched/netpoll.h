/*
 * netpoll.h - goroutines that wait for descriptors.
 *
 * Go's pollDesc, indexed by descriptor number: all workers share one descriptor table, so a number
 * means one file for all. One epoll set (sh_root->poll_fd) is shared as well and outlives every
 * worker: a descriptor is put into it once, edge triggered, and whoever polls takes the events
 * of all. So a death leaves no descriptor unwatched; who sleeps in the set is sched.poller.
 *
 * Waiting is an event count. A waiter reads edges, tries its system call, and parks; once it waits
 * it puts itself into a slot and looks at edges again. Who has an event raises edges and wakes all
 * in the slots. A slot is a hint, like an entry of a timer heap: it names G and park sequence,
 * and wakes nobody once that wait is over. So nobody has to take a slot back, and any number of
 * goroutines may wait for one descriptor, and one for many.
 */
#ifndef CORE_SCHED_NETPOLL_H
#define CORE_SCHED_NETPOLL_H

#include "shm/segment.h"

#include <stdatomic.h>
#include <stdint.h>

struct m;
struct task;

/* As epoll_wait writes it: worker/netpoll.c checks that. */
struct net_event {
	uint32_t events;
#if !defined(__x86_64__)
	uint32_t pad;
#endif
	uint32_t fd, gen;
};
#define NET_READ 0x201bu /* EPOLLIN, PRI, ERR, HUP, RDHUP */
#define NET_WRITE 0x1cu	 /* EPOLLOUT, ERR, HUP */
#define NET_END 0x2018u	 /* EPOLLERR, HUP, RDHUP */
#define POLL_BATCH 64

#define POLL_FDS (1u << 20)
#define POLL_SLOTS 4
#define POLL_MORE 15

enum poll_mode { POLL_READ, POLL_WRITE, POLL_MODES };

/* What the worker has found out about the file behind the number. */
enum poll_kind {
	PD_UNKNOWN,
	PD_SOCKET,
	PD_NOWAIT,   /* pipe and the like: RWF_NOWAIT works */
	PD_POLLABLE, /* it does not: poll first */
	PD_PLAIN     /* cannot be waited for: a system call */
};

/*
 * OWNER  the task in poll_owner[fd]; the words are atomic, each whole by itself
 * ORDER  a waiter: slot, then edges; a waker: edges, then slots (both sequentially consistent)
 * DEATH  an event that was taken out of the set lies in m->events until it was delivered: the medic
 *        delivers it once more. A waiter's slot is a hint. A block of more slots that was taken
 *        and not chained is lost: 128 of 2^27 bytes
 */
struct polldesc {
	_Atomic uint32_t gen;	     /* raised when the number is closed: who waits for the old file wakes */
	_Atomic uint32_t registered; /* gen + 1 of the file that is in the set */
	_Atomic uint32_t edges[POLL_MODES];
	_Atomic uint32_t drained;	   /* edges[POLL_READ] at which a read came back short: nothing is there */
	_Atomic uint32_t more[POLL_MODES]; /* index of a block of more slots, 0 for none */
	_Atomic uint8_t kind, drain;	   /* drain: 1 if a short read means that nothing is left (streams) */
	_Atomic uint64_t accepting;	   /* G and sequence of who accepts: one at a time */
	_Atomic int64_t timeo[POLL_MODES]; /* SO_RCVTIMEO, SO_SNDTIMEO in ns, 0 for none */
	_Atomic uint64_t slot[POLL_MODES][POLL_SLOTS];
};

struct pollmore {
	_Atomic uint64_t slot[POLL_MORE];
	_Atomic uint32_t next;
};

#define POLL_POOL (1u << 20)
#define polldesc(fd) ((struct polldesc *)(SH_BASE + SH_OFF_POLL) + (fd))
#define pollmore(i) ((struct pollmore *)(SH_BASE + SH_OFF_POLL + (1ul << 27)) + (i))
#define poll_owner ((_Atomic uint32_t *)(SH_BASE + SH_OFF_POLL + (1ul << 28))) /* task slot + 1 of each descriptor */
#define POLL_CLOSING (1u << 31)
#define POLL_INNER (1u << 30) /* the task's, but held by the runtime for it: the task can neither see nor close it */
#define POLL_RUNTIME 0x7fffffffu
#define POLL_HELD 0x7ffffffeu /* another number of one that may be a stray: supervisor/zygote/strays.c */

struct pollwait {
	int fd;
	unsigned mode;
	uint32_t gen, edges;
};

/* Begins a wait: what comes after this is not missed. Then the try, then netpoll_wait. */
static inline struct pollwait netpoll_begin(int fd, enum poll_mode mode)
{
	struct polldesc *d = polldesc(fd);

	return (struct pollwait){fd, mode, atomic_load_explicit(&d->gen, memory_order_acquire),
				 atomic_load_explicit(&d->edges[mode], memory_order_acquire)};
}

/* Waits for any of n. Parks. 0: look again; -ETIMEDOUT at the time `when` (0: never), -ECANCELED, -EBADF: one was closed. */
int netpoll_wait(struct pollwait *, unsigned n, int64_t when);
unsigned netpoll_deliver(struct m *,
			 unsigned n); /* the first n in m->events, our own or a dead worker's: how many were woken */
unsigned netpoll_closed_repair(uint32_t closed); /* medic: note.closed of the dead; how many were woken */
void netpoll_closed(int fd);	       /* the number is about to be closed or to mean another file: who waits wakes */
void netpoll_task_over(struct task *); /* medic: closes what the task has left open */

#endif
