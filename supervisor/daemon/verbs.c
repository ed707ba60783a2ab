/*
 * verbs.c - the requests of clients. A table maps each verb to its function.
 *
 * Requests that cannot be answered at once (wait, check, stop) are kept in lists here until the event that
 * they wait for.
 */
#include "shm/kernel.h"
#include "supervisor/daemon/verbs.h"
#include "supervisor/daemon/control.h"
#include "supervisor/daemon/failure.h"
#include "supervisor/daemon/fleet.h"
#include "supervisor/daemon/main.h"
#include "supervisor/daemon/procs.h"
#include "supervisor/daemon/task/output.h"
#include "supervisor/daemon/task/tasks.h"
#include "supervisor/daemon/view/dump.h"
#include "supervisor/daemon/view/life.h"
#include "supervisor/daemon/view/ps.h"
#include "supervisor/daemon/view/trace.h"
#include "supervisor/daemon/view/views.h"
#include "core/g/g.h"
#include "core/repair/audit.h"
#include "core/root.h"
#include "core/task/task.h"
#include "shm/kill.h"
#include "shm/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WAIT_IDS_MAX 100000u
#define AUDIT_LOOK_MS 20

struct waiter {
	struct waiter *next;
	struct asker *asker;
	size_t n, missing;
	uint64_t *ids;
	json_t **tasks;
};

struct checker {
	struct checker *next;
	struct asker *asker;
};

static struct waiter *waiters;
static struct checker *checkers, *checkers_next; /* waiting for the current audit; for the one after it */
static uint32_t audit_wanted;
static uv_timer_t *audit_timer;
static struct checker *stoppers;

/* ---- reading requests ---- */

static json_t *ok(void)
{
	return json_pack("{s:b}", "ok", 1);
}

static const char *text_of(json_t *request, const char *key)
{
	return json_string_value(json_object_get(request, key));
}

static int64_t number_of(json_t *request, const char *key, int64_t otherwise)
{
	json_t *v = json_object_get(request, key);

	return json_is_integer(v) ? json_integer_value(v) : otherwise;
}

