/*
 * mremap.c - mremap on a goroutine: the addresses of a mapping change, its pages stay where they are.
 *
 * A mapping may consist of several entries, after it has been moved and has grown. They move together.
 */
#include "core/g/g.h"
#include "core/root.h"
#include "core/task/task.h"
#include "shm/heap.h"
#include "shm/segment.h"
#include "worker/posix/mmap.h"

#include <stdarg.h>

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

struct move {
	uintptr_t start, end; /* as it is */
	uintptr_t to;	      /* where it is to be; 0: anywhere */
	size_t size;	      /* that it is to have: not less than it has */
	uint32_t mark;
};

/* What is behind the end of the mapping once it has grown. */
static struct map_entry growth(struct map_space *s, const struct move *mv, uintptr_t at)
{
	struct map_entry *last = sh_maps_find(s, mv->end - 1), e = *last;

	e.off = last->off + (mv->end - last->start);
	e.start = at + (mv->end - mv->start);
	e.end = at + mv->size;
	e.flags &= (uint8_t)~MAPF_CHARGED;
	return e;
}

static int put_growth(struct map_edit *ed, struct map_entry e)
{
	if (e.start >= e.end)
		return 0;
	if (e.kind == MAPS_MEMORY && !sh_maps_unbacked(ed->space, e.off, e.end - e.start) &&
	    !sh_map_find_pages(ed->space, &e))
		return ENOMEM;
	if (e.kind == MAPS_MEMORY && !sh_maps_own(ed->space, SH_AREA + e.off, SH_AREA + e.off + (e.end - e.start)) &&
	    !sh_map_find_pages(ed->space, &e))
		return ENOMEM;
	if (!sh_map_charge(ed->space, &e))
		return ENOMEM;
	sh_maps_edit_put(ed, e);
	return 0;
}

static void put_moved(struct map_edit *ed, const struct move *mv)
{
	struct map_table *t = atomic_load(&ed->space->table);

	for (uint32_t i = sh_maps_seek(t, mv->start); i < t->n && t->e[i].start < mv->end; i++) {
		struct map_entry e = sh_maps_cut(t->e[i], mv->start, mv->end);

		e.start += mv->to - mv->start;
		e.end += mv->to - mv->start;
		sh_maps_edit_put(ed, e);
	}
	sh_maps_edit_put(ed, (struct map_entry){.start = mv->start,
						.end = mv->end,
						.fd = -1,
						.kind = MAPS_BLANK,
						.state = MAPS_LEAVING,
						.leaver = mv->mark});
}

/* Holds: space->lock. */
static int grow_in_place(struct map_space *s, const struct move *mv)
{
	struct map_edit ed;
	uintptr_t end = mv->start + mv->size;
	int err;

	if (!sh_maps_vacant(s, mv->end, end) || !sh_map_can_choose(s, mv->end, end, 0))
		return ENOMEM;
	if (!sh_maps_edit_begin(&ed, s, 1))
		return ENOMEM;
	err = put_growth(&ed, growth(s, mv, mv->start));
	if (err)
		sh_maps_edit_drop(&ed);
	else
		sh_maps_edit_commit(&ed, mv->end, end);
	return err;
}

/* Holds: space->lock. */
static int move(struct map_space *s, struct move *mv, int *fd, unsigned *n)
{
	struct map_edit ed;
	int err;

	if (!mv->to)
		mv->to = sh_maps_room(s, mv->size);
	else if (!sh_map_can_choose(s, mv->to, mv->to + mv->size, mv->mark))
		return ENOMEM;
	sh_map_leave_end_locked(s, mv->mark, fd, n);
	if (!mv->to || !sh_maps_edit_begin(&ed, s, 3))
		return ENOMEM;
	sh_maps_edit_remove(&ed, mv->start, mv->end);
	put_moved(&ed, mv);
	err = put_growth(&ed, growth(s, mv, mv->to));
	if (err) {
		sh_maps_edit_drop(&ed);
		return err;
	}
	sh_maps_note_change(s, mv->to, mv->to + mv->size);
	sh_maps_edit_commit(&ed, mv->start, mv->end);
	return 0;
}

