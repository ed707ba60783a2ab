/*
 * cli_test.c - what the command line says when something went wrong, and when it is asked wrongly.
 */
#include "tests/proc/proc.h"

#include <signal.h>
#include <sys/stat.h>

#define CLI_TEST(name) Test(cli, name, .init = start, .fini = stop, .timeout = TEST_S)

static void expect_text(const char *what)
{
	cr_expect_not_null(strstr(text, what), "no '%s' in: %s", what, text);
}

/* ---- crash records ---- */

CLI_TEST(a_crash_is_reported_with_function_file_and_line)
{
	int pid;

	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/survive/crash.so deep 2>&1"), 139, "%s", text);
	cr_expect_eq(sh("build/shoal crash 1 2>&1"), 0, "%s", text);
	expect_text("[signal SIGSEGV code=1 addr=0x14 pc=0x");
	expect_text("\"digger\"");
	expect_text("third(...)");
	expect_text("second(...)");
	expect_text("first(...)");
	expect_text("tests/modules/survive/crash.c:15 ");
	expect_text(" rip 0x");
	cr_expect_eq(sh("build/shoal crash --json"), 0);
	expect_text("\"function\": \"third\"");
	expect_text("survive/crash.c\", \"line\": 15");
	cr_expect_eq(sh("build/shoal crash 999 2>&1"), 5);
	expect_text("no such task or goroutine: 999");
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/work.so 2>&1 && build/shoal crash 2"),
		     0); /* none of these tasks has crashed */
	sh("cat %s/s.log", dir);
	expect_text("crash: task 1 goroutine 2 worker ");
	/* Its worker and the supervisor that recorded it have ended. */
	pid = pid_of("pid");
	cr_expect_eq(kill(pid, SIGKILL), 0);
	WAIT_FOR(gone(pid));
	cr_expect_eq(sh("build/shoal start 2>&1"), 0, "%s", text);
	cr_expect_eq(sh("build/shoal crash 1"), 0, "%s", text);
	expect_text("tests/modules/survive/crash.c:15 ");
}

/* Functions that the compiler has put into one another are frames of their own, each with its line. */
CLI_TEST(inlined_functions_are_frames_of_their_own)
{
	static const char *const crash[] = {"innermost(...)\n\t%s/i.c:3 +", "middle(...)\n\t%s/i.c:5 +",
					    "outermost(...)\n\t%s/i.c:6 +", "runs(...)\n\t%s/i.c:8 +"};
	json_t *frames;
	char line[160];
	int inlined = 0;

	sh("cat >%s/i.c <<'E'\n#include <shoal.h>\n"
	   "#define IN static inline __attribute__((always_inline))\nIN void innermost(int *p) { if (p) *p = 1; else shoal_sleep(60000000000); }\n"
	   "static int n;\nIN void middle(int *p) { n++; innermost(p); }\nIN void outermost(int *p) { middle(p); n++; }\n"
	   "static __attribute__((noinline)) void runs(int *p) {\n outermost(p); n++; }\n"
	   "int shoal_main(int c, char **v) { runs(c > 1 ? (int *)8 : 0); return n; }\nE\n"
	   "cc -shared -fPIC -O2 -g -Icore -o %s/i.so %s/i.c",
	   dir, dir, dir);
	cr_expect_eq(sh("timeout 20 build/shoal run %s/i.so crash 2>&1", dir), 139, "%s", text);
	cr_expect_eq(sh("build/shoal crash 1 2>&1"), 0, "%s", text);
	for (int i = 0; i < 4; i++) {
		snprintf(line, sizeof line, crash[i], dir);
		expect_text(line);
	}
	cr_expect_eq(sh("build/shoal submit %s/i.so 2>&1", dir), 0, "%s", text);
	WAIT_FOR(waiting_for("sleep") == 1);
	cr_expect_eq(sh("build/shoal dump"), 0);
	snprintf(line, sizeof line, "shoal_sleep(...)\n\t");
	expect_text(line);
	for (int i = 0; i < 4; i++) {
		snprintf(line, sizeof line, crash[i], dir);
		expect_text(line);
	}
	frames = json_object_get(json_array_get(json_object_get(see("dump"), "goroutines"), 0), "frames");
	for (size_t k = 0; k < json_array_size(frames); k++)
		inlined += json_is_true(json_object_get(json_array_get(frames, k), "inlined"));
	cr_expect_eq(inlined, 3, "%s", text);
}

