/*
 * see_test.c - what can be seen of goroutines from outside, and what is done to look.
 */
#include "tests/proc/proc.h"

#include <signal.h>

/* The first number after a key of JSON text; -1: none. */
static long number_of(const char *json, const char *key)
{
	char quoted[64];
	const char *at;

	snprintf(quoted, sizeof quoted, "\"%s\":", key);
	at = strstr(json, quoted);
	return at ? atol(at + strlen(quoted)) : -1;
}

static unsigned count(const char *what)
{
	unsigned n = 0;

	for (const char *at = text; (at = strstr(at, what)); at += strlen(what))
		n++;
	return n;
}

PROC_TEST(a_life_is_told_from_birth_to_death)
{
	cr_expect_eq(sh("build/shoal submit build/tests/modules/basic/many.so 3 400 2>&1"), 0, "%s", text);
	usleep(200000);
	cr_expect_eq(sh("build/shoal life 2 --json"), 0, "%s", text);
	cr_expect_not_null(strstr(text, "\"status\": \"waiting\""), "%s", text);
	cr_expect_not_null(strstr(text, "\"why\": \"chan receive\""), "%s", text);
	cr_expect_not_null(strstr(text, "\"whole\": true"), "%s", text);
	cr_expect_eq(sh("build/shoal wait 1 2>&1"), 0, "%s", text);
	cr_expect_eq(sh("build/shoal life 2"), 0);
	/* Each transition begins where the last one ended. */
	char from[32], to[32], last[32] = "dead";
	unsigned n = 0;

	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
		if (sscanf(line, " %*[0-9.] %31s %31s", from, to) == 2) {
			cr_expect_str_eq(from, last, "transition %u", n);
			strcpy(last, to);
			n++;
		}
	cr_expect_str_eq(last, "dead");
	cr_expect_geq(n, 7u); /* born, runs, grows and is grown, waits, is woken, runs, dies */
	cr_expect_eq(sh("build/shoal life 999999 2>&1"), 5, "%s", text);
	cr_expect_eq(sh("build/shoal life 2>&1"), 2, "%s", text);
}

/* From the last goroutine that falls asleep to Go's message on stderr; and to the end of the command. */
PROC_TEST(a_deadlock_is_told_at_once)
{
	static const char *const busy[] = {"", "see/run.so spin 3 8000", "basic/many.so 20000 8000"};

	for (unsigned i = 0; i < 3; i++) {
		long ms[9], best = 0;

		if (*busy[i])
			cr_expect_eq(sh("build/shoal submit build/tests/modules/%s 2>&1", busy[i]), 0, "%s", text);
		for (unsigned k = 0; k < 9; k++) {
			usleep(30000 * k); /* the medic's rounds are to be met at different moments */
			cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/see/run.so dead_at >%s/at 2>&1",
					dir),
				     2);
			sh("sed -n 's/^asleep at //p' %s/at; date +%%s%%3N -r %s/at", dir, dir);
			ms[k] = atol(strchr(text, '\n')) - atol(text);
			cr_expect(ms[k] > -5 && ms[k] < 20000, "%s", text);
			for (unsigned j = k; j && ms[j] < ms[j - 1]; j--)
				best = ms[j], ms[j] = ms[j - 1], ms[j - 1] = best;
		}
		fprintf(stderr, "deadlock told and task ended after %ld ms (median), %ld at most, beside: %s\n", ms[4],
			ms[8], *busy[i] ? busy[i] : "nothing");
		cr_expect_lt(ms[4], 500, "%ld ms, beside: %s", ms[4], busy[i]);
		sh("build/shoal cancel 10 2>/dev/null; build/shoal cancel 20 2>/dev/null");
	}
}

static bool has_change(const char *from, const char *to, const char *why)
{
	char event[128];

	snprintf(event, sizeof event, "\"from\": \"%s\", \"to\": \"%s\", \"why\": \"%s\"", from, to, why);
	return strstr(text, event) != NULL;
}

