/*
 * words.c - what is typed: durations, sizes, counts, and the options of a verb. An input is the words of a
 * command line, one a line.
 */
#include "tests/fuzz/fuzz.h"
#include "shm/size.h"
#include "tools/shoal/cli.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct fuzz_input fuzz_seeds[] = {SEED("--attempts\n3\n--timeout=1m30s\n--name\njob\n-e\nA=b\njob.so\n--x\n"),
					SEED("-a3\n-t5s\n-d\njob.so:entry\n--\n-x\n"),
					SEED("--memory\n1.5G\n--procs=2\n"),
					SEED("250ms\n"),
					SEED("1h2m3.5s\n"),
					SEED("64MiB\n"),
					SEED("--socket\n/tmp/x.sock\n--json\n"),
					SEED("18446744073709551615\n"),
					SEED("--help\n"),
					{NULL, 0}};
const uint64_t fuzz_runs = 300000;
const char *const fuzz_words[] = {"--", "-",   "=", "\n",	  "ns", "us",	 "ms", "m",	   "h",
				  "K",	"GiB", ".", "--attempts", "-t", "--env", "%s", "\xc3\x28", NULL};

#define WORDS 64

struct cli cli;
static jmp_buf out;

/* The command line's own end the process. */
void fail(int code, const char *fmt, ...)
{
	(void)fmt;
	if (code < 1 || code > 255)
		abort();
	longjmp(out, 1);
}

void usage(const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	if (vsnprintf(text, sizeof text, fmt, ap) < 0 || !*text)
		abort();
	va_end(ap);
	longjmp(out, 1);
}

void *must(void *p)
{
	if (!p)
		abort();
	return p;
}

char *format(const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		abort();
	va_end(ap);
	return text;
}

int failure_code(void)
{
	return 1;
}

void print_help(const struct verb *verb)
{
	(void)verb;
	longjmp(out, 1); /* the process would end */
}

void flush_stdout(void)
{
}

static void numbers(const char *word)
{
	int64_t n = -1;

	if (parse_duration(word, &n) && n < 0)
		abort();
	if (sh_size_parse(word, &n) && n < 0)
		abort();
	if (parse_count(word, 1, &n) && n < 1)
		abort();
	is_similar(word, "attempts");
	is_similar("attempts", word);
}

void fuzz_one(const uint8_t *data, size_t n)
{
	char *text = malloc(n + 1), *word[WORDS + 1] = {NULL}, *save = NULL;
	int64_t attempts = 1, timeout = 1, memory = 1;
	const char *name = NULL;
	static struct opt_list env;
	bool detach = false;
	volatile int argc = 0;
	const struct opt opts[] = {{"attempts", 'a', OPT_COUNT, &attempts},
				   {"timeout", 't', OPT_DURATION, &timeout},
				   {"memory", 'm', OPT_SIZE, &memory},
				   {"name", 'n', OPT_TEXT, &name},
				   {"env", 'e', OPT_LIST, &env},
				   {"detach", 'd', OPT_FLAG, &detach},
				   {NULL, 0, OPT_FLAG, NULL}};

	memcpy(text, data, n + 1);
	for (char *at = strtok_r(text, "\n", &save); at && argc < WORDS; at = strtok_r(NULL, "\n", &save))
		word[argc++] = at;
	for (int i = 0; i < argc; i++)
		numbers(word[i]);
	memset(&cli, 0, sizeof cli);
	env.n = 0;
	if (setjmp(out) == 0) {
		int left = parse_options(argc, word, opts, n % 2);

		if (left < 0 || left > argc || attempts < 1 || timeout < 1 || memory < 1)
			abort();
		for (int i = 0; i < left; i++)
			numbers(word[i]);
	}
	free(text);
}
