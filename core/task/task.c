/*
 * task.c - the life of a task: start, settle, cancel, reap. See task.h.
 *
 * DEATH  task_start: heap and root are made once; a new medic does an incomplete start again. task_reap:
 *        first nothing of the task runs, then its Gs are ended one by one, then its heap is given up
 */
#include "core/task/task.h"
#include "core/task/maps.h"
#include "core/task/library.h"
#include "core/g/g.h"
#include "core/host.h"
#include "core/repair/old_heaps.h"
#include "core/repair/repair.h"
#include "core/root.h"
#include "core/sched/m.h"
#include "core/sched/netpoll.h"
#include "core/sched/p.h"
#include "core/sched/preempt.h"
#include "core/sched/proc.h"
#include "core/shoal.h"
#include "core/sync/cancel.h"
#include "core/sync/join.h"
#include "core/sync/semtable.h"
#include "core/task/out.h"
#include "shm/check.h"
#include "shm/heap.h"
#include "shm/kill.h"
#include "shm/lock.h"
#include "shm/offspring.h"
#include "shm/segment.h"

#include <signal.h>
#include <string.h>

#define GRACE_NS 1000000000l
#define PROGRAMS_NS 2000000000l
#define REAP_BATCH 1024	      /* after so many ends, look whether a worker has died */
#define KICKS_BEFORE_KILL 300 /* about as many ms; then the worker is killed, and its G with it */

#define VERDICT(how, code, sig) (1ull << 63 | (uint64_t)(how) << 32 | (uint64_t)(uint8_t)(sig) << 16 | (uint8_t)(code))

/*
 * Carries out the verdict. All callers write the same values, and the task is not reaped before the medic has
 * called this.
 */
static void task_settle(struct task *t)
{
	uint64_t v = atomic_load(&t->verdict);
	uint32_t running = TASK_RUNNING;

	if (!v || atomic_load(&t->state) != TASK_RUNNING)
		return;
	t->signal = v >> 16 & 0xff;
	atomic_store(&t->exit_code, (int32_t)(v & 0xff));
	atomic_store(&t->how, v >> 32 & (TASK_AGAIN - 1));
	atomic_store(&t->again, (v >> 32 & TASK_AGAIN) != 0);
	KILL_POINT("task.end.how");
	atomic_compare_exchange_strong(&t->state, &running, TASK_ENDING);
	KILL_POINT("task.end.ending");
	host_bell();
}

void *task_alloc_reserved(struct task *t, size_t n)
{
	struct sh_heap *h = atomic_load(&t->reserve), *none = NULL;
	unsigned seat = (unsigned)getm->seat;

	if (!h) {
		h = sh_heap_new(sh_root->arena, seat, 0);
		if (!h)
			return NULL;
		sh_heap_privilege(h, true);
		KILL_POINT("task.reserve.made"); /* a death here costs one empty heap of 65,536 */
		if (!atomic_compare_exchange_strong(&t->reserve, &none, h)) {
			sh_heap_release(h, seat);
			h = none;
		}
		KILL_POINT("task.reserve.set");
	}
	return sh_heap_alloc(h, seat, getp() ? getp()->id : SH_HEAP_NOCPU, n, 0, false);
}

void task_end(struct task *t, unsigned how, int exit_code, int sig)
{
	uint32_t asked = atomic_load(&t->cancel);
	uint64_t none = 0;

	if (asked && how == TASK_DONE) { /* it ended well, but it was asked to end */
		how = asked & ASKED_TIMEOUT ? TASK_TIMEOUT : TASK_CANCELLED;
		exit_code = asked & ASKED_TIMEOUT ? 124 : 130;
	}
	atomic_compare_exchange_strong(&t->verdict, &none, VERDICT(how, exit_code, sig));
	KILL_POINT("task.end.verdict");
	task_settle(t);
}

static void root_main(void *unused)
{
	struct task *t = getg()->task;
	int code;

	sh_check(getg()->flags & GF_ROOT);
	(void)unused;
	host_switch_task(t);
	host_task_begin(getg());
	code = t->entry(t->argc, t->argv, t->envp); /* main may have a third parameter */
	host_task_exit(getg());
	host_g_end(getg());
	task_end(t, TASK_DONE, code & 0xff, 0);
	goexit();
}

