/*
 * stacks.h - which stack the caller stands on: stacks.c.
 */
#ifndef WORKER_STACKS_H
#define WORKER_STACKS_H

#include "core/g/g.h"
#include "core/g/tstack.h"
#include "core/host.h"
#include "shm/segment.h"

void stacks_start(void);	 /* in each worker, by its own thread */
bool window_fault(uintptr_t at); /* in the crash handler: it was a window to be mapped, and is */
void stack_g0(char *top);
void stack_private(const void *low, size_t n); /* a stack of the process: code on it is not the goroutine's */
bool on_worker_thread(void);		       /* not a thread that a library has made */
uintptr_t stack_bottom(const struct g *);      /* lowest address of its stack that can be used. Its window is bound */
size_t stack_guard(uint32_t w, size_t stack_max); /* offset of the guard page in the window; 0: it needs none */

/* The address lies in the window of this goroutine. */
static inline bool in_window(const struct g *g, const void *at)
{
	uintptr_t off = (uintptr_t)at - SH_WIN_BASE;

	if (__builtin_expect(off / SH_WIN_STRIDE == g->win, 1))
		return true;
	if (win_of_thread(g->win))
		return (uintptr_t)at - (uintptr_t)tstack_low(g->win) < tstack_class_of(g->win)->size;
	return g->win >= WIN_COUNT && g->win < WIN_ALL &&
	       (uintptr_t)at - (uintptr_t)host_window(g->win) < host_window_size(g->win);
}

#endif
