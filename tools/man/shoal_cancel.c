#include <errno.h>
#include <shoal.h>
#include <unistd.h>

static int end[2];

static void reads(void *arg)
{
	char c;

	if (read(end[0], &c, 1) < 0 && errno == ECANCELED)
		close(end[0]); /* a cancelled goroutine can release its resources */
}

int shoal_main(int argc, char **argv)
{
	struct shoal_end how;
	shoal_gid g;

	pipe(end);
	g = shoal_go(reads, NULL, 0);
	shoal_cancel(g);
	shoal_join(g, &how);
	return how.how != SHOAL_CANCELLED;
}