/* Each transition of core/LIFE_OF_A_G.md that can be brought about from outside, in one life. */
PROC_TEST(one_that_went_through_everything)
{
	static const char *const changes[][3] = {{"dead", "runnable", ""},
						 {"runnable", "running", ""},
						 {"running", "runnable", ""},
						 {"running", "waiting", "sleep"},
						 {"running", "waiting", "chan receive"},
						 {"running", "waiting", "select"},
						 {"running", "waiting", "sync.Mutex.Lock"},
						 {"running", "waiting", "IO wait"},
						 {"waiting", "runnable", ""},
						 {"running", "syscall", ""},
						 {"syscall", "running", ""},
						 {"running", "copystack", ""},
						 {"copystack", "running", ""},
						 {"running", "runnable", "preempted"},
						 {"running", "preempted", ""},
						 {"preempted", "waiting", "preempted"}};
	unsigned long gid = 0;

	cr_expect_eq(sh("build/shoal submit build/tests/modules/see/life.so all %s/end 2>&1", dir), 0, "%s", text);
	for (int i = 0; i < 100 && !strstr(text, "\ncomputes\n"); i++) {
		usleep(50000);
		sh("build/shoal logs 1");
		gid = strtoul(text, NULL, 10);
	}
	for (int i = 0; i < 8; i++) { /* while it computes: it is held still for each */
		cr_expect_eq(sh("build/shoal dump %lu 2>&1", gid), 0, "%s", text);
		cr_expect_not_null(strstr(text, "hero(...)\n\t"), "%s", text);
		usleep(10000);
	}
	sh("touch %s/end", dir);
	cr_expect_eq(sh("build/shoal wait 1 2>&1"), 0, "%s", text);
	cr_expect_eq(sh("build/shoal life %lu --json", gid), 0, "%s", text);
	for (size_t i = 0; i < sizeof changes / sizeof *changes; i++)
		cr_expect(has_change(changes[i][0], changes[i][1], changes[i][2]), "no %s -> %s (%s): %s",
			  changes[i][0], changes[i][1], changes[i][2], text);
	cr_expect(has_change("running", "dead", "done"), "%s", text);
	cr_expect_not_null(strstr(text, "\"whole\": true"), "%s", text);
	cr_expect_geq(number_of(text, "migrations"), 1, "%s", text);
	/* Its task has ended as well: what is recorded stays. */
	cr_expect_eq(sh("build/shoal life %lu", gid), 0, "%s", text);
	cr_expect_not_null(strstr(text, " [dead], "), "%s", text);
	cr_expect_not_null(strstr(text, "migrated from worker "), "%s", text);
}

PROC_TEST(every_wait_reason_is_seen)
{
	static const char *const reasons[] = {"IO wait",
					      "sleep",
					      "chan receive (nil chan)",
					      "chan send (nil chan)",
					      "select (no cases)",
					      "select",
					      "chan receive",
					      "chan send",
					      "sync.Cond.Wait",
					      "sync.Mutex.Lock",
					      "sync.RWMutex.RLock",
					      "sync.RWMutex.Lock",
					      "sync.WaitGroup.Wait",
					      "semacquire",
					      "join",
					      "pthread lock",
					      "pthread_cond_wait",
					      "sem_wait",
					      "signal"};

	cr_expect_eq(sh("build/shoal submit build/tests/modules/see/life.so reasons 1 60000 2>&1"), 0, "%s", text);
	usleep(500000);
	cr_expect_eq(sh("build/shoal ps --json"), 0);
	for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++) {
		char quoted[64];

		snprintf(quoted, sizeof quoted, "\"wait_reason\": \"%s\"", reasons[i]);
		cr_expect_geq(count(quoted), 1u, "%s: %s", reasons[i], text);
	}
	cr_expect_eq(count("\"status\": \"syscall\""), 1u, "%s", text);
	cr_expect_eq(sh("build/shoal dump"), 0);
	for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++) {
		char header[64];

		snprintf(header, sizeof header, " [%s]:\n", reasons[i]);
		cr_expect_geq(count(header), 1u, "%s: %s", reasons[i], text);
	}
	cr_expect_eq(sh("build/shoal cancel 1 && timeout 20 build/shoal wait 1 2>&1"), 130, "%s", text);
}

/*
 * The others are over too soon to be met: they are told by the lives. "syscall turn" is seen where it is tried.
 * Nobody else runs there, whose events would take the place of those that are looked for.
 */
PROC_TEST(short_waits_are_told_by_the_life)
{
	cr_expect_eq(sh("timeout 30 build/shoal run build/tests/modules/see/run.so procs 40 0 2>&1"), 0, "%s", text);
	cr_expect_eq(sh("for g in 2 3 4 5; do build/shoal life $g --json; done"), 0, "%s", text);
	cr_expect(has_change("running", "waiting", "stopping the world"), "%s", text);
}

