/*
 * netpoll.h - goroutines that wait for descriptors.
 *
 * Go's pollDesc, indexed by descriptor number: all workers share one descriptor table, so a number means
 * the same file everywhere. They share one epoll set as well (sh_root->poll_fd), which outlives every
 * worker. A descriptor is added to it once, edge triggered, and whichever worker polls takes the events
 * for all. So a death leaves no descriptor unwatched. sched.poller is the worker that sleeps in the set.
 *
 * Readiness is never an answer to the program: each call is tried first, and only a call that would block
 * asks netpoll when to try again.
 *
 * A wait is an event count:
 *
 *      waiter                                   poller
 *   a  w = netpoll_begin(fd): reads gen, edges
 *   b  tries its system call: would block
 *   c  parks: status becomes waiting
 *   d  writes its name into a slot           e  edges++
 *   f  reads edges again: changed? wakes     g  wakes every name in the slots
 *
 * d before f and e before g, all sequentially consistent. If f does not see e, then g sees d. A slot is a
 * hint, like an entry of a timer heap: it names G and park sequence and wakes nothing once that wait is
 * over. So slots need not be taken back, and many goroutines can wait for one descriptor, or one for many.
 */
#ifndef CORE_SCHED_NETPOLL_H
#define CORE_SCHED_NETPOLL_H

#include "shm/segment.h"

#include <stdatomic.h>
#include <stdint.h>

struct m;
struct task;

/*
 * As epoll_wait writes it; worker/netpoll.c checks the layout.
 * OWNER  the worker that polled
 * LOCK   none
 * ORDER  the kernel writes it; events = 0 after the delivery
 * DEATH  the medic delivers what is left in m->events
 */
struct net_event {
	uint32_t events;
#if !defined(__x86_64__)
	uint32_t pad;
#endif
	uint32_t fd, gen;
};
#define NET_READ 0x201bu /* EPOLLIN, PRI, ERR, HUP, RDHUP */
#define NET_WRITE 0x1cu	 /* EPOLLOUT, ERR, HUP */
#define POLL_BATCH 64

#define POLL_FDS (1u << 20)
#define POLL_SLOTS 4
#define POLL_MORE 15

enum poll_mode { POLL_READ, POLL_WRITE, POLL_MODES };

/* What is known about the file behind the number. */
enum poll_kind {
	PD_UNKNOWN,
	PD_SOCKET,
	PD_NOWAIT,   /* a pipe or the like: RWF_NOWAIT works */
	PD_POLLABLE, /* RWF_NOWAIT does not work: poll first */
	PD_PLAIN     /* cannot be polled: needs a system call that may block */
};

/*
 * A descriptor.
 * OWNER  the task named in poll_owner[fd]; the words are atomic and each is whole by itself
 * LOCK   none
 * ORDER  a waiter stores its slot, then reads edges; a poller raises edges, then reads slots (both
 *        sequentially consistent)
 * DEATH  an event taken out of the set stays in m->events until it is delivered: the medic delivers it
 *        again. A slot is a hint. A block of more slots that was taken and not chained is lost: 128 of
 *        2^27 bytes
 */
struct polldesc {
	/* raised when the number is closed: waiters for the old file wake. Pairs with netpoll_begin */
	_Atomic uint32_t gen;
	_Atomic uint32_t registered;	    /* gen + 1 of the file that is in the epoll set */
	_Atomic uint32_t edges[POLL_MODES]; /* raised before the waiters wake: pairs with netpoll_begin */
	_Atomic uint32_t more[POLL_MODES];  /* index of a block of more slots, 0: none; pairs with netpoll_publish */
	_Atomic uint8_t kind, sock_type;    /* sock_type: SOCK_STREAM and so on, if kind is PD_SOCKET */
	_Atomic uint8_t in_calls;	    /* 1: some call has blocked in the kernel on this file, see m->call_fd */
	_Atomic uint32_t lowat;		    /* SO_RCVLOWAT: a read of a stream waits for so many bytes */
	_Atomic uint64_t accepting;	    /* G and park sequence of the one that accepts */
	_Atomic int64_t timeo[POLL_MODES];  /* SO_RCVTIMEO and SO_SNDTIMEO in ns, 0: none */
	_Atomic uint64_t slot[POLL_MODES][POLL_SLOTS];
};

/*
 * A block of more slots for one descriptor.
 * OWNER  all waiters, by compare-and-swap of single words
 * LOCK   none
 * ORDER  see struct polldesc; next is set once, by compare-and-swap
 * DEATH  a block that was taken and not chained is lost
 */
struct pollmore {
	_Atomic uint64_t slot[POLL_MORE];
	_Atomic uint32_t next; /* of the chain, as in more: pairs with netpoll_publish */
};

#define POLL_POOL (1u << 20)
#define polldesc(fd) ((struct polldesc *)(SH_BASE + SH_OFF_POLL) + (fd))
#define pollmore(i) ((struct pollmore *)(SH_BASE + SH_OFF_POLL + (1ul << 27)) + (i))
#define poll_owner ((_Atomic uint32_t *)(SH_BASE + SH_OFF_POLL + (1ul << 28))) /* task slot + 1 of each descriptor */
#define POLL_CLOSING (1u << 31)
#define POLL_INNER (1u << 30) /* held by the runtime on behalf of the task, which can neither see nor close it */
#define POLL_RUNTIME 0x7fffffffu
#define POLL_HELD 0x7ffffffeu /* a second number for a file that may be a stray: supervisor/daemon/sweep.c */

/* Of any number that a program may name; one that is out of range cannot be waited for. */
static inline struct polldesc *polldesc_of(int fd)
{
	return polldesc((unsigned)fd < POLL_FDS ? fd : 0);
}

struct pollwait {
	int fd;
	unsigned mode;
	uint32_t gen, edges;
};

/* Begins a wait. Any event from here on ends the netpoll_wait that follows the failed try. */
static inline struct pollwait netpoll_begin(int fd, enum poll_mode mode)
{
	const struct polldesc *d = polldesc_of(fd);

	return (struct pollwait){fd, mode, atomic_load_explicit(&d->gen, memory_order_acquire),
				 atomic_load_explicit(&d->edges[mode], memory_order_acquire)};
}

/*
 * Waits for any of n, or, with n = 0, for the time alone. Parks. 0: try again; -ETIMEDOUT at the time `when`
 * (0: none), -ECANCELED, -EBADF: one was closed. -EINTR, -ERESTART: as wait_signals.
 */
int netpoll_wait(struct pollwait *, unsigned n, int64_t when);
/* Delivers the first n of m->events, our own or a dead worker's; returns how many goroutines it woke. */
unsigned netpoll_deliver(struct m *, unsigned n);
/* medic: for note.closed of a dead worker; returns how many it woke */
unsigned netpoll_closed_repair(uint32_t closed);
/*
 * The number does not lead to its file any more: all that wait for the file wake and get -EBADF. A call
 * that looks before this sees the old gen, one that looks after it cannot reach the file.
 */
void netpoll_closed(int fd);
void netpoll_task_over(struct task *); /* medic: closes what the task has left open */

#endif
