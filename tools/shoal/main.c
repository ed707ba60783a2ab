/* main.c - the verbs, their help, and the way in. */
#include "tools/shoal/cli.h"

#include <fcntl.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int verb_help(int, char **);
static int verb_version(int, char **);

#define TASK_OPTIONS \
	"  --attempts N        runs it may have when its worker dies or it crashes (1)\n" \
	"  --timeout DURATION  ends it after 250ms, 5s, 2m, 1h\n" \
	"  --name NAME         shown by tasks\n" \
	"  --env K=V           sets a variable of its environment; may be repeated\n"

static const struct verb verbs[] = {
	{"start", verb_start, false, false, 1, "[--procs N] [--spare N] [--memory SIZE] [OPTIONS] [--foreground]",
	 "starts the supervisor and returns when it takes tasks",
	 "  --procs N      number of Ps: goroutines that run at once\n"
	 "  --spare N      workers kept ready beyond that\n"
	 "  --memory SIZE  of the segment: 64M, 2G\n"
	 "  --output-memory SIZE  for output of tasks that is kept for logs; default: a 16th\n"
	 "                 of the machine's memory. Beyond it the oldest is dropped\n"
	 "  --output-dir DIR  or goes to files there instead\n"
	 "  --foreground   becomes the supervisor instead of leaving it in the background\n"
	 "Its log lies next to its socket.\n"},
	{"run", verb_run, false, true, EXIT_OWN_FAILURE, "[options] MODULE[:ENTRY] [ARG...]",
	 "runs a task: streams its output, exits with its code",
	 TASK_OPTIONS "  --detach            as submit\n"
		      "MODULE is a .so, or a .c that is compiled. With no supervisor running, one is\n"
		      "started for this task alone. Ctrl-C cancels the task, a second one ends it at once.\n"
		      "Exit code: the task's own; 124 timed out, 125 Shoal's own failure, 126 module not\n"
		      "loadable, 127 module or entry not found, 128+signal crashed, 137 lost, 130 cancelled.\n"},
	{"submit", verb_submit, true, true, EXIT_OWN_FAILURE, "[options] MODULE[:ENTRY] [ARG...]",
	 "submits a task and prints its id", TASK_OPTIONS},
	{"wait", verb_wait, true, true, EXIT_OWN_FAILURE, "ID...", "waits for tasks; exits with the code of the last",
	 "The codes are those of run.\n"},
	{"logs", verb_logs, true, true, 1, "[-f] ID", "prints what a task has written",
	 "  -f, --follow  goes on until the task ends. The task is held back while it is\n"
	 "                not read, as by a pipe\n"
	 "If the beginning is no longer kept, a line on stderr says how much.\n"},
	{"cancel", verb_cancel, false, false, 1, "ID...", "cancels tasks",
	 "Their calls that would block return -ECANCELED; a second later what is left of\n"
	 "them is ended.\n"},
	{"tasks", verb_tasks, true, false, 1, "[-a]", "lists tasks", "  -a, --all  also those that have ended\n"},
	{"ps", verb_ps, true, false, 1, "[--task ID]", "lists goroutines", "  --task ID  only those of one task\n"},
	{"workers", verb_workers, true, false, 1, "", "lists workers (Ms): pid, P, goroutine, restarts", ""},
	{"life", verb_life, true, false, 1, "GID", "prints the life of a goroutine, transition by transition",
	 "Time since the supervisor began, from, to, worker, P, stack, why. Events are kept in\n"
	 "a ring a worker: of one that changes often, or long ago, only the last are there.\n"},
	{"dump", verb_dump, true, false, 1, "[-a] [GID]", "prints the stacks of goroutines in Go's format",
	 "With function, file and line. Those with equal stacks stand together above one.\n"
	 "One that runs is stopped for a moment.\n"
	 "  -a, --all  with the runtime's own frames\n"},
	{"stats", verb_stats, true, false, 1, "", "prints counters", ""},
	{"sched", verb_sched, true, false, 1, "", "prints one line in the format of Go's schedtrace", ""},
	{"check", verb_check, true, false, 1, "", "audits the whole segment",
	 "Prints \"clean\" and exits 0, or what is wrong and 1.\n"},
	{"crash", verb_crash, true, false, 1, "[ID]", "prints crash records: signal, address, backtrace",
	 "With ID only those of that task.\n"},
	{"restart", verb_restart, false, false, 1, "[WORKER]", "replaces a worker, or all of them",
	 "The goroutine that runs on it is preempted first and goes on afterwards.\n"},
	{"top", verb_top, false, false, 1, "", "shows all of it, live", "q ends it.\n"},
	{"trace", verb_trace, false, false, 1, "[--seconds N] -o FILE",
	 "writes a trace for Chrome (about:tracing) and Perfetto",
	 "  -s, --seconds N    so long; 1 if it is not said\n"
	 "  -o, --output FILE  - is stdout\n"
	 "A track a worker, a slice each time a goroutine runs, arrows for wake-ups.\n"},
	{"procs", verb_procs, true, false, 1, "[N]", "sets the number of Ps, and prints it",
	 "The world is stopped for a moment. At most 62; without N it is only printed.\n"},
	{"info", verb_info, true, false, 1, "", "prints what the supervisor says of itself", ""},
	{"stop", verb_stop, false, false, 1, "[--now]", "stops the supervisor when its tasks have ended",
	 "  --now  ends the tasks\n"},
	{"help", verb_help, false, false, 1, "[VERB]", "this list, or more on one verb", ""},
	{"version", verb_version, true, false, 1, "", "prints the version", ""},
	{NULL, NULL, false, false, 0, NULL, NULL, NULL},
};

