/*
 * stdio_lock.c - serializes calls on one stream from goroutines on several workers.
 *
 * Each call takes the stream's lock (stdio.h), calls libc and releases the lock. If the stream is on a socket,
 * the goroutine may park inside and continue on another worker; it still holds the lock then. Streams that
 * no goroutine has opened, stdout and stderr among them, belong to the process and use libc's locks.
 */
#include "worker/posix/stdio.h"
#include "worker/posix/libc.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio_ext.h>
#include <wchar.h>

static void taken(struct stream *s)
{
	s->depth = 1;
}

struct stream *stream_hold(FILE *f)
{
	struct g *g = on_g();
	struct stream *s = g ? stream_of(f) : NULL;

	if (!s)
		return NULL;
	if (mutex_holder(atomic_load_explicit(&s->mu.owner, memory_order_relaxed)) == g->gid) {
		s->depth++;
		return s;
	}
	mutex_acquire(&s->mu, g); /* -EOWNERDEAD is ignored: the stream is used as the dead holder left it */
	taken(s);
	return s;
}

bool stream_try(struct stream *s)
{
	struct g *g = getg();

	if (mutex_holder(atomic_load_explicit(&s->mu.owner, memory_order_relaxed)) == g->gid) {
		s->depth++;
		return true;
	}
	if (shoal_mutex_trylock(&s->mu) == -EBUSY)
		return false;
	taken(s);
	return true;
}

void stream_drop(struct stream *s)
{
	int err = errno;

	if (!s || --s->depth)
		return;
	mutex_release(&s->mu, getg());
	errno = err;
}

/* ---- as a program asks for it ---- */

void flockfile(FILE *f)
{
	LIBC(void, "flockfile", FILE *);

	if (!on_g())
		libc(f);
	else
		stream_hold(f);
}

int ftrylockfile(FILE *f)
{
	LIBC(int, "ftrylockfile", FILE *);

	if (!on_g())
		return libc(f);
	return !stream_of(f) || stream_try(stream_of(f)) ? 0 : -1;
}

void funlockfile(FILE *f)
{
	LIBC(void, "funlockfile", FILE *);

	if (!on_g())
		libc(f);
	else
		stream_drop(stream_of(f));
}

/* ---- and around each call ---- */

