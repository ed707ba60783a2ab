/*
 * posix/signal_queue.c - what a task has set about its signals, and what is pending: see struct signals.
 */
#include "worker/posix/own.h"
#include "worker/posix/signal.h"

static struct sig_thread **bucket_of(struct signals *s, uint64_t gid)
{
	return &s->bucket[gid * 0x9e3779b97f4a7c15ul >> 58];
}

_Static_assert(SIG_BUCKETS == 64, "bucket_of takes six bits");

struct signals *signals_there(const struct task *t)
{
	return atomic_load(&task_own((struct task *)t)->signals);
}

struct signals *signals_of(struct g *g)
{
	struct task *t = g->task;
	struct signals *s = signals_there(t);
	void *none = NULL;

	if (s)
		return s;
	s = g_alloc(g, sizeof *s);
	if (!s)
		return NULL;
	memset(s, 0, sizeof *s);
	if (atomic_compare_exchange_strong(&task_own(t)->signals, &none, s))
		return s;
	g_free(g, s);
	return none;
}

void signals_lock(struct task *t)
{
	acquirem();
	sh_lock_take(&t->lock, (unsigned)getm->seat);
}

void signals_unlock(struct task *t)
{
	sh_lock_drop(&t->lock, (unsigned)getm->seat);
	releasem();
}

/* ---- goroutines ---- */

struct sig_thread *sig_thread_find(struct signals *s, uint64_t gid)
{
	struct sig_thread *t = *bucket_of(s, gid);

	while (t && t->gid != gid)
		t = t->next;
	return t;
}

struct sig_thread *sig_thread_here(struct g *g)
{
	struct signals *s = signals_there(g->task);
	struct sig_thread *t;

	if (!s)
		return NULL;
	if (!atomic_load_explicit(&g->signals, memory_order_relaxed))
		return NULL;
	signals_lock(g->task);
	t = sig_thread_find(s, g->gid);
	signals_unlock(g->task);
	return t;
}

/* For any goroutine of the task: the current one makes it. */
static struct sig_thread *make_thread(struct g *g, struct signals *s, uint64_t gid)
{
	struct sig_thread *new = g_alloc(g, sizeof *new), *old, **b = bucket_of(s, gid);
	bool ended;
	struct g *of = g_find(gid, &ended);

	if (!new)
		return NULL;
	memset(new, 0, sizeof *new);
	new->gid = gid;
	new->alt.ss_flags = SS_DISABLE;
	if (of)
		atomic_store_explicit(&of->signals, 1, memory_order_relaxed);
	signals_lock(g->task);
	old = sig_thread_find(s, gid);
	if (!old) {
		new->next = *b;
		*b = new;
		KILL_POINT("signal.thread.listed");
	}
	signals_unlock(g->task);
	if (old)
		g_free(g, new);
	return old ? old : new;
}

struct sig_thread *sig_thread_make(struct g *g, uint64_t gid)
{
	struct signals *s = signals_of(g);
	struct sig_thread *t;

	if (!s)
		return NULL;
	signals_lock(g->task);
	t = sig_thread_find(s, gid);
	signals_unlock(g->task);
	return t ? t : make_thread(g, s, gid);
}

struct sig_thread *sig_thread_of(struct g *g)
{
	return sig_thread_make(g, g->gid);
}

uint64_t sig_blocked(struct g *g)
{
	struct sig_thread *t = sig_thread_here(g);

	return t ? atomic_load(&t->blocked) : 0;
}

struct sig_thread *sig_thread_unlist(struct signals *s, uint64_t gid)
{
	struct sig_thread **at = bucket_of(s, gid), *t;

	while (*at && (*at)->gid != gid)
		at = &(*at)->next;
	t = *at;
	if (t) {
		*at = t->next;
		KILL_POINT("signal.thread.unlisted");
	}
	return t;
}

/* ---- queues ---- */

bool sig_queue_has(const struct sig_queue *q, int sig)
{
	for (const struct sig_entry *e = q->first; e; e = e->next)
		if (e->info.si_signo == sig)
			return true;
	return false;
}

void sig_queue_put(struct sig_queue *q, struct sig_entry *e)
{
	struct sig_entry **end = &q->first;

	while (*end)
		end = &(*end)->next;
	e->next = NULL;
	atomic_fetch_or(&q->set, SIG_BIT(e->info.si_signo));
	KILL_POINT("signal.queue.marked");
	*end = e;
	KILL_POINT("signal.queue.listed");
}

struct sig_entry *sig_queue_take(struct sig_queue *q, uint64_t set)
{
	uint64_t some;

	while ((some = atomic_load(&q->set) & set) != 0) {
		int sig = __builtin_ctzll(some) + 1;
		struct sig_entry **at = &q->first, *e;

		while (*at && (*at)->info.si_signo != sig)
			at = &(*at)->next;
		e = *at;
		if (e) {
			*at = e->next;
			KILL_POINT("signal.queue.unlisted");
		}
		if (!sig_queue_has(q, sig)) {
			atomic_fetch_and(&q->set, ~SIG_BIT(sig));
			KILL_POINT("signal.queue.unmarked");
		}
		if (e)
			return e;
	}
	return NULL;
}

void sig_queue_drop(struct g *g, struct sig_queue *q, uint64_t set)
{
	struct sig_entry *e;

	for (;;) {
		signals_lock(g->task);
		e = sig_queue_take(q, set);
		signals_unlock(g->task);
		if (!e)
			return;
		g_free(g, e);
	}
}
