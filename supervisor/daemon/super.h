/*
 * super.h - what the supervisor's files know of each other.
 *
 * One thread, one libuv loop. Nothing here waits: a question to the zygote, the medic, a compiler
 * or a client is answered by a callback. Of the segment it believes nothing unchecked: every
 * index and pointer read there is compared with its bounds before use, and no lock is taken that
 * a worker can hold.
 *
 *   main.c     options, start, signals, end         setup.c    socket, lock file, limits
 *   link.c     questions to the zygote              fleet.c    seats: clones, restarts, deaths
 *   module.c   modules and their instances          compile.c  .c files
 *   quarantine.c  modules that always crash
 *   tasks.c    tasks from submission to their end   output.c   what they wrote, kept for logs
 *   control.c  connections and lines                verbs.c    the requests; views.c, ps.c the lists
 *   dump.c     stacks of goroutines                 trace.c    events of some seconds
 *   procs.c    the number of Ps, by command
 *   life.c     what happened to a goroutine         symbol.c   names of functions
 *   ledger.c, keeper.c, adopt.c  what outlives this process, and its successor
 */
#ifndef SUPERVISOR_DAEMON_SUPER_H
#define SUPERVISOR_DAEMON_SUPER_H

#include "core/sched/sched.h"
#include "supervisor/keeper/keeper.h"
#include "supervisor/keeper/ledger.h"
#include "supervisor/daemon/log.h"
#include "supervisor/zygote/zygote.h"

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>
#include <uv.h>

struct asker;

/* Exit codes of INTERFACE that errors carry. */
enum {
	CODE_FAILED = 1,
	CODE_USAGE = 2,
	CODE_DENIED = 4,
	CODE_UNKNOWN = 5,
	CODE_QUARANTINED = 75,
	CODE_SHOAL = 125,
	CODE_NOT_LOADABLE = 126,
	CODE_NOT_FOUND = 127
};

struct failure {
	int code; /* 0: none */
	char text[512];
	char *detail; /* many lines, or NULL; the receiver does not free it */
};

struct options {
	const char *socket;
	unsigned procs, spare;
	size_t memory;
	int ready_fd;	   /* -1 */
	bool one_shot;	   /* ends with its last connection */
	bool procs_custom; /* procs was given, and not found out */
};

extern struct options sh_options;
extern uv_loop_t *sh_loop;
extern uint64_t sh_start_ns;

/* ---- main.c ---- */
enum { STOP_NO, STOP_DRAIN, STOP_NOW, STOP_GONE };
extern int sh_stopping;
_Noreturn void sh_fail(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3))); /* before we take tasks */
void sh_stop(bool now);
void sh_stop_look(void);  /* something ended: are we done? */
void sh_look_again(void); /* the medic wrote: seats, tasks, audit, crashes */

/* ---- setup.c ---- */
int sh_setup_socket(char *error, size_t n); /* lock, directory, socket: its descriptor, or -1 and why */
void sh_setup_remove_socket(void);
int sh_setup_log(void); /* the log file next to the socket becomes descriptors 1 and 2 */
unsigned sh_setup_cpus(void);
size_t sh_setup_memory(void);
bool sh_parse_size(const char *text, size_t *size);
const char *sh_default_socket(void);

/* ---- link.c ---- */
typedef void zygote_done(void *arg, const struct zrep *);
int sh_link_start(int sock);
void sh_link_ask(const struct zreq *, const int *fds, int nfds, zygote_done *, void *arg); /* copies the descriptors */

/* ---- fleet.c ---- */
#define STATUS_UNKNOWN (-1) /* neither WIFEXITED nor WIFSIGNALED: no child of ours */
typedef void child_done(void *arg, int status);
void sh_fleet_start(pid_t zygote, unsigned workers);
void sh_fleet_adopt(unsigned workers); /* all are there already, and none is our child */
void sh_fleet_zygote(pid_t);	       /* a standby has taken over */
void sh_fleet_look(void);
void sh_fleet_tick(void);
void sh_fleet_renew(struct asker *,
		    unsigned only); /* 0: all workers; answers when it is done; asker NULL: sh_sweep_renewed */
