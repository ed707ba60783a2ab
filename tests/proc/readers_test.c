/*
 * readers_test.c - what a task writes reaches its readers byte for byte, whatever they, the supervisor and
 * the workers do; what nobody reads is kept up to a limit.
 *
 * The lines are numbered (modules/output/lines.c), so a byte that is missing, doubled or replaced shows.
 */
#include "tests/proc/proc.h"

#include <signal.h>
#include <time.h>

#define LINES "build/tests/modules/output/lines.so"
/* Prints "N lines, M out of order, K NUL". */
#define IN_ORDER \
	"awk 'substr($0, 1, 12) + 0 != NR - 1 || length($0) != 63 || !/x$/ { bad++ } /\\0/ { nul++ } " \
	"END { printf \"%%d lines, %%d wrong, %%d NUL\\n\", NR, bad, nul }'"
#define EACH_ONCE "sort | " IN_ORDER
/* Runs it in the background; nothing reads its stdout until the test has removed its folder. */
#define UNREAD(command) \
	"{ sh -c '" command "' | while [ -d ${SHOAL_SOCKET%%/*} ]; do sleep 0.05; done; } >/dev/null 2>&1 &"
#define MIB_OF_LINES 16384

static void start_with(const char *options)
{
	strcpy(dir, "/tmp/shoal-proc.XXXXXX");
	cr_assert_not_null(mkdtemp(dir));
	setenv("SHOAL_SOCKET", sh("echo %s/s", dir) == 0 ? strtok(text, "\n") : "", 1);
	cr_assert_eq(sh("build/shoal start --procs 2 %s 2>&1", options), 0, "%s", text);
}

static void start_small(void)
{
	start_with("--output-memory 8M");
}

static void expect_lines(int mib, const char *what)
{
	char want[80];

	snprintf(want, sizeof want, "%d lines, 0 wrong, 0 NUL\n", mib * MIB_OF_LINES);
	cr_expect_str_eq(text, want, "%s: %.300s", what, text);
}

/* Until the command succeeds. */
static void wait_until(const char *fmt, const char *arg)
{
	char command[400];

	snprintf(command, sizeof command, fmt, arg);
	cr_assert_eq(sh("for i in $(seq 1500); do %s >/dev/null 2>&1 && exit 0; sleep 0.02; done; exit 1", command), 0,
		     "never: %s", command);
}

#define IS_HELD_BACK "build/shoal ps | grep -q 'output wait'"
/* In a pipeline: reads nothing until a writer is held back, so the buffers are full when it begins. */
#define WHEN_HELD_BACK "for i in $(seq 2000); do " IS_HELD_BACK " && break; sleep 0.02; done; "

#define READERS_TEST(name) Test(readers, name, .init = start_small, .fini = stop, .timeout = 90)

/* By each call that can write; the reader reads nothing at first. */
READERS_TEST(get_every_byte_however_it_is_written)
{
	static const char *const by[] = {"write", "printf", "fwrite", "writev", "puts", "putchar"};

	for (size_t i = 0; i < sizeof by / sizeof *by; i++) {
		int mib = *by[i] == 'p' && by[i][2] == 't' ? 10 : 24;

		cr_expect_eq(sh("build/shoal run " LINES " %d %s | (" WHEN_HELD_BACK IN_ORDER ")", mib, by[i]), 0);
		expect_lines(mib, by[i]);
	}
}

READERS_TEST(get_every_byte_of_many_goroutines)
{
	cr_expect_eq(sh("build/shoal run " LINES " 12 write 40 | (" WHEN_HELD_BACK EACH_ONCE ")"), 0);
	expect_lines(12, "write");
	cr_expect_eq(sh("build/shoal run " LINES " 12 printf 40 | (" WHEN_HELD_BACK EACH_ONCE ")"), 0);
	expect_lines(12, "printf");
	cr_expect_eq(sh("build/shoal run " LINES " 12 err 40 2>&1 >/dev/null | (" WHEN_HELD_BACK EACH_ONCE ")"), 0);
	expect_lines(12, "stderr");
}

/* Two attach while nothing is read; the late one stops in between. */
READERS_TEST(that_are_several_each_get_every_byte)
{
	cr_expect_eq(sh("build/shoal run " LINES " 64 | (until [ -s %s/begun ]; do sleep 0.02; done; " IN_ORDER
			") >%s/run & " WHEN_HELD_BACK "build/shoal logs -f 1 | " IN_ORDER " >%s/logs & "
			"build/shoal logs -f 1 | (head -c 100000; echo >%s/begun; " WHEN_HELD_BACK "cat) | " IN_ORDER
			" >%s/late; wait; "
			"cat %s/run %s/logs %s/late",
			dir, dir, dir, dir, dir, dir, dir, dir),
		     0);
	cr_expect_str_eq(text,
			 "1048576 lines, 0 wrong, 0 NUL\n1048576 lines, 0 wrong, 0 NUL\n"
			 "1048576 lines, 0 wrong, 0 NUL\n",
			 "%.400s", text);
}

