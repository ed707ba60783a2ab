/*
 * views.c - makes the answers of the reading verbs: tasks, workers, counters, crashes. Goroutines: ps.c.
 */
#include "supervisor/daemon/view/views.h"
#include "supervisor/daemon/fleet.h"
#include "supervisor/daemon/log.h"
#include "supervisor/daemon/main.h"
#include "supervisor/daemon/task/module.h"
#include "supervisor/daemon/task/output.h"
#include "supervisor/daemon/task/pool.h"
#include "supervisor/daemon/task/tasks.h"
#include "supervisor/daemon/view/symbol.h"
#include "supervisor/keeper/keeper.h"
#include "supervisor/keeper/ledger.h"
#include "core/g/g.h"
#include "core/repair/crash.h"
#include "core/root.h"
#include "core/sched/idle.h"
#include "core/sched/p.h"
#include "core/sched/runq.h"
#include "core/task/task.h"
#include "shm/heap.h"
#include "shm/segment.h"
#include "shm/signame.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

size_t sh_utf8_at(const unsigned char *s, size_t max)
{
	size_t n = s[0] < 0x80			 ? 1
		   : s[0] >= 0xc2 && s[0] < 0xe0 ? 2
		   : (s[0] & 0xf0) == 0xe0	 ? 3
		   : s[0] >= 0xf0 && s[0] < 0xf5 ? 4
						 : 0;

	if (n > max)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((n == 3 && ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f))) ||
	    (n == 4 && ((s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))))
		return 0;
	return n;
}

json_t *sh_view_string(const char *text, size_t max)
{
	size_t len = strnlen(text, max), at = 0;
	json_t *string = json_stringn(text, len);
	char *copy;

	if (string)
		return string;
	copy = strndup(text, len);
	while (copy && at < len) {
		size_t n = sh_utf8_at((unsigned char *)copy + at, len - at);

		if (!n)
			copy[at] = '?';
		at += n ? n : 1;
	}
	string = json_stringn(copy ? copy : "", copy ? len : 0);
	free(copy);
	return string;
}

static json_t *seconds(int64_t ns)
{
	return ns > 0 ? json_real((double)(ns / 1000000) / 1000.0) : json_null();
}

/* ---- tasks ---- */

json_t *sh_view_task(const struct job *j)
{
	struct task *t = task_at(j->id % TASK_SLOTS);
	bool over = sh_job_ended(j);
	json_t *o = json_object();

	json_object_set_new(o, "id", json_integer((json_int_t)j->id));
	json_object_set_new(o, "module", sh_view_string(j->path, sizeof j->path));
	json_object_set_new(o, "entry", sh_view_string(j->entry, sizeof j->entry));
	json_object_set_new(o, "name", sh_view_string(j->name[0] ? j->name : j->module->name, sizeof j->name));
	json_object_set_new(o, "status", json_string(sh_job_status(j)));
	json_object_set_new(o, "exit_code", over ? json_integer(atomic_load(&t->exit_code)) : json_null());
	json_object_set_new(o, "attempts", json_integer(atomic_load(&t->attempt)));
	json_object_set_new(o, "attempts_allowed", json_integer(j->attempts));
	json_object_set_new(o, "goroutines", json_integer(over ? 0 : (json_int_t)task_goroutines(t)));
	json_object_set_new(o, "goroutines_created", json_integer(over ? (json_int_t)t->gs : 0));
	json_object_set_new(o, "submitted", seconds(t->queued_ns));
	json_object_set_new(o, "started", seconds(t->started_ns > 0 ? t->started_ns : j->started_ns));
	json_object_set_new(o, "ended", over ? seconds(t->ended_ns > 0 ? t->ended_ns : j->ended_ns) : json_null());
	json_object_set_new(o, "signal", json_integer(over ? t->signal : 0));
	json_object_set_new(o, "message", sh_view_string(t->message, sizeof t->message));
	json_object_set_new(o, "memory_used",
			    json_integer((json_int_t)(over ? atomic_load(&t->memory_used)
							   : sh_heap_used_at(sh_root->arena, t->heap))));
	json_object_set_new(o, "output_dropped",
			    json_integer((json_int_t)(sh_output_dropped(j, 0) + sh_output_dropped(j, 1))));
	return o;
}

