/*
 * main.c - runs the benchmarks of suite.c, sched.c and net.c and prints their figures beside what we aim at and what
 * Go reaches.
 *
 *   bench [--procs N] [--only NAME] [--no-go] [--json]
 *
 * Each benchmark is a `shoal run` of its own. No supervisor answers at the socket that it is told,
 * so it starts one for this task alone and ends it afterwards: none finds memory that another has
 * warmed. Servers are put under load from here (load.c), and so is a plain epoll server, right
 * after: rows ending in _of_epoll are our requests a second over its. Go's ratio is known for one
 * row, where Go, the plain server and the client were measured side by side.
 *
 * Without --procs each row has the number of Ps that it says, 1 and 2 where both are told apart.
 * Figures are medians: of rounds after a warm-up within a run, or of cold runs. A figure that misses
 * its aim is marked with a !. Exit code: 0; 1 if a figure is missing; 2 usage.
 *
 * Where rows.go could be built (go is installed), each row is run by that too, right after ours: the
 * column "Go here" is of this machine and these minutes, and what is behind it is marked with a <.
 */
#include "tests/bench/load.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define TIMES_MAX 3
#define TASK_TIMEOUT "120s"

enum how { TASK, ECHO, HTTP }; /* ECHO, HTTP: connections of load on a server */

/*
 * Aims; where none was set, to be ahead of Go. Go's figures: Go 1.26.1 on the machine where the aims were set,
 * GOMAXPROCS=1 or 2 as the row. 0: none.
 */
