/* life.c - the verbs life (transitions of one goroutine) and trace (all goroutines). */
#include "tools/shoal/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct opt no_options[] = {{NULL, 0, OPT_FLAG, NULL}};

static char *text_or_dash(json_t *event, const char *key)
{
	int64_t n = get_int(event, key, -1);
	return n < 0 ? must(strdup("-")) : format("%lld", (long long)n);
}

static char *why_of(json_t *event, int64_t before)
{
	char *why = show_clean(get_text(event, "why")), *all;
	if (!json_is_true(json_object_get(event, "migrated")))
		return why;
	all = format("%s%smigrated from worker %lld", why, *why ? ", " : "", (long long)before);
	free(why);
	return all;
}

static void print_life(json_t *reply)
{
	struct table t = {.columns = 7,
			  .status = 2,
			  .align = "rllrrrl",
			  .titles = {"TIME", "FROM", "TO", "WORKER", "P", "STACK", "WHY"}};
	json_t *event;
	int64_t worker = 0;
	size_t i;

	json_array_foreach(json_object_get(reply, "events"), i, event)
	{
		int64_t ns = get_int(event, "time_ns", 0);
		bool runs = strcmp(get_text(event, "to"), "running") == 0;

		table_add(&t, (char *[]){format("%lld.%06lld", (long long)(ns / 1000000000),
						(long long)(ns / 1000 % 1000000)),
					 show_clean(get_text(event, "from")), show_clean(get_text(event, "to")),
					 text_or_dash(event, "worker"), text_or_dash(event, "p"),
					 show_size(get_int(event, "stack_size", 0)), why_of(event, worker)});
		worker = runs ? get_int(event, "worker", worker) : worker;
	}
	printf("goroutine %lld [%s], %zu transitions, %lld migrations%s\n", (long long)get_int(reply, "gid", 0),
	       get_text(reply, "status"), i, (long long)get_int(reply, "migrations", 0),
	       json_is_true(json_object_get(reply, "whole")) ? "" : "; earlier ones were overwritten");
	table_print(&t);
}

int verb_life(int argc, char **argv)
{
	if (parse_options(argc, argv, no_options, false) != 1)
		usage("expected the number of a goroutine");
	json_t *what = request("life");
	put(what, "gid", json_integer(parse_id("goroutine", argv[0])));
	struct conn c;
	conn_open(&c);
	json_t *reply = conn_call(&c, what, -1);
	conn_close(&c);
	if (cli.json)
		print_json(reply);
	else
		print_life(reply);
	json_decref(reply);
	return 0;
}

/* ---- trace ---- */

static void copy(int from, int to, const char *name)
{
	char piece[65536];
	ssize_t n, k;

	while ((n = read(from, piece, sizeof piece)) > 0)
		for (ssize_t at = 0; at < n; at += k) {
			k = write(to, piece + at, (size_t)(n - at));
			if (k < 0 && errno == EPIPE)
				end_by_sigpipe();
			if (k < 0 && errno != EINTR)
				fail(1, "%s: %s", name, strerror(errno));
			k = k < 0 ? 0 : k;
		}
	if (n < 0)
		fail(1, "cannot read the trace: %s", strerror(errno));
}

static const char *created_file; /* the file that this process created */

static void remove_created(void)
{
	if (created_file)
		unlink(created_file);
}

static void remove_and_raise(int sig)
{
	remove_created();
	signal(sig, SIG_DFL);
	raise(sig);
}

/*
 * Opens the file without changing it, because it keeps its content until the trace is there. If this function
 * creates the file and a signal ends the process, the empty file is removed.
 */
static int open_for_trace(const char *file)
{
	static const int sigs[] = {SIGINT, SIGTERM, SIGHUP};
	int fd = open(file, O_WRONLY | O_CLOEXEC);

	if (fd >= 0 || errno != ENOENT)
		return fd;
	fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (fd < 0)
		return -1;
	created_file = file;
	atexit(remove_created);
	for (size_t i = 0; i < sizeof(sigs) / sizeof(sigs[0]); i++)
		if (signal(sigs[i], remove_and_raise) == SIG_IGN)
			signal(sigs[i], SIG_IGN);
	return fd;
}

int verb_trace(int argc, char **argv)
{
	const char *file = NULL, *seconds = NULL;
	const struct opt opts[] = {
		{"seconds", 's', OPT_TEXT, &seconds}, {"output", 'o', OPT_TEXT, &file}, {NULL, 0, OPT_FLAG, NULL}};
	double s = 1;
	char *end;
	struct conn c;
	int fd, to;

	if (parse_options(argc, argv, opts, false))
		usage("unexpected argument '%s'", argv[0]);
	if (!file)
		usage("-o FILE is missing: the file for the trace");
	if (!*file)
		usage("-o must be the name of a file, or - for stdout");
	if (seconds && (s = strtod(seconds, &end), *end || end == seconds || !(s > 0 && s <= 3600)))
		usage("--seconds must be a positive number up to 3600, not '%s'", seconds);
	conn_open(&c); /* before the file is opened: without a supervisor it stays unchanged */
	to = strcmp(file, "-") == 0 ? 1 : open_for_trace(file);
	if (to < 0)
		fail(1, "%s: %s", file, strerror(errno));
	json_t *what = request("trace");
	put(what, "ns", json_integer((json_int_t)(s * 1e9)));
	json_decref(conn_call(&c, what, -1));
	fd = conn_take_fd(&c);
	conn_close(&c);
	if (to != 1 && ftruncate(to, 0) < 0 && errno != EINVAL) /* EINVAL: a device or a pipe has no length */
		fail(1, "%s: %s", file, strerror(errno));
	copy(fd, to, file);
	created_file = NULL;
	if (to != 1 && close(to) < 0)
		fail(1, "%s: %s", file, strerror(errno));
	return 0;
}
