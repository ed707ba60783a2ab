/*
 * tasks.h - tasks, from their submission to their end.
 */
#ifndef SUPERVISOR_DAEMON_TASK_TASKS_H
#define SUPERVISOR_DAEMON_TASK_TASKS_H

#include "supervisor/daemon/failure.h"
#include "supervisor/keeper/ledger.h"
#include "supervisor/zygote/zygote.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct asker;
struct reader;
struct module;
struct modinstance;

enum job_state {
	JOB_MODULE,  /* waits for its module */
	JOB_WAITING, /* is in the module's queue */
	JOB_BEGIN,   /* the zygote is putting its descriptors into the workers' table */
	JOB_LIVE,    /* QUEUED or later in the segment */
	JOB_AGAIN,   /* the zygote is resetting the instance, because the root goroutine will run again */
	JOB_ENDED
};

/*
 * The supervisor's record of a task. id is 0 until the supervisor accepts the task. After that the record keeps its
 * slot until a later task takes the slot.
 */
struct job {
	uint64_t id;
	enum job_state state;
	bool run, accepted;
	bool dumping;  /* its stacks are being written to its stderr, because it is deadlocked */
	unsigned live; /* its index in the list of live jobs */
	struct module *module;
	struct modinstance *instance;
	struct job *next;    /* in the module's queue */
	struct asker *asker; /* the request that submitted it, until it is answered */
	const void *owner;   /* for `run`: the connection whose end cancels the task */
	int out, err, cwd;   /* -1: none */
	uv_timer_t *timeout;
	uint64_t timeout_ns;
	char key[KEY_SIZE];	      /* identifies a submission that the client may repeat; "": none */
	int64_t started_ns, ended_ns; /* wall clock, when the supervisor noticed */
	unsigned attempts;
	char entry[Z_NAME], name[64], path[256];
	char *args; /* argc + nenv strings, until they are copied to the segment */
	size_t args_len;
	int argc, nenv;
	int cancelled;		/* the value for task->cancel */
	uint64_t charged;	/* memory that its output uses or may grow to (output.c) */
	uint64_t leaving[2];	/* bytes of stdout and stderr that are being copied to files */
	struct reader *readers; /* clients that read its output */
	struct job *newer;	/* next in the list of kept output, oldest first */
};

void sh_job_submit(struct job *, const char *module); /* owns the job from here on */
/*
 * NULL: there was no such id, or its slot was taken
 */
struct job *sh_job_find(uint64_t id);
uint64_t sh_job_last(void);
unsigned sh_jobs_live(void);
struct job *sh_job_live(unsigned i);		/* i < sh_jobs_live(); in no order */
void sh_jobs_update(void);			/* updates all live jobs from the segment */
void sh_job_cancel(struct job *, unsigned how); /* enum task_asked */
void sh_jobs_abandon(const void *owner);	/* the connection of a `run` has ended: cancels its tasks */
void sh_jobs_cancel_all(void);
const char *sh_job_status(const struct job *);
bool sh_job_ended(const struct job *);
struct job *sh_job_by_key(const char *key);	  /* only accepted jobs */
void sh_job_answer(struct job *, struct asker *); /* answers that the job is accepted */
bool sh_job_own(struct job *, const void *owner); /* the client of a `run` has reconnected */
void sh_jobs_adopt(int (*fds)[3]);		  /* makes the jobs of ledger and segment; fds by slot */
void sh_jobs_orphans(void);			  /* cancels tasks of `run` clients that have not reconnected */
void sh_jobs_keep(void);			  /* gives the files to a new keeper */
/* Called by pool.c; verbs.c calls the second as well. */
void sh_job_place(struct job *, struct modinstance *);
void sh_job_refuse(struct job *, const struct failure *);

#endif
