/*
 * outside.c - see outside.h.
 */
#include "tests/outside/outside.h"
#include "shm/segment.h"

#include <dirent.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

int outside_sh(char *text, size_t room, const char *fmt, va_list ap)
{
	char command[8192];
	size_t n = 0, k;
	FILE *p;
	int st;

	vsnprintf(command, sizeof command, fmt, ap);
	p = popen(command, "re");
	if (!p)
		return -1;
	while (n + 1 < room && (k = fread(text + n, 1, room - 1 - n, p)) > 0)
		n += k;
	text[n] = '\0';
	st = pclose(p);
	return WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
}

long outside_number(const char *text, const char *key, long otherwise)
{
	json_t *all = json_loads(text, 0, NULL), *n = json_object_get(all, key);
	long number = json_is_number(n) ? (long)json_number_value(n) : otherwise;

	json_decref(all);
	return number;
}

int outside_connect(const char *socket_path)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(at.sun_path, sizeof at.sun_path, "%s", socket_path);
	if (s >= 0 && connect(s, (struct sockaddr *)&at, sizeof at) == 0)
		return s;
	if (s >= 0)
		close(s);
	return -1;
}

bool outside_map(long pid)
{
	char path[64], name[384], to[64];
	bool mapped = false;
	struct dirent *e;
	DIR *d;

	snprintf(path, sizeof path, "/proc/%ld/fd", pid);
	d = opendir(path);
	while (d && !mapped && (e = readdir(d))) {
		ssize_t n;
		int fd;

		snprintf(name, sizeof name, "%s/%s", path, e->d_name);
		n = readlink(name, to, sizeof to - 1);
		to[n > 0 ? n : 0] = '\0';
		if (strcmp(to, "/memfd:shoal (deleted)") != 0)
			continue;
		fd = open(name, O_RDWR | O_CLOEXEC);
		mapped = fd >= 0 && sh_segment_attach(fd) == 0;
		close(fd);
	}
	if (d)
		closedir(d);
	return mapped;
}
