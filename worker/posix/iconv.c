/*
 * posix/iconv.c - conversions of character sets.
 *
 * All but a few sets are in libraries that libc loads when they are first asked for: into one worker
 * alone. A goroutine that has a conversion open for which its worker has loaded one, now or before, is
 * pinned until it closes it; those that libc has built in (UTF-8, UTF-16, UCS-4, ASCII) cost nothing.
 */
#include "core/sync/waitq.h"
#include "worker/posix/posix.h"

#include <iconv.h>
#include <link.h>

#define OPEN_MARK 0x1c0deull

struct conversion {
	uint64_t mark;
	iconv_t libc;
	shoal_gid pinned; /* who was, for it; 0: nobody */
};

REAL(iconv_t, iconv_open, (const char *to, const char *from), to, from)
REAL(size_t, iconv, (iconv_t cd, char **in, size_t *inleft, char **out, size_t *outleft), cd, in, inleft, out, outleft)
REAL(int, iconv_close, (iconv_t cd), cd)

static unsigned long long loads_at_start;

static int count_loads(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)size;
	*(unsigned long long *)arg = info->dlpi_adds;
	return 1;
}

static unsigned long long loads(void)
{
	unsigned long long n = 0;

	dl_iterate_phdr(count_loads, &n);
	return n;
}

/* What is loaded from now on is in this worker alone. */
void iconv_start(void)
{
	loads_at_start = loads();
}

static struct conversion *ours(iconv_t cd)
{
	struct conversion *c = cd;

	return c && cd != (iconv_t)-1 && sh_in_segment(c) && c->mark == OPEN_MARK ? c : NULL;
}

iconv_t iconv_open(const char *to, const char *from)
{
	struct g *g = posix_enter();
	struct conversion *c;
	int err;

	if (!g)
		return real_iconv_open(to, from);
	if (!(c = g_alloc(g, sizeof *c))) {
		errno = ENOMEM;
		return (iconv_t)-1;
	}
	shoal_pin(); /* from before the library is loaded */
	*c = (struct conversion){OPEN_MARK, real_iconv_open(to, from), loads() != loads_at_start ? g->gid : 0};
	err = errno;
	if (c->libc == (iconv_t)-1 || !c->pinned)
		shoal_unpin();
	else
		pin_keep(false);
	if (c->libc != (iconv_t)-1)
		return c;
	g_free(g, c);
	errno = err;
	return (iconv_t)-1;
}

size_t iconv(iconv_t cd, char **restrict in, size_t *restrict inleft, char **restrict out, size_t *restrict outleft)
{
	struct conversion *c = ours(cd);

	return real_iconv(c ? c->libc : cd, in, inleft, out, outleft);
}

int iconv_close(iconv_t cd)
{
	struct conversion *c = ours(cd);
	shoal_gid pinned = c ? c->pinned : 0;
	int r = real_iconv_close(c ? c->libc : cd);

	if (!c)
		return r;
	c->mark = 0;
	free(c);
	if (pinned && on_g() && pinned == getg()->gid)
		shoal_unpin();
	return r;
}
