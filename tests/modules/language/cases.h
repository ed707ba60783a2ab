/*
 * cases.h - for modules that are lists of cases: each prints "ok NAME" or "FAIL NAME: what", and
 * the number of failures is the exit code.
 *
 * With the argument "killed" workers may die under them. The goroutines of a case are isolated and
 * have one attempt; when some were lost, only what must hold then is checked (nothing twice, nothing
 * torn, no two holders), and those that would wait for the lost ones are cancelled after a while.
 */
#ifndef TESTS_MODULES_CASES_H
#define TESTS_MODULES_CASES_H

#include <errno.h>
#include "core/shoal.h"
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS 1000000l
#define PATIENCE_MS 400
#define GROUP_MAX 128

static int cases_killed, cases_failed, cases_lost;
static const char *case_name;
static atomic_int case_bad, group_left;
static shoal_gid group[GROUP_MAX];
static int group_n;

/* Must hold even if workers die. */
#define MUST(cond) \
	do { \
		if (!(cond) && !atomic_fetch_add(&case_bad, 1)) \
			printf("FAIL %s: line %d: %s\n", case_name, __LINE__, #cond); \
	} while (0)
/* Must hold if no goroutine was lost. */
#define WANT(cond) \
	do { \
		if (!cases_lost) \
			MUST(cond); \
	} while (0)

struct member {
	void (*fn)(void *);
	_Alignas(16) char arg[32];
};

static inline void member_main(void *p)
{
	struct member *m = p;

	m->fn(m->arg);
	atomic_fetch_sub(&group_left, 1);
}

/* A goroutine of the case. */
static inline void spawn(void (*fn)(void *), const void *arg, size_t size)
{
	struct shoal_go_opts o = {.name = case_name, .flags = SHOAL_ISOLATED, .attempts = 1};
	struct member m = {.fn = fn};

	if (size)
		memcpy(m.arg, arg, size);
	atomic_fetch_add(&group_left, 1);
	group[group_n] = shoal_go_with(&o, member_main, &m, sizeof m);
	if (!group[group_n])
		printf("%s: not started: %s\n", case_name, strerror(errno));
	MUST(group[group_n]);
	group_n++;
}

static inline void spawn_n(void (*fn)(void *), int n)
{
	for (int i = 0; i < n; i++)
		spawn(fn, &i, sizeof i);
}

/* All have ended. How many were lost since the case began. */
static inline int finish(void)
{
	struct shoal_end end;

	if (cases_killed) {
		for (int i = 0; i < PATIENCE_MS && atomic_load(&group_left) > 0; i++)
			shoal_sleep(MS);
		for (int i = 0; i < group_n && atomic_load(&group_left) > 0; i++)
			shoal_cancel(group[i]);
	}
	for (int i = 0; i < group_n; i++) {
		MUST(shoal_join(group[i], &end) == 0);
		if (end.how == SHOAL_LOST)
			cases_lost++;
		else
			MUST(end.how == SHOAL_DONE || (end.how == SHOAL_CANCELLED && cases_killed));
		if (end.how == SHOAL_CANCELLED)
			cases_lost++; /* it waited for one */
	}
	group_n = 0;
	atomic_store(&group_left, 0);
	return cases_lost;
}

static inline void run_case(const char *name, void (*fn)(void))
{
	case_name = name;
	cases_lost = 0;
	atomic_store(&case_bad, 0);
	fn();
	finish();
	if (atomic_load(&case_bad))
		cases_failed++;
	else if (cases_lost)
		printf("ok %s, %d lost\n", name, cases_lost);
	else
		printf("ok %s\n", name);
}

#define RUN(name) run_case(#name, name)

static inline void cases_begin(int argc, char **argv)
{
	cases_killed = argc > 1 && strcmp(argv[1], "killed") == 0;
}

#endif
