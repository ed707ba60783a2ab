/*
 * pool.c - loads, hands out and unloads the instances of each module.
 *
 *                 trial ok                     loaded                task placed
 *     (no list) ------------> list of files  ---------> free instance -----------> busy
 *         ^                       |                       |      ^                   |
 *         |   a listed file       |                       |      +------ reset ------+
 *         +---- has changed ------+              unused for a while, or its files have changed
 *                                                         v
 *                                                      unloaded, its number is free
 *
 * Jobs wait in the module's queue for a free instance. While the queue is not empty and no instance is free, one
 * more instance is loaded at a time. Before the first load a clone of the zygote tries the module: a damaged
 * module, or one that crashes or hangs, does so in the clone.
 */
#include "supervisor/daemon/task/pool.h"
#include "supervisor/daemon/failure.h"
#include "supervisor/daemon/fleet.h"
#include "supervisor/daemon/link.h"
#include "supervisor/daemon/log.h"
#include "supervisor/daemon/main.h"
#include "supervisor/daemon/task/tasks.h"
#include "supervisor/daemon/view/symbol.h"
#include "supervisor/keeper/ledger.h"
#include "shm/kernel.h"
#include "shm/signame.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define TRIAL_MS 5000u
#define RETRY_MS 200u
#define IDLE_S 60 /* seconds after which an unused instance is unloaded */

struct trial {
	struct module *module;
	pid_t pid;
	int pipe, libraries; /* pipe: its result; libraries: the list that it writes */
	uv_timer_t timer;
	bool late;
	char entry[Z_NAME];
};

static bool taken[LEDGER_INSTANCES]; /* by number of an instance */
static uv_timer_t *idle_timer;

static void place_jobs(struct module *);
static void place_jobs_later(struct module *);

/* ---- the queue ---- */

void sh_module_enqueue(struct module *m, struct job *j)
{
	j->next = NULL;
	*m->last = j;
	m->last = &j->next;
	place_jobs(m);
}

void sh_module_enqueue_later(struct module *m, struct job *j)
{
	j->next = NULL;
	*m->last = j;
	m->last = &j->next;
	place_jobs_later(m);
}

void sh_module_dequeue(struct module *m, struct job *j)
{
	for (struct job **at = &m->first; *at; at = &(*at)->next)
		if (*at == j) {
			*at = j->next;
			if (!*at)
				m->last = at;
			return;
		}
}

/* Called after a failed load. Accepted jobs wait for the next try; the others are refused. entry: only jobs with it. */
static void refuse_waiting(struct module *m, const struct failure *why, const char *entry)
{
	struct job *j, *next;

	for (j = m->first; j; j = next) {
		next = j->next;
		if (j->accepted || (entry && strcmp(j->entry, entry) != 0))
			continue;
		sh_module_dequeue(m, j);
		sh_job_refuse(j, why);
	}
}

static void on_retry(uv_timer_t *timer)
{
	place_jobs(timer->data);
}

static void place_jobs_later(struct module *m)
{
	if (!m->retry) {
		m->retry = malloc(sizeof *m->retry);
		if (!m->retry)
			abort();
		uv_timer_init(sh_loop, m->retry);
		m->retry->data = m;
	}
	uv_timer_start(m->retry, on_retry, RETRY_MS, 0);
}

static void load_failed(struct module *m, const struct failure *why, const char *entry)
{
	m->loading = false;
	refuse_waiting(m, why, entry);
	if (m->first && entry)
		place_jobs(m);
	else if (m->first)
		place_jobs_later(m);
}

/* ---- unloading ---- */

static void unloaded(void *arg, const struct zrep *rep)
{
	struct modinstance *in = arg;

	(void)rep;
	taken[in->id] = false;
	free(in);
}

/* The caller has taken the instance off all lists. */
static void unload(struct modinstance *in)
{
	struct zreq req = {.op = Z_UNLOAD, .instance = in->id};

	sh_symbol_remove(in);
	in->module->ninstances--;
	sh_link_ask(&req, NULL, 0, unloaded, in);
}

/* Unloads the free instances for which `must_unload` returns true. */
static void unload_free(struct module *m, bool (*must_unload)(const struct modinstance *))
{
	for (struct modinstance **at = &m->free; *at;) {
		struct modinstance *in = *at;

		if (!must_unload(in)) {
			at = &in->next;
			continue;
		}
		*at = in->next;
		m->nfree--;
		unload(in);
	}
}

static bool is_outdated(const struct modinstance *in)
{
	return in->era != in->module->era;
}

