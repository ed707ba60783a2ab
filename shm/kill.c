/*
 * kill.c - armed kill points. See kill.h.
 */
#include "shm/kill.h"

#if defined(SHOAL_KILL_POINTS) && !defined(SHOAL_SIM)
#include "shm/check.h"
#include "shm/segment.h"
#include "shm/syscall.h"

#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

static int seated; /* only processes in a seat are killed, not the supervisor or the zygote */

void sh_kill_seated(void)
{
	seated = 1;
}

unsigned sh_kill_points(void)
{
	return (unsigned)(__stop_shoal_kill - __start_shoal_kill);
}

const char *sh_kill_name(unsigned i)
{
	return __start_shoal_kill[i].name;
}

_Bool sh_kill_passed(unsigned i)
{
	return atomic_exchange(&sh_root->kill_passed[i], 0);
}

/* Index of the point, plus 1; 0: none. */
static unsigned kill_number(const char *name)
{
	for (unsigned i = 0; name && i < sh_kill_points(); i++)
		if (strcmp(sh_kill_name(i), name) == 0)
			return i + 1;
	return 0;
}

_Bool sh_kill_arm(const char *name, int hit, const char *then, int then_hit)
{
	unsigned i = kill_number(name), next = kill_number(then);

	atomic_store(&sh_root->kill_armed, 0);
	if ((name && !i) || (then && !next))
		return 0;
	atomic_store(&sh_root->kill_next, next);
	atomic_store(&sh_root->kill_next_countdown, then_hit);
	atomic_store(&sh_root->kill_countdown, hit);
	atomic_store(&sh_root->kill_armed, i);
	return 1;
}

void sh_kill_hit(const struct sh_kill_point *here)
{
	_Atomic uint8_t *passed = &sh_root->kill_passed[here - __start_shoal_kill];
	uint32_t armed = atomic_load_explicit(&sh_root->kill_armed, memory_order_relaxed);

	if (!seated)
		return;
	if (!atomic_load_explicit(passed, memory_order_relaxed)) {
		sh_check(here - __start_shoal_kill < SH_KILL_MAX);
		atomic_store_explicit(passed, 1, memory_order_relaxed);
	}
	if (__builtin_expect(armed == 0, 1) || strcmp(__start_shoal_kill[armed - 1].name, here->name) != 0)
		return;
	if (atomic_fetch_sub(&sh_root->kill_countdown, 1) != 1)
		return;
	atomic_store(&sh_root->kill_armed, 0);
	atomic_store(&sh_root->kill_countdown, atomic_load(&sh_root->kill_next_countdown));
	atomic_store(&sh_root->kill_armed, atomic_exchange(&sh_root->kill_next, 0));
	atomic_fetch_add(&sh_root->kill_done, 1);
	for (;;) /* the kernel's calls: on a goroutine libc's belong to the task */
		syscall(SYS_kill, (int)syscall(SYS_getpid), SIGKILL);
}
#endif
extern int sh_kill_unit; /* keeps the file from being empty */
