/*
 * kill/output.c - goroutines that write lines in pieces, with parks between, and may be killed at any
 * point of it. For the kill driver, as kill/work.c: ends with 0 if all that was written is in the
 * output, once, and no line is inside another.
 *
 * A line is "[goroutine run number filling" ... "]\n", and a second line of one piece follows. What a
 * killed run had begun may lack its end: then it is that run's last.
 */
#include <shoal.h>

#include <ctype.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WRITERS 6
#define LINES 30
#define RUNS 110
#define WHOLE 1
#define PART 2

static struct shoal_wg all;
static atomic_int runs[WRITERS], sure[WRITERS][RUNS]; /* pieces whose write has come back */
static char seen[WRITERS][RUNS][LINES * 2];
static char *text;

static void wrong(const char *what, const char *at)
{
	fprintf(stderr, "output: %s at %ld: %.60s\n", what, (long)(at - text), at);
	abort();
}

static void put(const char *p, size_t n)
{
	if (write(1, p, n) != (ssize_t)n)
		abort();
}

static void writer(void *arg)
{
	static const char filling[600] = {[0 ... 599] = 'x'};
	int me = *(int *)arg, run = atomic_fetch_add(&runs[me], 1);
	char line[700];

	for (int i = 0; i < LINES && run < RUNS; i++) {
		int n = snprintf(line, sizeof line, "[%d %d %d %.*s", me, run, 2 * i, i % 6 * 100, filling);

		put(line, (size_t)n);
		if (i % 3 != 2)
			shoal_yield();
		put("]\n", 2);
		n = snprintf(line, sizeof line, "[%d %d %d ]\n", me, run, 2 * i + 1);
		put(line, (size_t)n);
		atomic_store(&sure[me][run], 2 * i + 2);
		if (i % 5 == 4)
			shoal_sleep(10000);
	}
}

static const char *read_one(const char *at, int *g, int *run, int *i)
{
	int n = 0;

	if (sscanf(at, "[%d %d %d %n", g, run, i, &n) != 3 || !n)
		return NULL;
	for (at += n; *at == 'x'; at++)
		;
	return at;
}

static void check(void)
{
	for (const char *at = text; *at;) {
		int g, run, i;
		const char *end = *at == '[' ? read_one(at, &g, &run, &i) : NULL;

		if (!end) { /* the beginning of a line that was cut off in its number */
			if (*at != '[' && !isdigit((unsigned char)*at) && *at != ' ')
				wrong("neither a line nor its beginning", at);
			at++;
			continue;
		}
		if (g < 0 || g >= WRITERS || run < 0 || run >= RUNS || i < 0 || i >= LINES * 2)
			wrong("no line of ours", at);
		if (seen[g][run][i])
			wrong("twice", at);
		seen[g][run][i] = strncmp(end, "]\n", 2) == 0 ? WHOLE : PART;
		at = end + (seen[g][run][i] == WHOLE ? 2 : 0);
	}
	for (int g = 0; g < WRITERS; g++)
		for (int run = 0; run < RUNS; run++) {
			int n = 0;

			while (n < LINES * 2 && seen[g][run][n] == WHOLE)
				n++;
			if (n < atomic_load(&sure[g][run]))
				wrong("a line is lost or cut", text);
			for (n += 1; n < LINES * 2; n++) /* after one that was cut off there is nothing */
				if (seen[g][run][n])
					wrong("a line after one that is lost", text);
		}
}

static size_t size_of(int fd)
{
	struct stat st;

	return fstat(fd, &st) < 0 ? 0 : (size_t)st.st_size;
}

int shoal_main(int argc, char **argv)
{
	int fd = dup(1);
	size_t from = size_of(fd), n; /* before it: what an earlier run of the root left */

	(void)argc;
	(void)argv;
	for (int i = 0; i < WRITERS; i++)
		shoal_wg_go_with(&all,
				 &(struct shoal_go_opts){.name = "writer", .attempts = 100, .flags = SHOAL_ISOLATED},
				 writer, &i, sizeof i);
	shoal_wg_wait(&all);
	for (int i = 0; i < WRITERS; i++)
		if (!atomic_load(&runs[i]) || atomic_load(&sure[i][atomic_load(&runs[i]) - 1]) != LINES * 2)
			wrong("a goroutine did not come to its end", text);
	n = size_of(fd) - from;
	text = calloc(1, n + 1);
	if (!text || pread(fd, text, n, (off_t)from) != (ssize_t)n)
		abort();
	check();
	return 0;
}
