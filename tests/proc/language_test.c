/*
 * language_test.c - the interface of shoal.h, in modules that run on two workers: undisturbed, and
 * while the workers are killed and restarted under them.
 */
#include "tests/proc/proc.h"

#define MODULES "build/tests/modules/language/"

static void cases(const char *name)
{
	cr_expect_eq(sh("timeout 50 build/shoal run " MODULES "%s_cases.so 2>&1", name), 0, "%s", text);
	cr_expect(strstr(text, "ok ") && !strstr(text, "FAIL") && !strstr(text, " lost"), "%s", text);
}

PROC_TEST(language_channels)
{
	cases("chan");
}
PROC_TEST(language_select)
{
	cases("select");
}
PROC_TEST(language_sync)
{
	cases("sync");
}
PROC_TEST(language_time)
{
	cases("time");
}
PROC_TEST(language_page)
{
	cases("page");
}
PROC_TEST(language_sched)
{
	cases("sched");
}

/* Output from before the end is complete, with the last unfinished line. */
PROC_TEST(language_ends)
{
	static const struct {
		const char *how;
		int code;
		const char *out;
	} ends[] = {
		{"root", 0, "no line feed\nthe others finish\nhandler\n"},
		{"return", 6, "no line feedhandler\n"},
		{"exit", 7, "handler\nno line feed"},
		{"_exit", 8, "no line feed"},
		{"crash", 139, "no line feed"},
		{"abort", 134, "no line feed"},
		{"deadlock", 2, "no line feed"},
	};

	for (unsigned i = 0; i < sizeof ends / sizeof *ends; i++) {
		cr_expect_eq(sh("timeout 20 build/shoal run " MODULES "page_ends.so %s 2>%s/err", ends[i].how, dir),
			     ends[i].code, "%s", ends[i].how);
		cr_expect_str_eq(text, ends[i].out, "%s: %s", ends[i].how, text);
	}
	cr_expect_eq(sh("head -1 %s/err", dir), 0);
	cr_expect_str_eq(text, "fatal error: all goroutines are asleep - deadlock!\n");
}

/*
 * The number of kills is limited: a lost root restarts all its cases, and on a slow machine it would never finish.
 */
static void cases_killed(const char *name)
{
	unsigned kills;

	killer_start(30, 60, 50);
	cr_expect_eq(sh("timeout 200 build/shoal run --attempts 100 " MODULES "%s_cases.so killed 2>&1", name), 0, "%s",
		     text);
	cr_expect(strstr(text, "ok ") && !strstr(text, "FAIL"), "%s", text);
	kills = killer_stop();
	cr_expect_gt(kills, 2, "%u workers were killed", kills);
	/* one that is on its way out in good order, after a pinned goroutine, is killed and is no death */
	WAIT_FOR(number_in("stats", "worker_deaths") > 2);
}

#define KILLED_TEST(name) Test(proc, name, .init = start_nodelay, .fini = stop, .timeout = TEST_S)

KILLED_TEST(language_channels_killed)
{
	cases_killed("chan");
}
KILLED_TEST(language_select_killed)
{
	cases_killed("select");
}
KILLED_TEST(language_sync_killed)
{
	cases_killed("sync");
}
KILLED_TEST(language_time_killed)
{
	cases_killed("time");
}
KILLED_TEST(language_sched_killed)
{
	cases_killed("sched");
}

