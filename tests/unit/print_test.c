/*
 * print_test.c - numbers for people, tables and JSON of the command line.
 */
#include "tools/shoal/cli.h"

#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <string.h>

/* As in conn.c, which would bring the whole connection along. */
void put(json_t *object, const char *key, json_t *value)
{
	cr_assert_eq(json_object_set_new(object, key, value), 0);
}

static void expect_and_free(char *got, const char *want)
{
	cr_expect_str_eq(got, want, "'%s', should be '%s'", got, want);
	free(got);
}

Test(print, durations_have_the_unit_that_fits)
{
	static const struct {
		int64_t ns;
		const char *text;
	} cases[] = {
		{-1, "-"},
		{0, "0us"},
		{999999, "999us"},
		{1000000, "1ms"},
		{999999999, "999ms"},
		{1000000000, "1.0s"},
		{59900000000, "59.9s"},
		{60000000000, "1m00s"},
		{3599000000000, "59m59s"},
		{3600000000000, "1h00m"},
		{86399000000000, "23h59m"},
		{86400000000000, "1d00h"},
		{90000000000000, "1d01h"},
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		expect_and_free(show_duration(cases[i].ns), cases[i].text);
}

Test(print, sizes_have_at_most_three_digits)
{
	static const struct {
		int64_t bytes;
		const char *text;
	} cases[] = {
		{0, "0B"},	   {999, "999B"},	  {1000, "1.0K"},	{1024, "1.0K"},	      {10240, "10K"},
		{1048576, "1.0M"}, {1023 * 1024, "1.0M"}, {1073741824, "1.0G"}, {5368709120, "5.0G"},
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		expect_and_free(show_size(cases[i].bytes), cases[i].text);
}

Test(print, control_characters_of_a_task_do_not_reach_the_terminal)
{
	expect_and_free(show_clean("a\033[2Jb\nc\177"), "a?[2Jb?c?");
	expect_and_free(show_clean("gr\303\274n"), "gr\303\274n");
}

Test(print, numbers_and_texts_that_are_missing_have_a_default)
{
	json_t *o = json_pack("{s:i,s:f,s:s,s:f}", "n", 7, "x", 2.5, "s", "text", "at", 1.5);

	cr_expect_eq(get_int(o, "n", -1), 7);
	cr_expect_eq(get_int(o, "x", -1), 2);
	cr_expect_eq(get_int(o, "s", -1), -1);
	cr_expect_eq(get_int(o, "none", -1), -1);
	cr_expect_str_eq(get_text(o, "s"), "text");
	cr_expect_str_eq(get_text(o, "n"), "");
	cr_expect_str_eq(get_text(o, "none"), "");
	cr_expect_eq(get_time(o, "at"), 1500000000);
	cr_expect_eq(get_time(o, "none"), 0);
	json_decref(o);
}

static void add_row(struct table *t, const char *a, const char *b, const char *c)
{
	char *cells[] = {must(strdup(a)), must(strdup(b)), must(strdup(c))};

	table_add(t, cells);
}

Test(print, columns_are_as_wide_as_their_widest_cell, .init = cr_redirect_stdout)
{
	struct table t = {.columns = 3, .titles = {"ID", "NAME", "STATUS"}, .align = "rll", .status = 2};

	add_row(&t, "1", "gr\303\274n", "running");
	add_row(&t, "100", "a-long-name", "done");
	table_print(&t);
	fflush(stdout);
	cr_assert_stdout_eq_str(" ID  NAME         STATUS\n"
				"  1  gr\303\274n         running\n"
				"100  a-long-name  done\n");
}

/* Without a terminal the output is 80 columns wide. */
Test(print, the_last_column_is_cut_to_the_width_of_the_output, .init = cr_redirect_stdout)
{
	struct table t = {.columns = 3, .titles = {"A", "B", "C"}, .align = "lll", .status = -1};
	char wide[81], line[128];

	memset(wide, 'x', 80);
	wide[80] = '\0';
	add_row(&t, "1", "2", wide);
	table_print(&t);
	fflush(stdout);
	snprintf(line, sizeof line, "A  B  C\n1  2  %.73s~\n", wide);
	cr_assert_stdout_eq_str(line);
}

Test(print, an_answer_is_one_line_of_json_with_its_version, .init = cr_redirect_stdout)
{
	json_t *reply = json_pack("{s:b,s:i,s:[i,i]}", "ok", 1, "version", 9, "list", 1, 2);

	print_json(reply);
	fflush(stdout);
	cr_assert_stdout_eq_str("{\"version\": 1, \"list\": [1, 2]}\n");
	json_decref(reply);
}

Test(print, members_are_shown_with_sizes_and_durations_for_people, .init = cr_redirect_stdout)
{
	json_t *reply = json_pack("{s:b,s:i,s:i,s:s}", "ok", 1, "memory_used", 2048, "up_ns", 2000000, "s", "a\tb");

	print_members(reply);
	fflush(stdout);
	cr_assert_stdout_eq_str("memory_used  2048 (2.0K)\nup_ns        2ms\ns            a?b\n");
	json_decref(reply);
}
