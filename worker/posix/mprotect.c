/*
 * mprotect.c - another protection for a range: of mappings, and of memory that the task has anyway.
 *
 * It takes effect in all workers before the call returns. A private mapping of a file becomes memory of the task, with the
 * file's bytes, when it is first made writable.
 */
#include "core/g/g.h"
#include "core/root.h"
#include "core/task/task.h"
#include "shm/heap.h"
#include "shm/segment.h"
#include "worker/posix/mmap.h"

#include <fcntl.h>
#include <stdio.h>

#define PROT_ALL (PROT_READ | PROT_WRITE | PROT_EXEC)
#ifndef PROT_SEM
#define PROT_SEM 8
#endif

static struct map_space *lock_space(struct g *g)
{
	struct map_space *s = has_maps(g);

	acquirem();
	if (s)
		sh_lock_take(&s->lock, (unsigned)getm->seat);
	return s;
}

static void unlock_space(struct map_space *s)
{
	if (s)
		sh_lock_drop(&s->lock, (unsigned)getm->seat);
	releasem();
}

static bool mapped(struct g *g, uintptr_t start, uintptr_t end)
{
	struct map_space *s = lock_space(g);
	bool whole = s && sh_maps_whole(s, start, end);

	unlock_space(s);
	return whole;
}

/* ---- a private mapping of a file that is to be written to ---- */

/* The first one in the range. */
static bool find_file(struct g *g, uintptr_t start, uintptr_t end, struct map_entry *e)
{
	struct map_space *s = lock_space(g);
	struct map_table *t = s ? atomic_load(&s->table) : NULL;
	bool found = false;

	for (uint32_t i = sh_maps_seek(t, start); t && i < t->n && t->e[i].start < end && !found; i++) {
		*e = sh_maps_cut(t->e[i], start, end);
		found = e->state == MAPS_USED && e->kind == MAPS_FILE && !(e->flags & MAPF_SHARED);
	}
	unlock_space(s);
	return found;
}

static bool same_mapping(struct map_space *s, const struct map_entry *e)
{
	struct map_entry *now = sh_maps_find(s, e->start);

	return now && now->kind == e->kind && now->fd == e->fd && now->end >= e->end &&
	       now->off + (e->start - now->start) == e->off;
}

/* Its pages are those of the copy from now on, and the copy's own addresses are free. */
static int replace_by(struct g *g, const struct map_entry *file, const struct map_entry *copy)
{
	struct map_space *s = sh_view_begin(g);
	struct map_entry e = *copy;
	struct map_edit ed;

	if (!s)
		return ENOMEM;
	if (!same_mapping(s, file) || !sh_maps_edit_begin(&ed, s, 2)) {
		sh_view_end(s);
		return ENOMEM;
	}
	e.start = file->start;
	e.end = file->end;
	e.prot = file->prot;
	sh_maps_edit_remove(&ed, file->start, file->end);
	sh_maps_edit_remove(&ed, copy->start, copy->end);
	sh_maps_edit_put(&ed, e);
	sh_maps_note_change(s, copy->start, copy->end);
	sh_maps_edit_commit(&ed, file->start, file->end);
	sh_view_end(s);
	return 0;
}

static bool file_used(struct map_space *s, int fd)
{
	struct map_table *t = s ? atomic_load(&s->table) : NULL;

	for (uint32_t i = 0; t && i < t->n; i++)
		if (t->e[i].kind == MAPS_FILE && t->e[i].state != MAPS_GONE && t->e[i].fd == fd)
			return true;
	return false;
}

static int make_memory(struct g *g, const struct map_entry *file)
{
	struct map_entry copy = {
		.kind = MAPS_MEMORY, .fd = -1, .prot = PROT_READ | PROT_WRITE, .end = file->end - file->start};
	struct map_space *s;
	bool used;
	int err = sh_map_add(g, &copy);

	if (err)
		return err;
	err = sh_map_read_in((char *)copy.start, copy.end - copy.start, file->fd, (off_t)file->off);
	if (!err)
		err = replace_by(g, file, &copy);
	if (err) {
		sh_map_leave(g, copy.start, copy.end, false);
		sh_map_leave_end(g);
		return err;
	}
	sh_view_wait(has_maps(g)); /* nobody reads the file there any more */
	s = lock_space(g);
	used = file_used(s, file->fd);
	unlock_space(s);
	if (!used)
		host_file_close(file->fd);
	return 0;
}

static int make_files_memory(struct g *g, uintptr_t start, uintptr_t end)
{
	struct map_entry file;
	int err = 0;

	while (!err && find_file(g, start, end, &file))
		err = make_memory(g, &file);
	return err;
}

/* ---- mappings ---- */

