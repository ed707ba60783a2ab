/*
 * see_test.c - the verbs that show goroutines, workers and counters, and what the observation costs.
 */
#include "tests/proc/proc.h"

#include <signal.h>

static unsigned count(const char *what)
{
	unsigned n = 0;

	for (const char *at = text; (at = strstr(at, what)); at += strlen(what))
		n++;
	return n;
}

static bool has_change(json_t *life, const char *from, const char *to, const char *why)
{
	json_t *all = json_object_get(life, "events");

	for (size_t i = 0; i < json_array_size(all); i++) {
		json_t *e = json_array_get(all, i);

		if (is_text(e, "from", from) && is_text(e, "to", to) && is_text(e, "why", why))
			return true;
	}
	return false;
}

PROC_TEST(life_shows_all_transitions_from_birth_to_death)
{
	json_t *life;

	cr_expect_eq(sh("mkfifo %s/go && build/shoal submit build/tests/modules/basic/many.so 3 %s/go 2>&1", dir, dir),
		     0, "%s", text);
	WAIT_FOR(waiting_for("chan receive") == 3);
	cr_assert_not_null(life = see("life 2"), "%s", text);
	cr_expect(is_text(life, "status", "waiting"), "%s", text);
	cr_expect(has_change(life, "running", "waiting", "chan receive"), "%s", text);
	cr_expect(is_true(life, "whole"), "%s", text);
	sh("echo >%s/go", dir);
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

/* The time from the park of the last goroutine to Go's message on stderr and the end of the command. */
PROC_TEST(a_deadlock_is_reported_within_half_a_second)
{
	static const char *const busy[] = {"", "see/run.so spin 3 8000", "basic/many.so 20000 8000"};

	for (unsigned i = 0; i < 3; i++) {
		long ms[9], best = 0;

		if (*busy[i])
			cr_expect_eq(sh("build/shoal submit build/tests/modules/%s 2>&1", busy[i]), 0, "%s", text);
		for (unsigned k = 0; k < 9; k++) {
			pass_ms(30 * k); /* so that the deadlock meets the medic's rounds at different moments */
			cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/see/run.so dead_at >%s/at 2>&1",
					dir),
				     2);
			sh("sed -n 's/^asleep at //p' %s/at; date +%%s%%3N -r %s/at", dir, dir);
			ms[k] = atol(strchr(text, '\n')) - atol(text);
			cr_expect(ms[k] > -5 && ms[k] < 20000, "%s", text);
			for (unsigned j = k; j && ms[j] < ms[j - 1]; j--)
				best = ms[j], ms[j] = ms[j - 1], ms[j - 1] = best;
		}
		fprintf(stderr, "deadlock reported and task ended after %ld ms (median), %ld at most, beside: %s\n",
			ms[4], ms[8], *busy[i] ? busy[i] : "nothing");
		cr_expect_lt(ms[4], 500, "%ld ms, beside: %s", ms[4], busy[i]);
		sh("build/shoal cancel 10 2>/dev/null; build/shoal cancel 20 2>/dev/null");
	}
}

