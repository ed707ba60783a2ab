/*
 * output.c - descriptors 1 and 2 of a task.
 *
 * The bytes that a goroutine writes are collected in a buffer of its worker, in the segment. Whole lines go
 * to the task's file in one write when the buffer is full or the goroutine parks. An unfinished line moves
 * with the goroutine when it parks. Therefore:
 *  - lines of up to OUT_SIZE bytes of different goroutines are never mixed,
 *  - bytes counted in `held` are in the file exactly once, despite any death. (If the task has redirected its
 *    output to something other than a file, such as a pipe, the piece being written may come twice.)
 *  - if a goroutine dies in the middle of a line, the file has the part that it wrote.
 * Output that is not a file gets each line at once, from the goroutine's own stack. The write may block until
 * a reader reads, as any system call; the goroutine is pinned meanwhile, because it holds libc's lock of the
 * stream, which belongs to the process.
 *
 * LOCK   out[].lock of the task, during each write to its file. So no other write follows one that a death
 *        cut short, and it can be completed
 * DEATH  see struct task_out: host_output_repair completes the write, then host_output_finish writes what is
 *        left in the buffer, before the goroutine runs again
 */
#include "core/sync/waitq.h"
#include "shm/check.h"
#include "shm/kill.h"
#include "shm/syscall.h"
#include "worker/output.h"
#include "worker/output_room.h"
#include "worker/posix/posix.h"
#include "worker/worker.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define LOOK_BACK (1u << 20) /* at most this many bytes of other programs may follow an interrupted write */

/* The unfinished line of each stream. len is stored last. */
struct outpart {
	_Atomic uint64_t len[2];
	char *text[2];
};

/* ---- the file ---- */

/* The size of a regular file; UINT64_MAX if the descriptor is not one. */
static uint64_t size_of(int fd)
{
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? (uint64_t)st.st_size : UINT64_MAX;
}

/* Writes both pieces, without the first `done` bytes. wait: parks until a reader reads. Returns 0 or errno. */
static int write_rest(const struct task_out *o, size_t done, bool wait)
{
	struct iovec v[2] = {{(void *)o->piece[0], o->len[0]}, {(void *)o->piece[1], o->len[1]}};
	size_t n = v[0].iov_len + v[1].iov_len;

	while (done < n && o->fd >= 0) {
		struct iovec w[2] = {v[0], v[1]};
		size_t first = done < w[0].iov_len ? done : w[0].iov_len;
		long r;

		w[0].iov_base = (char *)w[0].iov_base + first;
		w[0].iov_len -= first;
		w[1].iov_base = (char *)w[1].iov_base + (done - first);
		w[1].iov_len -= done - first;
		r = wait ? BLOCKING(SYS_writev, o->fd, w, 2) : syscall(SYS_writev, o->fd, w, 2);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return r < 0 ? errno : EIO;
		done += (size_t)r;
	}
	return 0;
}

/* Commits a finished write: one store removes its bytes from what is left to write. */
static void finish(struct task_out *o)
{
	atomic_store_explicit(o->left, o->then, memory_order_release);
	KILL_POINT("output.consumed");
	atomic_store_explicit(&o->n, 0, memory_order_release);
	KILL_POINT("output.finished");
}

/* How many of the noted bytes the dead worker has written: a kill can end a write between two pages. */
static size_t written(const struct task_out *o, size_t n)
{
	uint64_t size = size_of(o->fd), there;
	size_t same = 0, got;
	char *text, *want;
	bool found;

	if (size == UINT64_MAX || size <= o->from)
		return 0;
	there = size - o->from < LOOK_BACK ? size - o->from : LOOK_BACK;
	if (!(text = malloc(there + n)))
		return 0;
	want = text + there;
	memcpy(want, o->piece[0], o->len[0]);
	memcpy(want + o->len[0], o->piece[1], o->len[1]);
	if (syscall(SYS_pread64, o->fd, text, there, o->from) != (long)there)
		there = 0;
	got = there < n ? there : n;
	while (same < got && text[same] == want[same])
		same++;
	/* If they are not at `from`, a program of the task or the supervisor has written there first: search. */
	found = same == got || memmem(text, there, want, n);
	free(text);
	return same == got ? same : found ? n : 0;
}

