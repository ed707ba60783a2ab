/*
 * compile.c - compiles a module that is a C or C++ file, without blocking the loop.
 *
 * The compiler is a child of the supervisor with its output in a pipe. The fleet reaps it like other children
 * (fleet.c). A compiler that runs longer than COMPILE_MS is killed.
 */
#include "shm/kernel.h"
#include "supervisor/daemon/task/compile.h"
#include "supervisor/daemon/failure.h"
#include "supervisor/daemon/fleet.h"
#include "supervisor/daemon/log.h"
#include "supervisor/daemon/main.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define COMPILE_MS 300000u
#define TEXT_MAX 65536u
#define WORDS_MAX 256

struct compile {
	char dir[32], so[48], deps[48], header[48];
	uv_poll_t poll;
	uv_timer_t timer;
	unsigned handles; /* open libuv handles: the struct is freed with the last one */
	pid_t pid;
	int pipe, status;
	bool ended, closed, late;
	char *text;
	size_t len;
	compile_done *done;
	void *arg;
};

extern const char sh_header_text[], sh_header_end[]; /* header.S */

static bool has_header(const char *dir)
{
	char path[PATH_MAX];

	return snprintf(path, sizeof path, "%s/shoal.h", dir) < (int)sizeof path && access(path, R_OK) == 0;
}

/*
 * Finds the folder of shoal.h: in the source tree (from build/ or build/kill/) or installed (from bin/). NULL: not
 * found.
 */
static const char *include_dir(void)
{
	static const char *const from_exe[] = {"../core", "../../core", "../include"};
	static char dir[PATH_MAX + 32];
	char exe[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);

	if (n < 0)
		return NULL;
	exe[n] = '\0';
	dirname(exe);
	for (size_t i = 0; i < sizeof from_exe / sizeof *from_exe; i++) {
		snprintf(dir, sizeof dir, "%s/%s", exe, from_exe[i]);
		if (has_header(dir))
			return dir;
	}
	return NULL;
}

/* Writes the built-in copy of shoal.h into the folder of the result. */
static const char *write_header(struct compile *c)
{
	size_t size = (size_t)(sh_header_end - sh_header_text);
	int fd = kernel_open(c->header, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0)
		return c->dir;
	if (kernel_write(fd, sh_header_text, size) != (ssize_t)size)
		sh_log("cannot write %s: %s", c->header, strerror(errno));
	kernel_close(fd);
	return c->dir;
}

static char *read_file(const char *path)
{
	FILE *f = fopen(path, "re");
	char *text = NULL;
	size_t n = 0;

	if (!f)
		return NULL;
	if (getdelim(&text, &n, '\0', f) < 0) {
		free(text);
		text = NULL;
	}
	fclose(f);
	return text;
}

static void remove_files(struct compile *c)
{
	kernel_unlink(c->so);
	kernel_unlink(c->deps);
	kernel_unlink(c->header);
	kernel_rmdir(c->dir);
}

static void on_closed(uv_handle_t *handle)
{
	struct compile *c = handle->data;

	if (--c->handles)
		return;
	kernel_close(c->pipe);
	free(c->text);
	free(c);
}

static void finish(struct compile *c)
{
	struct failure why = {0};
	char *deps = NULL;
	int so = -1;

	if (!c->ended || !c->closed)
		return;
	c->text[c->len] = '\0';
	if (c->late) {
		why.code = CODE_NOT_LOADABLE;
		snprintf(why.text, sizeof why.text, "the compiler did not finish within %u s", COMPILE_MS / 1000);
	} else if (WIFEXITED(c->status) && WEXITSTATUS(c->status) == 127 && !c->len) {
		why.code = CODE_NOT_LOADABLE;
		snprintf(why.text, sizeof why.text, "no compiler found: install one, or set CC or CXX");
	} else if (c->status != 0) {
		why.code = CODE_NOT_LOADABLE;
		snprintf(why.text, sizeof why.text, "does not compile");
		why.detail = c->len ? c->text : NULL;
	} else if ((so = kernel_open(c->so, O_RDONLY | O_CLOEXEC, 0)) < 0) {
		why.code = CODE_NOT_LOADABLE;
		snprintf(why.text, sizeof why.text, "the compiler reported success but wrote no file");
		why.detail = c->len ? c->text : NULL;
	} else {
		deps = read_file(c->deps);
	}
	remove_files(c);
	c->done(c->arg, so, deps, &why);
	free(deps);
	uv_close((uv_handle_t *)&c->poll, on_closed);
	uv_close((uv_handle_t *)&c->timer, on_closed);
}

static void on_exit_status(void *arg, int status)
{
	struct compile *c = arg;

	c->status = status;
	c->ended = true;
	finish(c);
}

