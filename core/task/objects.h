/*
 * objects.h - the module and the libraries of each instance, with their addresses in this process.
 *
 * OWNER  the zygote fills the table. A worker has the copy from when it was cloned, and runs only tasks whose
 *        instance is in it. The table is private to the process
 * DEATH  the table is lost with the process
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
	char *pristine;	     /* initial content, before the first constructor; private to the process */
	unsigned char *zero; /* one byte for each page: true if the page is all zeros */
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
	bool lazy; /* opened with RTLD_LAZY: functions that it calls may be missing */
	/* for an object that a task has opened: stands for the list of global objects at that time */
	uint64_t scope;
	size_t tls_module; /* the loader's number of the object; 0: it has no thread-local variables */
	object_init *init, **init_array;
	object_fini *fini, **fini_array;
	size_t ninit, nfini;
};

struct objects {
	void *handle;	       /* the loader's handle of the module */
	struct object *object; /* the module first, then its libraries breadth first */
	unsigned n, nlinked;   /* nlinked: the module and its libraries; tasks have opened the others */
	/* order of constructors of the first nlinked: an object after the objects that it needs */
	unsigned *order;
	unsigned *by_text;
};

/* Called by the zygote: sets the objects of an instance and fills in by_text. NULL: the instance has none any more. */
void sh_objects_set(uint32_t instance, struct objects *);
/* Returns the objects of the task's instance, or NULL if this process does not have it. */
const struct objects *sh_objects_of(const struct task *);
/* Returns the object of the task whose code contains the address, or NULL. Async-signal-safe. */
const struct object *sh_objects_text(const struct task *, uintptr_t pc);

/* Calls the constructors of one object, as ld.so does. */
void sh_object_construct(const struct object *, int argc, char **argv, char **envp);
/* Restores its variables to their values before the first constructor. */
void sh_object_reset(const struct object *);
void sh_object_destroy(const struct object *); /* calls its destructors, in reverse order */

#endif