#define LOCKED(result, name, params, ...) \
	result name params; \
	result name params \
	{ \
		static result(*libc) params; \
		struct stream *s = stream_hold(f); \
		result r; \
		LIBC_FIND(libc, #name); /* look up on this worker; the lock may have moved us here */ \
		r = libc(__VA_ARGS__); \
		stream_drop(s); \
		return r; \
	}

LOCKED(int, fputc, (int c, FILE *f), c, f)
LOCKED(int, putc, (int c, FILE *f), c, f)
LOCKED(int, _IO_putc, (int c, FILE *f), c, f)
LOCKED(int, putw, (int w, FILE *f), w, f)
LOCKED(int, fputs, (const char *restrict t, FILE *restrict f), t, f)
LOCKED(size_t, fwrite, (const void *restrict p, size_t size, size_t n, FILE *restrict f), p, size, n, f)
LOCKED(int, vfprintf, (FILE *restrict f, const char *restrict fmt, va_list ap), f, fmt, ap)
LOCKED(int, __vfprintf_chk, (FILE *restrict f, int flag, const char *restrict fmt, va_list ap), f, flag, fmt, ap)

LOCKED(int, fgetc, (FILE * f), f)
LOCKED(int, getc, (FILE * f), f)
LOCKED(int, _IO_getc, (FILE * f), f)
LOCKED(int, getw, (FILE * f), f)
LOCKED(int, ungetc, (int c, FILE *f), c, f)
LOCKED(char *, fgets, (char *restrict t, int n, FILE *restrict f), t, n, f)
LOCKED(char *, __fgets_chk, (char *restrict t, size_t room, int n, FILE *restrict f), t, room, n, f)
LOCKED(size_t, fread, (void *restrict p, size_t size, size_t n, FILE *restrict f), p, size, n, f)
LOCKED(size_t, __fread_chk, (void *restrict p, size_t room, size_t size, size_t n, FILE *restrict f), p, room, size, n,
       f)
LOCKED(ssize_t, getline, (char **restrict t, size_t *restrict n, FILE *restrict f), t, n, f)
LOCKED(ssize_t, getdelim, (char **restrict t, size_t *restrict n, int c, FILE *restrict f), t, n, c, f)
LOCKED(ssize_t, __getdelim, (char **restrict t, size_t *restrict n, int c, FILE *restrict f), t, n, c, f)
LOCKED(int, __isoc99_vfscanf, (FILE *restrict f, const char *restrict fmt, va_list ap), f, fmt, ap)

LOCKED(int, fseek, (FILE * f, long at, int from), f, at, from)
LOCKED(int, fseeko, (FILE * f, off_t at, int from), f, at, from)
LOCKED(int, fseeko64, (FILE * f, off64_t at, int from), f, at, from)
LOCKED(long, ftell, (FILE * f), f)
LOCKED(off_t, ftello, (FILE * f), f)
LOCKED(off64_t, ftello64, (FILE * f), f)
LOCKED(int, fgetpos, (FILE *restrict f, fpos_t *restrict at), f, at)
LOCKED(int, fgetpos64, (FILE *restrict f, fpos64_t *restrict at), f, at)
LOCKED(int, fsetpos, (FILE * f, const fpos_t *at), f, at)
LOCKED(int, fsetpos64, (FILE * f, const fpos64_t *at), f, at)

LOCKED(wint_t, fputwc, (wchar_t c, FILE *f), c, f)
LOCKED(wint_t, putwc, (wchar_t c, FILE *f), c, f)
LOCKED(int, fputws, (const wchar_t *restrict t, FILE *restrict f), t, f)
LOCKED(int, vfwprintf, (FILE *restrict f, const wchar_t *restrict fmt, va_list ap), f, fmt, ap)
LOCKED(int, __vfwprintf_chk, (FILE *restrict f, int flag, const wchar_t *restrict fmt, va_list ap), f, flag, fmt, ap)
LOCKED(wint_t, fgetwc, (FILE * f), f)
LOCKED(wint_t, getwc, (FILE * f), f)
LOCKED(wint_t, ungetwc, (wint_t c, FILE *f), c, f)
LOCKED(wchar_t *, fgetws, (wchar_t *restrict t, int n, FILE *restrict f), t, n, f)
LOCKED(wchar_t *, __fgetws_chk, (wchar_t *restrict t, size_t room, int n, FILE *restrict f), t, room, n, f)
LOCKED(int, __isoc99_vfwscanf, (FILE *restrict f, const wchar_t *restrict fmt, va_list ap), f, fmt, ap)

void rewind(FILE *f)
{
	struct stream *s = stream_hold(f);
	LIBC(void, "rewind", FILE *);

	libc(f);
	stream_drop(s);
}

/* ---- those with arguments to come ---- */

#define VARIADIC(name, params, last, call) \
	int name params; \
	int name params \
	{ \
		va_list ap; \
		int r; \
		va_start(ap, last); \
		r = call; \
		va_end(ap); \
		return r; \
	}

VARIADIC(fprintf, (FILE *restrict f, const char *restrict fmt, ...), fmt, vfprintf(f, fmt, ap))
VARIADIC(__fprintf_chk, (FILE *restrict f, int flag, const char *restrict fmt, ...), fmt,
	 __vfprintf_chk(f, flag, fmt, ap))
VARIADIC(__isoc99_fscanf, (FILE *restrict f, const char *restrict fmt, ...), fmt, __isoc99_vfscanf(f, fmt, ap))
VARIADIC(fwprintf, (FILE *restrict f, const wchar_t *restrict fmt, ...), fmt, vfwprintf(f, fmt, ap))
VARIADIC(__fwprintf_chk, (FILE *restrict f, int flag, const wchar_t *restrict fmt, ...), fmt,
	 __vfwprintf_chk(f, flag, fmt, ap))
VARIADIC(__isoc99_fwscanf, (FILE *restrict f, const wchar_t *restrict fmt, ...), fmt, __isoc99_vfwscanf(f, fmt, ap))
