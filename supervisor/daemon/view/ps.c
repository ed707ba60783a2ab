/*
 * ps.c - lists goroutines, which it reads from the segment without a lock.
 *
 * There may be millions of goroutines, so the answer is written piece by piece as the client reads. Workers change
 * goroutines meanwhile, so each goroutine is shown as it was at some moment. Every pointer is checked before use.
 */
#include "supervisor/daemon/view/ps.h"
#include "supervisor/daemon/control.h"
#include "supervisor/daemon/failure.h"
#include "supervisor/daemon/fleet.h"
#include "supervisor/daemon/log.h"
#include "supervisor/daemon/view/dump.h"
#include "supervisor/daemon/view/views.h"
#include "core/g/g.h"
#include "core/g/names.h"
#include "core/g/stack.h"
#include "core/g/tstack.h"
#include "core/host.h"
#include "core/root.h"
#include "core/sched/m.h"
#include "core/sched/p.h"
#include "core/sched/runq.h"
#include "core/task/task.h"
#include "shm/segment.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ENTRY_MAX 1024u /* maximum length of the JSON object of a goroutine */

struct ps {
	uint64_t i, n; /* index of the next G; number of Gs */
	int64_t task;  /* 0: all */
	bool begun, ended, comma;
	char *tag;
};

struct g_facts { /* the facts about a G that are shown */
	uint64_t gid, task, parent;
	unsigned status, waitreason;
	int worker, p;
	int64_t waiting_ns;
	size_t stack_used, stack_size;
	char name[32];
};

/* The id of the task of a G; 0 if it has none. */
uint64_t sh_view_task_of(const struct g *g)
{
	uintptr_t at = (uintptr_t)g->task - (uintptr_t)task_at(0);

	return at < sizeof rt->tasks && at % sizeof(struct task) == 0 ? task_at(at / sizeof(struct task))->id : 0;
}

void sh_view_name(char name[32], const char *from)
{
	uintptr_t at = (uintptr_t)from - (SH_BASE + SH_OFF_HEAP);
	unsigned char copy[32] = "";
	size_t n = 0, len;

	if (at < SH_HEAP_SIZE - 32)
		memcpy(copy, from, sizeof copy - 1); /* a copy, because the task may change the name meanwhile */
	for (; copy[n]; n += len) {
		len = sh_utf8_at(copy + n, strlen((char *)copy + n));
		if (!len && strlen((char *)copy) == sizeof copy - 1 && n + 4 > sizeof copy - 1) {
			copy[n] = '\0'; /* the end cuts a character in two */
			break;
		}
		if (len <= 1 && (!len || copy[n] < 0x20 || copy[n] == 0x7f || copy[n] == '"' || copy[n] == '\\'))
			copy[n] = '?';
		len = len ? len : 1;
	}
	memcpy(name, copy, sizeof copy);
}

/* False if the G is dead or does not belong to the task. */
static bool read_facts(struct g *g, int64_t task, struct g_facts *l)
{
	uint32_t win = g->win;
	int64_t since = g->wait_since;

	uint64_t s = atomic_load_explicit(&g->status, memory_order_acquire);

	l->status = s & G_STATE;
	l->gid = g->gid;
	l->task = sh_view_task_of(g);
	if (!l->gid || l->status == G_DEAD || l->status == G_IDLE || (task && l->task != (uint64_t)task))
		return false;
	l->parent = g->parent;
	l->waitreason = g->waitreason < WAIT_REASONS ? g->waitreason : WAIT_ZERO;
	l->worker = l->status == G_RUNNABLE || l->status == G_WAITING ? NOSEAT : G_OWNER_SEAT(s);
	l->worker = l->worker > 0 && l->worker < SH_SEATS ? l->worker : NOSEAT;
	l->p = l->worker != NOSEAT ? atomic_load(&allm(l->worker)->p) : -1;
	l->waiting_ns = l->status == G_WAITING && since > 0 ? (int64_t)sh_now() - since : 0;
	l->waiting_ns = l->waiting_ns > 0 ? l->waiting_ns : 0;
	l->stack_size = win_of_thread(g->win) ? host_window_size(g->win) : g->image_cap;
	l->stack_used = 0;
	if (win_valid(win) && l->status != G_RUNNING) {
		uintptr_t used = (uintptr_t)stack_top(win) - (uintptr_t)g->sp;

		l->stack_used = used <= host_window_size(win) ? used : 0;
	}
	sh_view_name(l->name, g->name);
	return true;
}

