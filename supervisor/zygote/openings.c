/*
 * openings.c - the zygote loads what goroutines open. The protocol is in core/task/library.h.
 *
 * Each request is tried in a clone first, which also looks for the file: what is damaged crashes there,
 * and a file system that does not answer holds up nobody else. The zygote goes on meanwhile and loads
 * when the clone has said that it can be done.
 *
 * OWNER  the zygote: the list of trials. A standby begins all requests anew
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

struct trying {
	struct trying *next;
	uint64_t task, number; /* of the task and of its request */
	uint32_t slot, instance;
	pid_t pid;
	int pipe, list; /* what the clone says; the list of files that it writes */
	struct library_request request;
};

static struct trying *tryings;

/* ---- answers ---- */

static struct task *task_of(const struct trying *t)
{
	struct task *task = task_at(t->slot);

	return task->id == t->task && atomic_load(&task->state) == TASK_RUNNING ? task : NULL;
}

static void answer_opening(const struct trying *t, int code, unsigned object, const char *message)
{
	struct task *task = task_of(t);
	struct library_request *r;

	if (!task)
		return; /* it has ended meanwhile */
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

static int try_it(struct trying *t, char *message, size_t n)
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

static _Noreturn void run_trial(struct trying *t, int out)
{
	struct ztrial said = {0};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, "shoal-trial");
	signal(SIGALRM, SIG_DFL);
	alarm(TRIAL_SECONDS);
	said.code = try_it(t, said.message, sizeof said.message);
	_exit(kernel_write(out, &said, sizeof said) == sizeof said ? 0 : 1);
}

/* ---- in the zygote ---- */

/* The descriptor is the zygote's own and no stray of a worker's (strays.c). */
static void own_descriptor(int fd, bool ours)
{
	if (fd >= 0 && (unsigned)fd < POLL_FDS)
		atomic_store(&poll_owner[fd], ours ? POLL_RUNTIME : 0);
}

static void close_own(int fd)
{
	if (fd < 0)
		return;
	own_descriptor(fd, false);
	kernel_close(fd);
}

static void forget(struct trying *t)
{
	for (struct trying **at = &tryings; *at; at = &(*at)->next)
		if (*at == t) {
			*at = t->next;
			break;
		}
	close_own(t->pipe);
	close_own(t->list);
	free(t);
}

static bool is_tried(uint32_t slot, uint64_t number)
{
	for (struct trying *t = tryings; t; t = t->next)
		if (t->slot == slot && t->number == number)
			return true;
	return false;
}

/* A private copy of the request: the task's goroutines can write to theirs. */
static bool copy_request(struct trying *t, const struct task *task)
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
	struct trying *t;
	int ends[2] = {-1, -1};

	if (number == atomic_load(&r->done) || is_tried(slot, number) || !(t = calloc(1, sizeof *t)))
		return;
	t->slot = slot;
	t->number = number;
	t->pipe = t->list = -1;
	t->next = tryings;
	tryings = t;
	if (!copy_request(t, task)) {
		forget(t);
		return;
	}
	t->list = sh_closure_begin("", t->request.search);
	own_descriptor(t->list, true);
	if (t->list < 0 || kernel_pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) {
		answer_opening(t, 125, 0, strerror(errno));
		forget(t);
		return;
	}
	t->pipe = ends[0];
	own_descriptor(t->pipe, true);
	own_descriptor(ends[1], true);
	t->pid = sh_zygote_fork();
	if (t->pid == 0)
		run_trial(t, ends[1]);
	close_own(ends[1]);
	if (t->pid < 0) {
		answer_opening(t, 125, 0, strerror(errno));
		forget(t);
	}
}

/* The clone says that it can be done. */
static void load(struct trying *t)
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

void sh_openings_ready(int fd)
{
	struct trying *t = tryings;
	struct ztrial said;
	char message[600];
	bool told;

	while (t && t->pipe != fd)
		t = t->next;
	if (!t)
		return;
	told = kernel_read(t->pipe, &said, sizeof said) == sizeof said;
	kernel_waitpid(t->pid, NULL, 0);
	if (told && said.code == 0) {
		load(t);
	} else if (told) {
		said.message[sizeof said.message - 1] = '\0';
		answer_opening(t, said.code, 0, said.message);
	} else {
		snprintf(message, sizeof message, "%.400s: loading it crashed, or took longer than %d s",
			 t->request.name, TRIAL_SECONDS);
		answer_opening(t, 126, 0, message);
	}
	forget(t);
}

unsigned sh_openings_poll(struct pollfd *p, unsigned max)
{
	unsigned n = 0;

	for (struct trying *t = tryings; t && n < max; t = t->next)
		p[n++] = (struct pollfd){t->pipe, POLLIN, 0};
	return n;
}

void sh_openings_look(void)
{
	uint64_t rung;

	if (kernel_read(ZFD_LIBRARY, &rung, sizeof rung) < 0 && errno != EAGAIN)
		return;
	for (unsigned i = 0; i < TASK_SLOTS / 64; i++)
		for (uint64_t bits = atomic_exchange(&rt->tasks.library[i], 0); bits; bits &= bits - 1)
			start_opening(i * 64 + (unsigned)__builtin_ctzll(bits));
}

void sh_openings_all(void)
{
	tryings = NULL; /* of the zygote that has died, as of the moment when this process was cloned: their descriptors
			   may be another's by now */
	for (uint32_t slot = 0; slot < TASK_SLOTS; slot++)
		if (atomic_load(&task_at(slot)->state) == TASK_RUNNING)
			start_opening(slot);
}

void sh_openings_start(void)
{
	int fd = kernel_eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (fd >= 0 && fd != ZFD_LIBRARY) {
		kernel_dup3(fd, ZFD_LIBRARY, O_CLOEXEC);
		kernel_close(fd);
	}
}
