/*
 * control.c - connections of clients: receives requests and sends answers, one JSON object on a line, with
 * descriptors.
 *
 * The request becomes a struct asker, which is answered at once or later. A "tag" in the request comes back in its
 * answer; a client without tags sends one request at a time. No client can block the loop: reads and writes never
 * wait, lines and unsent answers have a limit, and a client that exceeds it is disconnected.
 *
 * OWNER  a connection lives until its peer closes it or an error occurs. An asker may outlive its connection; its
 *        conn is then NULL
 */
#include "shm/kernel.h"
#include "shm/pass.h"
#include "supervisor/daemon/control.h"
#include "supervisor/daemon/failure.h"
#include "supervisor/daemon/main.h"
#include "supervisor/daemon/task/output.h"
#include "supervisor/daemon/task/tasks.h"
#include "supervisor/daemon/verbs.h"
#include "supervisor/daemon/view/views.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LINE_MAX_BYTES (8u << 20)
#define UNSENT_MAX (256ul << 20)
#define CONNS_MAX 8192u
#define ASKERS_MAX 65536u
#define FDS_MAX 16
#define PIECE 65536u
#define ACCEPT_PAUSE_MS 100

struct out {
	struct out *next;
	size_t len, off;
	int fds[4], nfds;
	answer_more *more; /* for a long answer: makes the next piece after data was sent */
	void *arg;
	char data[];
};

struct conn {
	uv_poll_t poll;
	struct conn *next, *prev;
	int fd;
	int watched;  /* events polled for */
	bool closing; /* nothing more is read; closed when everything is sent */
	bool half;    /* the peer has closed its sending side */
	char *in;
	size_t in_len, in_room;
	int fds[FDS_MAX], nfds;
	struct out *out, **out_end;
	size_t unsent;
	struct asker *askers;
	unsigned naskers;
	bool busy; /* its requests are being handled, so it must not be freed */
	bool dead;
};

struct asker {
	struct conn *conn; /* NULL: closed */
	struct asker *next, *prev;
	json_t *tag;
};

static uv_poll_t listening;
static uv_timer_t accept_timer;
static struct conn *conns;
static unsigned nconns;

static void on_conn(uv_poll_t *, int status, int events);
static void on_accept(uv_poll_t *, int status, int events);

/* ---- opening and closing a connection ---- */

static void free_out(struct out *o)
{
	for (int i = 0; i < o->nfds; i++)
		kernel_close(o->fds[i]);
	if (o->more)
		o->more(o->arg, NULL, 0);
	free(o);
}

static void free_conn(uv_handle_t *handle)
{
	struct conn *c = handle->data;

	free(c->in);
	free(c);
}

static void drop_fds(struct conn *c)
{
	while (c->nfds)
		kernel_close(c->fds[--c->nfds]);
}

static void kill_conn(struct conn *c)
{
	if (c->dead)
		return;
	c->dead = true;
	if (c->busy)
		return; /* unbusy calls again */
	for (struct asker *a = c->askers; a; a = a->next)
		a->conn = NULL;
	while (c->out) {
		struct out *o = c->out;

		c->out = o->next;
		free_out(o);
	}
	drop_fds(c);
	if (c->next)
		c->next->prev = c->prev;
	if (c->prev)
		c->prev->next = c->next;
	else
		conns = c->next;
	nconns--;
	uv_poll_stop(&c->poll);
	kernel_close(c->fd);
	c->fd = -1;
	uv_close((uv_handle_t *)&c->poll, free_conn);
	sh_jobs_abandon(c);
	sh_output_detach(c);
	sh_stop_if_done();
}

static void unbusy(struct conn *c)
{
	c->busy = false;
	if (c->dead) {
		c->dead = false;
		kill_conn(c);
	}
}

static void watch(struct conn *c)
{
	/* The kernel reports a peer that has closed both directions, whatever events are polled. */
	int want = (c->out ? UV_WRITABLE : 0) | (c->closing || c->half ? UV_PRIORITIZED : UV_READABLE);

	if (c->half && !c->out && !c->naskers) {
		kill_conn(c);
	} else if (!c->dead && want != c->watched) {
		c->watched = want;
		uv_poll_start(&c->poll, want, on_conn);
	}
}

/* ---- sending ---- */

static ssize_t send_piece(struct conn *c, struct out *o)
{
	ssize_t n = sh_pass_send(c->fd, o->data + o->off, o->len - o->off, o->fds, o->nfds, MSG_DONTWAIT);

	if (n > 0)
		while (o->nfds)
			kernel_close(o->fds[--o->nfds]);
	return n;
}

