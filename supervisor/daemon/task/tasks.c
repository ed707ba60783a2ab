/*
 * tasks.c - tasks, from their submission to their end.
 *
 * A job finds its module and waits in the module's queue for an instance. The zygote puts its descriptors into the
 * workers' table. Then the job is QUEUED in the segment, where the medic and the workers run it, until the medic
 * stores ENDED. The job is accepted, which is a promise, when its entry is known to exist and an id is free. If an
 * earlier task of the module had the same entry, the job is accepted before it has an instance.
 *
 * Before the supervisor sends the id, it stores in the ledger what the next supervisor must know of the task, and
 * gives the files to the keeper.
 *
 * The slot of a task is its id modulo TASK_SLOTS. The record and the job of an ended task stay until a later task
 * takes the slot.
 */
#include "shm/kernel.h"
#include "supervisor/daemon/task/tasks.h"
#include "supervisor/daemon/control.h"
#include "supervisor/daemon/failure.h"
#include "supervisor/daemon/link.h"
#include "supervisor/daemon/log.h"
#include "supervisor/daemon/main.h"
#include "supervisor/daemon/task/module.h"
#include "supervisor/daemon/task/pool.h"
#include "supervisor/daemon/task/source.h"
#include "supervisor/daemon/task/output.h"
#include "supervisor/daemon/task/quarantine.h"
#include "supervisor/daemon/verbs.h"
#include "supervisor/daemon/view/dump.h"
#include "supervisor/daemon/view/views.h"
#include "supervisor/keeper/keeper.h"
#include "supervisor/keeper/ledger.h"
#include "supervisor/zygote/zygote.h"
#include "core/root.h"
#include "core/task/task.h"
#include "shm/lock.h"
#include "shm/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static struct job *slots[TASK_SLOTS];
static struct job *live[TASK_SLOTS];
static unsigned nlive;
static uint64_t last_id;

static struct task *record_of(const struct job *j)
{
	return task_at(j->id % TASK_SLOTS);
}

static struct ledger_job *ledger_of(const struct job *j)
{
	return &sh_ledger->job[j->id % TASK_SLOTS];
}

