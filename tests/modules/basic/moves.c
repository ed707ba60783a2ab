/*
 * moves.c - a goroutine that parks at random depth and is moved from worker to worker, its stack
 * checked each time. Two others, each spinning on a
 * worker of its own, wake it in turn.
 */
#include <shoal.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct shoal_chan *wake;
static volatile int turn, over;
static int moves, last, want;

static int park_at(int depth, unsigned seed, char *outer)
{
	char frame[512], *own = frame;
	int v, r;

	memset(frame, (int)(seed & 0x7f), sizeof frame);
	if (depth > 0) {
		r = park_at(depth - 1, seed * 1103515245 + 12345, frame);
	} else {
		errno = (int)(seed % 100) + 1;
		r = shoal_recv(wake, &v) == 1 && errno == (int)(seed % 100) + 1 ? 0 : 1;
	}
	for (unsigned i = 0; i < sizeof frame; i++)
		if (own[i] != (char)(seed & 0x7f))
			return 1;
	if (outer && ((uintptr_t)outer < (uintptr_t)frame ||
		      (uintptr_t)outer > (uintptr_t)frame + 4096)) /* the frame above ours is where it was */
		return 1;
	return r;
}

static void waker(void *arg)
{
	int me = *(int *)arg;

	while (!over) {
		if (turn == me && !over) {
			turn = -1;
			shoal_send(wake, &me);
			shoal_yield();
		} else if (turn == -1) {
			shoal_yield();
		}
	}
}

static void traveller(void *arg)
{
	unsigned seed = 1;
	int next = 0;

	(void)arg;
	while (moves < want) {
		turn = next = !next;
		seed = seed * 1103515245 + 12345;
		if (park_at((int)(seed >> 16) % 40, seed, NULL)) {
			printf("corrupt after %d moves\n", moves);
			exit(1);
		}
		if (shoal_worker() != last)
			moves++;
		last = shoal_worker();
	}
	over = 1;
}

int shoal_main(int argc, char **argv)
{
	int64_t limit = shoal_now() + 150000000000;
	int a = 0, b = 1;
	shoal_gid t;

	want = argc > 1 ? atoi(argv[1]) : 10000;
	wake = shoal_chan_new(sizeof(int), 0);
	shoal_go(waker, &a, sizeof a);
	shoal_go(waker, &b, sizeof b);
	t = shoal_go(traveller, NULL, 0);
	while (!over && shoal_now() < limit)
		shoal_sleep(1000000);
	if (!over) {
		printf("only %d moves\n", moves);
		return 1;
	}
	shoal_join(t, NULL);
	printf("%d moves\n", moves);
	return 0;
}
