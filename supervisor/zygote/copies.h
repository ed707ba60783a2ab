/*
 * copies.h - private copies of a module and of its libraries, ready for the loader.
 *
 * Each copy is a memfd under a name of its own; the copies need each other by these names, so the
 * loader finds no other file and takes each for a new library (elf_rewrite.c). Copies are added to an
 * instance first for the module and what it links, later for what its tasks open.
 */
#ifndef SUPERVISOR_ZYGOTE_COPIES_H
#define SUPERVISOR_ZYGOTE_COPIES_H

#include "supervisor/zygote/closure.h"
#include "supervisor/zygote/elf.h"

#define COPY_PATH 160

struct copy {
	char *name;   /* as it is called in messages: the last part of its path */
	char *path;   /* its file */
	char *soname; /* NULL: it has none */
	struct file_mark mark;
	char load[COPY_PATH]; /* what the loader opens */
	unsigned *needs, nneeds;
	/* Until it is loaded: */
	int fd;
	struct elf elf;
	struct elf_calls calls;
	struct elf_tail tail;
};

struct copies {
	struct copy *copy; /* the module first, then its libraries breadth first */
	unsigned n;
	struct copy_name { /* what a file was needed as */
		char *needed;
		unsigned copy;
	} * needed;
	unsigned nneeded;
};

/* All return 0, or an exit code with a message. What was added stays until sh_copies_drop. */
int sh_copies_add_module(struct copies *, int fd, const char *name, const char *path, char *message, size_t n);
int sh_copies_add_libraries(struct copies *, const struct closure *, char *message, size_t n);
int sh_copies_add_file(struct copies *, const struct library *, char *message, size_t n); /* a new copy in any case */
int sh_copies_rewrite(struct copies *, unsigned from, char *message, size_t n);
/* The copies from this one on are loaded: closes their descriptors. */
void sh_copies_loaded(struct copies *, unsigned from);
/* Forgets the copies from this one on. */
void sh_copies_drop(struct copies *, unsigned from);
/* A path to the descriptor that no file had before in this process. */
void sh_unique_path(char *path, size_t n, int fd);
/* The copy of the file with that mark, n if there is none. */
unsigned sh_copies_find(const struct copies *, const struct file_mark *);
/* The indices in the order in which constructors run: each after those of what it needs, as ld.so has it. */
bool sh_copies_order(const struct copies *, unsigned *order);
/* The loader's complaint with names in place of the copies' paths. */
void sh_copies_explain(const struct copies *, const char *complaint, char *message, size_t n);

#endif
