#include <shoal.h>
#include <stdio.h>

static struct shoal_chan *done;

static void square(void *arg)
{
	int n = *(int *)arg; /* a copy of its own */

	n *= n;
	shoal_send(done, &n);
}

int shoal_main(int argc, char **argv)
{
	int sum = 0, n;

	done = shoal_chan_new(sizeof n, 0);
	for (int i = 1; i <= 10; i++)
		shoal_go(square, &i, sizeof i);
	for (int i = 1; i <= 10; i++) {
		shoal_recv(done, &n);
		sum += n;
	}
	printf("%d\n", sum);
	return sum != 385;
}
