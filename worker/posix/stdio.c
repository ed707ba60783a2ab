/*
 * stdio.c - streams that a goroutine opens.
 *
 * libc links all open streams in a list whose head is a variable of the process. A stream that is opened on
 * one worker and closed on another would stay in the first worker's list after its memory is used again. So
 * each stream is unlinked at once and listed in the task's record instead, for fflush(NULL) and for the
 * task's end.
 *
 * The descriptor of a stream is closed by us, not inside libc. If libc closed it, poll_owner would still
 * name the task as its owner, the next worker that starts could get the number for its eventfd, and the
 * task's end would close that.
 *
 * LOCK   task->lock for the list
 * DEATH  the list changes by one store. A death between opening and listing leaves a stream that is not
 *        flushed at the end, as if the process had died in fopen
 */
#include "shm/kill.h"
#include "worker/posix/filelock.h"
#include "worker/posix/own.h"
#include "worker/posix/posix.h"
#include "worker/posix/stdio.h"
#include "worker/posix/thread_cancel.h"

#include <unistd.h>
#include <string.h>
#include <fcntl.h>
#include <stdio_ext.h>

/* Bits of FILE._flags, part of glibc's binary interface (formerly in <libio.h>). */
#define FILE_NO_READS 4
#define FILE_NO_WRITES 8
#define FILE_APPENDS 0x1000

struct _IO_FILE_plus;
void _IO_un_link(struct _IO_FILE_plus *); /* libc's: unlinks a stream from the list of the process */

static int libc_fflush(FILE *f)
{
	LIBC(int, "fflush", FILE *);
	return libc(f);
}

static int libc_fclose(FILE *f)
{
	LIBC(int, "fclose", FILE *);
	return libc(f);
}

static struct stream *new_stream(void)
{
	struct stream *s = g_alloc(getg(), sizeof *s);

	if (s)
		memset(s, 0, sizeof *s);
	return s;
}

static void list(struct stream *s, FILE *f, bool parks)
{
	struct g *g = getg();

	s->file = f;
	s->parks = parks;
	f->_lock = (void *)s; /* for stream_of() */
	__fsetlocking(f, FSETLOCKING_BYCALLER);
	acquirem();
	sh_lock_take(&g->task->lock, (unsigned)getm->seat);
	s->next = task_own(g->task)->streams;
	task_own(g->task)->streams = s;
	KILL_POINT("stdio.opened");
	sh_lock_drop(&g->task->lock, (unsigned)getm->seat);
	releasem();
}

static FILE *opened(FILE *f)
{
	struct g *g = on_g();
	struct stream *s;

	if (!f || !g)
		return f;
	_IO_un_link((struct _IO_FILE_plus *)f);
	s = new_stream();
	if (s) {
		list(s, f, false);
		return f;
	}
	fclose(f);
	errno = ENOMEM;
	return NULL;
}

/* Unlinks a stream from the task's list; NULL if it was not in it. The caller frees the result after libc has closed the stream. */
static struct stream *closing(FILE *f)
{
	struct g *g = on_g();
	struct stream **at, *s;

	if (!g || !f)
		return NULL;
	acquirem();
	sh_lock_take(&g->task->lock, (unsigned)getm->seat);
	for (at = (struct stream **)&task_own(g->task)->streams; (s = *at) && s->file != f; at = &s->next)
		;
	if (s)
		*at = s->next;
	KILL_POINT("stdio.closed");
	sh_lock_drop(&g->task->lock, (unsigned)getm->seat);
	releasem();
	return s;
}

static int closed(struct stream *s, int r)
{
	int err = errno;

	if (s)
		g_free(getg(), s);
	errno = err;
	return r;
}

/*
 * The list may change between two streams, so each step searches the next one anew. At the end of the task
 * streams that a goroutine is using are skipped instead of waited for.
 */
static int flush_all(struct g *g, bool at_end)
{
	int r = 0;

	for (unsigned n = 0;; n++) {
		struct stream *s;
		FILE *f;

		acquirem();
		sh_lock_take(&g->task->lock, (unsigned)getm->seat);
		s = task_own(g->task)->streams;
		for (unsigned i = 0; s && i < n; i++)
			s = s->next;
		f = s ? s->file : NULL;
		sh_lock_drop(&g->task->lock, (unsigned)getm->seat);
		releasem();
		if (!f)
			return r;
		if (!__fwriting(f) || (at_end && !stream_try(s)))
			continue;
		if (!at_end)
			stream_hold(f);
		if (libc_fflush(f) != 0)
			r = EOF;
		stream_drop(s);
	}
}

int streams_flush(struct g *g)
{
	return flush_all(g, true);
}

/* Makes the task the owner of the descriptor of a stream that libc has opened. */
static FILE *with_descriptor(FILE *f)
{
	if (f && on_g())
		fd_made(fileno(f));
	return opened(f);
}

