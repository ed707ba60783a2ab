/*
 * stacks.c - which stack the caller stands on.
 *
 * A goroutine runs on its window, and on any other memory that the program has made a stack of: by
 * makecontext, by sigaltstack, by code of its own. Such memory is the task's and is the same in every
 * worker, so the frames on it stay where they are when the goroutine parks; only the frames in its window
 * are saved. How deep those are is not known then, so the goroutine parks from the bottom of its window.
 *
 *	window:	bottom	registers of the park	<- g->sp
 *			...
 *		top	frames of the goroutine
 *	other:		frames of the coroutine that has called
 *
 * Everything here is private to the process.
 */
#include "worker/stacks.h"
#include "shm/check.h"
#include "shm/segment.h"
#include "worker/worker.h"

#define PRIVATE_MAX 4

static const void *worker_thread;
static struct {
	uintptr_t low;
	size_t n;
} private[PRIVATE_MAX];
static unsigned nprivate;

static const void *this_thread(void)
{
	const void *self;

	__asm__("mov %%fs:0, %0" : "=r"(self));
	return self;
}

void stacks_start(void)
{
	worker_thread = this_thread();
	nprivate = 0;
}

void stack_private(const void *low, size_t n)
{
	sh_check(nprivate < PRIVATE_MAX);
	private[nprivate].low = (uintptr_t)low;
	private[nprivate++].n = n;
}

bool on_worker_thread(void)
{
	return this_thread() == worker_thread;
}

__attribute__((noinline)) bool host_on_other_stack(void)
{
	uintptr_t sp = (uintptr_t)__builtin_frame_address(0);

	if (!worker_thread || !getm || !atomic_load_explicit(&getm->oncpu, memory_order_relaxed) || !on_worker_thread())
		return false;
	for (unsigned i = 0; i < nprivate; i++)
		if (sp - private[i].low < private[i].n)
			return false;
	return true;
}

size_t stack_guard(uint32_t w, size_t stack_max)
{
	size_t size = host_window_size(w);

	if (win_of_thread(w))
		return 0;
	return stack_max + 2 * SH_PAGE < size ? size - stack_max - 2 * SH_PAGE : 0;
}

uintptr_t stack_bottom(const struct g *g)
{
	size_t guard = stack_guard(g->win, g->stack_max);

	return (uintptr_t)host_window(g->win) + (guard ? guard + SH_PAGE : 0);
}

/* ---- the switch ---- */

static char *g0_top;

struct park {
	struct g *(*fn)(struct g *);
};

void stack_g0(char *top)
{
	g0_top = top;
}

static void park_from_window(void *arg)
{
	sh_mcall(getg(), ((struct park *)arg)->fn, g0_top);
}

static __attribute__((noinline)) void park_from_other(struct g *g, struct g *(*fn)(struct g *))
{
	struct park park = {fn};

	sh_call_on((char *)stack_bottom(g) + SH_PAGE, park_from_window, &park);
}

void host_mcall(struct g *(*fn)(struct g *))
{
	struct g *g = getg();

	if (__builtin_expect(!in_window(g, __builtin_frame_address(0)), 0))
		park_from_other(g, fn);
	else
		sh_mcall(g, fn, g0_top);
}

void host_mexit(struct g *(*fn)(struct g *))
{
	sh_mexit(getg(), fn, g0_top);
}
