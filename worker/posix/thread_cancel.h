/*
 * thread_cancel.h - points of cancellation: thread_cancel.c.
 */
#ifndef WORKER_POSIX_THREAD_CANCEL_H
#define WORKER_POSIX_THREAD_CANCEL_H

#include "worker/posix/record.h"

#include <errno.h>

void thread_cancel_look(struct g *);  /* at such a point: ends the thread if it is cancelled */
void thread_cancel_async(struct g *); /* anywhere in code of the module: the same, of one that asked for that */

/* Between the two no call acts on a cancellation: its caller holds something of the runtime. */
bool thread_cancel_suspend(void); /* returns whether it was so before */
void thread_cancel_resume(bool before);

static inline void cancel_point_begin(void)
{
	struct g *g = on_g();

	if (g && __builtin_expect(g_cancelled(g), 0))
		thread_cancel_look(g);
}

static inline void cancel_point_end(const char *unused)
{
	struct g *g;

	(void)unused;
	if (__builtin_expect(errno == ECANCELED, 0) && (g = on_g()) && g_cancelled(g))
		thread_cancel_look(g);
}

/*
 * In a function of libc that is a point of cancellation, before all other statements: a cancelled thread ends at once,
 * or, if it was cancelled while the call waited (errno is ECANCELED), when the function returns.
 */
#define CANCEL_POINT() \
	__attribute__((cleanup(cancel_point_end), unused)) const char cancel_point_here = (cancel_point_begin(), 0)

#endif
