/*
 * tasks.h - tasks from submission to their end.
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
	JOB_BEGIN,   /* the zygote has its descriptors */
	JOB_LIVE,    /* QUEUED or later in the segment */
	JOB_AGAIN,   /* the zygote resets the instance after a root that is to run again */
	JOB_ENDED
};

/*
 * The supervisor's half of a task. id is 0 until the task is accepted; then the job stays in its slot
 * until a later task takes the slot.
 */
struct job {
	uint64_t id;
	enum job_state state;
	bool run, accepted;
	bool telling;  /* its stacks are being written: all its goroutines are asleep */
	unsigned live; /* its place in the list of live jobs */
	struct module *module;
	struct modinstance *instance;
	struct job *next;    /* in the module's queue */
	struct asker *asker; /* of the submission, until answered */
	const void *owner;   /* run: the connection whose end cancels the task */
	int out, err, cwd;   /* -1: none */
	uv_timer_t *timeout;
	uint64_t timeout_ns;
	char key[KEY_SIZE];	      /* "": the client will not ask again */
	int64_t started_ns, ended_ns; /* wall clock, as the supervisor saw it */
	unsigned attempts;
	char entry[Z_NAME], name[64], path[256];
	char *args; /* argc + nenv strings; freed once they are in the segment */
	size_t args_len;
	int argc, nenv;
	int cancelled;		/* what task->cancel is to be */
	uint64_t charged;	/* memory that its output takes, or may take: output.c */
	uint64_t leaving[2];	/* bytes of stdout and stderr that are being copied to files */
	struct reader *readers; /* attached to its output */
	struct job *newer;	/* list of kept output, oldest first */
};

void sh_job_submit(struct job *, const char *module, const char *cc); /* takes the job over */
struct job *sh_job_find(uint64_t id);				      /* NULL: never issued or forgotten */
uint64_t sh_job_last(void);
unsigned sh_jobs_live(void);
struct job *sh_job_live(unsigned i); /* i < sh_jobs_live(): in no order */
void sh_jobs_look(void);
void sh_job_cancel(struct job *, unsigned how); /* enum task_asked */
void sh_jobs_abandon(const void *owner);
void sh_jobs_cancel_all(void);
const char *sh_job_status(const struct job *);
bool sh_job_ended(const struct job *);
struct job *sh_job_by_key(const char *key);	  /* accepted ones only */
void sh_job_answer(struct job *, struct asker *); /* answers that it is accepted */
bool sh_job_own(struct job *, const void *owner); /* run: the client's connection came back */
void sh_jobs_adopt(int (*fds)[3]);		  /* from the ledger and the segment; fds by slot */
void sh_jobs_orphans(void);			  /* cancels tasks of `run` clients that have not come back */
void sh_jobs_keep(void);			  /* gives a new keeper what it is to hold */
/* module.c calls these. */
void sh_job_place(struct job *, struct modinstance *);
void sh_job_refuse(struct job *, const struct failure *);

#endif
