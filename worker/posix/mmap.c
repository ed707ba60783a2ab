/*
 * mmap.c - mmap, munmap and mprotect on a goroutine: changes of its task's table of mappings.
 *
 * Memory without a file, private or shared, is pages of the area (shm/area.h). A private mapping of a file
 * that may be written to is such memory too, and begins as a copy of the file's bytes. All other
 * mappings of files are the file itself, held open as an inner descriptor and mapped by each worker.
 * Memory that the task has anyway, from malloc or as a variable, can be given another protection
 * (MAPS_LENT).
 *
 * How a change reaches all workers: core/task/maps.h.
 */
#include "worker/posix/mmap.h"
#include "core/g/g.h"
#include "core/host.h"
#include "core/root.h"
#include "core/sched/netpoll.h"
#include "core/task/task.h"
#include "shm/heap.h"
#include "shm/kill.h"
#include "shm/segment.h"
#include "worker/posix/filelock.h"
#include "worker/stacks.h"

#include <stdarg.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

#define LOWEST 65536ul
#define USER_END 0x7ffffffff000ul
#define PRIVATE_FIRST \
	0x680000000000ul /* what a worker maps for itself keeps out of the way of addresses that tasks choose */
#define COPY_STEP (1ul << 20)
#define LOW_FIRST 0x40000000ul /* MAP_32BIT */
#define LOW_END 0x80000000ul
#define LOW_STEP (1ul << 20)

static void *kernel_mmap(void *at, size_t n, int prot, int flags, int fd, off_t off)
{
	return (void *)syscall(SYS_mmap, at, n, prot, flags, fd, off);
}

/* ---- leaving: addresses are taken away ---- */

static bool leaves(const struct map_entry *e, uint32_t mark)
{
	return e->state == MAPS_LEAVING && e->leaver == mark;
}

/* In the new table [start, end) is on its way out; so is what goroutines that died had on its way out. */
static bool put_leaving(struct map_edit *ed, uintptr_t start, uintptr_t end, uint32_t mark, bool fill)
{
	struct map_table *t = atomic_load(&ed->space->table);
	struct map_entry blank = {.kind = MAPS_BLANK, .fd = -1, .state = MAPS_LEAVING, .leaver = mark};
	uintptr_t at = start;
	bool some = false;

	sh_maps_edit_remove(ed, start, end);
	for (uint32_t i = 0; i < ed->to->n; i++)
		if (ed->to->e[i].state == MAPS_LEAVING && run_gone(ed->to->e[i].leaver))
			ed->to->e[i].leaver = mark;
	for (uint32_t i = sh_maps_seek(t, start); t && i < t->n && t->e[i].start < end; i++) {
		struct map_entry e = sh_maps_cut(t->e[i], start, end);

		if (e.state == MAPS_GONE)
			continue;
		blank.start = at;
		blank.end = e.start;
		if (fill)
			sh_maps_edit_put(ed, blank);
		e.state = MAPS_LEAVING;
		e.leaver = mark;
		sh_maps_edit_put(ed, e);
		at = e.end;
		some = true;
	}
	blank.start = at;
	blank.end = end;
	if (fill)
		sh_maps_edit_put(ed, blank);
	return some || fill;
}

/* Another goroutine is taking away some of the range. */
static bool contended(struct map_space *s, uintptr_t start, uintptr_t end)
{
	struct map_table *t = atomic_load(&s->table);

	for (uint32_t i = sh_maps_seek(t, start); t && i < t->n && t->e[i].start < end; i++)
		if (t->e[i].state == MAPS_LEAVING && !run_gone(t->e[i].leaver))
			return true;
	return false;
}

