/*
 * elf_rewrite.c - changes the image of a shared object so that the loader takes it for a new one.
 *
 *     file  | header | old program headers | segments ... |pad| new program headers | strings + new names |
 *     image            (unused)              unchanged         \_ one more PT_LOAD, read only ___________/
 *
 * The loader compares names and sonames before it opens a file. So each copy of a library gets a unique name (a
 * path to its descriptor), and the objects that need the library are changed to ask for that name.
 */
#include "supervisor/zygote/elf.h"
#include "core/task/library.h"
#include "shm/segment.h"

#include <stdlib.h>
#include <string.h>

#define PAGE_UP(a) (((a) + SH_PAGE - 1) & ~(SH_PAGE - 1))
#define DT_HIDDEN 0x60005ea1 /* a tag between DT_LOOS and DT_HIOS that the loader ignores */

/* ---- libraries that are refused ---- */

#define TLSDESC 36 /* R_X86_64_TLSDESC */

static bool has_relocation(const struct elf *e, int64_t table, int64_t size_tag, unsigned type)
{
	uint64_t at, size;
	const Elf64_Rela *r;

	if (!sh_elf_has(e, table, &at) || !sh_elf_has(e, size_tag, &size))
		return false;
	r = (const Elf64_Rela *)sh_elf_at(e, at, size);
	for (size_t i = 0; r && i < size / sizeof *r; i++)
		if (ELF64_R_TYPE(r[i].r_info) == type)
			return true;
	return false;
}

static const char *why_refused(const struct elf *e)
{
	uint64_t flags;

	if (sh_elf_has(e, DT_FLAGS, &flags) && (flags & DF_STATIC_TLS))
		return "keeps thread-local variables at fixed places of each thread (DF_STATIC_TLS): "
		       "they cannot be the goroutine's";
	if (e->header->e_machine == EM_X86_64 &&
	    (has_relocation(e, DT_RELA, DT_RELASZ, TLSDESC) || has_relocation(e, DT_JMPREL, DT_PLTRELSZ, TLSDESC)))
		return "reaches thread-local variables by descriptors (-mtls-dialect=gnu2): "
		       "they cannot be the goroutine's";
	return NULL;
}

/* ---- symbols ---- */

static bool is_among(const char *name, const char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(name, list[i]) == 0)
			return true;
	return false;
}
#define AMONG(name, list) is_among(name, list, sizeof list / sizeof *list)

/* One object may free what another (or libc) has allocated, so all must call the malloc of the program. */
static bool is_malloc(const char *name)
{
	static const char *const names[] = {"malloc",	"calloc", "realloc",	    "reallocarray",
					    "free",	"cfree",  "posix_memalign", "aligned_alloc",
					    "memalign", "valloc", "pvalloc",	    "malloc_usable_size"};

	return AMONG(name, names);
}

/* Functions of the C++ library with state for each thread. The program defines them with state for each goroutine. */
static bool is_cxx_runtime(const char *name)
{
	static const char *const names[] = {"__cxa_get_globals", "__cxa_get_globals_fast", "__cxa_guard_acquire",
					    "__cxa_guard_release", "__cxa_guard_abort"};

	return AMONG(name, names) || strncmp(name, "_Znwm", 5) == 0 || strncmp(name, "_Znam", 5) == 0 ||
	       strncmp(name, "_ZdlPv", 6) == 0 || strncmp(name, "_ZdaPv", 6) == 0;
}

static bool defines(const struct elf *e, const char *name)
{
	for (size_t i = 1; i < e->nsym; i++)
		if (e->sym[i].st_shndx != SHN_UNDEF && strcmp(sh_elf_string(e, e->sym[i].st_name), name) == 0)
			return true;
	return false;
}

/* ---- names ---- */

struct rewrite {
	struct elf *e;
	elf_rename *rename;
	void *arg;
	char *strings; /* the old table, then the new names */
	size_t size, room;
	bool failed;
};

