/*
 * closure.h - the libraries of a module: which files they are.
 *
 * They are looked up in a trial (a process that is thrown away), by the dynamic loader itself, with the
 * search path of the submitter. The result is a memfd that the supervisor keeps with the module and
 * gives to the zygote for each load:
 *
 *     path of the module, or an empty line
 *     search path (LD_LIBRARY_PATH), or an empty line
 *     a line for each library, breadth first: name <tab> path <tab> marks of the file
 */
#ifndef SUPERVISOR_ZYGOTE_CLOSURE_H
#define SUPERVISOR_ZYGOTE_CLOSURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <time.h>

/* What tells one content of a file from another without reading it. */
struct file_mark {
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec mtime, ctime;
};

void sh_mark_of(struct file_mark *, const struct stat *);
bool sh_mark_same(const struct file_mark *, const struct file_mark *);

struct library {
	char *name, *path; /* what it is needed as; the file */
	struct file_mark mark;
};

struct closure {
	char *module, *search; /* "": none */
	struct library *library;
	unsigned n;
	char *text; /* all strings lie in it */
};

/* A memfd with the first two lines, for a trial to fill in. -1 and errno. */
int sh_closure_begin(const char *module, const char *search);
/* Reads what the memfd holds. false: no memory, or it is not whole. */
bool sh_closure_read(struct closure *, int fd);
void sh_closure_free(struct closure *);
/*
 * In a trial: asks the loader for the libraries of the module (open at so_fd if it has no path) and
 * writes them into the memfd. Returns 0, or an exit code with a message.
 */
int sh_closure_find(int fd, int so_fd, const char *name, char *message, size_t n);
/*
 * The same for a file that a goroutine opens by this name, relative to the current folder or to be looked
 * for as the object at the path `caller` would; the file itself comes first in the list.
 */
int sh_closure_find_file(int fd, const char *name, const char *caller, char *message, size_t n);
bool sh_closure_unchanged(const struct closure *); /* each file is still the one that was found */

#endif