static bool sound(const struct task_out *o)
{
	return sh_shared(o->left) && o->len[0] <= OUT_SIZE && o->len[1] <= OUT_SIZE &&
	       (!o->len[0] || sh_shared(o->piece[0])) && (!o->len[1] || sh_shared(o->piece[1])) &&
	       (size_t)o->len[0] + o->len[1] == atomic_load(&o->n);
}

/* Holds: its lock, in a dead seat's name. */
void host_output_repair(struct sh_lock *l)
{
	struct task_out *o = (struct task_out *)l;
	uint32_t n = atomic_load(&o->n);

	if (!n || !sound(o))
		return;
	write_rest(o, written(o, n), false);
	KILL_POINT("output.repair.written");
	finish(o);
}

bool output_dying;
static bool waits; /* the goroutine here is in a blocking write: the buffer is its own and must not change */

/* Blocks until a reader reads. The goroutine is pinned, so buffer and the lock of libc stay on this worker. */
static int write_waiting(const struct task_out *what)
{
	struct g *g = getg();
	int err;

	pin(g);
	waits = true;
	err = write_rest(what, 0, true);
	waits = false;
	if (g->locked > 1)
		g->locked--;
	else
		unpin(g);
	return err;
}

/* Output that is not a file. Only a goroutine on its own stack may wait for a reader. */
static void write_elsewhere(struct task_out *o, const struct task_out *what)
{
	struct pollfd p = {.fd = what->fd, .events = POLLOUT};
	struct g *g = on_g();
	int err = EAGAIN;

	if (syscall(SYS_ppoll, &p, 1, &(struct timespec){0, 0}, NULL, 0) == 1)
		err = write_rest(what, 0, false);
	else if (g && !output_dying && getm->locks == 0 && !g_cancelled(g) && (g->locked || pin_room()))
		err = write_waiting(what);
	atomic_store_explicit(what->left, what->then, memory_order_release);
	KILL_POINT("output.piped");
	if (err)
		atomic_store_explicit(&o->error, err, memory_order_relaxed);
}

/*
 * Writes n bytes, in one or two pieces, then stores `then` in *left, the count of bytes still to be written.
 * A regular file is written under the lock; other output may block and is written without it.
 */
static void write_out(struct task *t, int stream, struct task_out what)
{
	struct task_out *o = &t->out[stream];
	unsigned seat = (unsigned)getm->seat;
	int err;

	acquirem();
	sh_lock_take(&o->lock, seat);
	o->fd = what.fd = stream ? t->fd_err : t->fd_out;
	o->from = size_of(o->fd);
	if (o->from == UINT64_MAX) {
		sh_lock_drop(&o->lock, seat);
		releasem();
		write_elsewhere(o, &what);
		return;
	}
	memcpy(o->piece, what.piece, sizeof o->piece);
	memcpy(o->len, what.len, sizeof o->len);
	o->left = what.left;
	o->then = what.then;
	KILL_POINT("output.write.described");
	atomic_store_explicit(&o->n, what.len[0] + what.len[1], memory_order_release);
	KILL_POINT("output.write.noted");
	err = write_rest(o, 0, false);
	KILL_POINT("output.write.done");
	if (!err)
		room_written(&o->room, o->from + what.len[0] + what.len[1]);
	if (err) /* the bytes are dropped; the task's next write fails with this error */
		atomic_store_explicit(&o->error, err, memory_order_relaxed);
	finish(o);
	sh_lock_drop(&o->lock, seat);
	releasem();
}

/* ---- the buffer: a ring ---- */

static uint32_t first_of(const struct outbuf *b)
{
	return (uint32_t)atomic_load_explicit(&b->held, memory_order_relaxed);
}

static uint32_t count_of(const struct outbuf *b)
{
	return (uint32_t)(atomic_load_explicit(&b->held, memory_order_relaxed) >> 32);
}

static uint64_t held(uint32_t first, uint32_t n)
{
	return n ? (uint64_t)n << 32 | first % OUT_SIZE : 0;
}

/* The number of bytes from `at` to the end of the ring, at most n. */
static uint32_t straight(uint32_t at, uint32_t n)
{
	return n < OUT_SIZE - at % OUT_SIZE ? n : OUT_SIZE - at % OUT_SIZE;
}

static void copy_out(const struct outbuf *b, char *to, uint32_t n)
{
	uint32_t at = first_of(b), k = straight(at, n);

	memcpy(to, b->buf + at, k);
	memcpy(to + k, b->buf, n - k);
}

