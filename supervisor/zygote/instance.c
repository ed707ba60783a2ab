/*
 * instance.c - loads a module and its libraries in the zygote. Each instance has its own copy of all of them.
 *
 * The loader maps and relocates the copies (copies.c) in one call. They are opened with RTLD_DEEPBIND, and no copy
 * needs libc. So the loader looks for a symbol first in the instance, then in the program (which stands in for
 * malloc and for the calls that park), then in libc.
 *
 *     before                          after sh_instance_load
 *     text, constants   private       private, the same in all processes cloned later
 *     relocated, then   private       private, the same ...
 *       read only (RELRO)
 *     variables         private       shared: one memfd for each load, mapped over them (variables.c)
 *
 * Constructors run on the root goroutine of each task (worker/posix/constructors.c). So what they allocate,
 * register and open belongs to the task, and a reset only restores the variables.
 *
 * A library that a task opens (sh_instance_open) is added to its instance and stays there: when a later task of
 * the instance opens the same file, it gets the same copy with fresh variables. The loader opens a stub (stub.c)
 * that needs the module and its libraries first, then the libraries opened with RTLD_GLOBAL, then the new file. So
 * symbols are looked up in that order, as in a program.
 *
 * OWNER  the zygote. A clone inherits `struct instance`, but only a standby uses it
 * DEATH  of the zygote: the standby was cloned after the last load and has the same mappings
 */
#include "supervisor/zygote/instance.h"
#include "core/process.h"
#include "shm/check.h"
#include "shm/kernel.h"
#include "shm/segment.h"
#include "supervisor/zygote/copies.h"
#include "supervisor/zygote/reserve.h"
#include "supervisor/zygote/stub.h"
#include "supervisor/zygote/variables.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OPENED_MOST 64 /* an instance in which tasks have opened more objects serves no further task */
#define PAGE_DOWN(a) ((uintptr_t)(a) & ~(SH_PAGE - 1))
#define PAGE_UP(a) PAGE_DOWN((uintptr_t)(a) + SH_PAGE - 1)

struct instance {
	uint64_t number;
	struct objects objects;
	struct copies copies; /* copy i is object i */
	struct variables *variables;
	void **handles; /* of all loads; the module's handle is the first */
	unsigned nhandles;
};

/* ---- objects in memory ---- */

static bool add_range(struct object *o, uintptr_t start, uintptr_t end, int prot)
{
	struct object_range *more;

	if (start >= end)
		return true;
	more = realloc(o->range, (o->nranges + 1) * sizeof *more);
	if (!more)
		return false;
	o->range = more;
	more[o->nranges++] = (struct object_range){.start = start, .size = end - start, .prot = prot};
	return true;
}

/* Adds the ranges of a writable segment, without the pages that the loader has made read-only. */
static bool add_segment(struct object *o, const ElfW(Phdr) * p, const ElfW(Phdr) * relro)
{
	uintptr_t start = PAGE_DOWN(o->base + p->p_vaddr), end = PAGE_UP(o->base + p->p_vaddr + p->p_memsz);
	uintptr_t from = relro ? PAGE_DOWN(o->base + relro->p_vaddr) : 0;
	uintptr_t to = relro ? PAGE_DOWN(o->base + relro->p_vaddr + relro->p_memsz) : 0;
	int prot = PROT_READ | PROT_WRITE | (p->p_flags & PF_X ? PROT_EXEC : 0);

	if (from < to && from < end && to > start)
		return add_range(o, start, from, prot) && add_range(o, to, end, prot);
	return add_range(o, start, end, prot);
}

static bool find_segments(struct object *o, const struct elf_tail *tail)
{
	const ElfW(Phdr) *p = (const ElfW(Phdr) *)(o->base + tail->address), *relro = NULL;

	for (unsigned i = 0; i < tail->nphdr; i++)
		if (p[i].p_type == PT_GNU_RELRO)
			relro = &p[i];
	for (unsigned i = 0; i < tail->nphdr; i++) {
		uintptr_t start = PAGE_DOWN(o->base + p[i].p_vaddr),
			  end = PAGE_UP(o->base + p[i].p_vaddr + p[i].p_memsz);

		if (p[i].p_type != PT_LOAD)
			continue;
		if (end > o->end)
			o->end = end;
		if (p[i].p_flags & PF_X && (!o->text || start < o->text))
			o->text = start;
		if (p[i].p_flags & PF_X && end > o->text_end)
			o->text_end = end;
		if (p[i].p_flags & PF_W && !add_segment(o, &p[i], relro))
			return false;
	}
	return true;
}

