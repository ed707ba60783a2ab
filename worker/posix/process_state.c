/*
 * process_state.c - state that POSIX and libc keep for a process and that belongs to a task: environment (see
 * environ.c), working directory, umask, locale, time zone.
 *
 * The task's record holds the state. A worker applies it to its own process when it turns to the task, and
 * again when it comes back to the task and the state number has changed. A goroutine that runs on another
 * worker during the change sees it after its next park.
 *
 * LOCK   task->lock around a change, because goroutines on two workers may make one at once
 * DEATH  each item is one store (a torn locale is a name that libc refuses), and state is raised after it. A
 *        death in between leaves other workers with the old state until they next turn to the task
 */
#include "shm/heap.h"
#include "shm/kill.h"
#include "worker/posix/own.h"
#include "worker/posix/posix.h"
#include "worker/view.h"

#include <fcntl.h>
#include <locale.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

static struct task *current;
static uint64_t current_state, current_settings;
static mode_t first_umask;
static FILE *first_stdin;
static char current_locale[TASK_LOCALE] = "C";
static bool timezone_set; /* some task's zone is in tzname, timezone and daylight of this process */

static char *real_setlocale(int category, const char *name)
{
	static char *(*libc)(int, const char *);

	LIBC_FIND(libc, "setlocale");
	return libc(category, name);
}

/* Records the state of a new worker, before it runs any task. */
void process_state_start(void)
{
	first_umask = (mode_t)syscall(SYS_umask, 022);
	syscall(SYS_umask, first_umask);
	first_stdin = stdin;
}

void process_state_input(struct task *t)
{
	stdin = task_own(t)->in ? task_own(t)->in : first_stdin;
}

/* Sets the name that err, warn and error print. */
static void program_is(char *name)
{
	char *slash = strrchr(name, '/');

	program_invocation_name = name;
	program_invocation_short_name = slash ? slash + 1 : name;
}

REAL(time_t, mktime, (struct tm * tm), tm)
static void real_tzset(void)
{
	static void (*libc)(void);

	LIBC_FIND(libc, "tzset");
	libc();
}

/* tzname, timezone and daylight become the task's: as its last tzset left them, or as in a new process. */
static void turn_timezone(struct task *t)
{
	static char gmt[] = "TZ=GMT0";
	static char *list[] = {gmt, NULL};

	if (task_own(t)->timezone) {
		real_tzset();
		timezone_set = true;
	} else if (timezone_set) { /* libc sets them only when TZ is another than at its last look */
		environ = list;
		real_tzset();
		environ = t->envp;
		timezone_set = false;
	}
}

static __attribute__((noinline)) void turn_to(struct task *t)
{
	int dir = task_own(t)->fd_cwd >= 0 ? task_own(t)->fd_cwd : t->fd_cwd;
	uint64_t state = *(volatile uint64_t *)&task_own(t)->state; /* before settings, which are stored before it */

	if (t == current && *(volatile uint64_t *)&task_own(t)->settings == current_settings) {
		current_state = state; /* only its mappings have changed */
		sh_view_turn_to(t);
		return;
	}
	if (!(sh_heap_seats(t->heap) >> getm->seat & 1))
		sh_heap_touch(t->heap,
			      (unsigned)getm->seat); /* before anything of it runs here: see core/repair/old_heaps.c */
	current = t;
	current_state = state;
	current_settings = task_own(t)->settings;
	environ = t->envp;
	program_is(t->argv && t->argc > 0 && t->argv[0] ? t->argv[0] : t->module);
	process_state_input(t);
	sh_view_turn_to(t);
	syscall(SYS_umask, task_own(t)->has_umask ? task_own(t)->umask : first_umask);
	if (strcmp(current_locale, task_own(t)->locale[0] ? task_own(t)->locale : "C") != 0) {
		sh_format(current_locale, sizeof current_locale, "%s",
			  task_own(t)->locale[0] ? task_own(t)->locale : "C");
		real_setlocale(LC_ALL, current_locale);
	}
	turn_timezone(t);
	if (dir >= 0 && syscall(SYS_fchdir, dir) < 0)
		return; /* the folder is gone; the task sees that for itself */
}

void host_task_start(struct task *t)
{
	struct task_own *own = task_own(t);

	memset(own, 0, sizeof *own);
	own->fd_cwd = -1;
	own->optind = own->opterr = 1;
	own->optopt = '?';
	own->state = own->settings = posix_new_state();
}

uint64_t posix_new_state(void)
{
	return atomic_fetch_add(&posix_shared->task_states, 1) + 1;
}

void host_switch_task(struct task *t)
{
	if (__builtin_expect(t != current || task_own(t)->state != current_state, 0))
		turn_to(t);
}

void host_task_changed(struct task *t)
{
	task_own(t)->state = posix_new_state();
	KILL_POINT("process.state.renewed");
}

struct task *process_state_begin(void)
{
	struct g *g = on_g();