/* Nobody has the pages any more: they are given back. */
static void discard_leaving(struct map_space *s, uint32_t mark)
{
	uintptr_t at = 0;

	for (;;) {
		struct map_entry e = {.end = 0};
		struct map_table *t;

		acquirem();
		sh_lock_take(&s->lock, (unsigned)getm->seat);
		t = atomic_load(&s->table);
		for (uint32_t i = sh_maps_seek(t, at); t && i < t->n && !e.end; i++)
			if (leaves(&t->e[i], mark))
				e = t->e[i];
		sh_lock_drop(&s->lock, (unsigned)getm->seat);
		if (e.end && e.kind == MAPS_MEMORY)
			sh_area_discard(e.off, e.end - e.start);
		releasem();
		if (!e.end)
			return;
		at = e.end;
	}
}

int sh_map_leave(struct g *g, uintptr_t start, uintptr_t end, bool fill)
{
	uint32_t mark = run_mark(g);
	struct map_space *s;
	struct map_edit ed;
	bool some;

	for (;;) {
		s = sh_view_begin(g);
		if (!s)
			return ENOMEM;
		if (!contended(s, start, end))
			break;
		sh_view_end(s);
		goyield();
	}
	if (!sh_maps_edit_begin(&ed, s, 2)) {
		sh_view_end(s);
		return ENOMEM;
	}
	some = put_leaving(&ed, start, end, mark, fill);
	if (some)
		sh_maps_edit_commit(&ed, start, end);
	else
		sh_maps_edit_drop(&ed);
	sh_view_end(s);
	if (!some)
		return 0;
	sh_view_wait(s);
	discard_leaving(s, mark);
	return 0;
}

/* Which of the files behind entries that are gone have no mapping any more. */
static unsigned unused_files(struct map_space *s, int *fd, unsigned n)
{
	struct map_table *t = atomic_load(&s->table);
	unsigned kept = 0;

	for (unsigned k = 0; k < n; k++) {
		bool used = false;

		for (uint32_t i = 0; i < t->n && !used; i++)
			used = t->e[i].kind == MAPS_FILE && t->e[i].state != MAPS_GONE && t->e[i].fd == fd[k];
		for (unsigned i = 0; i < kept && !used; i++)
			used = fd[i] == fd[k];
		if (!used)
			fd[kept++] = fd[k];
	}
	return kept;
}

void sh_map_leave_end_locked(struct map_space *s, uint32_t mark, int fd[MAP_CLOSES], unsigned *n)
{
	struct map_table *t = atomic_load(&s->table);

	*n = 0;
	for (uint32_t i = 0; t && i < t->n; i++) {
		struct map_entry *e = &t->e[i];

		if (!leaves(e, mark))
			continue;
		if (e->kind == MAPS_FILE) {
			if (*n == MAP_CLOSES)
				continue; /* at the next call */
			fd[(*n)++] = e->fd;
		}
		if (e->flags & MAPF_CHARGED)
			sh_heap_unmap(s->task->heap, (unsigned)getm->seat, e->end - e->start);
		e->state = MAPS_GONE;
		KILL_POINT("mmap.leave.gone");
	}
	*n = t ? unused_files(s, fd, *n) : 0;
}

void sh_map_files_close(const int *fd, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		host_file_close(fd[i]);
}

static bool any_leaving(struct map_space *s, uint32_t mark)
{
	struct map_table *t = atomic_load(&s->table);

	for (uint32_t i = 0; t && i < t->n; i++)
		if (leaves(&t->e[i], mark))
			return true;
	return false;
}

void sh_map_leave_end(struct g *g)
{
	struct map_space *s = has_maps(g);
	int fd[MAP_CLOSES], err = errno;
	unsigned n;
	bool more = s != NULL;

	while (more) {
		acquirem();
		sh_lock_take(&s->lock, (unsigned)getm->seat);
		sh_map_leave_end_locked(s, run_mark(g), fd, &n);
		more = any_leaving(s, run_mark(g));
		sh_lock_drop(&s->lock, (unsigned)getm->seat);
		sh_map_files_close(fd, n);
		releasem();
	}
	errno = err;
}

/* ---- adding ---- */

