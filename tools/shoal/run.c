/* run.c - the verbs run, submit, wait and logs. */
#include "tools/shoal/cli.h"
#include "tools/shoal/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define POLL_FIRST_MS 5
#define POLL_LAST_MS 20
#define STREAM_TRIES 200

extern char **environ;

/* ---- interrupts ---- */

static volatile sig_atomic_t interrupts;
static int interrupts_handled;

bool interrupted(void)
{
	return interrupts > interrupts_handled;
}

static void count_interrupt(int sig)
{
	(void)sig;
	interrupts++;
}

/* Without SA_RESTART, so that a signal also ends a write to a pipe that nobody reads. */
static void catch_interrupts(void)
{
	static const int sigs[] = {SIGINT, SIGTERM, SIGHUP};
	for (size_t i = 0; i < sizeof(sigs) / sizeof(sigs[0]); i++) {
		struct sigaction sa = {.sa_handler = count_interrupt}, old;
		sigaction(sigs[i], NULL, &old);
		if (old.sa_handler != SIG_IGN)
			sigaction(sigs[i], &sa, NULL);
	}
}

/* ---- one task ---- */

static void cancel_task(int64_t id, bool now)
{
	/* Uses a connection of its own: on the other connection this reply could be confused with that of wait. */
	struct conn c;
	if (!conn_try(&c, socket_path()))
		return;
	json_t *ask = request("cancel");
	put(ask, "id", json_integer(id));
	put(ask, "now", json_boolean(now));
	conn_send(&c, ask, -1);
	json_t *reply = conn_reply(&c, 2000);
	json_decref(reply);
	conn_close(&c);
}

static _Noreturn void fail_without_supervisor(int why)
{
	const char *log = supervisor_private_log();
	char *line = log ? tail_of(log) : NULL;
	if (line)
		say("last line of the supervisor's log: %s", line);
	fail(failure_code(), why == EPROTO ? "the supervisor sent an invalid answer" : "the supervisor died");
}

static void send_wait(struct conn *c, json_t *ids)
{
	json_t *ask = request("wait");
	put(ask, "ids", ids);
	conn_send(c, ask, -1);
}

static struct streams streams;

static void copy_meanwhile(void *arg)
{
	(void)arg;
	streams_copy(&streams);
}

/*
 * Waits again with the next supervisor, which knows the task. `run` tells it that the owner of the task is still
 * there.
 */
static bool resume_wait(struct conn *c, int64_t id, bool owns)
{
	do {
		if (!conn_reconnect(c, copy_meanwhile, NULL))
			return false;
		json_t *own = request("own"), *reply = NULL;
		put(own, "id", json_integer(id));
		if (owns) {
			conn_send(c, own, -1);
			if (!(reply = conn_reply(c, -1)) && errno == EPIPE)
				continue;
		} else {
			json_decref(own);
		}
		json_decref(reply);
		if (!streams_attach(&streams))
			continue;
		send_wait(c, json_pack("[I]", (json_int_t)id));
		return true;
	} while (true);
}

static bool cancels; /* a signal cancels the task */
static int64_t task_id;

/*
 * The first signal cancels the task, and the rest of its output is still written. The second signal ends this
 * process at once.
 */
static void act_on_interrupts(void)
{
	if (interrupts > 1) {
		if (cancels)
			cancel_task(task_id, true);
		exit(EXIT_CANCELLED);
	}
	if (cancels && interrupted()) {
		interrupts_handled = 1;
		cancel_task(task_id, false);
	}
}

/* Copies the streams until the reply to the wait that the caller has sent comes, and then the rest of the streams. */
static json_t *stream_until_reply(struct conn *c)
{
	int ms = POLL_FIRST_MS;
	json_t *reply;
	streams_interrupted = act_on_interrupts;
	while (!(reply = conn_reply(c, ms))) {
		if (errno == EPIPE && resume_wait(c, task_id, cancels))
			continue;
		if (errno != ETIMEDOUT && errno != EINTR) {
			int why = errno;
			streams_rest(&streams);
			fail_without_supervisor(why);
		}
		act_on_interrupts();
		if (streams_copy(&streams))
			ms = 0;
		else
			ms = ms * 2 + POLL_FIRST_MS < POLL_LAST_MS ? ms * 2 + POLL_FIRST_MS : POLL_LAST_MS;
	}
	streams_rest(&streams);
	return reply;
}

static json_t *find_task(json_t *reply, int64_t id)
{
	size_t i;
	json_t *task;
	json_array_foreach(json_object_get(reply, "tasks"), i, task) if (get_int(task, "id", -1) == id) return task;
	fail(failure_code(), "the supervisor sent no result for task %lld", (long long)id);
}