/* ---- streams on sockets and pipes: their reads and writes park, libc's own would block the worker ---- */

static int fd_of(void *cookie)
{
	return ((struct stream *)cookie)->file->_fileno;
}

static ssize_t stream_read(void *cookie, char *p, size_t n)
{
	bool before = thread_cancel_suspend(); /* the lock of the stream may be held */
	ssize_t r = read(fd_of(cookie), p, n);

	thread_cancel_resume(before);
	return r;
}

static ssize_t stream_write(void *cookie, const char *p, size_t n)
{
	bool before = thread_cancel_suspend();
	ssize_t r = write(fd_of(cookie), p, n);

	thread_cancel_resume(before);
	return r < 0 ? 0 : r; /* the write function of a cookie returns 0 on failure */
}

static int stream_seek(void *cookie, off64_t *at, int from)
{
	off64_t r = lseek(fd_of(cookie), *at, from);

	if (r < 0)
		return -1;
	*at = r;
	return 0;
}

static int stream_close(void *cookie)
{
	return close(fd_of(cookie));
}

static FILE *parking_stream(int fd, const char *mode)
{
	LIBC(FILE *, "fopencookie", void *, const char *, cookie_io_functions_t);
	struct stream *s = new_stream();
	FILE *f = NULL;

	if (s)
		f = libc(s, mode, (cookie_io_functions_t){stream_read, stream_write, stream_seek, stream_close});
	if (!f) {
		if (s)
			g_free(getg(), s);
		errno = ENOMEM;
		return NULL;
	}
	_IO_un_link((struct _IO_FILE_plus *)f);
	f->_fileno = fd; /* for fileno() */
	list(s, f, true);
	return f;
}

FILE *fdopen(int fd, const char *mode)
{
	LIBC(FILE *, "fdopen", int, const char *);
	enum poll_kind kind = on_g() ? fd_kind(fd) : PD_PLAIN;

	if (kind != PD_PLAIN && kind != PD_UNKNOWN)
		return parking_stream(fd, mode);
	return opened(libc(fd, mode));
}

/* Flags of open for a mode; -1 for a mode that is left to libc, such as one that names a character set. */
static int open_flags(const char *mode)
{
	int flags = mode[0] == 'r'   ? O_RDONLY
		    : mode[0] == 'w' ? O_WRONLY | O_CREAT | O_TRUNC
		    : mode[0] == 'a' ? O_WRONLY | O_CREAT | O_APPEND
				     : -1;

	if (flags < 0 || strchr(mode, ','))
		return -1;
	if (strchr(mode, '+'))
		flags = (flags & ~O_ACCMODE) | O_RDWR;
	return flags | (strchr(mode, 'x') ? O_EXCL : 0) | (strchr(mode, 'e') ? O_CLOEXEC : 0);
}

FILE *fopen(const char *path, const char *mode)
{
	LIBC(FILE *, "fopen", const char *, const char *);
	int flags = open_flags(mode), fd, err;
	FILE *f;

	if (!on_g() || flags < 0)
		return with_descriptor(libc(path, mode));
	fd = open(path, flags, 0666); /* opening a FIFO may block; it counts as a system call */
	if (fd < 0)
		return NULL;
	f = fdopen(fd, mode);
	if (!f) {
		err = errno;
		close(fd);
		errno = err;
	}
	return f;
}

FILE *fopen64(const char *path, const char *mode)
{
	return fopen(path, mode);
}

/* stdout and stderr belong to the worker and serve all tasks; worker/output.c buffers their bytes. */
static bool is_output(FILE *f)
{
	return on_g() && (f == stdout || f == stderr);
}

/* The process' stdin, on the null device. A task that reopens stdin gets a stream of its own. */
static bool is_first_input(FILE *f)
{
	return f == stdin && on_g() && !task_own(getg()->task)->in;
}

static FILE *reopen_input(const char *path, const char *mode, FILE *f)
{
	FILE *in = path ? fopen(path, mode) : f;
	struct task *t;

	if (!in || in == f)
		return in;
	t = process_state_begin();
	task_own(t)->in = stdin = in;
	process_state_end(t, true);
	return in;
}

/* Redirects the task's output. The stream itself stays as it is. */
static FILE *reopen_output(const char *path, const char *mode, FILE *f)
{
	int fd, r;

	if (!path)
		return f;
	fd = open(path,
		  (strchr(mode, '+') ? O_RDWR : O_WRONLY) | O_CREAT | O_CLOEXEC | (mode[0] == 'a' ? O_APPEND : O_TRUNC),
		  0666);
	if (fd < 0)
		return NULL;
	r = dup2(fd, f == stdout ? 1 : 2);
	close(fd);
	return r < 0 ? NULL : f;
}

static FILE *libc_freopen(const char *path, const char *mode, FILE *f)
{
	LIBC(FILE *, "freopen", const char *, const char *, FILE *);
	return libc(path, mode, f);
}

