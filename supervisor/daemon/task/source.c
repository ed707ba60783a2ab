/*
 * source.c - finds the module of a file, and compiles .c files.
 *
 * A file is identified by its marks (struct file_mark: device, inode, size, times). A .c file is identified by its
 * own marks and those of all files that it includes. So a file that has not changed is neither read nor compiled
 * again.
 */
#include "supervisor/daemon/task/source.h"
#include "supervisor/daemon/task/compile.h"
#include "supervisor/daemon/task/module.h"
#include "shm/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SOURCES_MAX 512u

struct dep { /* a file that the source includes */
	struct file_mark mark;
	char *path;
};

struct source {
	struct source *next;
	struct file_mark mark;
	char *cc; /* the compiler; NULL: the file is not a source */
	struct module *module;
	struct dep *deps;
	unsigned ndeps;
};

struct request { /* a caller that waits for a compilation */
	struct request *next;
	module_done *done;
	void *arg;
};

struct compiling {
	struct compiling *next;
	struct file_mark mark;
	char *cc, *name, *search;
	struct request *requests;
};

static struct source *sources;
static unsigned nsources;
static struct compiling *running;

/* ---- known files ---- */

static bool same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static void free_source(struct source *s)
{
	for (unsigned i = 0; i < s->ndeps; i++)
		free(s->deps[i].path);
	free(s->deps);
	free(s->cc);
	free(s);
}

static bool deps_unchanged(const struct source *s)
{
	for (unsigned i = 0; i < s->ndeps; i++) {
		struct stat st;
		struct file_mark now;

		if (stat(s->deps[i].path, &st) < 0)
			return false;
		sh_mark_of(&now, &st);
		if (!sh_mark_same(&now, &s->deps[i].mark))
			return false;
	}
	return true;
}

static struct module *find_source(const struct file_mark *mark, const char *cc, const char *path, const char *search)
{
	for (struct source **at = &sources; *at; at = &(*at)->next) {
		struct source *s = *at;

		if (!sh_mark_same(&s->mark, mark) || !same_text(s->cc, cc) ||
		    !sh_module_matches(s->module, path, search))
			continue;
		*at = s->next;
		if (!deps_unchanged(s)) {
			nsources--;
			free_source(s);
			return NULL;
		}
		sh_module_check(s->module);
		s->next = sources; /* most recently used first */
		sources = s;
		return s->module;
	}
	return NULL;
}

/* Adds the names after the colon of a dependency file, "target: a b \<newline> c". */
static void add_deps(struct source *s, char *text)
{
	char *save, *word = text ? strstr(text, ": ") : NULL;

	if (!word)
		return;
	for (word = strtok_r(word + 1, " \t\n", &save); word; word = strtok_r(NULL, " \t\n", &save)) {
		struct stat st;
		struct dep *more;

		if (strcmp(word, "\\") == 0 ||
		    /*
		     * the built-in shoal.h, which is temporary
		     */
		    strncmp(word, COMPILE_DIR, strlen(COMPILE_DIR)) == 0)
			continue;
		more = realloc(s->deps, (s->ndeps + 1) * sizeof *more);
		if (!more)
			return;
		s->deps = more;
		more = &s->deps[s->ndeps];
		memset(&more->mark, 0,
		       /*
		        * If there is no file of that name (it contains a blank), the zero mark makes the source
		        * count as changed.
		        */
		       sizeof more->mark);
		if (stat(word, &st) == 0)
			sh_mark_of(&more->mark, &st);
		more->path = strdup(word);
		if (more->path)
			s->ndeps++;
	}
}

static void add_source(const struct file_mark *mark, const char *cc, struct module *m, char *deps)
{
	struct source *s = calloc(1, sizeof *s), **at = &sources;

	if (!s)
		return;
	s->mark = *mark;
	s->cc = cc ? strdup(cc) : NULL;
	s->module = m;
	add_deps(s, deps);
	s->next = sources;
	sources = s;
	if (++nsources <= SOURCES_MAX)
		return;
	while ((*at)->next)
		at = &(*at)->next;
	free_source(*at);
	*at = NULL;
	nsources--;
}

void sh_source_forget(void)
{
	while (sources) {
		struct source *s = sources;

		sources = s->next;
		free_source(s);
	}
	nsources = 0;
}

/* ---- compilation ---- */

static void compiled(void *arg, int so_fd, char *deps, const struct failure *compiler)
{
	struct compiling *c = arg, **at = &running;
	struct failure why = *compiler;
	struct module *m = NULL;

	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	if (so_fd >= 0) {
		m = sh_module_from(so_fd, c->name, "", c->search, &why);
		kernel_close(so_fd);
	} else {
		snprintf(why.text, sizeof why.text, "%.200s: %.250s", c->name, compiler->text);
	}
	if (m)
		add_source(&c->mark, c->cc, m, deps);
	while (c->requests) {
		struct request *r = c->requests;

		c->requests = r->next;
		r->done(r->arg, m, &why);
		free(r);
	}
	free(c->cc);
	free(c->name);
	free(c->search);
	free(c);
}

