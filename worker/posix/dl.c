/*
 * dl.c - the loader's interface (dlopen and its kin) as a task sees it.
 *
 * The copies in an instance call these functions in place of libc's (supervisor/zygote/elf_rewrite.c); the
 * runtime and the libraries that it links itself keep libc's. A handle is the loader's struct link_map, as
 * in libc, so it is the same on all workers. For the task its module is the program:
 *
 *     RTLD_DEFAULT, dlopen(NULL)   the module, what it links, what was opened with RTLD_GLOBAL, libc
 *     RTLD_NEXT                    the same order, behind the caller
 *     a handle                     the library, what it needs, libc
 */
#include "worker/posix/dl.h"
#include "core/root.h"
#include "worker/posix/dl_symbol.h"

#include <dlfcn.h>
#include <link.h>
#include <stdarg.h>
#include <stdio.h>

/* Off a goroutine they are libc's. */
void *sh_dlopen(const char *name, int flags);
void *sh_dlmopen(Lmid_t, const char *name, int flags);
int sh_dlclose(void *handle);
void *sh_dlsym(void *handle, const char *name);
void *sh_dlvsym(void *handle, const char *name, const char *version);
char *sh_dlerror(void);
int sh_dlinfo(void *handle, int request, void *info);
int sh_dl_iterate_phdr(int (*fn)(struct dl_phdr_info *, size_t, void *), void *arg);

/* ---- the lock and the state ---- */

int __cxa_guard_acquire(void *);
void __cxa_guard_abort(void *);

#define OF_G (1 << RUN_MARK_BITS) /* as in cxx.c */

void dl_lock(struct g *g)
{
	struct library_own *o = &library_room(g->task)->own;

	if (atomic_load(&o->lock.by) == ((int)run_mark(g) | OF_G)) {
		o->depth++;
		return;
	}
	__cxa_guard_acquire(&o->lock); /* its `done` is never set: a lock that a dead goroutine gives up */
	o->depth = 1;
}

void dl_unlock(struct g *g)
{
	struct library_own *o = &library_room(g->task)->own;

	if (--o->depth == 0)
		__cxa_guard_abort(&o->lock);
}

static bool more_room(struct g *g, struct dl_state *st, unsigned n)
{
	struct dl_object *object = g_alloc(g, n * sizeof *object);
	unsigned *built = g_alloc(g, n * sizeof *built);

	if (!object || !built)
		return false;
	memset(object, 0, n * sizeof *object);
	if (st->n) {
		memcpy(object, st->object, st->n * sizeof *object);
		memcpy(built, st->built, st->nbuilt * sizeof *built);
		g_free(g, st->object);
		g_free(g, st->built);
	}
	st->object = object;
	st->built = built;
	st->n = n;
	return true;
}

struct dl_state *dl_state(struct g *g)
{
	struct library_own *o = &library_room(g->task)->own;
	const struct objects *s = sh_objects_of(g->task);
	struct dl_state *st = o->opened;

	if (!st) {
		st = g_alloc(g, sizeof *st);
		if (!st)
			return NULL;
		memset(st, 0, sizeof *st);
		o->opened = st;
	}
	if (st->n < s->n && !more_room(g, st, s->n + 8))
		return NULL;
	return st;
}

/* ---- errors ---- */

static struct dl_error *error_of(struct g *g, struct dl_state *st, bool make)
{
	struct dl_error *e, *gone = NULL;
	uint32_t run = run_mark(g);

	for (e = st->errors; e && e->run != run; e = e->next)
		if (run_gone(e->run))
			gone = e;
	if (e || !make)
		return e;
	e = gone ? gone : g_alloc(g, sizeof *e);
	if (!e)
		return NULL;
	if (!gone) {
		e->next = st->errors;
		st->errors = e;
	}
	e->run = run;
	e->pending = false;
	return e;
}

void dl_fail(struct g *g, const char *fmt, ...)
{
	struct dl_state *st = dl_state(g);
	struct dl_error *e = st ? error_of(g, st, true) : NULL;
	va_list ap;

	if (!e)
		return;
	va_start(ap, fmt);
	vsnprintf(e->text, sizeof e->text, fmt, ap);
	va_end(ap);
	e->pending = true;
}

