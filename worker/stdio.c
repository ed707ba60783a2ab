/*
 * stdio.c - streams that a goroutine opens.
 *
 * libc threads all open streams on a list that begins in a variable of the process and goes on
 * inside the streams. A stream that is opened in one worker and closed in another would stay on
 * the first one's list, and its memory be used for something else. So each is taken off that list
 * at once, and noted in the task's record instead: for fflush(NULL), and for the end of the task.
 *
 * A descriptor is closed by us and not inside libc: poll_owner must never say that a number is a
 * task's which libc has closed. The next worker that starts gets that number for its eventfd, and
 * the end of the task would close it.
 *
 * LOCK   task->lock for the list
 * DEATH  the list changes by one store; a death between opening and noting leaves a stream that is
 *        not flushed at the end, as if the process had died in fopen
 */
#include "core/sync.h"
#include "shm/kill.h"
#include "worker/posix.h"
#include "worker/worker.h"

#include <dlfcn.h>
#include <stdio.h>
#include <unistd.h>
#include <string.h>
#include <fcntl.h>
#include <stdio_ext.h>

struct _IO_FILE_plus;
void _IO_un_link(struct _IO_FILE_plus *); /* libc's: off the list of the process, if it is on it */

struct stream {
	struct stream *next;
	FILE *file;
	bool parks; /* its reads, writes and close are calls of ours */
};

static void *real(const char *name)
{
	return dlsym(RTLD_NEXT, name);
}

/* A call of libc's of the same name, looked up once. */
#define LIBC(result, name, ...) \
	static result (*libc)(__VA_ARGS__); \
	if (!libc) \
		*(void **)&libc = real(name)

static void list(struct stream *s, FILE *f, bool parks)
{
	struct g *g = getg();

	s->file = f;
	s->parks = parks;
	acquirem();
	sh_lock_take(&g->task->lock, (unsigned)getm->seat);
	s->next = g->task->own.streams;
	g->task->own.streams = s;
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
	s = g_alloc(g, sizeof *s);
	if (s) /* else it is good, but flushed only by who closes it */
		list(s, f, false);
	return f;
}

/* Off the list. True: it is one that parks. */
static bool closing(FILE *f)
{
	struct g *g = on_g();
	struct stream **at, *s;
	bool parks;

	if (!g || !f)
		return false;
	acquirem();
	sh_lock_take(&g->task->lock, (unsigned)getm->seat);
	for (at = (struct stream **)&g->task->own.streams; (s = *at) && s->file != f; at = &s->next)
		;
	if (s)
		*at = s->next;
	KILL_POINT("stdio.closed");
	sh_lock_drop(&g->task->lock, (unsigned)getm->seat);
	releasem();
	parks = s && s->parks;
	if (s)
		g_free(g, s);
	return parks;
}

/* Which streams there are may change between one and the next: each is looked for anew. */
int streams_flush(struct g *g)
{
	LIBC(int, "fflush", FILE *);
	int r = 0;

	for (unsigned n = 0;; n++) {
		struct stream *s;
		FILE *f;

		acquirem();
		sh_lock_take(&g->task->lock, (unsigned)getm->seat);
		s = g->task->own.streams;
		for (unsigned i = 0; s && i < n; i++)
			s = s->next;
		f = s ? s->file : NULL;
		sh_lock_drop(&g->task->lock, (unsigned)getm->seat);
		releasem();
		if (!f)
			return r;
		if (__fwriting(f) && libc(f) != 0)
			r = EOF;
	}
}

/* Of a file that libc has opened: its descriptor is the task's. */
static FILE *with_descriptor(FILE *f)
{
	if (f && on_g())
		fd_made(fileno(f));
	return opened(f);
}

/* ---- streams on what can be waited for: libc's own would hold up the worker ---- */

static ssize_t stream_read(void *cookie, char *p, size_t n)
{
	return read((int)(intptr_t)cookie, p, n);
}

static ssize_t stream_write(void *cookie, const char *p, size_t n)
{
	ssize_t r = write((int)(intptr_t)cookie, p, n);

	return r < 0 ? 0 : r; /* so a cookie says that it failed */
}

static int stream_close(void *cookie)
{
	return close((int)(intptr_t)cookie);
}

static FILE *parking_stream(int fd, const char *mode)
{
	LIBC(FILE *, "fopencookie", void *, const char *, cookie_io_functions_t);
	struct stream *s = g_alloc(getg(), sizeof *s);
	FILE *f = NULL;

	if (s)
		f = libc((void *)(intptr_t)fd, mode,
			 (cookie_io_functions_t){.read = stream_read, .write = stream_write, .close = stream_close});
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

/* -1: no mode that we know, such as one that names a character set. */
static int open_flags(const char *mode)
{
	int flags = mode[0] == 'r' ? O_RDONLY : mode[0] == 'w' ? O_WRONLY | O_CREAT | O_TRUNC :
		    mode[0] == 'a' ? O_WRONLY | O_CREAT | O_APPEND : -1;

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
	fd = open(path, flags, 0666); /* what blocks here, a fifo for one, is a system call */
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

/* 1 and 2 go through the worker, unbuffered here: the streams are its own, for others as well. */
static bool is_output(FILE *f)
{
	return on_g() && (f == stdout || f == stderr);
}

/* The stream stays; where it leads is the task's. */
static FILE *reopen_output(const char *path, const char *mode, FILE *f)
{
	int fd, r;

	if (!path)
		return f;
	fd = open(path, (strchr(mode, '+') ? O_RDWR : O_WRONLY) | O_CREAT | O_CLOEXEC | (mode[0] == 'a' ? O_APPEND : O_TRUNC),
		0666);
	if (fd < 0)
		return NULL;
	r = dup2(fd, f == stdout ? 1 : 2);
	close(fd);
	return r < 0 ? NULL : f;
}

FILE *freopen(const char *path, const char *mode, FILE *f)
{
	LIBC(FILE *, "freopen", const char *, const char *, FILE *);
	int fd = on_g() && f ? fileno(f) : -1;
	FILE *r;

	if (is_output(f))
		return reopen_output(path, mode, f);
	if (!on_g())
		return libc(path, mode, f);
	fflush(f);
	closing(f);
	if (fd >= 0)
		fd_forget(fd); /* libc keeps the number for the new file */
	r = libc(path, mode, f);
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

/* A buffer of libc's would stay behind in the worker. */
int setvbuf(FILE *f, char *buf, int mode, size_t n)
{
	LIBC(int, "setvbuf", FILE *, char *, int, size_t);
	return is_output(f) ? 0 : libc(f, buf, mode, n);
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

int fclose(FILE *f)
{
	LIBC(int, "fclose", FILE *);
	int fd = on_g() ? fileno(f) : -1, r;

	if (is_output(f)) /* the worker's, for others as well */
		return 0;
	if (closing(f) || fd < 0)
		return libc(f);
	r = fflush(f);
	fd_closing(fd);
	fd_emptied(fd); /* what libc closes next is the bare number */
	return libc(f) < 0 ? EOF : r;
}

int fflush(FILE *f)
{
	LIBC(int, "fflush", FILE *);
	if (!f && on_g())
		return streams_flush(getg());
	return libc(f);
}
