/*
 * net/streams.c CASE - one FILE and many goroutines on two workers. Prints "ok".
 */
#define _GNU_SOURCE
#include "tests/modules/net/net.h"

#include <stdarg.h>
#include <sys/socket.h>
#include <unistd.h>

#define WRITERS 8
#define LINES 2000

static struct shoal_wg wg;
static FILE *f;
static char path[] = "/tmp/shoal-net-streams.XXXXXX";
static _Atomic int seen[WRITERS][LINES], total;

static void vline(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(f, fmt, ap);
	va_end(ap);
}

static void writes(void *arg)
{
	int n = *(int *)arg;
	char line[64];

	for (int i = 0; i < LINES; i++) {
		int k = snprintf(line, sizeof line, "<%d %d and some text>\n", n, i);

		switch (i % 5) {
		case 0: MUST(fprintf(f, "<%d %d and some text>\n", n, i) == k); break;
		case 1: MUST(fputs(line, f) >= 0); break;
		case 2: MUST(fwrite(line, 1, (size_t)k, f) == (size_t)k); break;
		case 3: vline("<%d %d and some text>\n", n, i); break;
		default: /* piece by piece, and parked in between */
			flockfile(f);
			flockfile(f);
			putc('<', f);
			if (i % 50 == 4)
				shoal_sleep(1);
			fprintf(f, "%d %d", n, i);
			if (i % 50 == 9)
				shoal_yield();
			funlockfile(f);
			for (const char *c = " and some text>\n"; *c; c++)
				fputc(*c, f);
			funlockfile(f);
		}
		if (i % 100 == 0)
			shoal_yield();
		if (i % 500 == 0)
			MUST(fflush(i % 1000 ? f : NULL) == 0 && ftell(f) >= -1);
	}
}

static void count(const char *line)
{
	char end[16];
	int n, i;

	MUST(sscanf(line, "<%d %d and some %15s", &n, &i, end) == 3 && !strcmp(end, "text>"));
	MUST(n >= 0 && n < WRITERS && i >= 0 && i < LINES && seen[n][i]++ == 0);
	total++;
}

static void reads(void *arg)
{
	char *line = NULL, b[100];
	size_t room = 0;

	(void)arg;
	for (int i = 0;; i++)
		if (i % 2) {
			if (getline(&line, &room, f) < 0)
				break;
			count(line);
		} else {
			if (!fgets(b, sizeof b, f))
				break;
			count(b);
		}
	free(line);
}

/* All write to a file, then all read it. */
static void file_case(void)
{
	f = fopen(path, "w");
	for (int i = 0; i < WRITERS; i++)
		MUST(shoal_wg_go(&wg, writes, &i, sizeof i));
	shoal_wg_wait(&wg);
	MUST(fclose(f) == 0 && (f = fopen(path, "r")));
	for (int i = 0; i < 6; i++)
		MUST(shoal_wg_go(&wg, reads, NULL, 0));
	shoal_wg_wait(&wg);
	MUST(total == WRITERS * LINES && fclose(f) == 0);
}

/* All write to a socket that is soon full, which parks them in the middle of a call. */
static void socket_case(void)
{
	int s[2];
	FILE *in;
	char b[100];

	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
	f = fdopen(s[1], "w");
	in = fdopen(s[0], "r");
	for (int i = 0; i < WRITERS; i++)
		MUST(shoal_wg_go(&wg, writes, &i, sizeof i));
	for (int i = 0; i < WRITERS * LINES; i++) {
		if (i % 1000 == 0)
			shoal_sleep(MS);
		if (i == WRITERS * LINES - 1000) { /* the rest of the buffer */
			shoal_wg_wait(&wg);
			fflush(f);
		}
		MUST(fgets(b, sizeof b, in));
		count(b);
	}
	MUST(fclose(f) == 0 && !fgets(b, sizeof b, in) && feof(in) && fclose(in) == 0);
}

static void takes(void *arg)
{
	(void)arg;
	MUST(ftrylockfile(f) != 0);
	flockfile(f);
	total = 1;
	funlockfile(f);
}

static void locks_case(void)
{
	f = tmpfile();
	MUST(f && ftrylockfile(f) == 0 && ftrylockfile(f) == 0);
	shoal_wg_go(&wg, takes, NULL, 0);
	shoal_sleep(10 * MS);
	funlockfile(f);
	shoal_sleep(10 * MS);
	MUST(total == 0);
	funlockfile(f);
	shoal_wg_wait(&wg);
	MUST(total == 1 && fprintf(f, "%d", 5) == 1);
	rewind(f);
	MUST(fscanf(f, "%d", &(int){0}) == 1 && fclose(f) == 0);
}

static void blocks_in_it(void *arg)
{
	char b[4];

	(void)arg;
	fgets(b, sizeof b, f);
}

/* The end of the task does not wait for readers, and all its output is there. */
static void end_case(void)
{
	FILE *w = fopen(path, "w");
	int s[2];

	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0 && (f = fdopen(s[0], "r+")));
	shoal_go(blocks_in_it, NULL, 0);
	shoal_sleep(5 * MS);
	fputs("kept", w);
	MUST(fflush(NULL) == 0);
	fputs(" too", w);
}

/* One stream after another on the same FILE; from a socket to a file as well. */
static void reopen_case(void)
{
	char b[64];
	int s[2];

	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0 && (f = fdopen(s[0], "r+")));
	MUST(fputs("to the socket\n", f) >= 0);
	MUST((f = freopen(path, "w+", f)) && fputs("to the file\n", f) >= 0);
	MUST(read(s[1], b, sizeof b) == 14 && read(s[1], b, sizeof b) == 0); /* it was closed */
	rewind(f);
	MUST(fgets(b, sizeof b, f) && !strcmp(b, "to the file\n"));
	MUST((f = freopen("/dev/null", "r", f)) && !fgets(b, sizeof b, f) && fclose(f) == 0);
}

int shoal_main(int argc, char **argv)
{
	static const struct net_case cases[] = {{"file", file_case},
						{"socket", socket_case},
						{"locks", locks_case},
						{"end", end_case},
						{"reopen", reopen_case}};

	MUST(close(mkstemp(path)) == 0);
	for (unsigned i = 0; argc > 1 && i < sizeof cases / sizeof *cases; i++)
		if (!strcmp(argv[1], cases[i].name)) {
			cases[i].fn();
			if (argc > 2)
				MUST(rename(path, argv[2]) == 0);
			unlink(path);
			puts("ok");
			return 0;
		}
	return 2;
}
