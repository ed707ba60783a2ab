/*
 * trace_test.c - a recording from the rings of events to its JSON: supervisor/daemon/view/trace.c.
 */
#include "core/g/g.h"
#include "core/g/life.h"
#include "core/g/names.h"
#include "core/root.h"
#include "core/sched/m.h"
#include "shm/segment.h"
#include "supervisor/daemon/failure.h"
#include "supervisor/daemon/view/trace.h"
#include "tests/unit/daemon.h"

#include <criterion/criterion.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define GID 5

static json_t *trace; /* the whole answer */
static int64_t begun;

static void set_up(void)
{
	daemon_begin();
	client_connect();
}

static void tear_down(void)
{
	json_decref(trace);
	daemon_end();
}

TestSuite(trace, .init = set_up, .fini = tear_down, .timeout = 60);

static void put_event(unsigned seat, int64_t ns, uint64_t gid, unsigned from, unsigned to, unsigned why, unsigned order)
{
	struct life_ring *r = life_ring_of(seat);
	uint64_t n = atomic_load(&r->n);

	r->e[n % LIFE_RING] = (struct life_event){(uint64_t)ns >> 6 << 18 | 255, gid << 24 | (uint64_t)from << 20 |
											 (uint64_t)to << 16 |
											 (uint64_t)why << 10 | order};
	atomic_store(&r->n, n + 1);
}

/* True if the child, which is stopped, sleeps between two rounds over the rings. */
static bool stopped_between_rounds(void)
{
	char path[48];
	long call = -1;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/syscall", (int)fake.child.pid);
	f = fopen(path, "r");
	if (!f || fscanf(f, "%ld", &call) != 1)
		call = -1;
	if (f)
		fclose(f);
	return call == SYS_nanosleep || call == SYS_restart_syscall;
}

/* Starts a recording and stops the child between two rounds: it reads the events that follow when it continues. */
static void start(void)
{
	static const char request[] = "{\"verb\":\"trace\",\"ns\":100000000}\n";
	int st;

	client_send(request, strlen(request));
	cr_assert_gt(fake.child.pid, 0);
	cr_expect_eq(atomic_load(&sched.tracing), 1);
	for (;;) {
		cr_assert_eq(kill(fake.child.pid, SIGSTOP), 0);
		cr_assert(waitpid(fake.child.pid, &st, WUNTRACED) == fake.child.pid && WIFSTOPPED(st));
		if (stopped_between_rounds())
			break;
		cr_assert_eq(kill(fake.child.pid, SIGCONT), 0);
		sched_yield();
	}
	begun = (int64_t)sh_now();
}

/* Waits for the child, as the fleet does, and reads the answer. */
static void finish(void)
{
	static char text[1 << 20];
	json_t *reply;
	ssize_t n, at = 0;
	int st, fd;

	cr_assert_eq(kill(fake.child.pid, SIGCONT), 0);
	cr_assert_eq(waitpid(fake.child.pid, &st, 0), fake.child.pid);
	fake.child.done(fake.child.arg, st);
	cr_expect_eq(atomic_load(&sched.tracing), 0);
	reply = client_reply(&fd);
	cr_assert(json_is_true(json_object_get(reply, "ok")));
	json_decref(reply);
	cr_assert_geq(fd, 0);
	while ((n = pread(fd, text + at, sizeof text - (size_t)at, at)) > 0)
		at += n;
	close(fd);
	trace = json_loadb(text, (size_t)at, JSON_REJECT_DUPLICATES, NULL);
	cr_assert_not_null(trace, "%.*s", (int)at, text);
}

/* The i-th event with this phase. */
static json_t *event(const char *phase, unsigned i)
{
	json_t *all = json_object_get(trace, "traceEvents");

	for (size_t k = 0; k < json_array_size(all); k++) {
		json_t *e = json_array_get(all, k);

		if (!strcmp(json_string_value(json_object_get(e, "ph")), phase) && i-- == 0)
			return e;
	}
	return NULL;
}

static double number(json_t *e, const char *key)
{
	json_t *n = json_object_get(e, key);

	return json_is_number(n) ? json_number_value(n) : NAN;
}

static const char *arg(json_t *e, const char *key)
{
	return json_string_value(json_object_get(json_object_get(e, "args"), key));
}

static long total(const char *key)
{
	return (long)json_integer_value(json_object_get(json_object_get(trace, "otherData"), key));
}

Test(trace, a_run_is_a_slice_with_its_length_and_its_reason)
{
	start();
	put_event(2, begun, GID, G_RUNNABLE, G_RUNNING, 0, 1);
	put_event(2, begun + 640000, GID, G_RUNNING, G_WAITING, WAIT_RECV, 2);
	finish();
	cr_assert_not_null(event("X", 0));
	cr_expect_null(event("X", 1));
	cr_expect_eq(number(event("X", 0), "tid"), 2);
	cr_expect_float_eq(number(event("X", 0), "dur"), 640.0, 0.1);
	cr_expect_str_eq(json_string_value(json_object_get(event("X", 0), "name")), "G5");
	cr_expect_str_eq(arg(event("X", 0), "then"), "waiting");
	cr_expect_str_eq(arg(event("X", 0), "why"), waitreason_name[WAIT_RECV]);
	cr_expect_eq(total("events"), 1);
	cr_expect_eq(total("lost"), 0);
}

