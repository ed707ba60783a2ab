/*
 * pool.h - the instances of modules, and the jobs that wait for one.
 */
#ifndef SUPERVISOR_DAEMON_TASK_POOL_H
#define SUPERVISOR_DAEMON_TASK_POOL_H

#include "supervisor/daemon/task/module.h"

#include <stdint.h>

struct job;

struct modinstance { /* the supervisor's half of an instance */
	uint32_t id;
	uint32_t era; /* of the module when it was loaded */
	struct module *module;
	struct modinstance *next; /* in the list of free ones */
	uint64_t free_since;	  /* if it is in that list */
	uintptr_t base, text_start, text_end;
	uint64_t load_gen;
};

void sh_module_enqueue(struct module *, struct job *);
void sh_module_enqueue_later(struct module *, struct job *); /* after a pause, because a resource is short */
void sh_module_dequeue(struct module *, struct job *);
void sh_module_give_back(struct modinstance *, bool worn); /* its task is over; worn: it serves no other */
void sh_pool_outdated(struct module *); /* its files have changed: old instances go once they are free */
void sh_pool_adopt(void);		/* the instances of the ledger; all count as free */
/* Takes a free instance out of its list. NULL: it is not free. */
struct modinstance *sh_instance_adopt(uint32_t id);

#endif
