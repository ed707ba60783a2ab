/*
 * sim_stack.c - stacks of the simulation.
 *
 * A goroutine's body runs on a stack that never moves. Its window has no frames but a pattern of the same size:
 * written when the goroutine leaves its worker and compared when it goes on. So migration, displacement and growth
 * are checked byte for byte.
 */
#undef _FORTIFY_SOURCE /* its longjmp allows one stack only */
#include "core/g/stack.h"
#include "core/g/tstack.h"
#include "core/g/g.h"
#include "core/g/life.h"
#include "core/host.h"
#include "core/sched/m.h"
#include "core/sched/proc.h"
#include "shm/segment.h"
#include "tests/sim/sim.h"
#include "tests/sim/sim_worker.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

#define BODIES 4096
#define BODY_STACK (128ul << 10)

struct body {
	struct sim_stack stack;
	jmp_buf here;
	struct g *g;
	char *sp;
	uint64_t pattern, parks;
};

uint32_t sim_windows = 4;
uint64_t sim_entered;
jmp_buf sim_stack_maker;

static struct body body[BODIES];
static struct body *making;

/* ---- stacks ---- */

void sim_stack_make(struct sim_stack *s, size_t size, void (*fn)(void))
{
	ucontext_t u;

	s->at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (s->at == MAP_FAILED)
		sim_fail("no memory for a stack");
	s->size = size;
	getcontext(&u);
	u.uc_stack.ss_sp = s->at;
	u.uc_stack.ss_size = size;
	u.uc_link = NULL;
	makecontext(&u, fn, 0);
	if (!_setjmp(sim_stack_maker))
		setcontext(&u);
}

void sim_stack_enter(struct sim_stack *s)
{
#ifdef __SANITIZE_ADDRESS__
	/* Frames that were left by a jump have marks around their variables, where new frames will be. */
	__asan_unpoison_memory_region(s->at, s->size);
#endif
	_longjmp(s->base, 1);
}

/* ---- windows ---- */

char *host_window(uint32_t w)
{
	if (win_of_thread(w))
		return tstack_low(w);
	if (w < WIN_COUNT)
		return (char *)SH_WIN_BASE + (uint64_t)w * WIN_SIZE;
	return (char *)SH_WIN_BASE + WIN_COUNT * WIN_SIZE + (uint64_t)(w - WIN_COUNT) * WIN_LARGE_SIZE;
}

size_t host_window_size(uint32_t w)
{
	if (win_of_thread(w))
		return tstack_class_of(w)->size;
	return w < WIN_COUNT ? WIN_SIZE : WIN_LARGE_SIZE;
}

char *host_region(unsigned seat, uint32_t w)
{
	if (win_of_thread(w))
		return tstack_low(w);
	return (char *)sh_at(SH_OFF_WINDOWS) + seat * SH_REGION + (host_window(w) - (char *)SH_WIN_BASE);
}

char *host_here(const void *at)
{
	if (sh_in_stacks(at))
		return (char *)at;
	return (char *)sh_at(SH_OFF_WINDOWS) + getm->seat * SH_REGION + ((uintptr_t)at - SH_WIN_BASE);
}

void host_window_guard(uint32_t win, size_t stack_max)
{
	(void)win;
	(void)stack_max;
}

/* ---- bodies of goroutines ---- */

static size_t some_depth(void)
{
	unsigned r = sim_below(100);

	return 16 * (size_t)(r < 80 ? 4 + sim_below(60) : r < 98 ? 16 + sim_below(256) : 64 + sim_below(4032));
}

void host_mexit(struct g *(*fn)(struct g *))
{
	sim_cur->fn = fn;
	sim_cur->g = getg();
	sim_stack_enter(&sim_cur->g0);
}

void host_mcall(struct g *(*fn)(struct g *))
{
	struct g *g = getg();
	struct body *b = &body[g_index(g)];
	uint64_t *at, *top = (uint64_t *)host_here(stack_top(g->win)), v;

	if (_setjmp(b->here))
		return;
	b->pattern = v = sim_rand();
	b->parks++;
	b->sp = g->sp = stack_top(g->win) - some_depth();
	for (at = (uint64_t *)host_here(g->sp); at < top; at++)
		*at = v += 0x9e3779b97f4a7c15u;
	sim_cur->fn = fn;
	sim_cur->g = g;
	sim_stack_enter(&sim_cur->g0);
}

static _Noreturn void resume_body(struct g *g)
{
	struct body *b = &body[g_index(g)];
	uint64_t v = b->pattern, *top = (uint64_t *)host_here(stack_top(g->win));

	if (g->sp != b->sp || b->g != g)
		sim_fail("G %u resumes with another stack pointer", g_index(g));
	for (uint64_t *at = (uint64_t *)host_here(g->sp); at < top; at++) {
		if (*at != (v += 0x9e3779b97f4a7c15u))
			sim_fail("G %u, park %lu: its frames have changed, %ld bytes from the top", g_index(g),
				 (unsigned long)b->parks, (long)((char *)top - (char *)at));
		*at = ~*at; /* frames change while it runs: this makes every older copy wrong */
	}
	_longjmp(b->here, 1);
}

static void run_body(void)
{
	SIM_STACK_BEGIN(&making->stack);
	gmain(body[g_index(getg())].g);
	abort();
}

static _Noreturn void begin_body(struct g *g)
{
	struct body *b = &body[g_index(g)];

	if (g_index(g) >= BODIES)
		sim_fail("too many goroutines");
	if (!b->stack.size) {
		making = b;
		sim_stack_make(&b->stack, BODY_STACK, run_body);
	}
	b->g = g;
	b->parks = 0;
	sim_stack_enter(&b->stack);
}

void sim_g_enter(struct g *g)
{
	sim_entered++;
	if (g->sp)
		resume_body(g);
	begin_body(g);
}
