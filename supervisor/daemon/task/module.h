/*
 * module.h - modules by content.
 */
#ifndef SUPERVISOR_DAEMON_TASK_MODULE_H
#define SUPERVISOR_DAEMON_TASK_MODULE_H

#include "supervisor/daemon/failure.h"
#include "supervisor/zygote/closure.h"
#include "supervisor/zygote/zygote.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct job;
struct modinstance;

#define CRASHES_MAX 10
#define CRASHES_NS 60000000000ull

/*
 * A module, identified by its content and, if it links libraries, by what decides which.
 * OWNER  module.c; instances, queue: pool.c. Kept as long as the supervisor runs
 */
struct module {
	struct module *next;
	uint64_t hash[2], size;
	int so_fd, libraries_fd;
	struct closure libraries; /* what libraries_fd holds */
	bool links;		  /* it needs libraries other than libc's family */
	bool tried;		  /* a trial was successful: the list of libraries is complete */
	uint32_t era;		  /* rises when a file of the list has changed */
	uint32_t index;		  /* in the ledger */
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

/* The module with the content of the file. path, search: as in struct closure. NULL: why says why not. */
struct module *sh_module_from(int fd, const char *name, const char *path, const char *search, struct failure *why);
/* Whether a file of its content at that path, with that search path, is this module. */
bool sh_module_lies(const struct module *, const char *path, const char *search);
void sh_module_check(struct module *);	       /* a task will be run: are the libraries still the same files? */
bool sh_module_tried(struct module *, int fd); /* a trial has written this list; takes it over. false: no memory */
void sh_module_outdate(struct module *);
struct module *sh_module_at(uint32_t index);
struct module *sh_module_first(void); /* then by next */
void sh_modules_adopt(int (*fd)[2]);  /* from the ledger; descriptors by index there */
void sh_modules_keep(void);
bool sh_module_has(const struct module *, const char *entry); /* it was tried, and the entry was there */
void sh_module_learn(struct module *, const char *entry);

#endif
