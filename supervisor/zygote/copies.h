/*
 * copies.h - private copies of a module and of its libraries, ready for the loader.
 *
 * Each copy is a memfd with a unique name. The copies need each other by these names, so the loader takes no
 * other file and regards each copy as a new library (elf_rewrite.c). An instance begins with copies of the module
 * and of the libraries that it links; copies of libraries that its tasks open are added later.
 */
#ifndef SUPERVISOR_ZYGOTE_COPIES_H
#define SUPERVISOR_ZYGOTE_COPIES_H

#include "supervisor/zygote/closure.h"
#include "supervisor/zygote/elf.h"

#define COPY_PATH 160

struct copy {
	char *name;   /* for messages: the last part of its path */
	char *path;   /* of the file that was copied */
	char *soname; /* NULL: it has none */
	struct file_mark mark;
	char load[COPY_PATH]; /* the path that the loader opens */
	unsigned *needs, nneeds;
	/* Valid only until the copy is loaded: */
	int fd;
	struct elf elf;
	struct elf_calls calls;
	struct elf_tail tail;
};

struct copies {
	struct copy *copy; /* the module first, then its libraries breadth first */
	unsigned n;
	struct copy_name { /* the name by which an object needs a file */
		char *needed;
		unsigned copy;
	} * needed;
	unsigned nneeded;
};

/* All return 0, or an exit code and a message. On failure the caller drops the added copies with sh_copies_drop. */
int sh_copies_add_module(struct copies *, int fd, const char *name, const char *path, char *message, size_t n);
int sh_copies_add_libraries(struct copies *, const struct closure *, char *message, size_t n);
/* Adds a copy even if there is one of that file already. */
int sh_copies_add_file(struct copies *, const struct library *, char *message, size_t n);
int sh_copies_rewrite(struct copies *, unsigned from, char *message, size_t n);
/* Closes the descriptors of the copies from this index on, once the loader has mapped them. */
void sh_copies_loaded(struct copies *, unsigned from);
/* Removes the copies from this index on. */
void sh_copies_drop(struct copies *, unsigned from);
/* Makes a path to the descriptor that no file had before in this process. */
void sh_unique_path(char *path, size_t n, int fd);
/* Returns the index of the copy of that file, or the number of copies if there is none. */
unsigned sh_copies_find(const struct copies *, const struct file_mark *);
/* Fills in the order in which constructors run: an object after the objects that it needs, as in ld.so. */
bool sh_copies_order(const struct copies *, unsigned *order);
/* Copies the loader's error message and replaces the paths of copies by their names. */
void sh_copies_explain(const struct copies *, const char *complaint, char *message, size_t n);

#endif
