/*
 * instance.h - modules that are loaded with their libraries, in the zygote.
 */
#ifndef SUPERVISOR_ZYGOTE_INSTANCE_H
#define SUPERVISOR_ZYGOTE_INSTANCE_H

#include "core/task/objects.h"

/* One copy of a module and its libraries at addresses of its own. */
struct instance;

struct load {
	int module, libraries; /* descriptors: the module's content, the list of closure.h */
	uint64_t number;       /* of the load */
	const char *name;      /* for messages */
	const char *entry;     /* a function that must be there (else 127); NULL: none */
	bool trial;	       /* in a process that is thrown away: touches nothing that outlives it */
};

/* NULL: *code is an exit code, with a message. */
struct instance *sh_instance_load(const struct load *, int *code, char *message, size_t n);
/* What a task opens with dlopen. */
struct opening {
	const unsigned *global; /* objects that it has opened for all to find symbols in */
	unsigned nglobals;
	uint64_t scope; /* stands for these */
	bool first;	/* RTLD_DEEPBIND: it finds its own symbols first */
	bool lazy;	/* functions may be missing */
};

/*
 * Loads the first library of the list into the instance, with what it needs; if it is there, it is found.
 * 0: *index is its object.
 */
int sh_instance_open(struct instance *, const struct load *, const struct opening *, unsigned *index, char *message,
		     size_t n);
/* The variables are as they were before the first constructor. */
void sh_instance_reset(struct instance *);
bool sh_instance_is_worn(const struct instance *); /* it should serve no further task */
void sh_instance_unload(struct instance *);
uint64_t sh_instance_number(const struct instance *);			 /* of its load */
uintptr_t sh_instance_entry(const struct instance *, const char *entry); /* 0: the module has no such function */
struct objects *sh_instance_objects(struct instance *);
void sh_instance_construct(const struct instance *); /* trial: runs all constructors */

#endif