/* One goroutine passes each transition of core/LIFE_OF_A_G.md that a test can cause from outside. */
PROC_TEST(life_shows_each_kind_of_transition)
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
	json_t *life;

	cr_expect_eq(sh("build/shoal submit build/tests/modules/see/life.so all %s/end 2>&1", dir), 0, "%s", text);
	until("build/shoal logs 1 | tee %s/logs | grep -q computes", dir);
	sh("head -n 1 %s/logs", dir);
	gid = strtoul(text, NULL, 10);
	for (int i = 0; i < 8; i++) { /* it computes; each dump suspends it */
		cr_expect_eq(sh("build/shoal dump %lu 2>&1", gid), 0, "%s", text);
		cr_expect_not_null(strstr(text, "hero(...)\n\t"), "%s", text);
	}
	sh("touch %s/end", dir);
	cr_expect_eq(sh("build/shoal wait 1 2>&1"), 0, "%s", text);
	cr_assert_not_null(life = see("life %lu", gid), "%s", text);
	for (size_t i = 0; i < sizeof changes / sizeof *changes; i++)
		cr_expect(has_change(life, changes[i][0], changes[i][1], changes[i][2]), "no %s -> %s (%s): %s",
			  changes[i][0], changes[i][1], changes[i][2], text);
	cr_expect(has_change(life, "running", "dead", "done"), "%s", text);
	cr_expect(is_true(life, "whole"), "%s", text);
	cr_expect_geq(json_integer_value(json_object_get(life, "migrations")), 1, "%s", text);
	/* Its task has ended, too; the record stays. */
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
	for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
		WAIT_FOR(waiting_for(reasons[i]) >= 1);
	WAIT_FOR(with_status("syscall") == 1);
	cr_expect_eq(sh("build/shoal dump"), 0);
	for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++) {
		char header[64];

		snprintf(header, sizeof header, " [%s]:\n", reasons[i]);
		cr_expect_geq(count(header), 1u, "%s: %s", reasons[i], text);
	}
	cr_expect_eq(sh("build/shoal cancel 1 && timeout 20 build/shoal wait 1 2>&1"), 130, "%s", text);
}

/*
 * The other waits are too short for `ps`, so `life` must show them. Other tests see "syscall turn". Nothing else runs
 * here, so the ring of events still holds those that are looked for.
 */
PROC_TEST(life_shows_waits_that_are_too_short_for_ps)
{
	unsigned stops = 0;

	cr_expect_eq(sh("timeout 30 build/shoal run build/tests/modules/see/run.so procs 40 0 2>&1"), 0, "%s", text);
	for (unsigned gid = 2; gid <= 5; gid++)
		stops += has_change(see("life %u", gid), "running", "waiting", "stopping the world");
	cr_expect_geq(stops, 1);
}

/* How many goroutines a dump has; each of them must be in it once. */
static unsigned goroutines_once(void)
{
	json_t *all = json_object_get(see("dump"), "goroutines"), *seen = json_object();
	unsigned n;

	for (size_t i = 0; i < json_array_size(all); i++) {
		json_t *gid = json_object_get(json_array_get(all, i), "gid");
		char name[32];

		snprintf(name, sizeof name, "%lld", (long long)json_integer_value(gid));
		cr_expect_null(json_object_get(seen, name), "goroutine %s is twice in one dump", name);
		json_object_set_new(seen, name, json_true());
	}
	n = (unsigned)json_object_size(seen);
	json_decref(seen);
	return n;
}

/* As many headers as goroutines are counted, also while they come and go; each of them once, and none of the runtime's own. */
PROC_TEST(dumps_agree_with_counts)
{
	cr_expect_eq(sh("build/shoal dump 2>&1"), 0);
	cr_expect_eq(count("goroutine "), 0u, "the runtime has some of its own: %s", text);
	cr_expect_eq(sh("build/shoal submit build/tests/modules/basic/many.so 300 600000 2>&1"), 0, "%s", text);
	WAIT_FOR(all_parked(301));
	for (int i = 0; i < 10; i++) {
		cr_expect_eq(sh("build/shoal dump"), 0);
		cr_expect_eq(count("\ngoroutine ") + 1, 301u, "%.3000s", text);
		cr_expect_eq(number_in("stats", "goroutines"), 301, "%s", text);
	}
	cr_expect_eq(sh("build/shoal submit build/tests/modules/see/life.so crowd 200 20000 2>&1"), 0, "%s", text);
	for (int i = 0; i < 20; i++) {
		cr_expect_geq(goroutines_once(), 301u);
	}
	cr_expect_eq(sh("build/shoal cancel 1 2 && timeout 20 build/shoal wait 1"), 130, "%s", text);
}