/* As many headers as goroutines are counted, also while they come and go; each of them once, and none of the runtime's own. */
PROC_TEST(dumps_agree_with_counts)
{
	cr_expect_eq(sh("build/shoal dump 2>&1"), 0);
	cr_expect_eq(count("goroutine "), 0u, "the runtime has some of its own: %s", text);
	cr_expect_eq(sh("build/shoal submit build/tests/modules/basic/many.so 300 60000 2>&1; sleep 0.4"), 0, "%s",
		     text);
	for (int i = 0; i < 10; i++) {
		cr_expect_eq(sh("build/shoal dump"), 0);
		cr_expect_eq(count("goroutine 1 [") + count("\ngoroutine "), 301u);
		cr_expect_eq(sh("build/shoal stats --json"), 0);
		cr_expect_eq(number_of(text, "goroutines"), 301, "%s", text);
	}
	cr_expect_eq(sh("build/shoal submit build/tests/modules/see/life.so crowd 200 20000 2>&1"), 0, "%s", text);
	for (int i = 0; i < 20; i++) {
		cr_expect_eq(
			sh("build/shoal dump --json | tr '{' '\\n' | grep -o '\"gid\": [0-9]*' >%s/gids; sort %s/gids | uniq -d; "
			   "[ $(wc -l <%s/gids) -ge 301 ]",
			   dir, dir, dir),
			0, "%s", text);
		cr_expect_str_empty(text, "twice in one dump: %s", text);
	}
	cr_expect_eq(sh("build/shoal cancel 1 2 && timeout 20 build/shoal wait 1"), 130, "%s", text);
}

/* They hold no P: others go on, workers are cloned for these, and their stacks are shown from the call on. */
PROC_TEST(goroutines_in_system_calls_have_stacks_and_no_p)
{
	cr_expect_eq(sh("build/shoal submit build/tests/modules/see/life.so calls 40 60000 2>&1"), 0, "%s", text);
	for (int i = 0; i < 100; i++) {
		usleep(50000);
		sh("build/shoal logs 1");
		if (strcmp(text, "40 wait\n") == 0)
			break;
	}
	cr_expect_str_eq(text, "40 wait\n");
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/work.so 2>&1"), 0, "%s", text);
	cr_expect_eq(sh("build/shoal ps --json"), 0);
	cr_expect_geq(count("\"status\": \"syscall\""), 39u, "%s", text);
	cr_expect_eq(sh("build/shoal sched"), 0);
	cr_expect_geq(atoi(strstr(text, " threads=") + 9), 41, "%s", text);
	cr_expect_eq(atoi(strstr(text, " idleprocs=") + 11), 2, "%s", text);
	for (int i = 0; i < 3; i++) {
		cr_expect_eq(sh("build/shoal dump"), 0);
		cr_expect_eq(count(" [syscall]:\n"), 40u, "%s", text);
		cr_expect_eq(count("flock(...)\n\t"), 1u, "%s", text); /* all alike */
		cr_expect_eq(count("in_call(...)\n\t"), 1u, "%s", text);
		cr_expect_eq(count("stack unavailable"), 0u, "%s", text);
	}
	cr_expect_eq(sh("build/shoal cancel 1 && timeout 20 build/shoal wait 1 2>&1"), 130, "%s", text);
}

/* The last workers are kept out of it: who would end the calls, and all others, go on; who wants in has to wait. */
PROC_TEST(more_blocking_calls_than_workers)
{
	unsigned inside, outside;

	cr_expect_eq(sh("build/shoal submit build/tests/modules/see/life.so calls 150 50000 %s/over 2>&1", dir), 0,
		     "%s", text);
	for (int i = 0; i < 400; i++) {
		usleep(50000);
		sh("build/shoal logs 1");
		if (strcmp(text, "150 wait\n") == 0)
			break;
	}
	cr_expect_str_eq(text, "150 wait\n");
	/* Channels, timers, sleepers and other calls, of other tasks, while all that can be are in calls. */
	for (int i = 0; i < 3; i++) {
		cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/work.so 2>&1"), 0, "%s", text);
		cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/survive/ticks.so 20 2 2>&1 | wc -l"), 0,
			     "%s", text);
		cr_expect_eq(atoi(text), 20, "%s", text);
		cr_expect_eq(sh("build/shoal ps --json"), 0);
		inside = count("\"status\": \"syscall\"");
		outside = count("\"wait_reason\": \"syscall turn\"");
		cr_expect(inside <= 60 && inside + outside >= 148, "%u in calls, %u wait for their turn", inside,
			  outside);
	}
	cr_expect_geq(inside, 52u);
	cr_expect_geq(outside, 80u);
	fprintf(stderr, "150 blocking calls: %u in the kernel, %u wait for their turn, others run\n", inside, outside);
	/* One after the other, and all. */
	sh("touch %s/over", dir);
	cr_expect_eq(sh("timeout 30 build/shoal wait 1 2>&1"), 0, "%s", text);
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/work.so 2>&1 && build/shoal check"), 0,
		     "%s", text);
}