void sh_fleet_reap(void);	    /* SIGCHLD */
void sh_fleet_watch(pid_t, child_done *, void *arg); /* told when that child ends */
void sh_fleet_kill(void);			     /* all, and waits for them */
pid_t sh_fleet_pid(unsigned seat);
unsigned sh_fleet_seats(void); /* seats 1..n are used */

/* ---- sweep.c ---- */
void sh_sweep_look(void); /* is there something to do, and nobody in the way? */
void sh_sweep_renewed(bool done);

/* ---- module.c, quarantine.c, compile.c ---- */
struct module;
struct modinstance { /* the supervisor's half of an instance */
	uint32_t id;
	struct module *module;
	struct modinstance *next; /* free ones */
	uintptr_t base, text_start, text_end;
	uint64_t load_gen;
};
struct job;

#define CRASHES_MAX 10
#define CRASHES_NS 60000000000ull

/*
 * A content. OWNER module.c. Kept as long as the supervisor runs: its instances cannot go.
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
	char (*entries)[Z_NAME]; /* known to be there */
	unsigned nentries;
	uint64_t crashed_ns[CRASHES_MAX];
	unsigned crashes;
};

typedef void module_done(void *arg, struct module *, const struct failure *);
/* Finds or makes the module of a file; calls done now or later. cwd: for a relative path, or -1. */
void sh_module_get(const char *path, int cwd, const char *cc, module_done *, void *arg);
void sh_module_forget(void); /* SIGHUP: files are looked at afresh */
void sh_module_enqueue(struct module *, struct job *);
void sh_module_enqueue_later(struct module *, struct job *); /* not at once: something is short */
void sh_module_dequeue(struct module *, struct job *);
void sh_module_give_back(struct modinstance *, bool spent);
void sh_module_crashed(struct module *);
unsigned sh_module_quarantine(const struct module *); /* seconds it will last; 0: none */
void sh_modules_adopt(const int *so_fd);	      /* from the ledger; so_fd by index there */
struct modinstance *sh_instance_adopt(uint32_t id);
struct module *sh_module_at(uint32_t index);
void sh_modules_keep(void);
bool sh_module_has(const struct module *, const char *entry);
void sh_module_learn(struct module *, const char *entry);

/* ---- symbol.c ---- */
void sh_symbol_add(const struct modinstance *);
/* "name+0x12" or "module.so(name+0x12)" for an address of code; false: unknown, text is the number. */
bool sh_symbol(const void *at, char *text, size_t n);

const struct modinstance *sh_symbol_instance(unsigned i); /* i-th, NULL past the last */

#define COMPILE_DIR "/tmp/shoal-cc-"
typedef void compile_done(void *arg, int so_fd, char *deps, const struct failure *);
/* Compiles; done gets the result's descriptor (its own to close) and the text of the dependency file (freed by us). */
void sh_compile(const char *path, const char *cc, compile_done *, void *arg);

/* ---- tasks.c, output.c ---- */
enum job_state {
	JOB_MODULE,  /* waits for its module */
	JOB_WAITING, /* in the module's queue */
	JOB_BEGIN,   /* the zygote has its descriptors */
	JOB_LIVE,    /* QUEUED or later in the segment */
	JOB_AGAIN,   /* the zygote clears up after a root that is to run again */
	JOB_ENDED
};

/*
 * The supervisor's half of a task. id is 0 until it is accepted; then it lies in its slot until a
 * later task takes it.
 */
