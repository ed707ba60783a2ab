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
/* Its variables are as they were before the first constructor. */
void sh_instance_reset(struct instance *);
void sh_instance_unload(struct instance *);
uint64_t sh_instance_number(const struct instance *);			 /* of its load */
uintptr_t sh_instance_entry(const struct instance *, const char *entry); /* 0: the module has no such function */
struct objects *sh_instance_objects(struct instance *);
void sh_instance_construct(const struct instance *); /* trial: runs all constructors */

#endif
