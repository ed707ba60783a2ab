/*
 * kill.c - armed kill points. See kill.h.
 */
#include "shm/kill.h"

#if defined(SHOAL_KILL_POINTS) && !defined(SHOAL_SIM)
#include "shm/segment.h"

#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

void sh_kill_hit(const struct sh_kill_point *here)
{
	uint32_t armed = atomic_load_explicit(&sh_root->kill_armed, memory_order_relaxed);

	if (__builtin_expect(armed == 0, 1) || __start_shoal_kill[armed - 1] != here)
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
