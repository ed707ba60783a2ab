/*
 * constructors.c - constructors and destructors of a module and of its libraries.
 *
 * They run as in a process of its own: constructors on the root goroutine before the entry, destructors
 * at the end that main or exit makes, after the handlers of atexit. So what they allocate, open and print
 * is the task's.
 *
 * DEATH  of the root in a constructor: as anywhere else in it. `constructed` belongs to the run that has died
 */
#include "core/g/g.h"
#include "core/host.h"
#include "core/task/objects.h"
#include "shm/kill.h"
#include "worker/posix/constructors.h"
#include "worker/posix/dl.h"
#include "worker/posix/own.h"

#include <unistd.h>

void host_task_begin(struct g *g)
{
	const struct objects *s = sh_objects_of(g->task);
	struct task *t = g->task;

	for (unsigned i = 0; s && i < s->nlinked; i++) {
		/* Before the call: natively the destructors of an object run although a constructor calls exit. */
		atomic_store(&task_own(t)->constructed, i + 1);
		KILL_POINT("constructors.counted");
		sh_object_construct(&s->object[s->order[i]], t->argc, t->argv, environ);
	}
}

void constructors_undo(struct task *t)
{
	const struct objects *s;
	unsigned n =
		atomic_exchange(&task_own(t)->constructed, 0); /* a destructor that calls exit does not begin again */

	KILL_POINT("constructors.taken");
	dl_end(getg());
	s = sh_objects_of(t);
	for (unsigned i = n; s && i-- > 0;)
		if (i < s->nlinked)
			sh_object_destroy(&s->object[s->order[i]]);
}