/* SHOAL_DEBUG=idle=SECONDS replaces the minute, for tests. */
static bool is_idle(const struct modinstance *in)
{
	return sh_now() - in->free_since >= (uint64_t)sh_debug_number("idle=", IDLE_S) * 1000000000u;
}

void sh_pool_outdated(struct module *m)
{
	unload_free(m, is_outdated);
}

static void on_idle_timer(uv_timer_t *timer)
{
	(void)timer;
	for (struct module *m = sh_module_first(); m; m = m->next)
		unload_free(m, is_idle);
}

static void start_idle_timer(void)
{
	if (idle_timer)
		return;
	idle_timer = malloc(sizeof *idle_timer);
	if (!idle_timer)
		abort();
	uv_timer_init(sh_loop, idle_timer);
	uv_timer_start(idle_timer, on_idle_timer, 1000, 1000);
	uv_unref((uv_handle_t *)idle_timer);
}

/* Called when all numbers are taken: unloads the instance that has been free for the longest time. */
static void unload_oldest(void)
{
	struct modinstance **oldest = NULL, *in;

	for (struct module *m = sh_module_first(); m; m = m->next)
		for (struct modinstance **at = &m->free; *at; at = &(*at)->next)
			if (!oldest || (*at)->free_since < (*oldest)->free_since)
				oldest = at;
	if (!oldest)
		return;
	in = *oldest;
	*oldest = in->next;
	in->module->nfree--;
	unload(in);
}

/* ---- loading ---- */

static void put_free(struct modinstance *in)
{
	struct module *m = in->module;

	in->free_since = sh_now();
	in->next = m->free;
	m->free = in;
	m->nfree++;
	start_idle_timer();
}

/* Registers an instance that is loaded and has no task. */
static void register_instance(struct modinstance *in)
{
	const struct ledger_instance *l = &sh_ledger->instance[in->id];

	in->base = l->base;
	in->text_start = l->text_start;
	in->text_end = l->text_end;
	in->load_gen = l->load_gen;
	sh_symbol_add(in);
	in->module->ninstances++;
	put_free(in);
}

static void loaded(void *arg, const struct zrep *rep)
{
	struct modinstance *in = arg;
	struct module *m = in->module;
	struct failure why = {.code = rep->code};

	if (rep->code) {
		snprintf(why.text, sizeof why.text, "%s", rep->message);
		taken[in->id] = false;
		free(in);
		m->tried = false; /* perhaps a file has changed: the next trial makes a new list */
		load_failed(m, &why, NULL);
		return;
	}
	m->loading = false;
	register_instance(in);
	if (is_outdated(in))
		unload_free(m, is_outdated);
	place_jobs(m);
}

/* Takes a free number, or returns LEDGER_INSTANCES if there is none. */
static uint32_t take_number(void)
{
	uint32_t i = 0;

	while (i < LEDGER_INSTANCES && taken[i])
		i++;
	if (i == LEDGER_INSTANCES)
		return i;
	taken[i] = true;
	if (i >= sh_ledger->ninstances)
		sh_ledger->ninstances = i + 1;
	return i;
}

static void load(struct module *m)
{
	struct zreq req = {.op = Z_LOAD};
	struct modinstance *in = calloc(1, sizeof *in);

	if (!in)
		abort();
	in->module = m;
	in->era = m->era;
	in->id = req.instance = take_number();
	if (in->id == LEDGER_INSTANCES) {
		free(in);
		m->loading = false;
		unload_oldest();
		place_jobs_later(m);
		return;
	}
	m->loading = true;
	req.load = ++sh_ledger->loads;
	sh_ledger->instance[in->id].module = m->index;
	snprintf(req.name, sizeof req.name, "%s", m->name);
	sh_link_ask(&req, (int[]){m->so_fd, m->libraries_fd}, 2, loaded, in);
}

/* ---- trials ---- */

static void free_trial(uv_handle_t *timer)
{
	struct trial *t = timer->data;

	kernel_close(t->pipe);
	if (t->libraries >= 0)
		kernel_close(t->libraries);
	free(t);
}

static void end_trial(struct trial *t)
{
	uv_close((uv_handle_t *)&t->timer, free_trial);
}