static int exit_code_of(json_t *task)
{
	const char *status = get_text(task, "status");
	int code = (int)get_int(task, "exit_code", 0), sig = (int)get_int(task, "signal", 0);
	if (strcmp(status, "done") == 0)
		return code & 255;
	if (strcmp(status, "timeout") == 0)
		return EXIT_TIMEOUT;
	if (strcmp(status, "cancelled") == 0)
		return EXIT_CANCELLED;
	if (strcmp(status, "lost") == 0)
		return EXIT_LOST;
	if (strcmp(status, "crashed") == 0)
		return sig ? (128 + sig) & 255 : code ? code & 255 : EXIT_OWN_FAILURE;
	return EXIT_OWN_FAILURE;
}

/* Prints why the task failed. A task that was cancelled needs no message. */
static void report_end(json_t *task)
{
	const char *status = get_text(task, "status"), *message = get_text(task, "message");
	if (strcmp(status, "done") == 0 || strcmp(status, "cancelled") == 0)
		return;
	int sig = (int)get_int(task, "signal", 0);
	if (*message)
		say("task %lld: %s: %s", (long long)get_int(task, "id", 0), status, message);
	else if (sig)
		say("task %lld: %s: %s", (long long)get_int(task, "id", 0), status, strsignal(sig));
	else
		say("task %lld: %s", (long long)get_int(task, "id", 0), status);
}

/* ---- submit and run ---- */

struct submission {
	struct module module;
	json_t *request;
	bool detach;
};

/* Makes a JSON string, or {"hex": "..."} if the bytes are not UTF-8, which JSON requires. */
static json_t *bytes(const char *text)
{
	json_t *s = json_string(text);
	if (s)
		return s;
	size_t n = strlen(text);
	char *hex = must(malloc(2 * n + 1));
	for (size_t i = 0; i < n; i++)
		sprintf(hex + 2 * i, "%02x", (unsigned char)text[i]);
	json_t *object = must(json_pack("{s:s}", "hex", hex));
	free(hex);
	return object;
}

static json_t *text_or_fail(const char *text, const char *what)
{
	json_t *s = json_string(text);
	if (!s)
		usage("%s is not UTF-8 text", what);
	return s;
}

static void append(json_t *list, json_t *item)
{
	if (json_array_append_new(list, item) < 0)
		must(NULL);
}

/*
 * Returns this process's environment with the changes of --env. If a variable is changed twice, the last change
 * counts.
 */
static json_t *environment(const struct opt_list *changes)
{
	json_t *env = must(json_array());
	for (char **e = environ; *e; e++) {
		bool changed = false;
		for (size_t i = 0; i < changes->n; i++)
			changed = changed || strncmp(changes->item[i], *e, strcspn(*e, "=") + 1) == 0;
		if (!changed)
			append(env, bytes(*e));
	}
	for (size_t i = 0; i < changes->n; i++) {
		bool again = false;
		size_t key = strcspn(changes->item[i], "=") + 1;
		for (size_t j = i + 1; j < changes->n; j++)
			again = again || strncmp(changes->item[i], changes->item[j], key) == 0;
		if (!again)
			append(env, bytes(changes->item[i]));
	}
	return env;
}

static void prepare(int argc, char **argv, struct submission *s)
{
	int64_t attempts = 1, timeout = 0;
	const char *name = NULL;
	struct opt_list env = {0};
	const struct opt opts[] = {
		{"attempts", 'a', OPT_COUNT, &attempts}, {"timeout", 't', OPT_DURATION, &timeout},
		{"name", 'n', OPT_TEXT, &name},		 {"env", 'e', OPT_LIST, &env},
		{"detach", 'd', OPT_FLAG, &s->detach},	 {NULL, 0, OPT_FLAG, NULL},
	};
	int n = parse_options(argc, argv, opts, true);
	if (n == 0)
		usage("expected a module");
	for (size_t i = 0; i < env.n; i++)
		if (!strchr(env.item[i], '=') || env.item[i][0] == '=')
			usage("--env must have the form K=V, not '%s'", env.item[i]);
	parse_module(argv[0], &s->module);

	json_t *args = must(json_array());
	append(args, bytes(s->module.typed));
	for (int i = 1; i < n; i++)
		append(args, bytes(argv[i]));
	s->request = request("submit");
	put(s->request, "module", bytes(s->module.path));
	put(s->request, "entry", text_or_fail(s->module.entry, "the entry"));
	put(s->request, "args", args);
	put(s->request, "env", environment(&env));
	put(s->request, "attempts", json_integer(attempts));
	if (name)
		put(s->request, "name", text_or_fail(name, "the name"));
	if (timeout)
		put(s->request, "timeout_ns", json_integer(timeout));
	free(env.item);
}

/*
 * Returns a random key for this submission. If the client submits it again, the supervisor or the next one
 * recognizes it.
 */
static json_t *new_key(void)
{
	unsigned char random[16];
	char hex[33];
	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		fail(failure_code(), "cannot get random numbers: %s", strerror(errno));
	for (int i = 0; i < 16; i++)
		sprintf(hex + 2 * i, "%02x", random[i]);
	return json_string(hex);
}

