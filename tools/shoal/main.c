/* main.c - the table of verbs, their help, and main. */
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
	"  --attempts N        runs it at most N times if it crashes or its worker dies (1)\n" \
	"  --timeout DURATION  ends the task after 250ms, 5s, 2m, 1h\n" \
	"  --name NAME         a name for `shoal tasks`\n" \
	"  --env K=V           sets an environment variable; may be repeated\n"

static const struct verb verbs[] = {
	{"start", verb_start, false, false, 1, "[--procs N] [--spare N] [--memory SIZE] [OPTIONS] [--foreground]",
	 "starts the supervisor and returns when it takes tasks",
	 "  --procs N      number of Ps: how many goroutines run at the same time\n"
	 "  --spare N      number of additional workers that are kept ready\n"
	 "  --memory SIZE  size of the segment: 64M, 2G\n"
	 "  --output-memory SIZE  memory for output of tasks that `logs` can show; default:\n"
	 "                 1/16 of the machine's memory. Beyond it the oldest output is dropped\n"
	 "  --output-dir DIR  moves the oldest output to files in DIR instead of dropping it\n"
	 "  --foreground   runs the supervisor in the foreground\n"
	 "The log is next to the socket.\n"},
	{"run", verb_run, false, true, EXIT_OWN_FAILURE, "[options] MODULE[:ENTRY] [ARG...]",
	 "runs a task, streams its output and exits with its exit code",
	 TASK_OPTIONS "  --detach            the same as submit\n"
		      "MODULE is a .so file, or a .c, .cc or .cpp file that Shoal compiles with $CC or $CXX,\n"
		      "$CFLAGS and $LDLIBS. ENTRY: shoal_main, or main. If no supervisor is running, one is\n"
		      "started for this task alone. Ctrl-C cancels the task; a second Ctrl-C ends it at once.\n"
		      "Exit code: the task's own; 124 timed out, 125 Shoal itself failed, 126 module cannot be\n"
		      "loaded, 127 module or entry not found, 128+signal crashed, 137 lost, 130 cancelled.\n"},
	{"submit", verb_submit, true, true, EXIT_OWN_FAILURE, "[options] MODULE[:ENTRY] [ARG...]",
	 "submits a task and prints its id", TASK_OPTIONS},
	{"wait", verb_wait, true, true, EXIT_OWN_FAILURE, "ID...",
	 "waits for tasks and exits with the exit code of the last one", "The exit codes are those of run.\n"},
	{"logs", verb_logs, true, true, 1, "[-f] ID", "prints what a task has written",
	 "  -f, --follow  continues until the task ends. A task that writes faster than its\n"
	 "                output is read has to wait, as when it writes to a pipe\n"
	 "If the beginning was dropped, a line on stderr says how much is missing.\n"},
	{"cancel", verb_cancel, false, false, 1, "ID...", "cancels tasks",
	 "Their blocking calls return -ECANCELED. Tasks that have not ended a second later are\n"
	 "ended by force.\n"},
	{"tasks", verb_tasks, true, false, 1, "[-a]", "lists tasks", "  -a, --all  also lists tasks that have ended\n"},
	{"ps", verb_ps, true, false, 1, "[--task ID]", "lists goroutines",
	 "  --task ID  lists only the goroutines of this task\n"},
	{"workers", verb_workers, true, false, 1, "", "lists workers (Ms): pid, P, goroutine, restarts", ""},
	{"life", verb_life, true, false, 1, "GID", "prints the status transitions of a goroutine",
	 "Each line has the time since the supervisor started, old and new status, worker, P,\n"
	 "stack size and reason. Each worker keeps a limited number of transitions, so old ones\n"
	 "may be missing.\n"},
	{"dump", verb_dump, true, false, 1, "[-a] [GID]", "prints the stacks of goroutines in Go's format",
	 "With function, file and line. Goroutines with equal stacks are printed together.\n"
	 "A running goroutine is stopped for a short time.\n"
	 "  -a, --all  also prints the runtime's own frames\n"},
	{"stats", verb_stats, true, false, 1, "", "prints counters", ""},
	{"sched", verb_sched, true, false, 1, "", "prints one line in the format of Go's schedtrace", ""},
	{"check", verb_check, true, false, 1, "", "audits the whole segment",
	 "Prints \"clean\" and exits with 0, or prints what is wrong and exits with 1.\n"},
	{"crash", verb_crash, true, false, 1, "[ID]", "prints crash records: signal, address, backtrace",
	 "ID is the number of a task or goroutine.\n"},
	{"restart", verb_restart, false, false, 1, "[WORKER]", "replaces a worker, or all of them",
	 "Goroutines that run on the worker are preempted and continue on another worker.\n"},
	{"top", verb_top, false, false, 1, "", "shows counters, queues, workers and tasks, live",
	 "The key q ends it.\n"},
	{"trace", verb_trace, false, false, 1, "[--seconds N] -o FILE",
	 "writes a trace for Chrome (about:tracing) and Perfetto",
	 "  -s, --seconds N    length in seconds (default 1)\n"
	 "  -o, --output FILE  file for the trace; - is stdout\n"
	 "The trace has one track for each worker, a slice for each run of a goroutine, and arrows\n"
	 "for wake-ups.\n"},
	{"procs", verb_procs, true, false, 1, "[N]", "sets the number of Ps and prints it",
	 "N is at most 62. All goroutines stop for a short time. Without N only prints the number.\n"},
	{"info", verb_info, true, false, 1, "", "prints facts about the supervisor", ""},
	{"stop", verb_stop, false, false, 1, "[--now]", "stops the supervisor after its tasks have ended",
	 "  --now  ends the tasks at once\n"},
	{"help", verb_help, false, false, 1, "[VERB]", "prints this list, or the help of one verb", ""},
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
		if (v->run && is_similar(typed, v->name))
			usage("unknown verb '%s'; did you mean %s?", typed, v->name);
	usage("unknown verb '%s'", typed);
}

static void print_list(FILE *to)
{
	fputs("usage: shoal [--socket PATH] VERB [options] ...\n\n", to);
	for (const struct verb *v = verbs; v->name; v++)
		if (v->run)
			fprintf(to, "  %-8s  %s\n", v->name, v->summary);
	fputs("\nEvery verb that reads takes --json and then prints one object on one line. The\n"
	      "socket is --socket PATH, else $SHOAL_SOCKET, else\n"
	      "$XDG_RUNTIME_DIR/shoal/default.sock, else /tmp/shoal-UID/default.sock.\n"
	      "Help of one verb: shoal help VERB\n",
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
		usage("expected at most one verb");
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
		usage("unexpected argument '%s'", argv[0]);
	puts(cli.json ? "{\"version\": 1, \"shoal\": \"" SHOAL_VERSION "\"}" : "shoal " SHOAL_VERSION);
	return 0;
}

/*
 * Opens /dev/null for each standard descriptor that is closed, so that no other file gets its number and receives
 * output. It is opened for the wrong direction, so that using it fails as on a closed descriptor.
 */
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
	/* parse_options has moved the verb and the words after it to the front. */
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
