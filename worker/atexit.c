/*
 * atexit.c - what a task wants done at its end: when main returns or anybody calls exit. libc's own
 * list is the process's, and a worker ends when no task does.
 *
 * LOCK   task->lock
 * DEATH  a handler is off the list before it is called: none runs twice
 */
#include "core/host.h"
#include "core/sync.h"
#include "shm/kill.h"
#include "worker/worker.h"

#include <dlfcn.h>

struct handler {
	struct handler *next;
	void (*fn)(void *);
	void *arg;
};

int __cxa_atexit(void (*fn)(void *), void *arg, void *module);

/* What atexit() and the destructors of C++ come down to. */
int __cxa_atexit(void (*fn)(void *), void *arg, void *module)
{
	static int (*libc)(void (*)(void *), void *, void *);
	struct g *g = on_g();
	struct handler *h;

	if (!g) {
		if (!libc)
			*(void **)&libc = dlsym(RTLD_NEXT, "__cxa_atexit");
		return libc(fn, arg, module);
	}
	h = g_alloc(g, sizeof *h);
	if (!h)
		return -1;
	h->fn = fn;
	h->arg = arg;
	acquirem();
	sh_lock_take(&g->task->lock, (unsigned)getm->seat);
	h->next = g->task->own.handlers;
	g->task->own.handlers = h;
	KILL_POINT("atexit.listed");
	sh_lock_drop(&g->task->lock, (unsigned)getm->seat);
	releasem();
	return 0;
}

/* The last to be listed first. One that calls exit leaves the rest to that call. */
void host_task_exit(struct g *g)
{
	struct handler *h;

	for (;;) {
		acquirem();
		sh_lock_take(&g->task->lock, (unsigned)getm->seat);
		h = g->task->own.handlers;
		if (h)
			g->task->own.handlers = h->next;
		KILL_POINT("atexit.taken");
		sh_lock_drop(&g->task->lock, (unsigned)getm->seat);
		releasem();
		if (!h)
			break;
		h->fn(h->arg);
		g_free(g, h);
	}
	g->flags &= (uint8_t)~GF_OWN; /* what else it has of its own is not ended by an end of the task */
	streams_flush(g);
}
