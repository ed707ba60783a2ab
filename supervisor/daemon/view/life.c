/*
 * life.c - collects the life of one goroutine from the rings of all workers. See core/g/life.h.
 */
#include "supervisor/daemon/view/life.h"
#include "supervisor/daemon/main.h"
#include "core/g/g.h"
#include "core/g/life.h"
#include "core/g/names.h"
#include "core/sched/m.h"
#include "shm/segment.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define AT_ONCE 4096u
#define NEAR_NS 100000000
#define EVENTS_MAX 100000u /* only the newest events are kept */

struct found {
	struct life *e;
	size_t n, room;
};

static void collect_events(struct found *f, unsigned seat, uint64_t gid)
{
	static struct life_event piece[AT_ONCE];
	uint64_t at = 0, lost = 0, key = gid & ((1ull << 40) - 1);
	int64_t now = (int64_t)sh_now();
	unsigned n;

	while ((n = life_read(seat, &at, piece, AT_ONCE, &lost)))
		for (unsigned i = 0; i < n; i++) {
			if (piece[i].b >> 24 != key)
				continue;
			if (f->n == f->room) {
				f->room = f->room ? f->room * 2 : 256;
				f->e = realloc(f->e, f->room * sizeof *f->e);
				if (!f->e)
					abort();
			}
			life_decode(&piece[i], seat, now, &f->e[f->n++]);
		}
}

/*
 * Each event has the goroutine's own count of transitions, modulo 1,024. The count gives the order of two
 * events of different workers that are close in time; otherwise the clock does.
 */
static bool before(const struct life *x, const struct life *y)
{
	unsigned ahead = (x->order - y->order) % LIFE_ORDERS;
	int64_t apart = x->ns - y->ns;

	if (apart > -NEAR_NS && apart < NEAR_NS && ahead != 0)
		return ahead > LIFE_ORDERS / 2;
	return apart < 0;
}

/* Merges the rings; each is in order already. Returns the merged list. */
static struct life *merge_rings(const struct found *f, const size_t *start)
{
	struct life *all = malloc((f->n ? f->n : 1) * sizeof *all);
	size_t at[SH_SEATS];

	if (!all)
		abort();
	memcpy(at, start, sizeof at);
	for (size_t n = 0; n < f->n; n++) {
		unsigned best = SH_SEATS;

		for (unsigned seat = 0; seat < SH_SEATS; seat++)
			if (at[seat] < start[seat + 1] &&
			    (best == SH_SEATS || before(&f->e[at[seat]], &f->e[at[best]])))
				best = seat;
		all[n] = f->e[at[best]++];
	}
	return all;
}

/*
 * A goroutine that crashed and so ended its task is not ended at once: the medic makes it waiting, and ends it with
 * the others of the task (g_lost, task_reap). Only the worker's events are of its life, so drops the medic's events
 * before the last one, which gets the time of the first of them. Returns the number of events that remain.
 */
static size_t drop_reaping(struct life *e, size_t n)
{
	size_t first = n;

	if (!n || e[n - 1].to != G_DEAD || (e[n - 1].why != SHOAL_CRASHED && e[n - 1].why != SHOAL_LOST))
		return n;
	while (first && e[first - 1].worker == SH_SEAT_MEDIC && e[first - 1].from != G_DEAD)
		first--;
	if (first == n || first + 1 == n)
		return n;
	e[n - 1].from = e[first].from;
	e[n - 1].ns = e[first].ns;
	e[n - 1].p = e[first].p;
	e[first] = e[n - 1];
	return first + 1;
}

static const char *why_of(const struct life *l)
{
	static const char *const how[] = {"done", "crashed", "lost", "cancelled"};

	if (l->to == G_DEAD)
		return l->from == G_IDLE ? "" : how[l->why & 3];
	if (l->to == G_WAITING || l->to == G_RUNNABLE)
		return l->why < WAIT_REASONS ? waitreason_name[l->why] : "";
	return "";
}

static json_t *view_event(const struct life *l, int64_t wall, bool moved)
{
	json_t *o = json_object();

	json_object_set_new(o, "time", json_real((double)((l->ns + wall) / 1000) / 1e6));
	json_object_set_new(o, "time_ns", json_integer(l->ns - (int64_t)sh_start_ns));
	json_object_set_new(o, "from", json_string(g_status_name(l->from)));
	json_object_set_new(o, "to", json_string(g_status_name(l->to)));
	json_object_set_new(o, "why", json_string(why_of(l)));
	json_object_set_new(o, "worker",
			    l->worker > 0 && l->worker < WORKERS_MAX
				    ? json_integer(l->worker)
				    : json_null()); /* otherwise the medic or a dump child wrote the event */
	json_object_set_new(o, "p", l->p >= 0 ? json_integer(l->p) : json_null());
	json_object_set_new(o, "stack_size", json_integer(l->stack));
	json_object_set_new(o, "migrated", json_boolean(moved));
	return o;
}

/*
 * Makes the event "became runnable", which a waker does not always write (core/g/life.h). Its time is that of the
 * run at the latest. A goroutine that yielded became runnable on its own worker; otherwise the waker is unknown.
 */
static struct life make_wake_event(const struct life *before, const struct life *runs)
{
	struct life l = *runs;

	l.from = before->to;
	l.to = G_RUNNABLE;
	l.why = WAIT_ZERO;
	l.worker = before->to == G_RUNNING ? before->worker : 0;
	l.p = before->to == G_RUNNING ? before->p : -1;
	return l;
}

/* CLOCK_REALTIME minus CLOCK_MONOTONIC, ns. */
static int64_t wall_ahead(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec * 1000000000l + t.tv_nsec - (int64_t)sh_now();
}

/* Returns NULL if there was no goroutine with this number. */
json_t *sh_view_life(uint64_t gid)
{
	struct found f = {0};
	bool ended = false, whole;
	struct g *g = g_find(gid, &ended);
	json_t *o, *list;
	int64_t wall = wall_ahead();
	int last = 0;
	uint64_t moves = 0;
	size_t start[SH_SEATS + 1];
	struct life *e;

	for (unsigned seat = 0; seat < SH_SEATS; seat++) {
		start[seat] = f.n;
		collect_events(&f, seat, gid);
	}
	start[SH_SEATS] = f.n;
	if (!g && !f.n)
		return NULL;
	e = merge_rings(&f, start);
	f.n = drop_reaping(e, f.n);
	list = json_array();
	for (size_t i = 0; i < f.n; i++) {
		bool moved = e[i].to == G_RUNNING && e[i].from == G_RUNNABLE && last && e[i].worker != last;

		if (e[i].to == G_RUNNING)
			last = e[i].worker;
		moves += moved;
		if (i + EVENTS_MAX < f.n)
			continue;
		if (i && e[i].from == G_RUNNABLE && e[i - 1].to != G_RUNNABLE) {
			struct life l = make_wake_event(&e[i - 1], &e[i]);

			json_array_append_new(list, view_event(&l, wall, false));
		}
		json_array_append_new(list, view_event(&e[i], wall, moved));
	}
	o = json_object();
	json_object_set_new(o, "gid", json_integer((json_int_t)gid));
	json_object_set_new(o, "status", json_string(!g || ended ? "dead" : g_status_name(g_state(g))));
	/* true if the first event is the creation, so that no event was overwritten */
	whole = f.n && e[0].from == G_DEAD;
	json_object_set_new(o, "migrations", json_integer((json_int_t)(whole || !g || ended ? moves : g->migrations)));
	json_object_set_new(o, "whole", json_boolean(whole));
	json_object_set_new(o, "events", list);
	free(f.e);
	free(e);
	return o;
}
