/*
 * copies.h - private copies of a module and of its libraries, ready for the loader.
 *
 * Each copy is a memfd under a name of its own; the copies need each other by these names, so the
 * loader finds no other file and takes each for a new library (elf_rewrite.c).
 */
#ifndef SUPERVISOR_ZYGOTE_COPIES_H
#define SUPERVISOR_ZYGOTE_COPIES_H

#include "supervisor/zygote/closure.h"
#include "supervisor/zygote/elf.h"

#define COPY_PATH 160

struct copy {
	const char *name;     /* as it is called in messages: its file's last part */
	const char *needed;   /* as others need it; NULL: the module itself */
	const char *path;     /* its file */
	char soname[128];     /* "": it has none */
	char load[COPY_PATH]; /* what the loader opens */
	int fd;
	struct elf elf;
	struct elf_calls calls;
	struct elf_tail tail;
	unsigned *needs, nneeds; /* indices of copies */
};

struct copies {
	struct copy *copy; /* the module first, then its libraries breadth first */
	unsigned n;
	const char *missing; /* a library that is needed and not in the closure */
};

/* Copies the module open at so_fd and its libraries. Returns 0, or an exit code with a message. */
int sh_copies_make(struct copies *, int so_fd, const char *name, const struct closure *, char *message, size_t n);
/* The indices in the order in which constructors run: each after those of what it needs, as ld.so has it. */
void sh_copies_order(const struct copies *, unsigned *order);
/* The loader's complaint with names in place of the copies' paths. */
void sh_copies_explain(const struct copies *, const char *complaint, char *message, size_t n);
void sh_copies_free(struct copies *);

#endif
