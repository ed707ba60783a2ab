/*
 * parse_test.c - arguments of the command line: tools/shoal/parse.c. A wrong argument ends the process, so each is
 * tried in a child.
 */
#include "tools/shoal/cli.h"

#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Stands in for main.c. */
void print_help(const struct verb *v)
{
	(void)v;
	puts("help");
}

Test(parse, durations_have_a_unit_and_fit_64_bits)
{
	static const struct {
		const char *text;
		int64_t ns; /* -1: refused */
	} cases[] = {
		{"1ns", 1},
		{"1us", 1000},
		{"250ms", 250000000},
		{"1s", 1000000000},
		{"1.5s", 1500000000},
		{"2m", 120000000000},
		{"1h", 3600000000000},
		{"0s", 0},
		{"", -1},
		{"s", -1},
		{"1 s", -1},
		{"1d", -1},
		{"-1s", -1},
		{"1e3s", -1},
		{"0x1s", -1},
		{"1ss", -1},
		{"nan", -1},
		{"infs", -1},
		{" 1s", -1},
		{"99999999999h", -1},
		{"9223372037s", -1},
		{"1,5s", -1},
		{".", -1},
		{"+1s", -1},
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		int64_t ns = -2;
		bool right = parse_duration(cases[i].text, &ns);

		cr_expect_eq(right, cases[i].ns >= 0, "'%s'", cases[i].text);
		cr_expect(!right || ns == cases[i].ns, "'%s' is %ld", cases[i].text, (long)ns);
	}
}

Test(parse, counts_are_whole_numbers_from_the_minimum_on)
{
	int64_t n;

	cr_expect(parse_count("1", 1, &n) && n == 1);
	cr_expect(parse_count("0", 0, &n) && n == 0);
	cr_expect(parse_count("007", 1, &n) && n == 7);
	cr_expect(parse_count("9223372036854775807", 1, &n) && n == INT64_MAX);
	cr_expect_not(parse_count("9223372036854775808", 1, &n));
	cr_expect_not(parse_count("0", 1, &n));
	cr_expect_not(parse_count("", 0, &n));
	cr_expect_not(parse_count("-1", 0, &n));
	cr_expect_not(parse_count("+1", 0, &n));
	cr_expect_not(parse_count(" 1", 0, &n));
	cr_expect_not(parse_count("1 ", 0, &n));
	cr_expect_not(parse_count("1.0", 0, &n));
	cr_expect_not(parse_count("0x10", 0, &n));
}

