/*
 * output/lines.c - numbered lines of 64 bytes on stdout: lines MIB [BY [GOROUTINES]].
 *
 * BY says how each is written: write, printf, putchar, fwrite, puts, writev, err (to stderr). Several
 * goroutines write the lines in turn: each takes the next number, so the order among them is open, and every
 * number comes once. Ends with 0 if all was accepted, with 3 if a write failed.
 */
#include <shoal.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define LINE 64

static char by;
static long lines;
static atomic_long next;
static atomic_bool failed;
static struct shoal_wg all;

static void fill(char *line, long n)
{
	memset(line, 'x', LINE - 1);
	line[snprintf(line, LINE, "%012ld", n)] = ' ';
	line[LINE - 1] = '\n';
}

static bool put_line(char line[LINE])
{
	struct iovec v[2] = {{line, 20}, {line + 20, LINE - 20}};

	switch (by) {
	case 'p': return printf("%.64s", line) == LINE;
	case 'f': return fwrite(line, 1, LINE, stdout) == LINE;
	case 'v': return writev(1, v, 2) == LINE;
	case 'e': return write(2, line, LINE) == LINE;
	case 's': line[LINE - 1] = '\0'; return puts(line) >= 0;
	case 'c':
		for (int i = 0; i < LINE; i++)
			if (putchar(line[i]) == EOF)
				return false;
		return true;
	default: return write(1, line, LINE) == LINE;
	}
}

static void write_lines(void *unused)
{
	char line[LINE];
	long n;

	(void)unused;
	while (!atomic_load(&failed) && (n = atomic_fetch_add(&next, 1)) < lines) {
		fill(line, n);
		if (!put_line(line))
			atomic_store(&failed, true);
	}
}

/* One goroutine, and write: in pieces of 64 KiB, as a program that copies does. */
static void write_blocks(void)
{
	static char block[1024 * LINE];

	for (long n = 0; n < lines; n += 1024) {
		for (int i = 0; i < 1024; i++)
			fill(block + i * LINE, n + i);
		if (write(1, block, sizeof block) != sizeof block)
			atomic_store(&failed, true);
	}
}

int shoal_main(int argc, char **argv)
{
	int n = argc > 3 ? atoi(argv[3]) : 1;

	lines = argc > 1 ? atol(argv[1]) * (1 << 20) / LINE : 0;
	by = argc > 2 ? argv[2][0] : 'w';
	if (argc > 2 && !strcmp(argv[2], "writev"))
		by = 'v';
	if (argc > 2 && !strcmp(argv[2], "puts"))
		by = 's';
	if (by == 'w' && n == 1) {
		write_blocks();
		return failed ? 3 : 0;
	}
	for (int i = 0; i < n; i++)
		shoal_wg_go(&all, write_lines, NULL, 0);
	shoal_wg_wait(&all);
	return failed ? 3 : 0;
}
