/*
 * closure.h - finds the files of the libraries that a module needs.
 *
 * A trial (a process that ends afterwards) lets the dynamic loader look them up, with the
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

/* Facts about a file that change when its content changes, so the file need not be read. */
struct file_mark {
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec mtime, ctime;
};

void sh_mark_of(struct file_mark *, const struct stat *);
bool sh_mark_same(const struct file_mark *, const struct file_mark *);

struct library {
	char *name, *path; /* the name by which another object needs it; its file */
	struct file_mark mark;
};

struct closure {
	char *module, *search; /* "": none */
	struct library *library;
	unsigned n;
	char *text; /* memory of all the strings */
};

/* Makes a memfd with the first two lines. A trial adds the rest. Returns -1 and sets errno on failure. */
int sh_closure_begin(const char *module, const char *search);
/* Reads the list from the memfd. Returns false if it is incomplete or there is no memory. */
bool sh_closure_read(struct closure *, int fd);
void sh_closure_free(struct closure *);
/*
 * Called in a trial: asks the loader for the libraries of the module (open at so_fd if it has no path) and
 * writes them into the memfd. Returns 0, or an exit code with a message.
 */
int sh_closure_find(int fd, int so_fd, const char *name, char *message, size_t n);
/*
 * The same for a file that a goroutine opens. A name with a slash is a path, relative to the current folder; another
 * name is looked up with the search paths of the object in the file `caller`. The list begins with the file itself.
 */
int sh_closure_find_file(int fd, const char *name, const char *caller, char *message, size_t n);
bool sh_closure_unchanged(const struct closure *); /* true if no file of the list has changed */

#endif
