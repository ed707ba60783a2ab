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
 *                                                                      h  wakes the waiters for done
 *     i  continues, on a worker that was cloned after f
 *
 * The goroutine reads done again after it has entered the queue, and the medic wakes as long as woken differs from
 * done, so no wake-up is lost.
 *
 * OWNER  of request and asked: the goroutine that holds the task's library lock (worker/posix/dl.c), until
 *        done is asked. Of code, object, message and done: the zygote in between
 * DEATH  of the goroutine: its request is served, but no goroutine reads the answer; the next request has another
 *        number. Of the zygote: its standby serves all requests that are not done. Of the medic: woken
 */
#ifndef CORE_TASK_LIBRARY_H
#define CORE_TASK_LIBRARY_H

#include "core/task/task.h"

#include <limits.h>

#define LIBRARY_FD 7 /* eventfd in the workers' descriptor table that makes the zygote read the requests */
#define LIBRARY_GLOBALS 256
#define LIBRARY_ROOM 32768ul /* bytes for each task */

enum library_flags {
	LIBRARY_LAZY = 1,	/* functions may be missing: RTLD_LAZY */
	LIBRARY_FIRST = 2,	/* its own symbols are found first: RTLD_DEEPBIND */
	LIBRARY_LIBC_FAMILY = 4 /* a library of libc's family: loaded for the process, not for the task */
};

/* The task's own data about its libraries: worker/posix/dl.c. Fresh with each start. */
struct library_own {
	struct {
		_Atomic uint8_t done;
		_Atomic int by;
	} lock;		/* a guard of worker/posix/cxx.c: it notes the goroutine that has it */
	uint32_t depth; /* how often this goroutine has taken the lock */
	void *opened;	/* block of the task's heap */
};

struct library_request {
	/*
	 * asked: number of the request. done: number of the last answered request, whose answer is complete.
	 * Pairs with sh_library_wake.
	 */
	_Atomic uint64_t asked, done;
	_Atomic uint64_t woken; /* medic: number of the last answer for which it has woken the waiters */
	uint64_t scope;		/* the same number for the same list of global objects */
	uint32_t flags, caller; /* caller: index of the object whose search path is used */
	int32_t cwd;		/* descriptor */
	uint32_t nglobals;
	uint32_t global[LIBRARY_GLOBALS]; /* objects that the task has opened with RTLD_GLOBAL */
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

/* Stand-ins in worker/posix/dl.c. Objects of an instance call them instead of the loader's functions without "sh_". */
#define LIBRARY_CALLS \
	"sh_dlopen", "sh_dlmopen", "sh_dlclose", "sh_dlsym", "sh_dlvsym", "sh_dlerror", "sh_dlinfo", \
		"sh_dl_iterate_phdr"

/* True if the library is part of the C library, of which a process has one copy. */
bool sh_library_is_libcs(const char *soname);
/* Called by the medic before the task starts: it has opened no library. */
void sh_library_begin(struct task *);
/* Called by the medic: wakes the goroutines of the task that wait for an answer. */
void sh_library_wake(struct task *);

#endif
