/*
 * faults.c [--quick] [--json] [PART]... - what is measured of deaths, in one table. See faults.h.
 *
 * Run alone: figures of microseconds mean nothing while others use the processors.
 */
#include "tests/faults/faults.h"
#include "tests/outside/outside.h"
#include "core/host.h"
#include "shm/segment.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ROWS 64

bool quick;
unsigned effort = 1;
char dir[64], text[1u << 20];

static struct row {
	char id[8], what[80], unit[8];
	double p50, p99, most50, most99; /* ns */
	double is, most, least;		 /* of a number */
	unsigned n;
	bool times, ok;
} row[ROWS];
static unsigned nrows, nfailed, failed_before; /* failed_before: the part began */
static bool json, mapped;

static const struct part {
	const char *name;
	void (*run)(void);
	bool by_name; /* only */
} part[] = {{"crash", part_crash, false},
	    {"kill", part_kill, false},
	    {"stop", part_stop, false},
	    {"repair", part_repair, false},
	    {"module", part_module, false},
	    {"policy", part_policy, false},
	    {"supervisor", part_supervisor, false},
	    {"ends", part_ends, false},
	    {"books", part_books, false},
	    {"pids", part_pids, false},
	    {"few-pids", part_few_pids, true}};
#define NPARTS (sizeof part / sizeof *part)

/* ---- a runtime of its own ---- */

int sh(const char *fmt, ...)
{
	va_list ap;
	int code;

	va_start(ap, fmt);
	code = outside_sh(text, sizeof text, fmt, ap);
	va_end(ap);
	return code;
}

long figure(const char *verb, const char *key)
{
	return sh("timeout 30 build/shoal %s --json 2>/dev/null", verb) ? 0 : outside_number(text, key, 0);
}

long submit(const char *fmt, ...)
{
	char what[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof what, fmt, ap);
	va_end(ap);
	if (sh("timeout 30 build/shoal submit %s 2>&1", what))
		failed("submit %s: %.200s", what, text);
	return atol(text);
}

static void forget_map(void)
{
	if (mapped)
		sh_segment_detach();
	mapped = false;
}

void runtime_map(void)
{
	forget_map();
	mapped = outside_map(figure("info", "pid"));
	if (!mapped) {
		failed("the segment is not to be had");
		exit(1);
	}
}

/* On an interrupt or a closed output the runtime is stopped, too. */
static void on_end(int sig)
{
	pid_t pid = *dir ? fork() : -1;

	if (pid == 0) {
		alarm(20);
		execl("build/shoal", "shoal", "stop", "--now", (char *)NULL);
		_exit(127);
	}
	if (pid > 0)
		waitpid(pid, NULL, 0);
	_exit(128 + sig);
}

static void usage(FILE *to)
{
	fputs("usage: faults [--quick] [--json] [PART]...\nparts:", to);
	for (size_t k = 0; k < NPARTS; k++)
		fprintf(to, " %s", part[k].name);
	fputs("\nFAULTS_LONG=N: N times as much of all that is counted\n", to);
}

void runtime_start(const char *debug, const char *options)
{
	char path[80];

	failed_before = nfailed;
	strcpy(dir, "/tmp/shoal-faults.XXXXXX");
	if (!mkdtemp(dir))
		exit(2);
	snprintf(path, sizeof path, "%s/s", dir);
	setenv("SHOAL_SOCKET", path, 1);
	setenv("SHOAL_DEBUG", debug, 1);
	if (sh("build/shoal start %s 2>&1", options)) {
		failed("no supervisor: %.200s", text);
		exit(1);
	}
	runtime_map();
}

void runtime_stop(void)
{
	if (sh("timeout 60 build/shoal check 2>&1"))
		failed("check: %.300s", text);
	forget_map();
	if (sh("timeout 20 build/shoal stop --now 2>&1"))
		failed("stop: %.300s", text);
	/* A failed check ends its process, which is repaired like any other. Only the log shows it. */
	if (!sh("grep -m3 'check failed' %s/s.log", dir))
		failed("somebody was in a state that cannot be: %.400s", text);
	if (nfailed == failed_before)
		sh("rm -rf %s", dir);
}

