/* gfree.c - the free lists of Gs: 64 and 32, and none is lost or there twice. */
#include "tests/sim/white.h"
#include "core/g/g.h"
#include "core/root.h"
#include "core/sched/m.h"
#include "core/sched/p.h"

#include <string.h>

#define MADE 600

static struct p *at(unsigned id)
{
	getm = allm((int)id + 1);
	return allp(id);
}

static uint32_t length(const struct g *g, unsigned char *seen)
{
	uint32_t n = 0;

	for (; g && n <= MADE; g = g->schedlink, n++)
		if (seen)
			seen[g_index(g)]++;
	return n;
}

static void put(struct g *g)
{
	atomic_store(&g->status, G_MAKE(G_DEAD, 0));
	gfput(g);
}

static struct g *get(void)
{
	struct g *g = gfget();

	getm->note.g = NULL; /* as newproc does once it has its place */
	return g;
}

static void set_up(void)
{
	white_begin(2, MADE);
	white_p(0, 1);
	white_p(1, 2);
	at(0);
}

static bool a_full_list_keeps_32_and_gives_32_away(void)
{
	struct p *p;

	set_up();
	p = at(0);
	for (uint32_t i = 1; i < GFREE_MAX; i++)
		put(allg(i));
	MUST(GFREE_MAX == 64 && p->ngfree == 63 && length(p->gfree, NULL) == 63 && !sched.gfree);
	put(allg(GFREE_MAX));
	MUST(p->ngfree == 32 && length(p->gfree, NULL) == 32);
	MUST(length(sched.gfree, NULL) == 32);
	/* The last that came are the first that go: they are hot. */
	MUST(get() && p->ngfree == 31);
	return true;
}

static bool an_empty_list_is_filled_to_32_from_the_global_one(void)
{
	struct p *p;
	struct g *g;

	set_up();
	at(0);
	for (uint32_t i = 1; i <= 96; i++)
		put(allg(i));
	MUST(length(sched.gfree, NULL) == 64 && allp(0)->ngfree == 32);
	p = at(1);
	g = get();
	MUST(g && p->ngfree == 31 && length(p->gfree, NULL) == 31); /* 32 came, one of them went */
	MUST(length(sched.gfree, NULL) == 32);
	for (unsigned i = 0; i < 31; i++)
		MUST(get());
	MUST(p->ngfree == 0 && length(sched.gfree, NULL) == 32);
	MUST(get() && p->ngfree == 31 && !sched.gfree && length(sched.gfree, NULL) == 0);
	return true;
}

/* Nothing anywhere: one is made, and only then. */
static bool one_is_made_only_when_none_is_free(void)
{
	uint64_t made;
	struct g *g;

	set_up();
	made = atomic_load(&sched.ngs);
	g = get();
	MUST(g == allg(MADE + 1) && atomic_load(&sched.ngs) == made + 1 && g_state(g) == G_DEAD);
	put(g);
	MUST(get() == g && atomic_load(&sched.ngs) == made + 1);
	return true;
}

/* A P that goes out of use gives all of its own away. */
static bool a_p_that_goes_keeps_none(void)
{
	struct p *p;

	set_up();
	p = at(0);
	for (uint32_t i = 1; i <= 40; i++)
		put(allg(i));
	gfpurge(p);
	MUST(!p->gfree && p->ngfree == 0 && length(sched.gfree, NULL) == 40);
	return true;
}

/* Two Ps and one without any, at random: each G is in one place, and the counts are the lengths. */
static bool none_is_lost_and_none_is_there_twice(void)
{
	static unsigned char seen[MADE + 2];
	static struct g *out[MADE + 1];
	unsigned nout = 0;

	set_up();
	for (uint32_t i = 1; i <= MADE; i++)
		out[nout++] = allg(i);
	for (unsigned i = 0; i < 50000; i++) {
		unsigned who = sim_below(8),
			 up = i / 500 % 2 ? 3 : 6; /* more of the one kind, then more of the other */

		getm = who == 7 ? allm(3) : allm(1 + (int)(who & 1)); /* the third has no P */
		if (sim_below(9) < up) {
			if (nout < 300)
				continue;
			unsigned k = sim_below(nout);

			put(out[k]);
			out[k] = out[--nout];
		} else if (nout + 2 * GFREE_MAX <
			   MADE) { /* otherwise the free ones may be on the list of the other P */
			struct g *g = get();

			MUST(g && g_index(g) <= MADE);
			out[nout++] = g;
		}
		MUST(allp(0)->ngfree < GFREE_MAX && allp(1)->ngfree < GFREE_MAX);
		if (i % 100)
			continue;
		memset(seen, 0, sizeof seen);
		MUST(length(allp(0)->gfree, seen) == allp(0)->ngfree);
		MUST(length(allp(1)->gfree, seen) == allp(1)->ngfree);
		length(sched.gfree, seen);
		for (unsigned k = 0; k < nout; k++)
			seen[g_index(out[k])]++;
		for (uint32_t g = 1; g <= MADE; g++)
			MUST(seen[g] == 1);
	}
	MUST(atomic_load(&sched.ngs) == MADE + 1);
	return true;
}

unsigned gfree_tests(void)
{
	return WHITE_RUN("gfree", a_full_list_keeps_32_and_gives_32_away,
			 an_empty_list_is_filled_to_32_from_the_global_one, one_is_made_only_when_none_is_free,
			 a_p_that_goes_keeps_none, none_is_lost_and_none_is_there_twice);
}