static void compile(const char *path, const char *name, const struct file_mark *mark, const struct wish *w,
		    module_done *done, void *arg)
{
	struct request *r = malloc(sizeof *r);
	struct compiling *c;

	if (!r)
		abort();
	*r = (struct request){NULL, done, arg};
	for (c = running; c; c = c->next)
		if (sh_mark_same(&c->mark, mark) && same_text(c->cc, w->compiler) && same_text(c->search, w->search)) {
			r->next = c->requests;
			c->requests = r;
			return;
		}
	c = calloc(1, sizeof *c);
	if (!c || !(c->cc = strdup(w->compiler)) || !(c->name = strdup(name)) || !(c->search = strdup(w->search)))
		abort();
	c->mark = *mark;
	c->requests = r;
	c->next = running;
	running = c;
	sh_compile(path, w->compiler, compiled, c);
}

static int open_file(const char *path, int cwd, struct stat *st, struct failure *why)
{
	int fd = kernel_openat(cwd >= 0 ? cwd : AT_FDCWD, path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0);

	if (fd < 0) {
		why->code = errno == ENOENT || errno == ENOTDIR			    ? CODE_NOT_FOUND
			    : errno == EMFILE || errno == ENFILE || errno == ENOMEM ? CODE_SHOAL
										    : CODE_NOT_LOADABLE;
		snprintf(why->text, sizeof why->text, "%.400s: %s", path, strerror(errno));
		return -1;
	}
	if (fstat(fd, st) == 0 && S_ISREG(st->st_mode))
		return fd;
	why->code = CODE_NOT_LOADABLE;
	snprintf(why->text, sizeof why->text, "%.400s is %s", path,
		 S_ISDIR(st->st_mode) ? "a folder" : "not a regular file");
	kernel_close(fd);
	return -1;
}

/* Returns the path without symbolic links, which $ORIGIN in a module refers to. "": the path is not known. */
static void real_path(int fd, char *path, size_t n)
{
	char fd_path[32];
	ssize_t len;

	snprintf(fd_path, sizeof fd_path, "/proc/self/fd/%d", fd);
	len = readlink(fd_path, path, n - 1);
	path[len > 0 ? len : 0] = '\0';
	if (strpbrk(path, "\n\t"))
		path[0] = '\0';
}

static void get_compiled(const char *path, int fd, const char *name, const struct file_mark *mark, const struct wish *w,
			 module_done *done, void *arg)
{
	char real[32], *absolute = NULL;

	snprintf(real, sizeof real, "/proc/self/fd/%d", fd);
	if (path[0] != '/')
		absolute = realpath(real, NULL);
	compile(absolute ? absolute : path, name, mark, w, done, arg);
	free(absolute);
}

enum source_language sh_source_language(const char *path)
{
	static const char *const cxx[] = {".cc", ".cpp", ".cxx", ".C"};
	const char *slash = strrchr(path, '/'), *dot = strrchr(slash ? slash : path, '.');

	if (!dot || dot == path || dot[-1] == '/')
		return SOURCE_NONE;
	for (size_t i = 0; i < sizeof cxx / sizeof *cxx; i++)
		if (strcmp(dot, cxx[i]) == 0)
			return SOURCE_CXX;
	return strcmp(dot, ".c") == 0 ? SOURCE_C : SOURCE_NONE;
}

void sh_source_get(const char *path, int cwd, const struct wish *wish, module_done *done, void *arg)
{
	struct wish w = *wish;
	struct failure why = {0};
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	bool source = sh_source_language(path) != SOURCE_NONE;
	char real[PATH_MAX] = "";
	struct stat st;
	struct file_mark mark;
	struct module *m;
	int fd = open_file(path, cwd, &st, &why);

	if (fd < 0) {
		done(arg, NULL, &why);
		return;
	}
	if (!source)
		real_path(fd, real, sizeof real);
	sh_mark_of(&mark, &st);
	m = find_source(&mark, source ? w.compiler : NULL, real, w.search);
	if (!m && source) {
		get_compiled(path, fd, name, &mark, &w, done, arg);
		kernel_close(fd);
		return;
	}
	if (!m) {
		m = sh_module_from(fd, name, real, w.search, &why);
		if (m)
			add_source(&mark, NULL, m, NULL);
	}
	kernel_close(fd);
	done(arg, m, &why);
}

/* ---- search paths ---- */

char *sh_search_path(const char *value, int cwd)
{
	char fd_path[32], base[PATH_MAX], *text;
	ssize_t len;
	size_t room, n = 0;

	if (!value || !*value || strpbrk(value, "\n\t"))
		return NULL;
	snprintf(fd_path, sizeof fd_path, "/proc/self/fd/%d", cwd);
	len = readlink(fd_path, base, sizeof base - 1);
	base[len > 0 ? len : 0] = '\0';
	room = (strlen(value) + 1) * (strlen(base) + 2);
	text = malloc(room);
	if (!text)
		return NULL;
	for (const char *at = value;; at++) {
		size_t one = strcspn(at, ":;");
		bool relative = *at != '/' && *at != '$';

		n += (size_t)snprintf(text + n, room - n, "%s%s%.*s", relative ? base : "", relative ? "/" : "",
				      (int)one, at);
		at += one;
		if (!*at)
			return text;
		text[n++] = ':';
	}
}