bool sh_map_can_choose(struct map_space *s, uintptr_t start, uintptr_t end, uint32_t mark)
{
	struct map_table *t = atomic_load(&s->table);
	void *p;

	for (uint32_t i = sh_maps_seek(t, start); t && i < t->n && t->e[i].start < end; i++)
		if (t->e[i].state != MAPS_GONE && !leaves(&t->e[i], mark))
			return false;
	if (sh_in_area(start))
		return sh_maps_own(s, start, end);
	if (start < LOWEST || end > USER_END || (start < SH_AREA + SH_AREA_SIZE && end > SH_BASE) ||
	    sh_shared((void *)start) || sh_shared((void *)(end - 1)))
		return false;
	p = kernel_mmap((void *)start, end - start, PROT_NONE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
	if (p != MAP_FAILED)
		syscall(SYS_munmap, p, end - start);
	return p == (void *)start;
}

bool sh_map_charge(struct map_space *s, struct map_entry *e)
{
	if (e->kind != MAPS_MEMORY || !(e->prot & PROT_WRITE) || e->flags & (MAPF_FREE | MAPF_CHARGED))
		return true;
	if (!sh_heap_map(s->task->heap, (unsigned)getm->seat, e->end - e->start))
		return false;
	e->flags |= MAPF_CHARGED;
	return true;
}

bool sh_map_find_pages(struct map_space *s, struct map_entry *e)
{
	size_t size = e->end - e->start;
	uintptr_t at = e->start;

	if (!sh_maps_own(s, e->start, e->end) || !sh_maps_unbacked(s, e->start - SH_AREA, size))
		at = sh_maps_room(s, size);
	e->off = at - SH_AREA;
	return at != 0;
}

/* Holds: space->lock. */
static int add_entry(struct map_space *s, struct map_entry *e, uint32_t mark, int *fd, unsigned *n)
{
	size_t size = e->end - e->start;
	struct map_edit ed;

	if (!e->start) {
		e->start = sh_maps_room(s, size);
		e->end = e->start + size;
		if (!e->start)
			return ENOMEM;
		if (e->kind == MAPS_MEMORY)
			e->off = e->start - SH_AREA;
	} else if (!sh_map_can_choose(s, e->start, e->end, mark)) {
		return EEXIST;
	} else if (e->kind == MAPS_MEMORY && !sh_map_find_pages(s, e)) {
		return ENOMEM;
	}
	sh_map_leave_end_locked(s, mark, fd, n);
	if (!sh_maps_edit_begin(&ed, s, 1))
		return ENOMEM;
	if (!sh_map_charge(s, e)) {
		sh_maps_edit_drop(&ed);
		return ENOMEM;
	}
	sh_maps_edit_put(&ed, *e);
	sh_maps_edit_commit(&ed, e->start, e->end);
	return 0;
}

int sh_map_add(struct g *g, struct map_entry *e)
{
	struct map_space *s = sh_view_begin(g);
	int fd[MAP_CLOSES], err;
	unsigned n = 0;

	if (!s)
		return ENOMEM;
	if (s->lock_future)
		e->flags |= MAPF_LOCKED;
	err = add_entry(s, e, run_mark(g), fd, &n);
	sh_view_end(s);
	sh_map_files_close(fd, n);
	sh_map_leave_end(g);
	if (!err)
		sh_view_wait(s);
	return err;
}

/* ---- files ---- */

int sh_map_file_open(int fd)
{
	return fd_inner((int)syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 0));
}

static bool is_zero_device(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == makedev(1, 5);
}

/* The kernel's word on such a mapping of the file: 0 or its errno. */
static int try_file(size_t n, int prot, int flags, int fd, off_t off)
{
	void *p = kernel_mmap(NULL, n, prot, flags & ~(MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_POPULATE | MAP_LOCKED), fd,
			      off);

	if (p == MAP_FAILED)
		return errno;
	syscall(SYS_munmap, p, n);
	return 0;
}

