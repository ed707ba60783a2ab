/* proc.c - what the tests of real processes share. See proc.h. */
#include "tests/proc/proc.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

char dir[64], text[1u << 20];

/* Runs a shell command; what it prints is in text. Returns its exit code. */
int sh(const char *fmt, ...)
{
	char cmd[2048];
	size_t n = 0, k;
	va_list ap;
	FILE *p;
	int st;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof cmd, fmt, ap);
	va_end(ap);
	p = popen(cmd, "r");
	cr_assert_not_null(p);
	while ((k = fread(text + n, 1, sizeof text - 1 - n, p)) > 0)
		n += k;
	text[n] = 0;
	st = pclose(p);
	return WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
}

void start(void)
{
	strcpy(dir, "/tmp/shoal-proc.XXXXXX");
	cr_assert_not_null(mkdtemp(dir));
	setenv("SHOAL_SOCKET", sh("echo %s/s", dir) == 0 ? strtok(text, "\n") : "", 1);
	cr_assert_eq(sh("build/shoal start --procs 2 2>&1"), 0, "%s", text);
}

void stop(void)
{
	cr_expect_eq(sh("build/shoal check 2>&1"), 0, "%s", text);
	cr_expect_eq(sh("build/shoal stop --now 2>&1"), 0, "%s", text);
	sh("rm -rf %s", dir);
}