const struct verb *verb_find(const char *name)
{
	for (const struct verb *v = verbs; v->name; v++)
		if (strcmp(v->name, name) == 0)
			return v;
	return NULL;
}

static _Noreturn void no_verb(const char *typed)
{
	cli.verb = NULL;
	for (const struct verb *v = verbs; v->name; v++)
		if (v->run && close_to(typed, v->name))
			usage("no verb '%s'; did you mean %s?", typed, v->name);
	usage("no verb '%s'", typed);
}

static void print_list(FILE *to)
{
	fputs("usage: shoal [--socket PATH] VERB [options] ...\n\n", to);
	for (const struct verb *v = verbs; v->name; v++)
		if (v->run)
			fprintf(to, "  %-8s  %s\n", v->name, v->summary);
	fputs("\n--json on every verb that reads: one object on one line. The socket: --socket,\n"
	      "else $SHOAL_SOCKET, else $XDG_RUNTIME_DIR/shoal/default.sock, else\n"
	      "/tmp/shoal-UID/default.sock. More on one verb: shoal help VERB\n",
	      to);
}

void print_help(const struct verb *v)
{
	if (!v) {
		print_list(stdout);
		return;
	}
	printf("usage: shoal %s%s%s\n\n%s\n", v->name, *v->synopsis ? " " : "", v->synopsis, v->summary);
	if (*v->details || v->reads)
		printf("\n%s%s", v->details, v->reads ? "  --json  one object on one line\n" : "");
}

static _Noreturn void not_available(const struct verb *v)
{
	cli.verb = NULL;
	fail(1, "%s is not available in this version", v->name);
}

static int verb_help(int argc, char **argv)
{
	int n = parse_options(argc, argv, NULL, false);
	if (n > 1)
		usage("one verb at a time");
	const struct verb *v = n ? verb_find(argv[0]) : NULL;
	if (n && !v)
		no_verb(argv[0]);
	if (v && !v->run)
		not_available(v);
	print_help(v);
	return 0;
}

static int verb_version(int argc, char **argv)
{
	if (parse_options(argc, argv, NULL, false))
		usage("'%s' is too much", argv[0]);
	puts(cli.json ? "{\"version\": 1, \"shoal\": \"" SHOAL_VERSION "\"}" : "shoal " SHOAL_VERSION);
	return 0;
}

/* A descriptor that we open must not become 0, 1 or 2: output would go there. What is missing is
 * opened the wrong way round, so that using it fails as it should. */
static void hold_standard_fds(void)
{
	for (int fd = 0; fd <= 2; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) != fd)
			_exit(1);
}

int main(int argc, char **argv)
{
	hold_standard_fds();
	signal(SIGPIPE, SIG_IGN);
	setlocale(LC_TIME, "C");
	argc--;
	argv++;
	bool version = argc && strcmp(argv[0], "--version") == 0;
	int rest = version ? 0 : parse_options(argc, argv, NULL, true);
	/* parse_options has moved the verb and what follows to the front. */
	if (!version && rest == 0) {
		print_list(stderr);
		return EXIT_USAGE;
	}
	const struct verb *v = verb_find(version ? "version" : argv[0]);
	if (!v)
		no_verb(argv[0]);
	if (!v->run)
		not_available(v);
	cli.verb = v;
	int code = version ? verb_version(argc - 1, argv + 1) : v->run(rest - 1, argv + 1);
	flush_stdout();
	return code;
}