static void flush_lines(struct task *t, struct outbuf *b, int stream, bool all)
{
	uint32_t at = first_of(b), len = count_of(b), n = len, k;

	if (!all)
		while (n > 0 && b->buf[(at + n - 1) % OUT_SIZE] != '\n')
			n--;
	if (n == 0)
		return;
	k = straight(at, n);
	write_out(t, stream,
		  (struct task_out){.piece = {b->buf + at, b->buf},
				    .len = {k, n - k},
				    .left = &b->held,
				    .then = held(at + n, len - n)});
}

static void append(struct outbuf *b, const char *p, uint32_t n)
{
	uint32_t at = first_of(b), len = count_of(b), k = straight(at + len, n);

	memcpy(b->buf + (at + len) % OUT_SIZE, p, k);
	memcpy(b->buf, p + k, n - k);
	KILL_POINT("output.append.copied");
	atomic_store_explicit(&b->held, held(at, len + n), memory_order_release);
	KILL_POINT("output.append.counted");
}

/* Puts the line that the goroutine began before it parked into the buffer. */
static void bring_part(struct g *g, struct outbuf *b, int stream)
{
	struct outpart *part = g->part;
	uint32_t n;

	if (!part || !(n = (uint32_t)atomic_load_explicit(&part->len[stream], memory_order_relaxed)))
		return;
	append(b, part->text[stream], n);
	/* Until the next store both hold the same bytes: flush_buffer handles a death here. */
	atomic_store_explicit(&part->len[stream], 0, memory_order_release);
	KILL_POINT("output.part.brought");
}

/* Appends as many of n bytes as fit, and writes a full buffer. Returns how many. The caller may be on another worker after each call. */
static size_t append_some(struct g *g, int stream, const char *p, size_t n)
{
	struct outbuf *b = m_out(getm, stream);
	size_t room, k;

	if (count_of(b) == 0)
		bring_part(g, b, stream);
	room = OUT_SIZE - count_of(b);
	k = n < room ? n : room;
	append(b, p, (uint32_t)k);
	if (k == room) {
		flush_lines(g->task, b, stream, false);
		if (count_of(b) == OUT_SIZE) /* a line longer than the buffer */
			flush_lines(g->task, b, stream, true);
	}
	return k;
}

ssize_t output_append(int stream, const void *data, size_t n)
{
	struct g *g = getg();
	struct task_out *o = &g->task->out[stream];
	size_t done = 0;

	if (__builtin_expect(atomic_load_explicit(&o->error, memory_order_relaxed) != 0, 0)) {
		errno = atomic_exchange(&o->error, 0);
		return -1;
	}
	while (done < n) {
		int err =
			room_is_full(&o->room) && !output_dying && !waits && getm->locks == 0 ? room_wait(&o->room) : 0;

		if (err && !done) {
			errno = err;
			return -1;
		}
		if (err)
			break;
		done += append_some(g, stream, (const char *)data + done, n - done);
	}
	if (__builtin_expect(atomic_load_explicit(&o->piped, memory_order_relaxed), 0))
		flush_lines(g->task, m_out(getm, stream), stream, false);
	return (ssize_t)done;
}

/* r: of output_append. Others see what goes to a file or pipe of the task's own, so it goes there at once. */
ssize_t output_written(int stream, ssize_t r)
{
	struct g *g = getg();
	struct task_out *o = &g->task->out[stream];

	if (__builtin_expect(atomic_load_explicit(&o->room.kept, memory_order_relaxed), 1) || r < 0 || output_dying)
		return r;
	output_flush(g, true);
	if (!atomic_load_explicit(&o->error, memory_order_relaxed))
		return r;
	errno = atomic_exchange(&o->error, 0);
	return -1;
}

static bool make_part(struct g *g, int stream)
{
	struct outpart *part = g->part;

	if (!part) {
		part = g_alloc(g, sizeof *part);
		if (!part)
			return false;
		memset(part, 0, sizeof *part);
		g->part = part;
		KILL_POINT("output.part.made");
	}
	if (!part->text[stream])
		part->text[stream] = g_alloc(g, OUT_SIZE);
	KILL_POINT("output.part.room");
	return part->text[stream] != NULL;
}

static void keep_part(struct g *g, struct outbuf *b, int stream)
{
	uint32_t n = count_of(b);

	if (!make_part(g, stream)) { /* no memory: write the unfinished line now, rather than lose it */
		flush_lines(g->task, b, stream, true);
		return;
	}
	copy_out(b, g->part->text[stream], n);
	atomic_store_explicit(&g->part->len[stream], n, memory_order_release);
	KILL_POINT("output.part.kept");
	atomic_store_explicit(&b->held, 0, memory_order_release);
	KILL_POINT("output.part.left");
}