struct job {
	uint64_t id;
	enum job_state state;
	bool run, accepted;
	bool telling;  /* its stacks are being written: all its goroutines sleep */
	unsigned live; /* its place in the list of live ones */
	struct module *module;
	struct modinstance *instance;
	struct job *next;    /* module queue */
	struct asker *asker; /* of the submission, until answered */
	const void *owner;   /* run: the connection with which it stands and falls */
	int out, err, cwd;   /* -1 */
	uv_timer_t *timeout;
	uint64_t timeout_ns;
	char key[KEY_SIZE];	      /* "": its client will not ask again */
	int64_t started_ns, ended_ns; /* wall clock, as we saw it */
	unsigned attempts;
	char entry[Z_NAME], name[64], path[256];
	char *args; /* argc + nenv strings; freed once they are in the segment */
	size_t args_len;
	int argc, nenv;
	int cancelled;		   /* what task->cancel is to be */
	uint64_t output_bytes;	   /* kept, when ended */
	bool out_empty, err_empty; /* nothing was written: nothing is kept open for it */
	struct job *newer;	   /* kept output, oldest first */
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
void sh_job_answer(struct job *, struct asker *); /* that it is accepted */
bool sh_job_own(struct job *, const void *owner); /* run: whose connection came back */
void sh_jobs_adopt(int (*fds)[3]);		  /* from the ledger and the segment; fds by slot */
void sh_jobs_orphans(void);			  /* cancels those of `run`s that have not come back */
void sh_jobs_keep(void);			  /* gives a new keeper what it is to have */
/* module.c calls these */
void sh_job_place(struct job *, struct modinstance *);
void sh_job_refuse(struct job *, const struct failure *);

/* ---- adopt.c ---- */
bool sh_adopt_begin(int *link); /* asks the keeper; ends the process if what it has is not ours to take */
void sh_adopt_end(void);	/* in the loop: the zygote has done all that our predecessor asked */
void sh_keeper_first(int segment, int ledger, int link, int event);
void sh_keeper_begin(void); /* starts another and gives it all */

int sh_output_open(struct job *);
void sh_output_keep(struct job *); /* it has ended */
void sh_output_drop(struct job *);
int sh_output_reader(int fd, bool empty); /* a descriptor that only reads; -1 */
void sh_output_trim(void);		  /* now and then */

/* ---- control.c ---- */
extern bool sh_control_met; /* somebody has connected */
int sh_control_start(int listener);
unsigned sh_control_conns(void);
void sh_control_stop(void); /* flushes what it can */

/* A request that waits for its answer. Answering frees it; its connection may be gone by then. */
bool sh_ask_gone(const struct asker *);
const void *sh_ask_conn(const struct asker *);
void sh_answer(struct asker *, json_t *reply, const int *fds, int nfds); /* takes reply; copies fds */
void sh_answer_error(struct asker *, int code, const char *detail, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/*
 * A long answer made piece by piece as the client reads it: more() appends to buf (room for n) and
 * returns how much, 0 at the end; then it is called once with buf NULL to free arg. -1 frees nothing: wait.
 */
typedef size_t answer_more(void *arg, char *buf, size_t n);
void sh_answer_stream(struct asker *, answer_more *, void *arg);
json_t *sh_ask_tag(const struct asker *);
int sh_ask_take_fd(struct asker *); /* the next descriptor that came along, or -1 */

/* ---- verbs.c, views.c ---- */
void sh_verb(struct asker *, json_t *request);
void sh_verbs_ended(const struct job *); /* tells who waits for it */
void sh_verbs_look(void);		 /* audit */
void sh_verbs_stopped(void);		 /* answers stop */

json_t *sh_view_task(const struct job *);
json_t *sh_view_tasks(bool all);
json_t *sh_view_workers(void);
json_t *sh_view_stats(void);
json_t *sh_view_info(void);
json_t *sh_view_life(uint64_t gid);		      /* NULL: no such goroutine */
json_t *sh_view_crashes(int64_t id);		      /* < 0: all */
json_t *sh_view_string(const char *text, size_t max); /* bytes that are no UTF-8 become '?' */
void sh_view_name(char name[32], const char *from);   /* of a goroutine; without what JSON would quote */
uint64_t sh_view_task_of(const struct g *);
void sh_view_ps(struct asker *, int64_t task); /* 0: of all tasks */
size_t sh_view_sched(char *buf, size_t n);
void sh_view_dump(void); /* every G, M and P to the log */
void sh_crashes_look(void);

/* ---- trace.c ---- */
void sh_trace(struct asker *, int64_t ns); /* answers with a descriptor when the time is over */
void sh_trace_look(void);		   /* those whose asker has gone end */

/* ---- procs.c ---- */
void sh_procs(struct asker *, uint32_t n); /* answers when there are so many Ps */
void sh_procs_follow(void); /* now and then: as many as affinity and control groups allow, unless set by hand */

/* ---- dump.c: stacks of goroutines ---- */
void sh_dump(struct asker *, uint64_t gid); /* 0: all. Answers with a descriptor: core/repair/dump.h */
typedef void sh_dump_done(void *arg);
void sh_dump_to(uint64_t task, int fd, sh_dump_done *, void *arg); /* as text; task 0: all */

#endif
