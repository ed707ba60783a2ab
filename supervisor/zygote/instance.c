/*
 * instance.c - loads a module and its libraries, in the zygote: each instance is a copy of them all at
 * addresses of its own.
 *
 * The loader maps and relocates the copies (copies.c) in one call. RTLD_DEEPBIND, and no copy that
 * needs libc: so a symbol is looked for in the instance, then in the program, which stands in for
 * malloc and for what parks, then in libc.
 *
 *     before                          after sh_instance_load
 *     text, constants   private       private, the same in all processes cloned from now on
 *     relocated, then   private       private, the same ...
 *       read only (RELRO)
 *     variables         private       shared: one memfd for the instance, mapped over them
 *
 * The variables are kept a second time, as they are before any constructor has run. Constructors run on
 * the root goroutine of each task (worker/posix/constructors.c), so what they allocate, register and
 * open belongs to the task, and a reset needs to restore nothing but the variables.
 *
 * OWNER  the zygote. A clone inherits `struct instance` and only a standby ever uses it
 * DEATH  of the zygote: the standby was cloned after the last load and has the same mappings
 */
#include "supervisor/zygote/instance.h"
#include "core/process.h"
#include "shm/check.h"
#include "shm/segment.h"
#include "supervisor/zygote/copies.h"
#include "shm/kernel.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096ul
#define PAGE_DOWN(a) ((uintptr_t)(a) & ~(PAGE - 1))
#define PAGE_UP(a) PAGE_DOWN((uintptr_t)(a) + PAGE - 1)
#define REMOVE_PAGES 16 /* so many pages in a row are given back, fewer are cleared */

/* Variables that are shared: whole pages. */
struct range {
	uintptr_t start;
	size_t size;
	int prot;
	char *pristine;	     /* their content before the first constructor; private to zygote and standby */
	unsigned char *zero; /* a byte a page: there are only zeros in it */
};

struct instance {
	uint64_t number;
	struct objects objects;
	unsigned nranges;
	struct range *range;
	char *pristine; /* of all ranges */
	unsigned char *zero;
	size_t size;
};

/* ---- what the loader has made ---- */

static bool add_range(struct instance *in, uintptr_t start, uintptr_t end, int prot)
{
	struct range *more;

	if (start >= end)
		return true;
	more = realloc(in->range, (in->nranges + 1) * sizeof *more);
	if (!more)
		return false;
	in->range = more;
	more[in->nranges++] = (struct range){.start = start, .size = end - start, .prot = prot};
	in->size += end - start;
	return true;
}

/* A writable segment, without the pages that the loader has made read-only. */
static bool add_segment(struct instance *in, uintptr_t base, const ElfW(Phdr) * p, const ElfW(Phdr) * relro)
{
	uintptr_t start = PAGE_DOWN(base + p->p_vaddr), end = PAGE_UP(base + p->p_vaddr + p->p_memsz);
	uintptr_t from = relro ? PAGE_DOWN(base + relro->p_vaddr) : 0;
	uintptr_t to = relro ? PAGE_DOWN(base + relro->p_vaddr + relro->p_memsz) : 0;
	int prot = PROT_READ | PROT_WRITE | (p->p_flags & PF_X ? PROT_EXEC : 0);

	if (from < to && from < end && to > start)
		return add_range(in, start, from, prot) && add_range(in, to, end, prot);
	return add_range(in, start, end, prot);
}

static bool find_segments(struct instance *in, struct object *o, const struct elf_tail *tail)
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
		if (p[i].p_flags & PF_X && (!o->text || start < o->text))
			o->text = start;
		if (p[i].p_flags & PF_X && end > o->text_end)
			o->text_end = end;
		if (p[i].p_flags & PF_W && !add_segment(in, o->base, &p[i], relro))
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

/* dladdr, debuggers and messages see the file's path from now on; the loader frees the name. */
static void rename_object(struct link_map *map, const char *path)
{
	char *name = strdup(path);

	if (!name)
		return;
	free(map->l_name);
	map->l_name = name;
}

