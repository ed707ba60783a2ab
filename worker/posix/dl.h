/*
 * dl.h - what dl.c and dl_open.c share: the libraries that a task has opened.
 *
 * An object of the instance is, for its task,
 *     linked    the module, or a library that it links: there from the start
 *     built     its constructors have been called
 *     open      dlopen has given it out more often than dlclose has taken it back
 *     global    opened with RTLD_GLOBAL: others find symbols in it
 * One that is in the instance but none of these is left from an earlier task.
 *
 * OWNER  the task; the state is a block of its heap
 * LOCK   the task's library lock: dl_lock. A goroutine keeps it while it calls constructors, and may take it again
 * DEATH  of its holder: whoever takes the lock next goes on. A library that was being constructed counts as
 *        constructed, as after a crash in a process
 */
#ifndef WORKER_POSIX_DL_H
#define WORKER_POSIX_DL_H

#include "core/task/library.h"
#include "core/task/objects.h"
#include "worker/posix/posix.h"

struct dl_object {
	uint32_t refs;
	bool built, global, kept; /* kept: RTLD_NODELETE */
};

/* dlerror of one goroutine. */
struct dl_error {
	struct dl_error *next;
	uint32_t run; /* of the goroutine: run_mark */
	bool pending;
	char text[700];
};

struct dl_state {
	unsigned n; /* objects that there is room for */
	struct dl_object *object;
	unsigned nbuilt;
	unsigned *built; /* objects that were opened, in the order in which they were constructed */
	uint32_t nglobals;
	uint32_t global[LIBRARY_GLOBALS];
	struct dl_error *errors;
};

#define DL_NONE UINT32_MAX

void dl_lock(struct g *);
void dl_unlock(struct g *);
/* Holds: the lock. NULL: no memory. With room for all objects that this worker has. */
struct dl_state *dl_state(struct g *);
/* The message for the next dlerror() of the goroutine. */
void dl_fail(struct g *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
uint32_t dl_by_handle(const struct objects *, const void *handle); /* DL_NONE: it is no object of the instance */
/* Holds: the lock. Parks. Opens it for the task and calls its constructors; DL_NONE: dl_fail has been called. */
uint32_t dl_open(struct g *, const char *name, int flags, uint32_t caller);
void dl_close(struct g *, uint32_t object);		       /* Holds: the lock. Parks */
void dl_end(struct g *);				       /* the task ends: destructors of what it has opened */
void *dl_open_family(struct g *, const char *name, int flags); /* Holds: the lock. Parks. The loader's handle */
/* dl_process.c */
void *dl_family_handle(const char *name); /* NULL: the process does not have it */
bool dl_is_loaded(const void *handle);
/* What the process has for the task under that name; handle: of a library of libc's family, or NULL. */
bool dl_of_process(void *handle, const char *name, const char *version, void **address);

#endif
