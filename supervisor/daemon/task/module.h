/*
 * module.h - modules by content, and their instances.
 */
#ifndef SUPERVISOR_DAEMON_TASK_MODULE_H
#define SUPERVISOR_DAEMON_TASK_MODULE_H

#include "supervisor/daemon/failure.h"
#include "supervisor/zygote/zygote.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct job;
struct module;

struct modinstance { /* the supervisor's half of an instance */
	uint32_t id;
	struct module *module;
	struct modinstance *next; /* in the list of free ones */
	uintptr_t base, text_start, text_end;
	uint64_t load_gen;
};

#define CRASHES_MAX 10
#define CRASHES_NS 60000000000ull

/*
 * A module, identified by its content.
 * OWNER  module.c. Kept as long as the supervisor runs: its instances cannot be unloaded
 */
struct module {
	struct module *next;
	uint64_t hash[2], size;
	int so_fd;
	uint32_t index; /* in the ledger */
	char name[Z_NAME];
	unsigned ninstances, nfree;
	struct modinstance *free;
	struct job *first, **last; /* jobs that wait for an instance, in order */
	bool loading;
	uv_timer_t *retry;
	char (*entries)[Z_NAME]; /* entries known to exist */
	unsigned nentries;
	uint64_t crashed_ns[CRASHES_MAX];
	unsigned crashes;
};

typedef void module_done(void *arg, struct module *, const struct failure *);
/* Finds or makes the module of a file; calls done now or later. cwd: for a relative path, or -1. */
void sh_module_get(const char *path, int cwd, const char *cc, module_done *, void *arg);
void sh_module_forget(void); /* SIGHUP: files are read afresh */
void sh_module_enqueue(struct module *, struct job *);
void sh_module_enqueue_later(struct module *, struct job *); /* after a pause, because a resource is short */
void sh_module_dequeue(struct module *, struct job *);
void sh_module_give_back(struct modinstance *, bool spent);
void sh_modules_adopt(const int *so_fd); /* from the ledger; so_fd by index there */
struct modinstance *sh_instance_adopt(uint32_t id);
struct module *sh_module_at(uint32_t index);
void sh_modules_keep(void);
bool sh_module_has(const struct module *, const char *entry);
void sh_module_learn(struct module *, const char *entry);

#endif
