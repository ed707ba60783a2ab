/* pipeline.c - passes numbers through stages, each a goroutine, over channels: pipeline.so [N]. */
#include <shoal.h>

#include <stdio.h>
#include <stdlib.h>

struct stage {
	struct shoal_chan *in, *out;
	long n;
};

static void count(void *arg)
{
	struct stage *s = arg;
	for (long i = 1; i <= s->n; i++)
		shoal_send(s->out, &i);
	shoal_close(s->out);
}

static void square(void *arg)
{
	struct stage *s = arg;
	long x;
	while (shoal_recv(s->in, &x) == 1) {
		x *= x;
		shoal_send(s->out, &x);
	}
	shoal_close(s->out);
}

int shoal_main(int argc, char **argv)
{
	long n = argc > 1 ? atol(argv[1]) : 1000, x;
	unsigned long sum = 0;
	struct shoal_chan *numbers = shoal_chan_new(sizeof(long), 16), *squares = shoal_chan_new(sizeof(long), 0);
	shoal_go(count, &(struct stage){.out = numbers, .n = n}, sizeof(struct stage));
	shoal_go(square, &(struct stage){.in = numbers, .out = squares}, sizeof(struct stage));
	while (shoal_recv(squares, &x) == 1)
		sum += (unsigned long)x;
	printf("the squares of 1 to %ld add up to %lu\n", n, sum);
	return 0;
}
