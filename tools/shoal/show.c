/* show.c - the verbs that send one request and print the answer. */
#include "tools/shoal/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const struct opt no_options[] = {{NULL, 0, OPT_FLAG, NULL}};

static json_t *ask(json_t *what)
{
	struct conn c;
	conn_open(&c);
	json_t *reply = conn_call(&c, what, -1);
	conn_close(&c);
	return reply;
}

static void expect_no_arguments(int n, char **argv)
{
	if (n)
		usage("unexpected argument '%s'", argv[0]);
}

static char *number_or_dash(json_t *object, const char *key)
{
	int64_t n = get_int(object, key, -1);
	return n < 0 ? must(strdup("-")) : format("%lld", (long long)n);
}

static char *duration_or_dash(json_t *object, const char *key)
{
	int64_t ns = get_int(object, key, 0);
	return ns <= 0 ? must(strdup("-")) : show_duration(ns);
}

/* Prints the reply as JSON and returns NULL, or returns the list for a table. */
static json_t *list_or_json(json_t *reply, const char *key)
{
	if (!cli.json)
		return json_object_get(reply, key);
	print_json(reply);
	return NULL;
}

/* ---- lists ---- */

static char *show_what(json_t *task)
{
	const char *module = get_text(task, "module"), *entry = get_text(task, "entry"), *name = get_text(task, "name");
	const char *slash = strrchr(module, '/');
	bool usual = !*entry || strcmp(entry, "shoal_main") == 0;
	/* A task without a name has the name of its module: print it once. */
	if (strcmp(name, slash ? slash + 1 : module) == 0)
		name = "";
	char *text = format("%s%s%s%s%s%s", *name ? name : "", *name ? " (" : "", slash ? slash + 1 : module,
			    usual ? "" : ":", usual ? "" : entry, *name ? ")" : "");
	char *clean = show_clean(text);
	free(text);
	return clean;
}

static char *show_start(int64_t ns)
{
	char text[32] = "-";
	time_t then = (time_t)(ns / 1000000000), now = time(NULL);
	struct tm t;
	if (ns > 0 && localtime_r(&then, &t))
		strftime(text, sizeof(text), now - then < 43200 ? "%H:%M:%S" : "%b %d", &t);
	return must(strdup(text));
}

int verb_tasks(int argc, char **argv)
{
	bool all = false;
	const struct opt opts[] = {{"all", 'a', OPT_FLAG, &all}, {NULL, 0, OPT_FLAG, NULL}};
	expect_no_arguments(parse_options(argc, argv, opts, false), argv);
	json_t *what = request("tasks"), *task;
	put(what, "all", json_boolean(all));
	json_t *reply = ask(what);
	struct table t = {.columns = 8,
			  .status = 1,
			  .align = "rlrrrlrl",
			  .titles = {"ID", "STATUS", "CODE", "RUNS", "GS", "STARTED", "TIME", "WHAT"}};
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	size_t i;
	json_array_foreach(list_or_json(reply, "tasks"), i, task)
	{
		int64_t started = get_time(task, "started"), ended = get_time(task, "ended");
		int64_t until = ended > 0 ? ended : now.tv_sec * 1000000000ll + now.tv_nsec;
		table_add(&t, (char *[]){number_or_dash(task, "id"), show_clean(get_text(task, "status")),
					 ended > 0 ? number_or_dash(task, "exit_code") : must(strdup("-")),
					 number_or_dash(task, "attempts"), number_or_dash(task, "goroutines"),
					 show_start(started),
					 started > 0 ? show_duration(until - started) : must(strdup("-")),
					 show_what(task)});
	}
	if (!cli.json)
		table_print(&t);
	json_decref(reply);
	return 0;
}

static char *show_g_status(json_t *g)
{
	const char *status = get_text(g, "status"), *reason = get_text(g, "wait_reason");
	return *reason && strcmp(status, "waiting") == 0 ? show_clean(reason) : show_clean(status);
}

int verb_ps(int argc, char **argv)
{
	const char *task = NULL;
	const struct opt opts[] = {{"task", 't', OPT_TEXT, &task}, {NULL, 0, OPT_FLAG, NULL}};
	expect_no_arguments(parse_options(argc, argv, opts, false), argv);
	json_t *what = request("ps"), *g;
	if (task)
		put(what, "task", json_integer(parse_id("task", task)));
	json_t *reply = ask(what);
	struct table t = {.columns = 8,
			  .status = 2,
			  .align = "rrlrrrrl",
			  .titles = {"GID", "TASK", "STATUS", "M", "P", "WAIT", "STACK", "NAME"}};
	size_t i;
	json_array_foreach(list_or_json(reply, "goroutines"), i, g) table_add(
		&t, (char *[]){number_or_dash(g, "gid"), number_or_dash(g, "task"), show_g_status(g),
			       number_or_dash(g, "worker"), number_or_dash(g, "p"), duration_or_dash(g, "waiting_ns"),
			       show_size(get_int(g, "stack_used", 0)), show_clean(get_text(g, "name"))});
	if (!cli.json)
		table_print(&t);
	json_decref(reply);
	return 0;
}

