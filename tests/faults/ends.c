/*
 * ends.c - tasks that end in each of the ways there are, many of each: every one ends once, with the right status
 * and code, and nothing is left of them.
 */
#include "tests/faults/faults.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define AT_ONCE 8

static const struct way {
	const char *how, *status;
	int code;
	unsigned share; /* one of this many tasks */
} ways[] = {
	{"return", "done", 5, 1},
	{"exit", "done", 6, 1},
	{"_exit", "done", 7, 1},
	{"shoal_exit", "done", 0, 1},
	{"join", "done", 0, 1},
	{"segv", "crashed", 128 + 11, 1},
	{"bus", "crashed", 128 + 7, 1},
	{"fpe", "crashed", 128 + 8, 1},
	{"ill", "crashed", 128 + 4, 1},
	{"abort", "crashed", 128 + 6, 1},
	{"overflow", "crashed", 128 + 11, 1},
	{"misuse", "crashed", 128 + 6, 1},
	{"memory", "crashed", 128 + 6, 10},
	{"deadlock", "crashed", 2, 1},
	{"lost", "lost", 137, 1},
	{"cancel", "cancelled", 130, 1},
	{"timeout", "timeout", 124, 1},
};
#define WAYS (sizeof ways / sizeof *ways)

static long submit_one(int s, const struct way *w)
{
	static char module[4096];
	json_t *a;
	int fds[2];
	long id;

	if (!*module && !realpath("build/tests/modules/basic/ends.so", module))
		exit(2);
	a = ask(s, fds, "{\"verb\":\"submit\",\"module\":\"%s\",\"args\":[\"ends\",\"%s\"],\"attempts\":1%s}\n", module,
		w->how, strcmp(w->how, "timeout") ? "" : ",\"timeout_ns\":20000000");
	id = (long)json_integer_value(json_object_get(a, "id"));
	json_decref(a);
	if (id <= 0)
		note("%s: not accepted", w->how);
	return id;
}

/* False: it has not ended as it should. */
static bool wait_one(int s, const struct way *w, long id)
{
	const char *status;
	json_t *a, *t;
	int fds[2];
	bool ok, began;

	a = ask(s, fds, "{\"verb\":\"wait\",\"ids\":[%ld]}\n", id);
	t = json_array_get(json_object_get(a, "tasks"), 0);
	status = json_string_value(json_object_get(t, "status"));
	began = strcmp(w->how, "cancel") ||
		!json_is_null(json_object_get(t, "started")); /* that may come before its first attempt */
	ok = status && strcmp(status, w->status) == 0 &&
	     json_integer_value(json_object_get(t, "exit_code")) == w->code &&
	     json_integer_value(json_object_get(t, "attempts")) == began;
	if (!ok) {
		char *line = json_dumps(a, JSON_COMPACT);

		note("%s: %.400s", w->how, line);
		free(line);
	}
	json_decref(a);
	return ok;
}

static unsigned end_so(int s, const struct way *w, unsigned n)
{
	long id[AT_ONCE];
	unsigned wrong = 0, k,
		 at_once = strcmp(w->how, "memory") ? AT_ONCE : 1; /* two at the limit are in each other's way */

	for (unsigned i = 0; i < n; i += k) {
		for (k = 0; k < at_once && i + k < n; k++)
			if ((id[k] = submit_one(s, w)) > 0 && strcmp(w->how, "cancel") == 0) {
				int fds[2];

				json_decref(ask(s, fds, "{\"verb\":\"cancel\",\"id\":%ld,\"now\":%s}\n", id[k],
						i % 2 ? "true" : "false"));
			}
		for (unsigned j = 0; j < k; j++)
			wrong += id[j] <= 0 || !wait_one(s, w, id[j]);
	}
	return wrong;
}

void part_ends(void)
{
	unsigned n = (quick ? 20 : 400) * effort, all = 0;
	long ended, done, crashed;
	char what[80];
	int s;

	/* No delays and no quarantine. Little memory, for the tasks that use all of it. */
	runtime_start("nodelay,quarantine=0", "--procs 2 --memory 128M");
	s = ask_open();
	for (unsigned i = 0; i < 3; i++) /* memory that the runtime allocates once */
		end_so(s, &ways[i], 8);
	left_begin();
	done = figure("stats", "tasks_done");
	crashed = figure("stats", "tasks_crashed");
	for (unsigned i = 0; i < WAYS; i++) {
		unsigned k = n / ways[i].share;

		snprintf(what, sizeof what, "%u tasks that end by %s: with another status", k, ways[i].how);
		row_number("ends", what, end_so(s, &ways[i], k), 0, "", true);
		all += k;
		ended = strcmp(ways[i].status, "done") == 0 ? figure("stats", "tasks_done")
							    : figure("stats", "tasks_crashed");
		if (strcmp(ways[i].status, "done") == 0 && (done += k) != ended)
			failed("%s: %ld tasks are done, and should be %ld", ways[i].how, ended, done);
		if (strcmp(ways[i].status, "crashed") == 0 && (crashed += k) != ended)
			failed("%s: %ld tasks have crashed, and should be %ld", ways[i].how, ended, crashed);
	}
	snprintf(what, sizeof what, "%u tasks", all);
	left_rows("ends", what);
	close(s);
	runtime_stop();
}