int sh_map_read_in(char *to, size_t n, int fd, off_t off)
{
	for (size_t at = 0; at < n;) {
		size_t step = n - at < COPY_STEP ? n - at : COPY_STEP;
		long r = BLOCKING(SYS_pread64, fd, to + at, step, off + (off_t)at);

		if (r < 0)
			return errno == EBADF ? EACCES : errno;
		if (r == 0)
			break;
		at += (size_t)r;
	}
	return 0;
}

static int add_file(struct g *g, struct map_entry *e, int fd, off_t off)
{
	int err;

	e->kind = MAPS_FILE;
	e->off = (uint64_t)off;
	e->fd = sh_map_file_open(fd);
	if (e->fd < 0)
		return errno == EMFILE ? ENFILE : errno;
	err = sh_map_add(g, e);
	if (err)
		host_file_close(e->fd);
	return err;
}

/* A private copy. Pages that lie wholly behind the end of the file fault, as those of the file do. */
static int add_copy(struct g *g, struct map_entry *e, int fd, off_t off, const struct stat *st)
{
	size_t size = e->end - e->start, in_file = off < st->st_size ? page_up((size_t)(st->st_size - off)) : 0;
	struct map_entry behind = *e;
	uint8_t prot = e->prot;
	int err;

	e->prot |= PROT_READ;
	err = sh_map_add(g, e);
	if (!err)
		err = sh_map_read_in((char *)e->start, in_file < size ? in_file : size, fd, off);
	if (!err && in_file < size) {
		behind.start = e->start + in_file;
		behind.end = e->end;
		behind.prot = prot & ~PROT_WRITE;
		err = sh_map_leave(g, behind.start, behind.end, true);
		if (!err)
			err = add_file(g, &behind, fd, off + (off_t)in_file);
	}
	if (err && e->start) {
		sh_map_leave(g, e->start, e->end, false);
		sh_map_leave_end(g);
	}
	return err;
}

/* ---- mmap ---- */

static bool at_rest(struct g *g, uintptr_t start, uintptr_t end)
{
	struct map_space *s = has_maps(g);
	bool vacant;

	if (!s)
		return true;
	acquirem();
	sh_lock_take(&s->lock, (unsigned)getm->seat);
	vacant = sh_maps_vacant(s, start, end);
	sh_lock_drop(&s->lock, (unsigned)getm->seat);
	releasem();
	return vacant;
}

/* Where it is to be; 0: anywhere. 0 or an errno. */
static int place(struct g *g, uintptr_t at, size_t size, int flags, struct map_entry *e)
{
	e->start = e->end = 0;
	if (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) {
		if (at % SH_PAGE || at + size < at)
			return at % SH_PAGE ? EINVAL : ENOMEM;
		e->start = at;
		if (flags & MAP_FIXED_NOREPLACE) {
			if (!at_rest(g, at, at + size))
				return EEXIST;
		} else if (!at) {
			return EPERM;
		} else if (!at_rest(g, at, at + size)) {
			int err = sh_map_leave(g, at, at + size, true);

			if (err)
				return err;
		}
	}
	e->end = e->start + size;
	return 0;
}

static int add_any(struct g *g, struct map_entry *e, int flags, int fd, off_t off)
{
	struct stat st = {0};
	int err;

	if (flags & MAP_ANONYMOUS)
		return sh_map_add(g, e);
	if (fstat(fd, &st) < 0)
		return errno;
	if (is_zero_device(&st))
		return sh_map_add(g, e);
	err = try_file(e->end - e->start, e->prot, flags, fd, off);
	if (err)
		return err;
	if (!(e->flags & MAPF_SHARED) && (e->prot & PROT_WRITE) && S_ISREG(st.st_mode))
		return add_copy(g, e, fd, off, &st);
	return add_file(g, e, fd, off);
}

