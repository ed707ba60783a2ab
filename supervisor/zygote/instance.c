/*
 * instance.c - loads modules, in the zygote: each instance is a copy at its own addresses.
 *
 * The loader takes a file it has not seen for a new library, so each instance is a memfd of its
 * own, opened under a path of its own. Its constructors are taken out of the copy's dynamic
 * section before the loader sees it and called here afterwards: so it is known when they run, and
 * what they allocate comes from the instance's heap while the loader's own blocks do not.
 *
 * Then the writable pages (without those that the loader made read-only after relocation) become
 * shared memory, mapped over themselves: one variable for all workers. A private copy of what was
 * in them serves to reset them after a task.
 *
 * What a constructor allocates cannot be put back as it was when a task has changed or freed it:
 * an instance with such blocks serves one task and is spent. Its addresses stay taken (nothing is
 * ever unloaded: workers may still have it); its variables' memory is given back.
 *
 * What it does not cover: libraries that the module links keep their variables private to each
 * worker, and their constructors run once, in the zygote.
 */
#include "shm/kernel.h"
#include "supervisor/zygote/zygote.h"
#include "core/process.h"
#include "shm/heap.h"
#include "shm/segment.h"

#include <dirent.h>
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE 4096ul
#define PAGE_DOWN(a) ((uintptr_t)(a) & ~(PAGE - 1))
#define PAGE_UP(a) PAGE_DOWN((uintptr_t)(a) + PAGE - 1)
#define RANGES 8
#define DT_HIDDEN 0x60005ea1 /* between DT_LOOS and DT_HIOS: the loader passes over it */

struct range {
	uintptr_t start;
	size_t size;
	char *pristine;	     /* private to the zygote and its standby */
	unsigned char *zero; /* a byte a page: nothing but zeros in it */
};

struct instance {
	void *handle;
	uintptr_t base, text_start, text_end;
	unsigned nranges;
	struct range range[RANGES];
	struct sh_heap *heap; /* of what the constructors left allocated; NULL: nothing */
};

struct constructors {
	ElfW(Addr) init, array;
	size_t array_size;
};

/* ---- the copy of the file ---- */

static void hide_constructors(char *map, size_t size, const ElfW(Phdr) * dynamic, struct constructors *c)
{
	ElfW(Dyn) * d;
	size_t n;

	if (dynamic->p_offset > size || dynamic->p_filesz > size - dynamic->p_offset || dynamic->p_offset % 8)
		return;
	d = (ElfW(Dyn) *)(map + dynamic->p_offset);
	n = dynamic->p_filesz / sizeof *d;
	for (size_t i = 0; i < n && d[i].d_tag != DT_NULL; i++) {
		switch (d[i].d_tag) {
		case DT_INIT: c->init = d[i].d_un.d_ptr; break;
		case DT_INIT_ARRAY: c->array = d[i].d_un.d_ptr; break;
		case DT_INIT_ARRAYSZ: c->array_size = d[i].d_un.d_val; break;
		default: continue;
		}
		d[i].d_tag = DT_HIDDEN;
	}
}

/*
 * Symbols that are to be unique in the whole process (C++ inline variables) would be one for all
 * instances: they become ordinary ones.
 */
static void split_unique(char *map, size_t size, const ElfW(Ehdr) * e)
{
	const ElfW(Shdr) *s = (const ElfW(Shdr) *)(map + e->e_shoff);

	if (e->e_shentsize != sizeof *s || e->e_shoff % 8 || e->e_shoff > size ||
	    e->e_shnum > (size - e->e_shoff) / sizeof *s)
		return;
	for (unsigned i = 0; i < e->e_shnum; i++) {
		ElfW(Sym) *sym = (ElfW(Sym) *)(map + s[i].sh_offset);

		if (s[i].sh_type != SHT_DYNSYM || s[i].sh_offset % 8 || s[i].sh_offset > size ||
		    s[i].sh_size > size - s[i].sh_offset)
			continue;
		for (size_t k = 0; k < s[i].sh_size / sizeof *sym; k++)
			if (ELF64_ST_BIND(sym[k].st_info) == STB_GNU_UNIQUE)
				sym[k].st_info = ELF64_ST_INFO(STB_WEAK, ELF64_ST_TYPE(sym[k].st_info));
	}
}

static void doctor(char *map, size_t size, struct constructors *c)
{
	const ElfW(Ehdr) *e = (const ElfW(Ehdr) *)map;
	const ElfW(Phdr) * p;

	if (size < sizeof *e || memcmp(e->e_ident, ELFMAG, SELFMAG) != 0 || e->e_phentsize != sizeof *p ||
	    e->e_phoff % 8 || e->e_phoff > size || e->e_phnum > (size - e->e_phoff) / sizeof *p)
		return; /* the loader will say what is wrong */
	p = (const ElfW(Phdr) *)(map + e->e_phoff);
	for (unsigned i = 0; i < e->e_phnum; i++)
		if (p[i].p_type == PT_DYNAMIC)
			hide_constructors(map, size, &p[i], c);
	split_unique(map, size, e);
}