static size_t write_entry(char *buf, size_t n, const struct g_facts *l)
{
	char number[32];
	size_t at;

	at = (size_t)snprintf(buf, n, "{\"gid\":%lu,\"task\":%lu,\"status\":\"%s\",\"wait_reason\":\"%s\"",
			      (unsigned long)l->gid, (unsigned long)l->task, g_status_name(l->status),
			      l->status == G_WAITING ? waitreason_name[l->waitreason] : "");
	snprintf(number, sizeof number, "%d", l->worker);
	at += (size_t)snprintf(buf + at, n - at, ",\"worker\":%s", l->worker != NOSEAT ? number : "null");
	snprintf(number, sizeof number, "%d", l->p);
	at += (size_t)snprintf(buf + at, n - at, ",\"p\":%s", l->p >= 0 && l->p < P_MAX ? number : "null");
	at += (size_t)snprintf(
		buf + at, n - at,
		",\"waiting_ns\":%ld,\"stack_used\":%zu,\"stack_size\":%zu,\"name\":\"%s\",\"created_by\":%lu}",
		(long)l->waiting_ns, l->stack_used, l->stack_size, l->name, (unsigned long)l->parent);
	return at;
}

static size_t more(void *arg, char *buf, size_t n)
{
	struct ps *ps = arg;
	struct g_facts l;
	size_t at = 0;

	if (!buf) {
		free(ps->tag);
		free(ps);
		return 0;
	}
	if (!ps->begun) {
		at = (size_t)snprintf(buf, n, "{\"ok\":true,\"version\":1,%s%s%s\"goroutines\":[",
				      ps->tag ? "\"tag\":" : "", ps->tag ? ps->tag : "", ps->tag ? "," : "");
		ps->begun = true;
	}
	for (; ps->i < ps->n && n - at > ENTRY_MAX; ps->i++) {
		if (!read_facts(allg(ps->i), ps->task, &l))
			continue;
		if (ps->comma)
			buf[at++] = ',';
		at += write_entry(buf + at, n - at, &l);
		ps->comma = true;
	}
	if (ps->i >= ps->n && !ps->ended && n - at > ENTRY_MAX) {
		at += (size_t)snprintf(buf + at, n - at, "]}\n");
		ps->ended = true;
	}
	return at;
}

void sh_view_ps(struct asker *a, int64_t task)
{
	struct ps *ps = calloc(1, sizeof *ps);
	uint64_t n = atomic_load(&sched.ngs);

	if (!ps)
		abort();
	ps->i = 1;
	ps->n = n < G_MAX ? n : G_MAX;
	ps->task = task;
	ps->tag = sh_ask_tag(a) ? json_dumps(sh_ask_tag(a), JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
	if (ps->tag && strlen(ps->tag) > 4096) {
		sh_answer_error(a, CODE_USAGE, NULL, "the tag is too long");
		more(ps, NULL, 0);
		return;
	}
	sh_answer_stream(a, more, ps);
}

/* ---- SIGQUIT ---- */

static void dump_ps(void)
{
	for (unsigned i = 0; i < atomic_load(&sched.procs) && i < P_MAX; i++) {
		struct p *p = allp(i);

		sh_log("  P%u: status=%u schedtick=%u syscalltick=%u m=%d runqsize=%u gfreecnt=%u timerslen=%u", i,
		       atomic_load(&p->status), atomic_load(&p->schedtick), atomic_load(&p->syscalltick),
		       atomic_load(&p->m), runqlen(p), p->ngfree, atomic_load(&p->ntimers));
	}
}

static void dump_ms(void)
{
	for (unsigned seat = 0; seat <= sh_fleet_seats(); seat++) {
		struct m *m = allm(seat);
		uint64_t bit = seat < 64 ? 1ull << seat : 0;
		struct g *g = atomic_load(&m->curg);

		sh_log("  M%u: pid=%d state=%u p=%d curg=%lu locks=%u spinning=%s blocked=%s generation=%u restarts=%u",
		       seat, (int)sh_fleet_pid(seat), atomic_load(&sh_root->seat[seat].state), atomic_load(&m->p),
		       (unsigned long)(g_plausible(g) ? g->gid : 0), m->locks,
		       atomic_load(&sched.mspinning) & bit ? "true" : "false",
		       atomic_load(&m->blocked) ? "true" : "false", sh_root->seat[seat].generation,
		       atomic_load(&sh_root->seat[seat].restarts));
	}
}

void sh_view_dump(void)
{
	char line[900];
	uint64_t n = atomic_load(&sched.ngs);

	sh_view_sched(line, sizeof line);
	sh_log("%s", line);
	dump_ps();
	dump_ms();
	sh_dump_to(0, 2, NULL, NULL);
	for (uint64_t i = 1; i < n && i < G_MAX; i++) {
		struct g_facts l;

		if (read_facts(allg(i), 0, &l))
			sh_log("  G%lu: status=%u(%s) m=%d task=%lu name=%s waiting_ns=%ld", (unsigned long)l.gid,
			       l.status,
			       l.status == G_WAITING ? waitreason_name[l.waitreason] : g_status_name(l.status),
			       l.worker, (unsigned long)l.task, l.name, (long)l.waiting_ns);
	}
}
