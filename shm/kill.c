/*
 * kill.c - armed kill points. See kill.h.
 */
#include "shm/kill.h"

#if defined(SHOAL_KILL_POINTS) && !defined(SHOAL_SIM)
#include "shm/segment.h"

#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int seated; /* only who sits in a seat is killed: the supervisor and the zygote are another matter */

void sh_kill_seated(void)
{
	seated = 1;
}

/* SHOAL_KILL_LIST=1: prints the points, a line each, and ends. */
static __attribute__((constructor)) void list_points(void)
{
	if (!getenv("SHOAL_KILL_LIST"))
		return;
	for (const struct sh_kill_point *const *p = __start_shoal_kill; p < __stop_shoal_kill; p++)
		puts((*p)->name);
	fflush(stdout);
	_exit(0);
}

/* SHOAL_KILL=NUMBER:HIT, the number counted from 0 as listed: killed when it is passed for the HITth time. */
void sh_kill_arm(void)
{
	const char *e = getenv("SHOAL_KILL"), *colon = e ? strchr(e, ':') : NULL;

	if (!colon)
		return;
	atomic_store(&sh_root->kill_countdown, atoi(colon + 1));
	atomic_store(&sh_root->kill_armed, (uint32_t)atoi(e) + 1);
}

void sh_kill_hit(const struct sh_kill_point *here)
{
	uint32_t armed = atomic_load_explicit(&sh_root->kill_armed, memory_order_relaxed);

	if (__builtin_expect(armed == 0, 1) || !seated || __start_shoal_kill[armed - 1] != here)
		return;
	if (atomic_fetch_sub(&sh_root->kill_countdown, 1) != 1)
		return;
	atomic_store(&sh_root->kill_armed, 0);
	atomic_fetch_add(&sh_root->kill_done, 1);
	kill(getpid(), SIGKILL);
	for (;;)
		pause();
}
#endif
extern int sh_kill_unit; /* the file is never empty */