/* Sends what the socket takes. False if the connection must be closed. */
static bool flush(struct conn *c)
{
	while (c->out) {
		struct out *o = c->out;
		ssize_t n;

		if (o->off == o->len && o->more) {
			o->off = 0;
			o->len = o->more(o->arg, o->data, PIECE);
		}
		if (o->off < o->len) {
			n = send_piece(c, o);
			if (n < 0 && errno == EINTR)
				continue;
			if (n < 0)
				return errno == EAGAIN || errno == ETOOMANYREFS || errno == ENOBUFS;
			o->off += (size_t)n;
			if (!o->more)
				c->unsent -= (size_t)n;
			if (o->off < o->len || o->more)
				continue;
		}
		c->out = o->next;
		if (!c->out)
			c->out_end = &c->out;
		free_out(o);
	}
	return !c->closing;
}

static void queue(struct conn *c, struct out *o)
{
	o->next = NULL;
	*c->out_end = o;
	c->out_end = &o->next;
	if (!o->more)
		c->unsent += o->len;
	if (c->unsent > UNSENT_MAX || !flush(c))
		kill_conn(c);
	else
		watch(c);
}

static void free_asker(struct asker *a)
{
	if (a->next)
		a->next->prev = a->prev;
	if (a->prev)
		a->prev->next = a->next;
	else if (a->conn)
		a->conn->askers = a->next;
	if (a->conn)
		a->conn->naskers--;
	json_decref(a->tag);
	free(a);
}

void sh_answer(struct asker *a, json_t *reply, const int *fds, int nfds)
{
	struct conn *c = a->conn;
	struct out *o;
	size_t len;

	if (c && reply && !c->dead) {
		if (a->tag)
			json_object_set(reply, "tag", a->tag);
		len = json_dumpb(reply, NULL, 0, JSON_COMPACT);
		o = malloc(sizeof *o + len + 1);
		if (!o)
			abort();
		memset(o, 0, sizeof *o);
		o->len = json_dumpb(reply, o->data, len, JSON_COMPACT);
		o->data[o->len++] = '\n';
		for (int i = 0; i < nfds; i++) {
			o->fds[o->nfds] = kernel_fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
			o->nfds += o->fds[o->nfds] >= 0;
		}
		free_asker(a);
		queue(c, o);
	} else {
		free_asker(a);
	}
	json_decref(reply);
}

void sh_answer_error(struct asker *a, int code, const char *detail, const char *fmt, ...)
{
	char text[600];
	json_t *reply;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	reply = json_pack("{s:o, s:i}", "error", sh_view_string(text, sizeof text), "code", code);
	if (detail)
		json_object_set_new(reply, "detail", sh_view_string(detail, strlen(detail)));
	sh_answer(a, reply, NULL, 0);
}

void sh_answer_stream(struct asker *a, answer_more *more, void *arg)
{
	struct conn *c = a->conn;
	struct out *o;

	free_asker(a);
	if (!c || c->dead) {
		more(arg, NULL, 0);
		return;
	}
	o = calloc(1, sizeof *o + PIECE);
	if (!o)
		abort();
	o->more = more;
	o->arg = arg;
	queue(c, o);
}

bool sh_ask_closed(const struct asker *a)
{
	return !a->conn || a->conn->dead;
}

const void *sh_ask_conn(const struct asker *a)
{
	return a->conn;
}

json_t *sh_ask_tag(const struct asker *a)
{
	return a->tag;
}

int sh_ask_take_fd(struct asker *a)
{
	struct conn *c = a->conn;
	int fd;

	if (!c || !c->nfds)
		return -1;
	fd = c->fds[0];
	memmove(c->fds, c->fds + 1, (size_t)--c->nfds * sizeof *c->fds);
	return fd;
}

/* ---- receiving ---- */

static struct asker *new_asker(struct conn *c)
{
	struct asker *a = calloc(1, sizeof *a);

	if (!a)
		abort();
	a->conn = c;
	a->next = c->askers;
	if (a->next)
		a->next->prev = a;
	c->askers = a;
	c->naskers++;
	return a;
}

/* Answers with an error and closes the connection after it. */
static void close_with_error(struct conn *c, int code, const char *why)
{
	struct asker *a = new_asker(c);

	c->closing = true;
	sh_answer_error(a, code, NULL, "%s", why);
	watch(c);
}

static void on_line(struct conn *c, const char *line, size_t n)
{
	json_error_t error;
	json_t *request = json_loadb(line, n, JSON_REJECT_DUPLICATES, &error), *tag;
	struct asker *a;

	if (!json_is_object(request)) {
		json_decref(request);
		close_with_error(c, CODE_USAGE,
				 request ? "a request must be a JSON object" : "the line is not valid JSON");
		return;
	}
	if (c->naskers >= ASKERS_MAX) {
		json_decref(request);
		close_with_error(c, CODE_FAILED, "too many requests at once");
		return;
	}
	a = new_asker(c);
	tag = json_object_get(request, "tag");
	a->tag = tag ? json_incref(tag) : NULL;
	sh_verb(a, request);
	json_decref(request);
}