	if (!g)
		return NULL;
	acquirem();
	sh_lock_take(&g->task->lock, (unsigned)getm->seat);
	return g->task;
}

/* This worker has made the change; whether it has followed all changes before is not known. */
static void raise_state(struct task *t, bool of_mappings)
{
	uint64_t was = task_own(t)->state, now = posix_new_state();

	if (!of_mappings)
		task_own(t)->settings = now;
	KILL_POINT("process.settings.raised");
	task_own(t)->state = now;
	KILL_POINT("process.state.raised");
	if (was == current_state) {
		current_state = now;
		if (!of_mappings)
			current_settings = now;
	}
}

void process_state_end(struct task *t, bool changed)
{
	if (!t)
		return;
	if (changed)
		raise_state(t, false);
	sh_lock_drop(&t->lock, (unsigned)getm->seat);
	releasem();
}

void process_state_mapped(struct task *t)
{
	raise_state(t, true);
	sh_lock_drop(&t->lock, (unsigned)getm->seat);
	releasem();
}

/* The process has changed to the folder that dir is a descriptor of: it becomes the task's. */
static int went_to(int dir)
{
	struct task *t;
	int old;

	fd_made(dir);
	t = process_state_begin();
	old = task_own(t)->fd_cwd;
	task_own(t)->fd_cwd = dir;
	KILL_POINT("process.cwd.set");
	process_state_end(t, true);
	if (old >= 0)
		close(old);
	return 0;
}

int fchdir(int fd)
{
	int dir;

	if (!posix_enter())
		return (int)syscall(SYS_fchdir, fd);
	dir = openat(fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return -1;
	if (syscall(SYS_fchdir, dir) < 0) {
		int err = errno;

		close(dir);
		errno = err;
		return -1;
	}
	return went_to(dir);
}

int chdir(const char *path)
{
	int dir, r;

	if (!posix_enter())
		return (int)syscall(SYS_chdir, path);
	dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return -1;
	r = fchdir(dir);
	close(dir);
	return r;
}

mode_t umask(mode_t mode)
{
	struct task *t = process_state_begin();
	mode_t old = (mode_t)syscall(SYS_umask, mode);

	if (t) {
		task_own(t)->umask = mode & 0777;
		task_own(t)->has_umask = 1;
	}
	process_state_end(t, true);
	return old;
}

char *setlocale(int category, const char *name)
{
	struct task *t = name ? process_state_begin() : NULL;
	char *r = real_setlocale(category, name);

	if (t && r) {
		sh_format(task_own(t)->locale, sizeof task_own(t)->locale, "%s", real_setlocale(LC_ALL, NULL));
		sh_format(current_locale, sizeof current_locale, "%s", task_own(t)->locale);
	}
	process_state_end(t, r != NULL);
	return r;
}

/* Sets the time zone from the task's TZ, and remembers that the task has done so. */
void tzset(void)
{
	struct g *g = on_g();
	struct task *t = g && !task_own(g->task)->timezone ? process_state_begin() : NULL;

	real_tzset();
	if (g)
		timezone_set = true;
	if (t) {
		task_own(t)->timezone = 1;
		KILL_POINT("process.timezone");
	}
	process_state_end(t, t != NULL);
}

time_t mktime(struct tm *tm)
{
	if (on_g())
		tzset();
	return real_mktime(tm);
}

time_t timelocal(struct tm *tm)
{
	return mktime(tm);
}

/* libc's localtime_r reads TZ once in the life of a process. This process has run other tasks, so read it again. */
struct tm *localtime_r(const time_t *restrict t, struct tm *restrict tm)
{
	static struct tm *(*libc)(const time_t *, struct tm *);

	LIBC_FIND(libc, "localtime_r");
	if (on_g())
		tzset();
	return libc(t, tm);
}

/* ---- functions that return a pointer to memory of the process: it is the task's instead ---- */

static struct task *task_here(void)
{
	struct g *g = on_g();

	return g ? g->task : NULL;
}

struct tm *localtime(const time_t *t)
{
	static struct tm tm;
	struct task *task = task_here();

	if (!task) {
		tzset();
		return localtime_r(t, &tm);
	}
	return localtime_r(t, &task_own(task)->tm);
}

struct tm *gmtime(const time_t *t)
{
	static struct tm tm;
	struct task *task = task_here();

	return gmtime_r(t, task ? &task_own(task)->tm : &tm);
}

char *asctime(const struct tm *tm)
{
	static char text[64];
	struct task *task = task_here();

	return asctime_r(tm, task ? task_own(task)->asctime : text);
}

char *ctime(const time_t *t)
{
	struct tm *tm = localtime(t);

	return tm ? asctime(tm) : NULL;
}

char *strtok(char *restrict s, const char *restrict delimiters)
{
	static char *rest;
	struct task *task = task_here();

	return strtok_r(s, delimiters, task ? &task_own(task)->strtok : &rest);
}