Test(parse, a_name_with_one_typing_error_is_similar)
{
	static const struct {
		const char *typed, *name;
		bool similar;
	} cases[] = {
		{"tasks", "tasks", true},   {"task", "tasks", true},   {"taskss", "tasks", true},
		{"tsaks", "tasks", true},   {"tosks", "tasks", true},  {"TASKS", "tasks", true},
		{"asks", "tasks", true},    {"tas", "tasks", true},    {"ta", "tasks", false},
		{"", "tasks", false},	    {"stask", "tasks", false}, {"workers", "tasks", false},
		{"tasksxx", "tasks", true}, {"txxks", "tasks", false}, {"ps", "ps", true},
		{"sp", "ps", true},
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		cr_expect_eq(is_similar(cases[i].typed, cases[i].name), cases[i].similar, "%s and %s", cases[i].typed,
			     cases[i].name);
}

/* ---- options ---- */

static struct {
	bool all, now;
	const char *text;
	int64_t count, count0, duration, size;
	struct opt_list list;
} got;

static const struct opt table[] = {
	{"all", 'a', OPT_FLAG, &got.all},
	{"now", 'n', OPT_FLAG, &got.now},
	{"text", 't', OPT_TEXT, &got.text},
	{"count", 'c', OPT_COUNT, &got.count},
	{"count0", 0, OPT_COUNT0, &got.count0},
	{"duration", 'd', OPT_DURATION, &got.duration},
	{"size", 's', OPT_SIZE, &got.size},
	{"env", 'e', OPT_LIST, &got.list},
	{NULL, 0, OPT_FLAG, NULL},
};

/* Splits at blanks and parses. The words that are left are in words. */
static char *words[32], line_of_words[512];

static int parse(const char *line, bool first_ends)
{
	int argc = 0;

	snprintf(line_of_words, sizeof line_of_words, "%s", line);
	for (char *w = strtok(line_of_words, " "); w; w = strtok(NULL, " "))
		words[argc++] = w;
	return parse_options(argc, words, table, first_ends);
}

Test(parse, options_may_stand_anywhere_and_letters_together)
{
	cr_expect_eq(parse("one --all two -n --text=x --count 3 three", false), 3);
	cr_expect(got.all && got.now && got.count == 3);
	cr_expect_str_eq(got.text, "x");
	cr_expect_str_eq(words[0], "one");
	cr_expect_str_eq(words[1], "two");
	cr_expect_str_eq(words[2], "three");
	memset(&got, 0, sizeof got);
	cr_expect_eq(parse("-anc5 -tword", false), 0);
	cr_expect(got.all && got.now && got.count == 5);
	cr_expect_str_eq(got.text, "word");
}

Test(parse, values_are_parsed_by_their_kind)
{
	cr_expect_eq(parse("--count0 0 -d 1.5s --size=64M -e A=1 --env B=2 --text= --count 2147483647", false), 0);
	cr_expect_eq(got.count0, 0);
	cr_expect_eq(got.duration, 1500000000);
	cr_expect_eq(got.size, 64 << 20);
	cr_expect_str_eq(got.text, "");
	cr_expect_eq(got.count, INT_MAX);
	cr_assert_eq(got.list.n, 2);
	cr_expect_str_eq(got.list.item[0], "A=1");
	cr_expect_str_eq(got.list.item[1], "B=2");
	free(got.list.item);
}

Test(parse, two_dashes_and_the_first_word_end_the_options)
{
	cr_expect_eq(parse("-a -- -n --text", false), 2);
	cr_expect(got.all && !got.now && !got.text);
	cr_expect_str_eq(words[0], "-n");
	memset(&got, 0, sizeof got);
	cr_expect_eq(parse("-a module -n -- x", true), 4);
	cr_expect(got.all && !got.now);
	cr_expect_str_eq(words[2], "--");
	cr_expect_eq(parse("- -5", false), 2, "a dash and a negative number are words");
}

/* Exit code of a child that parses the line; what it writes to stderr must contain these words. */
static int refused(const char *line, const char *want)
{
	char said[1024] = "";
	int p[2], st;
	ssize_t n;
	pid_t pid;

	cr_assert_eq(pipe(p), 0);
	pid = fork();
	if (pid == 0) {
		dup2(p[1], 2);
		dup2(p[1], 1);
		parse(line, false);
		_exit(0);
	}
	close(p[1]);
	for (size_t at = 0; (n = read(p[0], said + at, sizeof said - 1 - at)) > 0;)
		at += (size_t)n;
	close(p[0]);
	cr_assert_eq(waitpid(pid, &st, 0), pid);
	cr_expect(WIFEXITED(st) && strstr(said, want), "'%s' says '%s', should contain '%s'", line, said, want);
	return WEXITSTATUS(st);
}

Test(parse, a_wrong_option_is_named_and_ends_with_2)
{
	static const char *wrong[][2] = {
		{"--al", "unknown option --al"},
		{"--alll", "did you mean --all?"},
		{"--conut 3", "did you mean --count?"},
		{"--xyz", "unknown option --xyz"},
		{"-x", "unknown option -x"},
		{"-ax", "unknown option -x"},
		{"--all=1", "--all takes no value"},
		{"--text", "--text needs a value"},
		{"-t", "-t needs a value"},
		{"-at", "-t needs a value"},
		{"--count 0", "--count must be a positive integer, not '0'"},
		{"--count x", "positive integer"},
		{"--count 2147483648", "positive integer"},
		{"--count=", "positive integer"},
		{"--count0 -1", "non-negative integer"},
		{"-d 5", "duration"},
		{"-d 0s", "duration"},
		{"--size 0", "size"},
		{"--size 64Q", "size"},
		{"--size 99999999999G", "size"},
		{"--socket=", "--socket needs a path"},
	};

	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
		cr_expect_eq(refused(wrong[i][0], wrong[i][1]), EXIT_USAGE, "%s", wrong[i][0]);
	cr_expect_eq(refused("--count x --help", "positive integer"), EXIT_USAGE, "options are parsed in order");
	cr_expect_eq(refused("--help --count x", "help"), 0);
	cr_expect_eq(refused("-ah", "help"), 0);
}

Test(parse, json_is_for_verbs_that_read)
{
	static const struct verb reads = {.name = "tasks", .reads = true}, acts = {.name = "stop"};

	cli.verb = &acts;
	cr_expect_eq(refused("--json", "--json"), EXIT_USAGE);
	cli.verb = &reads;
	cr_expect_eq(parse("--json", false), 0);
	cr_expect(cli.json);
}

/* ---- modules and paths ---- */

Test(parse, a_path_becomes_absolute_without_its_leading_dots)
{
	char *at = absolute("/a/../b"), want[PATH_MAX + 8], cwd[PATH_MAX];

	cr_expect_str_eq(at, "/a/../b");
	free(at);
	cr_assert_not_null(getcwd(cwd, sizeof cwd));
	snprintf(want, sizeof want, "%s/x/y", cwd);
	for (unsigned i = 0; i < 3; i++) {
		cr_expect_str_eq(at = absolute((const char *[]){"x/y", "./x/y", ".///./x/y"}[i]), want, "%u", i);
		free(at);
	}
	cr_assert_eq(chdir("/"), 0);
	cr_expect_str_eq(at = absolute("tmp"), "/tmp");
	free(at);
}

static char folder[32];

static void make_folder(void)
{
	strcpy(folder, "/tmp/shoal-parse.XXXXXX");
	cr_assert_not_null(mkdtemp(folder));
	cr_assert_eq(chdir(folder), 0);
	for (unsigned i = 0; i < 3; i++)
		fclose(fopen((const char *[]){"m.so", "a:b.so", "with:colon"}[i], "w"));
	cr_assert_eq(mkdir("sub", 0755), 0);
}

static void remove_folder(void)
{
	char command[64];

	snprintf(command, sizeof command, "rm -r %s", folder);
	cr_expect_eq(system(command), 0);
}

TestSuite(parse_module, .init = make_folder, .fini = remove_folder);

static void expect_module(const char *word, const char *typed, const char *entry)
{
	struct module m;
	char path[64];

	parse_module(word, &m);
	snprintf(path, sizeof path, "%s/%s", folder, typed);
	cr_expect_str_eq(m.typed, typed, "%s", word);
	cr_expect_str_eq(m.path, path, "%s", word);
	cr_expect_str_eq(m.entry, entry, "%s", word);
}

Test(parse_module, an_entry_stands_after_the_last_colon)
{
	expect_module("m.so", "m.so", "shoal_main");
	expect_module("m.so:go", "m.so", "go");
	expect_module("a:b.so", "a:b.so", "shoal_main"); /* a file of that name is there */
	expect_module("a:b.so:go", "a:b.so", "go");
	expect_module("with:colon", "with:colon", "shoal_main");
}

Test(parse_module, what_cannot_be_a_module_ends_with_its_code)
{
	static const struct {
		const char *word;
		int code;
	} wrong[] = {
		{"none.so", EXIT_NOT_FOUND},   {"none.so:go", EXIT_NOT_FOUND},
		{"m.so/x", EXIT_NOT_FOUND},    {"sub", EXIT_NOT_LOADABLE},
		{"sub:go", EXIT_NOT_LOADABLE}, {"m.so:", EXIT_USAGE},
		{":go", EXIT_USAGE},	       {"", EXIT_USAGE},
	};

	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		struct module m;
		int st;
		pid_t pid = fork();

		if (pid == 0) {
			freopen("/dev/null", "w", stderr);
			parse_module(wrong[i].word, &m);
			_exit(0);
		}
		cr_assert_eq(waitpid(pid, &st, 0), pid);
		cr_expect(WIFEXITED(st) && WEXITSTATUS(st) == wrong[i].code, "'%s' ends with %d", wrong[i].word,
			  WEXITSTATUS(st));
	}
}
