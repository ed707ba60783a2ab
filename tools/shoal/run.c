/* run.c - submits tasks, streams what they write, waits for them. */
#include "tools/shoal/cli.h"

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
static int interrupts_heard;

bool interrupted(void)
{
	return interrupts > interrupts_heard;
}

static void note_interrupt(int sig)
{
	(void)sig;
	interrupts++;
}

/* No SA_RESTART: a write to a pipe that nobody empties has to end as well. */
static void catch_interrupts(void)
{
	static const int sigs[] = {SIGINT, SIGTERM, SIGHUP};
	for (size_t i = 0; i < sizeof(sigs) / sizeof(sigs[0]); i++) {
		struct sigaction sa = {.sa_handler = note_interrupt}, old;
		sigaction(sigs[i], NULL, &old);
		if (old.sa_handler != SIG_IGN)
			sigaction(sigs[i], &sa, NULL);
	}
}

/* ---- streams: files of the supervisor's that grow ---- */

struct stream {
	int from, to;
	off_t at;
	bool closed; /* nobody reads it any more */
};

static void output_failed(struct stream *s)
{
	if (errno == EPIPE && s->to == 1)
		end_by_sigpipe();
	if (errno == EPIPE) {
		s->closed = true;
		return;
	}
	fail(failure_code(), "cannot write the output: %s", strerror(errno));
}

static void write_out(struct stream *s, const char *buf, size_t n)
{
	while (n && !s->closed) {
		ssize_t done = write(s->to, buf, n);
		if (done >= 0) {
			buf += done;
			n -= (size_t)done;
		} else if (errno == EAGAIN) {
			struct pollfd p = {.fd = s->to, .events = POLLOUT};
			poll(&p, 1, 100);
		} else if (errno != EINTR) {
			output_failed(s);
		}
		/* The second interrupt: at once. After the first, the rest may still be written. */
		if (interrupts > 1)
			exit(EXIT_CANCELLED);
	}
}

/* Copies what is new. True if there was something. */
static bool copy_new(struct stream *s)
{
	static char buf[65536];
	ssize_t n = pread(s->from, buf, sizeof(buf), s->at);
	if (n < 0 && errno != EINTR)
		fail(failure_code(), "cannot read the task's output: %s", strerror(errno));
	if (n <= 0)
		return false;
	s->at += n;
	write_out(s, buf, (size_t)n);
	return true;
}

static bool copy_both(struct stream s[2])
{
	bool out = copy_new(&s[0]);
	return copy_new(&s[1]) || out;
}

/* ---- one task ---- */