static int64_t wall_clock(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* ---- ends ---- */

static void close_fd(int *fd)
{
	if (*fd >= 0)
		kernel_close(*fd);
	*fd = -1;
}

static void free_timer(uv_handle_t *timer)
{
	free(timer);
}

static void stop_timer(struct job *j)
{
	if (j->timeout)
		uv_close((uv_handle_t *)j->timeout, free_timer);
	j->timeout = NULL;
}

static void free_job(struct job *j)
{
	stop_timer(j);
	sh_output_drop(j);
	close_fd(&j->cwd);
	free(j->args);
	free(j);
}

static void given_back(void *arg, const struct zrep *rep)
{
	sh_module_give_back(arg, rep->count != 0);
}

static void hold_instance(struct job *j, struct modinstance *in)
{
	j->instance = in;
	if (j->accepted)
		atomic_store(&ledger_of(j)->instance, in ? in->id + 1 : 0);
}

/* Lets the zygote close the task's descriptors and reset the instance's variables. */
static void release(struct job *j)
{
	struct zreq req = {.op = Z_END};

	if (!j->instance)
		return;
	req.instance = j->instance->id;
	sh_link_ask(&req, NULL, 0, given_back, j->instance);
	hold_instance(j, NULL);
}

void sh_job_refuse(struct job *j, const struct failure *why)
{
	release(j);
	sh_answer_error(j->asker, why->code, why->detail, "%s", why->text);
	free_job(j);
}

static void ended(struct job *j)
{
	struct task *t = record_of(j);
	unsigned how = atomic_load(&t->how);

	j->state = JOB_ENDED;
	ledger_of(j)->ended_ns = j->ended_ns = wall_clock();
	live[j->live] = live[--nlive];
	live[j->live]->live = j->live;
	stop_timer(j);
	close_fd(&j->cwd);
	free(j->args);
	j->args = NULL;
	sh_crashes_log();
	if (how == TASK_CRASHED && t->signal) /* without a signal it was a deadlock, or a fault of the runtime */
		sh_module_crashed(j->module);
	if (t->args_len)
		kernel_madvise(task_args(t), ((size_t)t->args_len + SH_PAGE - 1) & ~(SH_PAGE - 1), MADV_REMOVE);
	release(j);
	sh_verbs_ended(j);
	sh_output_keep(j);
	ledger_of(j)->ended_order = ++sh_ledger->ended_order;
	atomic_store(&ledger_of(j)->over, JOB_KEPT);
	sh_stop_if_done();
}

/* Ends a task that waits without an instance. Nothing of it runs, so neither zygote nor medic is needed. */
static void end_waiting(struct job *j, unsigned how)
{
	struct task *t = record_of(j);

	sh_module_dequeue(j->module, j);
	atomic_store(&t->again, 0);
	atomic_store(&t->how, how & ASKED_TIMEOUT ? TASK_TIMEOUT : TASK_CANCELLED);
	atomic_store(&t->exit_code, how & ASKED_TIMEOUT ? 124 : 130);
	atomic_store_explicit(&t->state, TASK_ENDED, memory_order_release);
	ended(j);
}

static void on_instance_reset(void *arg, const struct zrep *rep)
{
	struct job *j = arg;
	struct modinstance *in = j->instance;

	hold_instance(j, NULL);
	j->state = JOB_WAITING;
	if (j->cancelled)
		end_waiting(j, (unsigned)j->cancelled);
	else
		sh_module_enqueue(j->module, j);
	sh_module_give_back(in, rep->count != 0);
}

/* The root goroutine died and has attempts left: runs it again in a fresh instance. */
static void run_again(struct job *j)
{
	struct zreq req = {.op = Z_END};

	if (!j->instance) { /* the predecessor has already had it reset */
		j->state = JOB_WAITING;
		sh_module_enqueue(j->module, j);
		return;
	}
	req.instance = j->instance->id;
	j->state = JOB_AGAIN;
	sh_link_ask(&req, NULL, 0, on_instance_reset, j);
}

/* Called when the stacks of a deadlocked task are written to its stderr. From here on the medic may end the task. */
static void stacks_written(void *arg)
{
	struct job *j = sh_job_find((uint64_t)(uintptr_t)arg);
	uint32_t found = TASK_DEAD_FOUND;

	if (j && atomic_compare_exchange_strong(&record_of(j)->dead, &found, TASK_DEAD_TOLD))
		sh_bell();
}

static void update_job(struct job *j)
{
	struct task *t = record_of(j);
	uint32_t state = atomic_load_explicit(&t->state, memory_order_acquire);

	if (j->state == JOB_LIVE && state > TASK_QUEUED && !j->started_ns)
		ledger_of(j)->started_ns = j->started_ns = wall_clock();
	if (j->state == JOB_LIVE && atomic_load(&t->dead) == TASK_DEAD_FOUND && !j->dumping) {
		j->dumping = true;
		sh_dump_to(j->id, j->err, stacks_written, (void *)(uintptr_t)j->id);
	}
	if (j->state == JOB_LIVE)
		sh_output_grant_asked(j);
	if (j->state != JOB_LIVE || state != TASK_ENDED)
		return;
	if (atomic_load(&t->again) && j->cwd >= 0)
		run_again(j);
	else
		ended(j);
}

void sh_jobs_update(void)
{
	for (unsigned i = nlive; i-- > 0;)
		if (i < nlive)
			update_job(live[i]);
}

void sh_job_cancel(struct job *j, unsigned how)
{
	if (j->state == JOB_ENDED || !j->accepted)
		return;
	if (!j->cancelled)
		j->cancelled = (int)how;
	j->cancelled |= (int)(how & ASKED_NOW);
	atomic_store(&ledger_of(j)->cancelled, j->cancelled);
	if (j->state == JOB_WAITING) {
		end_waiting(j, how);
	} else if (j->state == JOB_LIVE) {
		atomic_store(&record_of(j)->cancel, (uint32_t)j->cancelled);
		sh_bell();
	} /* otherwise begun() passes the cancellation on */
}

void sh_jobs_abandon(const void *owner)
{
	for (unsigned i = nlive; i-- > 0;)
		if (i < nlive && live[i]->owner == owner) {
			live[i]->owner = NULL;
			sh_job_cancel(live[i], live[i]->cancelled ? ASKED_CANCEL | ASKED_NOW : ASKED_CANCEL);
		}
}

void sh_jobs_orphans(void)
{
	for (unsigned i = nlive; i-- > 0;)
		if (i < nlive && live[i]->run && !live[i]->owner)
			sh_job_cancel(live[i], ASKED_CANCEL);
}

void sh_jobs_cancel_all(void)
{
	for (unsigned i = nlive; i-- > 0;)
		if (i < nlive)
			sh_job_cancel(live[i], ASKED_CANCEL | ASKED_NOW);
}

/* ---- accepting a job ---- */

static void on_timeout(uv_timer_t *timer)
{
	sh_job_cancel(timer->data, ASKED_TIMEOUT);
}

/* Returns the next id whose slot is free, or 0. */
static uint64_t next_id(void)
{
	for (unsigned tries = 0; tries < TASK_SLOTS; tries++) {
		struct job *old = slots[++last_id % TASK_SLOTS];

		if (old && old->state != JOB_ENDED)
			continue;
		if (old)
			free_job(old);
		slots[last_id % TASK_SLOTS] = NULL;
		atomic_store(&sh_ledger->last_id, last_id);
		return last_id;
	}
	return 0;
}

/* Fills in what is known before the job has an instance. state stays FREE, so the medic ignores the record. */
static void fill_record(struct job *j)
{
	struct task *t = record_of(j);
	size_t len = strlen(j->path), skip = len < sizeof t->module ? 0 : len - sizeof t->module + 1;

	atomic_store_explicit(&t->state, TASK_FREE, memory_order_release);
	memset(t, 0, sizeof *t);
	t->id = j->id;
	t->slot = (uint32_t)(j->id % TASK_SLOTS);
	t->attempts = j->attempts;
	t->fd_out = t->fd_err = t->fd_cwd = -1;
	t->argc = j->argc;
	t->nenv = j->nenv;
	t->args_len = (uint32_t)j->args_len;
	t->queued_ns = wall_clock();
	t->lock.kind = SH_LOCK_TASK;
	snprintf(t->name, sizeof t->name, "%s", j->name);
	snprintf(t->module, sizeof t->module, "%s", j->path + skip);
	snprintf(t->entry_name, sizeof t->entry_name, "%s", j->entry);
	memcpy(task_args(t), j->args, j->args_len);
	free(j->args);
	j->args = NULL;
}

/* Stores in the ledger what the next supervisor must know. The store of id is the commit: then the task is promised. */
static void write_ledger(struct job *j)
{
	struct ledger_job *l = ledger_of(j);
	const int fds[3] = {j->out, j->err, j->cwd};
	int have[3], n = 0;
	uint32_t mask = 0;

	atomic_store(&l->id, 0);
	atomic_store(&l->over, 0);
	atomic_store(&l->cancelled, 0);
	atomic_store(&l->instance, j->instance ? j->instance->id + 1 : 0);
	l->module = j->module->index;
	l->attempts = j->attempts;
	l->run = j->run;
	l->timeout_at = j->timeout_ns ? sh_now() + j->timeout_ns : 0;
	l->started_ns = l->ended_ns = 0;
	memcpy(l->key, j->key, sizeof l->key);
	memcpy(l->entry, j->entry, sizeof l->entry);
	memcpy(l->name, j->name, sizeof l->name);
	memcpy(l->path, j->path, sizeof l->path);
	for (unsigned i = 0; i < 3; i++)
		if (fds[i] >= 0) {
			mask |= 1u << i;
			have[n++] = fds[i];
		}
	sh_keeper_keep(KEEP_TASK, j->id, mask, have);
	atomic_store(&l->id, j->id);
}

static void start_timeout(struct job *j, uint64_t ns)
{
	j->timeout = malloc(sizeof *j->timeout);
	if (!j->timeout)
		abort();
	uv_timer_init(sh_loop, j->timeout);
	j->timeout->data = j;
	uv_timer_start(j->timeout, on_timeout, (ns + 999999) / 1000000, 0);
}

void sh_job_answer(struct job *j, struct asker *asker)
{
	json_t *reply = json_pack("{s:b, s:I}", "ok", 1, "id", (json_int_t)j->id);
	uint64_t from[2] = {0, 0};
	int fds[4], n = 0;

	if (j->run) {
		j->owner = sh_ask_conn(asker);
		fds[0] = sh_output_reader(j, 0);
		fds[1] = sh_output_reader(j, 1);
		n = fds[0] >= 0 && fds[1] >= 0 ? 2 : 0;
	}
	if (n) {
		sh_output_read(j, j->owner, from);
		json_object_set_new(reply, "from", json_pack("[I,I]", (json_int_t)from[0], (json_int_t)from[1]));
		n = sh_output_files(j, reply, fds);
	}
	sh_answer(asker, reply, fds, n);
	for (int i = 0; j->run && i < (n > 2 ? n : 2); i++)
		close_fd(&fds[i]);
}

/* Accepts the job and answers. Returns false if it refused and freed the job. */
static bool accept_job(struct job *j)
{
	struct failure why = {.code = CODE_SHOAL};

	if (sh_stopping)
		snprintf(why.text, sizeof why.text, "the supervisor is stopping");
	else if (sh_output_open(j) < 0)
		snprintf(why.text, sizeof why.text, "no output for the task: %s", strerror(errno));
	else if (sh_ask_closed(j->asker)) /* no client has the id, so the job can be dropped */
		snprintf(why.text, sizeof why.text, "the client has disconnected");
	else if ((j->id = next_id()) == 0)
		snprintf(why.text, sizeof why.text, "there are already %d tasks: try again when one has ended",
			 TASK_SLOTS);
	else
		why.code = 0;
	if (why.code) {
		sh_job_refuse(j, &why);
		return false;
	}
	j->accepted = true;
	slots[j->id % TASK_SLOTS] = j;
	j->live = nlive;
	live[nlive++] = j;
	fill_record(j);
	sh_output_begin(j);
	write_ledger(j);
	if (j->timeout_ns)
		start_timeout(j, j->timeout_ns);
	sh_job_answer(j, j->asker);
	j->asker = NULL;
	return true;
}

/* ---- from the module to the segment ---- */

static void begun(void *arg, const struct zrep *rep)
{
	struct job *j = arg;
	struct failure why = {.code = rep->code};
	struct task *t;

	if (rep->code && !j->accepted) {
		snprintf(why.text, sizeof why.text, "%s", rep->message);
		sh_job_refuse(j, &why);
		return;
	}
	if (rep->code) { /* a resource is short: try again later */
		sh_log("task %lu waits: %s", (unsigned long)j->id, rep->message);
		release(j);
		j->state = JOB_WAITING;
		if (j->cancelled)
			end_waiting(j, (unsigned)j->cancelled);
		else
			sh_module_enqueue_later(j->module, j);
		return;
	}
	sh_module_add_entry(j->module, j->entry);
	if (!j->accepted && !accept_job(j))
		return;
	if (j->attempts == 1)
		close_fd(&j->cwd);
	t = record_of(j);
	t->instance = j->instance->id;
	t->load_gen = j->instance->load_gen;
	t->text_start = j->instance->text_start;
	t->text_end = j->instance->text_end;
	t->entry = (int (*)(int, char **, char **))rep->entry;
	t->fd_out = rep->fd[0];
	t->fd_err = rep->fd[1];
	t->fd_cwd = rep->fd[2];
	atomic_store(&t->cancel, (uint32_t)j->cancelled);
	j->state = JOB_LIVE;
	if (!atomic_load(&t->again)) /* when a root runs again, the task is still in the medic's list */
		atomic_fetch_or(&rt->tasks.queued[t->slot / 64], 1ull << t->slot % 64);
	atomic_store_explicit(&t->state, TASK_QUEUED, memory_order_release);
	sh_bell();
}

void sh_job_place(struct job *j, struct modinstance *in)
{
	struct zreq req = {.op = Z_BEGIN, .instance = in->id};
	struct failure why = {.code = CODE_SHOAL};

	hold_instance(j, in);
	j->state = JOB_BEGIN;
	if (sh_output_open(j) < 0) {
		snprintf(why.text, sizeof why.text, "no output for the task: %s", strerror(errno));
		if (!j->accepted) {
			sh_job_refuse(j, &why);
			return;
		}
		release(j);
		j->state = JOB_WAITING;
		sh_module_enqueue_later(j->module, j);
		return;
	}
	snprintf(req.name, sizeof req.name, "%s", j->module->name);
	memcpy(req.entry, j->entry, sizeof req.entry);
	sh_link_ask(&req, (int[]){j->out, j->err, j->cwd}, 3, begun, j);
}

static void got_module(void *arg, struct module *m, const struct failure *why)
{
	struct job *j = arg;
	struct failure no = {.code = CODE_QUARANTINED};
	unsigned seconds;

	if (!m) {
		sh_job_refuse(j, why);
		return;
	}
	j->module = m;
	seconds = sh_module_quarantine(m);
	if (seconds) {
		snprintf(no.text, sizeof no.text, "%s is in quarantine after %d crashes: try again in %u s", m->name,
			 CRASHES_MAX, seconds);
		sh_job_refuse(j, &no);
		return;
	}
	j->state = JOB_WAITING;
	if (sh_module_has(m, j->entry) && !accept_job(j))
		return;
	sh_module_enqueue(m, j);
}

/* Returns a variable of the submitter's environment, or NULL. prefix is "NAME=". */
static const char *environment_of(const struct job *j, const char *prefix)
{
	const char *at = j->args, *end = j->args + j->args_len;

	for (int i = 0; at && at < end; i++, at += strlen(at) + 1)
		if (i >= j->argc && strncmp(at, prefix, strlen(prefix)) == 0)
			return at + strlen(prefix);
	return NULL;
}

/* A variable of the submitter's environment, or of the supervisor's. */
static const char *variable(const struct job *j, const char *name, const char *otherwise)
{
	char prefix[16];
	const char *value;

	snprintf(prefix, sizeof prefix, "%s=", name);
	value = environment_of(j, prefix);
	if (!value)
		value = getenv(name);
	return value && value[strspn(value, " \t")] ? value : otherwise;
}

/* For wish.compiler. The caller frees it. */
static char *compiler_of(const struct job *j, const char *module)
{
	bool cxx = sh_source_language(module) == SOURCE_CXX;
	char *command;

	if (asprintf(&command, "%s %s %s\n%s", cxx ? variable(j, "CXX", "c++") : variable(j, "CC", "cc"),
		     variable(j, "CFLAGS", ""), cxx ? variable(j, "CXXFLAGS", "") : "", variable(j, "LDLIBS", "")) < 0)
		abort();
	return command;
}

void sh_job_submit(struct job *j, const char *module)
{
	char *search, *compiler;

	j->state = JOB_MODULE;
	snprintf(j->path, sizeof j->path, "%s", module);
	search = sh_search_path(environment_of(j, "LD_LIBRARY_PATH="), j->cwd);
	compiler = compiler_of(j, module);
	sh_source_get(module, j->cwd, &(struct wish){compiler, search ? search : ""}, got_module, j);
	free(compiler);
	free(search);
}

/* ---- after the death of a supervisor ---- */

static void adopt_live(struct job *j)
{
	struct ledger_job *l = ledger_of(j);
	uint32_t state = atomic_load(&record_of(j)->state), in = atomic_load(&l->instance);

	j->live = nlive;
	live[nlive++] = j;
	if (l->timeout_at)
		start_timeout(j, l->timeout_at > sh_now() ? l->timeout_at - sh_now() : 0);
	j->state = state == TASK_FREE ? JOB_WAITING : JOB_LIVE;
	sh_output_adopt(j);
	if (j->state == JOB_LIVE && in)
		j->instance = sh_instance_adopt(in - 1);
}

static struct job *adopt_one(unsigned slot, const int fds[3])
{
	struct ledger_job *l = &sh_ledger->job[slot];
	struct module *m = sh_module_at(l->module);
	struct job *j = calloc(1, sizeof *j);

	if (!j)
		abort();
	j->out = fds[0];
	j->err = fds[1];
	j->cwd = fds[2];
	j->id = atomic_load(&l->id);
	j->module = m;
	j->run = l->run;
	j->accepted = true;
	j->started_ns = l->started_ns;
	j->ended_ns = l->ended_ns;
	j->attempts = l->attempts;
	j->cancelled = atomic_load(&l->cancelled);
	memcpy(j->key, l->key, sizeof j->key);
	memcpy(j->entry, l->entry, sizeof j->entry);
	memcpy(j->name, l->name, sizeof j->name);
	memcpy(j->path, l->path, sizeof j->path);
	slots[slot] = j;
	if (atomic_load(&l->over)) {
		j->state = JOB_ENDED;
		close_fd(&j->cwd);
	} else {
		adopt_live(j);
	}
	return j;
}

static int by_order(const void *a, const void *b)
{
	const struct job *const *x = a, *const *y = b;
	uint64_t i = ledger_of(*x)->ended_order, k = ledger_of(*y)->ended_order;

	return i < k ? -1 : i > k;
}

static int by_id(const void *a, const void *b)
{
	const struct job *const *x = a, *const *y = b;

	return (*x)->id < (*y)->id ? -1 : (*x)->id > (*y)->id;
}

/* Resets the instances whose task ended while there was no supervisor. */
static void adopt_instances(void)
{
	for (uint32_t i = 0; i < sh_ledger->ninstances && i < LEDGER_INSTANCES; i++) {
		struct zreq req = {.op = Z_END, .instance = i};
		struct modinstance *in;

		if (atomic_load(&sh_ledger->instance[i].begun) && (in = sh_instance_adopt(i)) != NULL)
			sh_link_ask(&req, NULL, 0, given_back, in);
	}
}

void sh_jobs_adopt(int (*fds)[3])
{
	static struct job *list[TASK_SLOTS];
	unsigned n = 0;

	last_id = atomic_load(&sh_ledger->last_id);
	for (unsigned i = 0; i < TASK_SLOTS; i++) {
		uint64_t id = atomic_load(&sh_ledger->job[i].id);

		if (id && id % TASK_SLOTS == i && sh_module_at(sh_ledger->job[i].module)) {
			struct job *j = adopt_one(i, fds[i]);

			if (atomic_load(&ledger_of(j)->over) == JOB_KEPT)
				list[n++] = j;
		}
	}
	qsort(list, n, sizeof *list, by_order);
	for (unsigned i = 0; i < n; i++)
		sh_output_keep(list[i]);
	adopt_instances();
	n = nlive;
	memcpy(list, live, n * sizeof *list);
	qsort(list, n, sizeof *list, by_id);
	for (unsigned i = 0; i < n; i++) {
		struct job *j = list[i];

		if (j->state != JOB_WAITING)
			update_job(j);
		else if (j->cancelled)
			end_waiting(j, (unsigned)j->cancelled);
		else
			sh_module_enqueue(j->module, j);
	}
	sh_log("adopted %u running tasks and %u workers", n, sh_ledger->workers);
}

void sh_jobs_keep(void)
{
	for (unsigned i = 0; i < TASK_SLOTS; i++) {
		struct job *j = slots[i];
		int have[3], n = 0;
		uint32_t mask = 0;

		for (unsigned k = 0; j && k < 3; k++) {
			int fd = k == 0 ? j->out : k == 1 ? j->err : j->cwd;

			if (fd >= 0) {
				mask |= 1u << k;
				have[n++] = fd;
			}
		}
		if (mask)
			sh_keeper_keep(KEEP_TASK, j->id, mask, have);
	}
}

struct job *sh_job_by_key(const char *key)
{
	for (unsigned i = 0; i < TASK_SLOTS && *key; i++)
		if (slots[i] && strcmp(slots[i]->key, key) == 0)
			return slots[i];
	return NULL;
}

bool sh_job_own(struct job *j, const void *owner)
{
	if (!j->run)
		return false;
	j->owner = owner;
	return true;
}

/* ---- reading a job ---- */

struct job *sh_job_find(uint64_t id)
{
	struct job *j = slots[id % TASK_SLOTS];

	return j && j->id == id ? j : NULL;
}

uint64_t sh_job_last(void)
{
	return last_id;
}

unsigned sh_jobs_live(void)
{
	return nlive;
}

struct job *sh_job_live(unsigned i)
{
	return live[i];
}

bool sh_job_ended(const struct job *j)
{
	return j->state == JOB_ENDED;
}

const char *sh_job_status(const struct job *j)
{
	static const char *const how[] = {"done", "crashed", "lost", "cancelled", "timeout"};
	const struct task *t = record_of(j);
	unsigned h = atomic_load(&((struct task *)t)->how);

	if (j->state == JOB_ENDED)
		return h < sizeof how / sizeof *how ? how[h] : "lost";
	return j->state == JOB_LIVE && atomic_load(&((struct task *)t)->state) > TASK_QUEUED ? "running" : "queued";
}