/* They hold no P: others go on, workers are cloned for these, and their stacks are shown from the call on. */
PROC_TEST(goroutines_in_system_calls_have_stacks_and_no_p)
{
	cr_expect_eq(sh("build/shoal submit build/tests/modules/see/life.so calls 40 60000 2>&1"), 0, "%s", text);
	WAIT_FOR(with_status("syscall") == 40);
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/work.so 2>&1"), 0, "%s", text);
	cr_expect_geq(with_status("syscall"), 39u, "%s", text);
	WAIT_FOR(all_parked(41));
	cr_expect_eq(sh("build/shoal sched"), 0);
	cr_expect_geq(atoi(strstr(text, " threads=") + 9), 41, "%s", text);
	for (int i = 0; i < 3; i++) {
		cr_expect_eq(sh("build/shoal dump"), 0);
		cr_expect_eq(count(" [syscall]:\n"), 40u, "%s", text);
		cr_expect_eq(count("flock(...)\n\t"), 1u, "%s", text); /* all alike */
		cr_expect_eq(count("in_call(...)\n\t"), 1u, "%s", text);
		cr_expect_eq(count("stack unavailable"), 0u, "%s", text);
	}
	cr_expect_eq(sh("build/shoal cancel 1 && timeout 20 build/shoal wait 1 2>&1"), 130, "%s", text);
}

/*
 * The last workers do not take such calls, because the goroutines that will end the calls need them; further calls
 * wait.
 */
