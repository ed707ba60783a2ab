/*
 * globals.c - a task's globals are its own, one variable for all workers, and so is its heap. What is
 * thread-local is one for each worker, and the task's own as well.
 */
#include <shoal.h>
#include <stdio.h>
#include <stdlib.h>

static int bumped = 5;
static int *block;
static unsigned seen, others;
static shoal_gid root;
static _Thread_local shoal_gid mark = 3, zero;
static struct shoal_wg wg;

static void bump(void *arg)
{
	(void)arg;
	for (int i = 0; i < 200; i++) {
		__atomic_fetch_add(&bumped, 1, __ATOMIC_SEQ_CST);
		__atomic_fetch_add(block, 1, __ATOMIC_SEQ_CST);
		__atomic_fetch_or(&seen, 1u << shoal_worker(), __ATOMIC_SEQ_CST);
		if ((mark != 3 || zero != 0) && (mark != root || zero != root))
			__atomic_fetch_add(&others, 1, __ATOMIC_SEQ_CST);
		mark = zero = root;
		for (int64_t end = shoal_now() + 20000; shoal_now() < end;)
			;
		shoal_yield();
	}
}

int shoal_main(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	if (bumped != 5)
		return 9;
	root = shoal_self();
	block = calloc(1, sizeof *block);
	for (int i = 0; i < 8; i++)
		shoal_wg_go(&wg, bump, NULL, 0);
	shoal_wg_wait(&wg);
	printf("%d %d %d\n", bumped, *block, __builtin_popcount(seen));
	if (others)
		printf("%u times another task's\n", others);
	return bumped == 1605 && *block == 1600 && !others ? 0 : 1;
}