/* The parts of the range in the new table, with their new protection. 0 or an errno. */
static int put_protected(struct map_edit *ed, uintptr_t start, uintptr_t end, uint8_t prot)
{
	struct map_table *t = atomic_load(&ed->space->table);

	sh_maps_edit_remove(ed, start, end);
	for (uint32_t i = sh_maps_seek(t, start); i < t->n && t->e[i].start < end; i++) {
		struct map_entry e = sh_maps_cut(t->e[i], start, end);

		if (e.kind == MAPS_FILE && (e.flags & MAPF_SHARED) && (prot & PROT_WRITE) &&
		    (syscall(SYS_fcntl, e.fd, F_GETFL) & O_ACCMODE) != O_RDWR)
			return EACCES;
		e.prot = prot;
		if (e.kind == MAPS_MEMORY && prot & PROT_WRITE)
			e.flags &= (uint8_t)~MAPF_FREE;
		if (!sh_map_charge(ed->space, &e))
			return ENOMEM;
		sh_maps_edit_put(ed, e);
	}
	return 0;
}

static int protect_mapped(struct g *g, uintptr_t start, uintptr_t end, uint8_t prot)
{
	struct map_space *s;
	struct map_edit ed;
	int err = prot & PROT_WRITE ? make_files_memory(g, start, end) : 0;

	if (err)
		return err;
	s = sh_view_begin(g);
	if (!s)
		return ENOMEM;
	if (!sh_maps_whole(s, start, end) || !sh_maps_edit_begin(&ed, s, 2)) {
		sh_view_end(s);
		return ENOMEM;
	}
	err = put_protected(&ed, start, end, prot);
	if (err) {
		sh_maps_edit_drop(&ed);
		sh_heap_set_mapped(g->task->heap, (unsigned)getm->seat, sh_maps_charged(atomic_load(&s->table)));
	} else {
		sh_maps_edit_commit(&ed, start, end);
	}
	sh_view_end(s);
	if (!err)
		sh_view_wait(s);
	return err;
}

/* ---- memory that the task has anyway ---- */

static bool lendable(uintptr_t start, uintptr_t end)
{
	for (uintptr_t at = start; at < end; at += SH_PAGE)
		if (!sh_heap_owns(sh_root->arena, (void *)at) && (sh_in_segment((void *)at) || !sh_shared((void *)at)))
			return false;
	return !sh_in_area(start);
}

static int protect_lent(struct g *g, uintptr_t start, uintptr_t end, uint8_t prot)
{
	struct map_space *s = sh_view_begin(g);
	struct map_edit ed;

	if (!s)
		return ENOMEM;
	if (!sh_maps_edit_begin(&ed, s, 2)) {
		sh_view_end(s);
		return ENOMEM;
	}
	sh_maps_edit_remove(&ed, start, end);
	if (prot != (PROT_READ | PROT_WRITE))
		sh_maps_edit_put(
			&ed, (struct map_entry){.start = start, .end = end, .fd = -1, .kind = MAPS_LENT, .prot = prot});
	sh_maps_edit_commit(&ed, start, end);
	sh_view_end(s);
	sh_view_wait(s);
	return 0;
}

/* ---- all else is the worker's ---- */

static int refuse(struct g *g, uintptr_t start, size_t size, int prot)
{
	unsigned char one;
	char line[160];

	if (g->locked) /* pinned: it stays on this worker */
		return syscall(SYS_mprotect, start, size, prot) < 0 ? errno : 0;
	if (syscall(SYS_mincore, start, SH_PAGE, &one) < 0)
		return ENOMEM;
	sh_format(
		line, sizeof line,
		"shoal: mprotect of %p is refused: it is neither a mapping nor memory of the task (code, or a stack)\n",
		(void *)start);
	output_append(1, line, strlen(line));
	return EACCES;
}

int mprotect(void *p, size_t n, int prot)
{
	struct g *g = malloc_is_private ? NULL : on_g();
	uintptr_t start = (uintptr_t)p, end = start + page_up(n);
	int err;

	if (!g)
		return (int)syscall(SYS_mprotect, p, n, prot);
	if (start % SH_PAGE || (prot & ~(PROT_ALL | PROT_SEM)))
		err = EINVAL;
	else if (end < start || page_up(n) < n)
		err = ENOMEM;
	else if (start == end)
		err = 0;
	else if (mapped(g, start, end) && !lendable(start, end))
		err = protect_mapped(g, start, end, (uint8_t)(prot & PROT_ALL));
	else if (lendable(start, end))
		err = protect_lent(g, start, end, (uint8_t)(prot & PROT_ALL));
	else
		err = refuse(g, start, end - start, prot);
	if (!err)
		return 0;
	errno = err;
	return -1;
}

int pkey_mprotect(void *p, size_t n, int prot, int key)
{
	if (!on_g())
		return (int)syscall(SYS_pkey_mprotect, p, n, prot, key);
	if (key == -1)
		return mprotect(p, n, prot);
	errno = EINVAL; /* no goroutine has a key: a worker's registers are not its own */
	return -1;
}