int verb_workers(int argc, char **argv)
{
	expect_no_arguments(parse_options(argc, argv, no_options, false), argv);
	json_t *reply = ask(request("workers")), *w;
	struct table t = {.columns = 7,
			  .status = 2,
			  .align = "rrlrrrr",
			  .titles = {"ID", "PID", "STATUS", "P", "GID", "RESTARTS", "UPTIME"}};
	size_t i;
	json_array_foreach(list_or_json(reply, "workers"), i, w)
	{
		bool busy = get_int(w, "gid", 0) > 0;
		table_add(&t, (char *[]){number_or_dash(w, "id"),
					 get_int(w, "pid", 0) > 0 ? number_or_dash(w, "pid") : must(strdup("-")),
					 show_clean(get_text(w, "status")), number_or_dash(w, "p"),
					 busy ? number_or_dash(w, "gid") : must(strdup("-")),
					 number_or_dash(w, "restarts"), duration_or_dash(w, "uptime_ns")});
	}
	if (!cli.json)
		table_print(&t);
	json_decref(reply);
	return 0;
}

/* ---- members and lines ---- */

static int show_members(const char *verb, int argc, char **argv)
{
	expect_no_arguments(parse_options(argc, argv, no_options, false), argv);
	json_t *reply = ask(request(verb));
	if (cli.json)
		print_json(reply);
	else
		print_members(reply);
	json_decref(reply);
	return 0;
}

int verb_stats(int argc, char **argv)
{
	return show_members("stats", argc, argv);
}

int verb_info(int argc, char **argv)
{
	return show_members("info", argc, argv);
}

int verb_sched(int argc, char **argv)
{
	expect_no_arguments(parse_options(argc, argv, no_options, false), argv);
	json_t *reply = ask(request("sched"));
	const char *line = get_text(reply, *get_text(reply, "line") ? "line" : "sched");
	size_t n = strlen(line);
	if (cli.json)
		print_json(reply);
	else
		printf("%s%s", line, n && line[n - 1] == '\n' ? "" : "\n");
	json_decref(reply);
	return 0;
}

int verb_check(int argc, char **argv)
{
	expect_no_arguments(parse_options(argc, argv, no_options, false), argv);
	json_t *reply = ask(request("check"));
	bool clean = json_is_true(json_object_get(reply, "clean"));
	const char *text = get_text(reply, "found");
	size_t n = strlen(text);
	if (cli.json)
		print_json(reply);
	else if (n)
		printf("%s%s", text, text[n - 1] == '\n' ? "" : "\n");
	else
		puts(clean ? "clean" : "not clean");
	json_decref(reply);
	return clean ? 0 : 1;
}

/* ---- verbs that do something ---- */

int verb_cancel(int argc, char **argv)
{
	int n = parse_options(argc, argv, no_options, false);
	if (n == 0)
		usage("expected the number of a task");
	for (int i = 0; i < n; i++)
		parse_id("task", argv[i]);
	for (int i = 0; i < n; i++) {
		json_t *what = request("cancel");
		put(what, "id", json_integer(parse_id("task", argv[i])));
		json_decref(ask(what));
	}
	return 0;
}

int verb_procs(int argc, char **argv)
{
	int n = parse_options(argc, argv, no_options, false);
	int64_t count;
	json_t *what = request("procs");
	if (n > 1)
		usage("expected at most one number");
	if (n && !parse_count(argv[0], 1, &count))
		usage("the number of Ps must be a positive integer, not '%s'", argv[0]);
	if (n)
		put(what, "n", json_integer(count));
	json_t *reply = ask(what);
	int64_t set = get_int(reply, "procs", 0);
	if (n && set != count)
		say("set %lld Ps: there cannot be %lld", (long long)set, (long long)count);
	if (cli.json)
		print_json(reply);
	else
		printf("%lld\n", (long long)set);
	json_decref(reply);
	return 0;
}

int verb_restart(int argc, char **argv)
{
	int n = parse_options(argc, argv, no_options, false);
	if (n > 1)
		usage("expected at most one worker");
	json_t *what = request("restart");
	if (n)
		put(what, "worker", json_integer(parse_id("worker", argv[0])));
	json_decref(ask(what));
	return 0;
}
