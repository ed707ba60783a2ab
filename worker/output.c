/*
 * output.c - descriptors 1 and 2 of a task.
 *
 * What a goroutine writes gathers in its worker's buffer in the segment; whole lines go to the
 * task's file in one write when the buffer is full or the goroutine parks, so lines of different
 * goroutines are never torn. A line begun before a park goes along with the goroutine.
 *
 * DEATH  bytes count once len is past them; the medic gives what is there to the file. Of a write
 *        that was under way it looks in the file whether it was made
 */
#include "core/sync.h"
#include "shm/kill.h"
#include "worker/worker.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOOK_BACK (1u << 20) /* so far behind a write that was interrupted others may have written */

struct outpart {
	uint32_t len[2];
	char *text[2];
};

static void write_all(int fd, const char *p, size_t n)
{
	while (n > 0 && fd >= 0) {
		long w = syscall(SYS_write, fd, p, n);

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return; /* no room for output: the task goes on without it */
		p += w;
		n -= (size_t)w;
	}
}

static uint64_t size_of(int fd)
{
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? (uint64_t)st.st_size : UINT64_MAX;
}

static int fd_of(const struct task *t, int stream)
{
	return stream ? t->fd_err : t->fd_out;
}

/* Takes out the first n bytes, which have been written. */
static void consume(struct outbuf *b, uint32_t n)
{
	uint32_t len = atomic_load_explicit(&b->len, memory_order_relaxed);

	memmove(b->buf, b->buf + n, len - n);
	atomic_store_explicit(&b->len, len - n, memory_order_release);
	KILL_POINT("output.consumed");
	b->pending = 0;
}

static void flush_lines(struct task *t, struct outbuf *b, int stream, bool all)
{
	uint32_t len = atomic_load_explicit(&b->len, memory_order_relaxed), n = len;

	if (!all)
		while (n > 0 && b->buf[n - 1] != '\n')
			n--;
	if (n == 0)
		return;
	b->from = size_of(fd_of(t, stream));
	b->pending_len = len;
	atomic_signal_fence(memory_order_seq_cst);
	b->pending = n;
	KILL_POINT("output.write.noted");
	write_all(fd_of(t, stream), b->buf, n);
	KILL_POINT("output.write.done");
	consume(b, n);
}

/* A line that was begun before the goroutine parked comes first. */
static void bring_part(struct g *g, struct outbuf *b, int stream)
{
	struct outpart *part = g->part;
	uint32_t n;

	b->gid = g->gid;
	b->fd = fd_of(g->task, stream);
	if (!part || !(n = part->len[stream]))
		return;
	memcpy(b->buf, part->text[stream], n);
	atomic_store_explicit(&b->len, n, memory_order_release);
	part->len[stream] = 0;
}

void output_append(int stream, const void *data, size_t n)
{
	struct g *g = getg();
	struct outbuf *b = &getm->out[stream];
	const char *p = data;

	if (atomic_load_explicit(&b->len, memory_order_relaxed) == 0)
		bring_part(g, b, stream);
	while (n > 0) {
		uint32_t len = atomic_load_explicit(&b->len, memory_order_relaxed);
		size_t room = OUT_SIZE - len, k = n < room ? n : room;

		memcpy(b->buf + len, p, k);
		KILL_POINT("output.append.copied");
		atomic_store_explicit(&b->len, len + (uint32_t)k, memory_order_release);
		KILL_POINT("output.append.counted");
		p += k;
		n -= k;
		if (len + k == OUT_SIZE) {
			flush_lines(g->task, b, stream, false);
			if (atomic_load_explicit(&b->len, memory_order_relaxed) == OUT_SIZE) /* one endless line */
				flush_lines(g->task, b, stream, true);
		}
	}
}

static void keep_part(struct g *g, struct outbuf *b, int stream)
{
	uint32_t n = atomic_load_explicit(&b->len, memory_order_relaxed);

	if (!g->part) {
		struct outpart *part = g_alloc(g, sizeof *part);

		if (part)
			memset(part, 0, sizeof *part);
		g->part = part;
	}
	if (g->part && !g->part->text[stream])
		g->part->text[stream] = g_alloc(g, OUT_SIZE);
	if (!g->part || !g->part->text[stream]) { /* no memory: better a torn line than a lost one */
		flush_lines(g->task, b, stream, true);
		return;
	}
	memcpy(g->part->text[stream], b->buf, n);
	g->part->len[stream] = n;
	KILL_POINT("output.part.kept");
	atomic_store_explicit(&b->len, 0, memory_order_release);
}

void output_flush(struct g *g, bool all)
{
	for (int stream = 0; stream < 2; stream++) {
		struct outbuf *b = &getm->out[stream];

		if (all && atomic_load_explicit(&b->len, memory_order_relaxed) == 0)
			bring_part(g, b, stream);
		flush_lines(g->task, b, stream, all);
		if (atomic_load_explicit(&b->len, memory_order_relaxed))
			keep_part(g, b, stream);
	}
}

void host_part_left(struct g *g)
{
	struct outpart *part = g->part;

	for (int stream = 0; stream < 2; stream++)
		if (part->len[stream] && part->len[stream] <= OUT_SIZE) {
			write_all(fd_of(g->task, stream), part->text[stream], part->len[stream]);
			part->len[stream] = 0; /* a medic that dies in between writes it twice, not never */
		}
}

/* Whether the write that was under way at a death came to its end: a kill takes effect after it. */
static bool was_written(const struct outbuf *b)
{
	uint64_t size = size_of(b->fd), n;
	bool found = false;
	char *text;

	if (b->pending > b->pending_len || b->from > size || size - b->from < b->pending)
		return false;
	n = size - b->from < LOOK_BACK ? size - b->from : LOOK_BACK;
	if (!(text = malloc(n)))
		return false;
	if (syscall(SYS_pread64, b->fd, text, n, b->from) == (long)n)
		found = memmem(text, n, b->buf, b->pending) != NULL;
	free(text);
	return found;
}

void output_flush_seat(unsigned seat)
{
	for (int stream = 0; stream < 2; stream++) {
		struct outbuf *b = &allm(seat)->out[stream];
		uint32_t n = atomic_load(&b->len), done = 0;

		if (b->pending && b->pending_len == n && n <= OUT_SIZE && was_written(b))
			done = b->pending;
		if (n && n <= OUT_SIZE)
			write_all(b->fd, b->buf + done, n - done);
		atomic_store(&b->len, 0);
		b->pending = 0;
	}
}

/* ---- stdio ---- */

static ssize_t put(int stream, const char *p, size_t n)
{
	if (on_g())
		output_append(stream, p, n);
	else
		write_all(stream + 1, p, n);
	return (ssize_t)n;
}

static ssize_t put_out(void *cookie, const char *p, size_t n)
{
	(void)cookie;
	return put(0, p, n);
}

static ssize_t put_err(void *cookie, const char *p, size_t n)
{
	(void)cookie;
	return put(1, p, n);
}

/* Unbuffered: nothing of a task is ever left in the process. */
void output_start(void)
{
	FILE *out = fopencookie(NULL, "w", (cookie_io_functions_t){.write = put_out});
	FILE *err = fopencookie(NULL, "w", (cookie_io_functions_t){.write = put_err});

	if (!out || !err)
		return;
	setvbuf(out, NULL, _IONBF, 0);
	setvbuf(err, NULL, _IONBF, 0);
	stdout = out;
	stderr = err;
}
