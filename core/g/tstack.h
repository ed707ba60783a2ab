/*
 * tstack.h - stacks of threads: tstack.c.
 *
 * A goroutine that pthread_create has made, and the root of a task, have a stack of their own in shared memory. It is
 * at the same addresses in every process for the life of the goroutine. So other goroutines can use pointers into it,
 * on any worker, while it runs or waits, and nothing is copied when another worker runs it.
 *
 *	SH_STACKS	class 0			class 1
 *			|gap|stack|gap|stack|...|  gap  |   stack   |  gap  |   stack   |...
 *
 * g->win is WIN_THREADS + the number of the stack.
 */
#ifndef CORE_G_TSTACK_H
#define CORE_G_TSTACK_H

#include "core/g/stack.h"
#include "shm/segment.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIN_THREADS 0x10000u
#define TSTACK_MAX (1ul << 30) /* the largest stack that a thread can have */
#define TSTACK_CLASSES 6u
#define TSTACK_GAP_LEAST (64ul << 10)
#define TSTACK_GAP_GUARDED (1ul << 20) /* a gap of this size or more is unmapped */

/* Stacks of one size. The gap below each one faults. */
struct tstack_class {
	size_t size, gap;
	uint32_t n, first; /* how many; number of the first one */
	uintptr_t base;
};
extern const struct tstack_class tstack_class[TSTACK_CLASSES];
#define TSTACKS 803328u /* all of them */

static inline bool win_of_thread(uint32_t win)
{
	return win - WIN_THREADS < TSTACKS;
}

/* g->win of a goroutine that has a stack. */
static inline bool win_valid(uint32_t win)
{
	return win < WIN_ALL || win_of_thread(win);
}

static inline const struct tstack_class *tstack_class_of(uint32_t win)
{
	const struct tstack_class *c = tstack_class;

	while (c < &tstack_class[TSTACK_CLASSES - 1] && win - WIN_THREADS - c->first >= c->n)
		c++;
	return c;
}

/* Lowest address of the stack. */
static inline char *tstack_low(uint32_t win)
{
	const struct tstack_class *c = tstack_class_of(win);

	return (char *)c->base + (win - WIN_THREADS - c->first) * (c->size + c->gap) + c->gap;
}

struct g;

/* Gives g a stack of at least this size, before its first run. False: all are in use. */
bool tstack_bind(struct g *g, size_t size);
void tstack_unbind(struct g *g); /* at the end of g; may be done twice. Nothing if it has none */
/* For a new process in the seat: it has set no guard yet, so it enters each stack as one that another worker had. */
void tstack_forget_seat(int seat);
/* medic: gives memory of free stacks back to the system. True: there is more to do. */
bool tstack_sweep(int64_t now);
const char *tstack_fault(uint32_t i); /* what is wrong with the stack of this number, or NULL */
uint32_t tstack_top(unsigned class);  /* numbers of the class from its first on that were in use ever */

#endif
