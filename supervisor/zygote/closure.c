/*
 * closure.c - finds the libraries of a module. A trial writes the list; the supervisor and the zygote read it.
 *
 * The trial runs the dynamic loader as a program (ld.so --list) to find the files. So $ORIGIN, RPATH,
 * RUNPATH, LD_LIBRARY_PATH, the cache and the folders for newer processors have the same meaning as
 * when a program starts.
 */
#include "supervisor/zygote/closure.h"
#include "supervisor/zygote/elf.h"
#include "supervisor/zygote/stub.h"
#include "core/task/library.h"
#include "shm/kernel.h"

#include <errno.h>
#include <limits.h>
#include <link.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define CODE_SHOAL 125
#define CODE_NOT_LOADABLE 126

void sh_mark_of(struct file_mark *m, const struct stat *st)
{
	memset(m, 0, sizeof *m);
	m->dev = st->st_dev;
	m->ino = st->st_ino;
	m->size = st->st_size;
	m->mtime = st->st_mtim;
	m->ctime = st->st_ctim;
}

bool sh_mark_same(const struct file_mark *a, const struct file_mark *b)
{
	return memcmp(a, b, sizeof *a) == 0;
}

/* ---- the list ---- */

int sh_closure_begin(const char *module, const char *search)
{
	int fd = kernel_memfd_create("shoal-libraries", MFD_CLOEXEC);

	if (fd >= 0 && dprintf(fd, "%s\n%s\n", module, search) < 0) {
		kernel_close(fd);
		return -1;
	}
	return fd;
}

static char *read_all(int fd)
{
	struct stat st;
	char *text;

	if (fstat(fd, &st) < 0 || !(text = malloc((size_t)st.st_size + 1)))
		return NULL;
	if (kernel_pread(fd, text, (size_t)st.st_size, 0) != st.st_size) {
		free(text);
		return NULL;
	}
	text[st.st_size] = '\0';
	return text;
}

/* Returns the text up to the separator and replaces the separator by '\0'. NULL: there is no separator. */
static char *cut_field(char **at, char separator)
{
	char *from = *at, *to = strchr(from, separator);

	if (!to)
		return NULL;
	*to = '\0';
	*at = to + 1;
	return from;
}

static bool read_library(struct library *l, char **at)
{
	long mark[7];
	char *marks;

	l->name = cut_field(at, '\t');
	l->path = l->name ? cut_field(at, '\t') : NULL;
	marks = l->path ? cut_field(at, '\n') : NULL;
	if (!marks || sscanf(marks, "%ld %ld %ld %ld %ld %ld %ld", &mark[0], &mark[1], &mark[2], &mark[3], &mark[4],
			     &mark[5], &mark[6]) != 7)
		return false;
	memset(&l->mark, 0, sizeof l->mark);
	l->mark.dev = (dev_t)mark[0];
	l->mark.ino = (ino_t)mark[1];
	l->mark.size = mark[2];
	l->mark.mtime = (struct timespec){mark[3], mark[4]};
	l->mark.ctime = (struct timespec){mark[5], mark[6]};
	return true;
}

/* Appends a line for the library to the text. The caller has made enough room. */
static size_t print_library(char *to, size_t room, const struct library *l)
{
	const struct file_mark *m = &l->mark;

	return (size_t)snprintf(to, room, "%s\t%s\t%ld %ld %ld %ld %ld %ld %ld\n", l->name, l->path, (long)m->dev,
				(long)m->ino, (long)m->size, (long)m->mtime.tv_sec, m->mtime.tv_nsec,
				(long)m->ctime.tv_sec, m->ctime.tv_nsec);
}

bool sh_closure_read(struct closure *c, int fd)
{
	char *at;

	memset(c, 0, sizeof *c);
	at = c->text = read_all(fd);
	c->module = at ? cut_field(&at, '\n') : NULL;
	c->search = c->module ? cut_field(&at, '\n') : NULL;
	if (!c->search)
		goto failed;
	while (*at) {
		struct library *more = realloc(c->library, (c->n + 1) * sizeof *more);

		if (!more)
			goto failed;
		c->library = more;
		if (!read_library(&more[c->n], &at))
			goto failed;
		c->n++;
	}
	return true;
failed:
	sh_closure_free(c);
	return false;
}