/* Also in a runtime that was optimized as a whole: the waiting function has the line of its own file. */
CLI_TEST(calls_of_the_runtime_are_named_with_their_own_lines)
{
	static const char *const calls[] = {"shoal_sleep g/api",
					    "shoal_recv sync/chan",
					    "shoal_send sync/chan",
					    "shoal_select sync/select",
					    "shoal_cond_wait sync/cond",
					    "shoal_mutex_lock sync/mutex",
					    "shoal_rwmutex_rlock sync/rwmutex",
					    "shoal_rwmutex_lock sync/rwmutex",
					    "shoal_wg_wait sync/wg",
					    "shoal_sem_acquire sync/sem",
					    "shoal_join sync/join"};

	cr_expect_eq(sh("build/shoal submit build/tests/modules/see/life.so reasons 1 60000 2>&1"), 0, "%s", text);
	WAIT_FOR(waiting_for("sync.Mutex.Lock") >= 1 && waiting_for("pthread lock") >= 1);
	WAIT_FOR(with_status("waiting") == 22 && with_status("syscall") == 1);
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
		char call[64], *file;

		snprintf(call, sizeof call, "%s", calls[i]);
		file = strchr(call, ' ');
		*file++ = '\0';
		cr_expect_eq(sh("build/shoal dump | grep -A1 '^%s(' | grep '^\t'", call), 0, "no %s", call);
		for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
			char want[64];

			snprintf(want, sizeof want, "/core/%s.c:", file);
			cr_expect_not_null(strstr(line, want), "%s in%s", call, line);
		}
	}
	cr_expect_eq(sh("build/shoal dump | grep -A2 '^flock(' | tr -d '\\n'"), 0);
	expect_text("/worker/posix/fd.c:");
	expect_text("in_call(...)");
}

/* The code has no frame pointers: the unwinder uses the compiler's tables and the copy of the stack. */
CLI_TEST(a_crash_is_unwound_without_frame_pointers)
{
	sh("cc -shared -fPIC -O2 -g -fomit-frame-pointer -Icore -o %s/bare.so tests/modules/survive/crash.c", dir);
	cr_expect_eq(sh("timeout 20 build/shoal run %s/bare.so deep 2>&1", dir), 139, "%s", text);
	cr_expect_eq(sh("build/shoal crash 1 2>&1"), 0, "%s", text);
	expect_text("third(...)");
	expect_text("second(...)");
	expect_text("first(...)");
	expect_text("deep(...)");
	cr_expect_eq(sh("timeout 20 build/shoal run %s/bare.so jump 2>&1", dir), 139, "%s", text);
	cr_expect_eq(sh("build/shoal crash 2 2>&1"), 0, "%s", text);
	expect_text("pc=0x18");
	expect_text("shoal_main(...)");
}

CLI_TEST(a_stack_overflow_says_so_whatever_the_size_of_the_frame)
{
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/crash.so overflow 2>&1"), 139, "%s",
		     text);
	expect_text("stack overflow: goroutine stack exceeds 1048576-byte limit");
	sh("cc -shared -fPIC -O2 -Icore -fno-stack-clash-protection -o %s/o.so tests/modules/basic/crash.c", dir);
	cr_expect_eq(sh("timeout 20 build/shoal run %s/o.so overflow 2>&1", dir), 139, "%s", text);
	expect_text("stack overflow: goroutine stack exceeds 1048576-byte limit");
}

static int by_size(const void *a, const void *b)
{
	long x = *(const long *)a, y = *(const long *)b;

	return x < y ? -1 : x > y;
}

/* T3: from the store that faults to the record that is complete. Also: the last 1,000 are kept. */
CLI_TEST(a_crash_is_recorded_in_microseconds_and_a_thousand_are_kept)
{
	static long ns[1200];
	json_t *all;
	int n = 0;

	cr_expect_eq(sh("build/shoal stop --now && SHOAL_DEBUG=nodelay build/shoal start --procs 2 2>&1"), 0, "%s",
		     text);
	cr_expect_eq(sh("timeout 40 build/shoal run build/tests/modules/survive/crash.so timed 1010 2>&1"), 0, "%s",
		     text);
	all = json_object_get(see("crash"), "crashes");
	for (; (size_t)n < json_array_size(all) && n < 1200; n++) {
		json_t *crash = json_array_get(all, (size_t)n), *at = json_object_get(crash, "address");

		cr_assert(json_is_string(at));
		ns[n] = (json_integer_value(json_object_get(crash, "time_ns")) & 0xffffffffff) -
			(strtol(json_string_value(at), NULL, 16) & 0xffffffffff);
		cr_assert_gt(ns[n], 0);
	}
	cr_assert_eq(n, 1000, "%d", n);
	qsort(ns, (size_t)n, sizeof *ns, by_size);
	fprintf(stderr, "SIGSEGV to crash record: p50 %.1f us, p99 %.1f us, of %d\n", (double)ns[n / 2] / 1e3,
		(double)ns[n * 99 / 100] / 1e3, n);
	cr_expect_lt(ns[n / 2], 1000000);
}