static void find_calls(struct object *o, const struct elf_calls *c)
{
	o->init = c->init ? (object_init *)(o->base + c->init) : NULL;
	o->init_array = c->init_array ? (object_init **)(o->base + c->init_array) : NULL;
	o->ninit = c->init_array ? c->init_size / sizeof *o->init_array : 0;
	o->fini = c->fini ? (object_fini *)(o->base + c->fini) : NULL;
	o->fini_array = c->fini_array ? (object_fini **)(o->base + c->fini_array) : NULL;
	o->nfini = c->fini_array ? c->fini_size / sizeof *o->fini_array : 0;
}

/* From here on dladdr, debuggers and messages show the path of the file. The loader frees the name. */
static void rename_object(struct link_map *map, const char *path)
{
	char *name = strdup(path);

	if (!name)
		return;
	free(map->l_name);
	map->l_name = name;
}

static bool fill_object(struct object *o, struct link_map *map, const struct copy *c)
{
	o->map = map;
	o->base = map->l_addr;
	o->path = c->path;
	o->soname = c->soname;
	o->needs = c->needs;
	o->nneeds = c->nneeds;
	o->device = c->mark.dev;
	o->file = c->mark.ino;
	o->changed_ns = c->mark.ctime.tv_sec * 1000000000l + c->mark.ctime.tv_nsec;
	dlinfo(map, RTLD_DI_TLS_MODID, &o->tls_module);
	find_calls(o, &c->calls);
	rename_object(map, c->path);
	return find_segments(o, &c->tail);
}

/* Fills in the objects from index `from` on. In the loader's list, the objects of a load follow its handle. */
static bool find_objects(struct instance *in, void *handle, unsigned from)
{
	struct link_map *map;
	unsigned found = from;

	if (dlinfo(handle, RTLD_DI_LINKMAP, &map) != 0)
		return false;
	for (; map; map = map->l_next)
		for (unsigned i = from; i < in->copies.n; i++) {
			if (strcmp(map->l_name, in->copies.copy[i].load) != 0)
				continue;
			if (!fill_object(&in->objects.object[i], map, &in->copies.copy[i]))
				return false;
			found++;
			break;
		}
	return found == in->copies.n;
}

/* ---- loading ---- */

static bool make_room(struct instance *in)
{
	struct objects *s = &in->objects;
	unsigned n = in->copies.n;
	struct object *object = realloc(s->object, n * sizeof *object);
	unsigned *by_text = realloc(s->by_text, n * sizeof *by_text);
	void **handles = realloc(in->handles, (in->nhandles + 1) * sizeof *handles);

	if (object)
		s->object = object;
	if (by_text)
		s->by_text = by_text;
	if (handles)
		in->handles = handles;
	if (!object || !by_text || !handles)
		return false;
	memset(object + s->n, 0, (n - s->n) * sizeof *object);
	return true;
}

/* Undoes the last load: removes the objects from index `from` on and closes the handle. */
static void drop_objects(struct instance *in, unsigned from, void *handle)
{
	for (unsigned i = from; i < in->copies.n && in->objects.object; i++) {
		free(in->objects.object[i].range);
		in->objects.object[i].range = NULL;
	}
	if (handle)
		dlclose(handle);
	sh_copies_drop(&in->copies, from);
	in->objects.n = from;
}

