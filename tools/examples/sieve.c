/* sieve.c - the concurrent prime sieve, with a goroutine for each prime: sieve.so [N]. */
#include <shoal.h>

#include <stdio.h>
#include <stdlib.h>

struct filter {
	struct shoal_chan *in, *out;
	int prime;
};

static void generate(void *arg)
{
	struct filter *f = arg;
	for (int i = 2; shoal_send(f->out, &i) == 0; i++)
		;
}

static void filter(void *arg)
{
	struct filter *f = arg;
	int i;
	while (shoal_recv(f->in, &i) == 1)
		if (i % f->prime && shoal_send(f->out, &i) < 0)
			break;
}

/* Returning ends the task, and with it all the filters. */
int shoal_main(int argc, char **argv)
{
	int n = argc > 1 ? atoi(argv[1]) : 100;
	struct shoal_chan *c = shoal_chan_new(sizeof(int), 0);
	shoal_go(generate, &(struct filter){.out = c}, sizeof(struct filter));
	for (int i = 0; i < n; i++) {
		struct filter f = {.in = c};
		if (shoal_recv(c, &f.prime) != 1)
			return 1;
		printf("%d\n", f.prime);
		f.out = c = shoal_chan_new(sizeof(int), 0);
		if (!c || !shoal_go(filter, &f, sizeof(f)))
			return 1;
	}
	return 0;
}
