/*
 * elf.c - reads the image of an ELF shared object. See elf.h; elf_rewrite.c changes one.
 */
#include "supervisor/zygote/elf.h"
#include "core/task/library.h"

#include <string.h>

static bool inside(const struct elf *e, uint64_t at, uint64_t n)
{
	return at <= e->size && n <= e->size - at;
}

char *sh_elf_at(const struct elf *e, uint64_t address, uint64_t n)
{
	for (unsigned i = 0; i < e->nphdr; i++) {
		const Elf64_Phdr *p = &e->phdr[i];
		uint64_t into = address - p->p_vaddr;

		if (p->p_type == PT_LOAD && into < p->p_filesz && n <= p->p_filesz - into &&
		    inside(e, p->p_offset, p->p_filesz))
			return e->map + p->p_offset + into;
	}
	return NULL;
}

bool sh_elf_has(const struct elf *e, int64_t tag, uint64_t *value)
{
	for (size_t i = 0; i < e->ndyn; i++)
		if (e->dyn[i].d_tag == tag) {
			*value = e->dyn[i].d_un.d_val;
			return true;
		}
	return false;
}

/* Counts the symbols of a DT_GNU_HASH table. The chain with the highest start ends at the last symbol. */
static size_t count_gnu_hash(const struct elf *e, uint64_t address)
{
	const uint32_t *h = (const uint32_t *)sh_elf_at(e, address, 16), *bucket, *chain;
	uint64_t chains, last = 0;

	if (!h || (uintptr_t)h % 4)
		return 0;
	chains = address + 16 + (uint64_t)h[2] * 8 + (uint64_t)h[0] * 4;
	bucket = (const uint32_t *)sh_elf_at(e, address + 16 + (uint64_t)h[2] * 8, (uint64_t)h[0] * 4);
	for (uint32_t i = 0; bucket && i < h[0]; i++)
		if (bucket[i] > last)
			last = bucket[i];
	if (last < h[1])
		return h[1]; /* no symbol is defined, so symoffset is the number of undefined ones */
	do {
		chain = (const uint32_t *)sh_elf_at(e, chains + (last - h[1]) * 4, 4);
		last++;
	} while (chain && !(*chain & 1));
	return last;
}

static void find_symbols(struct elf *e)
{
	uint64_t at, hash;
	const uint32_t *h;

	if (!sh_elf_has(e, DT_SYMTAB, &at))
		return;
	if (sh_elf_has(e, DT_HASH, &hash) && (h = (const uint32_t *)sh_elf_at(e, hash, 8)) != NULL)
		e->nsym = h[1];
	else if (sh_elf_has(e, DT_GNU_HASH, &hash))
		e->nsym = count_gnu_hash(e, hash);
	e->sym = (Elf64_Sym *)sh_elf_at(e, at, e->nsym * sizeof *e->sym);
	if (!e->sym || (uintptr_t)e->sym % 8)
		e->nsym = 0;
}

static const char *find_dynamic(struct elf *e)
{
	uint64_t at;

	for (unsigned i = 0; i < e->nphdr; i++) {
		const Elf64_Phdr *p = &e->phdr[i];

		if (p->p_type != PT_DYNAMIC)
			continue;
		if (!inside(e, p->p_offset, p->p_filesz) || p->p_offset % 8)
			return "has a damaged dynamic section";
		e->dyn = (Elf64_Dyn *)(e->map + p->p_offset);
		while (e->ndyn < p->p_filesz / sizeof *e->dyn && e->dyn[e->ndyn].d_tag != DT_NULL)
			e->ndyn++;
	}
	if (!e->dyn)
		return "has no dynamic section";
	if (sh_elf_has(e, DT_STRTAB, &at) && sh_elf_has(e, DT_STRSZ, &e->strsize))
		e->strtab = sh_elf_at(e, at, e->strsize);
	if (!e->strtab || !e->strsize || e->strtab[e->strsize - 1])
		return "has a damaged string table";
	return NULL;
}

const char *sh_elf_open(struct elf *e, char *map, size_t size)
{
	const Elf64_Ehdr *h = (const Elf64_Ehdr *)map;
	const char *fault;

	memset(e, 0, sizeof *e);
	e->map = map;
	e->size = size;
	if (size < sizeof *h || memcmp(h->e_ident, ELFMAG, SELFMAG) != 0)
		return "is not an ELF file";
	if (h->e_ident[EI_CLASS] != ELFCLASS64 || h->e_phentsize != sizeof *e->phdr || h->e_phoff % 8 ||
	    !inside(e, h->e_phoff, (uint64_t)h->e_phnum * sizeof *e->phdr))
		return "has a damaged program header table";
	e->header = (Elf64_Ehdr *)map;
	e->phdr = (Elf64_Phdr *)(map + h->e_phoff);
	e->nphdr = h->e_phnum;
	fault = find_dynamic(e);
	if (!fault)
		find_symbols(e);
	return fault;
}

const char *sh_elf_string(const struct elf *e, uint64_t offset)
{
	return offset < e->strsize ? e->strtab + offset : "";
}

bool sh_elf_needs_libraries(const struct elf *e)
{
	for (size_t i = 0; i < e->ndyn; i++)
		if ((e->dyn[i].d_tag == DT_NEEDED || e->dyn[i].d_tag == DT_FILTER || e->dyn[i].d_tag == DT_AUXILIARY) &&
		    !sh_library_is_libcs(sh_elf_string(e, e->dyn[i].d_un.d_val)))
			return true;
	return false;
}
