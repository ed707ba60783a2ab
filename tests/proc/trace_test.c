/*
 * trace_test.c - `shoal trace` writes what Chrome and Perfetto can show: JSON of their format, slices that
 * nest, arrows that have a start and an end in slices.
 */
#include "tests/proc/proc.h"

#include <jansson.h>

#define TRACE_TEST(name) Test(trace, name, .init = start, .fini = stop, .timeout = TEST_S)
#define TIDS 256
#define SLOP 0.0015 /* us: three digits are written */

struct slice {
	double from, to;
	int tid;
};

static struct slice *slice;
static size_t nslices;

static int by_start(const void *a, const void *b)
{
	const struct slice *x = a, *y = b;

	if (x->tid != y->tid)
		return x->tid - y->tid;
	if (x->from != y->from)
		return x->from < y->from ? -1 : 1;
	return x->to > y->to ? -1 : x->to < y->to;
}

static double number(json_t *e, const char *key)
{
	json_t *v = json_object_get(e, key);

	cr_assert(json_is_number(v), "no %s in %s", key, json_dumps(e, JSON_COMPACT));
	return json_number_value(v);
}

static bool in_a_slice(int tid, double at)
{
	for (size_t i = 0; i < nslices; i++)
		if (slice[i].tid == tid && slice[i].from <= at + SLOP && at <= slice[i].to + SLOP)
			return true;
	return false;
}

static void slices_nest(void)
{
	for (size_t i = 1; i < nslices; i++) {
		const struct slice *a = &slice[i - 1], *b = &slice[i];

		if (a->tid == b->tid)
			cr_expect(b->from >= a->to - SLOP || b->to <= a->to + SLOP,
				  "on track %d %.3f to %.3f and %.3f to %.3f cross", a->tid, a->from, a->to, b->from,
				  b->to);
	}
}

static json_t *event_of(json_t **list, json_t *e)
{
	size_t id = (size_t)number(e, "id");

	cr_assert(id < 4000000);
	cr_expect_null(list[id], "two with the id %zu", id);
	cr_expect_str_eq(json_string_value(json_object_get(e, "cat")), "wake");
	cr_expect_str_eq(json_string_value(json_object_get(e, "name")), "wake");
	return list[id] = e;
}

/* How many arrows there are. */
static size_t check(json_t *root)
{
	json_t *events = json_object_get(root, "traceEvents"), *e;
	json_t **from = calloc(4000000, sizeof *from), **to = calloc(4000000, sizeof *to);
	size_t i, arrows = 0, looked = 0;
	bool named[TIDS] = {false}, used[TIDS] = {false};

	cr_assert(json_is_array(events) && from && to);
	nslices = 0;
	slice = malloc(json_array_size(events) * sizeof *slice);
	json_array_foreach(events, i, e)
	{
		const char *ph = json_string_value(json_object_get(e, "ph"));
		int tid = (int)number(e, "tid");

		cr_assert(ph && strlen(ph) == 1 && strchr("MXsf", *ph), "%s", json_dumps(e, JSON_COMPACT));
		cr_assert(tid >= 0 && tid < TIDS && number(e, "pid") == 1);
		if (*ph == 'M') {
			named[tid] |= strcmp(json_string_value(json_object_get(e, "name")), "thread_name") == 0;
			continue;
		}
		used[tid] = true;
		cr_expect_geq(number(e, "ts"), 0.0);
		cr_expect(json_is_string(json_object_get(e, "name")));
		if (*ph == 'X') {
			cr_expect_geq(number(e, "dur"), 0.0);
			slice[nslices++] = (struct slice){number(e, "ts"), number(e, "ts") + number(e, "dur"), tid};
		} else {
			event_of(*ph == 's' ? from : to, e);
		}
	}
	for (int tid = 0; tid < TIDS; tid++)
		cr_expect(named[tid] || !used[tid], "track %d has no name", tid);
	qsort(slice, nslices, sizeof *slice, by_start);
	slices_nest();
	for (i = 0; i < 4000000; i++) {
		if (!from[i] && !to[i])
			continue;
		arrows++;
		cr_assert(from[i] && to[i], "an arrow without a %s: %zu", from[i] ? "end" : "start", i);
		cr_expect_leq(number(from[i], "ts"), number(to[i], "ts") + SLOP);
		cr_expect_str_eq(json_string_value(json_object_get(to[i], "bp")), "e");
		if (looked++ > 3000)
			continue;
		cr_expect(in_a_slice((int)number(from[i], "tid"), number(from[i], "ts")), "%s",
			  json_dumps(from[i], JSON_COMPACT));
		cr_expect(in_a_slice((int)number(to[i], "tid"), number(to[i], "ts")), "%s",
			  json_dumps(to[i], JSON_COMPACT));
	}
	free(from);
	free(to);
	free(slice);
	return arrows;
}