static uint64_t append(struct rewrite *r, const char *name)
{
	size_t n = strlen(name) + 1, at = r->size;

	if (r->size + n > r->room) {
		size_t room = (r->size + n) * 2;
		char *more = realloc(r->strings, room);

		if (!more) {
			r->failed = true;
			return 0;
		}
		r->strings = more;
		r->room = room;
	}
	memcpy(r->strings + at, name, n);
	r->size += n;
	return at;
}

/* Returns the stand-in in worker/posix/dl.c for a function of the loader, or NULL. */
static const char *stand_in_for(const char *name)
{
	static const char *const names[] = {LIBRARY_CALLS};

	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (strcmp(names[i] + 3, name) == 0)
			return names[i];
	return NULL;
}

static void rewrite_undefined(struct rewrite *r, Elf64_Sym *s)
{
	const char *to = stand_in_for(sh_elf_string(r->e, s->st_name));

	if (to)
		s->st_name = (uint32_t)append(r, to);
}

static void rewrite_symbols(struct rewrite *r)
{
	const struct elf *e = r->e;
	bool cxx_library = defines(e, "__cxa_get_globals");

	for (size_t i = 1; i < e->nsym; i++) {
		Elf64_Sym *s = &e->sym[i];
		const char *name = sh_elf_string(e, s->st_name);

		if (ELF64_ST_BIND(s->st_info) == STB_GNU_UNIQUE)
			s->st_info = ELF64_ST_INFO(STB_WEAK, ELF64_ST_TYPE(s->st_info));
		if (s->st_shndx == SHN_UNDEF)
			rewrite_undefined(r, s);
		if (s->st_shndx == SHN_UNDEF || ELF64_ST_BIND(s->st_info) == STB_LOCAL ||
		    !(is_malloc(name) || (cxx_library && is_cxx_runtime(name))))
			continue;
		s->st_shndx = SHN_UNDEF;
		s->st_value = s->st_size = 0;
		s->st_info = ELF64_ST_INFO(ELF64_ST_BIND(s->st_info), STT_NOTYPE);
		s->st_other = STV_DEFAULT;
	}
}

static void rewrite_dynamic(struct rewrite *r, struct elf_calls *c)
{
	for (size_t i = 0; i < r->e->ndyn; i++) {
		Elf64_Dyn *d = &r->e->dyn[i];
		const char *name;

		switch (d->d_tag) {
		case DT_INIT: c->init = d->d_un.d_ptr; break;
		case DT_INIT_ARRAY: c->init_array = d->d_un.d_ptr; break;
		case DT_INIT_ARRAYSZ: c->init_size = d->d_un.d_val; break;
		case DT_FINI: c->fini = d->d_un.d_ptr; break;
		case DT_FINI_ARRAY: c->fini_array = d->d_un.d_ptr; break;
		case DT_FINI_ARRAYSZ: c->fini_size = d->d_un.d_val; break;
		case DT_SONAME:
		case DT_RPATH:
		case DT_RUNPATH: break;
		case DT_FLAGS_1:
			d->d_un.d_val &= ~(uint64_t)(DF_1_NODELETE | DF_1_INITFIRST | DF_1_NOOPEN | DF_1_GLOBAL);
			continue;
		case DT_NEEDED:
		case DT_FILTER:
		case DT_AUXILIARY:
			name = r->rename(r->arg, sh_elf_string(r->e, d->d_un.d_val));
			if (!name)
				break;
			d->d_un.d_val = append(r, name);
			continue;
		default: continue;
		}
		d->d_tag = DT_HIDDEN;
	}
}