/* One at a time on the free lists, never lost: as many as ever lived at once are all there are. */
PROC_TEST(dead_goroutines_are_used_again)
{
	unsigned long highest = 0;

	cr_expect_eq(sh("timeout 30 build/shoal run build/tests/modules/see/life.so crowd 1000 100 2>&1"), 0, "%s",
		     text);
	cr_expect_eq(sh("timeout 30 build/shoal run build/tests/modules/see/life.so crowd 1000 100 2>&1"), 0, "%s",
		     text);
	cr_expect_eq(sh("build/shoal submit build/tests/modules/basic/many.so 900 2000 2>&1"), 0, "%s", text);
	usleep(300000);
	cr_expect_eq(sh("build/shoal ps --json"), 0);
	for (const char *at = text; (at = strstr(at, "\"gid\": ")); at++) {
		unsigned long index = strtoul(at + 7, NULL, 10) & 0xffffff;

		highest = index > highest ? index : highest;
	}
	/* 1,001 at once; besides, up to 64 on the list of each P and the global one that another P could not see. */
	cr_expect_leq(highest, 1001u + 3 * 64, "%lu Gs were made", highest);
	cr_expect_eq(sh("build/shoal wait 3 2>&1"), 0, "%s", text);
}

PROC_TEST(stacks_are_dumped_with_function_file_and_line)
{
	cr_expect_eq(sh("build/shoal submit build/tests/modules/see/run.so deep 3 60000 2>&1"), 0, "%s", text);
	usleep(300000);
	cr_expect_eq(sh("build/shoal submit build/tests/modules/basic/many.so 500 60000 2>&1"), 0, "%s", text);
	usleep(400000);
	cr_expect_eq(sh("build/shoal dump 2>&1"), 0, "%s", text);
	cr_expect_eq(count("\ngoroutine ") + 1, 503u, "%u headers: %.3000s", count("\ngoroutine ") + 1, text);
	cr_expect_eq(count("waiter(...)\n"), 1u, "equal stacks are not grouped: %.3000s", text);
	cr_expect_eq(count("go_down(...)\n\t"), 4u, "%.3000s", text);
	cr_expect_geq(count("tests/modules/see/run.c:"), 5u, "%.3000s", text);
	cr_expect_not_null(strstr(text, "created by shoal_main in goroutine 1\n"), "%.3000s", text);
	cr_expect_eq(sh("build/shoal dump 2 2>&1"), 0, "%s", text);
	cr_expect_eq(strncmp(text, "goroutine 2 [chan receive]:\n", 28), 0, "%s", text);
	cr_expect_eq(sh("build/shoal dump 2 --json"), 0, "%s", text);
	cr_expect(count("\"function\": \"go_down\"") == 4 && count("\"version\": 1") == 1, "%s", text);
	cr_expect_eq(sh("build/shoal dump 99999 2>&1"), 5, "%s", text);
	/* Those that ran when they were asked stop for it and go on. */
	cr_expect_eq(sh("build/shoal cancel 1 2"), 0);
	cr_expect_eq(sh("build/shoal wait 1 2"), 130, "%s", text);
	cr_expect_eq(sh("build/shoal submit build/tests/modules/see/run.so spin 3 30000 2>&1"), 0, "%s", text);
	usleep(300000);
	for (int i = 0; i < 5; i++) {
		cr_expect_eq(sh("build/shoal dump 2>&1"), 0, "%s", text);
		cr_expect_eq(count("stack unavailable"), 0u, "%s", text);
		cr_expect_not_null(strstr(text, "spin_without_call(...)\n\t"), "%s", text);
	}
	cr_expect_eq(sh("build/shoal cancel 3 && build/shoal wait 3 2>&1"), 130, "%s", text);
}

