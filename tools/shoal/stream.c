/*
 * stream.c - copies a task's output to stdout and stderr, byte for byte.
 *
 * The supervisor keeps the output in two files. It may drop the beginning of a file; a dropped byte reads as NUL.
 * So each piece is read first, and written only if it was certainly not dropped before the read:
 *   - an attached reader (run, logs -f) reports its position to the supervisor, and nothing behind that position is
 *     dropped while the connection lasts. If the connection breaks, the next supervisor waits at least
 *     RECONNECT_MS for the reader;
 *   - any other reader asks after each piece how much was dropped.
 */
#include "tools/shoal/stream.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PIECE (256u << 10)
#define REPORT_AFTER (256 << 10) /* bytes that are read before they are reported, if there are more */
#define PIECES 16		 /* pieces that are copied before the connection is checked again */
#define RECONNECT_MS 5000	 /* half of the time that the supervisor waits (adopt.c) */

void (*streams_interrupted)(void);

static int64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- writing to stdout and stderr ---- */

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
		if (n && streams_interrupted)
			streams_interrupted();
	}
}

static void say_dropped(off_t bytes)
{
	static const char *const unit[] = {"bytes", "kB", "MB", "GB", "TB"};
	double n = (double)bytes;
	size_t i = 0;

	for (; n >= 1000 && i + 1 < sizeof unit / sizeof *unit; i++)
		n /= 1000;
	flush_stdout();
	dprintf(2, "[%.*f %s dropped]\n", i && n < 10, n, unit[i]);
}

/* Skips the bytes before `to`, which were dropped. */
static void skip_to(struct stream *s, off_t to)
{
	if (to <= s->at)
		return;
	say_dropped(to - s->at);
	s->at = to;
}

static off_t position_in(json_t *reply, const char *key, int which, off_t otherwise)
{
	json_t *n = json_array_get(json_object_get(reply, key), (size_t)which);
	return json_is_integer(n) ? (off_t)json_integer_value(n) : otherwise;
}

/* ---- requests to the supervisor ---- */

static bool connected(struct streams *t)
{
	struct pollfd p = {.fd = t->conn->fd, .events = POLLRDHUP};
	if (poll(&p, 1, 0) < 0 || p.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL))
		return false;
	t->connected_ms = now_ms();
	return true;
}

static void report_position(struct streams *t)
{
	json_t *ask = request("read");
	put(ask, "id", json_integer(t->id));
	put(ask, "at", must(json_pack("[I,I]", (json_int_t)t->s[0].at, (json_int_t)t->s[1].at)));
	conn_send(t->conn, ask, -1);
	t->s[0].reported = t->s[0].at;
	t->s[1].reported = t->s[1].at;
}

static void report_progress(struct streams *t, off_t after)
{
	if (t->attached && t->s[0].at - t->s[0].reported + t->s[1].at - t->s[1].reported >= after)
		report_position(t);
}

static void take_descriptors(struct streams *t, json_t *reply)
{
	static const char *const key[2] = {"file_out", "file_err"};
	for (int i = 0; i < 2; i++) {
		struct stream *s = &t->s[i];
		if (s->from >= 0)
			close(s->from);
		s->from = conn_take_fd(t->conn);
		s->moved = 0;
	}
	for (int i = 0; i < 2; i++) {
		struct stream *s = &t->s[i];
		if (s->file >= 0)
			close(s->file);
		s->file = json_is_true(json_object_get(reply, key[i])) ? conn_take_fd(t->conn) : -1;
		if (s->file >= 0)
			s->moved = position_in(reply, "moved", i, 0);
	}
}

/* Called when bytes were moved to a file since the last answer: gets descriptors again. */
static void get_descriptors(struct streams *t)
{
	json_t *ask = request("logs");
	put(ask, "id", json_integer(t->id));
	json_t *reply = conn_call(t->conn, ask, -1);
	take_descriptors(t, reply);
	for (int i = 0; i < 2; i++)
		skip_to(&t->s[i], position_in(reply, "from", i, 0));
	json_decref(reply);
}

enum verdict { PIECE_VALID, PIECE_MOVED, PIECE_UNKNOWN };