static void trial_ended(void *arg, int status)
{
	struct trial *t = arg;
	struct module *m = t->module;
	struct ztrial found;
	struct failure why = {.code = CODE_NOT_LOADABLE};
	bool answered = kernel_read(t->pipe, &found, sizeof found) == sizeof found;

	if (t->late) {
		snprintf(why.text, sizeof why.text, "%s: a constructor did not finish within %u s", m->name,
			 TRIAL_MS / 1000);
	} else if (WIFSIGNALED(status)) {
		snprintf(why.text, sizeof why.text, "%s: loading it crashed (%s)", m->name,
			 sh_signal_name(WTERMSIG(status)));
	} else if (!answered) {
		snprintf(why.text, sizeof why.text, "%s: a constructor ended the process", m->name);
	} else {
		found.message[sizeof found.message - 1] = '\0';
		why.code = found.code;
		snprintf(why.text, sizeof why.text, "%s", found.message);
	}
	if (!why.code && !sh_module_tried(m, t->libraries)) {
		why.code = CODE_SHOAL;
		snprintf(why.text, sizeof why.text, "%s: no memory for the list of its libraries", m->name);
	}
	if (why.code) {
		load_failed(m, &why, why.code == CODE_NOT_FOUND ? t->entry : NULL);
	} else {
		t->libraries = -1; /* the module owns it from here on */
		load(m);
	}
	end_trial(t);
}

static void on_trial_late(uv_timer_t *timer)
{
	struct trial *t = timer->data;

	t->late = true;
	kernel_kill(t->pid, SIGKILL);
}

static void trial_started(void *arg, const struct zrep *rep)
{
	struct trial *t = arg;
	struct failure why = {.code = rep->code};

	if (rep->code) {
		snprintf(why.text, sizeof why.text, "%.*s: %.400s", Z_NAME, t->module->name, rep->message);
		load_failed(t->module, &why, NULL);
		end_trial(t);
		return;
	}
	t->pid = rep->pid;
	uv_timer_start(&t->timer, on_trial_late, TRIAL_MS, 0);
	sh_fleet_watch(t->pid, trial_ended, t);
}

/* Starts a trial. Its result fits into the pipe, so the trial never waits for the supervisor to read. */
static void try_load(struct module *m)
{
	struct zreq req = {.op = Z_TRIAL};
	struct trial *t = calloc(1, sizeof *t);
	struct failure why = {.code = CODE_SHOAL};
	int must_unload[2];

	if (!t)
		abort();
	m->loading = true;
	t->libraries = sh_closure_begin(m->libraries.module, m->libraries.search);
	if (t->libraries < 0 || kernel_pipe2(must_unload, O_CLOEXEC | O_NONBLOCK) < 0) {
		snprintf(why.text, sizeof why.text, "%s: %s", m->name, strerror(errno));
		if (t->libraries >= 0)
			kernel_close(t->libraries);
		free(t);
		load_failed(m, &why, NULL);
		return;
	}
	t->module = m;
	t->pipe = must_unload[0];
	uv_timer_init(sh_loop, &t->timer);
	t->timer.data = t;
	memcpy(t->entry, m->first->entry, sizeof t->entry);
	snprintf(req.name, sizeof req.name, "%s", m->name);
	memcpy(req.entry, t->entry, sizeof req.entry);
	sh_link_ask(&req, (int[]){m->so_fd, must_unload[1], t->libraries}, 3, trial_started, t);
	kernel_close(must_unload[1]);
}

/* ---- placing ---- */

static void place_jobs(struct module *m)
{
	while (m->first && m->free) {
		struct job *j = m->first;
		struct modinstance *in = m->free;

		m->free = in->next;
		m->nfree--;
		sh_module_dequeue(m, j);
		sh_job_place(j, in);
	}
	if (!m->first || m->loading)
		return;
	if (m->tried)
		load(m);
	else
		try_load(m);
}

void sh_module_give_back(struct modinstance *in, bool discard)
{
	struct module *m = in->module;

	if (discard || is_outdated(in))
		unload(in);
	else
		put_free(in);
	place_jobs(m);
}

/* ---- after the death of a supervisor ---- */

void sh_pool_adopt(void)
{
	for (uint32_t i = 0; i < sh_ledger->ninstances && i < LEDGER_INSTANCES; i++) {
		struct ledger_instance *l = &sh_ledger->instance[i];
		struct module *m = sh_module_at(l->module);
		struct modinstance *in;

		if (atomic_load(&l->state) != INSTANCE_LOADED || !m)
			continue;
		in = calloc(1, sizeof *in);
		if (!in)
			abort();
		in->id = i;
		in->module = m;
		in->era = m->era;
		taken[i] = true;
		m->tried = true;
		register_instance(in);
	}
}

struct modinstance *sh_instance_adopt(uint32_t id)
{
	for (struct module *m = sh_module_first(); m; m = m->next)
		for (struct modinstance **at = &m->free; *at; at = &(*at)->next) {
			struct modinstance *in = *at;

			if (in->id != id)
				continue;
			*at = in->next;
			m->nfree--;
			return in;
		}
	return NULL;
}
