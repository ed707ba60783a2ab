/*
 * symbol.c - finds names of functions, for crash records and lists.
 *
 * Code of the runtime is at the same addresses as in the zygote, so dladdr finds its names. Modules are not mapped
 * in the supervisor: names come from the symbol table in the copy of the module that module.c keeps, or in the
 * file of the library.
 */
#include "shm/kernel.h"
#include "supervisor/daemon/view/symbol.h"
#include "supervisor/daemon/task/module.h"
#include "supervisor/daemon/task/pool.h"
#include "supervisor/keeper/ledger.h"

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct modinstance **known;
static unsigned nknown;

void sh_symbol_add(const struct modinstance *in)
{
	const struct modinstance **more = realloc(known, (nknown + 1) * sizeof *known);

	if (!more)
		return;
	known = more;
	known[nknown++] = in;
}

void sh_symbol_remove(const struct modinstance *in)
{
	for (unsigned i = 0; i < nknown; i++)
		if (known[i] == in)
			known[i--] = known[--nknown];
}

const struct modinstance *sh_symbol_instance(unsigned i)
{
	return i < nknown ? known[i] : NULL;
}

static const struct modinstance *instance_at(uintptr_t at)
{
	for (unsigned i = nknown; i-- > 0;)
		if (at >= known[i]->text_start && at < known[i]->text_end)
			return known[i];
	return NULL;
}

/* Finds the function that contains the offset. The file may be damaged: every offset is checked. */
static bool search_table(const char *map, size_t size, const Elf64_Shdr *sections, unsigned n, const Elf64_Shdr *table,
			 uint64_t at, char *name, size_t room, uint64_t *start)
{
	const Elf64_Shdr *strings = table->sh_link < n ? &sections[table->sh_link] : NULL;
	const Elf64_Sym *sym = (const Elf64_Sym *)(map + table->sh_offset);

	if (!strings || strings->sh_offset > size || strings->sh_size > size - strings->sh_offset ||
	    table->sh_offset % 8 || table->sh_offset > size || table->sh_size > size - table->sh_offset)
		return false;
	for (size_t i = 0; i < table->sh_size / sizeof *sym; i++) {
		if (ELF64_ST_TYPE(sym[i].st_info) != STT_FUNC || !sym[i].st_shndx || at < sym[i].st_value ||
		    at - sym[i].st_value >= (sym[i].st_size ? sym[i].st_size : 1) || sym[i].st_name >= strings->sh_size)
			continue;
		snprintf(name, room, "%.*s", (int)(strings->sh_size - sym[i].st_name),
			 map + strings->sh_offset + sym[i].st_name);
		*start = sym[i].st_value;
		return true;
	}
	return false;
}

static bool find_in_file(int fd, size_t size, uint64_t at, char *name, size_t room, uint64_t *start)
{
	const char *map = kernel_mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
	const Elf64_Ehdr *e = (const Elf64_Ehdr *)map;
	const Elf64_Shdr *s;
	bool found = false;

	if (map == MAP_FAILED)
		return false;
	s = (const Elf64_Shdr *)(map + e->e_shoff);
	if (size > sizeof *e && e->e_shentsize == sizeof *s && e->e_shoff % 8 == 0 && e->e_shoff <= size &&
	    e->e_shnum <= (size - e->e_shoff) / sizeof *s)
		for (unsigned pass = 0; pass < 2 && !found; pass++)
			for (unsigned i = 0; i < e->e_shnum && !found; i++)
				if (s[i].sh_type == (pass ? SHT_DYNSYM : SHT_SYMTAB))
					found = search_table(map, size, s, e->e_shnum, &s[i], at, name, room, start);
	kernel_munmap((void *)map, size);
	return found;
}

static bool find_in_library(const char *path, uint64_t at, char *name, size_t room, uint64_t *start)
{
	int fd = kernel_open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0);
	struct stat st;
	bool found = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
		     find_in_file(fd, (size_t)st.st_size, at, name, room, start);

	if (fd >= 0)
		kernel_close(fd);
	return found;
}

static const char *last_part(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* An adopted zygote has the same code at another address: translates the address. */
static bool find_in_runtime(const void **at, Dl_info *info)
{
	intptr_t moved = (intptr_t)((uintptr_t)sh_symbol - sh_ledger->code);
	Dl_info self;

	if (!moved)
		return dladdr(*at, info) != 0;
	*at = (const char *)*at + moved;
	return dladdr(*at, info) && dladdr((void *)sh_symbol, &self) && info->dli_fbase == self.dli_fbase;
}

bool sh_symbol(const void *at, char *text, size_t n)
{
	const struct modinstance *in = instance_at((uintptr_t)at);
	const struct ledger_object *library;
	char name[256];
	uint64_t start;
	Dl_info info;

	if (in) {
		uint64_t offset = (uintptr_t)at - in->base;

		if (find_in_file(in->module->so_fd, in->module->size, offset, name, sizeof name, &start))
			snprintf(text, n, "%s(%s+0x%lx)", in->module->name, name, (unsigned long)(offset - start));
		else
			snprintf(text, n, "%s(+0x%lx)", in->module->name, (unsigned long)offset);
		return true;
	}
	library = sh_ledger_object_at((uintptr_t)at);
	if (library) {
		uint64_t offset = (uintptr_t)at - library->base;

		if (find_in_library(library->path, offset, name, sizeof name, &start))
			snprintf(text, n, "%s(%s+0x%lx)", last_part(library->path), name,
				 (unsigned long)(offset - start));
		else
			snprintf(text, n, "%s(+0x%lx)", last_part(library->path), (unsigned long)offset);
		return true;
	}
	if (at && find_in_runtime(&at, &info) && info.dli_sname) {
		snprintf(text, n, "%s(%s+0x%lx)", info.dli_fname ? last_part(info.dli_fname) : "?", info.dli_sname,
			 (unsigned long)((uintptr_t)at - (uintptr_t)info.dli_saddr));
		return true;
	}
	snprintf(text, n, "%p", at);
	return false;
}
