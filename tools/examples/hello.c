/* hello.c - a minimal task. */
#include <shoal.h>

#include <stdio.h>

static void greet(void *arg)
{
	printf("hello from goroutine %d on worker %d\n", *(int *)arg, shoal_worker());
}

int shoal_main(int argc, char **argv)
{
	(void)argc;
	printf("%s says hello\n", argv[0]);
	for (int i = 1; i <= 3; i++)
		shoal_join(shoal_go(greet, &i, sizeof(i)), NULL);
	return 0;
}
