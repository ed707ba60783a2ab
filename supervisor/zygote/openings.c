/*
 * openings.c - loads the libraries that goroutines open, in the zygote. The protocol is in core/task/library.h.
 *
 * The zygote first tries each request in a clone, which also looks for the file. So a damaged library crashes the
 * clone, and a file system that does not answer blocks only the clone. Meanwhile the zygote serves other requests;
 * it loads the library when the clone reports success.
 *
 * OWNER  the zygote: the list of trials. A standby starts all requests again
 * DEATH  of the zygote: its clones end with it
 */
#include "supervisor/zygote/openings.h"
#include "core/root.h"
#include "core/sched/netpoll.h"
#include "core/task/library.h"
#include "shm/kernel.h"
#include "supervisor/zygote/closure.h"
#include "supervisor/zygote/elf.h"
#include "supervisor/zygote/instance.h"
#include "supervisor/zygote/zygote.h"
#include "supervisor/zygote/zygote_int.h"

#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>

#define TRIAL_SECONDS 10

struct opening_trial {
	struct opening_trial *next;
	uint64_t task, number; /* id of the task, number of its request */
	uint32_t slot, instance;
	pid_t pid;
	int pipe, list; /* the result of the clone; the list of files that the clone writes */
	struct library_request request;
};

static struct opening_trial *opening_trials;

/* ---- answers ---- */

static struct task *task_of(const struct opening_trial *t)
{
	struct task *task = task_at(t->slot);

	return task->id == t->task && atomic_load(&task->state) == TASK_RUNNING ? task : NULL;
}

static void answer_opening(const struct opening_trial *t, int code, unsigned object, const char *message)
{
	struct task *task = task_of(t);
	struct library_request *r;

	if (!task)
		return; /* the task has ended */
	r = &library_room(task)->request;
	if (atomic_load(&r->asked) != t->number)
		return;
	r->code = code;
	r->object = object;
	snprintf(r->message, sizeof r->message, "%s", message);
	atomic_store(&r->done, t->number);
	sh_bell();
}

/* ---- in the clone ---- */

static struct opening opening_of(const struct library_request *r)
{
	return (struct opening){.global = r->global,
				.nglobals = r->nglobals,
				.scope = r->scope,
				.first = (r->flags & LIBRARY_FIRST) != 0,
				.lazy = (r->flags & LIBRARY_LAZY) != 0};
}

static int try_opening(struct opening_trial *t, char *message, size_t n)
{
	struct library_request *r = &t->request;
	struct instance *in = sh_zygote_instance(t->instance);
	const struct objects *s = sh_instance_objects(in);
	struct load l = {.libraries = t->list, .name = r->name, .trial = true};
	struct opening o = opening_of(r);
	const char *caller = r->caller < s->n ? s->object[r->caller].path : "";
	unsigned object;
	int code;

	if (r->flags & LIBRARY_LIBC_FAMILY)
		return dlopen(r->name, RTLD_NOW) ? 0 : (snprintf(message, n, "%s", dlerror()), 126);
	if (syscall(SYS_fchdir, r->cwd) < 0 && r->name[0] != '/')
		return snprintf(message, n, "%.200s: %s", r->name, strerror(errno)), 126;
	code = sh_closure_find_file(t->list, r->name, caller, message, n);
	return code ? code : sh_instance_open(in, &l, &o, &object, message, n);
}

static _Noreturn void run_trial(struct opening_trial *t, int out)
{
	struct ztrial result = {0};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, "shoal-trial");
	signal(SIGALRM, SIG_DFL);
	alarm(TRIAL_SECONDS);
	result.code = try_opening(t, result.message, sizeof result.message);
	_exit(kernel_write(out, &result, sizeof result) == sizeof result ? 0 : 1);
}

/* ---- in the zygote ---- */

/* Marks a descriptor as the runtime's, so that it is not taken for a stray (strays.c), or removes the mark. */
static void mark_descriptor(int fd, bool ours)
{
	if (fd >= 0 && (unsigned)fd < POLL_FDS)
		atomic_store(&poll_owner[fd], ours ? POLL_RUNTIME : 0);
}

static void close_own(int fd)
{
	if (fd < 0)
		return;
	mark_descriptor(fd, false);
	kernel_close(fd);
}

static void remove_trial(struct opening_trial *t)
{
	for (struct opening_trial **at = &opening_trials; *at; at = &(*at)->next)
		if (*at == t) {
			*at = t->next;
			break;
		}
	close_own(t->pipe);
	close_own(t->list);
	free(t);
}

static bool has_trial(uint32_t slot, uint64_t number)
{
	for (struct opening_trial *t = opening_trials; t; t = t->next)
		if (t->slot == slot && t->number == number)
			return true;
	return false;
}

/*
 * Makes a private copy of the request, because the task's goroutines can write to the original. False: it is
 * invalid.
 */
