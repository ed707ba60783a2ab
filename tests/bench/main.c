/*
 * main.c - runs the benchmarks of suite.c, sched.c and net.c and prints their figures beside what we aim at and what
 * Go reaches.
 *
 *   bench [--procs N] [--only NAME] [--json]
 *
 * Each benchmark is a `shoal run` of its own. No supervisor answers at the socket that it is told,
 * so it starts one for this task alone and ends it afterwards: none finds memory that another has
 * warmed. Exit code: 0; 1 if a figure is missing; 2 usage.
 */
#include <errno.h>
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

/* Aims and Go's figures: Go 1.26.1, GOMAXPROCS=1, on the machine where the aims were set. 0: none. */
static struct row {
	const char *name, *unit;
	const char *module, *task; /* what the module calls it */
	int times;	  /* runs, each in a new supervisor; the median counts */
	int least_procs;
	double aim, go;
	double found[TIMES_MAX];
	int nfound;
} rows[] = {
	{"spawn", "ns", "suite", "spawn", 1, 1, 60, 231, {0}, 0},
	{"yield", "ns", "suite", "yield", 1, 1, 25, 89, {0}, 0},
	{"pingpong", "ns", "suite", "pingpong", 1, 1, 100, 331, {0}, 0},
	{"chan128", "ns", "suite", "chan128", 1, 1, 0, 37, {0}, 0},
	{"chan8", "ns", "suite", "chan8", 1, 1, 0, 36, {0}, 0},
	{"select2", "ns", "suite", "select2", 1, 1, 0, 222, {0}, 0},
	{"mutex8", "ns", "suite", "mutex8", 1, 1, 0, 18, {0}, 0},
	{"parked_bytes", "B", "suite", "parked", 3, 1, 700, 2768, {0}, 0},
	{"parked_create", "ns", "suite", "parked", 3, 1, 500, 2457, {0}, 0},
	{"parked_wake", "ns", "suite", "parked", 3, 1, 150, 626, {0}, 0},
	{"malloc_mix", "ns", "suite", "malloc_mix", 1, 2, 0, 0, {0}, 0},
	{"migrate", "ns", "suite", "migrate", 1, 2, 0, 0, {0}, 0},
	{"ring", "ns", "sched", "ring", 1, 1, 0, 179, {0}, 0},
	{"skynet", "ms", "sched", "skynet", 1, 1, 0, 1085, {0}, 0},
	{"fib", "ms", "sched", "fib", 1, 1, 0, 130, {0}, 0},
	{"growstack", "ns", "sched", "growstack", 1, 1, 0, 12283, {0}, 0},
	{"sleepers", "ms", "sched", "sleepers", 3, 1, 0, 1038, {0}, 0},
	{"sleepers_cpu", "ms", "sched", "sleepers", 3, 1, 0, 980, {0}, 0},
	{"syscall", "ns", "net", "syscall", 1, 1, 0, 127, {0}, 0},
	{"pipe_ring", "ns", "net", "pipe_ring", 1, 1, 0, 16000, {0}, 0},
	{"echo_1", "ns", "net", "echo_1", 1, 1, 0, 0, {0}, 0},
	{"echo_64", "ns", "net", "echo_64", 1, 1, 0, 8850, {0}, 0},
	{"echo_1000", "ns", "net", "echo_1000", 1, 1, 0, 16130, {0}, 0},
	{"http_64", "ns", "net", "http_64", 1, 1, 0, 15385, {0}, 0},
	{"http_1000", "ns", "net", "http_1000", 1, 1, 0, 0, {0}, 0},
	{"preempt", "ms", "sched", "preempt", 1, 1, 0, 20, {0}, 0},
};
#define NROWS (sizeof(rows) / sizeof(rows[0]))

static char folder[4096]; /* of this program: shoal and bench.d are in it as well */
static char nowhere[64];  /* an empty folder: no socket in it */
static int procs = 1;
static const char *only;

static bool wanted(const struct row *r)
{
	return !only || strcmp(only, r->name) == 0;
}