PROC_TEST(sigquit_dumps_to_the_log_and_goes_on)
{
	cr_expect_eq(sh("build/shoal submit build/tests/modules/see/run.so deep 3 60000 2>&1"), 0, "%s", text);
	usleep(300000);
	cr_expect_eq(
		sh("kill -QUIT $(build/shoal info --json | sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/'); sleep 0.5; cat %s/*.log",
		   dir),
		0, "%s", text);
	cr_expect_not_null(strstr(text, "P0: status="), "%s", text);
	cr_expect_not_null(strstr(text, "M1: "), "%s", text);
	cr_expect_not_null(strstr(text, "G2: status=4(chan receive)"), "%s", text);
	cr_expect_not_null(strstr(text, "go_down(...)\n\t"), "%s", text);
	cr_expect_eq(sh("build/shoal cancel 1 && timeout 20 build/shoal wait 1 2>&1"), 130, "%s", text);
}

PROC_TEST(a_deadlock_ends_the_task_with_a_dump_and_not_the_runtime)
{
	static const char *const why[] = {"chan receive", "sync.Mutex.Lock", "sync.WaitGroup.Wait", "join", "sleep"};

	cr_expect_eq(sh("build/shoal submit build/tests/modules/see/run.so alive 20 4000 2>&1"), 0, "%s", text);
	for (unsigned way = 0; way < 5; way++) {
		char header[64];

		cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/see/run.so dead 3 %u 2>&1 >%s/out", way,
				dir),
			     2, "%s", text);
		cr_expect_eq(strncmp(text, "fatal error: all goroutines are asleep - deadlock!\n\ngoroutine ", 62), 0,
			     "%s", text);
		snprintf(header, sizeof header, " [%s]:\n", why[way]);
		cr_expect_eq(count(header), 4u, "%s", text);
		cr_expect_geq(count("(...)\n\t"), 3u, "%s", text);
		cr_expect_not_null(strstr(text, "wait_for_ever(...)\n\t"), "%s", text);
		cr_expect_eq(sh("cat %s/out", dir), 0);
		cr_expect_str_eq(text, "before the end\n");
	}
	cr_expect_eq(sh("build/shoal tasks -a --json"), 0);
	cr_expect_eq(count("\"status\": \"crashed\", \"exit_code\": 2"), 5u, "%s", text);
	/* The first one looked dead now and then: it had a timer. */
	cr_expect_eq(sh("build/shoal wait 1 2>&1"), 0, "%s", text);
}

PROC_TEST(pinned_goroutines_stay_on_their_worker)
{
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/see/pin.so nest 2>&1"), 0, "%s", text);
	cr_expect_str_eq(text, "0 strayed, then moved\n");
	/* More of them than there are workers: more are cloned. */
	cr_expect_eq(sh("timeout 30 build/shoal run build/tests/modules/see/pin.so stay 8 2>&1"), 0, "%s", text);
	cr_expect_str_eq(text, "0 strayed\n");
}

PROC_TEST(who_ends_pinned_takes_the_process_along)
{
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/see/pin.so leave 3 2>&1"), 0, "%s", text);
	usleep(200000);
	for (char *pid = strtok(text, "\n"); pid; pid = strtok(NULL, "\n"))
		cr_expect_neq(kill(atoi(pid), 0), 0, "%s lives on", pid);
	cr_expect_eq(sh("build/shoal stats --json"), 0);
	cr_expect_eq(number_of(text, "worker_deaths"), 0, "%s", text);
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/work.so 2>&1"), 0, "%s", text);
}

PROC_TEST(a_pin_outlives_the_process)
{
	cr_expect_eq(sh("build/shoal submit build/tests/modules/see/pin.so wait 3 1500 2>&1"), 0, "%s", text);
	usleep(400000);
	cr_expect_eq(sh("build/shoal dump 2>&1"), 0, "%s", text);
	cr_expect_eq(count(" [sleep, locked to thread]:\n"), 3u, "%s", text);
	for (int i = 0; i < 3; i++) {
		sh("build/shoal workers --json | tr ',{' '\\n\\n' | sed -n 's/.*\"pid\": *\\([0-9]*\\).*/\\1/p'");
		for (char *pid = strtok(text, "\n"); pid; pid = strtok(NULL, "\n"))
			if (atoi(pid) > 1)
				kill(atoi(pid), SIGKILL);
		usleep(100000);
	}
	cr_expect_eq(sh("timeout 30 build/shoal wait 1 2>&1"), 0, "%s", text);
}