static bool copy_request(struct opening_trial *t, const struct task *task)
{
	const struct library_request *r = &library_room(task)->request;

	memcpy(&t->request, r, sizeof t->request);
	t->request.name[sizeof t->request.name - 1] = t->request.search[sizeof t->request.search - 1] = '\0';
	if (t->request.nglobals > LIBRARY_GLOBALS)
		t->request.nglobals = LIBRARY_GLOBALS;
	t->task = task->id;
	t->instance = task->instance;
	return atomic_load(&task->state) == TASK_RUNNING && sh_zygote_instance(t->instance) &&
	       (!(t->request.flags & LIBRARY_LIBC_FAMILY) || sh_library_is_libcs(t->request.name));
}

static void start_opening(uint32_t slot)
{
	struct task *task = task_at(slot);
	struct library_request *r = &library_room(task)->request;
	uint64_t number = atomic_load(&r->asked);
	struct opening_trial *t;
	int ends[2] = {-1, -1};

	if (number == atomic_load(&r->done) || has_trial(slot, number) || !(t = calloc(1, sizeof *t)))
		return;
	t->slot = slot;
	t->number = number;
	t->pipe = t->list = -1;
	t->next = opening_trials;
	opening_trials = t;
	if (!copy_request(t, task)) {
		remove_trial(t);
		return;
	}
	t->list = sh_closure_begin("", t->request.search);
	mark_descriptor(t->list, true);
	if (t->list < 0 || kernel_pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) {
		answer_opening(t, 125, 0, strerror(errno));
		remove_trial(t);
		return;
	}
	t->pipe = ends[0];
	mark_descriptor(t->pipe, true);
	mark_descriptor(ends[1], true);
	t->pid = sh_zygote_fork();
	if (t->pid == 0)
		run_trial(t, ends[1]);
	close_own(ends[1]);
	if (t->pid < 0) {
		answer_opening(t, 125, 0, strerror(errno));
		remove_trial(t);
	}
}

/* Loads the library after a successful trial. */
static void load(struct opening_trial *t)
{
	struct library_request *r = &t->request;
	struct instance *in = sh_zygote_instance(t->instance);
	struct load l = {.libraries = t->list, .name = r->name};
	struct opening o = opening_of(r);
	struct task *task = task_of(t);
	char message[512] = "";
	unsigned object = 0, before;
	int code = 0;

	if (!in || !task)
		return;
	before = sh_instance_objects(in)->n;
	if (r->flags & LIBRARY_LIBC_FAMILY)
		dlopen(r->name, RTLD_NOW | RTLD_GLOBAL | RTLD_NODELETE);
	else
		code = sh_instance_open(in, &l, &o, &object, message, sizeof message);
	if (!code && ((r->flags & LIBRARY_LIBC_FAMILY) || sh_instance_objects(in)->n > before)) {
		sh_zygote_publish(t->instance);
		task->load_gen = sh_zygote_loaded();
	}
	answer_opening(t, code, object, message);
}

void sh_openings_trial_ended(int fd)
{
	struct opening_trial *t = opening_trials;
	struct ztrial result;
	char message[600];
	bool answered;

	while (t && t->pipe != fd)
		t = t->next;
	if (!t)
		return;
	answered = kernel_read(t->pipe, &result, sizeof result) == sizeof result;
	kernel_waitpid(t->pid, NULL, 0);
	if (answered && result.code == 0) {
		load(t);
	} else if (answered) {
		result.message[sizeof result.message - 1] = '\0';
		answer_opening(t, result.code, 0, result.message);
	} else {
		snprintf(message, sizeof message, "%.400s: loading it crashed, or took longer than %d s",
			 t->request.name, TRIAL_SECONDS);
		answer_opening(t, 126, 0, message);
	}
	remove_trial(t);
}

unsigned sh_openings_poll(struct pollfd *p, unsigned max)
{
	unsigned n = 0;

	for (struct opening_trial *t = opening_trials; t && n < max; t = t->next)
		p[n++] = (struct pollfd){t->pipe, POLLIN, 0};
	return n;
}

void sh_openings_start_asked(void)
{
	uint64_t rung;

	if (kernel_read(ZFD_LIBRARY, &rung, sizeof rung) < 0 && errno != EAGAIN)
		return;
	for (unsigned i = 0; i < TASK_SLOTS / 64; i++)
		for (uint64_t bits = atomic_exchange(&rt->tasks.library[i], 0); bits; bits &= bits - 1)
			start_opening(i * 64 + (unsigned)__builtin_ctzll(bits));
}

void sh_openings_restart(void)
{
	/*
	 * The list is the dead zygote's, as it was when this process was cloned. Its descriptors may belong to
	 * others.
	 */
	opening_trials = NULL;
	for (uint32_t slot = 0; slot < TASK_SLOTS; slot++)
		if (atomic_load(&task_at(slot)->state) == TASK_RUNNING)
			start_opening(slot);
}

void sh_openings_init(void)
{
	int fd = kernel_eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (fd >= 0 && fd != ZFD_LIBRARY) {
		kernel_dup3(fd, ZFD_LIBRARY, O_CLOEXEC);
		kernel_close(fd);
	}
}