void sh_closure_free(struct closure *c)
{
	free(c->library);
	free(c->text);
	memset(c, 0, sizeof *c);
}

bool sh_closure_unchanged(const struct closure *c)
{
	for (unsigned i = 0; i < c->n; i++) {
		struct stat st;
		struct file_mark now;

		if (stat(c->library[i].path, &st) < 0)
			return false;
		sh_mark_of(&now, &st);
		if (!sh_mark_same(&now, &c->library[i].mark))
			return false;
	}
	return true;
}

/* ---- the search, in a trial ---- */

static int find_loader(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)size;
	if (info->dlpi_addr != getauxval(AT_BASE))
		return 0;
	*(const char **)arg = info->dlpi_name;
	return 1;
}

/* Runs the loader on the file and returns its output, which the caller frees. NULL: the loader did not run. */
static char *run_loader(const char *file, const char *search)
{
	char *argv[6], *none[] = {NULL}, *answer = NULL;
	const char *loader = NULL;
	posix_spawn_file_actions_t a;
	int out = kernel_memfd_create("shoal-list", 0), status, n = 0;
	pid_t pid;

	dl_iterate_phdr(find_loader, &loader);
	if (out < 0 || !loader)
		return NULL;
	argv[n++] = (char *)loader;
	argv[n++] = "--list";
	if (*search) {
		argv[n++] = "--library-path";
		argv[n++] = (char *)search;
	}
	argv[n++] = (char *)file;
	argv[n] = NULL;
	posix_spawn_file_actions_init(&a);
	posix_spawn_file_actions_adddup2(&a, out, 1);
	posix_spawn_file_actions_adddup2(&a, out, 2);
	if (posix_spawnp(&pid, loader, &a, NULL, argv, none) == 0 && kernel_waitpid(pid, &status, 0) == pid)
		answer = read_all(out);
	posix_spawn_file_actions_destroy(&a);
	kernel_close(out);
	return answer;
}

/*
 * Parses "	libz.so.1 => /lib/libz.so.1 (0x7f...)" or "	/lib/libz.so.1 (0x7f...)".
 * Returns false for every other line.
 */
static bool parse_line(char *line, char **name, char **path)
{
	char *arrow, *end = strrchr(line, '(');

	if (line[0] != '\t' || !end || end - line < 3 || strncmp(end, "(0x", 3) != 0)
		return false;
	end[-1] = '\0';
	*name = *path = line + 1;
	arrow = strstr(line, " => ");
	if (arrow) {
		*arrow = '\0';
		*path = arrow + 4;
	}
	return true;
}