static void on_bytes(struct conn *c)
{
	size_t start = 0;
	char *end;

	c->busy = true;
	while (!c->closing && !c->dead && (end = memchr(c->in + start, '\n', c->in_len - start)) != NULL) {
		size_t at = start;

		start = (size_t)(end - c->in) + 1;
		if (end > c->in + at)
			on_line(c, c->in + at, (size_t)(end - c->in) - at);
	}
	memmove(c->in, c->in + start, c->in_len - start);
	c->in_len -= start;
	if (!c->in_len)
		drop_fds(c);
	if (!c->in_len && c->in_room > PIECE) {
		free(c->in);
		c->in = NULL;
		c->in_room = 0;
	}
	if (c->in_len >= LINE_MAX_BYTES && !c->closing && !c->dead)
		close_with_error(c, CODE_USAGE, "the line is too long");
	if (c->closing && !c->out)
		c->dead = true;
	unbusy(c);
}

/* Returns 1 if bytes came, 0 if none are there now, -1 if none will ever come. */
static int read_some(struct conn *c)
{
	int nfds;
	ssize_t n;

	if (c->in_room - c->in_len < 4096) {
		size_t room = c->in_room ? c->in_room * 2 : 8192;
		char *more = realloc(c->in, room);

		if (!more)
			return -1;
		c->in = more;
		c->in_room = room;
	}
	n = sh_pass_receive(c->fd, c->in + c->in_len, c->in_room - c->in_len, c->fds + c->nfds, FDS_MAX - c->nfds,
			    &nfds, MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN ? 0 : -1;
	c->nfds += nfds;
	c->in_len += (size_t)n;
	return n > 0 ? 1 : -1;
}

static bool peer_gone(int fd)
{
	struct pollfd p = {fd, 0, 0};

	return kernel_poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR | POLLNVAL));
}

static void on_conn(uv_poll_t *handle, int status, int events)
{
	struct conn *c = handle->data;
	int got = 0;

	if (c->dead)
		return;
	if (status < 0 || (c->out && !flush(c))) {
		kill_conn(c);
		return;
	}
	if (!c->half && !c->closing && events & (UV_READABLE | UV_DISCONNECT)) {
		got = read_some(c);
		if (got > 0) {
			on_bytes(c);
			if (c->fd < 0)
				return;
		}
	}
	if (got < 0)
		c->half = true; /* the peer may still read */
	if ((got < 0 || c->half || c->closing) && peer_gone(c->fd))
		kill_conn(c);
	else
		watch(c);
}

/* ---- the listening socket ---- */

static bool permitted(int fd)
{
	struct ucred peer;
	socklen_t n = sizeof peer;

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0 && (peer.uid == geteuid() || peer.uid == 0);
}

static void new_conn(int fd)
{
	struct conn *c = calloc(1, sizeof *c);

	if (!c)
		abort();
	c->fd = fd;
	c->out_end = &c->out;
	c->poll.data = c;
	if (uv_poll_init(sh_loop, &c->poll, fd) < 0) {
		kernel_close(fd);
		free(c);
		return;
	}
	c->next = conns;
	if (c->next)
		c->next->prev = c;
	conns = c;
	nconns++;
	sh_control_used = true;
	watch(c);
	if (!permitted(fd)) {
		c->busy = true;
		close_with_error(c, CODE_DENIED, "not permitted");
		if (!c->out)
			c->dead = true;
		unbusy(c);
	}
}

static void accept_again(uv_timer_t *timer)
{
	(void)timer;
	uv_poll_start(&listening, UV_READABLE, on_accept);
}

static void on_accept(uv_poll_t *handle, int status, int events)
{
	int fd, fd_listen;

	(void)events;
	if (status < 0 || uv_fileno((uv_handle_t *)handle, &fd_listen) < 0)
		return;
	for (unsigned n = 0; n < 64; n++) {
		fd = kernel_accept4(fd_listen, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0)
			break;
		if (nconns >= CONNS_MAX)
			kernel_close(fd);
		else
			new_conn(fd);
	}
	if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)) {
		uv_poll_stop(&listening); /* otherwise the loop would spin, because the socket stays readable */
		uv_timer_start(&accept_timer, accept_again, ACCEPT_PAUSE_MS, 0);
	}
}

int sh_control_start(int listener)
{
	int err = uv_poll_init(sh_loop, &listening, listener);

	if (err)
		return err;
	uv_timer_init(sh_loop, &accept_timer);
	return uv_poll_start(&listening, UV_READABLE, on_accept);
}

bool sh_control_used;

unsigned sh_control_conns(void)
{
	return nconns;
}

void sh_control_stop(void)
{
	for (struct conn *c = conns; c; c = c->next)
		if (!c->dead)
			flush(c);
}