static void on_text(uv_poll_t *handle, int status, int events)
{
	struct compile *c = handle->data;
	char scrap[4096];
	ssize_t n;

	(void)status;
	(void)events;
	for (;;) {
		size_t room = TEXT_MAX - c->len;

		n = room ? kernel_read(c->pipe, c->text + c->len, room) : kernel_read(c->pipe, scrap, sizeof scrap);
		if (n <= 0)
			break;
		if (room)
			c->len += (size_t)n;
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	uv_poll_stop(&c->poll);
	c->closed = true;
	finish(c);
}

static void on_late(uv_timer_t *timer)
{
	struct compile *c = timer->data;

	c->late = true;
	if (!c->ended)
		kernel_kill(-c->pid, SIGKILL); /* the whole process group, with the compiler's own children */
	c->closed = true;
	uv_poll_stop(&c->poll);
	finish(c);
}

/* Adds the words of a text, which it cuts, to argv. */
static int add_words(char **argv, int n, char *text)
{
	char *save;

	for (char *w = strtok_r(text, " \t\n", &save); w && n < WORDS_MAX; w = strtok_r(NULL, " \t\n", &save))
		argv[n++] = w;
	return n;
}

static int start_compiler(struct compile *c, const char *path, char *command, int out)
{
	char include[PATH_MAX + 64], *argv[WORDS_MAX + 20], *libraries = strchr(command, '\n');
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t none, defaults;
	const char *header_dir;
	int n = 0, err;

	if (libraries)
		*libraries++ = '\0';
	n = add_words(argv, n, command);
	header_dir = include_dir();
	/* Searched last: in the source tree the folder also has sched.h, which would hide the system's <sched.h>. */
	snprintf(include, sizeof include, "-idirafter%s", header_dir ? header_dir : write_header(c));
	for (char *const *a = (char *const[]){"-shared", "-fPIC", "-O2", "-g", "-fno-omit-frame-pointer",
					      "-fstack-clash-protection", include, "-MD", "-MF", c->deps, "-o", c->so,
					      (char *)path, NULL};
	     *a; a++)
		argv[n++] = *a;
	if (libraries)
		n = add_words(argv, n, libraries);
	argv[n++] = (char *)"-lm";
	argv[n] = NULL;

	sigemptyset(&none);
	sigemptyset(&defaults);
	sigaddset(&defaults, SIGPIPE);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &defaults);
	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&files, out, 1);
	posix_spawn_file_actions_adddup2(&files, out, 2);
	err = posix_spawnp(&c->pid, argv[0], &files, &attr, argv, environ);
	posix_spawn_file_actions_destroy(&files);
	posix_spawnattr_destroy(&attr);
	return err;
}

static void report_error(const char *what, int err, compile_done *done, void *arg)
{
	struct failure why = {.code = CODE_NOT_LOADABLE};

	snprintf(why.text, sizeof why.text, "%s: %s", what, strerror(err));
	done(arg, -1, NULL, &why);
}

void sh_compile(const char *path, const char *compiler, compile_done *done, void *arg)
{
	char *command = strdup(compiler);
	struct compile *c = calloc(1, sizeof *c);
	int ends[2], err;

	if (!c || !command || !(c->text = malloc(TEXT_MAX + 1)))
		abort();
	c->done = done;
	c->arg = arg;
	snprintf(c->dir, sizeof c->dir, COMPILE_DIR "XXXXXX");
	if (!mkdtemp(c->dir) || kernel_pipe2(ends, O_CLOEXEC) < 0) {
		err = errno;
		kernel_rmdir(c->dir);
		goto failed;
	}
	snprintf(c->so, sizeof c->so, "%s/module.so", c->dir);
	snprintf(c->deps, sizeof c->deps, "%s/module.d", c->dir);
	snprintf(c->header, sizeof c->header, "%s/shoal.h", c->dir);
	err = start_compiler(c, path, command, ends[1]);
	free(command);
	command = NULL;
	kernel_close(ends[1]);
	if (err) {
		kernel_close(ends[0]);
		kernel_rmdir(c->dir);
		goto failed;
	}
	c->pipe = ends[0];
	kernel_fcntl(c->pipe, F_SETFL, O_NONBLOCK);
	c->handles = 2;
	uv_poll_init(sh_loop, &c->poll, c->pipe);
	uv_timer_init(sh_loop, &c->timer);
	c->poll.data = c->timer.data = c;
	uv_poll_start(&c->poll, UV_READABLE | UV_DISCONNECT, on_text);
	uv_timer_start(&c->timer, on_late, COMPILE_MS, 0);
	sh_fleet_watch(c->pid, on_exit_status, c);
	return;
failed:
	free(command);
	report_error("the compiler cannot be started", err, done, arg);
	free(c->text);
	free(c);
}