/* A memfd with the file's content, constructors hidden. -errno. */
static int copy_module(int so_fd, const char *name, struct constructors *c)
{
	struct stat st;
	off_t at = 0;
	char *map;
	int fd, err;

	if (fstat(so_fd, &st) < 0)
		return -errno;
	fd = kernel_memfd_create(name, MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	while (at < st.st_size)
		if (kernel_sendfile(fd, so_fd, &at, (size_t)(st.st_size - at)) <= 0)
			goto failed;
	map = st.st_size ? kernel_mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
			 : MAP_FAILED;
	if (map == MAP_FAILED)
		goto failed;
	doctor(map, (size_t)st.st_size, c);
	kernel_munmap(map, (size_t)st.st_size);
	return fd;
failed:
	err = errno ? -errno : -EIO;
	kernel_close(fd);
	return err;
}

/*
 * A path to the descriptor that no other instance had: the loader compares names before it looks
 * at the file. The serial is spelt in "/." and "//".
 */
static void unique_path(char *path, size_t n, int fd)
{
	static uint32_t serial;
	size_t len = (size_t)snprintf(path, n, "/proc/self/fd");

	serial++;
	for (unsigned bit = 0; bit < 32 && serial >> bit; bit++)
		len += (size_t)snprintf(path + len, n - len, "%s", serial >> bit & 1 ? "/." : "//.");
	snprintf(path + len, n - len, "/%d", fd);
}

/* ---- the loaded image ---- */

/* Adds [start, end) minus the hole [from, to). */
static int add_range(struct instance *in, uintptr_t start, uintptr_t end, uintptr_t from, uintptr_t to)
{
	if (start >= end)
		return 0;
	if (from < to && from < end && to > start) {
		int err = add_range(in, start, from, 0, 0);

		return err ? err : add_range(in, to, end, 0, 0);
	}
	if (in->nranges == RANGES)
		return -1;
	in->range[in->nranges++] = (struct range){.start = start, .size = end - start};
	return 0;
}

struct search {
	struct instance *in;
	const char *name;
	int found;
};

static int find_segments(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct search *s = arg;
	struct instance *in = s->in;
	uintptr_t relro = 0, relro_end = 0;

	(void)size;
	if (info->dlpi_addr != in->base || strcmp(info->dlpi_name, s->name) != 0)
		return 0;
	s->found = 1;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];

		if (p->p_type == PT_GNU_RELRO) {
			relro = PAGE_DOWN(in->base + p->p_vaddr);
			relro_end = PAGE_DOWN(in->base + p->p_vaddr + p->p_memsz);
		}
	}
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];
		uintptr_t start = PAGE_DOWN(in->base + p->p_vaddr), end = PAGE_UP(in->base + p->p_vaddr + p->p_memsz);

		if (p->p_type != PT_LOAD)
			continue;
		if (p->p_flags & PF_X && (!in->text_start || start < in->text_start))
			in->text_start = start;
		if (p->p_flags & PF_X && end > in->text_end)
			in->text_end = end;
		if (p->p_flags & PF_W && add_range(in, start, end, relro, relro_end) < 0)
			s->found = -1;
	}
	return 1;
}

static int is_zero(const char *page)
{
	return page[0] == 0 && memcmp(page, page + 1, PAGE - 1) == 0;
}