json_t *sh_view_tasks(bool all)
{
	uint64_t last = sh_job_last(), id = last > TASK_SLOTS ? last - TASK_SLOTS + 1 : 1;
	json_t *list = json_array();

	for (; id <= last; id++) {
		struct job *j = sh_job_find(id);

		if (j && (all || !sh_job_ended(j)))
			json_array_append_new(list, sh_view_task(j));
	}
	return json_pack("{s:o}", "tasks", list);
}

/* ---- workers ---- */

static uint64_t gid_of(struct g *g)
{
	return g_plausible(g) ? g->gid : 0;
}

/* True if the goroutine's status names the worker and is that one. */
static bool is_in(struct g *g, unsigned seat, unsigned state)
{
	uint64_t s = g_plausible(g) ? atomic_load(&g->status) : 0;

	return (s & G_STATE) == state && G_OWNER_SEAT(s) == (int)seat;
}

static const char *worker_status(unsigned seat, int p, struct g *g)
{
	switch (atomic_load(&sh_root->seat[seat].state)) {
	case SEAT_STARTING: return "starting";
	case SEAT_LIVE:
		if (is_in(g, seat, G_SYSCALL))
			return "syscall";
		return p >= 0 || is_in(g, seat, G_RUNNING) ? "running" : "idle";
	case SEAT_DEAD: return "dead";
	default: return "vacant";
	}
}

static json_t *number_or_null(int64_t n, bool there)
{
	return there ? json_integer(n) : json_null();
}

json_t *sh_view_workers(void)
{
	json_t *list = json_array();
	uint64_t now = sh_now();

	for (unsigned seat = 1; seat <= sh_fleet_seats(); seat++) {
		struct sh_seat *s = &sh_root->seat[seat];
		bool live = atomic_load(&s->state) == SEAT_LIVE;
		int p = live ? atomic_load(&allm(seat)->p) : -1;
		struct g *g = live ? atomic_load(&allm(seat)->curg) : NULL;
		uint64_t gid = gid_of(g);
		pid_t pid = sh_fleet_pid(seat); /* 0 until the zygote's answer has come */
		json_t *o = json_object();

		json_object_set_new(o, "id", json_integer(seat));
		json_object_set_new(o, "pid", json_integer(pid || !live ? pid : atomic_load(&s->pid)));
		json_object_set_new(o, "status", json_string(worker_status(seat, p, g)));
		json_object_set_new(o, "p", number_or_null(p, p >= 0 && p < P_MAX));
		json_object_set_new(o, "gid", number_or_null((int64_t)gid, gid != 0));
		json_object_set_new(o, "restarts", json_integer(atomic_load(&s->restarts)));
		json_object_set_new(o, "generation", json_integer(s->generation));
		json_object_set_new(o, "uptime_ns", json_integer(live ? (json_int_t)(now - s->started_ns) : 0));
		json_array_append_new(list, o);
	}
	return json_pack("{s:o}", "workers", list);
}

/* ---- counters ---- */

static void set_number(json_t *o, const char *key, uint64_t n)
{
	json_object_set_new(o, key, json_integer((json_int_t)n));
}

json_t *sh_view_stats(void)
{
	uint64_t created = 0, alive = 0, migrations = 0, grows = 0, steals = 0, preemptions = 0, syscalls = 0;
	struct sh_heap_stats memory;
	json_t *o = json_object();

	for (unsigned i = 0; i < P_MAX; i++) {
		const struct p *p = allp(i);

		created += p->created;
		migrations += p->migrations;
		grows += p->grows;
		steals += p->steals;
		preemptions += p->preemptions;
		syscalls += p->syscalls;
	}
	for (unsigned i = 0; i < sh_jobs_live(); i++)
		alive += task_goroutines(task_at(sh_job_live(i)->id % TASK_SLOTS));
	sh_arena_stats(sh_root->arena, &memory);
	set_number(o, "goroutines", alive);
	set_number(o, "goroutines_created", created);
	set_number(o, "migrations", migrations);
	set_number(o, "stack_grows", grows);
	set_number(o, "steals", steals);
	set_number(o, "preemptions", preemptions);
	set_number(o, "syscalls", syscalls);
	set_number(o, "worker_deaths", sched.deaths);
	set_number(o, "tasks_done", sched.tasks_done);
	set_number(o, "tasks_crashed", sched.tasks_crashed);
	set_number(o, "tasks_live", sh_jobs_live());
	set_number(o, "memory_used", memory.used);
	set_number(o, "memory_left",
		   memory.retired); /* memory of ended tasks, freed when the workers that ran them are replaced */
	set_number(o, "memory_committed", memory.committed);
	set_number(o, "memory_limit", memory.limit);
	return o;
}