static int resize(struct g *g, struct move *mv, bool may_move)
{
	struct map_space *s = sh_view_begin(g);
	int fd[MAP_CLOSES], err;
	unsigned n = 0;
	bool in_place = !mv->to;

	if (!s)
		return ENOMEM;
	if (!sh_maps_whole(s, mv->start, mv->end)) {
		sh_view_end(s);
		return EFAULT;
	}
	err = in_place ? grow_in_place(s, mv) : ENOMEM;
	if (err && (may_move || mv->to)) {
		in_place = false;
		err = move(s, mv, fd, &n);
	}
	sh_view_end(s);
	sh_map_files_close(fd, n);
	if (err)
		return err;
	if (in_place)
		mv->to = mv->start;
	sh_view_wait(s);
	sh_map_leave_end(g);
	return 0;
}

/* An old size of 0: a second mapping of the same shared file. */
static void *map_again(struct g *g, uintptr_t start, size_t size, uintptr_t to)
{
	struct map_space *s = has_maps(g);
	struct map_entry *found, e = {0};
	int err;

	acquirem();
	sh_lock_take(&s->lock, (unsigned)getm->seat);
	found = sh_maps_find(s, start);
	if (found)
		e = sh_maps_cut(*found, start, UINTPTR_MAX);
	sh_lock_drop(&s->lock, (unsigned)getm->seat);
	releasem();
	if (!found || e.kind != MAPS_FILE || !(e.flags & MAPF_SHARED))
		return map_failed(found ? EINVAL : EFAULT);
	e.fd = sh_map_file_open(e.fd);
	if (e.fd < 0)
		return MAP_FAILED;
	e.start = to;
	e.end = to + size;
	err = sh_map_add(g, &e);
	if (err)
		host_file_close(e.fd);
	return err ? map_failed(err) : (void *)e.start;
}

static void *remap(struct g *g, uintptr_t start, size_t had, size_t size, int flags, uintptr_t to)
{
	struct move mv = {start, start + had, to, size, run_mark(g)};
	int err;

	if (flags & MREMAP_FIXED) {
		err = sh_map_leave(g, to, to + size, true);
		if (err)
			return map_failed(err);
	}
	if (!had)
		return map_again(g, start, size, to);
	if (size < had) {
		err = sh_map_leave(g, start + size, start + had, false);
		if (!to) {
			sh_map_leave_end(g);
			return err ? map_failed(err) : (void *)start;
		}
		mv.end = start + size;
	} else if (size == had && !to) {
		return (void *)start;
	}
	err = resize(g, &mv, flags & MREMAP_MAYMOVE);
	sh_map_leave_end(g);
	return err ? map_failed(err) : (void *)mv.to;
}

void *mremap(void *p, size_t had, size_t n, int flags, ...)
{
	struct g *g = malloc_is_private ? NULL : on_g();
	uintptr_t start = (uintptr_t)p, to = 0;
	size_t size = page_up(n);
	va_list ap;

	va_start(ap, flags);
	if (flags & MREMAP_FIXED)
		to = va_arg(ap, uintptr_t);
	va_end(ap);
	if (!g)
		return (void *)syscall(SYS_mremap, p, had, n, flags, to);
	had = page_up(had);
	if (start % SH_PAGE || !n || size < n || (flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED)) ||
	    (flags & MREMAP_FIXED &&
	     (!(flags & MREMAP_MAYMOVE) || !to || to % SH_PAGE || (to < start + had && start < to + size))) ||
	    (!had && !(flags & MREMAP_MAYMOVE)))
		return map_failed(EINVAL);
	if (!has_maps(g))
		return map_failed(EFAULT);
	return remap(g, start, had, size, flags, to);
}
