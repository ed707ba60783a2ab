/*
 * instance.h - loads modules with their libraries, in the zygote.
 */
#ifndef SUPERVISOR_ZYGOTE_INSTANCE_H
#define SUPERVISOR_ZYGOTE_INSTANCE_H

#include "core/task/objects.h"

/* One copy of a module and its libraries at addresses of its own. */
struct instance;

struct load {
	int module, libraries; /* descriptors: the module, and its list of libraries (closure.h) */
	uint64_t number;       /* number of the load */
	const char *name;      /* for messages */
	/* a function that the module must have, otherwise the load fails with 127; NULL: none */
	const char *entry;
	bool trial; /* called in a trial: change nothing that outlives this process */
};

/* Returns NULL on failure; then *code is an exit code and there is a message. */
struct instance *sh_instance_load(const struct load *, int *code, char *message, size_t n);
/* How a task opens a library with dlopen. */
struct opening {
	const unsigned *global; /* indices of the objects that the task has opened with RTLD_GLOBAL */
	unsigned nglobals;
	uint64_t scope; /* the same number for the same list of global objects */
	bool first;	/* RTLD_DEEPBIND: its own symbols are found first */
	bool lazy;	/* RTLD_LAZY: functions that it needs may be missing */
};

/*
 * Loads the first library of the list, with the libraries that it needs, into the instance, unless it is there
 * already. Returns 0 and stores its index in *index, or returns an exit code and a message.
 */
int sh_instance_open(struct instance *, const struct load *, const struct opening *, unsigned *index, char *message,
		     size_t n);
/* Restores all variables to their values before the first constructor. */
void sh_instance_reset(struct instance *);
bool sh_instance_is_full(const struct instance *); /* unload it after its task */
void sh_instance_unload(struct instance *);
uint64_t sh_instance_number(const struct instance *);			 /* number of its load */
uintptr_t sh_instance_entry(const struct instance *, const char *entry); /* address; 0: no such function */
struct objects *sh_instance_objects(struct instance *);
void sh_instance_construct(const struct instance *); /* in a trial: runs all constructors */

#endif
