/*
 * own.h - what POSIX and libc keep for a process or a thread, and the segment for a task or a goroutine.
 *
 * core reserves the room, in struct task, struct g and the root, and knows no more of it than the size.
 */
#ifndef WORKER_POSIX_OWN_H
#define WORKER_POSIX_OWN_H

#include "core/g/g.h"
#include "core/root.h"
#include "core/task/task.h"

#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

#define TASK_LOCALE 256
/*
 * What POSIX and libc keep per process, and a worker sets for the task that it runs: worker/. Fresh
 * with each start.
 * LOCK   the task's
 */
struct task_own {
	uint64_t state;	   /* another number after each change of it, of envp, or of the mappings */
	uint64_t settings; /* the same but for the mappings. Stored before state */
	int32_t fd_cwd;	   /* where chdir went; -1: where it began */
	uint32_t umask, has_umask;
	uint32_t environ_room;		      /* of the list at envp; 0: the first one, which has none to spare */
	uint32_t timezone;		      /* the task has called tzset or a function that does: tzname is set */
	char locale[TASK_LOCALE];	      /* of all categories; empty: "C" */
	void *streams;			      /* open ones */
	char *strtok, *optarg;		      /* libc's variables of that use */
	int32_t optind;			      /* getopt's place in the arguments, kept while the root is parked */
	int32_t opterr, optopt, getopt_begun; /* getopt's variables; begun: libc's hidden place is this task's */
	struct tm tm;			      /* what localtime and gmtime give out */
	char asctime[64];		      /* and asctime, ctime */
	_Atomic(void *) host;		      /* what gethostbyname gives out */
	_Atomic(void *) user, group;	      /* what getpwnam, getgrnam and their like give out */
	_Atomic(void *) hidden;		      /* struct hidden of hidden.h; NULL: not needed yet */
	void *handlers;			      /* atexit's, */
	void *quick_handlers;		      /* and at_quick_exit's */
	_Atomic(void *) keys;		      /* of pthread_key_create */
	_Atomic(void *) signals;	      /* handlers, mask, what is pending */
	_Atomic(void *) aio;		      /* requests that are under way: aio.c */
	void *mq_notices;		      /* of mq_notify: mqnotify.c */
	_Atomic uint32_t threads;	      /* it has made some: they may hold such locks, and tell nobody */
	void *in;			      /* what freopen made of stdin; NULL: the null device */
	_Atomic uint32_t constructed;	      /* how many objects of the instance have had their constructors called */
};
_Static_assert(sizeof(struct task_own) <= TASK_POSIX_SIZE, "what a task has of its own fits the room in struct task");

static inline struct task_own *task_own(struct task *t)
{
	return (struct task_own *)t->posix;
}

uint64_t posix_new_state(void); /* process_state.c: a number for task_own.state that no task had */

/*
 * What a thread keeps for itself, and a goroutine does here. The first two are as __cxa_get_globals gives them out.
 * OWNER  the goroutine
 */
struct g_cxx {
	void *caught; /* exceptions of C++ under way: cxx.c */
	unsigned uncaught;
	uint32_t run; /* of this goroutine and attempt, else they are none */
	void *own;    /* what a thread has of its own (GF_OWN): thread.c */
};
_Static_assert(sizeof(struct g_cxx) <= sizeof((struct g *)0)->posix,
	       "what a goroutine has of its own fits the room in struct g");

static inline struct g_cxx *g_cxx(struct g *g)
{
	return (struct g_cxx *)g->posix;
}

/* What all tasks share: words that are whole by themselves. */
struct posix_shared {
	_Atomic uint32_t children_top;	   /* entries of spawn.c's table that were used so far */
	_Atomic uint32_t cond_signals[64]; /* signals given to conditions of pthreads: sync.c */
	_Atomic uint64_t task_states;	   /* numbers given out: posix_new_state */
};
_Static_assert(sizeof(struct posix_shared) <= ROOT_POSIX_SIZE, "what all tasks share fits the room in the root");
#define posix_shared ((struct posix_shared *)rt->posix)

#endif