/* All that was loaded follows the module in the loader's list. */
static bool find_objects(struct instance *in, const struct copies *all)
{
	struct link_map *map;
	unsigned found = 0;

	if (dlinfo(in->objects.handle, RTLD_DI_LINKMAP, &map) != 0)
		return false;
	for (; map; map = map->l_next)
		for (unsigned i = 0; i < all->n; i++) {
			struct object *o = &in->objects.object[i];

			if (strcmp(map->l_name, all->copy[i].load) != 0)
				continue;
			o->map = map;
			o->base = map->l_addr;
			o->path = strdup(all->copy[i].path);
			dlinfo(map, RTLD_DI_TLS_MODID, &o->tls_module);
			find_calls(o, &all->copy[i].calls);
			rename_object(map, all->copy[i].path);
			if (!o->path || !find_segments(in, o, &all->copy[i].tail))
				return false;
			found++;
			break;
		}
	return found == all->n;
}

/* ---- variables ---- */

static bool is_zero(const char *page)
{
	return page[0] == 0 && memcmp(page, page + 1, PAGE - 1) == 0;
}

/* Maps the range over itself from `at` in the file, with the same content; pages of zeros are not touched. */
static bool share_range(struct range *r, int fd, off_t at)
{
	char *from = (char *)r->start;

	for (size_t i = 0; i < r->size; i += PAGE) {
		r->zero[i / PAGE] = is_zero(from + i);
		if (r->zero[i / PAGE])
			continue;
		memcpy(r->pristine + i, from + i, PAGE);
		if (kernel_pwrite(fd, from + i, PAGE, at + (off_t)i) != (ssize_t)PAGE)
			return false;
	}
	if (kernel_mmap(from, r->size, r->prot, MAP_SHARED | MAP_FIXED, fd, at) == MAP_FAILED)
		return false;
	if (sh_data_add(r->start, r->size) == 0)
		return true;
	errno = ENOMEM;
	return false;
}

