/*
 * piped.c - two goroutines write lines to a stdout that is a pipe, and more than it holds. Nobody reads for a
 * while: others run meanwhile, also where there is one P. Then all lines are there, whole, each once.
 */
#define _GNU_SOURCE
#include <shoal.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WRITERS 2
#define LINES 2000

static struct shoal_wg wg;
static _Atomic int ticks, over;
static int next[WRITERS];

static void writer(void *arg)
{
	int me = *(int *)arg;

	for (int i = 0; i < LINES; i++) {
		printf("writer %d ", me);
		printf("line %06d, and some more to make it as long as lines are\n", i);
	}
}

static void ticker(void *arg)
{
	(void)arg;
	while (!over) {
		shoal_sleep(5000000);
		ticks++;
	}
}

static int check(const char *line)
{
	int me, i, end = 0;

	if (sscanf(line, "writer %d line %6d, and some more to make it as long as lines are%n", &me, &i, &end) != 2 ||
	    line[end] != '\0' || me < 0 || me >= WRITERS || i != next[me])
		return -1;
	next[me]++;
	return 0;
}

int shoal_main(int argc, char **argv)
{
	int fd[2], out = dup(1), waited;
	char line[256];
	FILE *f;

	(void)argc;
	(void)argv;
	if (pipe(fd) < 0 || dup2(fd[1], 1) != 1 || out < 0)
		return 2;
	close(fd[1]);
	for (int i = 0; i < WRITERS; i++)
		shoal_wg_go(&wg, writer, &i, sizeof i);
	shoal_go(ticker, NULL, 0);
	shoal_sleep(400000000);
	waited = ticks;
	f = fdopen(fd[0], "r");
	for (int n = 0; n < WRITERS * LINES; n++) {
		if (!fgets(line, sizeof line, f))
			return 3;
		line[strcspn(line, "\n")] = '\0';
		if (check(line) < 0) {
			dup2(out, 1);
			printf("not the next line: %s\n", line);
			return 4;
		}
	}
	over = 1;
	shoal_wg_wait(&wg);
	dup2(out, 1);
	printf("%d lines, %s\n", WRITERS * LINES, waited >= 20 ? "and others ran" : "and nobody ran");
	return 0;
}