PROC_TEST(more_blocking_calls_than_workers)
{
	unsigned inside, outside;

	cr_expect_eq(sh("build/shoal submit build/tests/modules/see/life.so calls 150 50000 %s/over 2>&1", dir), 0,
		     "%s", text);
	until("[ \"$(build/shoal logs 1)\" = '150 wait' ]");
	/* Channels, timers, sleepers and other calls, of other tasks, while all that can be are in calls. */
	for (int i = 0; i < 3; i++) {
		cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/work.so 2>&1"), 0, "%s", text);
		cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/survive/ticks.so 20 2 2>&1 | wc -l"), 0,
			     "%s", text);
		cr_expect_eq(atoi(text), 20, "%s", text);
		WAIT_FOR((inside = with_status("syscall")) + (outside = waiting_for("syscall turn")) >= 148);
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

/* A dead goroutine is on one free list, and none is lost: there are as many as ever lived at the same time. */
PROC_TEST(dead_goroutines_are_used_again)
{
	unsigned long highest = 0;
	json_t *all;

	cr_expect_eq(sh("timeout 30 build/shoal run build/tests/modules/see/life.so crowd 1000 100 2>&1"), 0, "%s",
		     text);
	cr_expect_eq(sh("timeout 30 build/shoal run build/tests/modules/see/life.so crowd 1000 100 2>&1"), 0, "%s",
		     text);
	cr_expect_eq(
		sh("mkfifo %s/go && build/shoal submit build/tests/modules/basic/many.so 900 %s/go 2>&1", dir, dir), 0,
		"%s", text);
	WAIT_FOR(all_parked(901));
	all = json_object_get(see("ps"), "goroutines");
	for (size_t i = 0; i < json_array_size(all); i++) {
		json_t *gid = json_object_get(json_array_get(all, i), "gid");
		unsigned long index = (unsigned long)json_integer_value(gid) & 0xffffff;

		highest = index > highest ? index : highest;
	}
	cr_expect_gt(highest, 0);
	/* 1,001 at once; besides, up to 64 on the list of each P and the global one that another P could not see. */
	cr_expect_leq(highest, 1001u + 3 * 64, "%lu Gs were made", highest);
	sh("echo >%s/go", dir);
	cr_expect_eq(sh("build/shoal wait 3 2>&1"), 0, "%s", text);
}

PROC_TEST(stacks_are_dumped_with_function_file_and_line)
{
	cr_expect_eq(sh("build/shoal submit build/tests/modules/see/run.so deep 3 60000 2>&1"), 0, "%s", text);
	WAIT_FOR(waiting_for("chan receive") == 1);
	cr_expect_eq(sh("build/shoal submit build/tests/modules/basic/many.so 500 600000 2>&1"), 0, "%s", text);
	WAIT_FOR(all_parked(503));
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
	until("build/shoal dump | grep -q 'spin_without_call('");
	for (int i = 0; i < 5; i++) {
		cr_expect_eq(sh("build/shoal dump 2>&1"), 0, "%s", text);
		cr_expect_eq(count("stack unavailable"), 0u, "%s", text);
		cr_expect_not_null(strstr(text, "spin_without_call(...)\n\t"), "%s", text);
	}
	cr_expect_eq(sh("build/shoal cancel 3 && build/shoal wait 3 2>&1"), 130, "%s", text);
}

PROC_TEST(sigquit_dumps_to_the_log_and_the_runtime_continues)
{
	cr_expect_eq(sh("build/shoal submit build/tests/modules/see/run.so deep 3 60000 2>&1"), 0, "%s", text);
	WAIT_FOR(waiting_for("chan receive") == 1);
	cr_expect_eq(kill(pid_of("pid"), SIGQUIT), 0);
	WAIT_FOR(sh("cat %s/*.log", dir) == 0 && strstr(text, "go_down(...)\n\t"));
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
	cr_expect_eq(count_in("tasks -a", "tasks", "status", "crashed"), 5u, "%s", text);
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

PROC_TEST(a_goroutine_that_ends_pinned_takes_its_worker_along)
{
	unsigned n = 0;
	int pid[8];

	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/see/pin.so leave 3 2>&1"), 0, "%s", text);
	for (char *p = strtok(text, "\n"); p && n < 8; p = strtok(NULL, "\n"))
		pid[n++] = atoi(p);
	cr_expect_eq(n, 3u);
	for (unsigned i = 0; i < n; i++)
		WAIT_FOR(gone(pid[i]));
	cr_expect_eq(number_in("stats", "worker_deaths"), 0, "%s", text);
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/work.so 2>&1"), 0, "%s", text);
}

PROC_TEST(a_pin_outlives_the_process)
{
	int pid[128];
	unsigned kills = 0;

	cr_expect_eq(sh("build/shoal submit build/tests/modules/see/pin.so wait 3 4000 2>&1"), 0, "%s", text);
	WAIT_FOR(sh("build/shoal dump 2>&1") == 0 && count(" [sleep, locked to thread]:\n") == 3);
	for (int i = 0; i < 3; i++) {
		unsigned n = worker_pids(pid, 128);

		for (unsigned k = 0; k < n; k++)
			kills += kill(pid[k], SIGKILL) == 0;
		for (unsigned k = 0; k < n; k++)
			WAIT_FOR(gone(pid[k]));
	}
	cr_expect_gt(kills, 3);
	cr_expect_eq(sh("timeout 30 build/shoal wait 1 2>&1"), 0, "%s", text);
}

PROC_TEST(the_number_of_ps_is_changed_while_goroutines_run)
{
	cr_expect_eq(sh("timeout 30 build/shoal run build/tests/modules/see/run.so procs 200 2>&1"), 0, "%s", text);
	cr_expect_str_eq(text, "2\n");
	cr_expect_eq(sh("build/shoal submit build/tests/modules/see/run.so spin 5 3000 2>&1"), 0, "%s", text);
	cr_expect_eq(sh("build/shoal submit build/tests/modules/basic/many.so 1000 3000 2>&1"), 0, "%s", text);
	WAIT_FOR(number_in("stats", "goroutines") > 500);
	for (int n = 1; n <= 8; n++) {
		char line[64];

		cr_expect_eq(sh("timeout 10 build/shoal procs %d 2>&1", n), 0, "%s", text);
		cr_expect_eq(atoi(text), n);
		cr_expect_eq(sh("build/shoal sched"), 0);
		snprintf(line, sizeof line, " gomaxprocs=%d ", n);
		cr_expect_not_null(strstr(text, line), "%s", text);
	}
	cr_expect_eq(number_in("procs 1", "procs"), 1, "%s", text);
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

static int procs(void)
{
	sh("build/shoal procs");
	return atoi(text);
}

/* Another supervisor follows its affinity down and up again: in that time this one has looked at least twice. */
static void wait_for_two_looks(void)
{
	char socket[80];

	snprintf(socket, sizeof socket, "%s", getenv("SHOAL_SOCKET"));
	setenv("SHOAL_SOCKET", "control", 1);
	sh("echo %s/control", dir);
	text[strcspn(text, "\n")] = '\0';
	setenv("SHOAL_SOCKET", text, 1);
	cr_expect_eq(sh("taskset -c 0-255 build/shoal start 2>&1"), 0, "%s", text);
	cr_expect_eq(sh("build/shoal submit build/tests/modules/see/run.so spin 1 60000 2>&1"), 0, "%s", text);
	cr_expect_eq(sh("taskset -pc 0 $(cat $SHOAL_SOCKET.lock) 2>&1"), 0, "%s", text);
	WAIT_FOR(procs() == 1);
	cr_expect_eq(sh("taskset -pc 0-255 $(cat $SHOAL_SOCKET.lock) 2>&1"), 0, "%s", text);
	WAIT_FOR(procs() >= 2);
	cr_expect_eq(sh("build/shoal stop --now 2>&1"), 0, "%s", text);
	setenv("SHOAL_SOCKET", socket, 1);
}

/* It follows while tasks run, within two seconds, until a number was given by an option, a verb or a goroutine. */
PROC_TEST(the_number_of_ps_follows_affinity_until_it_is_set)
{
	cr_expect_eq(sh("build/shoal stop --now && build/shoal start 2>&1"), 0, "%s", text);
	if (procs() < 2)
		cr_skip_test("takes two processors");
	cr_expect_eq(sh("build/shoal submit build/tests/modules/see/run.so spin 1 60000 2>&1"), 0, "%s", text);
	for (int i = 0; i < 2; i++) {
		cr_expect_eq(sh("taskset -pc 0 $(cat $SHOAL_SOCKET.lock) 2>&1"), 0, "%s", text);
		WAIT_FOR(procs() == 1);
		cr_expect_eq(sh("taskset -pc 0-255 $(cat $SHOAL_SOCKET.lock) 2>&1"), 0, "%s", text);
		WAIT_FOR(procs() >= 2);
	}
	cr_expect_eq(sh("build/shoal procs 3 && taskset -pc 0 $(cat $SHOAL_SOCKET.lock) 2>&1"), 0, "%s", text);
	wait_for_two_looks();
	cr_expect_eq(procs(), 3);
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
		wait_for_two_looks();
		cr_expect_eq(procs(), 2, "%s", how[way]);
	}
}

/* The medic and workers change the number of Ps. They are killed in between, and each change is completed. */
PROC_TEST(the_number_of_ps_is_changed_while_workers_and_medic_die)
{
	unsigned kills = 0;

	cr_expect_eq(
		sh("mkfifo %s/go && build/shoal submit build/tests/modules/basic/many.so 1000 %s/go 2>&1", dir, dir), 0,
		"%s", text);
	WAIT_FOR(all_parked(1001));
	for (int i = 0; i < 12; i++) {
		int medic = pid_of("medic");

		if (i % 3 == 0 && medic > 1)
			kills += kill(medic, SIGKILL) == 0;
		if (i % 3 == 1)
			kills += kill_worker(1);
		cr_expect_eq(sh("timeout 20 build/shoal procs %d 2>&1", 1 + i % 4), 0, "%s", text);
	}
	cr_expect_gt(kills, 4);
	sh("echo >%s/go", dir);
	cr_expect_eq(sh("timeout 20 build/shoal wait 1 2>&1"), 0, "%s", text);
}

PROC_TEST(a_trace_has_a_slice_for_each_run_and_an_arrow_for_each_wake)
{
	unsigned runs = 0, wakes = 0, arrivals = 0, waits = 0, tracks = 0, worker;
	json_t *trace, *all;
	int pid[64];

	trace_start(2, "t.json");
	cr_expect_eq(sh("build/shoal submit build/tests/modules/basic/many.so 200 50"), 0, "%s", text);
	until("[ -s %s/t.json.code ]", dir);
	cr_expect_eq(sh("cat %s/t.json; exit $(cat %s/t.json.code)", dir, dir), 0, "%.200s", text);
	trace = parse_text();
	cr_expect_eq(json_integer_value(json_object_get(json_object_get(trace, "otherData"), "lost")), 0);
	all = json_object_get(trace, "traceEvents");
	for (size_t i = 0; i < json_array_size(all); i++) {
		json_t *e = json_array_get(all, i), *args = json_object_get(e, "args");

		runs += is_text(e, "ph", "X");
		wakes += is_text(e, "ph", "s");
		arrivals += is_text(e, "ph", "f");
		waits += is_text(args, "then", "waiting") && is_text(args, "why", "chan receive");
		if (is_text(e, "name", "thread_name"))
			tracks += sscanf(json_string_value(json_object_get(args, "name")), "worker %u", &worker) == 1;
	}
	cr_expect_geq(runs, 400u); /* each of them ran to its wait and after it */
	cr_expect_geq(wakes, 400u);
	cr_expect(arrivals == wakes && runs >= arrivals, "%u runs, %u wakes, %u arrivals", runs, wakes, arrivals);
	cr_expect_geq(waits, 200u);
	cr_expect(tracks >= 1 && tracks <= worker_pids(pid, 64), "%u tracks of workers",
		  tracks); /* one each that ran */
	cr_expect_eq(sh("build/shoal trace 2>&1"), 2, "%s", text);
	cr_expect_eq(sh("build/shoal trace -o /nowhere/x 2>&1"), 1, "%s", text);
}

PROC_TEST(top_shows_a_screen_and_needs_a_terminal)
{
	cr_expect_eq(sh("build/shoal top </dev/null 2>&1"), 1, "%s", text);
	cr_expect_not_null(strstr(text, "must be a terminal"), "%s", text);
	if (sh("command -v script") != 0)
		cr_skip_test("no program 'script' to have a terminal with");
	cr_expect_eq(
		sh("cd %s && mkfifo keys && B=$OLDPWD && (until grep -q WORKER screen 2>/dev/null; do sleep 0.05; done; printf q) | "
		   "TERM=xterm timeout 60 script -qfec \"stty rows 24 cols 80; cd $B; build/shoal top\" screen",
		   dir),
		0, "%s", text);
	cr_expect(strstr(text, "procs 2") && strstr(text, "WORKER") && strstr(text, "TASK"), "%s", text);
}

/* Go's format, to the letter. */
PROC_TEST(sched_prints_a_line_of_gos_schedtrace)
{
	unsigned long ms;
	int procs, idle, threads, spinning, need, sleeping, queued, end = 0;

	WAIT_FOR(count_workers() == number_in("info", "workers"));
	cr_expect_eq(sh("build/shoal sched"), 0);
	cr_expect_eq(
		sscanf(text,
		       "SCHED %lums: gomaxprocs=%d idleprocs=%d threads=%d spinningthreads=%d needspinning=%d idlethreads=%d "
		       "runqueue=%d [ %*d %*d ] schedticks=[ %*d %*d ]%n",
		       &ms, &procs, &idle, &threads, &spinning, &need, &sleeping, &queued, &end),
		8, "%s", text);
	cr_expect_eq(text[end], '\n', "%s", text);
	cr_expect(procs == 2 && idle == 2 && threads >= 2 && queued == 0, "%s", text);
	cr_expect_eq(sh("SHOAL_SOCKET=%s/u SHOAL_DEBUG=schedtrace=100 build/shoal start --procs 1 2>&1", dir), 0, "%s",
		     text);
	WAIT_FOR(sh("cat %s/u.log", dir) == 0 && count("ms: gomaxprocs=1 idleprocs=") >= 5);
	cr_expect_eq(sh("SHOAL_SOCKET=%s/u build/shoal stop 2>&1", dir), 0, "%s", text);
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

/* They use less than 1 ms of CPU in half a second. */
static bool quiet(const char *pids)
{
	long long before = cpu_ns(pids);

	pass_ms(500);
	return cpu_ns(pids) - before < 1000000;
}

/* After work, with goroutines that wait for each wait reason, with a timer and after a change of the number of Ps. */
PROC_TEST(an_idle_runtime_uses_no_cpu)
{
	static const char *const waits[] = {"sync.Mutex.Lock", "pthread lock"}; /* the last to begin */
	char pids[4096];
	long long before, used;

	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/work.so 2>&1"), 0, "%s", text);
	cr_expect_eq(sh("build/shoal procs 5 && build/shoal procs 1 && build/shoal procs 2"), 0, "%s", text);
	cr_expect_eq(sh("build/shoal submit build/tests/modules/basic/many.so 1000 40000 2>&1"), 0, "%s", text);
	cr_expect_eq(sh("build/shoal submit build/tests/modules/see/life.so reasons 1 40000 2>&1"), 0, "%s", text);
	for (size_t i = 0; i < sizeof waits / sizeof *waits; i++)
		WAIT_FOR(waiting_for(waits[i]) >= 1);
	WAIT_FOR(number_in("stats", "goroutines") == 1024);
	WAIT_FOR(count_workers() == number_in("info", "workers"));
	sh("s=$(cat $SHOAL_SOCKET.lock); echo $s; cat /proc/$s/task/*/children | tr ' ' '\\n'");
	snprintf(pids, sizeof pids, "%.4000s", text);
	cr_expect_geq(count("\n"), 9u, "supervisor, keeper, zygote, standby, medic, workers: %s", text);
	WAIT_FOR(quiet(pids));
	before = cpu_ns(pids);
	pass_ms(10000);
	used = cpu_ns(pids) - before;
	cr_expect_lt(used, 10000000, "%.1f ms in 10 s", (double)used / 1e6); /* 0.1 % */
	fprintf(stderr, "idle: %.2f ms of CPU in 10 s\n", (double)used / 1e6);
}

PROC_TEST(no_goroutine_starves)
{
	static const char *const cases[] = {"progress", "hog", "timer", "calls", "turns", "crowd"};

	for (unsigned procs = 1; procs <= 2; procs++) {
		for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++)
			cr_expect_eq(
				sh("SHOAL_SOCKET=%s/none SHOAL_PROCS=%u timeout 20 build/shoal run build/tests/modules/see/fair.so %s 2>&1",
				   dir, procs, cases[i]),
				0, "%s on %u Ps: %s", cases[i], procs, text);
		/* Loops without a call are preempted, too. */
		cr_expect_eq(
			sh("SHOAL_SOCKET=%s/none SHOAL_PROCS=%u timeout 20 build/shoal run build/tests/modules/see/run.so spin 4 200 2>&1",
			   dir, procs),
			0, "%u Ps: %s", procs, text);
		cr_expect_str_eq(text, "all have run\n");
	}
}

PROC_TEST(stats_count_goroutines_and_tasks)
{
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/many.so 1000 2>&1"), 0, "%s", text);
	cr_expect_eq(number_in("stats", "goroutines_created"), 1001, "%s", text);
	cr_expect_eq(number_in("stats", "tasks_done"), 1, "%s", text);
}
