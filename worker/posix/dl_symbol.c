/*
 * dl_symbol.c - finds a symbol in one loaded object, without the loader.
 *
 * The loader's own tables differ from worker to worker in what they count, and are guarded by locks of
 * the process. The symbol tables of an object are constant, and the same in all workers.
 */
#include "worker/posix/dl_symbol.h"

#include <elf.h>
#include <link.h>
#include <string.h>

struct tls_index {
	unsigned long module, offset;
};
void *__tls_get_addr(struct tls_index *);

struct symbols {
	const struct object *of;
	const ElfW(Sym) * sym;
	const char *strings;
	const uint32_t *gnu, *sysv;
	const ElfW(Half) * versions;
	const char *defined; /* version definitions, */
	size_t ndefined;     /* so many */
};

static void find_tables(struct symbols *s, const struct object *o)
{
	const struct link_map *map = o->map;

	memset(s, 0, sizeof *s);
	s->of = o;
	for (const ElfW(Dyn) *d = map->l_ld; d->d_tag != DT_NULL; d++)
		switch (d->d_tag) {
		case DT_SYMTAB: s->sym = (const ElfW(Sym) *)d->d_un.d_ptr; break;
		case DT_STRTAB: s->strings = (const char *)d->d_un.d_ptr; break;
		case DT_GNU_HASH: s->gnu = (const uint32_t *)d->d_un.d_ptr; break;
		case DT_HASH: s->sysv = (const uint32_t *)d->d_un.d_ptr; break;
		case DT_VERSYM: s->versions = (const ElfW(Half) *)d->d_un.d_ptr; break;
		case DT_VERDEF: s->defined = (const char *)d->d_un.d_ptr; break;
		case DT_VERDEFNUM: s->ndefined = d->d_un.d_val; break;
		default: break;
		}
}

/* The index of the version in the object's definitions, 0: it defines no such version. */
static unsigned version_index(const struct symbols *s, const char *version)
{
	const char *at = s->defined;

	for (size_t i = 0; at && i < s->ndefined; i++) {
		const ElfW(Verdef) *d = (const ElfW(Verdef) *)at;
		const ElfW(Verdaux) *name = (const ElfW(Verdaux) *)(at + d->vd_aux);

		if (strcmp(s->strings + name->vda_name, version) == 0)
			return d->vd_ndx & 0x7fff;
		at += d->vd_next;
	}
	return 0;
}

static bool is_version(const struct symbols *s, uint32_t i, const char *version)
{
	if (!s->versions)
		return true;
	if (!version)
		return !(s->versions[i] & 0x8000); /* hidden: not the default version */
	return s->defined ? (s->versions[i] & 0x7fff) == version_index(s, version) : true;
}

static bool matches(const struct symbols *s, uint32_t i, const char *name, const char *version)
{
	const ElfW(Sym) *sym = &s->sym[i];

	return sym->st_shndx != SHN_UNDEF &&
	       (sym->st_value || sym->st_shndx == SHN_ABS || ELF64_ST_TYPE(sym->st_info) == STT_TLS) &&
	       ELF64_ST_BIND(sym->st_info) != STB_LOCAL && strcmp(s->strings + sym->st_name, name) == 0 &&
	       is_version(s, i, version);
}

static uint32_t hash_gnu(const char *name)
{
	uint32_t h = 5381;

	for (; *name; name++)
		h = h * 33 + (unsigned char)*name;
	return h;
}

static uint32_t hash_sysv(const char *name)
{
	uint32_t h = 0, high;

	for (; *name; name++) {
		h = (h << 4) + (unsigned char)*name;
		high = h & 0xf0000000;
		h = (h ^ high >> 24) & ~high;
	}
	return h;
}

/* 0: there is none. */
static uint32_t look_in_gnu(const struct symbols *s, const char *name, const char *version)
{
	uint32_t buckets = s->gnu[0], first = s->gnu[1], words = s->gnu[2], shift = s->gnu[3], h = hash_gnu(name);
	const uint64_t *bloom = (const uint64_t *)(s->gnu + 4);
	const uint32_t *bucket = (const uint32_t *)(bloom + words), *chain = bucket + buckets;
	uint64_t word = words ? bloom[h / 64 % words] : 0;
	uint32_t i;

	if (!(word >> h % 64 & word >> (h >> shift) % 64 & 1) || !buckets)
		return 0;
	for (i = bucket[h % buckets]; i >= first && i; i++) {
		if ((chain[i - first] | 1) == (h | 1) && matches(s, i, name, version))
			return i;
		if (chain[i - first] & 1)
			break;
	}
	return 0;
}

static uint32_t look_in_sysv(const struct symbols *s, const char *name, const char *version)
{
	uint32_t buckets = s->sysv[0];
	const uint32_t *bucket = s->sysv + 2, *chain = bucket + buckets;

	for (uint32_t i = buckets ? bucket[hash_sysv(name) % buckets] : 0; i; i = chain[i])
		if (matches(s, i, name, version))
			return i;
	return 0;
}

bool dl_symbol(const struct object *o, const char *name, const char *version, void **address)
{
	struct symbols s;
	const ElfW(Sym) * sym;
	uint32_t i = 0;

	find_tables(&s, o);
	if (!s.sym || !s.strings)
		return false;
	if (s.gnu)
		i = look_in_gnu(&s, name, version);
	else if (s.sysv)
		i = look_in_sysv(&s, name, version);
	if (!i)
		return false;
	sym = &s.sym[i];
	if (ELF64_ST_TYPE(sym->st_info) == STT_TLS)
		*address = __tls_get_addr(&(struct tls_index){o->tls_module, sym->st_value});
	else if (sym->st_shndx == SHN_ABS)
		*address = (void *)sym->st_value;
	else
		*address = (void *)(o->base + sym->st_value);
	if (ELF64_ST_TYPE(sym->st_info) == STT_GNU_IFUNC)
		*address = ((void *(*)(void)) * address)(); /* x86-64: the resolver takes nothing */
	return true;
}
