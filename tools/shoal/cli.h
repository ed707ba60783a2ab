/*
 * cli.h - what the files of the command line share.
 *
 * One process, one thread, one verb. Whatever fails ends the process by fail(), usage() or
 * exit(), never by return codes handed up: what must be undone (a supervisor of our own, its
 * folder) hangs on atexit. Data goes to stdout by stdio, all else to stderr.
 */
#ifndef TOOLS_SHOAL_CLI_H
#define TOOLS_SHOAL_CLI_H

#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifndef SHOAL_VERSION
#define SHOAL_VERSION "0.1.0"
#endif

enum {
	EXIT_USAGE = 2,
	EXIT_NO_SUPERVISOR = 3,
	EXIT_NOT_PERMITTED = 4,
	EXIT_UNKNOWN = 5,
	EXIT_TIMEOUT = 124,
	EXIT_OWN_FAILURE = 125,
	EXIT_NOT_LOADABLE = 126,
	EXIT_NOT_FOUND = 127,
	EXIT_CANCELLED = 130,
	EXIT_LOST = 137,
};

struct verb {
	const char *name;
	int (*run)(int argc, char **argv); /* NULL: not in this version */
	bool reads;			   /* takes --json */
	bool patient;			   /* waits without limit for the successor of a supervisor that died */
	int failure;			   /* exit code when Shoal itself fails: 125 where a task's code is due */
	const char *synopsis, *summary, *details;
};

struct cli {
	const struct verb *verb; /* NULL until it is known */
	const char *socket;	 /* from --socket, or NULL */
	bool json;
};
extern struct cli cli;

/* ---- main.c ---- */
const struct verb *verb_find(const char *name);
void print_help(const struct verb *);

/* ---- say.c: messages and how to end ---- */
_Noreturn void fail(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
_Noreturn void usage(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void say_block(const char *text); /* several lines, as they are but for control characters */
int failure_code(void);
void flush_stdout(void);	     /* ends the process when it cannot be written */
_Noreturn void end_by_sigpipe(void); /* as a filter whose reader has gone */
void *must(void *);		     /* out of memory ends the process */
char *format(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
char *tail_of(const char *file); /* its last line that is not empty, or NULL */

/* ---- parse.c: what is typed ---- */
enum opt_kind { OPT_FLAG, OPT_TEXT, OPT_COUNT, OPT_COUNT0, OPT_DURATION, OPT_SIZE, OPT_LIST };
struct opt_list {
	const char **item;
	size_t n;
};
struct opt {
	const char *name; /* without the dashes; the table ends with NULL */
	char letter;	  /* or 0 */
	enum opt_kind kind;
	void *to; /* bool, const char *, int64_t (all numbers), struct opt_list */
};
/* Moves what is no option to the front of argv and returns how many. first_ends: options end at the first such word. */
int parse_options(int argc, char **argv, const struct opt *, bool first_ends);
bool parse_duration(const char *, int64_t *ns);
bool parse_count(const char *, int64_t min, int64_t *);
int64_t parse_id(const char *what, const char *word);
bool close_to(const char *typed, const char *name); /* a slip of the hand away from it */
struct module {
	char *typed; /* as typed, without the entry: argv[0] of the task */
	char *path;  /* absolute */
	const char *entry;
};
void parse_module(const char *word, struct module *); /* ends with 126 or 127 */
char *absolute(const char *path);		      /* without touching links */

/* ---- conn.c: the socket ---- */
struct conn {
	int fd;
	char *buf;
	size_t len, cap, seen; /* seen: no newline before it */
	int fds[16];
	int nfds;
	pid_t pid; /* of the supervisor */
};
const char *socket_path(void);
void socket_use(char *path);			/* from now on, whatever was asked for */
bool conn_try(struct conn *, const char *path); /* false: nobody there. Anything else that is wrong ends the process */
void conn_open(struct conn *);			/* waits for the successor of one that died */
/*
 * The connection broke. If what the supervisor ran goes on without it, connects to its successor as
 * soon as there is one; meanwhile() is called about 50 times a second. false: all of it is gone.
 */
bool conn_again(struct conn *, void (*meanwhile)(void *), void *arg);
bool conn_orphaned(void); /* no supervisor, but what it ran goes on */
void conn_close(struct conn *);
void conn_send(struct conn *, json_t *request, int fd); /* takes the request; fd or -1 */
/* A reply if there is one within ms (-1: for ever). NULL: errno is ETIMEDOUT, EINTR, EPIPE (closed) or EPROTO. */
json_t *conn_reply(struct conn *, int ms);
/* A reply that is no error, or ends the process. Asks again, with "again", whoever follows a supervisor that dies over it. */
json_t *conn_call(struct conn *, json_t *request, int fd);
void reply_check(json_t *reply); /* ends the process if it is an error */
int conn_take_fd(struct conn *);
json_t *request(const char *verb);
void put(json_t *object, const char *key, json_t *value); /* takes the value */

/* ---- start.c ---- */
bool supervisor_start_private(struct conn *); /* for this process alone, stopped at exit. false: interrupted */
const char *supervisor_private_log(void);     /* or NULL */
int verb_start(int, char **);
int verb_stop(int, char **);

/* ---- run.c ---- */
bool interrupted(void); /* by a signal that nobody has dealt with yet; only run catches them */
int verb_run(int, char **);
int verb_submit(int, char **);
int verb_wait(int, char **);
int verb_logs(int, char **);

/* ---- show.c ---- */
int verb_tasks(int, char **);
int verb_ps(int, char **);
int verb_workers(int, char **);
int verb_stats(int, char **);
int verb_sched(int, char **);
int verb_check(int, char **);
int verb_info(int, char **);
int verb_cancel(int, char **);
int verb_restart(int, char **);
int verb_procs(int, char **);

/* ---- life.c ---- */
int verb_life(int, char **);
int verb_trace(int, char **);

/* ---- top.c ---- */
int verb_top(int, char **);

/* ---- frames.c ---- */
struct unwind_frame;
const char *frame_name(const struct unwind_frame *); /* good until the next call */
void frame_print(const struct unwind_frame *);	     /* the line with the place */
json_t *frame_json(const struct unwind_frame *);

/* ---- crash.c ---- */
int verb_crash(int, char **);

/* ---- dump.c ---- */
int verb_dump(int, char **);

/* ---- print.c ---- */
#define TABLE_COLUMNS 10
struct table {
	int columns;
	const char *titles[TABLE_COLUMNS];
	const char *align; /* one letter a column: l or r; the last is cut to fit */
	int status;	   /* column that is coloured, or -1 */
	char **cells;
	size_t rows, room;
};
void table_add(struct table *, char *cells[]); /* takes the strings */
void table_print(struct table *);
char *show_duration(int64_t ns);
char *show_size(int64_t bytes);
char *show_clean(const char *text); /* a copy without control characters */
int64_t get_int(json_t *, const char *key, int64_t otherwise);
const char *get_text(json_t *, const char *key); /* "" when absent */
int64_t get_time(json_t *, const char *key);	 /* ns since 1970, or 0 */
void print_json(json_t *reply);
void print_members(json_t *reply);

#endif