/* One range becomes shared memory with the same content; pages of zeros are not touched. */
static int share_range(struct range *r)
{
	int fd = kernel_memfd_create("shoal-data", MFD_CLOEXEC);
	char *from = (char *)r->start;

	if (fd < 0)
		return -1;
	r->pristine =
		kernel_mmap(NULL, r->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	r->zero = malloc(r->size / PAGE);
	if (r->pristine == MAP_FAILED || !r->zero || kernel_ftruncate(fd, (off_t)r->size) < 0)
		goto failed;
	for (size_t at = 0; at < r->size; at += PAGE) {
		r->zero[at / PAGE] = (unsigned char)is_zero(from + at);
		if (r->zero[at / PAGE])
			continue;
		memcpy(r->pristine + at, from + at, PAGE);
		if (kernel_pwrite(fd, from + at, PAGE, (off_t)at) != (ssize_t)PAGE)
			goto failed;
	}
	if (kernel_mmap(from, r->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED)
		goto failed;
	if (sh_data_add(r->start, r->size) < 0) { /* the medic could not mend what lies there */
		errno = ENOMEM;
		goto failed;
	}
	kernel_close(fd); /* the mapping keeps it */
	return 0;
failed:
	kernel_close(fd);
	return -1;
}

static void reset_range(const struct range *r)
{
	char *to = (char *)r->start;
	size_t at = 0, zero;

	while (at < r->size) {
		for (zero = at; zero < r->size && r->zero[zero / PAGE]; zero += PAGE)
			;
		if (zero > at && kernel_madvise(to + at, zero - at, MADV_REMOVE) < 0)
			memset(to + at, 0, zero - at);
		at = zero;
		if (at < r->size) {
			memcpy(to + at, r->pristine + at, PAGE);
			at += PAGE;
		}
	}
}

/* ---- loading ---- */

static unsigned count_threads(void)
{
	DIR *d = opendir("/proc/self/task");
	unsigned n = 0;

	if (!d)
		return 1;
	for (struct dirent *e; (e = readdir(d));)
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

static void construct(struct instance *in, const struct constructors *c)
{
	typedef void constructor(int, char **, char **);
	static char *argv[] = {"shoald", NULL};

	if (c->init)
		((constructor *)(in->base + c->init))(1, argv, environ);
	if (c->array)
		for (size_t i = 0; i < c->array_size / sizeof(uintptr_t); i++) {
			constructor *f = ((constructor **)(in->base + c->array))[i];

			if (f && (uintptr_t)f != (uintptr_t)-1)
				f(1, argv, environ);
		}
}

/* The loader's words, with the module's name in place of our path. */
static void loader_message(const char *name, const char *path, char *message, size_t n)
{
	const char *said = dlerror(), *at;

	if (!said)
		said = "cannot be loaded";
	at = strstr(said, path);
	if (at == said && said[strlen(path)] == ':')
		snprintf(message, n, "%s%s", name, said + strlen(path));
	else
		snprintf(message, n, "%s: %s", name, said);
}

static int open_module(struct instance *in, int so_fd, const char *name, struct constructors *c, char *message,
		       size_t n)
{
	char path[256];
	struct link_map *lm;
	struct search search = {in, NULL, 0};
	int fd = copy_module(so_fd, name, c);

	if (fd < 0) {
		snprintf(message, n, "%s: %s", name, strerror(-fd));
		return fd == -ENOMEM || fd == -EMFILE || fd == -ENFILE ? 125 : 126;
	}
	unique_path(path, sizeof path, fd);
	in->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	kernel_close(fd);
	if (!in->handle) {
		loader_message(name, path, message, n);
		return 126;
	}
	if (dlinfo(in->handle, RTLD_DI_LINKMAP, &lm) == 0) {
		in->base = lm->l_addr;
		search.name = lm->l_name;
		dl_iterate_phdr(find_segments, &search);
	}
	if (search.found != 1 || !in->text_end) {
		snprintf(message, n, "%s: its segments are of no shape we know", name);
		return 126;
	}
	return 0;
}

static int load(struct instance *in, int so_fd, const char *name, const char *entry, int trial, char *message, size_t n)
{
	struct constructors c = {0};
	struct sh_heap *heap = NULL;
	int code = open_module(in, so_fd, name, &c, message, n);

	if (code)
		return code;
	sh_variables_touch();
	if (!trial) {
		heap = sh_heap_new(sh_root->arena, SH_SEATS - 1, 0);
		sh_loading_heap = heap; /* none to be had: the constructors' blocks are private, as in a trial */
	}
	construct(in, &c);
	sh_loading_heap = NULL;
	if (heap && sh_heap_used(heap) == 0)
		sh_heap_release(heap, SH_SEATS - 1);
	else
		in->heap = heap;
	if (trial && count_threads() > 1) {
		snprintf(message, n, "%s: a constructor started a thread", name);
		return 126;
	}
	if (entry && !sh_instance_entry(in, entry)) {
		snprintf(message, n, "%s has no function '%s'", name, entry);
		return 127;
	}
	for (unsigned i = 0; i < in->nranges && !trial; i++)
		if (share_range(&in->range[i]) < 0) {
			snprintf(message, n, "%s: no memory for its variables: %s", name, strerror(errno));
			return 125;
		}
	return 0;
}

struct instance *sh_instance_load(int so_fd, const char *name, const char *entry, int trial, int *code, char *message,
				  size_t n)
{
	struct instance *in = calloc(1, sizeof *in);

	if (!in) {
		*code = 125;
		snprintf(message, n, "out of memory");
		return NULL;
	}
	*code = load(in, so_fd, name, entry, trial, message, n);
	if (*code == 0)
		return in;
	free(in); /* what is mapped stays: see above */
	return NULL;
}

uintptr_t sh_instance_entry(const struct instance *in, const char *entry)
{
	uintptr_t at = (uintptr_t)dlsym(in->handle, entry);

	/* dlsym also looks in what the module links, and finds variables. */
	return at >= in->text_start && at < in->text_end ? at : 0;
}

void sh_instance_ranges(const struct instance *in, uintptr_t *base, uintptr_t *start, uintptr_t *end)
{
	*base = in->base;
	*start = in->text_start;
	*end = in->text_end;
}

int sh_instance_reset(struct instance *in)
{
	if (!in->heap) {
		for (unsigned i = 0; i < in->nranges; i++)
			reset_range(&in->range[i]);
		return 0;
	}
	/* The zygote's libraries may remember blocks, and so may all workers to come: they are never used again. */
	sh_heap_touch(in->heap, 0);
	sh_heap_leave(in->heap, SH_SEATS - 1);
	for (unsigned i = 0; i < in->nranges; i++) {
		sh_data_remove(in->range[i].start);
		kernel_madvise((void *)in->range[i].start, in->range[i].size, MADV_REMOVE);
		kernel_munmap(in->range[i].pristine, in->range[i].size);
		free(in->range[i].zero);
	}
	free(in);
	return 1;
}
