/*
 * waitq.c - wait queues: each change is stopped after each of its stores and repaired; the repair is stopped
 * likewise and done again. Then the queue is whole, in its state before or after the change.
 */
#include "tests/sim/white.h"
#include "core/g/g.h"
#include "core/sync/waitq.h"

#include <setjmp.h>
#include <string.h>

#define MOST 5

enum op { PUSH, POP, UNPOP, REMOVE };

static jmp_buf cut;
static unsigned points; /* that are still passed before it is cut short */

static void cut_short(const char *name)
{
	(void)name;
	if (points-- == 0)
		longjmp(cut, 1);
}

static struct sudog *waiter(unsigned i)
{
	return &allg(i + 1)->sudog;
}

static bool change(struct waitq *q, enum op op, unsigned n, unsigned at, unsigned after)
{
	points = after;
	sim_probe = cut_short;
	if (setjmp(cut) == 0) {
		switch (op) {
		case PUSH: waitq_push(q, waiter(n)); break;
		case POP: waitq_pop(q); break;
		case UNPOP: waitq_push_first(q, waiter(n)); break;
		case REMOVE: waitq_remove(q, waiter(at)); break;
		}
		sim_probe = NULL;
		return true;
	}
	sim_probe = NULL;
	return false;
}

static bool mend(struct waitq *q, struct sudog *touched, unsigned after)
{
	points = after;
	sim_probe = cut_short;
	if (setjmp(cut) == 0) {
		waitq_relink_near(q, touched);
		waitq_relink_ends(q);
		sim_probe = NULL;
		return true;
	}
	sim_probe = NULL;
	return false;
}

/* Whole, and its members are as in want. */
static bool is(const struct waitq *q, const char *want)
{
	const struct sudog *prev = NULL;

	for (const struct sudog *s = q->first; s; s = s->next) {
		if (!*want || s != waiter((unsigned)(*want++ - 'a')) || s->prev != prev || !waitq_has(q, s))
			return false;
		prev = s;
	}
	return !*want && q->last == prev;
}

static void build(struct waitq *q, unsigned n)
{
	memset(q, 0, sizeof *q);
	for (unsigned i = 0; i < MOST + 1; i++)
		waiter(i)->next = waiter(i)->prev = NULL;
	/* Earlier waiters have left the queue; their pointers are still set. */
	waitq_push(q, waiter(n));
	for (unsigned i = 0; i < n; i++)
		waitq_push(q, waiter(i));
	waitq_pop(q);
}

static bool all_cuts(enum op op, unsigned n, unsigned at)
{
	struct sudog *touched = waiter(op == POP ? 0 : op == REMOVE ? at : n);
	char before[MOST + 2] = "", after[MOST + 2] = "";
	struct waitq q;
	bool done = false;

	for (unsigned i = 0; i < n; i++)
		before[i] = (char)('a' + i);
	strcpy(after, before);
	if (op == PUSH)
		after[n] = (char)('a' + n);
	else if (op == UNPOP)
		memmove(after + 1, before, n + 1), after[0] = (char)('a' + n);
	else
		memmove(after + (op == POP ? 0 : at), before + (op == POP ? 0 : at) + 1, n - (op == POP ? 0 : at));
	for (unsigned k = 0; !done; k++) {
		bool mended = false;

		for (unsigned m = 0; !mended; m++) {
			build(&q, n);
			done = change(&q, op, n, at, k);
			mended = mend(&q, touched, m);
			if (!mended)
				MUST(mend(&q, touched, 100));
			MUST(is(&q, after) || (!done && is(&q, before)));
		}
	}
	return true;
}

static bool one_that_comes(void)
{
	for (unsigned n = 0; n < MOST; n++)
		MUST(all_cuts(PUSH, n, 0));
	return true;
}

static bool one_that_goes(void)
{
	for (unsigned n = 1; n < MOST; n++)
		MUST(all_cuts(POP, n, 0));
	return true;
}

static bool one_that_comes_back(void)
{
	for (unsigned n = 0; n < MOST; n++)
		MUST(all_cuts(UNPOP, n, 0));
	return true;
}

static bool one_that_gives_up(void)
{
	for (unsigned n = 1; n < MOST; n++)
		for (unsigned at = 0; at < n; at++)
			MUST(all_cuts(REMOVE, n, at));
	return true;
}

unsigned waitq_tests(void)
{
	white_begin(1, MOST + 2);
	return WHITE_RUN("waitq", one_that_comes, one_that_goes, one_that_comes_back, one_that_gives_up);
}