PROC_TEST(language_misuse_is_reported)
{
	static const char *const how[][2] = {
		{"unlock", "shoal_mutex_unlock"},
		{"unlock-other", "shoal_mutex_unlock"},
		{"rwunlock", "shoal_rwmutex_unlock"},
		{"runlock", "shoal_rwmutex_runlock"},
		{"cond", "shoal_cond_wait"},
		{"wg", "shoal_wg_done"},
		{"sem", "shoal_sem_release"},
		{"free-twice", "shoal_chan_free"},
		{"no-channel", "shoal_send"},
		{"foreign-send", "shoal_send"},
		{"foreign-recv", "shoal_recv"},
		{"foreign-go", "shoal_go"},
		{"foreign-select", "shoal_select"},
		{"foreign-mutex", "shoal_mutex_lock"},
		{"stack:mutex_lock", "shoal_mutex_lock"},
		{"stack:mutex_trylock", "shoal_mutex_trylock"},
		{"stack:rwmutex_lock", "shoal_rwmutex_lock"},
		{"stack:rwmutex_rlock", "shoal_rwmutex_rlock"},
		{"stack:cond_signal", "shoal_cond_signal"},
		{"stack:cond_broadcast", "shoal_cond_broadcast"},
		{"stack:wg_wait", "shoal_wg_wait"},
		{"stack:wg_done", "shoal_wg_done"},
		{"stack:mutex_unlock", "shoal_mutex_unlock"},
		{"stack:rwmutex_unlock", "shoal_rwmutex_unlock"},
		{"stack:once_do", "shoal_once_do"},
		{"stack:cond_wait", "shoal_cond_wait"},
		{"stack:sem_acquire", "shoal_sem_acquire"},
		{"stack:sem_release", "shoal_sem_release"},
		{"stack:wg_add", "shoal_wg_add"},
		{"stack:wg_go", "shoal_wg_go"},
		{"wg-add", "shoal_wg_add"},
		{"unlock-twice", "shoal_mutex_unlock"},
		{"sem-acquire", "shoal_sem_acquire"},
		{"select-op", "shoal_select"},
		{"foreign-join", "shoal_join"},
		{"foreign-wg_go", "shoal_wg_go"},
		{"foreign-once", "shoal_once_do"},
	};

	char said[128];

	setenv("SHOAL_DEBUG", "nodelay", 1);
	for (unsigned i = 0; i < sizeof how / sizeof *how; i++) {
		/* Each under a name of its own: a module that crashes so often is quarantined by its content. */
		sh("cp " MODULES "misuse.so %s/m%u.so; echo %u >>%s/m%u.so", dir, i, i, dir, i);
		cr_expect_eq(sh("timeout 20 build/shoal run %s/m%u.so %s 2>&1", dir, i, how[i][0]), 134, "%s: %s",
			     how[i][0], text);
		snprintf(said, sizeof said, "shoal: %s: ", how[i][1]); /* the call, and whose it was: number and name */
		cr_expect(strstr(text, said) &&
				  (strstr(text, ", main)\n") || strstr(text, "in the worker of goroutine ")),
			  "%s: %s", how[i][0], text);
		cr_expect(strncmp(how[i][0], "stack:", 6) || strstr(text, "put it in a global or on the heap"), "%s",
			  text);
	}
}

/* They run on the root goroutine of each task. */
Test(proc, language_constructors_may_use_goroutines, .timeout = 60)
{
	static const char module[] =
		"#include <shoal.h>\n"
		"static struct shoal_chan *c; static int runs;\n"
		"static void put(void *p) { shoal_send(c, p); }\n"
		"__attribute__((constructor)) static void f(void)\n"
		"{ int n = 7; c = shoal_chan_new(sizeof n, 0); shoal_go(put, &n, sizeof n); runs++; }\n"
		"int shoal_main(int argc, char **argv)\n"
		"{ int n = 0; return shoal_recv(c, &n) == 1 && runs == 1 ? n : 99; }\n";
	char path[80];
	FILE *f;

	snprintf(path, sizeof path, "%s/c.c", dir);
	f = fopen(path, "w");
	cr_assert(f && fputs(module, f) >= 0 && fclose(f) == 0);
	for (int i = 0; i < 3; i++)
		cr_expect_eq(sh("timeout 20 build/shoal run %s/c.c 2>&1", dir), 7, "%s", text);
}

/* There is a page for each function, with a summary of one line, and groff has no complaint. */
Test(proc, language_pages, .timeout = TEST_S)
{
	int functions;

	cr_assert_eq(sh("d=$(mktemp -d) && make -s install DESTDIR=$d PREFIX=/usr >/dev/null && echo $d"), 0, "%s",
		     text);
	strcpy(dir, strtok(text, "\n"));
	cr_expect_eq(sh("grep -c '^[a-zA-Z_].*[ *]shoal_[a-z_]*(.*;' core/shoal.h"), 0);
	functions = atoi(text);
	cr_expect_gt(functions, 40);
	cr_expect_eq(sh("ls %s/usr/share/man/man3/shoal_*.3 | wc -l", dir), 0);
	cr_expect_eq(atoi(text), functions);
	cr_expect_eq(sh("cd %s/usr/share/man/man3 && grep -L '^.so ' shoal_*.3 | xargs grep -L '^.SH PARKING'", dir),
		     0);
	cr_expect_str_eq(text, "");
	cr_expect_eq(sh("cd %s/usr/share/man/man3 && awk '/ .- / && length($0) > 160' *.3", dir), 0);
	cr_expect_str_eq(text, "", "%s", text);
	if (sh("command -v g++") == 0) /* the header is C++ as well */
		cr_expect_eq(
			sh("echo '#include <shoal.h>\nint shoal_main(int, char **) { shoal_select(nullptr, 0, 0); shoal_exit(); }' | "
			   "g++ -Wall -Wextra -Werror -fsyntax-only -I%s/usr/include -x c++ - 2>&1",
			   dir),
			0, "%s", text);
	if (sh("command -v groff") == 0) {
		cr_expect_eq(
			sh("cd %s/usr/share/man && groff -man -ww -Tutf8 -rLL=80n man3/shoal_*.3 man1/*.1 man7/*.7 man8/*.8 2>&1 >/dev/null",
			   dir),
			0);
		cr_expect_str_eq(text, "", "%s", text);
	}
	sh("rm -rf %s", dir);
}