/* Called after the piece at s->at was read: returns whether it is the task's bytes. Skips bytes that were dropped. */
static enum verdict check_piece(struct streams *t, int which)
{
	struct stream *s = &t->s[which];
	if (s->at < s->moved) /* bytes in a file do not change */
		return PIECE_VALID;
	if (t->attached)
		return connected(t) || now_ms() - t->connected_ms < RECONNECT_MS ? PIECE_VALID : PIECE_UNKNOWN;
	json_t *ask = request("read");
	put(ask, "id", json_integer(t->id));
	json_t *reply = conn_call(t->conn, ask, -1);
	off_t dropped = position_in(reply, "dropped", which, 0), moved = position_in(reply, "moved", which, 0);
	json_decref(reply);
	if (moved > s->at && moved > dropped) { /* it was moved to a file */
		get_descriptors(t);
		return PIECE_MOVED;
	}
	skip_to(s, dropped);
	return PIECE_VALID;
}

/* ---- copying ---- */

/* Reads the next bytes and returns their number, or 0 if there are none. *from points to them. */
static size_t read_piece(struct streams *t, int which, char *buf, size_t room, char **from)
{
	struct stream *s = &t->s[which];
	for (;;) {
		off_t at = s->at, end = at < s->moved ? s->moved : s->end;
		size_t want = end >= 0 && end - at < (off_t)room ? (size_t)(end - at) : room;
		ssize_t n = want ? pread(at < s->moved ? s->file : s->from, buf, want, at) : 0;
		if (n < 0 && errno != EINTR)
			fail(failure_code(), "cannot read the task's output: %s", strerror(errno));
		if (n <= 0)
			return 0;
		enum verdict v = check_piece(t, which);
		if (v == PIECE_UNKNOWN)
			return 0;
		/* the piece was moved or dropped: read at the new position */
		if (v == PIECE_MOVED || s->at >= at + n)
			continue;
		*from = buf + (s->at - at);
		n -= s->at - at;
		s->at += n;
		return (size_t)n;
	}
}

static bool copy_new(struct streams *t, int which)
{
	static char buf[PIECE];
	char *from;
	size_t n = read_piece(t, which, buf, sizeof(buf), &from);
	if (n)
		write_out(&t->s[which], from, n);
	return n > 0;
}

bool streams_copy(struct streams *t)
{
	for (int i = 0; i < PIECES; i++) {
		bool out = copy_new(t, 0), err = copy_new(t, 1);
		report_progress(t, out || err ? REPORT_AFTER : 1);
		if (!out && !err)
			return false;
	}
	return true;
}

void streams_rest(struct streams *t)
{
	while (streams_copy(t))
		;
}

void streams_begin(struct streams *t, struct conn *c, json_t *reply, int64_t id, bool attached)
{
	*t = (struct streams){.conn = c, .id = id, .attached = attached, .connected_ms = now_ms()};
	for (int i = 0; i < 2; i++)
		t->s[i] = (struct stream){.from = -1, .file = -1, .to = i + 1, .end = -1};
	take_descriptors(t, reply);
	for (int i = 0; i < 2; i++) {
		skip_to(&t->s[i], position_in(reply, "from", i, 0));
		if (!attached)
			t->s[i].end = position_in(reply, "to", i, 0);
		t->s[i].reported = t->s[i].at;
	}
}

bool streams_attach(struct streams *t)
{
	json_t *ask = request("logs"), *reply;
	put(ask, "id", json_integer(t->id));
	put(ask, "follow", json_true());
	put(ask, "at", must(json_pack("[I,I]", (json_int_t)t->s[0].at, (json_int_t)t->s[1].at)));
	conn_send(t->conn, ask, -1);
	while (!(reply = conn_reply(t->conn, -1)) && errno == EINTR)
		if (streams_interrupted)
			streams_interrupted();
	if (!reply && errno == EPIPE)
		return false;
	if (!reply)
		fail(failure_code(), "the supervisor sent an invalid answer");
	reply_check(reply);
	take_descriptors(t, reply);
	for (int i = 0; i < 2; i++) {
		skip_to(&t->s[i], position_in(reply, "from", i, 0));
		t->s[i].reported = t->s[i].at;
	}
	json_decref(reply);
	t->connected_ms = now_ms();
	return true;
}

/* ---- as JSON ---- */

static json_t *clean_text(const char *all, size_t n)
{
	json_t *text = json_stringn(all ? all : "", n);
	char *clean;
	size_t k = 0;

	if (text)
		return text;
	/* Copies character by character; a byte that does not begin a valid character becomes U+FFFD. */
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
	return must(text);
}

json_t *stream_text(struct streams *t, int which)
{
	char *all = NULL, *from;
	size_t n = 0, room = 0, got;
	for (;;) {
		if (room - n < PIECE)
			all = must(realloc(all, room = room * 2 + PIECE));
		got = read_piece(t, which, all + n, room - n, &from);
		if (!got)
			break;
		memmove(all + n, from, got);
		n += got;
	}
	json_t *text = clean_text(all, n);
	free(all);
	return text;
}