static char **strings(struct task *t, char *from, int n)
{
	char **v = sh_heap_alloc(t->heap, (unsigned)getm->seat, SH_HEAP_NOCPU, (size_t)(n + 1) * sizeof *v, 0, true);

	sh_check(n >= 0);
	for (int i = 0; v && i < n; i++) {
		v[i] = from;
		from += strlen(from) + 1;
	}
	return v;
}

static struct g *find_root(struct task *t);

#define MAIN_STACK (8ul << 20) /* what a program is used to */

static void start_root(struct task *t)
{
	struct shoal_go_opts o = {/* the attempts of the root are counted in the task */
				  .name = "main",
				  .attempts = 1,
				  .stack_max = strcmp(t->entry_name, "main") == 0 ? MAIN_STACK : 0,
				  .flags = GO_ROOT};
	int err;

	sh_check(!t->root && t->heap);
	sh_heap_privilege(t->heap, true); /* newproc takes this back before the root can run */
	t->root = newproc(t, &o, root_main, NULL, 0, NULL, &err);
	if (!t->root) {
		sh_format(t->message, sizeof t->message, "no memory to start the task");
		task_end(t, TASK_CRASHED, 125, 0);
	}
}

/* The last goroutine of a task whose root has left: what exit does at the end of a process. */
static void finish_main(void *unused)
{
	struct task *t = getg()->task;

	(void)unused;
	host_switch_task(t);
	host_task_exit(getg());
	host_g_end(getg());
	task_end(t, TASK_DONE, 0, 0);
	goexit();
}

/* Nothing of it lives any more, and its root left by shoal_exit or pthread_exit. Once: without memory it ends at once. */
static void finish(struct task *t)
{
	struct shoal_go_opts o = {.name = "exit", .attempts = 1, .flags = GO_THREAD};
	int err;

	if (!t->finishing) {
		t->finishing = 1; /* a medic that dies after this: the task ends without its handlers */
		KILL_POINT("task.finish.begun");
		if (newproc(t, &o, finish_main, NULL, 0, NULL, &err))
			return;
	}
	task_end(t, TASK_DONE, 0, 0);
}

/* A medic died between RUNNING and the root: finds the root, or makes it. */
static void find_or_start_root(struct task *t)
{
	if (!t->root)
		t->root = find_root(t);
	if (!t->root && !atomic_load(&t->root_exited) && !atomic_load(&t->verdict))
		start_root(t);
}

/* Makes the heap and the root of a QUEUED task. */
static void forget_crashes(struct task *t)
{
	t->crashes = 0;
	memset(t->crash_ns, 0, sizeof t->crash_ns);
	atomic_store(&t->paused_until, 0);
}

static void task_start(struct task *t)
{
	size_t len = t->args_len < TASK_ARGS_SIZE ? t->args_len : TASK_ARGS_SIZE - 1;
	char *blob, *env;

	sh_check(t->slot < TASK_SLOTS);
	if (t->heap)
		sh_heap_release(t->heap, (unsigned)getm->seat);
	t->heap = sh_heap_new(sh_root->arena, (unsigned)getm->seat, 0);
	if (!t->heap)
		return;			  /* the next bell tries again */
	sh_heap_privilege(t->heap, true); /* an accepted task starts even if others have used up the memory */
	blob = sh_heap_alloc(t->heap, (unsigned)getm->seat, SH_HEAP_NOCPU, len + 1, 0, false);
	if (blob) {
		memcpy(blob, task_args(t), len);
		blob[len] = 0;
		env = blob;
		for (int i = 0; i < t->argc; i++)
			env += strlen(env) + 1;
		t->argv = strings(t, blob, t->argc);
		t->envp = strings(t, env, t->nenv);
	}
	t->tombstones = NULL;
	atomic_store(&t->waits, NULL);
	t->file_locks = 0;
	if (atomic_load(&t->attempt) <= 1)
		forget_crashes(t);
	host_task_start(t);
	t->lock.kind = SH_LOCK_TASK;
	for (int i = 0; i < 2; i++) {
		t->out[i].lock.kind = SH_LOCK_OUTPUT;
		atomic_store(&t->out[i].error, 0);
		atomic_store(&t->out[i].piped, 0);
		atomic_store(&t->out[i].room.kept, 1);
	}
	atomic_store(&t->root_exited, 0);
	t->finishing = 0;
	t->kicks = 0;
	t->witness = 0;
	atomic_store(&t->dead, TASK_DEAD_NO);
	memset(t->per_p, 0, sizeof t->per_p);
	atomic_store(&t->exit_code, -1);
	atomic_store(&t->verdict, 0);
	t->grace_until = t->cancel_next = 0;
	atomic_store(&t->attempt, t->ran + 1);
	atomic_store(&t->again, 0);
	t->message[0] = 0;
	t->root = NULL;
	sh_library_begin(t);
	KILL_POINT("task.start.ready");
	atomic_store(&t->state, TASK_RUNNING);
	KILL_POINT("task.start.running");
	if (blob && t->argv && t->envp) {
		start_root(t);
		return;
	}
	sh_format(t->message, sizeof t->message, "no memory to start the task");
	task_end(t, TASK_CRASHED, 125, 0);
}