static bool flag_of(json_t *request, const char *key)
{
	return json_is_true(json_object_get(request, key));
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/*
 * Reads a string, or {"hex":"6a6f"} for bytes that are not UTF-8. Appends it with its final 0 to out (NULL:
 * only counts). Returns its length with the 0, or 0 if the item is neither.
 */
static size_t take_bytes(json_t *item, char *out)
{
	const char *s = json_string_value(item);
	size_t n;

	if (s) {
		n = strlen(s);
		if (out)
			memcpy(out, s, n + 1);
		return n + 1;
	}
	s = json_string_value(json_object_get(item, "hex"));
	if (!s || strlen(s) % 2)
		return 0;
	n = strlen(s) / 2;
	for (size_t i = 0; i < n; i++) {
		int high = hex_digit(s[2 * i]), low = hex_digit(s[2 * i + 1]);

		if (high < 0 || low < 0 || high + low == 0)
			return 0;
		if (out)
			out[i] = (char)(high << 4 | low);
	}
	if (out)
		out[n] = '\0';
	return n + 1;
}

/* Adds the lengths of all strings of a list. False if it is not a list of strings. */
static bool add_lengths(json_t *list, size_t *sum)
{
	size_t i;
	json_t *item;

	if (list && !json_is_array(list))
		return false;
	json_array_foreach(list, i, item)
	{
		size_t n = take_bytes(item, NULL);

		if (!n)
			return false;
		*sum += n;
	}
	return true;
}

static char *append(json_t *list, char *at)
{
	size_t i;
	json_t *item;

	json_array_foreach(list, i, item) at += take_bytes(item, at);
	return at;
}

static struct job *job_of(struct asker *a, json_t *request)
{
	int64_t id = number_of(request, "id", -1);
	struct job *j = id > 0 ? sh_job_find((uint64_t)id) : NULL;

	if (!j)
		sh_answer_error(a, CODE_UNKNOWN, NULL, "no such task: %ld", (long)id);
	return j;
}

/* ---- submit ---- */

/*
 * Copies arguments and environment of the task, one string after the other. Without arguments, argv[0] is the
 * module's path. Returns false and stores the reason in error if the request is malformed.
 */
static bool take_strings(struct job *j, json_t *request, const char *module, const char **error)
{
	json_t *args = json_object_get(request, "args"), *env = json_object_get(request, "env");
	bool bare = json_array_size(args) == 0;
	size_t sum = bare ? strlen(module) + 1 : 0;
	char *at;

	*error = "args and env must be lists of strings";
	if (!add_lengths(args, &sum) || !add_lengths(env, &sum))
		return false;
	*error = "arguments and environment are longer than 1 MiB";
	if (sum > TASK_ARGS_SIZE)
		return false;
	*error = "out of memory";
	j->args = malloc(sum ? sum : 1);
	if (!j->args)
		return false;
	j->args_len = sum;
	j->argc = bare + (int)json_array_size(args);
	j->nenv = (int)json_array_size(env);
	at = bare ? stpcpy(j->args, module) + 1 : j->args;
	append(env, append(args, at));
	return true;
}

static const char *take_options(struct job *j, json_t *request)
{
	int64_t attempts = number_of(request, "attempts", 1), timeout = number_of(request, "timeout_ns", 0);
	const char *entry = text_of(request, "entry"), *name = text_of(request, "name"), *key = text_of(request, "key");

	if (entry && (!*entry || strlen(entry) >= sizeof j->entry))
		return "an entry must have 1 to 63 bytes";
	if (key && (!*key || strlen(key) >= sizeof j->key))
		return "a key must have 1 to 39 bytes";
	if (attempts < 1 || attempts > 65535)
		return "attempts must be from 1 to 65535";
	if (timeout < 0)
		return "a timeout must not be negative";
	snprintf(j->entry, sizeof j->entry, "%s", entry ? entry : "shoal_main");
	snprintf(j->name, sizeof j->name, "%.63s", name ? name : "");
	j->attempts = (unsigned)attempts;
	j->timeout_ns = (uint64_t)timeout;
	snprintf(j->key, sizeof j->key, "%s", key ? key : "");
	j->run = flag_of(request, "run");
	return NULL;
}

/*
 * True if the client repeats a submission, because the supervisor died before it answered, and the task with this
 * key was accepted. Then answers the request.
 */
static bool known_already(struct asker *a, json_t *request)
{
	const char *key = text_of(request, "key");
	struct job *j = flag_of(request, "again") && key ? sh_job_by_key(key) : NULL;

	if (j)
		sh_job_answer(j, a);
	return j != NULL;
}

static void verb_submit(struct asker *a, json_t *request)
{
	struct job *j = known_already(a, request) ? NULL : calloc(1, sizeof *j);
	json_t *field = json_object_get(request, "module");
	size_t n = take_bytes(field, NULL);
	char module[4096];
	const char *error = NULL;

	if (!j)
		return;
	j->out = j->err = -1;
	j->cwd = sh_ask_take_fd(a);
	if (j->cwd < 0)
		j->cwd = kernel_open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	if (n < 2 || n > sizeof module)
		error = "a submission must name its module";
	if (!error)
		error = take_options(j, request);
	if (!error) {
		take_bytes(field, module);
		if (take_strings(j, request, module, &error))
			error = NULL;
	}
	j->asker = a;
	if (error) {
		struct failure why = {.code = CODE_USAGE};

		snprintf(why.text, sizeof why.text, "%s", error);
		sh_job_refuse(j, &why);
	} else if (sh_stopping) {
		sh_job_refuse(j, &(struct failure){.code = CODE_SHOAL, .text = "the supervisor is stopping"});
	} else {
		sh_job_submit(j, module);
	}
}

/* ---- wait ---- */

static void free_waiter(struct waiter *w)
{
	for (size_t i = 0; i < w->n; i++)
		json_decref(w->tasks[i]);
	free(w->tasks);
	free(w->ids);
	free(w);
}

static void answer_waiter(struct waiter *w)
{
	json_t *list = json_array(), *reply = ok();

	for (size_t i = 0; i < w->n; i++)
		if (w->tasks[i])
			json_array_append(list, w->tasks[i]);
	json_object_set_new(reply, "version", json_integer(1));
	json_object_set_new(reply, "tasks", list);
	sh_answer(w->asker, reply, NULL, 0);
	free_waiter(w);
}

static void verb_wait(struct asker *a, json_t *request)
{
	json_t *ids = json_object_get(request, "ids"), *item;
	struct waiter *w;
	size_t i;

	if (!json_is_array(ids) || json_array_size(ids) > WAIT_IDS_MAX) {
		sh_answer_error(a, CODE_USAGE, NULL, "ids must be a list of task numbers");
		return;
	}
	w = calloc(1, sizeof *w);
	if (!w || !(w->ids = calloc(json_array_size(ids) + 1, sizeof *w->ids)) ||
	    !(w->tasks = calloc(json_array_size(ids) + 1, sizeof *w->tasks)))
		abort();
	w->asker = a;
	w->n = json_array_size(ids);
	json_array_foreach(ids, i, item)
	{
		int64_t id = json_is_integer(item) ? json_integer_value(item) : -1;
		struct job *j = id > 0 ? sh_job_find((uint64_t)id) : NULL;

		if (!j) {
			sh_answer_error(a, CODE_UNKNOWN, NULL, "no such task: %ld", (long)id);
			free_waiter(w);
			return;
		}
		w->ids[i] = (uint64_t)id;
		if (sh_job_ended(j))
			w->tasks[i] = sh_view_task(j);
		else
			w->missing++;
	}
	if (!w->missing) {
		answer_waiter(w);
		return;
	}
	w->next = waiters;
	waiters = w;
}

void sh_verbs_ended(const struct job *j)
{
	struct waiter **at = &waiters, *done = NULL;
	json_t *task = NULL;

	while (*at) {
		struct waiter *w = *at;

		for (size_t i = 0; i < w->n && !sh_ask_closed(w->asker); i++) {
			if (w->ids[i] != j->id || w->tasks[i])
				continue;
			task = task ? task : sh_view_task(j);
			w->tasks[i] = json_incref(task);
			w->missing--;
		}
		if (w->missing && !sh_ask_closed(w->asker)) {
			at = &w->next;
			continue;
		}
		*at = w->next; /* unlink before answering: the answer may call back into this list */
		w->next = done;
		done = w;
	}
	json_decref(task);
	while (done) {
		struct waiter *w = done;

		done = w->next;
		answer_waiter(w);
	}
}

/* ---- the other verbs about one task ---- */

static json_t *both(uint64_t out, uint64_t err)
{
	return json_pack("[I,I]", (json_int_t)out, (json_int_t)err);
}

static void verb_logs(struct asker *a, json_t *request)
{
	struct job *j = job_of(a, request);
	json_t *reply, *at = json_object_get(request, "at");
	uint64_t from[2] = {(uint64_t)json_integer_value(json_array_get(at, 0)),
			    (uint64_t)json_integer_value(json_array_get(at, 1))};
	int fds[4], n = 2;

	if (!j)
		return;
	if (!sh_job_ended(j))
		sh_output_open(j);
	fds[0] = sh_output_reader(j, 0);
	fds[1] = sh_output_reader(j, 1);
	if (fds[0] < 0 || fds[1] < 0) {
		sh_answer_error(a, CODE_FAILED, NULL, "no descriptor for the output of task %lu: %s",
				(unsigned long)j->id, strerror(errno));
	} else {
		reply = ok();
		json_object_set_new(reply, "ended", json_boolean(sh_job_ended(j)));
		if (flag_of(request, "follow"))
			sh_output_read(j, sh_ask_conn(a), from);
		else if (!sh_job_ended(j))
			sh_output_read_briefly(j, sh_ask_conn(a));
		json_object_set_new(reply, "from", both(sh_output_dropped(j, 0), sh_output_dropped(j, 1)));
		json_object_set_new(reply, "to", both(sh_output_size(j, 0), sh_output_size(j, 1)));
		n = sh_output_files(j, reply, fds);
		sh_answer(a, reply, fds, n);
	}
	for (int i = 0; i < n; i++)
		if (fds[i] >= 0)
			kernel_close(fds[i]);
}

/*
 * With "at", an attached reader reports how far it has read, and gets no answer. Without it, the answer says how
 * many bytes were dropped at the front, so that a reader that is not attached knows what it missed.
 */
static void verb_read(struct asker *a, json_t *request)
{
	json_t *at = json_object_get(request, "at"), *reply;
	int64_t id = number_of(request, "id", -1);
	struct job *j = id > 0 ? sh_job_find((uint64_t)id) : NULL;
	uint64_t from[2];

	if (at) {
		from[0] = (uint64_t)json_integer_value(json_array_get(at, 0));
		from[1] = (uint64_t)json_integer_value(json_array_get(at, 1));
		if (j)
			sh_output_read(j, sh_ask_conn(a), from);
		sh_answer(a, NULL, NULL, 0);
	} else if ((j = job_of(a, request)) != NULL) {
		reply = ok();
		json_object_set_new(reply, "dropped", both(sh_output_dropped(j, 0), sh_output_dropped(j, 1)));
		json_object_set_new(reply, "moved", both(sh_output_moved(j, 0), sh_output_moved(j, 1)));
		sh_answer(a, reply, NULL, 0);
	}
}

/* A `run` client reconnects after the death of a supervisor: from here on this connection owns the task. */
static void verb_own(struct asker *a, json_t *request)
{
	struct job *j = job_of(a, request);

	if (!j)
		return;
	if (sh_job_own(j, sh_ask_conn(a)))
		sh_answer(a, ok(), NULL, 0);
	else
		sh_answer_error(a, CODE_USAGE, NULL, "task %lu was not started by run", (unsigned long)j->id);
}

static void verb_cancel(struct asker *a, json_t *request)
{
	struct job *j = job_of(a, request);

	if (!j)
		return;
	sh_job_cancel(j, json_is_true(json_object_get(request, "now")) ? ASKED_CANCEL | ASKED_NOW : ASKED_CANCEL);
	sh_answer(a, ok(), NULL, 0);
}

/* ---- check ---- */

static void on_audit_timer(uv_timer_t *timer)
{
	(void)timer;
	sh_verbs_check_audit();
}

static void ask_audit(void)
{
	checkers = checkers_next;
	checkers_next = NULL;
	if (!checkers)
		return;
	audit_wanted = atomic_fetch_add(&rt->audit_asked, 1) + 1;
	sh_bell();
	if (!audit_timer) {
		audit_timer = malloc(sizeof *audit_timer);
		if (!audit_timer)
			abort();
		uv_timer_init(sh_loop, audit_timer);
	}
	uv_timer_start(audit_timer, on_audit_timer, AUDIT_LOOK_MS, AUDIT_LOOK_MS);
}

static void verb_check(struct asker *a, json_t *request)
{
	struct checker *c = malloc(sizeof *c);

	(void)request;
	if (!c)
		abort();
	*c = (struct checker){checkers_next, a};
	checkers_next = c;
	if (!checkers)
		ask_audit();
}

void sh_verbs_check_audit(void)
{
	char found[sizeof rt->audit];
	bool clean;

	if (!checkers || atomic_load_explicit(&rt->audit_done, memory_order_acquire) != audit_wanted)
		return;
	memcpy(found, rt->audit, sizeof found);
	found[sizeof found - 1] = '\0';
	clean = strcmp(found, "clean") == 0;
	uv_timer_stop(audit_timer);
	while (checkers) {
		struct checker *c = checkers;
		json_t *reply = ok();

		checkers = c->next;
		json_object_set_new(reply, "version", json_integer(1));
		json_object_set_new(reply, "clean", json_boolean(clean));
		json_object_set_new(reply, "found", sh_view_string(found, sizeof found));
		sh_answer(c->asker, reply, NULL, 0);
		free(c);
	}
	ask_audit();
}

/* ---- lists ---- */

static void answer_view(struct asker *a, json_t *view)
{
	json_object_set_new(view, "ok", json_true());
	json_object_set_new(view, "version", json_integer(1));
	sh_answer(a, view, NULL, 0);
}

static void verb_hello(struct asker *a, json_t *request)
{
	(void)request;
	sh_answer(
		a,
		json_pack("{s:b, s:i, s:s, s:i}", "ok", 1, "shoal", 1, "version", SHOAL_VERSION, "pid", (int)getpid()),
		NULL, 0);
}

static void verb_tasks(struct asker *a, json_t *request)
{
	answer_view(a, sh_view_tasks(flag_of(request, "all")));
}

static void verb_ps(struct asker *a, json_t *request)
{
	int64_t task = number_of(request, "task", 0);

	if (json_is_integer(json_object_get(request, "task")) && (task <= 0 || !sh_job_find((uint64_t)task)))
		sh_answer_error(a, CODE_UNKNOWN, NULL, "no such task: %ld", (long)task);
	else
		sh_view_ps(a, task);
}

static void verb_workers(struct asker *a, json_t *request)
{
	(void)request;
	answer_view(a, sh_view_workers());
}

static void verb_stats(struct asker *a, json_t *request)
{
	(void)request;
	answer_view(a, sh_view_stats());
}

static void verb_info(struct asker *a, json_t *request)
{
	(void)request;
	answer_view(a, sh_view_info());
}

static void verb_crash(struct asker *a, json_t *request)
{
	int64_t id = number_of(request, "id", -1);
	json_t *o = sh_view_crashes(id);
	bool ended;

	if (id >= 0 && !json_array_size(json_object_get(o, "crashes")) && !sh_job_find((uint64_t)id) &&
	    !g_find((uint64_t)id, &ended)) {
		json_decref(o);
		sh_answer_error(a, CODE_UNKNOWN, NULL, "no such task or goroutine: %ld", (long)id);
		return;
	}
	answer_view(a, o);
}

static void verb_life(struct asker *a, json_t *request)
{
	int64_t gid = number_of(request, "gid", 0);
	json_t *view = gid > 0 ? sh_view_life((uint64_t)gid) : NULL;

	if (view)
		answer_view(a, view);
	else
		sh_answer_error(a, CODE_UNKNOWN, NULL, "no such goroutine: %ld", (long)gid);
}

#define TRACE_MAX_NS 3600000000000

static void verb_trace(struct asker *a, json_t *request)
{
	int64_t ns = number_of(request, "ns", 1000000000);

	if (ns < 1 || ns > TRACE_MAX_NS)
		sh_answer_error(a, CODE_USAGE, NULL, "a trace can last at most one hour");
	else
		sh_trace(a, ns);
}

static void verb_procs(struct asker *a, json_t *request)
{
	int64_t n = number_of(request, "n", 0);

	if (!json_object_get(request, "n"))
		answer_view(a, json_pack("{s:i}", "procs", (int)atomic_load(&sched.procs)));
	else if (n < 1 || n > UINT32_MAX)
		sh_answer_error(a, CODE_USAGE, NULL, "the number of Ps must be 1 or more");
	else
		sh_procs(a, (uint32_t)n);
}

static void verb_dump(struct asker *a, json_t *request)
{
	int64_t gid = number_of(request, "gid", 0);

	if (gid < 0)
		sh_answer_error(a, CODE_UNKNOWN, NULL, "no such goroutine: %ld", (long)gid);
	else
		sh_dump(a, (uint64_t)gid);
}

static void verb_sched(struct asker *a, json_t *request)
{
	char line[8192];
	json_t *view = json_object();

	(void)request;
	sh_view_sched(line, sizeof line);
	json_object_set_new(view, "sched", json_string(line));
	answer_view(a, view);
}

/* ---- the supervisor itself ---- */

static void verb_stop(struct asker *a, json_t *request)
{
	struct checker *c = malloc(sizeof *c);

	if (!c)
		abort();
	*c = (struct checker){stoppers, a};
	stoppers = c;
	sh_stop(flag_of(request, "now"));
}

void sh_verbs_stopped(void)
{
	while (waiters) {
		struct waiter *w = waiters;

		waiters = w->next;
		sh_answer_error(w->asker, CODE_SHOAL, NULL, "the supervisor has stopped");
		free_waiter(w);
	}
	while (stoppers) {
		struct checker *c = stoppers;

		stoppers = c->next;
		sh_answer(c->asker, ok(), NULL, 0);
		free(c);
	}
}

static void verb_restart(struct asker *a, json_t *request)
{
	int64_t worker = number_of(request, "worker", 0);
	bool one = json_is_integer(json_object_get(request, "worker"));

	if (one && (worker < 1 || worker > sh_fleet_seats()))
		sh_answer_error(a, CODE_FAILED, NULL, "no such worker: %ld", (long)worker);
	else
		sh_fleet_renew(a, one ? (unsigned)worker : 0);
}

#if defined(SHOAL_KILL_POINTS)
/*
 * For tests/kill. "point" and "hit" arm a kill point, "then" and "then_hit" a second one after that kill; a
 * request without "point" disarms. The answer lists the points passed since the last request.
 */
static void verb_kill(struct asker *a, json_t *request)
{
	const char *point = text_of(request, "point");
	json_t *passed = json_array(), *all = json_array();

	if (!sh_kill_arm(point, (int)number_of(request, "hit", 1), text_of(request, "then"),
			 (int)number_of(request, "then_hit", 1))) {
		sh_answer_error(a, CODE_FAILED, NULL, "no such kill point: %s", point);
		return;
	}
	for (unsigned i = 0; i < sh_kill_points(); i++) {
		json_array_append_new(all, json_string(sh_kill_name(i)));
		if (sh_kill_passed(i))
			json_array_append_new(passed, json_string(sh_kill_name(i)));
	}
	sh_answer(a,
		  json_pack("{s:I, s:o, s:o}", "done", (json_int_t)atomic_load(&sh_root->kill_done), "passed", passed,
			    "points", all),
		  NULL, 0);
}
#endif

static const struct {
	const char *name;
	void (*run)(struct asker *, json_t *request);
} verb_table[] = {
#if defined(SHOAL_KILL_POINTS)
	{"kill", verb_kill},
#endif
	{"hello", verb_hello},	 {"submit", verb_submit},   {"wait", verb_wait},   {"logs", verb_logs},
	{"cancel", verb_cancel}, {"tasks", verb_tasks},	    {"ps", verb_ps},	   {"workers", verb_workers},
	{"stats", verb_stats},	 {"check", verb_check},	    {"crash", verb_crash}, {"sched", verb_sched},
	{"stop", verb_stop},	 {"restart", verb_restart}, {"info", verb_info},   {"life", verb_life},
	{"dump", verb_dump},	 {"procs", verb_procs},	    {"trace", verb_trace}, {"own", verb_own},
	{"read", verb_read},
};

void sh_verb(struct asker *a, json_t *request)
{
	const char *name = text_of(request, "verb");

	for (size_t i = 0; name && i < sizeof verb_table / sizeof *verb_table; i++)
		if (strcmp(verb_table[i].name, name) == 0) {
			verb_table[i].run(a, request);
			return;
		}
	sh_answer_error(a, CODE_USAGE, NULL, "no such verb: %.64s", name ? name : "(none)");
}
