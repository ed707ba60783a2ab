/*
 * library.h - a goroutine asks the zygote to load a library into the instance of its task (dlopen).
 *
 *     goroutine                        zygote                          medic
 *     a  fills in the request
 *     b  stores asked, a new number
 *     c  sets the task's bit, rings
 *     d  parks while done != asked
 *                                      e  tries it in a clone, loads
 *                                      f  raises the task's load_gen
 *                                      g  stores done = asked, rings
 *                                                                      h  wakes who waits for done
 *     i  goes on, on a worker that was cloned after f
 *
 * The goroutine looks at done again after it is in the queue, and the medic wakes as long as woken differs
 * from done, so no wake-up is lost.
 *
 * OWNER  of request and asked: the goroutine that holds the task's library lock (worker/posix/dl.c), until
 *        done is asked. Of code, object, message and done: the zygote in between
 * DEATH  of the goroutine: its request is carried out, and nobody looks at the answer; the next one has another
 *        number. Of the zygote: its standby carries out all requests that are not done. Of the medic: woken
 */
#ifndef CORE_TASK_LIBRARY_H
#define CORE_TASK_LIBRARY_H

#include "core/task/task.h"

#include <limits.h>

#define LIBRARY_FD 7 /* eventfd, in the workers' descriptor table: the zygote looks at the requests */
#define LIBRARY_GLOBALS 256
#define LIBRARY_ROOM 32768ul /* of each task */

enum library_flags {
	LIBRARY_LAZY = 1,	/* functions may be missing: RTLD_LAZY */
	LIBRARY_FIRST = 2,	/* it finds its own symbols first: RTLD_DEEPBIND */
	LIBRARY_LIBC_FAMILY = 4 /* for the process, not for the task */
};

/* What the task itself keeps of its libraries: worker/posix/dl.c. Fresh with each start. */
struct library_own {
	struct {
		_Atomic uint8_t done;
		_Atomic int by;
	} lock;		/* a guard of worker/posix/cxx.c: it notes the goroutine that has it */
	uint32_t depth; /* times that this goroutine has taken it */
	void *opened;	/* block of the task's heap */
};

struct library_request {
	/* number of the request, of the one that was answered; done: the answer is complete. Pairs with sh_library_wake */
	_Atomic uint64_t asked, done;
	_Atomic uint64_t woken; /* medic: the answer of which waiters know */
	uint64_t scope;		/* stands for the objects in global */
	uint32_t flags, caller; /* caller: the object whose search path counts */
	int32_t cwd;		/* descriptor */
	uint32_t nglobals;
	uint32_t global[LIBRARY_GLOBALS]; /* objects that the task has opened for all */
	char name[PATH_MAX];
	char search[PATH_MAX]; /* LD_LIBRARY_PATH */

	int32_t code; /* 0: loaded */
	uint32_t object;
	char message[512];
};

struct library_room {
	struct library_request request;
	struct library_own own;
};
_Static_assert(sizeof(struct library_room) <= LIBRARY_ROOM, "it fits");

static inline struct library_room *library_room(const struct task *t)
{
	return (struct library_room *)((char *)SH_BASE + SH_OFF_LIBRARY + (uint64_t)t->slot * LIBRARY_ROOM);
}

/* What the copies in an instance call in place of libc's functions of these names, after "sh_": worker/posix/dl.c. */
#define LIBRARY_CALLS \
	"sh_dlopen", "sh_dlmopen", "sh_dlclose", "sh_dlsym", "sh_dlvsym", "sh_dlerror", "sh_dlinfo", \
		"sh_dl_iterate_phdr"

/* Whether a library of this name is part of the C library: one for the process, and never copied. */
bool sh_library_is_libcs(const char *soname);
/* Medic: the task is about to start, and has opened nothing. */
void sh_library_begin(struct task *);
/* Medic: wakes the goroutines of the task that wait for an answer. */
void sh_library_wake(struct task *);

#endif