PROC_TEST(the_number_of_ps_is_changed_while_goroutines_run)
{
	cr_expect_eq(sh("timeout 30 build/shoal run build/tests/modules/see/run.so procs 200 2>&1"), 0, "%s", text);
	cr_expect_str_eq(text, "2\n");
	cr_expect_eq(sh("build/shoal submit build/tests/modules/see/run.so spin 5 3000 2>&1"), 0, "%s", text);
	cr_expect_eq(sh("build/shoal submit build/tests/modules/basic/many.so 1000 3000 2>&1"), 0, "%s", text);
	usleep(200000);
	for (int n = 1; n <= 8; n++) {
		char line[64];

		cr_expect_eq(sh("timeout 10 build/shoal procs %d 2>&1", n), 0, "%s", text);
		cr_expect_eq(atoi(text), n);
		cr_expect_eq(sh("build/shoal sched"), 0);
		snprintf(line, sizeof line, " gomaxprocs=%d ", n);
		cr_expect_not_null(strstr(text, line), "%s", text);
	}
	cr_expect_eq(sh("timeout 10 build/shoal procs 1 --json 2>&1"), 0);
	cr_expect_not_null(strstr(text, "\"procs\": 1"), "%s", text);
	cr_expect_eq(sh("timeout 10 build/shoal check 2>&1"), 0, "%s", text);
	cr_expect_eq(sh("timeout 20 build/shoal wait 2 3 2>&1"), 0, "%s", text);
	cr_expect_eq(sh("build/shoal procs 0 2>&1"), 2, "%s", text);
	cr_expect_eq(sh("build/shoal procs nine 2>&1"), 2, "%s", text);
	cr_expect_eq(sh("build/shoal procs 5000; build/shoal procs"), 0, "%s", text);
	cr_expect_str_eq(text, "62\n62\n");
}

PROC_TEST(the_default_number_of_ps_follows_affinity)
{
	cr_expect_eq(
		sh("export SHOAL_SOCKET=%s/one; taskset -c 0 build/shoal start 2>&1 && build/shoal procs && build/shoal stop",
		   dir),
		0, "%s", text);
	cr_expect_not_null(strstr(text, "\n1\n"), "%s", text);
}

static int procs_within(unsigned seconds, int want)
{
	for (unsigned i = 0; i < seconds * 10; i++) {
		sh("build/shoal procs");
		if (atoi(text) == want)
			break;
		usleep(100000);
	}
	return atoi(text);
}

/* While something runs, within a second or two; and no more once somebody has said how many there are to be. */
PROC_TEST(what_the_machine_allows_is_followed_until_a_number_is_set_by_hand)
{
	cr_expect_eq(sh("build/shoal stop --now && build/shoal start 2>&1"), 0, "%s", text);
	if (procs_within(1, 2) < 2)
		cr_skip_test("takes two processors");
	cr_expect_eq(sh("build/shoal submit build/tests/modules/see/run.so spin 1 60000 2>&1"), 0, "%s", text);
	for (int i = 0; i < 2; i++) {
		cr_expect_eq(sh("taskset -pc 0 $(cat $SHOAL_SOCKET.lock) 2>&1"), 0, "%s", text);
		cr_expect_eq(procs_within(4, 1), 1);
		cr_expect_eq(sh("taskset -pc 0-255 $(cat $SHOAL_SOCKET.lock) 2>&1"), 0, "%s", text);
		cr_expect_geq(procs_within(4, 2), 2);
	}
	cr_expect_eq(sh("build/shoal procs 3 && taskset -pc 0 $(cat $SHOAL_SOCKET.lock) 2>&1"), 0, "%s", text);
	sleep(3);
	cr_expect_eq(procs_within(1, 3), 3);
	/* Nor if it was given at the start, or a goroutine asks for the number that there is. */
	for (int way = 0; way < 3; way++) {
		static const char *const how[] = {"SHOAL_PROCS=2 build/shoal start", "build/shoal start --procs 2",
						  "build/shoal start"};

		cr_expect_eq(sh("build/shoal stop --now && %s 2>&1", how[way]), 0, "%s", text);
		if (way == 2)
			cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/see/run.so procs 0 2>&1"), 0,
				     "%s", text);
		cr_expect_eq(sh("build/shoal submit build/tests/modules/see/run.so spin 1 60000 2>&1"), 0, "%s", text);
		cr_expect_eq(sh("taskset -pc 0 $(cat $SHOAL_SOCKET.lock) 2>&1"), 0, "%s", text);
		sleep(3);
		cr_expect_eq(procs_within(1, 2), 2, "%s", how[way]);
	}
}