/*
 * At most so many Gs of the task are not dead. A maker counts its G before it exists, and an ender after it is
 * dead. Ends are read first; a G whose maker's end is counted is counted itself. So neither a death nor
 * concurrent changes make the result too low.
 */
static uint64_t task_live(const struct task *t)
{
	uint64_t ended = 0, created = 0;

	for (unsigned i = 0; i < P_MAX; i++)
		ended += *(volatile const uint64_t *)&t->per_p[i].ended;
	atomic_thread_fence(memory_order_acquire); /* pairs with g_end, which counts the end after the status is dead */
	for (unsigned i = 0; i < P_MAX; i++)
		created += *(volatile const uint64_t *)&t->per_p[i].created;
	return created - ended;
}

uint64_t task_goroutines(const struct task *t)
{
	uint64_t n = task_live(t);

	return (int64_t)n > 0 ? n : 0; /* while the task is being laid out it may be anything */
}

/* The simulation is single-threaded, so it can check the count. */
static uint64_t task_checked(const struct task *t)
{
	uint64_t live = task_live(t);
#if defined(SHOAL_SIM)
	uint64_t n = 0;

	for (uint64_t i = 1; i < atomic_load(&sched.ngs); i++)
		n += allg(i)->task == t && g_state(allg(i)) != G_DEAD && g_state(allg(i)) != G_IDLE;
	sh_check(n <= live && live < G_MAX);
#endif
	return live;
}

/*
 * The range of Gs to look at. The segment may have a million Gs, while most tasks have none, or only the
 * root.
 */
static uint64_t gs_begin(const struct task *t, uint64_t *end)
{
	uint64_t n = atomic_load(&sched.ngs), live = task_checked(t);

	*end = live == 0 ? 0 : n < G_MAX ? n : G_MAX;
	if (live != 1 || !g_plausible(t->root) || t->root->task != t || g_state(t->root) == G_DEAD)
		return 1;
	*end = g_index(t->root) + 1ul;
	return g_index(t->root);
}

/* Each G of the task that is not dead. */
#define FOR_GS_OF(t, g) \
	for (uint64_t n_, i_ = gs_begin(t, &n_); i_ < n_; i_++) \
		if (atomic_load_explicit(&gtask_slot[i_], memory_order_relaxed) == (t)->slot + 1 && \
		    ((g) = allg(i_))->task == (t) && g_state(g) != G_DEAD && g_state(g) != G_IDLE)

static struct g *find_root(struct task *t)
{
	struct g *g;

	FOR_GS_OF(t, g)
	if (g->flags & GF_ROOT)
		return g;
	return NULL;
}

bool task_has_no_gs(struct task *t)
{
	struct g *g;

	FOR_GS_OF(t, g)
	return false;
	return true;
}

