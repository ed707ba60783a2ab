#include <shoal.h>
#include <stdio.h>

#define SECOND 1000000000l

static struct shoal_chan *values, *over;

static void counts(void *arg)
{
	for (int i = 0; i < 5; i++)
		shoal_send(values, &i);
	shoal_close(over);
}

int shoal_main(int argc, char **argv)
{
	int value, sum = 0;

	values = shoal_chan_new(sizeof value, 0);
	over = shoal_chan_new(0, 0);
	shoal_go(counts, NULL, 0);
	for (;;) {
		struct shoal_case cases[] = {
			{SHOAL_RECV, values, &value, 0},
			{SHOAL_RECV, over, NULL, 0},
		};

		switch (shoal_select(cases, 2, SECOND)) {
		case 0: sum += value; break;
		case 1: /* closed */ printf("%d\n", sum); return sum != 10;
		default: /* -ETIMEDOUT, -ECANCELED */ return 1;
		}
	}
}