/* Whoever has it in hand is killed all the time: it is finished all the same. */
PROC_TEST(the_number_of_ps_is_changed_while_workers_and_medic_die)
{
	cr_expect_eq(sh("build/shoal submit build/tests/modules/basic/many.so 1000 4000 2>&1"), 0, "%s", text);
	usleep(300000);
	for (int i = 0; i < 12; i++) {
		sh("build/shoal info --json | sed 's/.*\"medic\": *\\([0-9]*\\).*/\\1/'");
		if (i % 3 == 0 && atoi(text) > 1)
			kill(atoi(text), SIGKILL);
		sh("build/shoal workers --json | tr ',{' '\\n\\n' | sed -n 's/.*\"pid\": *\\([0-9]*\\).*/\\1/p' | head -2 | tail -1");
		if (i % 3 == 1 && atoi(text) > 1)
			kill(atoi(text), SIGKILL);
		cr_expect_eq(sh("timeout 10 build/shoal procs %d 2>&1", 1 + i % 4), 0, "%s", text);
	}
	cr_expect_eq(sh("timeout 20 build/shoal wait 1 2>&1"), 0, "%s", text);
}

PROC_TEST(a_trace_has_a_slice_for_each_run_and_an_arrow_for_each_wake)
{
	unsigned runs, wakes, arrivals;

	cr_expect_eq(sh("(sleep 0.2; build/shoal submit build/tests/modules/basic/many.so 200 300) >%s/id & "
			"build/shoal trace --seconds 1.2 -o %s/t.json 2>&1; cat %s/t.json",
			dir, dir, dir),
		     0, "%s", text);
	cr_expect_eq(strncmp(text, "{\"displayTimeUnit\"", 18), 0, "%.200s", text);
	cr_expect_not_null(strstr(text, "\"lost\":0}}\n"), "%.200s", text);
	runs = count("\"ph\":\"X\"");
	wakes = count("\"ph\":\"s\"");
	arrivals = count("\"ph\":\"f\"");
	cr_expect_geq(runs, 400u); /* each of them ran to its wait and after it */
	cr_expect_geq(wakes, 400u);
	cr_expect(arrivals == wakes && runs >= arrivals, "%u runs, %u wakes, %u arrivals", runs, wakes, arrivals);
	cr_expect_geq(count("\"then\":\"waiting\",\"why\":\"chan receive\""), 200u);
	cr_expect_not_null(strstr(text, "\"name\":\"worker 1\""));
	cr_expect_eq(sh("build/shoal trace 2>&1"), 2, "%s", text);
	cr_expect_eq(sh("build/shoal trace -o /nowhere/x 2>&1"), 1, "%s", text);
}

PROC_TEST(top_shows_a_screen_and_needs_a_terminal)
{
	cr_expect_eq(sh("build/shoal top </dev/null 2>&1"), 1, "%s", text);
	cr_expect_not_null(strstr(text, "needs a terminal"), "%s", text);
	if (sh("command -v script") != 0)
		cr_skip_test("no program 'script' to have a terminal with");
	cr_expect_eq(
		sh("(sleep 1.5; printf q) | TERM=xterm timeout 10 script -qec 'stty rows 24 cols 80; build/shoal top' /dev/null"),
		0, "%s", text);
	cr_expect(strstr(text, "procs 2") && strstr(text, "WORKER") && strstr(text, "TASK"), "%s", text);
}

