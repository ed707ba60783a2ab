/* daemon.c - see daemon.h. */
#include "tests/unit/daemon.h"
#include "core/g/g.h"
#include "core/host.h"
#include "core/root.h"
#include "shm/pass.h"
#include "shm/segment.h"
#include "supervisor/daemon/control.h"
#include "supervisor/daemon/fleet.h"
#include "supervisor/daemon/log.h"
#include "supervisor/daemon/main.h"
#include "supervisor/daemon/procs.h"
#include "supervisor/daemon/task/output.h"
#include "supervisor/daemon/task/pool.h"
#include "supervisor/daemon/verbs.h"
#include "supervisor/daemon/view/dump.h"
#include "supervisor/daemon/view/life.h"
#include "supervisor/daemon/view/ps.h"
#include "supervisor/daemon/view/views.h"
#include "supervisor/keeper/keeper.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct fake fake;
uv_loop_t *sh_loop;
int sh_stopping;

/* ---- stand-ins ---- */

struct job *sh_job_find(uint64_t id)
{
	return id - 1 < fake.njobs ? fake.job[id - 1] : NULL;
}

bool sh_job_ended(const struct job *j)
{
	return fake.ended[j->id - 1];
}

struct job *sh_job_by_key(const char *key)
{
	for (unsigned i = 0; i < fake.njobs; i++)
		if (!strcmp(fake.job[i]->key, key))
			return fake.job[i];
	return NULL;
}

void sh_job_answer(struct job *j, struct asker *a)
{
	sh_answer(a, json_pack("{s:b,s:I}", "ok", 1, "id", (json_int_t)j->id), NULL, 0);
}

static void free_job(struct job *j)
{
	if (j->cwd >= 0)
		close(j->cwd);
	free(j->args);
	free(j);
}

void sh_job_submit(struct job *j, const char *module)
{
	cr_assert_lt(fake.njobs, FAKE_JOBS);
	snprintf(fake.module, sizeof fake.module, "%s", module);
	fake.job[fake.njobs++] = j;
	j->id = fake.njobs;
	sh_job_answer(j, j->asker);
}

void sh_job_refuse(struct job *j, const struct failure *why)
{
	sh_answer_error(j->asker, why->code, why->detail, "%s", why->text);
	free_job(j);
}

void sh_job_cancel(struct job *j, unsigned how)
{
	(void)j;
	fake.cancels++;
	fake.now += (how & ASKED_NOW) != 0;
}

bool sh_job_own(struct job *j, const void *owner)
{
	j->owner = owner;
	return j->run;
}

void sh_jobs_abandon(const void *owner)
{
	(void)owner;
	fake.abandoned++;
}

json_t *sh_view_task(const struct job *j)
{
	return json_pack("{s:I}", "id", (json_int_t)j->id);
}

json_t *sh_view_tasks(bool all)
{
	return json_pack("{s:b}", "all", all);
}

json_t *sh_view_workers(void)
{
	return json_object();
}

json_t *sh_view_stats(void)
{
	return json_object();
}

json_t *sh_view_info(void)
{
	return json_object();
}

json_t *sh_view_crashes(int64_t id)
{
	return json_pack("{s:[],s:I}", "crashes", "id", (json_int_t)id);
}

json_t *sh_view_life(uint64_t gid)
{
	return gid == 1 ? json_object() : NULL;
}

json_t *sh_view_string(const char *at, size_t max)
{
	return json_stringn(at, strnlen(at, max));
}

size_t sh_view_sched(char *buf, size_t n)
{
	return (size_t)snprintf(buf, n, "SCHED");
}

void sh_view_name(char name[32], const char *from)
{
	snprintf(name, 32, "%s", from);
}

uint64_t sh_view_task_of(const struct g *g)
{
	(void)g;
	return 0;
}

static size_t more_bytes(void *arg, char *buf, size_t n)
{
	size_t left = fake.stream_bytes - fake.stream_sent, k = left < n ? left : n;

	cr_assert_eq(arg, &fake);
	if (!buf) {
		fake.streams_freed++;
		return 0;
	}
	memset(buf, 'x', k);
	fake.stream_sent += k;
	return k;
}

void sh_view_ps(struct asker *a, int64_t task)
{
	(void)task;
	sh_answer_stream(a, more_bytes, &fake);
}

void sh_dump(struct asker *a, uint64_t gid)
{
	sh_answer(a, json_pack("{s:I}", "gid", (json_int_t)gid), NULL, 0);
}

void sh_procs(struct asker *a, uint32_t n)
{
	sh_answer(a, json_pack("{s:I}", "procs", (json_int_t)n), NULL, 0);
}

void sh_fleet_renew(struct asker *a, unsigned only)
{
	sh_answer(a, json_pack("{s:i}", "worker", (int)only), NULL, 0);
}

unsigned sh_fleet_seats(void)
{
	return 4;
}

void sh_fleet_watch(pid_t pid, child_done *done, void *arg)
{
	fake.child.pid = pid;
	fake.child.done = done;
	fake.child.arg = arg;
}

void sh_stop(bool now)
{
	fake.stops++;
	fake.now += now;
}

void sh_stop_if_done(void)
{
}

void sh_log(const char *fmt, ...)
{
	(void)fmt;
}

struct g *g_find(uint64_t gid, bool *ended)
{
	(void)gid;
	*ended = false;
	return NULL;
}

int64_t host_now(void)
{
	return (int64_t)sh_now();
}

int sh_output_open(struct job *j)
{
	(void)j;
	return 0;
}

uint64_t sh_output_dropped(const struct job *j, int stream)
{
	(void)j;
	return (uint64_t)stream + 1;
}

uint64_t sh_output_moved(const struct job *j, int stream)
{
	(void)j;
	return (uint64_t)stream + 3;
}