static bool still_runs(struct task *t)
{
	bool some = false;
	struct g *g;

	FOR_GS_OF(t, g)
	{
		uint64_t s = atomic_load(&g->status);
		unsigned state = s & G_STATE;
		int seat = G_OWNER_SEAT(s);

		if (state != G_RUNNING && state != G_COPYSTACK && state != G_SYSCALL)
			continue;
		if (seat <= 0 || seat >= SH_SEATS)
			continue;
		some = true;
		preempt_ask(g);
		host_kick((unsigned)seat);
		if (t->kicks > KICKS_BEFORE_KILL)
			host_kill((unsigned)seat);
	}
	if (some)
		t->kicks++;
	return some;
}

/*
 * What the G waits for ends with the task, except a goroutine's end: that goroutine may belong to another task or
 * end after this G is used again. So leave its list of joiners.
 */
static void leave_join_queue(struct g *g)
{
	struct sudog *sg = &g->sudog;
	void *q = sg->queue;

	if (q >= (void *)allg(0) && q < (void *)allg(G_MAX) && atomic_load(&sg->state) == SG_QUEUED)
		join_forget(q, sg);
	g->waiting = NULL;
	sg->queue = NULL;
	atomic_store(&sg->state, SG_IDLE);
	KILL_POINT("task.reap.unqueued");
}

/* Kills the programs that the task has started, until none is left. One that the kernel cannot end is given up. */
static bool programs_ended(struct task *t)
{
	int64_t now = host_now();

	if (!atomic_load(&t->programs))
		return true;
	if (!t->programs_until)
		t->programs_until = now + PROGRAMS_NS;
	if (sh_offspring_kill(t->id, SIGKILL) && now < t->programs_until)
		return false;
	t->programs_until = 0;
	atomic_store(&t->programs, 0);
	KILL_POINT("task.reap.programs");
	return true;
}

/* A goroutine that ended its task says so by its wait reason (g_lost). The end of the task cancels the others. */
static int how_it_ended(const struct g *g)
{
	return g->waitreason == WAIT_CRASHED ? SHOAL_CRASHED
	       : g->waitreason == WAIT_LOST  ? SHOAL_LOST
					     : SHOAL_CANCELLED;
}

/* False: some goroutine of the task still runs; call again. */
static bool task_reap(struct task *t)
{
	uint32_t left = 0, done = 0;
	size_t used;
	struct g *g;
	int how;

	sh_check(atomic_load(&t->state) == TASK_ENDING);
	if (still_runs(t))
		return false;
	FOR_GS_OF(t, g)
	{
		uint64_t s = atomic_load(&g->status);

		if ((s & G_STATE) == G_WAITING)
			g_rouse(g, G_SEQ(s));
		g->wg = NULL;
		g->mutexes = NULL;
		g->rwheld = 0;
		if (!g_claim(g)) {
			left++;
			continue;
		}
		leave_join_queue(g);
		how = how_it_ended(g);
		g_end_note(g, how, 0, NULL); /* before the reason is cleared: another medic then reads the note */
		g->waitreason = WAIT_ZERO;
		g_end(g, how, 0, NULL);
		atomic_store(&getm->curg, NULL);
		if (++done % REAP_BATCH == 0 && repair_pending())
			return false;
	}
	if (left || !programs_ended(t))
		return false;
	used = t->heap ? sh_heap_used(t->heap) : 0;
	if (!sh_maps_release(t))
		return false;
	t->memory_used = used;
	t->gs = 0;
	for (unsigned i = 0; i < P_MAX; i++)
		t->gs += t->per_p[i].created;
	t->tombstones = NULL;
	if (t->heap)
		old_heaps_add(t->heap);
	if (atomic_load(&t->reserve)) /* only the runtime had blocks of it */
		sh_heap_release(atomic_load(&t->reserve), (unsigned)getm->seat);
	KILL_POINT("task.reap.released");
	atomic_store(&t->reserve, NULL);
	KILL_POINT("task.reap.left");
	t->heap = NULL;
	t->root = NULL;
	netpoll_task_over(t);
	t->ran = atomic_load(&t->attempt);
	/* again: the supervisor resets the globals and queues the task once more. */
	if (atomic_load(&t->again))
		;
	else if (atomic_load(&t->how) == TASK_DONE)
		sched.tasks_done++;
	else if (atomic_load(&t->how) == TASK_CRASHED)
		sched.tasks_crashed++;
	atomic_store(&t->state, TASK_ENDED);
	KILL_POINT("task.reap.ended");
	return true;
}