/* ---- asked wrongly ---- */

CLI_TEST(wrong_arguments_are_a_usage_error)
{
	static const char *const wrong[] = {"nonsense",
					    "run",
					    "run --attempts",
					    "run --attempts x m.so",
					    "run --attempts 0 m.so",
					    "run --timeout 5 m.so",
					    "run --timeout -1s m.so",
					    "run --env =x m.so",
					    "run --env x m.so",
					    "run --nonsense m.so",
					    "wait",
					    "wait x",
					    "wait -5",
					    "logs",
					    "logs 1 2",
					    "logs -f --json 1",
					    "cancel",
					    "cancel x",
					    "tasks x",
					    "ps --task",
					    "ps --task x",
					    "workers x",
					    "stats x",
					    "check x",
					    "crash x",
					    "crash 1 2",
					    "restart x",
					    "info x",
					    "stop x",
					    "start --procs 0",
					    "start --procs x",
					    "start --memory 5X",
					    "start x",
					    "help nonsense",
					    "version x",
					    "life",
					    "life x",
					    "life -1",
					    "life 99999999999999999999",
					    "dump x y",
					    "dump x",
					    "procs 0",
					    "procs -1",
					    "procs 1 2",
					    "logs x",
					    "restart 1 2",
					    "top x",
					    "trace",
					    "trace -o",
					    "trace -o \"\"",
					    "trace -s 0 -o x",
					    "trace -s nan -o x",
					    "trace -s 5x -o x",
					    "run \"\"",
					    "run :main",
					    "tasks --socket \"\"",
					    "submit --timeout 0s m.so"};

	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		cr_expect_eq(sh("build/shoal %s 2>&1 >/dev/null", wrong[i]), 2, "%s: %s", wrong[i], text);
		cr_expect(strncmp(text, "shoal", 5) == 0 && strchr(text, '\n') == strrchr(text, '\n'), "%s: %s",
			  wrong[i], text);
	}
	cr_expect_eq(sh("build/shoal 2>/dev/null"), 2);
	cr_expect_str_empty(text);
	cr_expect_eq(sh("build/shoald nonsense 2>&1"), 2, "%s", text);
	cr_expect_eq(sh("build/shoald --procs 0 2>&1"), 2, "%s", text);
}

/* A mistyped verb gets a suggestion; a word that is not similar to any gets none. */
CLI_TEST(a_mistyped_verb_or_option_is_suggested)
{
	static const struct {
		const char *typed, *told;
	} slips[] = {{"taks", "did you mean tasks?"},
		     {"Tasks", "did you mean tasks?"},
		     {"wrokers", "did you mean workers?"},
		     {"help lfe", "did you mean life?"},
		     {"tasks --jsn", "did you mean --json?"},
		     {"ps --tsk 1", "did you mean --task?"},
		     {"run --timeot 5s m.so", "did you mean --timeout?"},
		     {"--sokcet /x tasks", "did you mean --socket?"}};
	static const char *const far[] = {"nonsense", "x", "zz", "tasks --nonsense", "tasks -z"};

	for (size_t i = 0; i < sizeof slips / sizeof *slips; i++) {
		cr_expect_eq(sh("build/shoal %s 2>&1 >/dev/null", slips[i].typed), 2, "%s: %s", slips[i].typed, text);
		expect_text(slips[i].told);
	}
	for (size_t i = 0; i < sizeof far / sizeof *far; i++) {
		cr_expect_eq(sh("build/shoal %s 2>&1 >/dev/null", far[i]), 2, "%s: %s", far[i], text);
		cr_expect_null(strstr(text, "did you mean"), "%s: %s", far[i], text);
	}
}

static const char *const all_verbs[] = {"start",   "run",   "submit", "wait",  "logs",	"cancel", "tasks",  "ps",
					"workers", "life",  "dump",   "stats", "sched", "check",  "crash",  "restart",
					"top",	   "trace", "procs",  "info",  "stop",	"help",	  "version"};