static void flush_part(struct g *g, int stream)
{
	struct outpart *part = g->part;
	uint64_t n = part ? atomic_load(&part->len[stream]) : 0;

	if (n && n <= OUT_SIZE)
		write_out(g->task, stream,
			  (struct task_out){
				  .piece = {part->text[stream]}, .len = {(uint32_t)n}, .left = &part->len[stream]});
}

/* Writes the buffer. If a worker died while it moved a part, the same bytes are in both places and nothing else is in the buffer. */
static void flush_buffer(struct g *g, struct outbuf *b, int stream, bool all)
{
	if (g->part && atomic_load_explicit(&g->part->len[stream], memory_order_relaxed) && count_of(b)) {
		atomic_store_explicit(&b->held, 0, memory_order_release);
		KILL_POINT("output.part.once");
	}
	if (all)
		flush_part(g, stream);
	flush_lines(g->task, b, stream, all);
	if (count_of(b))
		keep_part(g, b, stream);
}

void output_flush(struct g *g, bool all)
{
	if (__builtin_expect(waits, 0))
		return;
	for (int stream = 0; stream < 2; stream++)
		flush_buffer(g, m_out(getm, stream), stream, all);
}

void host_output_finish(unsigned seat, struct g *g)
{
	for (int stream = 0; stream < 2; stream++) {
		struct outbuf *b = m_out(allm(seat), stream);

		if (g && first_of(b) < OUT_SIZE && count_of(b) <= OUT_SIZE)
			flush_buffer(g, b, stream, false);
		atomic_store(&b->held, 0);
		KILL_POINT("output.repaired");
	}
}

void host_part_end(struct g *g)
{
	struct outpart *part = g->part;

	flush_part(g, 0);
	flush_part(g, 1);
	g->part = NULL;
	KILL_POINT("output.part.dropped"); /* a death here leaks the block until the task ends */
	for (int stream = 0; stream < 2; stream++)
		if (part->text[stream])
			g_free(g, part->text[stream]);
	g_free(g, part);
}

/* ---- stdio ---- */

/*
 * The goroutine may park here and continue on another worker while others use the stream. So libc's stream
 * must hold nothing: a character that libc has put into the stream's own buffer is copied and removed.
 */
static ssize_t put_on_g(int stream, const char *p, size_t n)
{
	FILE *f = stream ? stderr : stdout;
	char own[64];
	ssize_t r;

	if (n <= sizeof own) {
		memcpy(own, p, n);
		p = own;
		f->_IO_write_ptr = f->_IO_write_base;
	}
	r = output_append(stream, p, n);
	if (stream == 1) /* stderr has no buffer */
		r = output_written(stream, r);
	return r < 0 ? 0 : r; /* the write function of a cookie returns 0 on failure */
}

static ssize_t put_bytes(int stream, const char *p, size_t n)
{
	if (on_g())
		return put_on_g(stream, p, n);
	for (size_t done = 0; done < n;) {
		long r = syscall(SYS_write, stream + 1, p + done, n - done);

		if (r <= 0 && errno != EINTR)
			return 0;
		done += r > 0 ? (size_t)r : 0;
	}
	return (ssize_t)n;
}

static ssize_t put_out(void *cookie, const char *p, size_t n)
{
	(void)cookie;
	return put_bytes(0, p, n);
}

static ssize_t put_err(void *cookie, const char *p, size_t n)
{
	(void)cookie;
	return put_bytes(1, p, n);
}

/* Makes stdout and stderr unbuffered streams of ours, so that no bytes of a task stay in the process. */
void output_start(void)
{
	FILE *out = fopencookie(NULL, "w", (cookie_io_functions_t){.write = put_out});
	FILE *err = fopencookie(NULL, "w", (cookie_io_functions_t){.write = put_err});

	if (!out || !err)
		return;
	setvbuf(out, NULL, _IONBF, 0);
	setvbuf(err, NULL, _IONBF, 0);
	/* Turn off libc's lock: a goroutine that parks in a write would hold it on another worker. */
	__fsetlocking(out, FSETLOCKING_BYCALLER);
	__fsetlocking(err, FSETLOCKING_BYCALLER);
	stdout = out;
	stderr = err;
}