/* ---- time ---- */

int64_t now_ns(void)
{
	return (int64_t)sh_now();
}

int64_t host_now(void) /* of core's, which we read the rings of events with */
{
	return now_ns();
}

void nap_us(unsigned us)
{
	nanosleep(&(struct timespec){us / 1000000, us % 1000000 * 1000}, NULL);
}

/*
 * The measuring process has a higher priority than the processes that it measures (only root may do that). Processes
 * that it starts have not.
 */
void measuring(bool yes)
{
	setpriority(PRIO_PROCESS, 0, yes ? -10 : 0);
	sh_prompt(0, yes);
}

bool wait_for(bool (*done)(void *), void *arg, double seconds)
{
	int64_t until = now_ns() + (int64_t)(seconds * 1e9);

	while (!done(arg)) {
		if (now_ns() > until)
			return false;
		nap_us(200);
	}
	return true;
}

/* ---- rows ---- */

void sample(struct samples *s, double ns)
{
	if (s->n == s->room) {
		s->room = s->room ? s->room * 2 : 256;
		s->ns = realloc(s->ns, s->room * sizeof *s->ns);
		if (!s->ns)
			exit(2);
	}
	s->ns[s->n++] = ns;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double percentile(struct samples *s, double p)
{
	if (!s->n)
		return 0;
	qsort(s->ns, s->n, sizeof *s->ns, by_size);
	return s->ns[(unsigned)(p / 100 * (s->n - 1) + 0.5)];
}

static const char *span(char *buf, size_t n, double ns)
{
	if (ns < 9.95e5)
		snprintf(buf, n, "%.1f us", ns / 1e3);
	else if (ns < 9.95e8)
		snprintf(buf, n, "%.2f ms", ns / 1e6);
	else
		snprintf(buf, n, "%.2f s", ns / 1e9);
	return buf;
}

static void print_row(const struct row *r)
{
	char want[64] = "", is[64], a[24], b[24];

	if (r->times) {
		if (r->most50 > 0 && r->most99 > 0)
			snprintf(want, sizeof want, "%s / %s", span(a, sizeof a, r->most50),
				 span(b, sizeof b, r->most99));
		else if (r->most50 <= 0 && r->most99 <= 0)
			strcpy(want, "-");
		else
			snprintf(want, sizeof want, "<= %s", span(a, sizeof a, r->most50 > 0 ? r->most50 : r->most99));
		snprintf(is, sizeof is, "%s / %s", span(a, sizeof a, r->p50), span(b, sizeof b, r->p99));
	} else {
		snprintf(want, sizeof want, r->least > 0 ? ">= %g%s" : "<= %g%s", r->least > 0 ? r->least : r->most,
			 r->unit);
		snprintf(is, sizeof is, "%.10g%s", r->is, r->unit);
	}
	printf("%-6s %-62s %-20s %-20s %7u  %s\n", r->id, r->what, want, is, r->n, r->ok ? "ok" : "MISSED");
	fflush(stdout);
}

static struct row *new_row(const char *id, const char *what)
{
	struct row *r = &row[nrows < ROWS - 1 ? nrows++ : nrows];

	snprintf(r->id, sizeof r->id, "%s", id);
	snprintf(r->what, sizeof r->what, "%s", what);
	if (nrows == 1 && !json)
		printf("%-6s %-62s %-20s %-20s %7s\n", "", "", "should be (p50/p99)", "is (p50/p99)", "of");
	return r;
}

static void done_row(struct row *r)
{
	if (!json)
		print_row(r);
}

void row_times(const char *id, const char *what, struct samples *s, double p50_ns, double p99_ns, double hard)
{
	struct row *r = new_row(id, what);

	r->times = true;
	r->p50 = percentile(s, 50);
	r->p99 = percentile(s, 99);
	r->most50 = p50_ns;
	r->most99 = p99_ns;
	r->n = s->n;
	r->ok = s->n && (p50_ns <= 0 || r->p50 <= p50_ns) && (p99_ns <= 0 || r->p99 <= p99_ns);
	done_row(r);
	if (!s->n)
		failed("%s %s: nothing was measured", id, what);
	else if (hard > 0 && r->p50 > (p50_ns > 0 ? p50_ns : p99_ns) * hard)
		failed("%s %s: the median is more than %g times what it should be", id, what, hard);
	free(s->ns);
	*s = (struct samples){0};
}

void row_number(const char *id, const char *what, double is, double most, const char *unit, bool exact)
{
	struct row *r = new_row(id, what);

	r->is = is;
	r->most = most;
	r->n = 1;
	snprintf(r->unit, sizeof r->unit, "%s", unit);
	r->ok = is <= most;
	done_row(r);
	if (exact && !r->ok)
		failed("%s %s: %g, and not %g", id, what, is, most);
}

void row_least(const char *id, const char *what, double is, double least, const char *unit, double hard)
{
	struct row *r = new_row(id, what);

	r->is = is;
	r->least = least;
	r->n = 1;
	snprintf(r->unit, sizeof r->unit, "%s", unit);
	r->ok = is >= least;
	done_row(r);
	if (is < hard)
		failed("%s %s: %g, less than %g", id, what, is, hard);
}

void failed(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fputs("failed: ", stderr);
	vfprintf(stderr, fmt, ap);
	fprintf(stderr, " (see %s)\n", dir);
	va_end(ap);
	nfailed++;
}

void note(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
}

static void print_json(void)
{
	printf("{\"version\": 1, \"rows\": [");
	for (unsigned i = 0; i < nrows; i++) {
		const struct row *r = &row[i];

		printf("%s{\"row\": \"%s\", \"what\": \"%s\", ", i ? ", " : "", r->id, r->what);
		if (r->times)
			printf("\"p50_ns\": %.0f, \"p99_ns\": %.0f, \"p50_ns_most\": %.0f, \"p99_ns_most\": %.0f, ",
			       r->p50, r->p99, r->most50, r->most99);
		else if (r->least > 0)
			printf("\"is\": %.10g, \"least\": %.10g, \"unit\": \"%s\", ", r->is, r->least, r->unit);
		else
			printf("\"is\": %.10g, \"most\": %.10g, \"unit\": \"%s\", ", r->is, r->most, r->unit);
		printf("\"n\": %u, \"ok\": %s}", r->n, r->ok ? "true" : "false");
	}
	printf("], \"failed\": %u}\n", nfailed);
}

static bool is_part(const char *name)
{
	for (size_t k = 0; k < NPARTS; k++)
		if (strcmp(name, part[k].name) == 0)
			return true;
	return false;
}

static bool asked_for(const struct part *p, char **names)
{
	if (!*names)
		return !p->by_name;
	for (; *names; names++)
		if (strcmp(*names, p->name) == 0)
			return true;
	return false;
}

static int unknown(const char *what)
{
	fprintf(stderr, "faults: what is '%s'?\n", what);
	usage(stderr);
	return 2;
}

int main(int argc, char **argv)
{
	static const int ends[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE};
	int i = 1;

	for (; i < argc && argv[i][0] == '-'; i++) {
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
			usage(stdout);
			return 0;
		}
		if (strcmp(argv[i], "--quick") == 0)
			quick = true;
		else if (strcmp(argv[i], "--json") == 0)
			json = true;
		else
			return unknown(argv[i]);
	}
	for (int k = i; k < argc; k++)
		if (!is_part(argv[k]))
			return unknown(argv[k]);
	if (getenv("FAULTS_LONG") && atoi(getenv("FAULTS_LONG")) > 0)
		effort = (unsigned)atoi(getenv("FAULTS_LONG"));
	prctl(PR_SET_TIMERSLACK, 1);
	for (size_t k = 0; k < sizeof ends / sizeof *ends; k++)
		signal(ends[k], on_end);
	for (size_t k = 0; k < NPARTS; k++)
		if (asked_for(&part[k], argv + i))
			part[k].run();
	if (json)
		print_json();
	else
		printf("tests: %u passed, %u failed\n", nrows > nfailed ? nrows - nfailed : 0, nfailed);
	return nfailed != 0;
}