/* Cancels all goroutines of the task; repeated, for those that are just being made. */
static void cancel_all(struct task *t)
{
	struct g *g;

	FOR_GS_OF(t, g)
	if (!g_cancelled(g))
		g_cancel_mark(g, g->gid);
	host_barrier(); /* pairs with park_m: it has seen the mark, or we see that it waits */
	FOR_GS_OF(t, g)
	g_cancel_wake(g);
}

static void ask_to_end(struct task *t, uint32_t asked)
{
	int64_t now = host_now();

	sh_check(asked != 0);
	if (!t->grace_until) {
		if (atomic_load(&t->programs))
			sh_offspring_kill(t->id, SIGTERM);
		t->grace_until = now + GRACE_NS;
	}
	KILL_POINT("task.grace.begun");
	if ((asked & ASKED_NOW) || now >= t->grace_until || (atomic_load(&t->root_exited) && task_has_no_gs(t))) {
		task_end(t, TASK_DONE, 0, 0);
	} else if (now >= t->cancel_next) {
		t->cancel_next = now + GRACE_NS / 20;
		cancel_all(t);
	}
}

void task_wake_writers(struct task *t)
{
	for (int i = 0; i < 2; i++) {
		struct task_room *r = &t->out[i].room;
		uint32_t raised = atomic_load_explicit(&r->raised, memory_order_acquire);

		if (raised == atomic_load_explicit(&r->woken, memory_order_relaxed))
			continue;
		semtable_wake_in(t, &r->limit, true);
		atomic_store_explicit(&r->woken, raised, memory_order_relaxed);
		KILL_POINT("task.writers.woken");
	}
}

bool task_step(struct task *t, bool *news)
{
	uint32_t asked = atomic_load(&t->cancel);

	switch (atomic_load(&t->state)) {
	case TASK_QUEUED:
		task_start(t);
		*news = true;
		return true;
	case TASK_RUNNING:
		find_or_start_root(t);
		task_wake_writers(t);
		sh_library_wake(t);
		if (atomic_load(&t->verdict))
			task_settle(t);
		else if (asked)
			ask_to_end(t, asked);
		else if (atomic_load(&t->root_exited) && task_has_no_gs(t))
			finish(t);
		return true;
	case TASK_ENDING:
		if (!task_reap(t))
			return true;
		*news = true;
		return atomic_load(&t->again) != 0;
	case TASK_ENDED: return atomic_load(&t->again) != 0;
	default: return false;
	}
}

void task_tombstone(struct task *t, uint64_t gid, int how, int sig, void *address, int attempts)
{
	unsigned seat = (unsigned)getm->seat;
	struct tombstone *s;

	sh_check(how != SHOAL_DONE);
	if (!t->heap || atomic_load(&t->state) != TASK_RUNNING)
		return;
	s = sh_heap_alloc(t->heap, seat, getp() ? getp()->id : SH_HEAP_NOCPU, sizeof *s, 0, false);
	if (!s)
		s = task_alloc_reserved(t, sizeof *s);
	if (!s)
		return;
	*s = (struct tombstone){NULL, gid, {how, sig, address, attempts}};
	sh_lock_take(&t->lock, seat);
	s->next = t->tombstones;
	t->tombstones = s;
	KILL_POINT("task.tombstone.listed");
	sh_lock_drop(&t->lock, seat);
}

bool task_tombstone_find(struct task *t, uint64_t gid, struct shoal_end *end)
{
	unsigned seat = (unsigned)getm->seat;
	struct tombstone *s;

	if (!t->tombstones)
		return false;
	sh_lock_take(&t->lock, seat);
	for (s = t->tombstones; s && s->gid != gid; s = s->next)
		;
	if (s)
		*end = s->end;
	sh_lock_drop(&t->lock, seat);
	return s != NULL;
}
