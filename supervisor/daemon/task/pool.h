/*
 * pool.h - the instances of modules, and the jobs that wait for an instance.
 */
#ifndef SUPERVISOR_DAEMON_TASK_POOL_H
#define SUPERVISOR_DAEMON_TASK_POOL_H

#include "supervisor/daemon/task/module.h"

#include <stdint.h>

struct job;

struct modinstance { /* what the supervisor knows of an instance */
	uint32_t id;
	uint32_t era; /* era of the module when the instance was loaded */
	struct module *module;
	struct modinstance *next; /* in the module's list of free instances */
	uint64_t free_since;	  /* valid in that list */
	uintptr_t base, text_start, text_end;
	uint64_t load_gen;
};

void sh_module_enqueue(struct module *, struct job *);
/*
 * tries only after a pause, because a resource was short
 */
void sh_module_enqueue_later(struct module *, struct job *);
void sh_module_dequeue(struct module *, struct job *);
void sh_module_give_back(struct modinstance *, bool discard); /* its task has ended; discard: unload it */
void sh_pool_outdated(struct module *); /* files of the module have changed: unloads the free old instances */
void sh_pool_adopt(void);		/* registers the instances of the ledger, all as free */
/* Takes the instance out of the list of free ones. Returns NULL if it is not free. */
struct modinstance *sh_instance_adopt(uint32_t id);

#endif
