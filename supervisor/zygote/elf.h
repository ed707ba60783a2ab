/*
 * elf.h - reads and rewrites the image of an ELF shared object in memory.
 *
 * The image comes from a user's file, so every offset in it is compared with the size of the image before
 * it is used. The image itself is a private copy that the caller owns.
 */
#ifndef SUPERVISOR_ZYGOTE_ELF_H
#define SUPERVISOR_ZYGOTE_ELF_H

#include <elf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The parts of an image. All pointers point into the image; dyn does not include DT_NULL. */
struct elf {
	char *map;
	size_t size;
	Elf64_Ehdr *header;
	Elf64_Phdr *phdr;
	unsigned nphdr;
	Elf64_Dyn *dyn;
	size_t ndyn;
	const char *strtab; /* strsize bytes, of which the last one is 0 */
	size_t strsize;
	Elf64_Sym *sym;
	size_t nsym;
};

/* Finds the parts. Returns NULL, or what is wrong with the image, such as "is not an ELF file". */
const char *sh_elf_open(struct elf *, char *map, size_t size);
const char *sh_elf_string(const struct elf *, uint64_t offset); /* "" if the offset is outside of the table */
/* Returns the n bytes at an address of the image, or NULL if they do not all come from the file. */
char *sh_elf_at(const struct elf *, uint64_t address, uint64_t n);
/* Stores the value of the first entry with this tag in the dynamic section. Returns false if there is none. */
bool sh_elf_has(const struct elf *, int64_t tag, uint64_t *value);

bool sh_elf_needs_libraries(const struct elf *); /* true if it needs a library outside of libc's family */

/* Constructors and destructors of the image, as addresses in it (0: none). */
struct elf_calls {
	uint64_t init, init_array, init_size;
	uint64_t fini, fini_array, fini_size;
};

/* Returns the new name of a library that the image needs. NULL: remove the entry (libraries of libc's family). */
typedef const char *elf_rename(void *arg, const char *needed);

/* The bytes that the caller appends to the file. */
struct elf_tail {
	char *bytes; /* the caller frees them */
	size_t size;
	uint64_t at;	  /* offset in the file */
	uint64_t address; /* address in the image; the tail begins with nphdr program headers */
	unsigned nphdr;
};

/*
 * Rewrites the image so that the loader can load it once for each instance:
 *  - the names of the libraries that it needs, in DT_NEEDED and in the version needs, come from `rename`;
 *  - constructors and destructors move to `calls`, and soname and search path are hidden from the loader;
 *  - flags that forbid unloading are cleared, and symbols that are unique in the process become weak;
 *  - calls of dlopen, dlsym and so on go to the stand-ins in worker/posix/dl.c;
 *  - definitions of functions that exist once in a process (malloc and related ones) become undefined.
 * The new names are in a new string table in the tail, which is a segment of its own, so they may be longer than
 * the old ones. Returns NULL, or the reason why the library cannot be loaded for each instance.
 */
const char *sh_elf_rewrite(struct elf *, elf_rename *, void *arg, struct elf_calls *, struct elf_tail *);

#endif
