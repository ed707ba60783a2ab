/*
 * ask.c - requests to the supervisor without a process for each: a line there, a line back.
 */
#include "shm/pass.h"
#include "tests/faults/faults.h"
#include "tests/outside/outside.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

int ask_open(void)
{
	char path[80];

	snprintf(path, sizeof path, "%s/s", dir);
	return outside_connect(path);
}

/* Descriptors ride on the first byte of an answer. */
static ssize_t take(int s, char *to, size_t room, int fds[2])
{
	int nfds;

	return sh_pass_receive(s, to, room, fds, 2, &nfds, 0);
}

json_t *ask(int s, int fds[2], const char *fmt, ...)
{
	char line[1024];
	size_t n = 0;
	va_list ap;
	int len;

	fds[0] = fds[1] = -1;
	va_start(ap, fmt);
	len = vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	if (send(s, line, (size_t)len, MSG_NOSIGNAL) != len)
		return NULL;
	while (n == 0 || text[n - 1] != '\n') {
		ssize_t k = take(s, text + n, sizeof text - 1 - n, fds);

		if (k <= 0)
			return NULL;
		n += (size_t)k;
	}
	text[n] = 0;
	return json_loads(text, 0, NULL);
}