static const char *last_part(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* Makes a message from the loader's output, without the name of the loader. */
static void describe_failure(const char *name, const char *answer, char *message, size_t n)
{
	static const char error[] = "error while loading shared libraries: ";
	const char *missing = strstr(answer, " => not found"), *from = missing, *reason = strstr(answer, error);

	if (missing) {
		while (from > answer && from[-1] != '\t' && from[-1] != '\n')
			from--;
		snprintf(message, n, "%s: it needs %.*s, which is not found", name, (int)(missing - from), from);
		return;
	}
	reason = reason ? reason + sizeof error - 1 : answer;
	snprintf(message, n, "%s: %.*s", name, (int)strcspn(reason, "\n"), reason);
}

#define MARKS_ROOM 160 /* enough characters for seven numbers */

/* Appends the library that a line of the loader's output names to the text, which has enough room. */
static int add_line(char *text, size_t *len, char *line, const char *name, char *message, size_t n)
{
	struct library l;
	struct stat st;

	if (!parse_line(line, &l.name, &l.path) || sh_library_is_libcs(last_part(l.name)) || l.path[0] != '/')
		return 0; /* for instance linux-vdso.so.1, which has no file */
	if (stat(l.path, &st) < 0 || strchr(l.path, '\t') || strchr(l.name, '\t')) {
		snprintf(message, n, "%s: its library %s cannot be read: %s", name, l.path, strerror(errno));
		return CODE_NOT_LOADABLE;
	}
	sh_mark_of(&l.mark, &st);
	*len += print_library(text + *len, strlen(l.name) + strlen(l.path) + MARKS_ROOM, &l);
	return 0;
}

/* Writes the libraries behind the first two lines. If the trial runs twice, it writes the same text twice. */
static int list_libraries(int fd, off_t at, char *answer, const char *name, char *message, size_t n)
{
	size_t lines = 1, len = 0;
	char *text, *save;
	int code = 0;

	for (const char *c = answer; *c; c++)
		lines += *c == '\n';
	text = malloc(2 * strlen(answer) + lines * MARKS_ROOM);
	if (!text)
		return CODE_SHOAL;
	for (char *line = strtok_r(answer, "\n", &save); line && !code; line = strtok_r(NULL, "\n", &save))
		code = add_line(text, &len, line, name, message, n);
	if (!code && (kernel_pwrite(fd, text, len, at) != (ssize_t)len || kernel_ftruncate(fd, at + (off_t)len) < 0)) {
		snprintf(message, n, "%s: cannot write the list of its libraries: %s", name, strerror(errno));
		code = CODE_SHOAL;
	}
	free(text);
	return code;
}

/* True if the module links no library outside of libc's family, so there is nothing to look for. */
static bool needs_only_libc(int so_fd)
{
	struct stat st;
	struct elf e;
	char *map;
	bool none;

	if (fstat(so_fd, &st) < 0)
		return false;
	map = kernel_mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, so_fd, 0);
	if (map == MAP_FAILED)
		return false;
	none = sh_elf_open(&e, map, (size_t)st.st_size) || !sh_elf_needs_libraries(&e);
	kernel_munmap(map, (size_t)st.st_size);
	return none;
}

/* Returns the loader's output for the module, which the caller frees. fd_path leads to the same file by descriptor. */
static char *run_loader_on_module(const struct closure *c, const char *fd_path)
{
	char *answer = run_loader(c->module[0] ? c->module : fd_path, c->search), *again;

	if (!answer || !c->module[0] || answer[0] == '\t')
		return answer;
	again = run_loader(fd_path, c->search); /* the file may lie on a file system that is mounted noexec */
	if (!again || again[0] != '\t') {
		free(again);
		return answer;
	}
	free(answer);
	return again;
}

/* Writes the libraries that the loader found into the list from offset `at` on. Frees the loader's output. */
static int store_answer(int fd, off_t at, char *answer, const char *name, char *message, size_t n)
{
	int code;

	if (!answer) {
		snprintf(message, n, "%s: cannot look for its libraries: %s", name, strerror(errno));
		return CODE_SHOAL;
	}
	if (answer[0] != '\t' || strstr(answer, " => not found")) {
		describe_failure(name, answer, message, n);
		code = CODE_NOT_LOADABLE;
	} else {
		code = list_libraries(fd, at, answer, name, message, n);
	}
	free(answer);
	return code;
}

int sh_closure_find(int fd, int so_fd, const char *name, char *message, size_t n)
{
	struct closure c;
	char fd_path[40];
	int code;

	if (needs_only_libc(so_fd))
		return 0; /* a damaged module comes here too: loading it reports what is wrong */
	if (!sh_closure_read(&c, fd)) {
		snprintf(message, n, "%s: no memory for the list of its libraries", name);
		return CODE_SHOAL;
	}
	snprintf(fd_path, sizeof fd_path, "/proc/%d/fd/%d", (int)getpid(), so_fd);
	code = store_answer(fd, (off_t)(strlen(c.module) + strlen(c.search) + 2), run_loader_on_module(&c, fd_path),
			    name, message, n);
	sh_closure_free(&c);
	return code;
}

/* ---- files that a goroutine opens ---- */

