/*
 * module.h - the table of modules, which are identified by their content.
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
 * A module. It is identified by its content and, if it links libraries, by its path and search path as well.
 * OWNER  module.c; the instances and the queue belong to pool.c. A module is kept until the supervisor exits
 */
struct module {
	struct module *next;
	uint64_t hash[2], size;
	int so_fd, libraries_fd;
	struct closure libraries; /* the content of libraries_fd */
	bool links;		  /* it needs libraries outside of libc's family */
	bool tried;		  /* a trial was successful, so the list of libraries is complete */
	uint32_t era;		  /* grows when a file of the list has changed */
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

/*
 * Finds or makes the module with the content of the file. path and search are as in struct closure. Returns NULL
 * and fills in *why on failure.
 */
struct module *sh_module_from(int fd, const char *name, const char *path, const char *search, struct failure *why);
/* True if this content at that path with that search path is this module. */
bool sh_module_matches(const struct module *, const char *path, const char *search);
void sh_module_check(struct module *);	       /* before a task runs: checks whether libraries have changed */
bool sh_module_tried(struct module *, int fd); /* takes over the list that a trial has written; false: no memory */
void sh_module_outdate(struct module *);       /* libraries have changed: the next load needs a new trial */
struct module *sh_module_at(uint32_t index);
struct module *sh_module_first(void); /* the others follow by next */
void sh_modules_adopt(int (*fd)[2]);  /* makes the modules of the ledger; fd[i] are the descriptors of module i */
void sh_modules_keep(void);	      /* gives the descriptors to a new keeper */
bool sh_module_has(const struct module *, const char *entry); /* true if the module was tried and has the entry */
void sh_module_add_entry(struct module *, const char *entry); /* remembers that the module has the entry */

#endif
