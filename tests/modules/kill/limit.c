/*
 * kill/limit.c - takes memory until there is none, works on at the limit, gives it back: for the kill
 * driver, whose supervisor has little. As kill/work.c it checks itself.
 */
#include <shoal.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define WORKERS 40

static struct shoal_go_opts stubborn = {.name = "at the limit", .attempts = 8, .flags = SHOAL_ISOLATED};
static struct shoal_wg wg;

struct link {
	struct link *next;
};

static void parks(void *arg)
{
	int me = *(int *)arg;
	volatile char frame[3000];

	frame[me] = 1;
	shoal_yield();
	shoal_sleep(10000);
	if (!frame[me])
		abort();
}

static struct link *take(struct link *all, size_t size)
{
	struct link *l;

	while ((l = malloc(size))) {
		l->next = all;
		all = l;
	}
	return all;
}

int shoal_main(int argc, char **argv)
{
	struct link *all = NULL, *next;

	(void)argc;
	(void)argv;
	for (int i = 0, tries = 0; i < WORKERS;
	     i++) /* what a task before us left comes back when workers are renewed */
		while (!shoal_wg_go_with(&wg, &stubborn, parks, &i, sizeof i))
			if (errno != ENOMEM || tries++ > 1000 || shoal_sleep(1000000) != 0)
				return fprintf(stderr, "goroutine %d: errno %d, %d tries\n", i, errno, tries), 4;
	for (size_t size = 4u << 20; size >= 16384; size /= 4)
		all = take(all, size);
	if (shoal_chan_new(100000, 100) || errno != ENOMEM)
		return 2;
	shoal_wg_wait(&wg);
	for (; all; all = next) {
		next = all->next;
		free(all);
	}
	return 0; /* who found no room for its stack was ended for that: that is no fault of ours */
}
