/*
 * hidden.h - state of a task that libc keeps in variables without a name: generators of random numbers,
 * conversion states, buffers of functions that return a pointer, the settings of syslog.
 *
 * libc has one copy for each process, and a task runs in several. So the stand-ins keep the task's copy in a
 * block of its heap and call libc's functions with explicit state (random_r, drand48_r, ...). The table in
 * worker/posix/README.md lists all such state of glibc and which stand-in keeps it.
 */
#ifndef WORKER_POSIX_HIDDEN_H
#define WORKER_POSIX_HIDDEN_H

#include "worker/posix/posix.h"

#include <search.h>
#include <wchar.h>

/* A function with a conversion state of its own for callers that pass none. */
enum hidden_conversion {
	CONVERT_MBRTOWC,
	CONVERT_MBRLEN,
	CONVERT_WCRTOMB,
	CONVERT_MBSRTOWCS,
	CONVERT_MBSNRTOWCS,
	CONVERT_WCSRTOMBS,
	CONVERT_WCSNRTOMBS,
	CONVERT_MBRTOC16,
	CONVERT_C16RTOMB,
	CONVERT_MBRTOC32,
	CONVERT_C32RTOMB,
	CONVERTS
};

/* Files that are read entry by entry: getpwent and its kin. */
enum hidden_list { LIST_PASSWD, LIST_GROUP, LIST_SHADOW, LIST_SERVICES, LIST_PROTOCOLS, LISTS };

/*
 * OWNER  the task: made by the goroutine that first needs it, freed with the task's heap
 * LOCK   the task's, around each use of state that two goroutines may change at once; the buffers have none,
 *        because the functions that return them are not thread-safe in any process
 * ORDER  task->own.hidden is published with release once the block is complete
 * DEATH  each call leaves the state whole or half changed, as a thread that dies inside libc does
 */
struct hidden {
	struct random_data random;
	char random_first[128];
	struct drand48_data drand48;
	struct hsearch_data hsearch;
	mbstate_t conversion[CONVERTS];
	char inet[16], ether[18], tty[256], pts[256], login[256], number[400];
	int log_mask, log_option, log_facility;
	const char *log_ident; /* NULL: openlog was not called */
	struct {
		uint32_t next; /* entries given out since the last rewind */
		void *room;    /* the entry that the last call returned */
		size_t size;
	} list[LISTS];
};

struct hidden *hidden_of(struct g *); /* the task's; NULL and ENOMEM if there is no memory */

#endif