char *sh_dlerror(void)
{
	struct g *g = on_g();
	struct dl_error *e = NULL;
	bool pending = false;

	if (!g)
		return dlerror();
	if (!library_room(g->task)->own.opened)
		return NULL;
	dl_lock(g);
	e = error_of(g, library_room(g->task)->own.opened, false);
	if (e) {
		pending = e->pending;
		e->pending = false;
	}
	dl_unlock(g);
	return pending ? e->text : NULL;
}

/* ---- handles ---- */

uint32_t dl_by_handle(const struct objects *s, const void *handle)
{
	for (uint32_t i = 0; s && i < s->n; i++)
		if (s->object[i].map == handle)
			return i;
	return DL_NONE;
}

/* The object of the task that the code at the address belongs to. The module speaks for all else. */
static uint32_t caller_at(struct g *g, const void *address)
{
	const struct objects *s = sh_objects_of(g->task);
	const struct object *o = sh_objects_text(g->task, (uintptr_t)address);

	return o ? (uint32_t)(o - s->object) : 0;
}

void *sh_dlopen(const char *name, int flags)
{
	struct g *g = on_g();
	void *caller = __builtin_return_address(0), *handle = NULL;
	const char *slash;
	uint32_t i;

	if (!g)
		return dlopen(name, flags);
	if (!name || !*name)
		return sh_objects_of(g->task)->object[0].map;
	slash = strrchr(name, '/');
	dl_lock(g);
	if (sh_library_is_libcs(slash ? slash + 1 : name)) {
		handle = dl_open_family(g, slash ? slash + 1 : name, flags);
	} else {
		i = dl_open(g, name, flags, caller_at(g, caller));
		if (i != DL_NONE)
			handle = sh_objects_of(g->task)->object[i].map;
	}
	dl_unlock(g);
	return handle;
}

void *sh_dlmopen(Lmid_t space, const char *name, int flags)
{
	struct g *g = on_g();

	if (!g)
		return dlmopen(space, name, flags);
	if (space == LM_ID_BASE)
		return sh_dlopen(name, flags);
	dl_lock(g);
	dl_fail(g, "dlmopen: a task has one namespace");
	dl_unlock(g);
	return NULL;
}

int sh_dlclose(void *handle)
{
	struct g *g = on_g();
	uint32_t i;
	int r = 0;

	if (!g)
		return dlclose(handle);
	dl_lock(g);
	i = dl_by_handle(sh_objects_of(g->task), handle);
	if (i != DL_NONE) {
		dl_close(g, i);
	} else if (!dl_is_loaded(handle)) { /* libc's family stays open */
		dl_fail(g, "dlclose: invalid handle");
		r = -1;
	}
	dl_unlock(g);
	return r;
}

/* ---- symbols ---- */

/* Objects in the order in which a program's are looked at: position 0 is the module. */
static uint32_t in_global_order(const struct objects *s, const struct dl_state *st, unsigned position)
{
	if (position < s->nlinked)
		return position;
	position -= s->nlinked;
	return st && position < st->nglobals ? st->global[position] : DL_NONE;
}

static bool find_global(const struct objects *s, const struct dl_state *st, unsigned from, const char *name,
			const char *version, void **address)
{
	for (uint32_t i; (i = in_global_order(s, st, from)) != DL_NONE; from++)
		if (i < s->n && dl_symbol(&s->object[i], name, version, address))
			return true;
	return false;
}

/* Behind the caller; a library that is not in the global order is followed by libc alone. */
static bool find_next(const struct objects *s, const struct dl_state *st, uint32_t caller, const char *name,
		      const char *version, void **address)
{
	unsigned at = 0;
	uint32_t i;

	while ((i = in_global_order(s, st, at)) != DL_NONE && i != caller)
		at++;
	return i != DL_NONE && find_global(s, st, at + 1, name, version, address);
}

/* In the object and in what it needs, breadth first. */
static bool find_from(struct g *g, const struct objects *s, uint32_t first, const char *name, const char *version,
		      void **address)
{
	uint32_t *queue = g_alloc(g, s->n * sizeof *queue);
	unsigned n = 0;
	bool found = false;

	if (!queue)
		return false;
	queue[n++] = first;
	for (unsigned at = 0; at < n && !found; at++) {
		const struct object *o = &s->object[queue[at]];

		found = dl_symbol(o, name, version, address);
		for (unsigned k = 0; k < o->nneeds && !found; k++) {
			unsigned seen = 0;

			while (seen < n && queue[seen] != o->needs[k])
				seen++;
			if (seen == n)
				queue[n++] = o->needs[k];
		}
	}
	g_free(g, queue);
	return found;
}

