/*
 * elf.h - reads and rewrites the image of an ELF shared object in memory.
 *
 * The image comes from a user's file: every offset in it is compared with the image's size before
 * it is used. The image itself is a private copy that the caller owns.
 */
#ifndef SUPERVISOR_ZYGOTE_ELF_H
#define SUPERVISOR_ZYGOTE_ELF_H

#include <elf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Parts of an image. All pointers lead into it; dyn ends before DT_NULL. */
struct elf {
	char *map;
	size_t size;
	Elf64_Ehdr *header;
	Elf64_Phdr *phdr;
	unsigned nphdr;
	Elf64_Dyn *dyn;
	size_t ndyn;
	const char *strtab; /* strsize bytes, the last one is 0 */
	size_t strsize;
	Elf64_Sym *sym;
	size_t nsym;
};

/* Finds the parts. NULL, or what is wrong with the image: "is not an ELF file". */
const char *sh_elf_open(struct elf *, char *map, size_t size);
const char *sh_elf_string(const struct elf *, uint64_t offset); /* "" if the offset is outside of the table */
/* The n bytes of the image at an address. NULL: they do not all come from the file. */
char *sh_elf_at(const struct elf *, uint64_t address, uint64_t n);
/* The value of the first entry of the dynamic section with this tag. */
bool sh_elf_has(const struct elf *, int64_t tag, uint64_t *value);

bool sh_elf_needs_libraries(const struct elf *); /* others than those of libc's family */

/* What the loader would have run, as addresses in the image (0: none). */
struct elf_calls {
	uint64_t init, init_array, init_size;
	uint64_t fini, fini_array, fini_size;
};

/* The new name for a library that the image needs. NULL: the loader is not to look for it (libc's family). */
typedef const char *elf_rename(void *arg, const char *needed);

/* What is written behind the image. */
struct elf_tail {
	char *bytes; /* the caller frees them */
	size_t size;
	uint64_t at;	  /* in the file */
	uint64_t address; /* in the image: here lie the program headers, nphdr of them */
	unsigned nphdr;
};

/*
 * Rewrites the image for an instance of its own:
 *  - each library that it needs, also in its version needs, is called what `rename` says;
 *  - the loader finds no constructor, destructor, soname or search path in it: `calls` has the former;
 *  - nothing in it keeps it from being unloaded, or makes a symbol unique in the whole process;
 *  - what it calls of the loader (dlopen, dlsym, ...) are the stand-ins of worker/posix/dl.c;
 *  - it does not define functions of which a process has only one (malloc and its kin).
 * The new names lie in a new string table in the tail, in a segment of its own, so they may be longer
 * than the old ones. NULL, or why the library cannot have an instance of its own.
 */
const char *sh_elf_rewrite(struct elf *, elf_rename *, void *arg, struct elf_calls *, struct elf_tail *);

#endif