/* Loads the copies from index `from` on, by opening the file at that path, which needs them. */
static int load_copies(struct instance *in, const char *path, int mode, unsigned from, const struct load *l,
		       char *message, size_t n)
{
	void *handle;
	const char *complaint;
	struct variables *v = NULL;

	if (!make_room(in)) {
		snprintf(message, n, "%s: out of memory", l->name);
		return 125;
	}
	handle = dlopen(path, mode | RTLD_LOCAL | RTLD_DEEPBIND);
	if (!handle) {
		complaint = dlerror();
		sh_copies_explain(&in->copies, complaint ? complaint : "cannot be loaded", message, n);
		return 126;
	}
	if (!find_objects(in, handle, from)) {
		snprintf(message, n, "%s: the loader loaded objects that do not match its libraries", l->name);
		drop_objects(in, from, handle);
		return 125;
	}
	if (!l->trial && !(v = sh_variables_share(&in->objects.object[from], in->copies.n - from))) {
		snprintf(message, n, "%s: no memory for its variables: %s", l->name, strerror(errno));
		drop_objects(in, from, handle);
		return 125;
	}
	if (v) {
		v->next = in->variables;
		in->variables = v;
	}
	in->handles[in->nhandles++] = handle;
	in->objects.n = in->copies.n;
	return 0;
}

static int load_linked(struct instance *in, const struct load *l, const struct closure *c, char *message, size_t n)
{
	struct objects *s = &in->objects;
	int code = sh_copies_add_module(&in->copies, l->module, l->name, c->module, message, n);

	if (!code)
		code = sh_copies_add_libraries(&in->copies, c, message, n);
	if (!code)
		code = sh_copies_rewrite(&in->copies, 0, message, n);
	if (!code)
		code = load_copies(in, in->copies.copy[0].load, RTLD_NOW, 0, l, message, n);
	if (code)
		return code;
	s->handle = in->handles[0];
	s->nlinked = s->n;
	s->order = calloc(s->n, sizeof *s->order);
	if (!s->order || !sh_copies_order(&in->copies, s->order)) {
		snprintf(message, n, "%s: out of memory", l->name);
		return 125;
	}
	if (!s->object[0].text_end) {
		snprintf(message, n, "%s has no code", l->name);
		return 126;
	}
	if (l->entry && !sh_instance_entry(in, l->entry)) {
		snprintf(message, n, "%s has no function '%s'", l->name, l->entry);
		return 127;
	}
	return 0;
}

struct instance *sh_instance_load(const struct load *l, int *code, char *message, size_t n)
{
	struct instance *in = calloc(1, sizeof *in);
	struct closure libraries;

	if (!in || !sh_closure_read(&libraries, l->libraries)) {
		*code = 125;
		snprintf(message, n, "%s: no memory for the list of its libraries", l->name);
		free(in);
		return NULL;
	}
	in->number = l->number;
	*code = load_linked(in, l, &libraries, message, n);
	sh_closure_free(&libraries);
	sh_copies_loaded(&in->copies, 0);
	if (*code == 0)
		return in;
	sh_instance_unload(in);
	return NULL;
}

/* ---- libraries that a task opens ---- */

/* Makes a stub that gives the file its scope and returns its descriptor, or -1 if there is no memory. */
static int make_scope_stub(const struct instance *in, const struct opening *o, unsigned file)
{
	const char **needed = malloc((in->objects.nlinked + o->nglobals + 1) * sizeof *needed);
	unsigned n = 0;
	int fd;

	if (!needed)
		return -1;
	if (o->first)
		needed[n++] = in->copies.copy[file].load;
	for (unsigned i = 0; i < in->objects.nlinked; i++)
		needed[n++] = in->copies.copy[i].load;
	for (unsigned i = 0; i < o->nglobals; i++)
		if (o->global[i] < in->objects.n)
			needed[n++] = in->copies.copy[o->global[i]].load;
	if (!o->first)
		needed[n++] = in->copies.copy[file].load;
	fd = sh_stub_make(needed, n, NULL, NULL);
	free(needed);
	return fd;
}

static int load_opened(struct instance *in, const struct load *l, const struct opening *o, unsigned file, unsigned from,
		       char *message, size_t n)
{
	int fd = make_scope_stub(in, o, file), code;
	char path[COPY_PATH];

	if (fd < 0) {
		snprintf(message, n, "%s: %s", l->name, strerror(errno));
		return 125;
	}
	sh_unique_path(path, sizeof path, fd);
	code = load_copies(in, path, RTLD_NOW, from, l, message, n);
	if (code == 126 && o->lazy) {
		code = load_copies(in, path, RTLD_LAZY, from, l, message, n);
		for (unsigned i = from; i < in->objects.n; i++)
			in->objects.object[i].lazy = true;
	}
	kernel_close(fd);
	return code;
}