static struct row {
	const char *name, *unit;
	int procs;
	double aim, go;
	const char *module, *task; /* what the module calls it; rows of one task follow one another */
	int times;		   /* runs, each in a new supervisor; the median counts */
	enum how how;
	int connections;
	bool more;     /* is better */
	bool of_plain; /* the figure is a ratio to a plain server's */
	struct found {
		double v[TIMES_MAX];
		int n;
	} ours, gos; /* what was measured */
} rows[] = {
#define RUN(name, unit, procs, aim, go, module, task, times) \
	{ \
		name, unit, procs, aim, go, module, task, times, TASK, 0, false, false, {{0}, 0}, \
		{ \
			{0}, 0 \
		} \
	}
#define LOAD(name, procs, aim, go, how, n, ratio) \
	{name, "req/s", procs, aim, go, NULL, name, 3, how, n, true, false, {{0}, 0}, {{0}, 0}}, \
	{ \
		name "_of_epoll", "x", procs, ratio, ratio, NULL, name, 3, how, n, true, true, {{0}, 0}, \
		{ \
			{0}, 0 \
		} \
	}
	RUN("spawn", "ns", 1, 60, 231, "suite", "spawn", 1),
	RUN("yield", "ns", 1, 25, 89, "suite", "yield", 1),
	RUN("pingpong", "ns", 1, 100, 331, "suite", "pingpong", 1),
	RUN("parked_bytes", "B", 1, 700, 2768, "suite", "parked", 3),
	RUN("parked_create", "ns", 1, 500, 2457, "suite", "parked", 3),
	RUN("parked_wake", "ns", 1, 150, 626, "suite", "parked", 3),
	RUN("migrate", "ns", 2, 0, 0, "suite", "migrate", 1),
	RUN("ring", "ns", 1, 179, 179, "sched", "ring", 1),
	RUN("skynet", "ms", 1, 1085, 1085, "sched", "skynet", 1),
	RUN("fib", "ms", 1, 130, 130, "sched", "fib", 1),
	RUN("growstack", "ns", 1, 12283, 12283, "sched", "growstack", 1),
	RUN("syscall", "ns", 1, 127, 127, "net", "syscall", 1),
	RUN("pipe_ring", "ns", 1, 16000, 16000, "net", "pipe_ring", 1),
	RUN("sleepers", "ms", 1, 1038, 1038, "sched", "sleepers", 3),
	RUN("sleepers_cpu", "ms", 1, 980, 980, "sched", "sleepers", 3),
	RUN("preempt", "ms", 1, 20, 20, "sched", "preempt", 1),
	RUN("chan128", "ns", 1, 37, 37, "suite", "chan128", 1),
	RUN("chan8", "ns", 1, 36, 36, "suite", "chan8", 1),
	RUN("select2", "ns", 1, 222, 222, "suite", "select2", 1),
	RUN("mutex8", "ns", 1, 18, 18, "suite", "mutex8", 1),
	RUN("malloc_mix", "ns", 1, 0, 0, "suite", "malloc_mix", 1),
	LOAD("echo_1", 1, 0, 0, ECHO, 1, 0),
	LOAD("echo_64", 1, 113e3, 113e3, ECHO, 64, 0.42),
	LOAD("echo_1000", 1, 62e3, 62e3, ECHO, 1000, 0),
	LOAD("http_64", 1, 65e3, 65e3, HTTP, 64, 0),
	LOAD("http_1000", 1, 0, 0, HTTP, 1000, 0),
	RUN("spawn", "ns", 2, 300, 300, "suite", "spawn", 1),
	RUN("yield", "ns", 2, 138, 138, "suite", "yield", 1),
	RUN("pingpong", "ns", 2, 314, 314, "suite", "pingpong", 1),
	RUN("parked_bytes", "B", 2, 2768, 2768, "suite", "parked", 3),
	RUN("parked_create", "ns", 2, 1879, 1879, "suite", "parked", 3),
	RUN("parked_wake", "ns", 2, 583, 583, "suite", "parked", 3),
	RUN("ring", "ns", 2, 171, 171, "sched", "ring", 1),
	RUN("skynet", "ms", 2, 980, 980, "sched", "skynet", 1),
	RUN("fib", "ms", 2, 89, 89, "sched", "fib", 1),
	RUN("sleepers", "ms", 2, 683, 683, "sched", "sleepers", 3),
	RUN("sleepers_cpu", "ms", 2, 1160, 1160, "sched", "sleepers", 3),
	RUN("chan128", "ns", 2, 45, 45, "suite", "chan128", 1),
	RUN("chan8", "ns", 2, 67, 67, "suite", "chan8", 1),
	RUN("select2", "ns", 2, 220, 220, "suite", "select2", 1),
	RUN("mutex8", "ns", 2, 88, 88, "suite", "mutex8", 1),
	RUN("malloc_mix", "ns", 2, 0, 0, "suite", "malloc_mix", 1),
	LOAD("echo_1", 2, 0, 0, ECHO, 1, 0),
	LOAD("echo_64", 2, 193e3, 193e3, ECHO, 64, 0),
	LOAD("echo_1000", 2, 90e3, 90e3, ECHO, 1000, 0),
	LOAD("http_64", 2, 100e3, 100e3, HTTP, 64, 0),
	LOAD("http_1000", 2, 0, 0, HTTP, 1000, 0),
};
#define NROWS (sizeof(rows) / sizeof(rows[0]))
#define PLAIN_MAX 64
#define LOAD_SECONDS 1.0

static char folder[4096]; /* of this program: shoal and bench.d are in it as well */
static char nowhere[64];  /* an empty folder: no socket in it */
static int procs;	  /* --procs; 0: as each row says */
static const char *only;
static bool with_go = true;
static char go_version[32]; /* empty: no rows.go here */

static int procs_of(const struct row *r)
{
	return procs > r->procs ? procs : r->procs;
}

/* A row for two Ps is the same as that for one when both are run with N. */
static bool wanted(const struct row *r)
{
	if (only && strcmp(only, r->name) != 0)
		return false;
	for (const struct row *same = rows; procs && same < r; same++)
		if (strcmp(same->name, r->name) == 0 && procs_of(same) == procs_of(r))
			return false;
	return true;
}

static void remove_nowhere(void)
{
	rmdir(nowhere);
}

static void find_places(void)
{
	ssize_t n = readlink("/proc/self/exe", folder, sizeof(folder) - 1);

	if (n <= 0) {
		perror("bench: cannot find myself");
		exit(1);
	}
	folder[n] = 0;
	*strrchr(folder, '/') = 0;
	strcpy(nowhere, "/tmp/shoal-bench-XXXXXX");
	if (!mkdtemp(nowhere)) {
		perror("bench: cannot make a folder in /tmp");
		exit(1);
	}
	atexit(remove_nowhere);
}