Test(trace, a_system_call_is_a_slice_inside_of_its_run)
{
	start();
	put_event(1, begun, GID, G_RUNNABLE, G_RUNNING, 0, 1);
	put_event(1, begun + 64000, GID, G_RUNNING, G_SYSCALL, 0, 2);
	put_event(1, begun + 128000, GID, G_SYSCALL, G_RUNNING, 0, 3);
	put_event(1, begun + 256000, GID, G_RUNNING, G_DEAD, 0, 4);
	finish();
	cr_expect_str_eq(json_string_value(json_object_get(event("X", 0), "name")), "syscall");
	cr_expect_float_eq(number(event("X", 0), "dur"), 64.0, 0.1);
	cr_expect_float_eq(number(event("X", 1), "dur"), 256.0, 0.1);
	cr_expect_str_eq(arg(event("X", 1), "then"), "dead");
	cr_expect_str_eq(arg(event("X", 1), "why"), "");
	cr_expect_null(event("X", 2));
}

Test(trace, a_wake_is_an_arrow_from_the_waker_to_the_run)
{
	start();
	put_event(1, begun, 7, G_RUNNABLE, G_RUNNING, 0, 1); /* the waker runs */
	put_event(1, begun + 64000, GID, G_WAITING, G_RUNNABLE, WAIT_RECV, 3);
	put_event(2, begun + 128000, GID, G_RUNNABLE, G_RUNNING, 0, 4);
	finish();
	cr_assert_not_null(event("s", 0));
	cr_assert_not_null(event("f", 0));
	cr_expect_eq(number(event("s", 0), "tid"), 1);
	cr_expect_eq(number(event("f", 0), "tid"), 2);
	cr_expect_eq(number(event("s", 0), "id"), number(event("f", 0), "id"));
	cr_expect_float_eq(number(event("f", 0), "ts") - number(event("s", 0), "ts"), 64.0, 0.1);
	cr_expect_null(event("s", 1));
}

Test(trace, ends_of_different_wakes_make_no_arrow)
{
	start();
	put_event(1, begun, 7, G_RUNNABLE, G_RUNNING, 0, 1);
	put_event(1, begun + 64000, GID, G_WAITING, G_RUNNABLE, WAIT_RECV, 3);
	put_event(2, begun + 128000, GID, G_RUNNABLE, G_RUNNING, 0, 6);		   /* a later transition */
	put_event(1, begun + 192000, GID + GID_STEP, G_WAITING, G_RUNNABLE, 0, 5); /* another goroutine in its slot */
	finish();
	cr_expect_null(event("s", 0));
	cr_expect_null(event("f", 0));
}

Test(trace, a_wake_by_a_timer_begins_in_a_slice_of_its_own)
{
	start();
	put_event(3, begun, GID, G_WAITING, G_RUNNABLE, WAIT_SLEEP, 3);
	put_event(3, begun + 64000, GID, G_RUNNABLE, G_RUNNING, 0, 4);
	finish();
	cr_expect_str_eq(json_string_value(json_object_get(event("X", 0), "name")), "poll");
	cr_assert_not_null(event("s", 0));
	cr_expect_eq(number(event("s", 0), "ts"), number(event("X", 0), "ts"));
}

Test(trace, events_that_were_overwritten_are_counted)
{
	start();
	for (unsigned i = 0; i < LIFE_RING + 1000; i++)
		put_event(1, begun - (1 << 30), GID, G_RUNNABLE, G_RUNNING, 0, i % LIFE_ORDERS);
	finish();
	cr_expect_eq(total("lost"), 1001, "%ld: the ring, less the slot that the writer may be in", total("lost"));
}

Test(trace, each_worker_and_the_medic_have_a_named_track)
{
	start();
	put_event(0, begun, GID, G_RUNNABLE, G_RUNNING, 0, 1);
	put_event(1, begun, GID, G_RUNNABLE, G_RUNNING, 0, 1);
	finish();
	cr_expect_str_eq(arg(event("M", 0), "name"), "shoal");
	cr_expect_str_eq(arg(event("M", 1), "name"), "medic 0");
	cr_expect_str_eq(arg(event("M", 2), "name"), "worker 1");
}

Test(trace, damaged_events_give_valid_json)
{
	start();
	for (unsigned i = 0; i < 1000; i++) {
		uint64_t x = (i + 1) * 0x9e3779b97f4a7c15u;

		put_event(i % SH_SEATS, begun + i * 64, x, x >> 60, x >> 56 & 15, x >> 50 & 63,
			  (unsigned)x % LIFE_ORDERS);
	}
	finish();
	cr_expect(json_is_array(json_object_get(trace, "traceEvents")));
}

Test(trace, a_recording_whose_child_fails_is_an_error)
{
	json_t *reply;
	int st;

	start();
	kill(fake.child.pid, SIGKILL);
	cr_assert_eq(waitpid(fake.child.pid, &st, 0), fake.child.pid);
	fake.child.done(fake.child.arg, st);
	reply = client_reply(NULL);
	cr_expect_eq(json_integer_value(json_object_get(reply, "code")), CODE_FAILED);
	json_decref(reply);
	cr_expect_eq(atomic_load(&sched.tracing), 0);
}

Test(trace, a_recording_ends_when_its_client_leaves)
{
	int st;

	start();
	client_close();
	daemon_run();
	sh_trace_end_abandoned();
	cr_assert_eq(waitpid(fake.child.pid, &st, 0), fake.child.pid);
	cr_expect(WIFSIGNALED(st));
	fake.child.done(fake.child.arg, st);
}