json_t *sh_view_info(void)
{
	json_t *o = json_object();

	json_object_set_new(o, "shoal", json_string(SHOAL_VERSION));
	set_number(o, "pid", (uint64_t)getpid());
	json_object_set_new(o, "socket", sh_view_string(sh_options.socket, 256));
	set_number(o, "procs", atomic_load(&sched.procs));
	set_number(o, "spare", sh_options.spare);
	set_number(o, "workers", sh_fleet_seats());
	set_number(o, "medic", (uint64_t)sh_fleet_pid(SH_SEAT_MEDIC));
	set_number(o, "zygote", (uint64_t)atomic_load(&sh_root->zygote));
	set_number(o, "standby", (uint64_t)atomic_load(&sh_root->standby));
	set_number(o, "keeper", (uint64_t)sh_keeper_pid());
	set_number(o, "uptime_ns", sh_now() - sh_start_ns);
	set_number(o, "memory_limit", sh_root->memory_limit);
	set_number(o, "loads", atomic_load(&sh_root->load_gen));
	json_object_set_new(o, "stopping", json_boolean(sh_stopping != STOP_NO));
	return o;
}

/* Writes a line in the format of Go's schedtrace. */
size_t sh_view_sched(char *buf, size_t n)
{
	unsigned procs = atomic_load(&sched.procs), threads = 0;
	uint64_t queued = atomic_load(&sched.grunq_tail) - atomic_load(&sched.grunq_head);
	size_t at;

	procs = procs <= P_MAX ? procs : P_MAX;
	for (unsigned seat = 1; seat <= sh_fleet_seats(); seat++)
		threads += atomic_load(&sh_root->seat[seat].state) == SEAT_LIVE;
	at = (size_t)snprintf(
		buf, n,
		"SCHED %lums: gomaxprocs=%u idleprocs=%d threads=%u spinningthreads=%d needspinning=%u idlethreads=%d "
		"runqueue=%lu [",
		(unsigned long)((sh_now() - sh_start_ns) / 1000000), procs, (int)npidle(), threads,
		__builtin_popcountll(atomic_load(&sched.mspinning)), atomic_load(&sched.needspinning),
		__builtin_popcountll(atomic_load(&sched.midle)), (unsigned long)(queued < GRUNQ_SIZE ? queued : 0));
	for (unsigned i = 0; i < procs && at < n; i++)
		at += (size_t)snprintf(buf + at, n - at, " %u", runqlen(allp(i)));
	if (at < n)
		at += (size_t)snprintf(buf + at, n - at, " ] schedticks=[");
	for (unsigned i = 0; i < procs && at < n; i++)
		at += (size_t)snprintf(buf + at, n - at, " %u", atomic_load(&allp(i)->schedtick));
	if (at < n)
		at += (size_t)snprintf(buf + at, n - at, " ]");
	return at < n ? at : n - 1;
}

/* ---- crashes ---- */

static json_t *address(uint64_t at)
{
	char text[24];

	snprintf(text, sizeof text, "0x%lx", (unsigned long)at);
	return json_string(text);
}

static json_t *view_registers(const struct crash *c)
{
	static const char *const names[] = {
		"r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15", "rdi",
		"rsi", "rbp", "rbx", "rdx", "rax", "rcx", "rsp", "rip", "eflags"}; /* the order of the ucontext */
	json_t *o = json_object();
	bool all = c->kind == CRASH_SIGNAL || c->kind == CRASH_OVERFLOW;

	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (all || c->regs[i])
			json_object_set_new(o, names[i], address(c->regs[i]));
	return o;
}

static json_t *view_stack(const struct crash *c)
{
	static const char digits[] = "0123456789abcdef";
	uint32_t n = c->stack_bytes < CRASH_STACK ? c->stack_bytes : CRASH_STACK;
	static char hex[2 * CRASH_STACK];

	for (uint32_t i = 0; i < n; i++) {
		hex[2 * i] = digits[(unsigned char)c->stack[i] >> 4];
		hex[2 * i + 1] = digits[c->stack[i] & 15];
	}
	return json_stringn(hex, 2 * n);
}

