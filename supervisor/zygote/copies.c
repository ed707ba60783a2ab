/*
 * copies.c - copies a module and its libraries into memfds and rewrites them. See copies.h.
 */
#include "supervisor/zygote/copies.h"
#include "core/task/library.h"
#include "shm/kernel.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <unistd.h>

#define CODE_SHOAL 125
#define CODE_NOT_LOADABLE 126

static const char *last_part(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/*
 * Makes a path to the descriptor that no file had before in this process, because the loader compares
 * paths. A serial number in the path is written in binary: "/." for 1 and "//." for 0.
 */
void sh_unique_path(char *path, size_t n, int fd)
{
	static uint32_t serial;
	size_t len = (size_t)snprintf(path, n, "/proc/self/fd");

	serial++;
	for (unsigned bit = 0; bit < 32 && serial >> bit; bit++)
		len += (size_t)snprintf(path + len, n - len, "%s", serial >> bit & 1 ? "/." : "//.");
	snprintf(path + len, n - len, "/%d", fd);
}

/* ---- one copy ---- */

static int copy_failed(const char *name, const char *what, int err, char *message, size_t n)
{
	snprintf(message, n, "%s: %s: %s", name, what, strerror(err));
	return err == ENOMEM || err == EMFILE || err == ENFILE || err == ENOSPC ? CODE_SHOAL : CODE_NOT_LOADABLE;
}

static int copy_file(struct copy *c, int from, char *message, size_t n)
{
	struct stat st;
	off_t at = 0;
	char *map;

	if (fstat(from, &st) < 0 || (c->fd = kernel_memfd_create(c->name, MFD_CLOEXEC)) < 0)
		return copy_failed(c->name, "cannot be copied", errno, message, n);
	while (at < st.st_size) {
		ssize_t sent = kernel_sendfile(c->fd, from, &at, (size_t)(st.st_size - at));

		if (sent <= 0)
			return copy_failed(c->name, "cannot be copied", sent ? errno : EIO, message, n);
	}
	map = st.st_size ? kernel_mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, c->fd, 0)
			 : MAP_FAILED;
	if (map == MAP_FAILED)
		return copy_failed(c->name, "cannot be copied", st.st_size ? errno : ENOEXEC, message, n);
	c->elf.map = map;
	c->elf.size = (size_t)st.st_size;
	sh_unique_path(c->load, sizeof c->load, c->fd);
	return 0;
}

static int read_elf(struct copy *c, char *message, size_t n)
{
	const char *fault = sh_elf_open(&c->elf, c->elf.map, c->elf.size);
	uint64_t at;

	if (fault) {
		snprintf(message, n, "%s %s", c->name, fault);
		return CODE_NOT_LOADABLE;
	}
	if (sh_elf_has(&c->elf, DT_SONAME, &at) && !(c->soname = strdup(sh_elf_string(&c->elf, at))))
		return copy_failed(c->name, "cannot be copied", ENOMEM, message, n);
	return 0;
}

/* Adds an empty copy. Returns NULL if there is no memory. */
static struct copy *new_copy(struct copies *all, const char *name, const char *path)
{
	struct copy *more = realloc(all->copy, (all->n + 1) * sizeof *more), *c;

	if (!more)
		return NULL;
	all->copy = more;
	c = &more[all->n++];
	memset(c, 0, sizeof *c);
	c->fd = -1;
	c->name = strdup(name);
	c->path = strdup(path);
	return c->name && c->path ? c : NULL;
}

int sh_copies_add_module(struct copies *all, int fd, const char *name, const char *path, char *message, size_t n)
{
	struct copy *c = new_copy(all, name, path[0] ? path : name);
	int code = c ? copy_file(c, fd, message, n) : copy_failed(name, "cannot be copied", ENOMEM, message, n);

	return code ? code : read_elf(c, message, n);
}

