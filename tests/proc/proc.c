/* proc.c - what the tests of real processes share. See proc.h. */
#include "tests/outside/outside.h"
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
	va_list ap;
	int code;

	va_start(ap, fmt);
	code = outside_sh(text, sizeof text, fmt, ap);
	va_end(ap);
	cr_assert_neq(code, -1);
	return code;
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

int count_workers(void)
{
	sh("build/shoal workers | awk 'NR > 1 && $2 != \"-\" && $3 != \"starting\" { n++ } END { print n + 0 }'");
	return atoi(text);
}
