/*
 * stack.c - windows and images: where the frames of a G are, and how they move.
 *
 *   worker 3, window w        image of G            worker 5, window w
 *   +-----------------+   displace    +--------+
 *   | frames of G     | ------------> | frames |
 *   |                 |   res: IMAGE  +--------+
 *   +-----------------+                    |  stack_enter, res: 5   +-----------------+
 *           |                              +----------------------> | frames of G     |
 *           +------- stack_enter from the other's region ---------> |                 |
 *                                                                   +-----------------+
 *
 * Two facts are kept apart: m->occ[w] says whose frames this worker put into window w last; the G says
 * where its frames are (g->res, g->win). The frames are in a window only if both agree.
 *
 * LOCK   the scan bit guards the frames of a G that does not run. Displacing a G and entering it exclude
 *        each other, because the worker that enters it has claimed it
 * A thread's stack (tstack.h) is in no window: it has no image, is never displaced, and RES_IMAGE says that its frames
 * are where they always are, and that no worker has it yet.
 *
 * DEATH  displacing: the window keeps the frames until g->res says image. Entering: the source keeps
 *        them until g->res names this seat. Growing: g->image and g->image_cap are read only of a G
 *        that does not run, and this one was running
 */
#include "core/g/stack.h"
#include "core/g/g.h"
#include "core/g/life.h"
#include "core/g/tstack.h"
#include "core/host.h"
#include "core/root.h"
#include "core/sched/m.h"
#include "core/sched/p.h"
#include "core/task/task.h"
#include "shm/check.h"
#include "shm/heap.h"
#include "shm/kill.h"
#include "shm/lock.h"
#include "shm/segment.h"

#include <string.h>

#define IMAGE_MIN 256u
#define SHRINK_FROM 2048u

/*
 * Tops are staggered within a page. Otherwise the hot ends of all windows would share a few sets of the
 * first-level cache.
 */
char *stack_top(uint32_t win)
{
	if (win >= WIN_THREADS) /* less, so that a thread that waits needs one page */
		return host_window(win) + host_window_size(win) - (win % 7) * 256;
	return host_window(win) + host_window_size(win) - (win % 15) * 256;
}

/* Bytes of stack that a G uses which does not run. SIZE_MAX: its sp is not in its window. */
static size_t used_of(const struct g *g)
{
	size_t used;

	if (!win_valid(g->win))
		return SIZE_MAX;
	used = (size_t)(stack_top(g->win) - g->sp);
	if (win_of_thread(g->win))
		return used <= host_window_size(g->win) ? used : SIZE_MAX;
	return used <= (size_t)(stack_top(g->win) - host_window(g->win)) && used <= g->stack_max + 65536ul ? used
													   : SIZE_MAX;
}

bool stack_whole(const struct g *g)
{
	return used_of(g) != SIZE_MAX;
}

/* True if the frames can be copied to or from the image. No more than this is ever read. */
static bool fits_image(const struct g *g, size_t used)
{
	return used <= g->image_cap && g->image && sh_in_segment(g->image);
}

static bool frames_in_window(const struct m *m, const struct g *g, uint32_t win)
{
	return g && g_plausible(g) && g->win == win &&
	       atomic_load_explicit(&((struct g *)g)->res, memory_order_acquire) == m->seat;
}

void windows_init(struct m *m)
{
	sh_check(m == getm);
	m->nwfree = 0;
	for (uint32_t w = HOST_WINDOWS; w-- > 0;)
		if (!frames_in_window(m, m->occ[w], w)) {
			m->occ[w] = NULL;
			m->wfree[m->nwfree++] = (uint16_t)w;
		}
	tstack_forget_seat(m->seat);
}

static uint32_t pick_window(struct m *m, const struct g *g)
{
	uint32_t w;

	sh_check(g->win == WIN_NONE);
	if (g->stack_max > WIN_SIZE) {
		for (w = WIN_COUNT; w < WIN_ALL; w++)
			if (!frames_in_window(m, m->occ[w], w))
				return w;
		return WIN_COUNT + (m->whand++ % WIN_LARGE_COUNT);
	}
	while (m->nwfree > 0) {
		w = m->wfree[--m->nwfree];
		if (!frames_in_window(m, m->occ[w], w))
			return w;
	}
	return m->whand++ % HOST_WINDOWS;
}

