/*
 * state_test.c - state that libc keeps for a process is the task's.
 */
#include "tests/proc/proc.h"

Test(state, hidden_state_of_libc_is_the_tasks_on_every_worker, .init = start, .fini = stop, .timeout = 120)
{
	for (int i = 0; i < 4; i++)
		cr_expect_eq(sh("timeout 25 build/shoal run build/tests/modules/state/hidden.so 2>&1"), 0,
			     "round %d: %s", i, text);
}