static _Noreturn void become(const char *const argv[], int n, int out, pid_t parent)
{
	char socket[96], number[16];

	snprintf(socket, sizeof(socket), "%s/none.sock", nowhere);
	snprintf(number, sizeof(number), "%d", n);
	setenv("SHOAL_SOCKET", socket, 1);
	setenv("SHOAL_PROCS", number, 1);
	setenv("GOMAXPROCS", number, 1);
	unsetenv("SHOAL_DEBUG");
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(1);
	dup2(out, 1);
	execv(argv[0], (char *const *)argv);
	fprintf(stderr, "bench: cannot run %s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

/* A program with n Ps; what it prints comes by the stream. */
static FILE *start(const char *const argv[], int n, pid_t *pid)
{
	pid_t parent = getpid();
	int ends[2];
	FILE *out;

	if (pipe2(ends, O_CLOEXEC) < 0 || (*pid = fork()) < 0) {
		perror("bench: cannot start a process");
		exit(1);
	}
	if (*pid == 0)
		become(argv, n, ends[1], parent);
	close(ends[1]);
	out = fdopen(ends[0], "r");
	if (!out)
		abort();
	return out;
}

static FILE *start_task(const char *module, const char *task, const char *more, int n, pid_t *pid)
{
	char program[sizeof(folder) + 16];
	const char *const argv[] = {program, "run", "--timeout", TASK_TIMEOUT, module, task, more, NULL};

	snprintf(program, sizeof(program), "%s/shoal", folder);
	return start(argv, n, pid);
}

static FILE *start_go(const char *row, int n, pid_t *pid)
{
	char program[sizeof(folder) + 16];
	const char *const argv[] = {program, row, NULL};

	snprintf(program, sizeof(program), "%s/bench.d/rows", folder);
	return start(argv, n, pid);
}

static int end_task(FILE *out, pid_t pid)
{
	int status = 0;

	fclose(out);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return status;
}

static void take_figure(const char *name, int n, bool of_plain, bool gos, double figure)
{
	for (struct row *r = rows; r < rows + NROWS; r++) {
		struct found *f = gos ? &r->gos : &r->ours;

		if (strcmp(r->name, name) == 0 && r->of_plain == of_plain && wanted(r) && procs_of(r) == n &&
		    f->n < TIMES_MAX)
			f->v[f->n++] = figure;
	}
}

/* Notes all figures that the program prints, and waits for its end. */
static void read_figures(const struct row *r, FILE *out, pid_t pid, bool gos)
{
	const char *who = gos ? "Go" : "shoal run";
	char line[256], name[64];
	double figure;
	int status;

	while (fgets(line, sizeof(line), out))
		if (sscanf(line, "%63s %lf", name, &figure) == 2)
			take_figure(name, procs_of(r), false, gos, figure);
	status = end_task(out, pid);
	if (WIFSIGNALED(status))
		fprintf(stderr, "bench: %s: %s ended by signal %d\n", r->task, who, WTERMSIG(status));
	else if (WEXITSTATUS(status) != 0)
		fprintf(stderr, "bench: %s: %s exits with %d\n", r->task, who, WEXITSTATUS(status));
}

/* Runs the row's task once, here and in Go. */
static void run_task(const struct row *r)
{
	char module[sizeof(folder) + 64];
	FILE *out;
	pid_t pid;

	snprintf(module, sizeof(module), "%s/bench.d/%s.so", folder, r->module);
	out = start_task(module, r->task, NULL, procs_of(r), &pid);
	read_figures(r, out, pid, false);
	if (!*go_version || r->go <= 0)
		return;
	out = start_go(r->task, procs_of(r), &pid);
	read_figures(r, out, pid, true);
}

static void find_go(void)
{
	pid_t pid;
	FILE *out;
	char program[sizeof(folder) + 16];

	snprintf(program, sizeof(program), "%s/bench.d/rows", folder);
	if (access(program, X_OK) < 0)
		return;
	out = start_go("version", 1, &pid);
	if (!fgets(go_version, sizeof(go_version), out))
		*go_version = 0;
	go_version[strcspn(go_version, "\n")] = 0;
	end_task(out, pid);
}

/* ---- servers ---- */

static double put_load(const struct row *r, int port)
{
	if (port <= 0)
		return 0;
	return r->how == HTTP ? load_http(port, r->connections, LOAD_SECONDS)
			      : load_echo(port, r->connections, LOAD_SECONDS);
}

static double load_plain(const struct row *r)
{
	pid_t pid[PLAIN_MAX] = {0};
	double figure = put_load(r, plain_start(r->how == HTTP, procs_of(r), pid, PLAIN_MAX));

	plain_stop(pid, procs_of(r));
	return figure;
}

/* The server says "port N" or "http://127.0.0.1:N/". */
static double load_program(const struct row *r, FILE *out, pid_t pid)
{
	char line[256];
	double figure = 0;
	int port = 0;

	while (!port && fgets(line, sizeof(line), out))
		if (sscanf(line, "port %d", &port) != 1)
			sscanf(line, "http://127.0.0.1:%d/", &port);
	figure = put_load(r, port);
	kill(pid, SIGTERM);
	end_task(out, pid);
	if (figure <= 0)
		fprintf(stderr, "bench: %s: no answers\n", r->task);
	return figure;
}

static double load_ours(const struct row *r)
{
	char module[sizeof(folder) + 64];
	FILE *out;
	pid_t pid;

	snprintf(module, sizeof(module), "%s/%s.so", folder, r->how == HTTP ? "examples/httpd" : "bench.d/net");
	if (r->how == HTTP)
		out = start_task(module, "--port", "0", procs_of(r), &pid);
	else
		out = start_task(module, "echo_server", NULL, procs_of(r), &pid);
	return load_program(r, out, pid);
}

static double load_go(const struct row *r)
{
	pid_t pid;
	FILE *out = start_go(r->how == HTTP ? "http_server" : "echo_server", procs_of(r), &pid);

	return load_program(r, out, pid);
}

/* The figures are those of the row and of its ratio, the next. */
static void run_load(const struct row *r)
{
	const char *ratio = (r->of_plain ? r : r + 1)->name;
	double ours, plain, gos;

	if (r->how == HTTP && !load_has_wrk())
		return;
	ours = load_ours(r);
	plain = load_plain(r);
	gos = *go_version ? load_go(r) : 0;
	if (ours > 0)
		take_figure(r->task, procs_of(r), false, false, ours);
	if (gos > 0)
		take_figure(r->task, procs_of(r), false, true, gos);
	if (ours > 0 && plain > 0)
		take_figure(ratio, procs_of(r), true, false, ours / plain);
	if (gos > 0 && plain > 0)
		take_figure(ratio, procs_of(r), true, true, gos / plain);
}

static void run_tasks(void)
{
	const struct row *last = NULL;

	for (const struct row *r = rows; r < rows + NROWS; r++) {
		if (!wanted(r) || (last && strcmp(r->task, last->task) == 0 && procs_of(r) == procs_of(last)))
			continue;
		last = r;
		if (isatty(2))
			fprintf(stderr, "\r\033[K%s ...", r->task);
		for (int i = 0; i < r->times; i++)
			if (r->how == TASK)
				run_task(r);
			else
				run_load(r);
	}
	if (isatty(2))
		fputs("\r\033[K", stderr);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* False: a run has failed, and what is left is no median of as many as we say. */
static bool figure_of(const struct row *r, struct found *f, double *figure)
{
	if (f->n != r->times)
		return false;
	qsort(f->v, (size_t)f->n, sizeof(f->v[0]), compare);
	*figure = f->v[f->n / 2];
	return true;
}

static void print_json(void)
{
	const char *comma = "";
	double figure;

	printf("{\"version\":1,\"rows\":[");
	for (struct row *r = rows; r < rows + NROWS; r++) {
		if (!wanted(r))
			continue;
		printf("%s{\"name\":\"%s\",\"unit\":\"%s\",\"procs\":%d,", comma, r->name, r->unit, procs_of(r));
		if (figure_of(r, &r->ours, &figure))
			printf("\"shoal\":%.*f,", r->of_plain ? 3 : 1, figure);
		else
			printf("\"shoal\":null,");
		if (figure_of(r, &r->gos, &figure))
			printf("\"go\":%.*f,", r->of_plain ? 3 : 1, figure);
		if (r->aim > 0)
			printf("\"aim\":%g}", r->aim);
		else
			printf("\"aim\":null}");
		comma = ",";
	}
	printf("]}\n");
}

static void print_or_dash(bool there, int decimals, double figure)
{
	if (there)
		printf("  %8.*f", decimals, figure);
	else
		printf("  %8s", "-");
}

static bool behind(const struct row *r, double figure, double than)
{
	return than > 0 && (r->more ? figure < than : figure > than);
}

static void print_table(void)
{
	int decimals;

	printf("%-19s  %-5s  %5s  %8s  %8s  %8s", "name", "unit", "procs", "shoal", "aim", "Go 1.26");
	if (*go_version)
		printf("  %8s", "Go here");
	putchar('\n');
	for (struct row *r = rows; r < rows + NROWS; r++) {
		double figure = 0, gos = 0;
		bool there, go_there;

		if (!wanted(r))
			continue;
		decimals = r->of_plain ? 3 : r->more ? 0 : 1;
		there = figure_of(r, &r->ours, &figure);
		go_there = figure_of(r, &r->gos, &gos);
		printf("%-19s  %-5s  %5d", r->name, r->unit, procs_of(r));
		print_or_dash(there, decimals, figure);
		print_or_dash(r->aim > 0, r->of_plain ? 2 : 0, r->aim);
		print_or_dash(r->go > 0, r->of_plain ? 2 : 0, r->go);
		if (*go_version)
			print_or_dash(go_there, decimals, gos);
		fputs(there && behind(r, figure, r->aim) ? "  !" : "", stdout);
		puts(there && go_there && behind(r, figure, gos) ? "  <" : "");
	}
	if (*go_version)
		printf("Go here: %s. ! misses its aim  < behind Go here\n", go_version);
}

static _Noreturn void usage(void)
{
	fprintf(stderr, "usage: bench [--procs N] [--only NAME] [--no-go] [--json]\nNAME:");
	for (const struct row *r = rows; r < rows + NROWS; r++) {
		const struct row *same = rows;

		while (strcmp(same->name, r->name) != 0)
			same++;
		if (same == r)
			fprintf(stderr, " %s", r->name);
	}
	fputc('\n', stderr);
	exit(2);
}

static bool parse(int argc, char **argv)
{
	static const struct option longs[] = {{"procs", required_argument, NULL, 'p'},
					      {"only", required_argument, NULL, 'o'},
					      {"json", no_argument, NULL, 'j'},
					      {"no-go", no_argument, NULL, 'g'},
					      {NULL, 0, NULL, 0}};
	bool json = false, known = false;
	char *end;
	long n;
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 'p':
			n = strtol(optarg, &end, 10);
			if (*end || end == optarg || n < 1 || n > 64)
				usage();
			procs = (int)n;
			break;
		case 'o': only = optarg; break;
		case 'j': json = true; break;
		case 'g': with_go = false; break;
		default: usage();
		}
	}
	for (const struct row *r = rows; r < rows + NROWS; r++)
		known = known || wanted(r);
	if (optind < argc || !known)
		usage();
	return json;
}

int main(int argc, char **argv)
{
	bool json = parse(argc, argv), whole = true;
	double figure;

	find_places();
	if (with_go)
		find_go();
	run_tasks();
	if (json)
		print_json();
	else
		print_table();
	for (struct row *r = rows; r < rows + NROWS; r++)
		whole = whole && (!wanted(r) || figure_of(r, &r->ours, &figure));
	return whole ? 0 : 1;
}