/* Reopens a stream whose calls park. libc does not know its file, so its flags and buffer are set as for a new stream. */
static FILE *reopen_parking(const char *path, const char *mode, FILE *f)
{
	int flags = open_flags(mode), fd = path && flags >= 0 ? open(path, flags, 0666) : -1;

	close(f->_fileno);
	f->_fileno = fd;
	if (fd < 0) {
		f->_fileno = open("/dev/null", O_RDWR | O_CLOEXEC); /* for fclose */
		errno = path ? errno : EBADF;
		return NULL;
	}
	__fpurge(f);
	clearerr_unlocked(f);
	f->_flags &= ~(FILE_NO_READS | FILE_NO_WRITES | FILE_APPENDS);
	f->_flags |= ((flags & O_ACCMODE) == O_RDONLY ? FILE_NO_WRITES : 0) |
		     ((flags & O_ACCMODE) == O_WRONLY ? FILE_NO_READS : 0) | (flags & O_APPEND ? FILE_APPENDS : 0);
	return f;
}

FILE *freopen(const char *path, const char *mode, FILE *f)
{
	int fd = on_g() && f ? fileno(f) : -1;
	struct stream *s;
	FILE *r;

	if (is_output(f))
		return reopen_output(path, mode, f);
	if (is_first_input(f))
		return reopen_input(path, mode, f);
	if (!on_g())
		return libc_freopen(path, mode, f);
	fflush(f);
	s = stream_of(f);
	if (s && s->parks)
		return reopen_parking(path, mode, f);
	s = closing(f);
	sh_filelock_closing(fd);
	if (fd >= 0)
		fd_forget(fd); /* libc opens the new file under the same number */
	r = libc_freopen(path, mode, f);
	closed(s, 0); /* the stream gets a new lock */
	if (!r && fd >= 0)
		fd_gone(fd);
	return with_descriptor(r);
}

FILE *freopen64(const char *path, const char *mode, FILE *f)
{
	return freopen(path, mode, f);
}

FILE *tmpfile(void)
{
	LIBC(FILE *, "tmpfile", void);
	return with_descriptor(libc());
}

FILE *tmpfile64(void)
{
	return tmpfile();
}

FILE *fmemopen(void *at, size_t n, const char *mode)
{
	LIBC(FILE *, "fmemopen", void *, size_t, const char *);
	return opened(libc(at, n, mode));
}

FILE *open_memstream(char **at, size_t *n)
{
	LIBC(FILE *, "open_memstream", char **, size_t *);
	return opened(libc(at, n));
}

FILE *fopencookie(void *cookie, const char *mode, cookie_io_functions_t f)
{
	LIBC(FILE *, "fopencookie", void *, const char *, cookie_io_functions_t);
	return opened(libc(cookie, mode, f));
}

/* Allocates the buffer in the task's heap: one of libc's would stay in this worker. */
int setvbuf(FILE *f, char *buf, int mode, size_t n)
{
	struct stream *s = stream_hold(f);
	int r = 0;
	LIBC(int, "setvbuf", FILE *, char *, int, size_t);

	if (!is_output(f))
		r = libc(f, buf, mode, n);
	stream_drop(s);
	return r;
}

void setbuffer(FILE *f, char *buf, size_t n)
{
	setvbuf(f, buf, buf ? _IOFBF : _IONBF, n);
}

void setbuf(FILE *f, char *buf)
{
	setbuffer(f, buf, BUFSIZ);
}

void setlinebuf(FILE *f)
{
	setvbuf(f, NULL, _IOLBF, 0);
}

/* Closes the task's own stdin. */
static void close_input(void)
{
	struct task *t = process_state_begin();

	task_own(t)->in = NULL;
	process_state_end(t, true);
	process_state_input(t);
}

int fclose(FILE *f)
{
	int fd = on_g() ? fileno(f) : -1, r;
	struct stream *s;

	if (is_output(f)) /* the worker's stream, which other tasks use too */
		return fflush(f);
	if (is_first_input(f))
		return 0;
	if (f == stdin && on_g())
		close_input();
	stream_drop(stream_hold(f)); /* wait until other goroutines have finished their calls */
	s = closing(f);
	if (fd < 0 || (s && s->parks))
		return closed(s, libc_fclose(f));
	r = fflush(f);
	fd_closing(fd);
	fd_emptied(fd); /* the number refers to /dev/null when libc closes it */
	return closed(s, libc_fclose(f) < 0 ? EOF : r);
}

int fflush(FILE *f)
{
	struct stream *s;
	int r;

	if (!f && on_g())
		return flush_all(getg(), false);
	if (is_output(f))
		return after_write(output_written(f == stderr, 0)) < 0 ? EOF : 0;
	s = f ? stream_hold(f) : NULL;
	r = libc_fflush(f);
	stream_drop(s);
	return r;
}
