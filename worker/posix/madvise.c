/*
 * madvise.c - madvise, msync, mincore, mlock and their kin, and brk, on a goroutine.
 *
 * What gives pages back is done once, for all workers. Advice is the kernel's and is given to this worker's
 * mapping; as a hint it means what it should. Locked is a property of the mapping: each worker locks
 * what it maps.
 */
#include "core/g/g.h"
#include "core/root.h"
#include "core/task/task.h"
#include "shm/heap.h"
#include "shm/kill.h"
#include "shm/segment.h"
#include "worker/posix/libc.h"
#include "worker/posix/mmap.h"
#include "worker/posix/thread_cancel.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif
#define BRK_ROOM (1ul << 30)

/* The used entry at or after the address, cut to the range. */
static bool next_entry(struct map_space *s, uintptr_t at, uintptr_t end, struct map_entry *e)
{
	struct map_table *t;
	bool found = false;

	acquirem();
	sh_lock_take(&s->lock, (unsigned)getm->seat);
	t = atomic_load(&s->table);
	for (uint32_t i = sh_maps_seek(t, at); t && i < t->n && t->e[i].start < end && !found; i++) {
		*e = sh_maps_cut(t->e[i], at, end);
		found = e->state == MAPS_USED;
	}
	sh_lock_drop(&s->lock, (unsigned)getm->seat);
	releasem();
	return found;
}

/* Of a range without holes. */
static bool is_mapped(struct g *g, uintptr_t start, uintptr_t end)
{
	struct map_space *s = has_maps(g);
	struct map_entry e;

	while (s && start < end && next_entry(s, start, end, &e) && e.start == start)
		start = e.end;
	return start >= end;
}

/* ---- madvise ---- */

static int discard(struct map_space *s, uintptr_t start, uintptr_t end, int advice)
{
	struct map_entry e;

	for (uintptr_t at = start; at < end && next_entry(s, at, end, &e); at = e.end) {
		if (e.kind == MAPS_MEMORY)
			sh_area_discard(e.off, e.end - e.start);
		else if (e.kind == MAPS_FILE && syscall(SYS_madvise, e.start, e.end - e.start, advice) < 0)
			return -1;
	}
	return 0;
}

static bool concerns_fork(int advice)
{
	return advice == MADV_DONTFORK || advice == MADV_DOFORK || advice == MADV_WIPEONFORK ||
	       advice == MADV_KEEPONFORK || advice == MADV_MERGEABLE || advice == MADV_UNMERGEABLE;
}

static int advise_mapped(struct map_space *s, uintptr_t start, uintptr_t end, int advice)
{
	if (concerns_fork(advice)) /* there is none */
		return 0;
	if (advice == MADV_DONTNEED || advice == MADV_FREE || advice == MADV_REMOVE)
		return discard(s, start, end, advice);
	if (advice == MADV_GUARD_INSTALL || advice == MADV_GUARD_REMOVE) { /* of one process */
		errno = EINVAL;
		return -1;
	}
	sh_view_refresh();
	return (int)syscall(SYS_madvise, start, end - start, advice);
}

int madvise(void *p, size_t n, int advice)
{
	struct g *g = malloc_is_private ? NULL : on_g();
	uintptr_t start = (uintptr_t)p, end = start + page_up(n);

	if (g && start % SH_PAGE == 0 && end > start && is_mapped(g, start, end))
		return advise_mapped(has_maps(g), start, end, advice);
	if (g && sh_heap_owns(sh_root->arena, p)) { /* a block of malloc's */
		if (advice == MADV_DONTNEED)
			advice = MADV_REMOVE; /* reads as zeros afterwards */
		else if (advice == MADV_FREE)
			return 0;
	}
	return (int)syscall(SYS_madvise, p, n, advice);
}

/* ---- msync, mincore ---- */

int msync(void *p, size_t n, int flags)
{
	CANCEL_POINT();
	struct g *g = posix_enter();
	int r;

	if (!g)
		return (int)syscall(SYS_msync, p, n, flags);
	sh_view_refresh();
	r = (int)BLOCKING(SYS_msync, p, n, flags);
	if (r < 0 && errno == ENOMEM && is_mapped(g, (uintptr_t)p, (uintptr_t)p + page_up(n)))
		return 0; /* pages that nobody may touch are not mapped */
	return r;
}

int mincore(void *p, size_t n, unsigned char *in)
{
	struct g *g = on_g();
	uintptr_t start = (uintptr_t)p, end = start + page_up(n);
	struct map_entry e;

	if (!g || start % SH_PAGE || !is_mapped(g, start, end))
		return (int)syscall(SYS_mincore, p, n, in);
	sh_view_refresh();
	for (uintptr_t at = start; at < end && next_entry(has_maps(g), at, end, &e); at = e.end)
		if (e.prot == PROT_NONE && sh_in_area(e.start))
			memset(in + (e.start - start) / SH_PAGE, 0, (e.end - e.start) / SH_PAGE);
		else if (syscall(SYS_mincore, e.start, e.end - e.start, in + (e.start - start) / SH_PAGE) < 0)
			return -1;
	return 0;
}

/* ---- locked memory ---- */

