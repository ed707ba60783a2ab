/*
 * net.h - for modules that are cases of POSIX on goroutines: shoal run MODULE.so CASE prints "ok", or
 * the line that did not hold.
 */
#ifndef TESTS_MODULES_NET_H
#define TESTS_MODULES_NET_H

#include "core/shoal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MUST(cond) \
	do { \
		if (!(cond)) { \
			printf("%s line %d: %s (errno %d: %s)\n", net_at, __LINE__, #cond, errno, strerror(errno)); \
			exit(1); \
		} \
	} while (0)
#define MS 1000000

static const char *net_at __attribute__((unused)) = ""; /* the current step of the case */

struct net_case {
	const char *name;
	void (*fn)(void);
};

static inline int net_run(int argc, char **argv, const struct net_case *cases, size_t n)
{
	for (size_t i = 0; argc > 1 && i < n; i++)
		if (!strcmp(argv[1], cases[i].name)) {
			cases[i].fn();
			puts("ok");
			return 0;
		}
	return 2;
}
#define NET_RUN(argc, argv, cases) net_run(argc, argv, cases, sizeof(cases) / sizeof *(cases))

#endif