CLI_TEST(every_verb_has_help_and_is_in_the_list)
{
	char list[8192];

	cr_expect_eq(sh("build/shoal help"), 0);
	snprintf(list, sizeof list, "%.8000s", text);
	for (size_t i = 0; i < sizeof all_verbs / sizeof *all_verbs; i++) {
		char line[64], help[4096];

		snprintf(line, sizeof line, "\n  %-8s  ", all_verbs[i]);
		cr_expect_not_null(strstr(list, line), "%s is not in the list", all_verbs[i]);
		cr_expect_eq(sh("build/shoal help %s", all_verbs[i]), 0);
		snprintf(help, sizeof help, "%.4000s", text);
		snprintf(line, sizeof line, "usage: shoal %s", all_verbs[i]);
		cr_expect_eq(strncmp(help, line, strlen(line)), 0, "%s", help);
		/* Help also works without a supervisor and with any other arguments. */
		cr_expect_eq(sh("build/shoal %s --socket %s/none --help 2>&1", all_verbs[i], dir), 0, "%s", text);
		cr_expect_str_eq(text, help);
		cr_expect_eq(sh("build/shoal %s -h 2>&1", all_verbs[i]), 0, "%s", text);
		cr_expect_str_eq(text, help);
		for (char *at = strtok(text, "\n"); at; at = strtok(NULL, "\n"))
			cr_expect_leq(strlen(at), 90u, "%s: too wide: %s", all_verbs[i], at);
	}
}

CLI_TEST(without_a_supervisor_verbs_say_how_to_start_one)
{
	static const char *const needs[] = {
		"wait 1",  "logs 1", "cancel 1", "tasks", "ps",	   "workers",
		"life 1",  "dump",   "stats",	 "sched", "check", "crash",
		"restart", "procs",  "procs 2",	 "info",  "stop",  "submit build/tests/modules/basic/work.so"};

	for (size_t i = 0; i < sizeof needs / sizeof *needs; i++) {
		cr_expect_eq(sh("build/shoal --socket %s/none %s 2>&1", dir, needs[i]), 3, "%s: %s", needs[i], text);
		expect_text("/none (start one with: shoal start)\n");
	}
	/* And the file that it would have written is unchanged. */
	cr_expect_eq(sh("echo old >%s/t; build/shoal trace -o %s/t --socket %s/none 2>&1; c=$?; cat %s/t; exit $c", dir,
			dir, dir, dir),
		     3);
	expect_text("old\n");
}

CLI_TEST(a_missing_file_has_its_own_exit_code)
{
	cr_expect_eq(sh("build/shoal dump 0 2>&1"), 5, "%s", text);
	cr_expect_eq(sh("build/shoal life 0 2>&1"), 5, "%s", text);
	cr_expect_eq(sh("build/shoal wait 0 2>&1"), 5, "%s", text);
	cr_expect_eq(sh("build/shoal wait 77 2>&1"), 5, "%s", text);
	cr_expect_eq(sh("build/shoal logs 77 2>&1"), 5, "%s", text);
	cr_expect_eq(sh("build/shoal cancel 77 2>&1"), 5, "%s", text);
	cr_expect_eq(sh("build/shoal ps --task 77 2>&1"), 5, "%s", text);
	cr_expect_eq(sh("build/shoal life 77777777777 2>&1"), 5, "%s", text);
	cr_expect_eq(sh("build/shoal dump 77777777777 2>&1"), 5, "%s", text);
	cr_expect_eq(sh("build/shoal restart 77 2>&1"), 1, "%s", text);
	cr_expect_eq(sh("build/shoal run nowhere.so 2>&1"), 127, "%s", text);
	cr_expect_eq(sh("build/shoal run build/tests/modules/basic/work.so:nobody 2>&1"), 127, "%s", text);
}