/* The example of a page compiles without a word, does what it says, and is on the page as it is. */
PROC_TEST(language_page_examples)
{
	int n = 0;

	cr_expect_eq(
		sh("for f in tools/man/*.c; do timeout 20 build/shoal run $f >/dev/null || echo $f; "
		   "${CC:-cc} -std=gnu11 -Wall -Wextra -Wno-unused-parameter -Wno-unused-result -Werror -idirafter core -fsyntax-only $f; "
		   "done 2>&1"),
		0);
	cr_expect_str_eq(text, "", "%s", text);
	cr_expect_eq(
		sh("mkdir %s/man3 && tools/man/man3 -v out=%s/man3 core/shoal.h && grep -l '^.SH EXAMPLES' %s/man3/*.3 | wc -l; "
		   "ls tools/man/*.c | wc -l",
		   dir, dir, dir),
		0);
	for (char *p = strtok(text, "\n"); p; p = strtok(NULL, "\n"))
		n = n ? n == atoi(p) : atoi(p);
	cr_expect_eq(n, 1, "examples of functions that have no page of their own");
}

/* What gzip makes of it, and it of what gzip makes: many blocks, an empty file, one that is damaged. */
PROC_TEST(language_gzipcat)
{
	const char *gz = "timeout 20 build/shoal run build/examples/gzipcat.so";

	cr_assert_eq(sh("cd %s && seq 1 700000 >a && head -c 3000000 /dev/urandom >b && : >c && cat a b c >all", dir),
		     0);
	cr_expect_eq(
		sh("%s %s/a %s/b %s/c >%s/p.gz && gzip -dc %s/p.gz | cmp - %s/all", gz, dir, dir, dir, dir, dir, dir),
		0, "%s", text);
	cr_expect_eq(sh("cd %s && gzip -c a >1.gz && gzip -9c b >2.gz && gzip -c c >3.gz", dir), 0);
	cr_expect_eq(sh("%s -d %s/1.gz %s/2.gz %s/3.gz | cmp - %s/all", gz, dir, dir, dir, dir), 0, "%s", text);
	cr_expect_eq(sh("%s -d %s/p.gz | cmp - %s/all", gz, dir, dir), 0, "%s", text);
	cr_expect_eq(sh("head -c 100000 %s/1.gz >%s/cut.gz; %s -d %s/cut.gz 2>&1 >/dev/null", dir, dir, gz, dir), 1,
		     "%s", text);
	cr_expect_not_null(strstr(text, "damaged"), "%s", text);
	cr_expect_eq(sh("%s -d %s/a 2>&1 >/dev/null", gz, dir), 1, "%s", text);
	cr_expect_eq(sh("%s %s/nothing 2>&1", gz, dir), 1, "%s", text);
	cr_expect_not_null(strstr(text, "No such file"), "%s", text);
}

/* shoal_main that is cancelled: with an argument it takes no notice. */
#define STUBBORN \
	"#include <shoal.h>\n#include <stdio.h>\nint shoal_main(int c, char **v) { int r = shoal_sleep(1000000000000); " \
	"printf(\"told %%d\\n\", r); while (c > 1) shoal_sleep(1000000); return 3; }"

/* A cancelled task has a second to end by itself; then it is ended. */
PROC_TEST(language_cancel_leaves_a_second)
{
	double from, ms;

	sh("cat >%s/s.c <<'E'\n" STUBBORN "\nE", dir);
	cr_expect_eq(sh("timeout 20 build/shoal run --timeout 100ms %s/s.c 2>/dev/null", dir), 124, "%s", text);
	cr_expect_str_eq(text, "told -125\n"); /* ECANCELED */
	from = now_ms();
	cr_expect_eq(sh("timeout 20 build/shoal run --timeout 100ms %s/s.c x 2>/dev/null", dir), 124, "%s", text);
	ms = now_ms() - from;
	cr_expect_gt(ms, 1000, "%.0f ms", ms);
	cr_expect_eq(sh("build/shoal submit %s/s.c", dir), 0, "%s", text);
	WAIT_FOR(waiting_for("sleep") == 1);
	cr_expect_eq(sh("build/shoal cancel 3; timeout 20 build/shoal wait 3"), 130, "%s", text);
	/* The first interrupt asks, the second ends. */
	sh("(build/shoal run %s/s.c x >%s/out & echo $! >%s/pid; wait $!; echo $? >%s/code) >/dev/null 2>&1 &", dir,
	   dir, dir, dir);
	WAIT_FOR(waiting_for("sleep") == 1);
	until("kill -TERM $(cat %s/pid)", dir);
	until("grep -q told %s/out", dir);
	sh("kill -TERM $(cat %s/pid)", dir);
	until("[ -s %s/code ]", dir);
	cr_expect_eq(sh("cat %s/code", dir), 0);
	cr_expect_str_eq(text, "130\n");
	WAIT_FOR(count_in("tasks", "tasks", "status", "running") == 0);
}