static void cancel_task(int64_t id, bool now)
{
	/* On a connection of its own: on the other one the reply could be taken for that of wait. */
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

static _Noreturn void supervisor_gone(int why)
{
	const char *log = supervisor_private_log();
	char *line = log ? tail_of(log) : NULL;
	if (line)
		say("the supervisor's last words: %s", line);
	fail(failure_code(), why == EPROTO ? "the supervisor's answer makes no sense" : "the supervisor went away");
}

static void send_wait(struct conn *c, json_t *ids)
{
	json_t *ask = request("wait");
	put(ask, "ids", ids);
	conn_send(c, ask, -1);
}

static void copy_meanwhile(void *streams)
{
	copy_both(streams);
}

/* The supervisor died; its successor knows the task, and is told that the one who runs it is still here. */
static bool wait_again(struct conn *c, struct stream s[2], int64_t id, bool owns)
{
	do {
		if (!conn_again(c, copy_meanwhile, s))
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
		send_wait(c, json_pack("[I]", (json_int_t)id));
		return true;
	} while (true);
}

/* Copies the streams until the reply comes, and then what is left. The caller has sent a wait. */
static json_t *stream_until_reply(struct conn *c, struct stream s[2], int64_t id, bool cancels)
{
	int ms = POLL_FIRST_MS;
	json_t *reply;
	while (!(reply = conn_reply(c, ms))) {
		if (errno == EPIPE && wait_again(c, s, id, cancels))
			continue;
		if (errno != ETIMEDOUT && errno != EINTR) {
			int why = errno;
			while (copy_both(s))
				;
			supervisor_gone(why);
		}
		if (interrupts > 1) {
			if (cancels)
				cancel_task(id, true);
			exit(EXIT_CANCELLED);
		}
		if (cancels && interrupted()) {
			interrupts_heard = 1;
			cancel_task(id, false);
		}
		if (copy_both(s))
			ms = POLL_FIRST_MS;
		else
			ms = ms + 5 < POLL_LAST_MS ? ms + 5 : POLL_LAST_MS;
	}
	while (copy_both(s))
		;
	return reply;
}

static json_t *find_task(json_t *reply, int64_t id)
{
	size_t i;
	json_t *task;
	json_array_foreach(json_object_get(reply, "tasks"), i, task) if (get_int(task, "id", -1) == id) return task;
	fail(failure_code(), "the supervisor does not tell how task %lld ended", (long long)id);
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

/* Why it did not end well. What was ended on purpose needs no words. */
static void say_end(json_t *task)
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

/* Bytes that are not UTF-8, which JSON cannot say, go as {"hex": "..."}. */
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

/* Ours with what --env changes; of two changes of one variable the last holds. */
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
		usage("which module?");
	for (size_t i = 0; i < env.n; i++)
		if (!strchr(env.item[i], '=') || env.item[i][0] == '=')
			usage("--env wants K=V, not '%s'", env.item[i]);
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

/* By which the supervisor, or its successor, knows this submission should it be asked again. */
static json_t *new_key(void)
{
	unsigned char random[16];
	char hex[33];
	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		fail(failure_code(), "no random numbers: %s", strerror(errno));
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
		fail(failure_code(), "the supervisor's answer makes no sense");
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

/* They come with the answer, unless the supervisor was out of descriptors: then it is asked until it has some. */
static void get_streams(struct conn *c, int64_t id)
{
	for (int tries = 0; c->nfds < 2 && tries < STREAM_TRIES; tries++) {
		json_t *ask = request("logs"), *reply;
		while (c->nfds)
			close(c->fds[--c->nfds]);
		usleep(50000);
		put(ask, "id", json_integer(id));
		conn_send(c, ask, -1);
		while (!(reply = conn_reply(c, -1)) && errno == EINTR)
			if (interrupted())
				exit(EXIT_CANCELLED);
		json_decref(reply);
	}
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
	json_decref(reply);
	get_streams(&c, id);
	struct stream streams[2] = {{.from = conn_take_fd(&c), .to = 1}, {.from = conn_take_fd(&c), .to = 2}};
	send_wait(&c, json_pack("[I]", (json_int_t)id));
	reply = stream_until_reply(&c, streams, id, true);
	reply_check(reply);
	json_t *task = find_task(reply, id);
	int code = exit_code_of(task);
	say_end(task);
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
		usage("for which task?");
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
		json_array_foreach(json_object_get(reply, "tasks"), i, task) say_end(task);
	json_decref(reply);
	conn_close(&c);
	return code;
}

/* All of a file as a JSON string. What is not UTF-8 becomes U+FFFD. */
static json_t *file_as_text(int fd)
{
	char *all = NULL, *clean;
	size_t n = 0, room = 0, k = 0;
	for (;;) {
		if (room - n < 65536)
			all = must(realloc(all, room = room * 2 + 65536));
		ssize_t got = pread(fd, all + n, room - n, (off_t)n);
		if (got < 0)
			fail(failure_code(), "cannot read the task's output: %s", strerror(errno));
		if (got == 0)
			break;
		n += (size_t)got;
	}
	json_t *text = json_stringn(all, n);
	if (!text) {
		/* One at a time: the longest start that is a character, or the mark for one byte. */
		clean = must(malloc(n * 3 + 1));
		for (size_t i = 0; i < n;) {
			size_t len = 1;
			json_t *one = NULL;
			for (; len <= 4 && i + len <= n && !(one = json_stringn(all + i, len)); len++)
				;
			memcpy(clean + k, one ? all + i : "\xef\xbf\xbd", one ? len : 3);
			k += one ? len : 3;
			i += one ? len : 1;
			json_decref(one);
		}
		text = json_stringn(clean, k);
		free(clean);
	}
	free(all);
	return must(text);
}

int verb_logs(int argc, char **argv)
{
	bool follow = false;
	const struct opt opts[] = {{"follow", 'f', OPT_FLAG, &follow}, {NULL, 0, OPT_FLAG, NULL}};
	if (parse_options(argc, argv, opts, false) != 1)
		usage("of which task? One number, please");
	if (follow && cli.json)
		usage("--json does not go with -f");
	int64_t id = parse_id("task", argv[0]);
	struct conn c;
	conn_open(&c);
	json_t *ask = request("logs");
	put(ask, "id", json_integer(id));
	json_t *reply = conn_call(&c, ask, -1);
	struct stream s[2] = {{.from = conn_take_fd(&c), .to = 1}, {.from = conn_take_fd(&c), .to = 2}};
	if (cli.json) {
		put(reply, "id", json_integer(id));
		put(reply, "stdout", file_as_text(s[0].from));
		put(reply, "stderr", file_as_text(s[1].from));
		print_json(reply);
	} else if (follow && !json_is_true(json_object_get(reply, "ended"))) {
		send_wait(&c, json_pack("[I]", (json_int_t)id));
		json_t *end = stream_until_reply(&c, s, id, false);
		reply_check(end);
		json_decref(end);
	} else {
		while (copy_both(s))
			;
	}
	json_decref(reply);
	conn_close(&c);
	return 0;
}