static json_t *submit(struct conn *c, struct submission *s, bool run)
{
	int cwd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (cwd < 0)
		fail(failure_code(), "cannot open the current folder: %s", strerror(errno));
	put(s->request, "run", json_boolean(run));
	put(s->request, "key", new_key());
	json_t *reply = conn_call(c, s->request, cwd);
	close(cwd);
	if (get_int(reply, "id", -1) < 0)
		fail(failure_code(), "the supervisor sent an invalid answer");
	return reply;
}

static int submit_only(struct submission *s)
{
	struct conn c;
	conn_open(&c);
	json_t *reply = submit(&c, s, false);
	if (cli.json)
		print_json(reply);
	else
		printf("%lld\n", (long long)get_int(reply, "id", 0));
	json_decref(reply);
	conn_close(&c);
	return 0;
}

int verb_submit(int argc, char **argv)
{
	struct submission s = {0};
	prepare(argc, argv, &s);
	return submit_only(&s);
}

/*
 * The streams come with the answer, unless the supervisor had no free descriptors: then asks again until it has
 * some.
 */
static json_t *get_streams(struct conn *c, int64_t id, json_t *reply)
{
	for (int tries = 0; c->nfds < 2 && tries < STREAM_TRIES; tries++) {
		json_t *ask = request("logs");
		json_decref(reply);
		while (c->nfds)
			close(c->fds[--c->nfds]);
		usleep(50000);
		put(ask, "id", json_integer(id));
		put(ask, "follow", json_true());
		conn_send(c, ask, -1);
		while (!(reply = conn_reply(c, -1)) && errno == EINTR)
			if (interrupted())
				exit(EXIT_CANCELLED);
	}
	return reply;
}

int verb_run(int argc, char **argv)
{
	struct submission s = {0};
	prepare(argc, argv, &s);
	if (s.detach)
		return submit_only(&s);

	struct conn c;
	catch_interrupts();
	if (!conn_try(&c, socket_path())) {
		if (conn_orphaned())
			conn_open(&c);
		else if (!supervisor_start_private(&c))
			exit(EXIT_CANCELLED);
	}
	json_t *reply = submit(&c, &s, true);
	int64_t id = get_int(reply, "id", 0);
	reply = get_streams(&c, id, reply);
	streams_begin(&streams, &c, reply, id, true);
	json_decref(reply);
	send_wait(&c, json_pack("[I]", (json_int_t)id));
	cancels = true;
	task_id = id;
	reply = stream_until_reply(&c);
	reply_check(reply);
	json_t *task = find_task(reply, id);
	int code = exit_code_of(task);
	report_end(task);
	if (strcmp(get_text(task, "status"), "crashed") == 0)
		crash_report(&c, id);
	json_decref(reply);
	conn_close(&c);
	return code;
}

/* ---- wait and logs ---- */

int verb_wait(int argc, char **argv)
{
	const struct opt none[] = {{NULL, 0, OPT_FLAG, NULL}};
	int n = parse_options(argc, argv, none, false);
	if (n == 0)
		usage("expected the number of a task");
	json_t *ids = must(json_array());
	int64_t id = 0;
	for (int i = 0; i < n; i++)
		append(ids, json_integer(id = parse_id("task", argv[i])));
	struct conn c;
	conn_open(&c);
	json_t *ask = request("wait"), *task;
	put(ask, "ids", ids);
	json_t *reply = conn_call(&c, ask, -1);
	int code = exit_code_of(find_task(reply, id));
	size_t i;
	if (cli.json)
		print_json(reply);
	else
		json_array_foreach(json_object_get(reply, "tasks"), i, task) report_end(task);
	json_decref(reply);
	conn_close(&c);
	return code;
}

int verb_logs(int argc, char **argv)
{
	bool follow = false;
	const struct opt opts[] = {{"follow", 'f', OPT_FLAG, &follow}, {NULL, 0, OPT_FLAG, NULL}};
	if (parse_options(argc, argv, opts, false) != 1)
		usage("expected the number of one task");
	if (follow && cli.json)
		usage("--json cannot be combined with -f");
	int64_t id = parse_id("task", argv[0]);
	struct conn c;
	conn_open(&c);
	json_t *ask = request("logs");
	put(ask, "id", json_integer(id));
	put(ask, "follow", json_boolean(follow));
	json_t *reply = conn_call(&c, ask, -1);
	streams_begin(&streams, &c, reply, id, follow);
	if (cli.json) {
		json_t *o = must(json_pack("{s:b, s:b, s:I}", "ok", 1, "ended",
					   json_is_true(json_object_get(reply, "ended")), "id", (json_int_t)id));
		put(o, "output_dropped", json_integer((json_int_t)(streams.s[0].at + streams.s[1].at)));
		put(o, "stdout", stream_text(&streams, 0));
		put(o, "stderr", stream_text(&streams, 1));
		print_json(o);
		json_decref(o);
	} else if (follow) {
		send_wait(&c, json_pack("[I]", (json_int_t)id));
		task_id = id;
		json_t *end = stream_until_reply(&c);
		reply_check(end);
		json_decref(end);
	} else {
		streams_rest(&streams);
	}
	json_decref(reply);
	conn_close(&c);
	return 0;
}
