/*
 * cli.h - declarations that the files of the command line share.
 *
 * One process runs one verb in one thread. A function that fails ends the process by fail(), usage() or exit() and
 * returns no error codes. atexit functions undo what must be undone (a private supervisor and its folder). Data
 * goes to stdout by stdio, everything else to stderr.
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
	int (*run)(int argc, char **argv); /* NULL: not available in this version */
	bool reads;			   /* accepts --json */
	bool waits_for_next;		   /* waits without a time limit for the next supervisor if this one dies */
	/* exit code when Shoal itself fails; 125 for verbs that exit with a task's code */
	int failure;
	const char *synopsis, *summary, *details;
};

struct cli {
	const struct verb *verb; /* NULL until parsed */
	const char *socket;	 /* from --socket, or NULL */
	bool json;
};
extern struct cli cli;

/* ---- main.c ---- */
const struct verb *verb_find(const char *name);
void print_help(const struct verb *);

/* ---- say.c: messages and exits ---- */
_Noreturn void fail(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
_Noreturn void usage(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void say_block(const char *text); /* prints several lines; control characters become '?' */
int failure_code(void);
void flush_stdout(void);	     /* ends the process if stdout cannot be written */
_Noreturn void end_by_sigpipe(void); /* exits with 141, as a filter does after SIGPIPE */
void *must(void *);		     /* returns its argument; NULL (out of memory) ends the process */
char *format(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
char *tail_of(const char *file); /* returns the last non-empty line of the file, or NULL */

/* ---- parse.c: arguments ---- */
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
/*
 * Parses the options and moves the other words to the front of argv. Returns the number of those words.
 * first_ends: the first such word ends the options.
 */
int parse_options(int argc, char **argv, const struct opt *, bool first_ends);
bool parse_duration(const char *, int64_t *ns);
bool parse_count(const char *, int64_t min, int64_t *);
int64_t parse_id(const char *what, const char *word);
/* true if `typed` is `name` with one typing error, or its beginning */
bool is_similar(const char *typed, const char *name);
struct module {
	char *typed; /* without the entry; argv[0] of the task */
	char *path;  /* absolute */
	const char *entry;
};
void parse_module(const char *word, struct module *); /* ends with 126 or 127 */
char *absolute(const char *path);		      /* symbolic links stay */

/* ---- conn.c: the socket ---- */
struct conn {
	int fd;
	char *buf;
	size_t len, cap, seen; /* seen: the first `seen` bytes of buf contain no newline */
	int fds[16];
	int nfds;
	pid_t pid; /* of the supervisor */
};
const char *socket_path(void);
void socket_use(char *path); /* overrides --socket and the environment */
/* connects; false: no supervisor listens. Other errors end the process */
bool conn_try(struct conn *, const char *path);
pid_t conn_peer(const struct conn *); /* the supervisor's process; 0: it is hidden by a PID namespace */
/* connects, or ends the process. If a supervisor died and its tasks continue, waits for the next supervisor */
void conn_open(struct conn *);
/*
 * Called when the connection broke. If the tasks continue without the supervisor, waits for the next supervisor
 * and connects to it; meanwhile() is called about 50 times a second. Returns false if the tasks have ended too.
 */
bool conn_reconnect(struct conn *, void (*meanwhile)(void *), void *arg);
bool conn_orphaned(void); /* true if there is no supervisor but its tasks continue */
void conn_close(struct conn *);
void conn_send(struct conn *, json_t *request, int fd); /* frees the request; fd is sent along, unless it is -1 */
/*
 * Returns the next reply that arrives within ms (-1: no limit). NULL: errno is ETIMEDOUT, EINTR, EPIPE (closed) or
 * EPROTO.
 */
json_t *conn_reply(struct conn *, int ms);
/*
 * Sends the request and returns the reply; an error reply ends the process. If the supervisor dies meanwhile,
 * sends the request to the next supervisor, with "again".
 */
json_t *conn_call(struct conn *, json_t *request, int fd);
void reply_check(json_t *reply); /* an error reply ends the process */
int conn_take_fd(struct conn *);
json_t *request(const char *verb);
void put(json_t *object, const char *key, json_t *value); /* the object owns the value */

/* ---- start.c ---- */
/* starts a supervisor that ends with this process. false: interrupted */
bool supervisor_start_private(struct conn *);
const char *supervisor_private_log(void); /* or NULL */
int verb_start(int, char **);
int verb_stop(int, char **);

/* ---- run.c ---- */
bool interrupted(void); /* true after a signal that was not handled yet; only `run` catches signals */
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
const char *frame_name(const struct unwind_frame *);	       /* valid until the next call */
void frame_print(FILE *to, const struct unwind_frame *);       /* prints the function, then the line of its place */
void frame_print_place(FILE *to, const struct unwind_frame *); /* prints the line with file and line number */

/* ---- crash.c ---- */
/* Prints the stack of the last crash of the task to stderr, if there is a record of one. */
void crash_report(struct conn *, int64_t task);
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
	const char *align; /* one letter for each column, l or r; the last column is cut to fit */
	int status;	   /* number of the coloured column, or -1 */
	char **cells;
	size_t rows, room;
};
void table_add(struct table *, char *cells[]); /* the table owns the strings */
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
