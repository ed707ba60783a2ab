/*
 * module.c - the table of modules, which are identified by their content.
 *
 * The supervisor keeps a private copy of each content, so a later change of the file changes nothing. A module
 * that links libraries is identified by its content, path and search path together, because these decide which
 * libraries it gets.
 */
#include "shm/signame.h"
#include "supervisor/daemon/task/module.h"
#include "supervisor/daemon/failure.h"
#include "supervisor/daemon/task/pool.h"
#include "supervisor/keeper/keeper.h"
#include "supervisor/keeper/ledger.h"
#include "supervisor/zygote/elf.h"
#include "shm/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MODULE_BYTES_MAX (1ul << 30)

static struct module *modules;

/* ---- reading the content ---- */

/* Two multiplicative hashes of 64 bits. Contents with equal hashes are compared: same_content(). */
static void hash_bytes(const unsigned char *at, size_t n, uint64_t out[2])
{
	uint64_t a = 0xcbf29ce484222325u, b = 0x9e3779b97f4a7c15u, w;

	for (; n >= 8; at += 8, n -= 8) {
		memcpy(&w, at, 8);
		a = (a ^ w) * 0x9fb21c651e98df25u;
		a ^= a >> 32;
		b = (b + w) * 0xd6e8feb86659fd93u;
		b ^= b >> 29;
	}
	w = n;
	memcpy(&w, at, n);
	out[0] = (a ^ w ^ n << 56) * 0x9fb21c651e98df25u;
	out[1] = (b + w) * 0xd6e8feb86659fd93u;
}

static const char *elf_fault(const void *map, size_t size)
{
	const Elf64_Ehdr *e = map, *self = NULL;
	static Elf64_Ehdr ours;

	if (!ours.e_machine) {
		int fd = kernel_open("/proc/self/exe", O_RDONLY | O_CLOEXEC, 0);

		if (fd >= 0 && kernel_read(fd, &ours, sizeof ours) < 0)
			ours.e_machine = 0;
		if (fd >= 0)
			kernel_close(fd);
	}
	self = &ours;
	if (size < sizeof *e || memcmp(e->e_ident, ELFMAG, SELFMAG) != 0)
		return "is not an ELF file";
	if (e->e_ident[EI_CLASS] != ELFCLASS64 || e->e_machine != self->e_machine)
		return "is built for another kind of machine";
	if (e->e_type != ET_DYN)
		return "is not a shared object: link it with -shared";
	return NULL;
}

struct content {
	char *map;
	size_t size;
	uint64_t hash[2];
	bool links; /* true: it needs libraries outside of libc's family */
};

/* The hashes only select what to compare. */
static bool same_content(const struct module *m, const struct content *c)
{
	void *copy;
	bool same;

	if (m->hash[0] != c->hash[0] || m->hash[1] != c->hash[1] || m->size != c->size)
		return false;
	copy = kernel_mmap(NULL, c->size, PROT_READ, MAP_PRIVATE, m->so_fd, 0);
	if (copy == MAP_FAILED)
		return false;
	same = memcmp(copy, c->map, c->size) == 0;
	kernel_munmap(copy, c->size);
	return same;
}

static struct module *find_module(const struct content *c, const char *path, const char *search)
{
	for (struct module *m = modules; m; m = m->next)
		if (same_content(m, c) && sh_module_matches(m, path, search))
			return m;
	return NULL;
}

bool sh_module_matches(const struct module *m, const char *path, const char *search)
{
	return !m->links || (strcmp(m->libraries.module, path) == 0 && strcmp(m->libraries.search, search) == 0);
}

static void keep_descriptors(struct module *m)
{
	sh_keeper_keep(KEEP_MODULE, m->index, 3, (int[]){m->so_fd, m->libraries_fd});
}

static int keep_content(const char *map, size_t size, const char *name)
{
	int fd = kernel_memfd_create(name, MFD_CLOEXEC);
	size_t at = 0;

	while (fd >= 0 && at < size) {
		ssize_t n = kernel_write(fd, map + at, size - at);

		if (n <= 0)
			break;
		at += (size_t)n;
	}
	if (at == size)
		return fd;
	if (fd >= 0)
		kernel_close(fd);
	return -1;
}

static struct module *new_module(const struct content *c, const char *name, const char *path, const char *search)
{
	struct module *m = sh_ledger->nmodules < LEDGER_MODULES ? calloc(1, sizeof *m) : NULL;
	struct ledger_module *l;

	if (!m)
		return NULL;
	snprintf(m->name, sizeof m->name, "%.*s", (int)sizeof m->name - 1, name);
	m->links = c->links;
	m->so_fd = keep_content(c->map, c->size, m->name);
	m->libraries_fd = sh_closure_begin(path, c->links ? search : "");
	if (m->so_fd < 0 || m->libraries_fd < 0 || !sh_closure_read(&m->libraries, m->libraries_fd)) {
		if (m->so_fd >= 0)
			kernel_close(m->so_fd);
		if (m->libraries_fd >= 0)
			kernel_close(m->libraries_fd);
		free(m);
		return NULL;
	}
	memcpy(m->hash, c->hash, sizeof m->hash);
	m->size = c->size;
	m->last = &m->first;
	m->next = modules;
	modules = m;
	m->index = sh_ledger->nmodules++;
	l = &sh_ledger->module[m->index];
	memcpy(l->hash, c->hash, sizeof l->hash);
	l->size = c->size;
	l->links = c->links;
	memcpy(l->name, m->name, sizeof l->name);
	keep_descriptors(m);
	atomic_store(&l->used, 1);
	return m;
}

