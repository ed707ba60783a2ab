/* skynet.c - a tree of goroutines with ten children each; the leaves send their number up: skynet.so [LEAVES]. */
#include <shoal.h>

#include <stdio.h>
#include <stdlib.h>

struct node {
	struct shoal_chan *up;
	long first, leaves;
};

static void skynet(void *arg)
{
	struct node *n = arg;
	long sum = 0, part;
	if (n->leaves == 1) {
		shoal_send(n->up, &n->first);
		return;
	}
	struct shoal_chan *c = shoal_chan_new(sizeof(long), 10);
	for (int i = 0; i < 10; i++) {
		struct node child = {c, n->first + i * (n->leaves / 10), n->leaves / 10};
		shoal_go(skynet, &child, sizeof(child));
	}
	for (int i = 0; i < 10; i++)
		if (shoal_recv(c, &part) == 1)
			sum += part;
	shoal_chan_free(c);
	shoal_send(n->up, &sum);
}

int shoal_main(int argc, char **argv)
{
	long leaves = argc > 1 ? atol(argv[1]) : 10000, sum = 0, power = 1;
	while (power < leaves)
		power *= 10;
	if (power != leaves) {
		fprintf(stderr, "skynet: LEAVES must be a power of ten\n");
		return 2;
	}
	struct shoal_chan *c = shoal_chan_new(sizeof(long), 1);
	int64_t start = shoal_now();
	shoal_go(skynet, &(struct node){c, 0, leaves}, sizeof(struct node));
	shoal_recv(c, &sum);
	printf("%ld\n", sum);
	fprintf(stderr, "%ld goroutines in %.1f ms\n", (leaves * 10 - 1) / 9, (double)(shoal_now() - start) / 1e6);
	return 0;
}