uint64_t sh_output_size(const struct job *j, int stream)
{
	(void)j;
	return (uint64_t)stream + 5;
}

int sh_output_reader(const struct job *j, int stream)
{
	(void)j;
	(void)stream;
	return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

int sh_output_files(const struct job *j, json_t *reply, int fds[4])
{
	(void)j;
	(void)reply;
	(void)fds;
	return 2;
}

void sh_output_read(struct job *j, const void *conn, uint64_t at[2])
{
	(void)j;
	(void)conn;
	(void)at;
}

void sh_output_read_briefly(struct job *j, const void *conn)
{
	(void)j;
	(void)conn;
}

void sh_output_detach(const void *conn)
{
	(void)conn;
}

int sh_file_reader(int fd)
{
	return fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

void sh_pool_outdated(struct module *m)
{
	(void)m;
	fake.outdated++;
}

void sh_pool_adopt(void)
{
}

void sh_keeper_keep(enum keeper_op op, uint64_t id, uint32_t mask, const int *fds)
{
	(void)op;
	(void)id;
	(void)mask;
	(void)fds;
}

/* ---- the loop and the client ---- */

static struct sockaddr_un address = {.sun_family = AF_UNIX};
static int listener, client = -1;
static char *in;
static size_t in_len, in_room;

void daemon_begin(void)
{
	cr_assert_geq(sh_segment_create(64ul << 20), 0);
	cr_assert_geq(sh_ledger_create(), 0);
	sh_loop = uv_default_loop();
	snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "shoal-unit-%d", (int)getpid());
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
	cr_assert_eq(listen(listener, 8), 0);
	cr_assert_eq(sh_control_start(listener), 0);
}

void daemon_end(void)
{
	client_close();
	daemon_run();
	for (unsigned i = 0; i < fake.njobs; i++)
		free_job(fake.job[i]);
	free(in);
	in = NULL;
}

void client_connect(void)
{
	client = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	in_len = 0;
	cr_assert_eq(connect(client, (struct sockaddr *)&address, sizeof address), 0);
}

void client_close(void)
{
	if (client >= 0) {
		shutdown(client, SHUT_RDWR); /* a child of the daemon may have a copy of the descriptor */
		close(client);
	}
	client = -1;
}

void client_shut(void)
{
	cr_assert_eq(shutdown(client, SHUT_WR), 0);
}

void daemon_run(void)
{
	for (unsigned i = 0; i < 4; i++)
		uv_run(sh_loop, UV_RUN_NOWAIT);
}

void client_send(const void *bytes, size_t n)
{
	for (size_t at = 0; at < n;) {
		ssize_t k = send(client, (const char *)bytes + at, n - at, MSG_NOSIGNAL);

		if (k < 0 && errno == EPIPE)
			return;
		cr_assert(k > 0 || errno == EAGAIN, "%s", strerror(errno));
		at += k > 0 ? (size_t)k : 0;
		daemon_run();
	}
}

void client_send_fd(const char *line, int fd)
{
	cr_assert_eq(sh_pass_send(client, line, strlen(line), &fd, 1, 0), (ssize_t)strlen(line));
	daemon_run();
}

/* Returns false at the end of the connection. Runs the loop until there is something. */
static bool read_more(int *fd)
{
	for (;;) {
		int fds[4], nfds = 0;
		ssize_t n;

		if (in_room - in_len < 65536) {
			in_room = in_room * 2 + 65536;
			in = realloc(in, in_room);
			cr_assert_not_null(in);
		}
		n = sh_pass_receive(client, in + in_len, in_room - in_len, fds, 4, &nfds, MSG_DONTWAIT);
		for (int i = 0; n >= 0 && i < nfds; i++) {
			if (i == 0 && fd)
				*fd = fds[i];
			else
				close(fds[i]);
		}
		if (n == 0 || (n < 0 && errno == ECONNRESET))
			return false;
		if (n > 0) {
			in_len += (size_t)n;
			return true;
		}
		cr_assert_eq(errno, EAGAIN);
		uv_run(sh_loop, UV_RUN_NOWAIT);
	}
}

json_t *client_reply(int *fd)
{
	json_t *reply;
	char *end;

	if (fd)
		*fd = -1;
	while (!(end = in_len ? memchr(in, '\n', in_len) : NULL))
		if (!read_more(fd)) {
			cr_expect_eq(in_len, 0, "the last line has no end: %.*s", (int)in_len, in);
			return NULL;
		}
	reply = json_loadb(in, (size_t)(end - in), JSON_REJECT_DUPLICATES, NULL);
	cr_assert_not_null(reply, "not JSON: %.*s", (int)(end - in), in);
	in_len -= (size_t)(end + 1 - in);
	memmove(in, end + 1, in_len);
	return reply;
}

size_t client_read_all(void)
{
	while (read_more(NULL))
		;
	return in_len;
}

json_t *ask(const char *fmt, ...)
{
	char line[8192];
	json_t *reply;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof line - 1, fmt, ap);
	va_end(ap);
	cr_assert(n > 0 && (size_t)n < sizeof line - 1);
	line[n] = '\n';
	client_send(line, (size_t)n + 1);
	reply = client_reply(NULL);
	cr_assert_not_null(reply, "no answer to %.200s", line);
	return reply;
}

void expect_refused(const char *request, int code, const char *words)
{
	json_t *reply = ask("%s", request);
	const char *error = json_string_value(json_object_get(reply, "error"));

	cr_expect_eq(json_integer_value(json_object_get(reply, "code")), code, "%.200s: code %d", request,
		     (int)json_integer_value(json_object_get(reply, "code")));
	cr_expect(error && strstr(error, words), "%.200s: '%s', should contain '%s'", request, error ? error : "",
		  words);
	json_decref(reply);
}
