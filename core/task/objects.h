/*
 * objects.h - the module and the libraries of each instance, where they lie in this process.
 *
 * OWNER  the zygote fills the table; a worker has the copy with which it was cloned, and runs only
 *        tasks whose instance is in it. All of it is private to the process
 * DEATH  goes with the process
 */
#ifndef CORE_TASK_OBJECTS_H
#define CORE_TASK_OBJECTS_H

#include "core/task/task.h"

typedef void object_init(int argc, char **argv, char **envp);
typedef void object_fini(void);

/* One loaded file. */
struct object {
	const char *path;
	void *map;			/* the loader's struct link_map */
	uintptr_t base, text, text_end; /* text_end: first address behind it */
	size_t tls_module;		/* the loader's number; 0: it has no thread-local variables */
	object_init *init, **init_array;
	object_fini *fini, **fini_array;
	size_t ninit, nfini;
};

struct objects {
	void *handle;	       /* the loader's, of the module */
	struct object *object; /* the module first, then its libraries breadth first */
	unsigned n;
	unsigned *order; /* in which constructors run: each after those of what it needs */
	unsigned *by_text;
};

/* Zygote: the objects of an instance from now on. by_text is filled in here. NULL: it has none any more. */
void sh_objects_set(uint32_t instance, struct objects *);
/* NULL: this process does not have the instance. */
const struct objects *sh_objects_of(const struct task *);
/* The object of the task in whose text the address lies. Async-signal-safe. NULL: none. */
const struct object *sh_objects_text(const struct task *, uintptr_t pc);

/* Calls the constructors of one object, as ld.so does. */
void sh_object_construct(const struct object *, int argc, char **argv, char **envp);
void sh_object_destroy(const struct object *); /* and its destructors, in the opposite order */

#endif