static json_t *view_crash(uint64_t number, const struct crash *c)
{
	static const char *const kinds[] = {"?", "signal", "check", "misuse", "stack overflow"};
	json_t *o = json_object(), *pcs = json_array();
	struct job *j = sh_job_find(c->task);

	set_number(o, "number", number);
	set_number(o, "id", c->task);
	set_number(o, "task", c->task);
	set_number(o, "gid", c->gid);
	json_object_set_new(o, "name", sh_view_string(c->name, sizeof c->name));
	json_object_set_new(o, "module", sh_view_string(j ? j->module->name : "", Z_NAME));
	json_object_set_new(
		o, "kind",
		json_string(c->kind >= 0 && c->kind < (int)(sizeof kinds / sizeof *kinds) ? kinds[c->kind] : "?"));
	json_object_set_new(o, "signal", json_integer(c->signal));
	json_object_set_new(o, "signal_name", json_string(sh_signal_name(c->signal)));
	json_object_set_new(o, "code", json_integer(c->code));
	json_object_set_new(o, "address", address((uintptr_t)c->address));
	json_object_set_new(o, "message", sh_view_string(c->message, sizeof c->message));
	json_object_set_new(o, "worker", json_integer(c->worker));
	json_object_set_new(o, "pid", json_integer(c->pid));
	json_object_set_new(o, "time", seconds(c->when));
	json_object_set_new(o, "time_ns", json_integer(c->when));
	json_object_set_new(o, "registers", view_registers(c));
	for (int i = 0; i < c->nframes && i < CRASH_FRAMES; i++)
		json_array_append_new(pcs, address((uintptr_t)c->frame[i]));
	json_object_set_new(o, "pcs", pcs);
	json_object_set_new(o, "stack_at", address(c->stack_at));
	json_object_set_new(o, "stack", view_stack(c));
	return o;
}

static const char *last_part(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* Lists the files in which functions are found: libraries by path, modules by the supervisor's descriptor. */
static json_t *view_modules(void)
{
	const struct ledger_object *l;
	const struct modinstance *in;
	json_t *list = json_array();

	for (uint32_t n = 0; (l = sh_ledger_object_next(&n)) != NULL;)
		json_array_append_new(list,
				      json_pack("{s:o, s:o, s:s}", "name", sh_view_string(last_part(l->path), Z_NAME),
						"base", address(l->base), "file", l->path));
	for (unsigned n = 0; (in = sh_symbol_instance(n)); n++)
		json_array_append_new(list,
				      json_pack("{s:o, s:o, s:i}", "name", sh_view_string(in->module->name, Z_NAME),
						"base", address(in->base), "fd", in->module->so_fd));
	return list;
}

/* Returns the crash records unchanged. The client unwinds the saved stack, with the files of the modules. */
json_t *sh_view_crashes(int64_t id)
{
	uint64_t n = atomic_load(&rt->ncrashes), i = n > CRASH_KEPT ? n - CRASH_KEPT : 0;
	json_t *list = json_array(), *o = json_object();

	for (; i < n; i++) {
		const struct crash *c = &rt->crash[i % CRASH_KEPT];

		if (id < 0 || c->task == (uint64_t)id || c->gid == (uint64_t)id)
			json_array_append_new(list, view_crash(i, c));
	}
	json_object_set_new(o, "crashes", list);
	json_object_set_new(o, "modules", view_modules());
	set_number(o, "supervisor", (uint64_t)getpid());
	set_number(o, "zygote", (uint64_t)atomic_load(&sh_root->zygote));
	return o;
}

/* Writes a line to the log for each crash since the last call. */
void sh_crashes_log(void)
{
	uint64_t n = atomic_load(&rt->ncrashes), seen = sh_ledger->crashes_seen;

	if (n - seen > CRASH_KEPT)
		seen = n - CRASH_KEPT;
	for (; seen < n; seen++) {
		const struct crash *c = &rt->crash[seen % CRASH_KEPT];
		char where[400] = "";

		if (c->nframes > 0)
			sh_symbol(c->frame[0], where, sizeof where);
		sh_log("crash: task %lu goroutine %lu worker %d: %s at %p%s%s%s%.255s", (unsigned long)c->task,
		       (unsigned long)c->gid, c->worker, sh_signal_name(c->signal), c->address, where[0] ? " in " : "",
		       where, c->message[0] ? ": " : "", c->message);
	}
	sh_ledger->crashes_seen = seen;
}