static int procs_of(const struct row *r)
{
	return procs > r->least_procs ? procs : r->least_procs;
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

static _Noreturn void become_shoal(const struct row *r, int out, pid_t parent)
{
	char program[sizeof(folder) + 16], module[sizeof(folder) + 64], socket[96], number[16];

	snprintf(program, sizeof(program), "%s/shoal", folder);
	snprintf(module, sizeof(module), "%s/bench.d/%s.so", folder, r->module);
	snprintf(socket, sizeof(socket), "%s/none.sock", nowhere);
	snprintf(number, sizeof(number), "%d", procs_of(r));
	setenv("SHOAL_SOCKET", socket, 1);
	setenv("SHOAL_PROCS", number, 1);
	unsetenv("SHOAL_DEBUG");
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(1);
	dup2(out, 1);
	execl(program, program, "run", "--timeout", TASK_TIMEOUT, module, r->task, (char *)NULL);
	fprintf(stderr, "bench: cannot run %s: %s\n", program, strerror(errno));
	_exit(127);
}

static void take_line(const char *line)
{
	char name[64];
	double figure;

	if (sscanf(line, "%63s %lf", name, &figure) != 2)
		return;
	for (struct row *r = rows; r < rows + NROWS; r++)
		if (strcmp(r->name, name) == 0 && r->nfound < TIMES_MAX)
			r->found[r->nfound++] = figure;
}

/* Runs the row's task once and notes all figures that it prints. */
static void run_task(const struct row *r)
{
	int ends[2], status = 0;
	pid_t parent = getpid(), pid;
	char line[256];
	FILE *out;

	if (pipe(ends) < 0 || (pid = fork()) < 0) {
		perror("bench: cannot start a process");
		exit(1);
	}
	if (pid == 0) {
		close(ends[0]);
		become_shoal(r, ends[1], parent);
	}
	close(ends[1]);
	out = fdopen(ends[0], "r");
	if (!out)
		abort();
	while (fgets(line, sizeof(line), out))
		take_line(line);
	fclose(out);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFSIGNALED(status))
		fprintf(stderr, "bench: %s: shoal run ended by signal %d\n", r->task, WTERMSIG(status));
	else if (WEXITSTATUS(status) != 0)
		fprintf(stderr, "bench: %s: shoal run exits with %d\n", r->task, WEXITSTATUS(status));
}

static void run_tasks(void)
{
	const char *last = "";

	for (const struct row *r = rows; r < rows + NROWS; r++) {
		if (!wanted(r) || strcmp(r->task, last) == 0)
			continue;
		last = r->task;
		if (isatty(2))
			fprintf(stderr, "\r\033[K%s ...", last);
		for (int i = 0; i < r->times; i++)
			run_task(r);
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
static bool figure_of(struct row *r, double *figure)
{
	if (r->nfound != r->times)
		return false;
	qsort(r->found, (size_t)r->nfound, sizeof(r->found[0]), compare);
	*figure = r->found[r->nfound / 2];
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
		printf("%s{\"name\":\"%s\",\"unit\":\"%s\",\"procs\":%d,", comma, r->name, r->unit,
			procs_of(r));
		if (figure_of(r, &figure))
			printf("\"shoal\":%.1f,", figure);
		else
			printf("\"shoal\":null,");
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

static void print_table(void)
{
	double figure = 0;
	bool there;

	printf("%-14s  %-4s  %5s  %8s  %8s  %8s\n", "name", "unit", "procs", "shoal", "aim", "Go 1.26");
	for (struct row *r = rows; r < rows + NROWS; r++) {
		if (!wanted(r))
			continue;
		printf("%-14s  %-4s  %5d", r->name, r->unit, procs_of(r));
		there = figure_of(r, &figure);
		print_or_dash(there, 1, figure);
		print_or_dash(r->aim > 0, 0, r->aim);
		print_or_dash(r->go > 0, 0, r->go);
		putchar('\n');
	}
}

static _Noreturn void usage(void)
{
	fprintf(stderr, "usage: bench [--procs N] [--only NAME] [--json]\nNAME:");
	for (const struct row *r = rows; r < rows + NROWS; r++)
		fprintf(stderr, " %s", r->name);
	fputc('\n', stderr);
	exit(2);
}

static bool parse(int argc, char **argv)
{
	static const struct option longs[] = {{"procs", required_argument, NULL, 'p'},
		{"only", required_argument, NULL, 'o'}, {"json", no_argument, NULL, 'j'}, {NULL, 0, NULL, 0}};
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
	run_tasks();
	if (json)
		print_json();
	else
		print_table();
	for (struct row *r = rows; r < rows + NROWS; r++)
		whole = whole && (!wanted(r) || figure_of(r, &figure));
	return whole ? 0 : 1;
}
