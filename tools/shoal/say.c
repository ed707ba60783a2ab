/* say.c - messages, and functions that end the process. */
#include "tools/shoal/cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct cli cli;

int failure_code(void)
{
	return cli.verb && cli.verb->failure ? cli.verb->failure : 1;
}

/* Replaces control characters, because the text may contain module names and messages of tasks. */
static void write_clean(const char *text, bool lines)
{
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;
		bool fine = (c >= 0x20 && c != 0x7f) || (lines && (c == '\n' || c == '\t'));
		fputc(fine ? c : '?', stderr);
	}
}

static void write_message(const char *fmt, va_list ap)
{
	char *text;
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	fputs("shoal", stderr);
	if (cli.verb)
		fprintf(stderr, " %s", cli.verb->name);
	fputs(": ", stderr);
	write_clean(text ? text : "out of memory", false);
	free(text);
}

void say(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	write_message(fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

void say_block(const char *text)
{
	write_clean(text, true);
	size_t n = strlen(text);
	if (n && text[n - 1] != '\n')
		fputc('\n', stderr);
}

void fail(int code, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	write_message(fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(code);
}

void usage(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	write_message(fmt, ap);
	va_end(ap);
	fprintf(stderr, " (see: shoal help%s%s)\n", cli.verb ? " " : "", cli.verb ? cli.verb->name : "");
	exit(EXIT_USAGE);
}

/* Exits without a message, with the code that a shell shows for a process that SIGPIPE has ended (141). */
void end_by_sigpipe(void)
{
	exit(128 + SIGPIPE);
}

void flush_stdout(void)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return;
	if (errno == EPIPE)
		end_by_sigpipe();
	fail(failure_code(), "cannot write the output: %s", strerror(errno));
}

void *must(void *p)
{
	if (!p)
		fail(failure_code(), "out of memory");
	return p;
}

char *format(const char *fmt, ...)
{
	char *text;
	va_list ap;
	va_start(ap, fmt);
	int n = vasprintf(&text, fmt, ap);
	va_end(ap);
	return must(n < 0 ? NULL : text);
}

char *tail_of(const char *file)
{
	FILE *f = fopen(file, "re");
	char *line = NULL, *last = NULL;
	size_t room = 0;
	while (f && getline(&line, &room, f) > 0) {
		line[strcspn(line, "\n")] = 0;
		if (*line) {
			free(last);
			last = must(strdup(line));
		}
	}
	free(line);
	if (f)
		fclose(f);
	return last;
}