/* Each exit code by its name in INTERFACE, for `run`, and again for `submit` and `wait`. */
CLI_TEST(each_exit_code_has_its_meaning)
{
	static const struct {
		int code;
		const char *name, *command;
	} codes[] =
		{
			{0, "ok", "tasks"},
			{1, "failed", "restart 77"},
			{1, "failed", "start"},
			{2, "usage", "tasks --nonsense"},
			{2, "usage", "start --socket $D/o --spare 1000"},
			{2, "usage", "start --socket $D/o --memory 10K"},
			{2, "usage", "start --socket $D/o --procs 5000000"},
			{3, "no supervisor", "tasks --socket $D/o"},
			{3, "no socket of ours", "tasks --socket /etc/passwd"},
			{5, "no such task", "wait 77"},
			{5, "no such task", "crash 77"},
			{5, "no such goroutine", "dump 77777"},
			{126, "no ELF file", "run /etc/passwd"},
			{126, "a folder", "run /tmp"},
			{126, "undefined symbols", "run $D/undefined.c"},
			{126, "crash in a constructor", "run $D/constructor.c"},
			{126, "does not compile", "run $D/bad.c"},
			{127, "module not found", "run $D/nothing.so"},
			{127, "entry not found", "run build/tests/modules/basic/work.so:nothing"},
			{125, "our own failure", "run build/tests/modules/basic/work.so >/dev/full"},
		},
	  ends[] = {
		  {0, "the task's own code", "build/tests/modules/basic/work.so"},
		  {17, "the task's own code", "build/tests/modules/basic/crash.so exit"},
		  {124, "timed out", "--timeout 100ms build/tests/modules/basic/many.so 1 30000"},
		  {134, "crashed by SIGABRT", "build/tests/modules/basic/crash.so abort"},
		  {139, "crashed by SIGSEGV", "build/tests/modules/basic/crash.so null"},
		  {137, "lost", "build/tests/modules/basic/crash.so kill"},
		  {2, "deadlock", "build/tests/modules/see/run.so dead 1 0"},
	  };

	sh("echo 'int shoal_main(int c, char **v) { return x; }' >%s/bad.c; echo 'int nope(void); int shoal_main(int c, char **v) { return nope(); }' "
	   ">%s/undefined.c; echo '__attribute__((constructor)) static void f(void) { __builtin_trap(); } int shoal_main(int c, char **v) "
	   "{ return 0; }' >%s/constructor.c",
	   dir, dir, dir);
	for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
		cr_expect_eq(sh("D=%s; timeout 20 build/shoal %s 2>&1", dir, codes[i].command), codes[i].code,
			     "%s: %s: %s", codes[i].name, codes[i].command, text);
	for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
		cr_expect_eq(sh("timeout 20 build/shoal run %s 2>&1", ends[i].command), ends[i].code, "%s: %s",
			     ends[i].name, text);
		cr_expect_eq(
			sh("id=$(build/shoal submit %s 2>&1) && timeout 20 build/shoal wait $id 2>&1", ends[i].command),
			ends[i].code, "%s, by wait: %s", ends[i].name, text);
	}
	cr_expect_eq(
		sh("id=$(build/shoal submit build/tests/modules/basic/many.so 1 30000); build/shoal cancel $id; build/shoal wait $id 2>&1"),
		130, "cancelled: %s", text);
	/* After a few more crashes within a while: 75, module quarantined. */
	for (int i = 0; i < 12 && sh("timeout 20 build/shoal run build/tests/modules/basic/crash.so null 2>&1") == 139;
	     i++)
		;
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/crash.so exit 2>&1"), 75,
		     "quarantined: %s", text);
	cr_expect_eq(sh("timeout 20 build/shoal submit build/tests/modules/basic/crash.so exit 2>&1"), 75,
		     "quarantined: %s", text);
}

/* One object on one line, whose version is 1. */
CLI_TEST(every_verb_that_reads_has_json)
{
	static const char *const verbs[] = {"submit build/tests/modules/basic/work.so",
					    "wait 1",
					    "logs 1",
					    "tasks",
					    "tasks -a",
					    "ps",
					    "workers",
					    "stats",
					    "sched",
					    "check",
					    "crash",
					    "info",
					    "version",
					    "dump"};

	for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
		cr_expect_eq(sh("build/shoal --json %s", verbs[i]), 0, "%s: %s", verbs[i], text);
		cr_expect(strncmp(text, "{\"version\": 1", 13) == 0 && text[strlen(text) - 1] == '\n' &&
				  strchr(text, '\n') == strrchr(text, '\n'),
			  "%s: %s", verbs[i], text);
	}
	cr_expect_eq(sh("build/shoal --json life 1"), 0);
	cr_expect_eq(sh("build/shoal --json procs"), 0);
	/* Also behind the verb. */
	cr_expect_eq(sh("build/shoal stats --json"), 0);
	expect_text("\"memory_limit\": ");
}