/* The task continues when the only reader that held it back has died. Other tasks are never held back. */
READERS_TEST(that_die_let_the_task_continue)
{
	sh("build/shoal submit " LINES " 64; " UNREAD("echo $$ >%s/pid; exec build/shoal logs -f 1"), dir);
	wait_until(IS_HELD_BACK "%s", "");
	cr_expect_eq(sh("timeout 20 build/shoal run " LINES " 1 | " IN_ORDER), 0);
	expect_lines(1, "beside a task that is held back");
	cr_expect_eq(sh(IS_HELD_BACK), 0, "no longer held back");
	cr_expect_eq(sh("kill -9 $(cat %s/pid); timeout 20 build/shoal wait 1 2>&1", dir), 0, "%s", text);
}

READERS_TEST(that_stop_do_not_keep_a_task_from_its_end)
{
	static const char *const end[] = {"build/shoal cancel", "true", "build/shoal cancel --now"};

	for (size_t i = 0; i < 2; i++) {
		sh("build/shoal submit %s " LINES " 6400; " UNREAD("exec build/shoal logs -f %zu"),
		   i == 1 ? "--timeout 2s" : "", i + 1);
		wait_until(IS_HELD_BACK "%s", "");
		cr_expect_eq(sh("%s %zu && timeout 20 build/shoal wait %zu 2>&1", end[i], i + 1, i + 1),
			     i == 1 ? 124 : 130, "%s: %s", end[i], text);
	}
	sh("build/shoal submit " LINES " 6400; " UNREAD("exec build/shoal logs -f 3"));
	wait_until(IS_HELD_BACK "%s", ""); /* and now stop --now, by .fini */
}

/* While the reader is behind: the supervisor is killed and another one takes over. */
READERS_TEST(get_every_byte_over_the_death_of_the_supervisor)
{
	sh("(build/shoal run " LINES " 64; echo $? >%s/code) | (while [ ! -e %s/go ]; do sleep 0.02; done; " IN_ORDER
	   ") >%s/out 2>%s/err & echo",
	   dir, dir, dir, dir);
	wait_until(IS_HELD_BACK "%s", "");
	for (int i = 0; i < 3; i++) {
		cr_expect_eq(kill(pid_of("pid"), SIGKILL), 0);
		wait_until("build/shoal start --procs 2%s", "");
		if (i == 1)
			sh("touch %s/go", dir);
	}
	wait_until("test -s %s/out", dir);
	sh("cat %s/out", dir);
	expect_lines(64, "over three deaths of the supervisor");
	wait_until("grep -qx 0 %s/code", dir);
}

/* A goroutine that is held back runs on no worker: all workers are killed, and it continues. */
READERS_TEST(get_every_byte_over_the_deaths_of_workers)
{
	int pid[128], kills = 0;
	unsigned n;

	sh("build/shoal run " LINES " 24 | (while [ ! -e %s/go ]; do sleep 0.02; done; " IN_ORDER ") >%s/out & echo",
	   dir, dir);
	wait_until(IS_HELD_BACK "%s", "");
	n = worker_pids(pid, 128);
	for (unsigned i = 0; i < n; i++)
		kills += kill(pid[i], SIGKILL) == 0;
	cr_expect_geq(kills, 2);
	WAIT_FOR(number_in("stats", "worker_deaths") >= kills);
	sh("touch %s/go", dir);
	wait_until("test -s %s/out", dir);
	sh("cat %s/out", dir);
	expect_lines(24, "over the deaths of all workers");
}

/* ---- output without a reader ---- */