static int add_library(struct copies *all, const struct library *l, char *message, size_t n)
{
	struct copy *c = new_copy(all, last_part(l->path), l->path);
	struct file_mark now;
	struct stat st;
	int fd, code;

	if (!c)
		return copy_failed(l->path, "cannot be copied", ENOMEM, message, n);
	c->mark = l->mark;
	fd = kernel_open(l->path, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0 || fstat(fd, &st) < 0)
		return copy_failed(l->path, "cannot be read", errno, message, n);
	sh_mark_of(&now, &st);
	if (sh_mark_same(&now, &l->mark)) {
		code = copy_file(c, fd, message, n);
	} else {
		snprintf(message, n, "%s was changed while it was being loaded: try again", l->path);
		code = CODE_SHOAL;
	}
	kernel_close(fd);
	return code ? code : read_elf(c, message, n);
}

unsigned sh_copies_find(const struct copies *all, const struct file_mark *mark)
{
	unsigned i = 0;

	while (i < all->n && !sh_mark_same(&all->copy[i].mark, mark))
		i++;
	return i;
}

static bool add_name(struct copies *all, const char *needed, unsigned index)
{
	struct copy_name *more = realloc(all->needed, (all->nneeded + 1) * sizeof *more);

	if (!more)
		return false;
	all->needed = more;
	more[all->nneeded] = (struct copy_name){strdup(needed), index};
	return more[all->nneeded++].needed != NULL;
}

int sh_copies_add_file(struct copies *all, const struct library *l, char *message, size_t n)
{
	unsigned at = all->n;
	int code = add_library(all, l, message, n);

	if (!code && !add_name(all, l->name, at))
		code = copy_failed(l->name, "cannot be copied", ENOMEM, message, n);
	return code;
}

static struct copy *find_copy(const struct copies *, const char *needed);

int sh_copies_add_libraries(struct copies *all, const struct closure *c, char *message, size_t n)
{
	for (unsigned i = 0; i < c->n; i++) {
		const struct library *l = &c->library[i];
		unsigned at = sh_copies_find(all, &l->mark);
		int code;

		if (find_copy(all, l->name))
			continue; /* as in ld.so: a library that is loaded under that name is used again */
		code = at == all->n ? add_library(all, l, message, n) : 0;
		if (code)
			return code;
		if (!add_name(all, l->name, at))
			return copy_failed(l->name, "cannot be copied", ENOMEM, message, n);
	}
	return 0;
}

static void close_copy(struct copy *c)
{
	if (c->elf.map)
		kernel_munmap(c->elf.map, c->elf.size);
	c->elf.map = NULL;
	if (c->fd >= 0)
		kernel_close(c->fd);
	c->fd = -1;
	free(c->tail.bytes);
	c->tail.bytes = NULL;
}

void sh_copies_loaded(struct copies *all, unsigned from)
{
	for (unsigned i = from; i < all->n; i++)
		close_copy(&all->copy[i]);
}

void sh_copies_drop(struct copies *all, unsigned from)
{
	while (all->nneeded > 0 && all->needed[all->nneeded - 1].copy >= from)
		free(all->needed[--all->nneeded].needed);
	while (all->n > from) {
		struct copy *c = &all->copy[--all->n];

		close_copy(c);
		free(c->name);
		free(c->path);
		free(c->soname);
		free(c->needs);
	}
	if (from)
		return;
	free(all->copy);
	free(all->needed);
	memset(all, 0, sizeof *all);
}

/* ---- names ---- */

struct renaming {
	struct copies *all;
	struct copy *of;
	const char *missing;
};

/* Returns the copy that another object needs by this name, or NULL. */
static struct copy *find_copy(const struct copies *all, const char *needed)
{
	for (unsigned i = 0; i < all->nneeded; i++)
		if (strcmp(all->needed[i].needed, needed) == 0)
			return &all->copy[all->needed[i].copy];
	for (unsigned i = 0; i < all->n; i++)
		if ((all->copy[i].soname && strcmp(all->copy[i].soname, needed) == 0) ||
		    strcmp(all->copy[i].name, needed) == 0)
			return &all->copy[i];
	return NULL;
}

