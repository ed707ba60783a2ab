/*
 * hungry.c - a task that takes all the memory there is.
 *
 *   hungry.so eat	until malloc says no, in all sizes; goes on; frees; has it all again
 *   hungry.so keep	takes all, and ends with it, from two goroutines
 *   hungry.so park	takes all, then has more goroutines park than the reserve has room for
 *   hungry.so isolated	takes all, then many isolated goroutines crash: each is told of
 *   hungry.so steady MS	works for so long, and needs no more memory than at its start
 */
#include <shoal.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct block {
	struct block *next;
	size_t size;
};

static struct shoal_wg all;
static struct shoal_chan *ping, *pong, *never;

static void must(int ok, const char *what)
{
	if (ok)
		return;
	printf("wrong: %s\n", what);
	exit(1);
}

/* Allocates all memory in blocks of this size and counts it. */
static size_t take_all(struct block **list, size_t size)
{
	size_t sum = 0;
	struct block *b;

	errno = 0;
	while ((b = malloc(size))) {
		memset(b, 0x5a, size < 4096 ? size : 4096);
		b->next = *list;
		b->size = size;
		*list = b;
		sum += size;
	}
	must(errno == ENOMEM, "errno is not ENOMEM");
	return sum;
}

static size_t take_sizes(struct block **list)
{
	size_t sum = 0;

	for (size_t size = 1u << 20; size >= 16; size /= 4)
		sum += take_all(list, size);
	return sum;
}

static void free_all(struct block **list)
{
	for (struct block *b; (b = *list);) {
		*list = b->next;
		free(b);
	}
}

static void nap(void *arg)
{
	(void)arg;
	shoal_sleep(1000000);
}

static int eat(void)
{
	struct block *list = NULL;
	char *p = malloc(1000), *q;
	size_t first, again;
	void *aligned = NULL;

	memset(p, 'x', 1000);
	first = take_sizes(&list);
	must(calloc(1, 100000) == NULL && errno == ENOMEM, "calloc at the limit");
	must(calloc((size_t)first * first, first) == NULL, "calloc of too much");
	must(realloc(p, 1u << 20) == NULL && p[999] == 'x', "realloc at the limit");
	must(posix_memalign(&aligned, 4096, 1u << 20) == ENOMEM, "posix_memalign at the limit");
	for (int i = 0; i < 200; i++) /* stacks come from the reserve */
		must(shoal_wg_go(&all, nap, NULL, 0) != 0, "shoal_wg_go at the limit");
	shoal_wg_wait(&all);
	free_all(&list);
	again = take_sizes(&list);
	must(again > first / 10 * 9, "less the second time");
	free_all(&list);
	q = realloc(p, 1u << 20);
	must(q && q[999] == 'x', "realloc afterwards");
	free(q);
	printf("%s\n", first > 16u << 20 ? "much" : "little");
	return 0;
}

static void eat_and_stay(void *arg)
{
	struct block *list = NULL;

	(void)arg;
	take_sizes(&list);
	shoal_yield();
}

static int keep(void)
{
	shoal_wg_go(&all, eat_and_stay, NULL, 0);
	shoal_wg_go(&all, eat_and_stay, NULL, 0);
	shoal_wg_wait(&all);
	printf("kept\n");
	return 0;
}

static void wait_deep(void *arg)
{
	volatile char frames[60000];

	(void)arg;
	memset((void *)frames, 1, sizeof frames);
	shoal_recv(never, NULL);
	must(frames[59999] == 1, "a stack was lost");
}

static int park(void)
{
	struct block *list = NULL;

	never = shoal_chan_new(0, 0);
	take_sizes(&list);
	for (int i = 0; i < 100000; i++) {
		if (!shoal_wg_go(&all, wait_deep, NULL, 0))
			break;
		shoal_yield();
	}
	printf("all of them parked\n"); /* the reserve cannot be as large as that */
	return 0;
}

static void crash(void *arg)
{
	(void)arg;
	*(volatile int *)NULL = 1;
}

static int isolated(void)
{
	static const struct shoal_go_opts o = {.flags = SHOAL_ISOLATED};
	struct block *list = NULL;
	shoal_gid gid[20];
	struct shoal_end end;

	take_sizes(&list);
	for (int i = 0; i < 20; i++) {
		gid[i] = shoal_go_with(&o, crash, NULL, 0);
		must(gid[i] != 0, "shoal_go_with at the limit");
		must(shoal_join(gid[i], NULL) == 0, "join");
	}
	for (int i = 0; i < 20; i++)
		must(shoal_join(gid[i], &end) == 0 && end.how == SHOAL_CRASHED && end.signal == 11,
		     "its end was forgotten");
	printf("told\n");
	return 0;
}

static void answer(void *arg)
{
	int n;

	(void)arg;
	while (shoal_recv(ping, &n) == 1) {
		n++;
		shoal_send(pong, &n);
	}
}

static int steady(int ms)
{
	int64_t until = shoal_now() + ms * 1000000ll;
	int n = 0, got;

	ping = shoal_chan_new(sizeof n, 0);
	pong = shoal_chan_new(sizeof n, 4);
	must(ping && pong && shoal_wg_go(&all, answer, NULL, 0), "no channels");
	while (shoal_now() < until) {
		must(shoal_send(ping, &n) == 0 && shoal_recv(pong, &got) == 1 && got == n + 1, "a wrong answer");
		n = got;
		if (n % 64 == 0)
			shoal_sleep(100000);
	}
	shoal_close(ping);
	shoal_wg_wait(&all);
	printf("steady\n");
	return 0;
}

int shoal_main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	if (!strcmp(what, "eat"))
		return eat();
	if (!strcmp(what, "keep"))
		return keep();
	if (!strcmp(what, "park"))
		return park();
	if (!strcmp(what, "isolated"))
		return isolated();
	if (!strcmp(what, "steady"))
		return steady(argc > 2 ? atoi(argv[2]) : 500);
	return 2;
}