CLI_TEST(a_socket_that_is_not_ours_is_no_supervisor)
{
	cr_expect_eq(sh("touch %s/file; build/shoal tasks --socket %s/file 2>&1", dir, dir), 3, "%s", text);
	expect_text("it is not a socket");
	cr_expect_eq(sh("build/shoal tasks --socket %s/none 2>&1", dir), 3, "%s", text);
	cr_expect_eq(sh("build/shoal tasks --socket /nowhere/at/all 2>&1"), 3, "%s", text);
	/* Another program listens there; it answers with other text, or with nothing. */
	cr_expect_eq(
		sh("perl -MIO::Socket::UNIX -e '$s = IO::Socket::UNIX->new(Listen => 5, Local => \"%s/other\") or die;"
		   "print STDERR \"listening\\n\"; alarm 20; while ($c = $s->accept) { print $c \"220 ready\\n\"; close $c; }' "
		   ">/dev/null 2>%s/perl & until [ -S %s/other ]; do sleep 0.05; done; "
		   "build/shoal tasks --socket %s/other 2>&1",
		   dir, dir, dir, dir),
		3, "%s", text);
	cr_expect_eq(sh("build/shoald --socket %s/other 2>&1", dir), 1, "%s", text);
	expect_text("another program listens");
	/* Left behind by one that is dead: a new one takes its place. */
	cr_expect_eq(sh("perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Listen => 5, Local => \"%s/stale\")'; "
			"build/shoal tasks --socket %s/stale 2>&1",
			dir, dir),
		     3, "%s", text);
	cr_expect_eq(
		sh("build/shoal start --socket %s/stale 2>&1 && build/shoal stop --socket %s/stale 2>&1", dir, dir), 0,
		"%s", text);
}

/* Scripts rely on these keys. Each is in the first entry of its list. */
CLI_TEST(the_keys_that_scripts_rely_on_are_there)
{
	static const struct {
		const char *verb, *list, *keys;
	} views[] = {
		{"tasks -a", "tasks", "id module entry name status exit_code attempts goroutines started ended"},
		{"ps", "goroutines",
		 "gid task status wait_reason worker p waiting_ns stack_used stack_size name created_by"},
		{"dump", "goroutines",
		 "gid task status wait_reason worker p waiting_ns stack_used stack_size name created_by frames"},
		{"workers", "workers", "id pid status p gid restarts uptime_ns"},
		{"crash", "crashes", "task gid signal address backtrace registers"},
		{"life 1", "events", "time from to why worker p stack_size migrated"},
		{"stats", NULL,
		 "goroutines goroutines_created migrations stack_grows steals preemptions syscalls worker_deaths tasks_done "
		 "tasks_crashed memory_used memory_committed memory_limit"},
	};

	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/crash.so null 2>&1"), 139, "%s", text);
	cr_expect_eq(sh("build/shoal submit build/tests/modules/basic/many.so 1 5000 2>&1"), 0, "%s", text);
	WAIT_FOR(waiting_for("chan receive") == 1);
	for (size_t i = 0; i < sizeof views / sizeof *views; i++) {
		json_t *o = see("%s", views[i].verb);
		char keys[256];

		cr_assert_not_null(o, "%s: %s", views[i].verb, text);
		if (views[i].list)
			o = json_array_get(json_object_get(o, views[i].list), 0);
		snprintf(keys, sizeof keys, "%s", views[i].keys);
		for (char *key = strtok(keys, " "); key; key = strtok(NULL, " "))
			cr_expect_not_null(json_object_get(o, key), "%s: no %s in %s", views[i].verb, key, text);
	}
}

/* If its reader has ended, a verb ends by SIGPIPE as filters do. If its output cannot be written, it says so. */
CLI_TEST(a_verb_whose_output_cannot_be_written_fails)
{
	static const char *const verbs[] = {"tasks",  "ps --json",	   "dump",  "workers", "help",
					    "life 1", "trace -o - -s 0.1", "logs 1"};

	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/work.so 2>&1"), 0, "%s", text);
	for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
		/* The verb starts after its reader has ended. */
		sh("rm -f %s/gone; { until [ -e %s/gone ]; do sleep 0.01; done; build/shoal %s 2>%s/err; echo $? >%s/code; } | "
		   "(exec <&-; touch %s/gone)",
		   dir, dir, verbs[i], dir, dir, dir);
		cr_expect_eq(sh("cat %s/code %s/err", dir, dir), 0);
		cr_expect(strcmp(text, "141\n") == 0 || strcmp(text, "0\n") == 0, "%s: %s", verbs[i], text);
	}
	cr_expect_eq(sh("build/shoal workers 2>&1 >/dev/full"), 1, "%s", text);
	expect_text("cannot write the output: No space left on device");
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/work.so 2>&1 >/dev/full"), 125, "%s",
		     text);
}