static void add_need(struct copy *c, unsigned index)
{
	unsigned *more;

	for (unsigned i = 0; i < c->nneeds; i++)
		if (c->needs[i] == index)
			return;
	more = realloc(c->needs, (c->nneeds + 1) * sizeof *more);
	if (!more)
		return; /* no memory; the next allocation will fail too, and the load with it */
	c->needs = more;
	more[c->nneeds++] = index;
}

static const char *rename_needed(void *arg, const char *needed)
{
	struct renaming *r = arg;
	struct copy *c;

	if (sh_library_is_libcs(needed)) {
		dlopen(needed,
		       /*
		        * Opened with RTLD_GLOBAL: symbols are looked up there last.
		        */
		       RTLD_NOW | RTLD_GLOBAL | RTLD_NODELETE);
		return NULL;
	}
	c = find_copy(r->all, needed);
	if (!c) {
		r->missing = needed;
		return needed;
	}
	add_need(r->of, (unsigned)(c - r->all->copy));
	return c->load;
}

static int rewrite(struct copies *all, struct copy *c, char *message, size_t n)
{
	struct renaming r = {all, c, NULL};
	const char *why = sh_elf_rewrite(&c->elf, rename_needed, &r, &c->calls, &c->tail);

	if (why) {
		snprintf(message, n, "%s %s", c->name, why);
		return CODE_NOT_LOADABLE;
	}
	if (r.missing) {
		snprintf(message, n, "%s: it needs %s, which is not found", c->name, r.missing);
		return CODE_NOT_LOADABLE;
	}
	if (kernel_pwrite(c->fd, c->tail.bytes, c->tail.size, (off_t)c->tail.at) != (ssize_t)c->tail.size)
		return copy_failed(c->name, "cannot be copied", errno, message, n);
	return 0;
}

int sh_copies_rewrite(struct copies *all, unsigned from, char *message, size_t n)
{
	int code = 0;

	for (unsigned i = from; i < all->n && !code; i++)
		code = rewrite(all, &all->copy[i], message, n);
	return code;
}

/* ---- order ---- */

struct walk {
	const struct copies *all;
	bool *seen;
	unsigned *order, n;
};

static void visit(struct walk *w, unsigned i)
{
	const struct copy *c = &w->all->copy[i];

	if (w->seen[i])
		return;
	w->seen[i] = true;
	for (unsigned k = 0; k < c->nneeds; k++)
		visit(w, c->needs[k]);
	w->order[w->n++] = i;
}

/* If two libraries do not need each other, the one that was added later comes first. */
bool sh_copies_order(const struct copies *all, unsigned *order)
{
	struct walk w = {.all = all, .seen = calloc(all->n, sizeof(bool)), .order = order};

	if (!w.seen)
		return false;
	for (unsigned i = all->n; i-- > 0;)
		visit(&w, i);
	free(w.seen);
	return true;
}

/* ---- messages ---- */

/* Returns the copy whose path is a prefix of the text, or NULL. */
static const struct copy *starts_with(const struct copies *all, const char *text)
{
	for (unsigned i = 0; i < all->n; i++)
		if (strncmp(text, all->copy[i].load, strlen(all->copy[i].load)) == 0)
			return &all->copy[i];
	return NULL;
}

void sh_copies_explain(const struct copies *all, const char *complaint, char *message, size_t n)
{
	const struct copy *c = starts_with(all, complaint);
	size_t len = 0;

	if (c != &all->copy[0])
		len = (size_t)snprintf(message, n, "%s: ", all->copy[0].name);
	while (*complaint && len + 1 < n) {
		c = starts_with(all, complaint);
		if (!c) {
			message[len++] = *complaint++;
			continue;
		}
		len += (size_t)snprintf(message + len, n - len, "%s", c->name);
		complaint += strlen(c->load);
	}
	message[len < n ? len : n - 1] = '\0';
}