/*
 * Moves the frames of g, which this worker has claimed, from another worker's window to the image. So
 * nobody waits for us: two workers that each claimed a G in a window of the other would wait for ever.
 */
static void move_to_image(struct m *m, struct g *g)
{
	int res = atomic_load_explicit(&g->res, memory_order_acquire);
	size_t used;

	if (res < 0 || res == m->seat)
		return;
	used = used_of(g);
	if (res < SH_SEATS && fits_image(g, used)) /* otherwise the G is damaged, which stack_enter finds */
		memcpy(g->image, host_region((unsigned)res, g->win) + (g->sp - host_window(g->win)), used);
	KILL_POINT("stack.letgo.copied");
	atomic_store_explicit(&g->res, RES_IMAGE, memory_order_release);
	KILL_POINT("stack.letgo.moved");
}

/* Moves the frames of the occupant out of the window, so that g can use it. */
static void displace(struct m *m, uint32_t win, struct g *g)
{
	struct g *o = m->occ[win];

	sh_check(win < WIN_ALL);
	sh_check(m->occ[win] != g);
	while (frames_in_window(m, o, win)) {
		if (g_scan_lock(o)) {
			if (frames_in_window(m, o, win) && o->sp) {
				size_t used = used_of(o);

				if (fits_image(o, used)) /* otherwise the G is damaged, which stack_enter finds */
					memcpy(o->image, host_here(o->sp), used);
				KILL_POINT("stack.displace.copied");
				atomic_store_explicit(&o->res, RES_IMAGE, memory_order_release);
				KILL_POINT("stack.displace.moved");
			}
			g_scan_unlock(o);
		} else if (g_state(o) == G_DEAD) {
			break;
		} else { /* another worker has claimed the occupant and is copying its frames from this window */
			move_to_image(m, g);
			sh_pause(1);
			KILL_POINT("stack.displace.wait");
		}
	}
	m->occ[win] = NULL;
}

/* The frames are there already: sets the guard, and the seat where they are guarded. */
static void enter_thread(struct m *m, struct g *g, int res)
{
	host_window_guard(g->win, g->stack_max);
	if (res == RES_NONE)
		return;
	if (used_of(g) == SIZE_MAX)
		host_stack_damaged(g);
	if (res >= 0) {
		g->migrations++;
		getp()->migrations++;
	}
	atomic_store_explicit(&g->res, m->seat, memory_order_release);
	KILL_POINT("stack.enter.thread");
}

void stack_enter(struct g *g)
{
	struct m *m = getm;
	int res = atomic_load_explicit(&g->res, memory_order_acquire);
	uint32_t w = g->win;
	const char *from;
	size_t used;

	sh_check(g_state(g) == G_RUNNING);
	if (res == m->seat)
		return;
	if (win_of_thread(w)) {
		enter_thread(m, g, res);
		return;
	}
	if (w >= WIN_ALL && w != WIN_NONE)
		host_stack_damaged(g);
	if (w == WIN_NONE) {
		w = pick_window(m, g);
		g->win = w;
		KILL_POINT("stack.enter.bound");
	}
	if (m->occ[w] && m->occ[w] != g)
		displace(m, w, g);
	m->occ[w] = g;
	KILL_POINT("stack.enter.occupied");
	host_window_guard(w, g->stack_max);
	if (res == RES_NONE)
		return; /* it has no frames yet; sh_first makes them */
	/* displace() may have moved the frames to the image */
	res = atomic_load_explicit(&g->res, memory_order_relaxed);
	used = used_of(g);
	if (used == SIZE_MAX || res >= SH_SEATS || (res == RES_IMAGE && !fits_image(g, used)))
		host_stack_damaged(g);
	if (res == RES_IMAGE) {
		from = g->image;
	} else {
		from = host_region((unsigned)res, w) + (g->sp - host_window(w));
		g->migrations++;
		getp()->migrations++;
	}
	memcpy(host_here(g->sp), from, used);
	KILL_POINT("stack.enter.copied");
	atomic_store_explicit(&g->res, m->seat, memory_order_release);
	KILL_POINT("stack.enter.here");
}