CLI_TEST(colour_and_width_are_the_terminals)
{
	if (sh("command -v script") != 0)
		cr_skip_test("no program 'script' to have a terminal with");
	cr_expect_eq(
		sh("timeout 20 build/shoal run --name a-name-that-is-too-long-for-it build/tests/modules/basic/work.so 2>&1"),
		0, "%s", text);
	cr_expect_eq(sh("TERM=xterm build/shoal tasks -a"), 0);
	cr_expect_null(strchr(text, '\033'), "%s", text);
	cr_expect_eq(sh("TERM=xterm script -qec 'build/shoal tasks -a' /dev/null"), 0);
	expect_text("\033[2mdone\033[0m");
	cr_expect_eq(sh("NO_COLOR=1 TERM=xterm script -qec 'build/shoal tasks -a' /dev/null"), 0);
	cr_expect_null(strchr(text, '\033'), "%s", text);
	cr_expect_eq(sh("TERM=dumb script -qec 'stty cols 60; build/shoal tasks -a' /dev/null"), 0);
	cr_expect_null(strchr(text, '\033'), "%s", text);
	for (char *at = strtok(text, "\r\n"); at; at = strtok(NULL, "\r\n"))
		cr_expect_leq(strlen(at), 60u, "%s", at);
}

/* After the last sequence that switches it on, the verb has switched it off. */
static void expect_off(const char *on, const char *off, const char *verb)
{
	const char *last = NULL, *at = text;

	while ((at = strstr(at, on)))
		last = at++;
	cr_expect(!last || strstr(last, off), "%s leaves %s on", verb, on + 1);
}

/* Ctrl-C in a terminal, early and late: 130, and the terminal is as it was. */
CLI_TEST(ctrl_c_gives_the_terminal_back)
{
	static const char *const verbs[] = {"top",
					    "wait 1",
					    "logs -f 1",
					    "trace -s 30 -o /dev/null",
					    "trace -s 30 -o -",
					    "run build/tests/modules/basic/many.so 10 30000",
					    "run build/tests/modules/see/run.so spin 2 30000",
					    "run --socket /tmp/shoal-none build/tests/modules/basic/many.so 10 30000"};
	static const char *const when[] = {"0", "0.01", "0.03", "0.1", "0.7"};

	if (sh("command -v script") != 0)
		cr_skip_test("no program 'script' to have a terminal with");
	cr_expect_eq(sh("build/shoal submit build/tests/modules/basic/many.so 10 60000 2>&1"), 0, "%s", text);
	/* The shell survives Ctrl-C, as an interactive one does. */
	sh("echo 'trap : INT; stty rows 24 cols 80; stty -g >'%s'/a; build/shoal \"$@\"; echo $? >'%s'/code; stty -g >'%s'/b' >%s/s.sh",
	   dir, dir, dir, dir);
	for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
		for (size_t k = 0; k < sizeof when / sizeof *when; k++) {
			/* Ctrl-C is repeated, because the first one may come before the verb has started. */
			sh("rm -f %s/a %s/b %s/code; (until [ -s %s/a ]; do sleep 0.005; done; sleep %s; "
			   "for i in $(seq 600); do printf '\\003'; sleep 0.05; [ -s %s/b ] && break; done) | "
			   "TERM=xterm timeout 60 script -qec 'sh %s/s.sh %s' %s/typescript >/dev/null",
			   dir, dir, dir, dir, when[k], dir, dir, verbs[i], dir);
			cr_expect_eq(sh("cat %s/code; cmp %s/a %s/b 2>&1", dir, dir, dir), 0, "%s after %s s: %s",
				     verbs[i], when[k], text);
			cr_expect_str_eq(text, "130\n", "%s after %s s: %s", verbs[i], when[k], text);
			sh("cat %s/typescript", dir);
			expect_off("\033[?1049h", "\033[?1049l", verbs[i]);
			expect_off("\033[?25l", "\033[?25h", verbs[i]);
		}
}