/* Returns the search path in that shared object, with $ORIGIN replaced. The caller frees it. NULL: it has none. */
static char *search_path_of(const char *file, int64_t tag)
{
	int fd = kernel_open(file, O_RDONLY | O_CLOEXEC, 0), folder = (int)(last_part(file) - file);
	struct stat st;
	struct elf e;
	char *map = MAP_FAILED, *path = NULL, *origin;
	uint64_t at;

	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		map = kernel_mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (fd >= 0)
		kernel_close(fd);
	if (map == MAP_FAILED)
		return NULL;
	if (!sh_elf_open(&e, map, (size_t)st.st_size) && sh_elf_has(&e, tag, &at))
		path = strdup(sh_elf_string(&e, at));
	kernel_munmap(map, (size_t)st.st_size);
	while (path && ((origin = strstr(path, "${ORIGIN}")) || (origin = strstr(path, "$ORIGIN")))) {
		size_t skip = origin[1] == '{' ? 9 : 7;
		char *more = NULL;

		if (asprintf(&more, "%.*s%.*s%s", (int)(origin - path), path, folder > 1 ? folder - 1 : folder, file,
			     origin + skip) < 0)
			more = NULL;
		free(path);
		path = more;
	}
	return path;
}

/* Finds the library that the loader would take under this name for an object in the file `caller`. */
static int look_up(const char *name, const char *caller, const char *search, char *path, char *message, size_t n)
{
	char *rpath = search_path_of(caller, DT_RPATH), *runpath = search_path_of(caller, DT_RUNPATH);
	int stub = sh_stub_make(&name, 1, rpath, runpath), code = CODE_NOT_LOADABLE;
	char fd_path[40], *answer, *save = NULL, *found, *at;

	snprintf(fd_path, sizeof fd_path, "/proc/%d/fd/%d", (int)getpid(), stub);
	answer = stub >= 0 ? run_loader(fd_path, search) : NULL;
	if (answer && answer[0] != '\t')
		describe_failure(name, answer, message, n);
	else
		snprintf(message, n, "%s: cannot open shared object file: No such file or directory", name);
	for (char *line = answer ? strtok_r(answer, "\n", &save) : NULL; line && code;
	     line = strtok_r(NULL, "\n", &save))
		if (parse_line(line, &found, &at) && strcmp(found, name) == 0 && realpath(at, path))
			code = 0;
	free(answer);
	free(rpath);
	free(runpath);
	if (stub >= 0)
		kernel_close(stub);
	return code;
}

int sh_closure_find_file(int fd, const char *name, const char *caller, char *message, size_t n)
{
	struct library l = {.name = (char *)name};
	struct closure c;
	char path[PATH_MAX], text[2 * PATH_MAX + MARKS_ROOM];
	struct stat st;
	size_t len;
	off_t at;
	int code = 0, file;

	if (!sh_closure_read(&c, fd)) {
		snprintf(message, n, "%s: no memory for the list of its libraries", name);
		return CODE_SHOAL;
	}
	at = (off_t)(strlen(c.module) + strlen(c.search) + 2);
	if (!strchr(name, '/'))
		code = look_up(name, caller, c.search, path, message, n);
	if (!code && strchr(name, '/') && !realpath(name, path)) {
		snprintf(message, n, "%s: cannot open shared object file: %s", name, strerror(errno));
		code = CODE_NOT_LOADABLE;
	}
	file = code ? -1 : kernel_open(path, O_RDONLY | O_CLOEXEC, 0);
	if (!code && (file < 0 || fstat(file, &st) < 0 || !S_ISREG(st.st_mode) || strpbrk(path, "\t\n") ||
		      strpbrk(name, "\t\n"))) {
		snprintf(message, n, "%s: cannot open shared object file: %s", name,
			 strerror(file < 0 ? errno : EINVAL));
		code = CODE_NOT_LOADABLE;
	}
	if (!code) {
		l.path = path;
		sh_mark_of(&l.mark, &st);
		len = print_library(text, sizeof text, &l);
		if (kernel_pwrite(fd, text, len, at) != (ssize_t)len)
			code = CODE_SHOAL;
		else if (!needs_only_libc(file))
			code = store_answer(fd, at + (off_t)len, run_loader(path, c.search), name, message, n);
	}
	if (file >= 0)
		kernel_close(file);
	sh_closure_free(&c);
	return code;
}
