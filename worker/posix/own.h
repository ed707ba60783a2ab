/*
 * own.h - what POSIX and libc keep for a process or a thread; here it belongs to a task or a goroutine.
 *
 * core reserves the room, in struct task, struct g and the root, and knows only its size.
 */
#ifndef WORKER_POSIX_OWN_H
#define WORKER_POSIX_OWN_H

#include "core/root.h"
#include "core/task/task.h"

#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

#define TASK_LOCALE 256
/*
 * What POSIX and libc keep for a process. A worker loads it when it switches to the task. Fresh with each start.
 * OWNER  the goroutines of the task
 * LOCK   task->lock
 * ORDER  a field, then settings, then state: a worker that sees the new state loads the fields again
 * DEATH  each field is whole by itself; a change that was not published by state is seen with the next one
 */
struct task_own {
	uint64_t state;	   /* a new number after each change of it, of envp, or of the mappings */
	uint64_t settings; /* the same without the mappings. Stored before state */
	int32_t fd_cwd;	   /* current folder; -1: the one with which it began */
	uint32_t umask, has_umask;
	uint32_t environ_room;	  /* capacity of the list at envp; 0: the first list, which is full */
	_Atomic uint64_t refused; /* enum identity_call: calls of which the task was told that they are refused */
	uint32_t timezone;	  /* the task has called tzset or a function that does: tzname is set */
	char locale[TASK_LOCALE]; /* of all categories; empty: "C" */
	void *streams;		  /* open streams */
	char *strtok, *optarg;	  /* libc's variables of these names */
	int32_t optind;		  /* getopt's position, saved while the root is parked */
	int32_t opterr, optopt, getopt_begun; /* getopt's variables; begun: libc's hidden place is this task's */
	struct tm tm;			      /* result of localtime and gmtime */
	char asctime[64];		      /* result of asctime and ctime */
	_Atomic(void *) host;		      /* result of gethostbyname */
	_Atomic(void *) user, group;	      /* results of getpwnam, getgrnam and the like */
	_Atomic(void *) hidden;		      /* struct hidden of hidden.h; NULL: not needed yet */
	void *handlers;			      /* exit handlers: atexit */
	void *quick_handlers;		      /* at_quick_exit */
	_Atomic(void *) keys;		      /* of pthread_key_create */
	_Atomic(void *) signals;	      /* handlers, mask, what is pending */
	_Atomic(void *) aio;		      /* requests in progress: aio.c */
	void *mq_notices;		      /* requests of mq_notify: mqnotify.c */
	void *semaphores;		      /* struct named: what sem_open has opened: sync/named.c */
	void *in;			      /* stdin after freopen; NULL: the null device */
	_Atomic uint32_t constructed;	      /* how many objects of the instance have had their constructors called */
};
_Static_assert(sizeof(struct task_own) <= TASK_POSIX_SIZE, "what a task has of its own fits the room in struct task");

static inline struct task_own *task_own(struct task *t)
{
	return (struct task_own *)t->posix;
}

uint64_t posix_new_state(void); /* process_state.c: a number for task_own.state that was never used */

/*
 * What all tasks share.
 * OWNER  all workers
 * LOCK   none
 * ORDER  atomic additions; children_top grows after its entry is claimed
 * DEATH  each word is whole by itself
 */
struct posix_shared {
	_Atomic uint32_t children_top; /* entries of the table in spawn.c that were ever used */
	_Atomic uint64_t task_states;  /* last number of posix_new_state */
};
_Static_assert(sizeof(struct posix_shared) <= ROOT_POSIX_SIZE, "what all tasks share fits the room in the root");
#define posix_shared ((struct posix_shared *)rt->posix)

#endif