/* Another user gets the same message whether the file system or the supervisor refuses him. */
CLI_TEST(another_user_is_not_permitted)
{
	if (geteuid() != 0)
		cr_skip_test("takes root");
	cr_expect_eq(
		sh("cp build/shoal /tmp/shoal-test-$$ && chmod 755 /tmp/shoal-test-$$ && setpriv --reuid=65534 --clear-groups "
		   "/tmp/shoal-test-$$ tasks 2>&1; c=$?; rm /tmp/shoal-test-$$; exit $c"),
		4, "%s", text);
	cr_expect_eq(
		sh("chmod 755 %s; chmod 666 %s/s; cp build/shoal %s/shoal; setpriv --reuid=65534 --clear-groups %s/shoal "
		   "--socket %s/s tasks 2>&1",
		   dir, dir, dir, dir, dir),
		4, "%s", text);
	expect_text("not permitted");
}

/* ---- short of something ---- */

CLI_TEST(without_descriptors_submissions_are_refused_and_what_was_accepted_ends)
{
	cr_expect_eq(sh("build/shoal stop --now 2>&1"), 0, "%s", text);
	cr_expect_eq(sh("ulimit -n 40; build/shoal start 2>&1"), 1, "%s", text);
	expect_text("open files are allowed");
	cr_expect_eq(sh("ulimit -n 128; build/shoal start --procs 2 2>&1"), 0, "%s", text);
	sh("for i in $(seq 60); do (timeout 30 build/shoal run build/tests/modules/survive/ticks.so 30 1 >%s/$i.out 2>%s/$i.err; "
	   "echo $? $(wc -l <%s/$i.out) >>%s/codes) & done; wait",
	   dir, dir, dir, dir);
	cr_expect_eq(sh("sort %s/codes | uniq -c", dir), 0);
	/* All lines and its exit code, or refused before it began. */
	cr_expect_eq(sh("grep -vc -e '^7 30$' -e '^125 0$' %s/codes", dir), 1, "%s", text);
	cr_expect_eq(sh("grep -c '^7 30$' %s/codes", dir), 0, "%s", text);
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/work.so 2>&1"), 0, "%s", text);
}

CLI_TEST(a_reload_reads_the_files_again)
{
	sh("echo 'int shoal_main(int c, char **v) { return 3; }' >%s/r.c; touch -d 2020-01-01 %s/r.c", dir, dir);
	cr_expect_eq(sh("timeout 20 build/shoal run %s/r.c 2>&1", dir), 3, "%s", text);
	cr_expect_eq(kill(pid_of("pid"), SIGHUP), 0);
	cr_expect_eq(sh("timeout 20 build/shoal run %s/r.c 2>&1", dir), 3, "%s", text);
	sh("echo 'int shoal_main(int c, char **v) { return 4; }' >%s/r.c", dir);
	cr_expect_eq(sh("timeout 20 build/shoal run %s/r.c 2>&1", dir), 4, "%s", text);
}

/* Installed, and used from somewhere else. */
CLI_TEST(an_installed_shoal_works_without_the_source_tree)
{
	cr_expect_eq(sh("make -s install PREFIX=%s/p 2>&1", dir), 0, "%s", text);
	sh("printf '#include <shoal.h>\\n#include <stdio.h>\\nint shoal_main(int c, char **v) { puts(v[1]); return 3; }\\n' >%s/j.c",
	   dir);
	cr_expect_eq(sh("cd %s && timeout 20 p/bin/shoal run j.c one 2>&1", dir), 3, "%s", text);
	cr_expect_str_eq(text, "one\n");
	cr_expect_eq(
		sh("cd %s && export PKG_CONFIG_PATH=$PWD/p/lib/pkgconfig && cc -shared -fPIC $(pkg-config --cflags shoal) "
		   "-o j.so j.c && timeout 20 p/bin/shoal run j.so two 2>&1",
		   dir),
		3, "%s", text);
	/* The two programs alone, and no supervisor. */
	cr_expect_eq(
		sh("cd %s && mkdir alone && cp p/bin/* alone && SHOAL_SOCKET=$PWD/none timeout 20 alone/shoal run j.c three 2>&1",
		   dir),
		3, "%s", text);
	cr_expect_str_eq(text, "three\n");
	cr_expect_eq(sh("ls %s/p/share/man/man1/shoal.1 %s/p/share/man/man8/shoald.8 2>&1", dir, dir), 0, "%s", text);
}

PROC_TEST(a_module_without_shoal_main_begins_with_main)
{
	cr_expect_eq(sh("PROGRAM=x timeout 20 build/shoal run build/tests/modules/basic/program.so a b 2>&1"), 3, "%s",
		     text);
	cr_expect_str_eq(text, "b PROGRAM=x\n");
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/program.so:shoal_maim 2>&1"), 127, "%s",
		     text);
}