static size_t block_for(size_t used)
{
	size_t n = IMAGE_MIN;

	while (n < used && n < 2048)
		n *= 2;
	if (n >= used)
		return n;
	/* Above 2 KiB the steps are finer than doubling: an eighth of the power of two below. */
	while (n * 2 <= used)
		n *= 2;
	n /= 8;
	return (used + n - 1) / n * n;
}

/*
 * Running -> copystack -> running: takes a block that can hold the frames. The frames stay in the
 * window and are copied only when they are displaced, which for most goroutines never happens. Called
 * on g0 before the G parks, so displacing never allocates.
 */
static __attribute__((noinline)) bool fit_image(struct g *g, size_t used)
{
	struct p *p = getp();
	struct m *m = getm;
	char *new, *old;
	size_t want;

	sh_check(m == getm);
	if (!stack_whole(g))
		return false;
	if (win_of_thread(g->win))
		return true;
	want = block_for(used <= g->image_cap ? used * 2 : used);
	if (want < 2 * g->image_cap && used > g->image_cap)
		want = block_for(2 * g->image_cap);
	new = sh_heap_alloc(g->task->heap, (unsigned)m->seat, p ? p->id : SH_HEAP_NOCPU, want, 0, false);
	if (!new) { /* the limit is reached: take only what is needed, from the runtime's reserve */
		if (used <= g->image_cap)
			return true;
		new = task_alloc_reserved(g->task, block_for(used));
		if (!new)
			return false;
	}
	casgstatus(g, G_RUNNING, G_COPYSTACK);
	old = g->image;
	if (want <
	    g->image_cap) { /* lower it before the smaller block is in place: after a death repair trusts this number */
		g->image_cap = (uint32_t)want;
		sh_noted();
		KILL_POINT("stack.shrink.cap");
	}
	g->image = new;
	sh_noted();
	KILL_POINT("stack.grow.block");
	g->image_cap = (uint32_t)sh_heap_usable(sh_root->arena, new);
	g->life_stack = life_size(g->image_cap);
	KILL_POINT("stack.grow.cap");
	if (old) {
		sh_heap_free(sh_root->arena, (unsigned)m->seat, p ? p->id : SH_HEAP_NOCPU, old);
		g->grows++;
		if (p)
			p->grows++;
	}
	casgstatus(g, G_COPYSTACK, G_RUNNING);
	return true;
}

bool stack_fit(struct g *g)
{
	size_t used = (size_t)(stack_top(g->win) - g->sp);

	/* An sp outside of the window gives a huge number here. */
	if (__builtin_expect(used <= g->image_cap && (g->image_cap < SHRINK_FROM || used >= g->image_cap / 4), 1))
		return true;
	return fit_image(g, used);
}

/* At the end of a G, or of its run: frees its block and its window. A thread keeps its stack for another run. */
void stack_free(struct g *g)
{
	struct m *m = getm;
	struct p *p = getp();
	char *old = g->image;
	uint32_t w = g->win;

	sh_check(g->win == WIN_NONE || win_valid(g->win));
	g->image_cap = 0;
	g->life_stack = 0;
	g->image = NULL;
	sh_noted();
	KILL_POINT("stack.free.block");
	if (old && sh_heap_usable(sh_root->arena, old))
		sh_heap_free(sh_root->arena, (unsigned)m->seat, p ? p->id : SH_HEAP_NOCPU, old);
	atomic_store_explicit(&g->res, RES_NONE, memory_order_release);
	if (!win_of_thread(w))
		g->win = WIN_NONE;
	g->sp = NULL;
	KILL_POINT("stack.free.none");
	if (w < WIN_COUNT && p && m->occ[w] == g) {
		m->occ[w] = NULL;
		/*
		 * The window freed last is taken next, because it is hot. A window listed twice is harmless:
		 * pick_window checks.
		 */
		if (m->nwfree < WIN_COUNT)
			m->wfree[m->nwfree++] = (uint16_t)w;
	}
}
