/*
 * log.c - writes the log and reads SHOAL_DEBUG. See log.h.
 */
#include "shm/kernel.h"
#include "supervisor/daemon/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

void sh_log(const char *fmt, ...)
{
	int saved = errno;
	struct timespec now;
	struct tm tm;
	char line[1024];
	size_t n;
	int k;
	va_list ap;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	n = strftime(line, sizeof line, "%Y-%m-%dT%H:%M:%S", &tm);
	n += (size_t)snprintf(line + n, sizeof line - n, ".%03ldZ shoald[%d]: ", now.tv_nsec / 1000000, (int)getpid());
	va_start(ap, fmt);
	k = vsnprintf(line + n, sizeof line - n - 1, fmt, ap);
	va_end(ap);
	if (k > 0)
		n += (size_t)k < sizeof line - n - 1 ? (size_t)k : sizeof line - n - 2;
	line[n++] = '\n';
	while (kernel_write(2, line, n) < 0 && errno == EINTR)
		;
	errno = saved;
}

long sh_debug_number(const char *key, long none)
{
	const char *env = getenv("SHOAL_DEBUG"), *at = env ? strstr(env, key) : NULL;

	return at ? atol(at + strlen(key)) : none;
}
