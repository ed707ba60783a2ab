/*
 * dl_open.c - libraries that a task opens and closes. See dl.h; the request to the zygote is described in
 * core/task/library.h.
 *
 * The zygote maps and relocates; constructors and destructors are called here, on the goroutine.
 */
#include "core/host.h"
#include "core/root.h"
#include "core/sched/m.h"
#include "core/sync/semtable.h"
#include "shm/kill.h"
#include "worker/posix/dl.h"
#include "worker/posix/own.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

/* ---- what is there ---- */

static const char *last_part(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static uint64_t hash_more(uint64_t h, const void *at, size_t n)
{
	const unsigned char *c = at;

	while (n-- > 0)
		h = (h ^ *c++) * 0x100000001b3u;
	return h;
}

/* LD_LIBRARY_PATH as it was when the task began; "": none. */
static const char *search_path(const struct task *t)
{
	static const char name[] = "LD_LIBRARY_PATH=";
	const char *at = task_args(t), *end = at + t->args_len;

	for (int i = 0; i < t->argc + t->nenv && at < end; i++, at += strlen(at) + 1)
		if (i >= t->argc && strncmp(at, name, sizeof name - 1) == 0)
			return at + sizeof name - 1;
	return "";
}

/* Stands for what decides how an object is found and where its symbols come from. */
static uint64_t scope_of(const struct task *t, const struct dl_state *st)
{
	const char *search = search_path(t);
	uint64_t h = hash_more(0xcbf29ce484222325u, st->global, st->nglobals * sizeof *st->global);

	return hash_more(h, search, strlen(search));
}

static bool is_file(const struct object *o, const struct stat *st)
{
	return o->device == st->st_dev && o->file == st->st_ino &&
	       o->changed_ns == st->st_ctim.tv_sec * 1000000000l + st->st_ctim.tv_nsec;
}

static bool is_called(const struct object *o, const char *name)
{
	return strcmp(o->path, name) == 0 || (o->soname && strcmp(o->soname, name) == 0) ||
	       (!strchr(name, '/') && strcmp(last_part(o->path), name) == 0);
}

/* Unchanged since it was copied. */
static bool is_current(const struct object *o)
{
	struct stat st;

	return stat(o->path, &st) == 0 && is_file(o, &st);
}

/* An object that serves: the task has it, or an earlier task has left it, loaded in the same scope. */
static uint32_t find_loaded(const struct objects *s, const struct dl_state *st, const char *name, uint64_t scope,
			    bool lazy)
{
	bool slash = strchr(name, '/') != NULL;
	struct stat file;

	for (uint32_t i = 0; i < s->n; i++)
		if ((i < s->nlinked || st->object[i].built) && is_called(&s->object[i], name))
			return i;
	if (slash && stat(name, &file) < 0)
		return DL_NONE;
	for (uint32_t i = 0; i < s->n; i++) {
		const struct object *o = &s->object[i];

		if (i >= s->nlinked && !st->object[i].built && (o->scope != scope || (o->lazy && !lazy)))
			continue;
		if (slash ? is_file(o, &file) : is_called(o, name) && is_current(o))
			return i;
	}
	return DL_NONE;
}

/* ---- the request ---- */

#define MOVE_NS 100000

/* A worker that was cloned before the load must not run the task while it has the new library's address. */
static bool runs_elsewhere(struct g *g)
{
	bool some = false;

	for (unsigned seat = 1; seat < SH_SEATS; seat++) {
		struct m *m = allm(seat);
		struct g *runs = atomic_load(&m->curg);

		if (atomic_load(&sh_root->seat[seat].state) != SEAT_LIVE || !runs || runs == g ||
		    runs->task != g->task || g_state(runs) != G_RUNNING ||
		    sh_root->seat[seat].load_gen >= g->task->load_gen)
			continue;
		atomic_store(&runs->preempt, 1);
		host_kick(seat);
		some = true;
	}
	return some;
}

/* Goes on where the library is, and so does the whole task. Parks. */
static void move_on(struct g *g)
{
	while (sh_root->seat[getm->seat].load_gen < g->task->load_gen)
		shoal_yield(); /* this worker is asked to leave; another one goes on here */
	do
		shoal_sleep(MOVE_NS); /* one that was about to run it has begun by then */
	while (runs_elsewhere(g));
}

static void fill_in(struct library_request *r, struct g *g, const struct dl_state *st, const char *name, int flags,
		    uint32_t caller)
{
	snprintf(r->name, sizeof r->name, "%s", name);
	snprintf(r->search, sizeof r->search, "%s", search_path(g->task));
	r->flags = (flags & RTLD_NOW ? 0 : LIBRARY_LAZY) | (flags & RTLD_DEEPBIND ? LIBRARY_FIRST : 0);
	r->caller = caller;
	r->cwd = task_own(g->task)->fd_cwd >= 0 ? task_own(g->task)->fd_cwd : g->task->fd_cwd;
	r->scope = scope_of(g->task, st);
	r->nglobals = st->nglobals;
	memcpy(r->global, st->global, sizeof r->global);
}

static void ask(struct g *g, struct library_request *r)
{
	uint64_t number = posix_new_state(), one = 1;
	struct shoal_waitq_ *q;

	atomic_store(&r->asked, number);
	KILL_POINT("library.asked");
	atomic_fetch_or(&rt->tasks.library[g->task->slot / 64], 1ull << g->task->slot % 64);
	KILL_POINT("library.marked");
	syscall(SYS_write, LIBRARY_FD, &one, sizeof one);
	while (atomic_load(&r->done) != number) {
		q = semtable_lock(g, &r->done);
		if (!q) /* no memory for the table: look again now and then */
			shoal_sleep(1000000);
		else if (atomic_load(&r->done) == number)
			semtable_unlock(q);
		else
			semtable_wait(q, g, &r->done, WAIT_LIBRARY, 0);
	}
	move_on(g);
}

static uint32_t load(struct g *g, struct dl_state *st, const char *name, int flags, uint32_t caller)
{
	struct library_request *r = &library_room(g->task)->request;

	if (strlen(name) >= sizeof r->name || strpbrk(name, "\t\n")) {
		dl_fail(g, "%.200s: cannot open shared object file: the name cannot be used", name);
		return DL_NONE;
	}
	fill_in(r, g, st, name, flags, caller);
	ask(g, r);
	if (r->code) {
		dl_fail(g, "%.*s", (int)sizeof r->message - 1, r->message);
		return DL_NONE;
	}
	return r->object;
}

/* A library of libc's family: the process's, for which a handle of the loader is given out. */
void *dl_open_family(struct g *g, const char *name, int flags)
{
	struct dl_state *st = dl_state(g);
	void *handle = dl_family_handle(name);
	struct library_request *r = &library_room(g->task)->request;

	if (handle || flags & RTLD_NOLOAD || !st)
		return handle;
	fill_in(r, g, st, name, RTLD_NOW, 0);
	r->flags = LIBRARY_LIBC_FAMILY;
	ask(g, r);
	handle = r->code ? NULL : dl_family_handle(name);
	if (!handle)
		dl_fail(g, "%.*s", (int)sizeof r->message - 1, r->message);
	return handle;
}

/* ---- constructors and destructors ---- */

/* Those of the object and of what it needs, innermost first. Parks: tables are looked up anew after each call. */
static bool build(struct g *g, uint32_t i)
{
	const struct objects *s = sh_objects_of(g->task);
	struct dl_state *st = dl_state(g);

	if (!st || i >= s->n)
		return false;
	if (i < s->nlinked || st->object[i].built)
		return true;
	st->object[i].built = true; /* first: of two that need each other one begins */
	for (unsigned k = 0; k < s->object[i].nneeds; k++) {
		if (!build(g, s->object[i].needs[k]))
			return false;
		s = sh_objects_of(g->task);
	}
	st = dl_state(g);
	st->built[st->nbuilt++] = i;
	sh_object_construct(&s->object[i], g->task->argc, g->task->argv, environ);
	return true;
}

static void mark_needed(const struct objects *s, const struct dl_state *st, uint32_t i, bool *needed)
{
	if (needed[i])
		return;
	needed[i] = true;
	for (unsigned k = 0; k < s->object[i].nneeds; k++)
		mark_needed(s, st, s->object[i].needs[k], needed);
}

/* The last one built that nothing open needs any more, taken off the list. DL_NONE: there is none. */
static uint32_t take_unneeded(struct g *g, struct dl_state *st)
{
	const struct objects *s = sh_objects_of(g->task);
	bool *needed = g_alloc(g, st->n * sizeof *needed);
	uint32_t found = DL_NONE;

	if (!needed)
		return DL_NONE;
	memset(needed, 0, st->n * sizeof *needed);
	for (uint32_t i = s->nlinked; i < s->n; i++)
		if (st->object[i].refs || st->object[i].kept)
			mark_needed(s, st, i, needed);
	for (unsigned k = st->nbuilt; k-- > 0 && found == DL_NONE;) {
		if (needed[st->built[k]])
			continue;
		found = st->built[k];
		memmove(&st->built[k], &st->built[k + 1], (--st->nbuilt - k) * sizeof *st->built);
	}
	g_free(g, needed);
	return found;
}

static void drop_global(struct dl_state *st, uint32_t i)
{
	for (uint32_t k = 0; k < st->nglobals; k++)
		if (st->global[k] == i)
			memmove(&st->global[k], &st->global[k + 1], (--st->nglobals - k) * sizeof *st->global);
	st->object[i].global = false;
}

void dl_close(struct g *g, uint32_t i)
{
	struct dl_state *st = dl_state(g);

	if (!st || !st->object[i].refs || --st->object[i].refs)
		return;
	while ((i = take_unneeded(g, st)) != DL_NONE) {
		sh_object_destroy(&sh_objects_of(g->task)->object[i]);
		st = dl_state(g);
		drop_global(st, i);
		st->object[i].built = false;
		sh_object_reset(&sh_objects_of(g->task)->object[i]); /* as a library that is loaded anew */
	}
}

void dl_end(struct g *g)
{
	struct dl_state *st;

	if (!library_room(g->task)->own.opened)
		return;
	dl_lock(g);
	while ((st = dl_state(g)) && st->nbuilt > 0) {
		uint32_t i = st->built[--st->nbuilt];

		sh_object_destroy(&sh_objects_of(g->task)->object[i]);
	}
	dl_unlock(g);
}

/* ---- open ---- */

uint32_t dl_open(struct g *g, const char *name, int flags, uint32_t caller)
{
	struct dl_state *st = dl_state(g);
	uint32_t i;

	if (!st) {
		dl_fail(g, "%.200s: no memory", name);
		return DL_NONE;
	}
	i = find_loaded(sh_objects_of(g->task), st, name, scope_of(g->task, st), !(flags & RTLD_NOW));
	if (flags & RTLD_NOLOAD && (i == DL_NONE || (i >= sh_objects_of(g->task)->nlinked && !st->object[i].built)))
		return DL_NONE;
	if (i == DL_NONE)
		i = load(g, st, name, flags, caller);
	if (i == DL_NONE || !(st = dl_state(g)) || i >= st->n)
		return DL_NONE;
	st->object[i].refs++;
	st->object[i].kept |= (flags & RTLD_NODELETE) != 0;
	if (flags & RTLD_GLOBAL && i >= sh_objects_of(g->task)->nlinked && !st->object[i].global &&
	    st->nglobals < LIBRARY_GLOBALS) {
		st->object[i].global = true;
		st->global[st->nglobals++] = i;
	}
	return build(g, i) ? i : DL_NONE;
}
