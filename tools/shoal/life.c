/* life.c - the life of a goroutine. */
#include "tools/shoal/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
	struct table t = {.columns = 7, .status = 2, .align = "rllrrrl",
		.titles = {"TIME", "FROM", "TO", "WORKER", "P", "STACK", "WHY"}};
	json_t *event;
	int64_t worker = 0;
	size_t i;

	json_array_foreach(json_object_get(reply, "events"), i, event) {
		int64_t ns = get_int(event, "time_ns", 0);
		bool runs = strcmp(get_text(event, "to"), "running") == 0;

		table_add(&t, (char *[]){format("%lld.%06lld", (long long)(ns / 1000000000), (long long)(ns / 1000 % 1000000)),
			show_clean(get_text(event, "from")), show_clean(get_text(event, "to")),
			text_or_dash(event, "worker"), text_or_dash(event, "p"),
			show_size(get_int(event, "stack_size", 0)), why_of(event, worker)});
		worker = runs ? get_int(event, "worker", worker) : worker;
	}
	printf("goroutine %lld [%s], %zu transitions, %lld migrations%s\n", (long long)get_int(reply, "gid", 0),
	       get_text(reply, "status"), i, (long long)get_int(reply, "migrations", 0),
	       json_is_true(json_object_get(reply, "whole")) ? "" : "; what came before these is overwritten");
	table_print(&t);
}

int verb_life(int argc, char **argv)
{
	if (parse_options(argc, argv, no_options, false) != 1)
		usage("which goroutine?");
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