/* Below 2 GiB, where a jump of 32 bits reaches all code. */
static int add_low(struct g *g, struct map_entry *e, int flags, int fd, off_t off)
{
	size_t size = e->end - e->start, step = size > LOW_STEP ? size : LOW_STEP;
	int err = ENOMEM;

	for (uintptr_t at = LOW_FIRST; at + size <= LOW_END; at += step) {
		e->start = at;
		e->end = at + size;
		err = add_any(g, e, flags, fd, off);
		if (err != EEXIST)
			return err;
	}
	return err;
}

static void *map_for_task(struct g *g, uintptr_t at, size_t size, int prot, int flags, int fd, off_t off)
{
	struct map_entry e = {.kind = MAPS_MEMORY, .fd = -1, .prot = (uint8_t)(prot & 7)};
	bool fixed = flags & (MAP_FIXED | MAP_FIXED_NOREPLACE);
	int err = place(g, at, size, flags, &e);

	if (err)
		return map_failed(err);
	if ((flags & MAP_TYPE) != MAP_PRIVATE)
		e.flags |= MAPF_SHARED;
	if (flags & MAP_NORESERVE)
		e.flags |= MAPF_FREE;
	if (flags & MAP_LOCKED)
		e.flags |= MAPF_LOCKED;
	if (!fixed && at) { /* a wish */
		e.start = page_down(at);
		e.end = e.start + size;
	}
	err = flags & MAP_32BIT && !e.start ? add_low(g, &e, flags, fd, off) : add_any(g, &e, flags, fd, off);
	if (err == EEXIST && !fixed && at) {
		e.start = 0;
		e.end = size;
		err = add_any(g, &e, flags, fd, off);
	}
	if (err && fixed)
		sh_map_leave_end(g);
	if (err)
		return map_failed(err == EEXIST && !(flags & MAP_FIXED_NOREPLACE) ? ENOMEM : err);
	if (flags & MAP_POPULATE && prot != PROT_NONE)
		syscall(SYS_madvise, e.start, size, prot & PROT_WRITE ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
	return (void *)e.start;
}

static void *map_for_process(void *at, size_t n, int prot, int flags, int fd, off_t off)
{
	static uintptr_t next = PRIVATE_FIRST;

	if (sh_loading_heap && (flags & MAP_ANONYMOUS) && !(flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)))
		return pages_take(n);
	if (getm && !at && !(flags & MAP_FIXED)) {
		at = (void *)next; /* a wish: the kernel takes another place if it is not free */
		next += page_up(n) + SH_PAGE;
	}
	return kernel_mmap(at, n, prot, flags, fd, off);
}

void *mmap(void *at, size_t n, int prot, int flags, int fd, off_t off)
{
	struct g *g = malloc_is_private ? NULL : on_g();
	size_t size = page_up(n);

	if (!g)
		return map_for_process(at, n, prot, flags, fd, off);
	if (!n || off % (off_t)SH_PAGE || off < 0 || !(flags & MAP_TYPE) || (flags & MAP_TYPE) > MAP_SHARED_VALIDATE)
		return map_failed(EINVAL);
	if (size < n || (flags & MAP_HUGETLB))
		return map_failed(ENOMEM);
	return map_for_task(g, (uintptr_t)at, size, prot, flags, fd, off);
}

void *mmap64(void *at, size_t n, int prot, int flags, int fd, off_t off)
{
	return mmap(at, n, prot, flags, fd, off);
}

int munmap(void *p, size_t n)
{
	struct g *g = malloc_is_private ? NULL : on_g();
	uintptr_t start = (uintptr_t)p, end = start + page_up(n);
	int err;

	if (!g)
		return sh_in_segment(p) ? 0 : (int)syscall(SYS_munmap, p, n);
	if (!n || start % SH_PAGE || end < start || page_up(n) < n) {
		errno = EINVAL;
		return -1;
	}
	if (!has_maps(g))
		return 0;
	err = sh_map_leave(g, start, end, false);
	if (!err)
		sh_map_leave_end(g);
	errno = err ? err : errno;
	return err ? -1 : 0;
}