static void rewrite_version_needs(struct rewrite *r)
{
	uint64_t at, n;

	if (!sh_elf_has(r->e, DT_VERNEED, &at) || !sh_elf_has(r->e, DT_VERNEEDNUM, &n))
		return;
	for (uint64_t i = 0; i < n; i++) {
		Elf64_Verneed *v = (Elf64_Verneed *)sh_elf_at(r->e, at, sizeof *v);
		const char *name;

		if (!v)
			return;
		name = r->rename(r->arg, sh_elf_string(r->e, v->vn_file));
		if (name)
			v->vn_file = (uint32_t)append(r, name);
		if (!v->vn_next)
			return;
		at += v->vn_next;
	}
}

/* ---- the tail ---- */

/* Returns the first address behind all segments. */
static uint64_t image_end(const struct elf *e)
{
	uint64_t end = 0;

	for (unsigned i = 0; i < e->nphdr; i++)
		if (e->phdr[i].p_type == PT_LOAD && e->phdr[i].p_vaddr + e->phdr[i].p_memsz > end)
			end = e->phdr[i].p_vaddr + e->phdr[i].p_memsz;
	return PAGE_UP(end);
}

static void write_headers(struct elf *e, Elf64_Phdr *to, const Elf64_Phdr *own)
{
	unsigned last = 0, n = 0;

	for (unsigned i = 0; i < e->nphdr; i++)
		if (e->phdr[i].p_type == PT_LOAD)
			last = i;
	for (unsigned i = 0; i < e->nphdr; i++) {
		to[n] = e->phdr[i];
		if (to[n].p_type == PT_PHDR) {
			to[n].p_offset = own->p_offset;
			to[n].p_vaddr = to[n].p_paddr = own->p_vaddr;
			to[n].p_filesz = to[n].p_memsz = (e->nphdr + 1ul) * sizeof *to;
		}
		n++;
		if (i == last)
			to[n++] = *own;
	}
}

static bool make_tail(struct rewrite *r, struct elf_tail *tail)
{
	struct elf *e = r->e;
	size_t headers = (e->nphdr + 1ul) * sizeof(Elf64_Phdr);
	Elf64_Phdr own = {.p_type = PT_LOAD, .p_flags = PF_R, .p_align = SH_PAGE};

	tail->at = PAGE_UP(e->size);
	tail->address = image_end(e);
	tail->nphdr = e->nphdr + 1;
	tail->size = headers + r->size;
	tail->bytes = malloc(tail->size);
	if (!tail->bytes)
		return false;
	own.p_offset = tail->at;
	own.p_vaddr = own.p_paddr = tail->address;
	own.p_filesz = own.p_memsz = tail->size;
	write_headers(e, (Elf64_Phdr *)tail->bytes, &own);
	memcpy(tail->bytes + headers, r->strings, r->size);
	for (size_t i = 0; i < e->ndyn; i++) {
		if (e->dyn[i].d_tag == DT_STRTAB)
			e->dyn[i].d_un.d_ptr = own.p_vaddr + headers;
		else if (e->dyn[i].d_tag == DT_STRSZ)
			e->dyn[i].d_un.d_val = r->size;
	}
	e->header->e_phoff = tail->at;
	e->header->e_phnum = (uint16_t)(e->nphdr + 1);
	return true;
}

const char *sh_elf_rewrite(struct elf *e, elf_rename *rename, void *arg, struct elf_calls *calls, struct elf_tail *tail)
{
	struct rewrite r = {.e = e, .rename = rename, .arg = arg, .size = e->strsize, .room = e->strsize + 4096};
	const char *why = why_refused(e);

	if (why)
		return why;
	if (e->nphdr >= UINT16_MAX - 1)
		return "has too many program headers";
	memset(calls, 0, sizeof *calls);
	r.strings = malloc(r.room);
	if (!r.strings)
		return "cannot be copied: no memory";
	memcpy(r.strings, e->strtab, e->strsize);
	rewrite_symbols(&r);
	rewrite_dynamic(&r, calls);
	rewrite_version_needs(&r);
	if (r.failed || !make_tail(&r, tail))
		why = "cannot be copied: no memory";
	free(r.strings);
	return why;
}