/*
 * Finds the object of a file that was opened before in the same scope. Returns the number of objects if there is
 * none.
 */
static unsigned find_opened(const struct instance *in, const struct library *file, const struct opening *o)
{
	for (unsigned i = 0; i < in->objects.n; i++)
		if (sh_mark_same(&in->copies.copy[i].mark, &file->mark) &&
		    (i < in->objects.nlinked ||
		     (in->objects.object[i].scope == o->scope && (o->lazy || !in->objects.object[i].lazy))))
			return i;
	return in->objects.n;
}

int sh_instance_open(struct instance *in, const struct load *l, const struct opening *o, unsigned *index, char *message,
		     size_t n)
{
	unsigned from = in->objects.n, file;
	struct closure c;
	int code = 0;

	if (!sh_closure_read(&c, l->libraries) || c.n == 0) {
		snprintf(message, n, "%s: no memory for the list of its libraries", l->name);
		return 125;
	}
	file = find_opened(in, &c.library[0], o);
	if (file == from) {
		code = sh_copies_add_file(&in->copies, &c.library[0], message, n);
		if (!code)
			code = sh_copies_add_libraries(&in->copies, &c, message, n);
		if (!code)
			code = sh_copies_rewrite(&in->copies, from, message, n);
		if (!code)
			code = load_opened(in, l, o, file, from, message, n);
		sh_copies_loaded(&in->copies, from);
		if (code)
			drop_objects(in, from, NULL);
	}
	for (unsigned i = from; i < in->objects.n; i++)
		in->objects.object[i].scope = o->scope;
	sh_closure_free(&c);
	*index = file;
	return code;
}

/* ---- reset and unloading ---- */

/* Without this limit an instance whose tasks open new files would grow without end. */
bool sh_instance_is_full(const struct instance *in)
{
	return in->objects.n > in->objects.nlinked + OPENED_MOST;
}

void sh_instance_reset(struct instance *in)
{
	for (unsigned i = 0; i < in->objects.n; i++)
		sh_object_reset(&in->objects.object[i]);
}

void sh_instance_unload(struct instance *in)
{
	unsigned n = in->objects.n;
	struct object *o = in->objects.object;
	/* A trial must not touch the page map: the zygote may have loaded another object at these addresses. */
	bool shared = in->variables != NULL;

	for (struct variables *v; (v = in->variables) != NULL;) {
		in->variables = v->next;
		sh_variables_free(v);
	}
	for (unsigned i = 0; i < n && shared; i++)
		for (unsigned k = 0; k < o[i].nranges; k++)
			sh_data_remove(o[i].range[k].start, o[i].range[k].size);
	while (in->nhandles > 0)
		dlclose(in->handles[--in->nhandles]);
	for (unsigned i = 0; i < n; i++) {
		sh_reserve(o[i].base, o[i].end - o[i].base);
		free(o[i].range);
	}
	sh_copies_drop(&in->copies, 0);
	free(in->handles);
	free(o);
	free(in->objects.order);
	free(in->objects.by_text);
	free(in);
}

/* ---- reading an instance ---- */

/* dlsym also finds variables, and symbols of the libraries: accept only code of the module. */
static uintptr_t code_named(const struct instance *in, const char *name)
{
	const struct object *module = &in->objects.object[0];
	uintptr_t at = (uintptr_t)dlsym(in->handles[0], name);

	return at >= module->text && at < module->text_end ? at : 0;
}

uintptr_t sh_instance_entry(const struct instance *in, const char *entry)
{
	uintptr_t at = code_named(in, entry);

	return at || strcmp(entry, "shoal_main") != 0 ? at : code_named(in, "main");
}

uint64_t sh_instance_number(const struct instance *in)
{
	return in->number;
}

struct objects *sh_instance_objects(struct instance *in)
{
	return &in->objects;
}

void sh_instance_construct(const struct instance *in)
{
	static char *argv[] = {"shoald", NULL};

	for (unsigned i = 0; i < in->objects.nlinked; i++)
		sh_object_construct(&in->objects.object[in->objects.order[i]], 1, argv, environ);
}
