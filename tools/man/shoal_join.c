#include <shoal.h>
#include <stdio.h>

static void is_wrong(void *arg)
{
	*(int *)arg = 1; /* arg is NULL: only this goroutine crashes */
}

int shoal_main(int argc, char **argv)
{
	struct shoal_go_opts opts = {.name = "wrong", .flags = SHOAL_ISOLATED};
	struct shoal_end end;

	shoal_join(shoal_go_with(&opts, is_wrong, NULL, 0), &end);
	if (end.how == SHOAL_CRASHED)
		printf("it crashed with signal %d at %p\n", end.signal, end.address);
	return end.how != SHOAL_CRASHED;
}