static bool share_variables(struct instance *in)
{
	int fd = kernel_memfd_create("shoal-data", MFD_CLOEXEC);
	size_t at = 0;
	bool done = fd >= 0 && kernel_ftruncate(fd, (off_t)in->size) == 0;

	in->pristine = kernel_mmap(NULL, in->size + 1, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	in->zero = malloc(in->size / PAGE + 1);
	done = done && in->pristine != MAP_FAILED && in->zero;
	for (unsigned i = 0; i < in->nranges && done; i++) {
		struct range *r = &in->range[i];

		r->pristine = in->pristine + at;
		r->zero = in->zero + at / PAGE;
		done = share_range(r, fd, (off_t)at);
		at += r->size;
	}
	if (fd >= 0)
		kernel_close(fd); /* the mappings keep it */
	return done;
}

/* Zeros again. Of these pages only those have memory that some task has touched. */
static void clear_pages(char *at, size_t size)
{
	unsigned char here[256];

	for (size_t n; size; at += n, size -= n) {
		size_t from = 0, to;

		n = size < sizeof here * PAGE ? size : sizeof here * PAGE;
		if (kernel_mincore(at, n, here) < 0)
			memset(here, 1, sizeof here);
		for (; from < n / PAGE; from = to) {
			bool there = here[from] & 1;

			for (to = from + 1; to < n / PAGE && (here[to] & 1) == there; to++)
				;
			if (!there)
				continue;
			if (to - from < REMOVE_PAGES ||
			    kernel_madvise(at + from * PAGE, (to - from) * PAGE, MADV_REMOVE) < 0)
				memset(at + from * PAGE, 0, (to - from) * PAGE);
		}
	}
}

static void reset_range(const struct range *r)
{
	char *to = (char *)r->start;
	size_t at = 0, zero;

	while (at < r->size) {
		for (zero = at; zero < r->size && r->zero[zero / PAGE]; zero += PAGE)
			;
		if (zero > at)
			clear_pages(to + at, zero - at);
		at = zero;
		if (at < r->size) {
			if (memcmp(to + at, r->pristine + at, PAGE) != 0)
				memcpy(to + at, r->pristine + at, PAGE);
			at += PAGE;
		}
	}
}

void sh_instance_reset(struct instance *in)
{
	for (unsigned i = 0; i < in->nranges; i++)
		reset_range(&in->range[i]);
}

/* ---- loading ---- */

static bool make_tables(struct instance *in, const struct copies *all)
{
	struct objects *s = &in->objects;

	s->n = all->n;
	s->object = calloc(all->n, sizeof *s->object);
	s->order = calloc(all->n, sizeof *s->order);
	s->by_text = calloc(all->n, sizeof *s->by_text);
	if (!s->object || !s->order || !s->by_text)
		return false;
	sh_copies_order(all, s->order);
	return true;
}

static int load_copies(struct instance *in, const struct copies *all, char *message, size_t n)
{
	const char *complaint;

	in->objects.handle = dlopen(all->copy[0].load, RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
	if (!in->objects.handle) {
		complaint = dlerror();
		sh_copies_explain(all, complaint ? complaint : "cannot be loaded", message, n);
		return 126;
	}
	if (!make_tables(in, all)) {
		snprintf(message, n, "%s: out of memory", all->copy[0].name);
		return 125;
	}
	if (!find_objects(in, all) || !in->objects.object[0].text_end) {
		snprintf(message, n, "%s: what the loader made of it is not understood", all->copy[0].name);
		return 126;
	}
	return 0;
}

static int load(struct instance *in, const struct load *l, char *message, size_t n)
{
	struct copies all;
	struct closure libraries;
	int code;

	if (!sh_closure_read(&libraries, l->libraries)) {
		snprintf(message, n, "%s: no memory for the list of its libraries", l->name);
		return 125;
	}
	code = sh_copies_make(&all, l->module, l->name, &libraries, message, n);
	if (!code)
		code = load_copies(in, &all, message, n);
	sh_copies_free(&all);
	sh_closure_free(&libraries);
	if (code)
		return code;
	sh_variables_touch();
	if (l->entry && !sh_instance_entry(in, l->entry)) {
		snprintf(message, n, "%s has no function '%s'", l->name, l->entry);
		return 127;
	}
	if (!l->trial && !share_variables(in)) {
		snprintf(message, n, "%s: no memory for its variables: %s", l->name, strerror(errno));
		return 125;
	}
	return 0;
}

struct instance *sh_instance_load(const struct load *l, int *code, char *message, size_t n)
{
	struct instance *in = calloc(1, sizeof *in);

	if (!in) {
		*code = 125;
		snprintf(message, n, "out of memory");
		return NULL;
	}
	in->number = l->number;
	*code = load(in, l, message, n);
	if (*code == 0)
		return in;
	sh_instance_unload(in);
	return NULL;
}

void sh_instance_unload(struct instance *in)
{
	for (unsigned i = 0; i < in->nranges; i++)
		if (in->range[i].pristine)
			sh_data_remove(in->range[i].start);
	for (unsigned i = 0; in->objects.object && i < in->objects.n; i++)
		free((char *)in->objects.object[i].path);
	if (in->objects.handle)
		dlclose(in->objects.handle);
	if (in->pristine && in->pristine != MAP_FAILED)
		kernel_munmap(in->pristine, in->size + 1);
	free(in->zero);
	free(in->range);
	free(in->objects.object);
	free(in->objects.order);
	free(in->objects.by_text);
	free(in);
}

uintptr_t sh_instance_entry(const struct instance *in, const char *entry)
{
	const struct object *module = &in->objects.object[0];
	uintptr_t at = (uintptr_t)dlsym(in->objects.handle, entry);

	/* dlsym also looks in the libraries, and finds variables. */
	return at >= module->text && at < module->text_end ? at : 0;
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

	for (unsigned i = 0; i < in->objects.n; i++)
		sh_object_construct(&in->objects.object[in->objects.order[i]], 1, argv, environ);
}
