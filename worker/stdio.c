/*
 * stdio.c - streams that a goroutine opens.
 *
 * libc threads all open streams on a list that begins in a variable of the process and goes on
 * inside the streams. A stream that is opened in one worker and closed in another would stay on
 * the first one's list, and its memory be used for something else. So each is taken off that list
 * at once, and noted in the task's record instead: for fflush(NULL), and for the end of the task.
 *
 * LOCK   task->lock for the list
 * DEATH  the list changes by one store; a death between opening and noting leaves a stream that is
 *        not flushed at the end, as if the process had died in fopen
 */
#include "core/sync.h"
#include "shm/kill.h"
#include "worker/worker.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdio_ext.h>

struct _IO_FILE_plus;
void _IO_un_link(struct _IO_FILE_plus *); /* libc's: off the list of the process, if it is on it */

struct stream {
	struct stream *next;
	FILE *file;
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

static FILE *opened(FILE *f)
{
	struct g *g = on_g();
	struct stream *s;

	if (!f || !g)
		return f;
	_IO_un_link((struct _IO_FILE_plus *)f);
	s = g_alloc(g, sizeof *s);
	if (!s)
		return f; /* good, but flushed only by who closes it */
	s->file = f;
	acquirem();
	sh_lock_take(&g->task->lock, (unsigned)getm->seat);
	s->next = g->task->streams;
	g->task->streams = s;
	KILL_POINT("stdio.opened");
	sh_lock_drop(&g->task->lock, (unsigned)getm->seat);
	releasem();
	return f;
}

static void closing(FILE *f)
{
	struct g *g = on_g();
	struct stream **at, *s;

	if (!g || !f)
		return;
	acquirem();
	sh_lock_take(&g->task->lock, (unsigned)getm->seat);
	for (at = (struct stream **)&g->task->streams; (s = *at) && s->file != f; at = &s->next)
		;
	if (s)
		*at = s->next;
	KILL_POINT("stdio.closed");
	sh_lock_drop(&g->task->lock, (unsigned)getm->seat);
	releasem();
	if (s)
		g_free(g, s);
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
		s = g->task->streams;
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

FILE *fopen(const char *path, const char *mode)
{
	LIBC(FILE *, "fopen", const char *, const char *);
	return opened(libc(path, mode));
}

FILE *fopen64(const char *path, const char *mode)
{
	return fopen(path, mode);
}

FILE *fdopen(int fd, const char *mode)
{
	LIBC(FILE *, "fdopen", int, const char *);
	return opened(libc(fd, mode));
}

FILE *freopen(const char *path, const char *mode, FILE *f)
{
	LIBC(FILE *, "freopen", const char *, const char *, FILE *);
	closing(f);
	return opened(libc(path, mode, f));
}

FILE *freopen64(const char *path, const char *mode, FILE *f)
{
	return freopen(path, mode, f);
}

FILE *tmpfile(void)
{
	LIBC(FILE *, "tmpfile", void);
	return opened(libc());
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

int fclose(FILE *f)
{
	LIBC(int, "fclose", FILE *);
	closing(f);
	return libc(f);
}

int fflush(FILE *f)
{
	LIBC(int, "fflush", FILE *);
	if (!f && on_g())
		return streams_flush(getg());
	return libc(f);
}