static void *find_symbol(struct g *g, void *handle, const char *name, const char *version, uint32_t caller)
{
	const struct objects *s = sh_objects_of(g->task);
	struct dl_state *st = library_room(g->task)->own.opened;
	uint32_t i = dl_by_handle(s, handle);
	void *address = NULL;
	bool found;

	if (handle == RTLD_NEXT)
		found = find_next(s, st, caller, name, version, &address);
	else if (handle == RTLD_DEFAULT || i == 0)
		found = find_global(s, st, 0, name, version, &address);
	else
		found = i != DL_NONE && find_from(g, s, i, name, version, &address);
	if (!found)
		found = dl_of_process(i == DL_NONE && handle != RTLD_NEXT && handle != RTLD_DEFAULT ? handle : NULL,
				      name, version, &address);
	if (!found)
		dl_fail(g, "%s: undefined symbol: %.300s%s%.60s", i != DL_NONE ? s->object[i].path : s->object[0].path,
			name, version ? ", version " : "", version ? version : "");
	return address;
}

void *sh_dlsym(void *handle, const char *name)
{
	struct g *g = on_g();
	void *caller = __builtin_return_address(0), *address;

	if (!g)
		return dlsym(handle, name);
	dl_lock(g);
	address = find_symbol(g, handle, name, NULL, caller_at(g, caller));
	dl_unlock(g);
	return address;
}

void *sh_dlvsym(void *handle, const char *name, const char *version)
{
	struct g *g = on_g();
	void *caller = __builtin_return_address(0), *address;

	if (!g)
		return dlvsym(handle, name, version);
	dl_lock(g);
	address = find_symbol(g, handle, name, version, caller_at(g, caller));
	dl_unlock(g);
	return address;
}

/* ---- questions ---- */

int sh_dlinfo(void *handle, int request, void *info)
{
	struct g *g = on_g();
	const struct objects *s = g ? sh_objects_of(g->task) : NULL;
	uint32_t i = dl_by_handle(s, handle);
	const char *slash;

	if (i == DL_NONE || request != RTLD_DI_ORIGIN)
		return dlinfo(handle, request, info);
	slash = strrchr(s->object[i].path, '/'); /* the loader knows the path of the copy */
	sprintf(info, "%.*s", slash ? (int)(slash - s->object[i].path) : 1, slash ? s->object[i].path : ".");
	return 0;
}

struct visit {
	struct g *g;
	int (*fn)(struct dl_phdr_info *, size_t, void *);
	void *arg;
	struct dl_phdr_info *info; /* by order of the task; then what is libc's */
	unsigned n, room;
};

static bool is_visible(const struct objects *s, const struct dl_state *st, const struct dl_phdr_info *info)
{
	for (uint32_t i = 0; i < s->n; i++)
		if (s->object[i].base == info->dlpi_addr)
			return i < s->nlinked || (st && st->object[i].built);
	return sh_library_is_libcs(strrchr(info->dlpi_name, '/') ? strrchr(info->dlpi_name, '/') + 1
								 : info->dlpi_name) ||
	       strncmp(info->dlpi_name, "linux-vdso", 10) == 0;
}

static int collect(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct visit *v = arg;

	(void)size;
	if (v->n < v->room && is_visible(sh_objects_of(v->g->task), library_room(v->g->task)->own.opened, info))
		v->info[v->n++] = *info;
	return 0;
}

/* The module first, as a program is. The functions are called without any lock of the loader: they may park. */
int sh_dl_iterate_phdr(int (*fn)(struct dl_phdr_info *, size_t, void *), void *arg)
{
	struct g *g = on_g();
	struct visit v = {.g = g, .fn = fn, .arg = arg};
	const struct objects *s = g ? sh_objects_of(g->task) : NULL;
	int r = 0;

	if (!g)
		return dl_iterate_phdr(fn, arg);
	v.room = s->n + 32;
	v.info = g_alloc(g, v.room * sizeof *v.info);
	if (!v.info)
		return 0;
	acquirem(); /* the loader's lock is the process's */
	dl_iterate_phdr(collect, &v);
	releasem();
	for (unsigned pass = 0; pass < 2; pass++)
		for (unsigned i = 0; i < v.n && !r; i++)
			if ((v.info[i].dlpi_addr == s->object[0].base) == (pass == 0))
				r = fn(&v.info[i], sizeof v.info[i], arg);
	g_free(g, v.info);
	return r;
}
