/*
 * atexit.c - what a task wants done at its end: when main returns or anybody calls exit, or quick_exit.
 * libc's own lists are the process's, and a worker ends when no task does.
 *
 * LOCK   task->lock
 * DEATH  a handler is off the list before it is called: none runs twice
 */
#include "core/host.h"
#include "core/sync/waitq.h"
#include "shm/kill.h"
#include "worker/posix/constructors.h"
#include "worker/posix/libc.h"
#include "worker/posix/own.h"
#include "worker/posix/record.h"

#include <stdlib.h>
#include <unistd.h>

struct handler {
	struct handler *next;
	void (*fn)(void *);
	void *arg;
};

int __cxa_atexit(void (*fn)(void *), void *arg, void *module);
int __cxa_at_quick_exit(void (*fn)(void *), void *module);

static int list(struct g *g, void **head, void (*fn)(void *), void *arg)
{
	struct handler *h = g_alloc(g, sizeof *h);

	if (!h)
		return -1;
	h->fn = fn;
	h->arg = arg;
	acquirem();
	sh_lock_take(&g->task->lock, (unsigned)getm->seat);
	h->next = *head;
	*head = h;
	KILL_POINT("atexit.listed");
	sh_lock_drop(&g->task->lock, (unsigned)getm->seat);
	releasem();
	return 0;
}

/* What atexit() and the destructors of C++ come down to. */
int __cxa_atexit(void (*fn)(void *), void *arg, void *module)
{
	static int (*libc)(void (*)(void *), void *, void *);
	struct g *g = on_g();

	if (g)
		return list(g, &task_own(g->task)->handlers, fn, arg);
	LIBC_FIND(libc, "__cxa_atexit");
	return libc(fn, arg, module);
}

int __cxa_at_quick_exit(void (*fn)(void *), void *module)
{
	static int (*libc)(void (*)(void *), void *);
	struct g *g = on_g();

	if (g)
		return list(g, &task_own(g->task)->quick_handlers, fn, NULL);
	LIBC_FIND(libc, "__cxa_at_quick_exit");
	return libc(fn, module);
}

/* The last to be listed first. One that calls exit leaves the rest to that call. */
static void call_all(struct g *g, void **head)
{
	struct handler *h;

	for (;;) {
		acquirem();
		sh_lock_take(&g->task->lock, (unsigned)getm->seat);
		h = *head;
		if (h)
			*head = h->next;
		KILL_POINT("atexit.taken");
		sh_lock_drop(&g->task->lock, (unsigned)getm->seat);
		releasem();
		if (!h)
			return;
		h->fn(h->arg);
		g_free(g, h);
	}
}

void host_task_exit(struct g *g)
{
	tls_run_destructors(g); /* those of who calls exit, before all handlers: the C++ standard, basic.start.term */
	call_all(g, &task_own(g->task)->handlers);
	constructors_undo(g->task);
	g->flags &= (uint8_t)~GF_OWN; /* values of keys have no destructor at the end of a task */
	streams_flush(g);
}

/* As C has it: none of exit's handlers, and what is in streams is not written. */
void quick_exit(int code)
{
	static void (*libc)(int);
	struct g *g = on_g();

	if (g) {
		call_all(g, &task_own(g->task)->quick_handlers);
		_exit(code);
	}
	LIBC_FIND(libc, "quick_exit");
	libc(code);
	abort();
}