/* The recording begins and ends during work of all kinds: calls, timers, network, long runs. */
TRACE_TEST(the_trace_is_the_format_of_chrome_and_perfetto)
{
	static const char *const work[] = {"basic/many.so 500 60000", "see/run.so alive 20 60000",
					   "see/run.so spin 3 60000", "see/life.so calls 6 60000",
					   "see/fair.so crowd",	      "survive/ticks.so 400 3"};
	char path[128];
	json_error_t error;
	json_t *root;

	for (unsigned i = 0; i < sizeof work / sizeof *work; i++)
		cr_expect_eq(sh("build/shoal submit build/tests/modules/%s 2>&1", work[i]), 0, "%s", text);
	snprintf(path, sizeof path, "%s/t.json", dir);
	for (int i = 0; i < 3; i++) {
		size_t arrows;

		/* The tasks above may have become quiet; this one starts 100 in the middle of it. */
		trace_start(2, "t.json");
		cr_expect_eq(sh("build/shoal submit build/tests/modules/basic/many.so 100 50"), 0, "%s", text);
		until("[ -s %s/t.json.code ]", dir);
		cr_expect_eq(sh("exit $(cat %s/t.json.code)", dir), 0);
		root = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
		cr_assert_not_null(root, "line %d: %s", error.line, error.text);
		cr_expect_eq(json_integer_value(json_object_get(json_object_get(root, "otherData"), "version")), 1);
		arrows = check(root);
		cr_expect_geq(arrows, 200u); /* each of the 100 is started and woken */
		fprintf(stderr, "trace: %zu events, %zu arrows, all of them whole\n",
			json_array_size(json_object_get(root, "traceEvents")), arrows);
		json_decref(root);
	}
}

/* A trace that is interrupted leaves the file as it was, or none, and its recorder ends. */
TRACE_TEST(an_interrupted_trace_leaves_nothing)
{
	cr_expect_eq(sh("timeout -s INT 0.5 build/shoal trace -s 60 -o %s/new; echo $?; ls %s/new 2>&1", dir, dir), 2,
		     "%s", text);
	cr_expect_eq(atoi(text), 124, "%s", text);
	cr_expect_eq(sh("echo kept >%s/old; timeout -s TERM 0.5 build/shoal trace -s 60 -o %s/old; cat %s/old", dir,
			dir, dir),
		     0);
	cr_expect_str_eq(text, "kept\n");
	cr_expect_eq(sh("build/shoal trace -s 0.1 -o %s/old && head -c 18 %s/old", dir, dir), 0);
	cr_expect_str_eq(text, "{\"displayTimeUnit\"");
	sh("(build/shoal trace -s 60 -o %s/old & echo $! >%s/pid) >/dev/null 2>&1", dir, dir);
	WAIT_FOR(recorders() == 1);
	cr_expect_eq(sh("kill -KILL $(cat %s/pid)", dir), 0, "%s", text);
	WAIT_FOR(recorders() == 0);
}