/* The end of the output is kept, and `logs` says how much of the beginning was dropped. */
READERS_TEST(that_come_late_are_told_what_was_dropped)
{
	long dropped, lines, first;
	char path[96];
	json_t *logs;

	cr_expect_eq(sh("build/shoal submit " LINES " 40; build/shoal wait 1"), 0);
	dropped = sum_in("tasks -a", "tasks", "output_dropped");
	cr_expect_geq(dropped, 32l << 20);
	cr_expect_lt(dropped, 40l << 20);
	cr_expect_eq(
		sh("build/shoal logs 1 2>%s/err | awk 'NR == 1 { first = substr($0, 1, 12) + 0; part = length($0) < 63 } "
		   "NR > 1 && substr($0, 1, 12) + 0 != n + 1 { bad++ } { n = NR == 1 && part ? n : substr($0, 1, 12) + 0 } "
		   "END { print NR, n, bad + 0 }'",
		   dir),
		0);
	cr_expect_eq(sscanf(text, "%ld %ld", &lines, &first), 2);
	cr_expect_eq(first, 40l * MIB_OF_LINES - 1, "the last line is there: %s", text);
	cr_expect_eq(lines, (40l << 20) / 64 - dropped / 64, "%ld dropped: %s", dropped, text);
	cr_expect_eq(sh("grep -xE '\\[[0-9]+ MB dropped\\]' %s/err", dir), 0, "no word of it");
	cr_expect_eq(sh("build/shoal logs --json 1 >%s/logs", dir), 0);
	snprintf(path, sizeof path, "%s/logs", dir);
	logs = json_load_file(path, 0, NULL);
	cr_expect_eq(json_integer_value(json_object_get(logs, "output_dropped")), dropped);
	json_decref(logs);
}

/* `logs` of a task that writes without readers: the output between two notes of dropped bytes is complete. */
READERS_TEST(of_a_task_that_writes_on_get_no_byte_replaced)
{
	sh("build/shoal submit " LINES " 100000 >/dev/null");
	WAIT_FOR(sum_in("tasks", "tasks", "output_dropped") > 0);
	for (int i = 0; i < 5; i++) {
		cr_expect_eq(
			sh("timeout 20 build/shoal logs 1 2>&1 | awk '/\\0/ { nul++ } /^\\[.* dropped\\]$/ { skip = 2; next } "
			   "skip { skip--; n = substr($0, 1, 12) + 0; next } substr($0, 1, 12) + 0 != ++n { bad++ } "
			   "END { print (NR > 1000), nul + 0, bad + 0 }'"),
			0);
		cr_expect_str_eq(text, "1 0 0\n", "%s", text);
	}
	cr_expect_eq(sh("build/shoal cancel 1; build/shoal wait 1"), 130);
}

/* Of tasks that have ended the oldest pay first. */
READERS_TEST(of_many_tasks_find_the_newest_output_whole)
{
	long dropped;

	for (int i = 0; i < 12; i++)
		cr_expect_eq(sh("build/shoal submit " LINES " 1 >/dev/null; build/shoal wait %d", i + 1), 0);
	cr_expect_eq(sh("build/shoal logs 12 | " IN_ORDER), 0);
	expect_lines(1, "the newest");
	cr_expect_eq(sh("build/shoal logs 1 2>&1 >/dev/null"), 0);
	cr_expect_str_eq(text, "[1.0 MB dropped]\n", "%s", text);
	/* They may keep 8 MiB and the pages at their ends. */
	dropped = sum_in("tasks -a", "tasks", "output_dropped");
	cr_expect_geq(dropped, 12l * (1 << 20) - (8l << 20), "%ld", dropped);
	cr_expect_leq(dropped, 12l * (1 << 20) - (6l << 20), "%ld", dropped);
}

/* ---- files: --output-dir ---- */

static void start_with_folder(void)
{
	start_with("--output-memory 4M --output-dir $SHOAL_SOCKET.files");
}

/* All of it is there, although memory has room for a tenth; also after a death of the supervisor. */
Test(readers, find_in_files_what_memory_has_no_room_for, .init = start_with_folder, .fini = stop, .timeout = 90)
{
	cr_expect_eq(sh("build/shoal submit " LINES " 40; build/shoal wait 1"), 0);
	cr_expect_eq(sh("build/shoal logs 1 | " IN_ORDER), 0);
	expect_lines(40, "an ended task");
	cr_expect_eq(sh("[ $(stat -c %%s %s/s.files/task-1.stdout) -gt 30000000 ]", dir), 0, "no file");
	sh("build/shoal submit " LINES " 100 puts >/dev/null");
	for (int i = 0; i < 3; i++) {
		cr_expect_eq(sh("build/shoal logs 2 | " IN_ORDER), 0);
		cr_expect_not_null(strstr(text, " 0 NUL"), "%s", text);
		cr_expect(strstr(text, ", 0 wrong") || strstr(text, ", 1 wrong"), "only the last may be cut: %s", text);
	}
	cr_expect_eq(kill(pid_of("pid"), SIGKILL), 0);
	wait_until("build/shoal start --procs 2%s", "");
	cr_expect_eq(sh("build/shoal wait 2; build/shoal logs 2 | " IN_ORDER), 0);
	expect_lines(100, "over a death of the supervisor");
	cr_expect_eq(sh("build/shoal logs 1 | " IN_ORDER), 0);
	expect_lines(40, "an ended task, over a death of the supervisor");
	cr_expect_eq(sum_in("tasks -a", "tasks", "output_dropped"), 0, "dropped: %s", text);
}