/* Reads the file instead of mapping it: if the file shrinks, access to a mapping behind its end is a SIGBUS. */
static const char *read_content(struct content *c, int fd)
{
	struct stat st;
	struct elf e;
	const char *fault;

	if (fstat(fd, &st) < 0 || st.st_size <= 0 || (size_t)st.st_size > MODULE_BYTES_MAX)
		return "is not an ELF file";
	c->size = (size_t)st.st_size;
	c->map = malloc(c->size);
	if (!c->map || kernel_pread(fd, c->map, c->size, 0) != st.st_size)
		return "cannot be read";
	fault = elf_fault(c->map, c->size);
	if (fault)
		return fault;
	c->links = !sh_elf_open(&e, c->map, c->size) && sh_elf_needs_libraries(&e);
	hash_bytes((const unsigned char *)c->map, c->size, c->hash);
	return NULL;
}

struct module *sh_module_from(int fd, const char *name, const char *path, const char *search, struct failure *why)
{
	struct content c = {0};
	struct module *m = NULL;
	const char *fault = read_content(&c, fd);

	if (fault) {
		why->code = CODE_NOT_LOADABLE;
		snprintf(why->text, sizeof why->text, "%s %s", name, fault);
		free(c.map);
		return NULL;
	}
	m = find_module(&c, path, search);
	if (!m)
		m = new_module(&c, name, path, search);
	else
		sh_module_check(m);
	why->code = m ? 0 : CODE_SHOAL;
	if (!m)
		snprintf(why->text, sizeof why->text, "%s: no memory for one more module, or more than %d modules",
			 name, LEDGER_MODULES);
	free(c.map);
	return m;
}

/* ---- the list of its libraries ---- */

static bool replace_list(struct module *m, int fd)
{
	struct closure c;

	if (!sh_closure_read(&c, fd))
		return false;
	sh_closure_free(&m->libraries);
	kernel_close(m->libraries_fd);
	m->libraries = c;
	m->libraries_fd = fd;
	keep_descriptors(m);
	return true;
}

bool sh_module_tried(struct module *m, int fd)
{
	m->tried = replace_list(m, fd);
	return m->tried;
}

void sh_module_check(struct module *m)
{
	if (m->tried && !sh_closure_unchanged(&m->libraries))
		sh_module_outdate(m);
}

void sh_module_outdate(struct module *m)
{
	m->tried = false;
	m->era++;
	sh_pool_outdated(m);
}

/* ---- entries ---- */

static bool is_entry(const struct module *m, const char *entry)
{
	for (unsigned i = 0; i < m->nentries; i++)
		if (strcmp(m->entries[i], entry) == 0)
			return true;
	return false;
}

bool sh_module_has(const struct module *m, const char *entry)
{
	return m->tried && is_entry(m, entry);
}

void sh_module_add_entry(struct module *m, const char *entry)
{
	void *more;

	if (is_entry(m, entry))
		return;
	more = realloc(m->entries, (m->nentries + 1) * sizeof *m->entries);
	if (!more)
		return;
	m->entries = more;
	snprintf(m->entries[m->nentries], Z_NAME, "%s", entry);
	if (m->nentries < LEDGER_ENTRIES) {
		memcpy(sh_ledger->module[m->index].entries[m->nentries], m->entries[m->nentries], Z_NAME);
		sh_ledger->module[m->index].nentries = m->nentries + 1;
	}
	m->nentries++;
}

/* ---- after the death of a supervisor ---- */

static struct module *adopt(unsigned index, const int fd[2])
{
	struct ledger_module *l = &sh_ledger->module[index];
	unsigned nentries = l->nentries; /* sh_module_add_entry counts them in the ledger again */
	struct module *m = calloc(1, sizeof *m);

	if (!m)
		abort();
	memcpy(m->hash, l->hash, sizeof m->hash);
	memcpy(m->name, l->name, sizeof m->name);
	memcpy(m->crashed_ns, l->crashed_ns, sizeof m->crashed_ns);
	m->size = l->size;
	m->links = l->links;
	m->crashes = l->crashes;
	m->so_fd = fd[0];
	m->libraries_fd = fd[1];
	m->index = index;
	m->last = &m->first;
	m->next = modules;
	modules = m;
	if (!sh_closure_read(&m->libraries, m->libraries_fd))
		sh_module_outdate(m);
	for (unsigned k = 0; k < nentries && k < LEDGER_ENTRIES; k++)
		sh_module_add_entry(m, l->entries[k]);
	return m;
}

void sh_modules_adopt(int (*fd)[2])
{
	for (unsigned i = 0; i < sh_ledger->nmodules && i < LEDGER_MODULES; i++)
		if (atomic_load(&sh_ledger->module[i].used) && fd[i][0] >= 0 && fd[i][1] >= 0)
			adopt(i, fd[i]);
	sh_pool_adopt();
}

struct module *sh_module_at(uint32_t index)
{
	for (struct module *m = modules; m; m = m->next)
		if (m->index == index)
			return m;
	return NULL;
}

struct module *sh_module_first(void)
{
	return modules;
}

void sh_modules_keep(void)
{
	for (struct module *m = modules; m; m = m->next)
		keep_descriptors(m);
}