/* The entries of the range are locked, or no longer, in workers that map them from now on. */
static int mark_locked(struct g *g, uintptr_t start, uintptr_t end, bool yes)
{
	struct map_space *s = has_maps(g) ? sh_view_begin(g) : NULL;
	struct map_table *t;
	struct map_edit ed;

	if (!s)
		return 0;
	t = atomic_load(&s->table);
	if (!sh_maps_edit_begin(&ed, s, 2)) {
		sh_view_end(s);
		return -1;
	}
	sh_maps_edit_remove(&ed, start, end);
	for (uint32_t i = sh_maps_seek(t, start); t && i < t->n && t->e[i].start < end; i++) {
		struct map_entry e = sh_maps_cut(t->e[i], start, end);

		if (e.state == MAPS_USED && e.kind != MAPS_LENT)
			e.flags = (uint8_t)(yes ? e.flags | MAPF_LOCKED : e.flags & ~MAPF_LOCKED);
		sh_maps_edit_put(&ed, e);
	}
	sh_maps_edit_commit(&ed, 0, 0);
	sh_view_end(s);
	return 0;
}

static int lock_range(long call, const void *p, size_t n, unsigned flags, bool yes)
{
	struct g *g = on_g();
	uintptr_t start = page_down((uintptr_t)p), end = page_up((uintptr_t)p + n);

	if (g)
		sh_view_refresh();
	if (syscall(call, p, n, flags) < 0)
		return -1;
	return g && mark_locked(g, start, end, yes) < 0 ? -1 : 0;
}

int mlock(const void *p, size_t n)
{
	return lock_range(SYS_mlock, p, n, 0, true);
}

int mlock2(const void *p, size_t n, unsigned flags)
{
	return lock_range(SYS_mlock2, p, n, flags, true);
}

int munlock(const void *p, size_t n)
{
	return lock_range(SYS_munlock, p, n, 0, false);
}

static void lock_from_now_on(struct g *g, bool yes)
{
	struct map_space *s = sh_view_begin(g);

	if (!s)
		return;
	s->lock_future = yes;
	KILL_POINT("madvise.lock.future");
	sh_view_end(s);
}

/* All of the task, which is its mappings: what the worker has besides is the runtime's. */
int mlockall(int flags)
{
	struct g *g = on_g();
	struct map_entry e;

	if (!g)
		return (int)syscall(SYS_mlockall, flags);
	if (!flags || (flags & ~(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT)) || flags == MCL_ONFAULT) {
		errno = EINVAL;
		return -1;
	}
	if (flags & MCL_FUTURE)
		lock_from_now_on(g, true);
	if (flags & MCL_CURRENT && has_maps(g))
		for (uintptr_t at = 0; next_entry(has_maps(g), at, UINTPTR_MAX, &e); at = e.end)
			if (e.prot != PROT_NONE && mlock((void *)e.start, e.end - e.start) < 0)
				return -1;
	return 0;
}

int munlockall(void)
{
	struct g *g = on_g();
	struct map_entry e;

	if (!g)
		return (int)syscall(SYS_munlockall);
	if (!has_maps(g))
		return 0;
	lock_from_now_on(g, false);
	for (uintptr_t at = 0; next_entry(has_maps(g), at, UINTPTR_MAX, &e); at = e.end)
		if (e.flags & MAPF_LOCKED)
			munlock((void *)e.start, e.end - e.start);
	return 0;
}

/* ---- brk: a mapping of fixed size, of which a part is usable ---- */

static int start_brk(struct g *g, struct map_space **out)
{
	void *room = has_maps(g) && has_maps(g)->brk_start
			     ? NULL
			     : mmap(NULL, BRK_ROOM, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct map_space *s;
	bool mine;

	if (room == MAP_FAILED)
		return -1;
	s = sh_view_begin(g);
	if (!s)
		return -1;
	mine = !s->brk_start;
	if (mine) {
		s->brk = (uintptr_t)room;
		KILL_POINT("madvise.brk.end");
		s->brk_start = (uintptr_t)room;
		KILL_POINT("madvise.brk.start");
	}
	sh_view_end(s);
	if (!mine && room)
		munmap(room, BRK_ROOM);
	*out = s;
	return 0;
}

static int set_brk(struct map_space *s, uintptr_t to)
{
	uintptr_t was = page_up(s->brk), now = page_up(to);

	if (to < s->brk_start || to > s->brk_start + BRK_ROOM) {
		errno = ENOMEM;
		return -1;
	}
	if (now > was && mprotect((void *)was, now - was, PROT_READ | PROT_WRITE) < 0)
		return -1;
	if (now < was &&
	    mmap((void *)now, was - now, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		return -1;
	s->brk = to;
	KILL_POINT("madvise.brk.moved");
	return 0;
}

int brk(void *to)
{
	struct g *g = on_g();
	struct map_space *s;

	if (!g) {
		static int (*libc)(void *);

		LIBC_FIND(libc, "brk");
		return libc(to);
	}
	return start_brk(g, &s) < 0 ? -1 : set_brk(s, (uintptr_t)to);
}

void *sbrk(intptr_t n)
{
	struct g *g = on_g();
	struct map_space *s;
	uintptr_t was;

	if (!g) {
		static void *(*libc)(intptr_t);

		LIBC_FIND(libc, "sbrk");
		return libc(n);
	}
	if (start_brk(g, &s) < 0)
		return (void *)-1;
	was = s->brk;
	return n && set_brk(s, was + (uintptr_t)n) < 0 ? (void *)-1 : (void *)was;
}