/* Go's format, to the letter. */
PROC_TEST(sched_prints_a_line_of_gos_schedtrace)
{
	unsigned long ms;
	int procs, idle, threads, spinning, need, sleeping, queued, end = 0;

	usleep(300000); /* until all workers are there */
	cr_expect_eq(sh("build/shoal sched"), 0);
	cr_expect_eq(
		sscanf(text,
		       "SCHED %lums: gomaxprocs=%d idleprocs=%d threads=%d spinningthreads=%d needspinning=%d idlethreads=%d "
		       "runqueue=%d [ %*d %*d ] schedticks=[ %*d %*d ]%n",
		       &ms, &procs, &idle, &threads, &spinning, &need, &sleeping, &queued, &end),
		8, "%s", text);
	cr_expect_eq(text[end], '\n', "%s", text);
	cr_expect(procs == 2 && idle == 2 && threads >= 2 && queued == 0, "%s", text);
	cr_expect_eq(sh("SHOAL_SOCKET=%s/u SHOAL_DEBUG=schedtrace=100 build/shoal start --procs 1 2>&1 && sleep 1 && "
			"SHOAL_SOCKET=%s/u build/shoal stop && cat %s/u.log",
			dir, dir, dir),
		     0, "%s", text);
	cr_expect_geq(count("ms: gomaxprocs=1 idleprocs="), 5u, "%s", text);
}

static long long cpu_ns(const char *pids)
{
	long long sum = 0, ns;
	char path[64], copy[4096];

	snprintf(copy, sizeof copy, "%s", pids);
	for (char *pid = strtok(copy, " \n"); pid; pid = strtok(NULL, " \n")) {
		FILE *f;

		snprintf(path, sizeof path, "/proc/%d/schedstat", atoi(pid));
		f = fopen(path, "r");
		cr_assert_not_null(f, "%s is gone", pid);
		cr_assert_eq(fscanf(f, "%lld", &ns), 1);
		fclose(f);
		sum += ns;
	}
	return sum;
}

/* After work, with goroutines that wait for all there is to wait for, a far timer and another number of Ps. */
PROC_TEST(an_idle_runtime_uses_no_cpu)
{
	char pids[4096];
	long long before, used;

	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/work.so 2>&1"), 0, "%s", text);
	cr_expect_eq(sh("build/shoal procs 5 && build/shoal procs 1 && build/shoal procs 2"), 0, "%s", text);
	cr_expect_eq(sh("build/shoal submit build/tests/modules/basic/many.so 1000 40000 2>&1"), 0, "%s", text);
	cr_expect_eq(sh("build/shoal submit build/tests/modules/see/life.so reasons 1 40000 2>&1"), 0, "%s", text);
	usleep(1000000);
	sh("s=$(cat $SHOAL_SOCKET.lock); echo $s; cat /proc/$s/task/*/children | tr ' ' '\\n'");
	snprintf(pids, sizeof pids, "%.4000s", text);
	cr_expect_geq(count("\n"), 9u, "supervisor, keeper, zygote, standby, medic, workers: %s", text);
	usleep(500000);
	before = cpu_ns(pids);
	sleep(10);
	used = cpu_ns(pids) - before;
	cr_expect_lt(used, 10000000, "%.1f ms in 10 s", (double)used / 1e6); /* 0.1 % */
	fprintf(stderr, "idle: %.2f ms of CPU in 10 s\n", (double)used / 1e6);
}

PROC_TEST(nobody_starves_another)
{
	static const char *const cases[] = {"progress", "hog", "timer", "calls", "turns", "crowd"};

	for (unsigned procs = 1; procs <= 2; procs++) {
		for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++)
			cr_expect_eq(
				sh("SHOAL_SOCKET=%s/none SHOAL_PROCS=%u timeout 20 build/shoal run build/tests/modules/see/fair.so %s 2>&1",
				   dir, procs, cases[i]),
				0, "%s on %u Ps: %s", cases[i], procs, text);
		/* Loops without a call give way as well. */
		cr_expect_eq(
			sh("SHOAL_SOCKET=%s/none SHOAL_PROCS=%u timeout 20 build/shoal run build/tests/modules/see/run.so spin 4 200 2>&1",
			   dir, procs),
			0, "%u Ps: %s", procs, text);
		cr_expect_str_eq(text, "all have run\n");
	}
}

PROC_TEST(counters_count)
{
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/many.so 1000 2>&1"), 0, "%s", text);
	cr_expect_eq(sh("build/shoal stats --json"), 0);
	cr_expect_eq(number_of(text, "goroutines_created"), 1001, "%s", text);
	cr_expect_eq(count("\"tasks_done\": 1"), 1u, "%s", text);
}
