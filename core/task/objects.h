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

/* Variables of an object: whole pages, shared by all processes. */
struct object_range {
	uintptr_t start;
	size_t size;
	int prot;
	char *pristine;	     /* their content before the first constructor; private to the process */
	unsigned char *zero; /* a byte a page: there are only zeros in it */
};

/* One loaded file. */
struct object {
	const char *path, *soname; /* soname: NULL if it has none */
	uint64_t device, file;	   /* of the file that was copied */
	int64_t changed_ns;	   /* its ctime */
	void *map;		   /* the loader's struct link_map */
	uintptr_t base, end;	   /* of all its segments; end: first address behind them */
	uintptr_t text, text_end;
	const unsigned *needs; /* indices of the objects that it needs */
	unsigned nneeds;
	struct object_range *range;
	unsigned nranges;
	bool lazy;	   /* functions that it calls may be missing */
	uint64_t scope;	   /* of what a task has opened: which other opened objects it may find symbols in */
	size_t tls_module; /* the loader's number; 0: it has no thread-local variables */
	object_init *init, **init_array;
	object_fini *fini, **fini_array;
	size_t ninit, nfini;
};

struct objects {
	void *handle;	       /* the loader's, of the module */
	struct object *object; /* the module first, then its libraries breadth first */
	unsigned n, nlinked;   /* nlinked: the module and what it links; the rest has been opened by tasks */
	unsigned *order;       /* of the first nlinked, in which constructors run: each after those of what it needs */
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
/* Its variables are again as they were before the first constructor. */
void sh_object_reset(const struct object *);
void sh_object_destroy(const struct object *); /* and its destructors, in the opposite order */

#endif
