/*
 * limits.c - reads the limits of control groups, version 1 and 2 (systemd's hybrid mode has both).
 *
 * /proc/self/cgroup names the group of this process in each hierarchy. /proc/self/mountinfo says where the
 * hierarchy is mounted, and with which of its groups the mount begins: in a container that may be below the root.
 * If a hierarchy of version 1 has the controller, its limit counts, else that of version 2. A group is also bound
 * by the limits of its parents, so the smallest limit on the way to the root counts.
 */
#include "supervisor/daemon/limits.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct group {
	bool v2;
	char path[PATH_MAX];  /* of the group of this process, within its hierarchy */
	char mount[PATH_MAX]; /* where the hierarchy is mounted; path is relative to it */
};

/* True if word is in a list with commas. */
static bool lists(const char *list, const char *word)
{
	size_t n = strlen(word);

	for (const char *at = list; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
		if (strncmp(at, word, n) == 0 && (at[n] == ',' || at[n] == '\0'))
			return true;
	return false;
}

/* Lines are number:controllers:path; version 2 names no controllers. False if there is no group of either version. */
static bool find_group(const char *root, const char *controller, struct group *g)
{
	char name[PATH_MAX], line[PATH_MAX + 256];
	bool found = false;
	FILE *f;

	snprintf(name, sizeof name, "%s/proc/self/cgroup", root);
	f = fopen(name, "re");
	while (f && fgets(line, sizeof line, f)) {
		char *list = strchr(line, ':'), *path = list ? strchr(list + 1, ':') : NULL;
		bool v2 = path == list + 1;

		if (!path || !strchr(path, '\n')) /* longer than the buffer: not usable */
			continue;
		*path++ = '\0';
		path[strcspn(path, "\n")] = '\0';
		if (!(v2 ? !found : lists(list + 1, controller)))
			continue;
		g->v2 = v2;
		snprintf(g->path, sizeof g->path, "%s", strcmp(path, "/") ? path : "");
		found = true;
		if (!v2)
			break;
	}
	if (f)
		fclose(f);
	return found;
}

/* Decodes octal escapes such as \040 (blank), in place. */
static void unescape(char *s)
{
	char *to = s;

	for (; *s; s++) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' && s[3] >= '0' &&
		    s[3] <= '7') {
			*to++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 3;
		} else {
			*to++ = *s;
		}
	}
	*to = '\0';
}

/* Returns the part of path below the group with which the mount begins, or NULL if path is not below that group. */
static char *behind(char *path, const char *from)
{
	size_t n = strcmp(from, "/") ? strlen(from) : 0;

	return strncmp(path, from, n) == 0 && (path[n] == '/' || path[n] == '\0') ? path + n : NULL;
}

/*
 * Lines are id, parent, device, root, mount point, options, optional fields, -, type, source, super options.
 * A later mount on the same path hides earlier ones, so the last one that fits counts.
 */
static bool find_mount(const char *root, const char *controller, struct group *g)
{
	char name[PATH_MAX], line[3 * PATH_MAX], path[PATH_MAX] = "";
	bool found = false;
	FILE *f;

	snprintf(name, sizeof name, "%s/proc/self/mountinfo", root);
	f = fopen(name, "re");
	while (f && fgets(line, sizeof line, f)) {
		char *end = strstr(line, " - "), *rest, *from = line, *at, *type, *options;

		line[strcspn(line, "\n")] = '\0';
		for (unsigned i = 0; from && i < 3; i++)
			from = strchr(from, ' ') ? strchr(from, ' ') + 1 : NULL;
		if (!end || !from || from > end)
			continue;
		*end = '\0';
		from = strtok_r(from, " ", &rest);
		at = strtok_r(NULL, " ", &rest);
		type = strtok_r(end + 3, " ", &rest);
		strtok_r(NULL, " ", &rest);
		options = strtok_r(NULL, " ", &rest);
		if (!at || !type || strcmp(type, g->v2 ? "cgroup2" : "cgroup") ||
		    (!g->v2 && (!options || !lists(options, controller))))
			continue;
		unescape(from);
		unescape(at);
		if (!behind(g->path, from))
			continue;
		found = true;
		snprintf(path, sizeof path, "%s", behind(g->path, from));
		snprintf(g->mount, sizeof g->mount, "%s%.*s", root, (int)(PATH_MAX - 1 - strnlen(root, PATH_MAX / 2)),
			 at);
	}
	if (f)
		fclose(f);
	if (found)
		memcpy(g->path, path, sizeof path);
	return found;
}

/* Reads one or two numbers from a file; a word that is not a number ("max", "-1") gives -1. */
static bool numbers(const struct group *g, const char *file, long *first, long *second)
{
	char name[3 * PATH_MAX], a[32] = "", b[32] = "";
	FILE *f;

	snprintf(name, sizeof name, "%s%s/%s", g->mount, g->path, file);
	f = fopen(name, "re");
	if (!f)
		return false;
	if (fscanf(f, "%31s %31s", a, b) < 1)
		a[0] = '\0';
	fclose(f);
	*first = a[0] >= '0' && a[0] <= '9' ? atol(a) : -1;
	if (second)
		*second = b[0] >= '0' && b[0] <= '9' ? atol(b) : -1;
	return true;
}

static long cpus_of(const struct group *g)
{
	long quota = -1, period = -1;

	if (g->v2) {
		numbers(g, "cpu.max", &quota, &period);
	} else {
		numbers(g, "cpu.cfs_quota_us", &quota, NULL);
		numbers(g, "cpu.cfs_period_us", &period, NULL);
	}
	return quota > 0 && period > 0 ? (quota + period - 1) / period : -1;
}

static long memory_of(const struct group *g)
{
	long bytes = -1;

	numbers(g, g->v2 ? "memory.max" : "memory.limit_in_bytes", &bytes, NULL);
	return bytes;
}

static long least(const char *root, const char *controller, long (*limit_of)(const struct group *))
{
	struct group g;
	long all = -1;

	if (!find_group(root, controller, &g) || !find_mount(root, controller, &g))
		return -1;
	for (;;) {
		long one = limit_of(&g);
		char *up = strrchr(g.path, '/');

		if (one > 0 && (all < 0 || one < all))
			all = one;
		if (!up)
			return all;
		*up = '\0';
	}
}

long sh_limit_cpus(const char *root)
{
	return least(root, "cpu", cpus_of);
}

long sh_limit_memory(const char *root)
{
	return least(root, "memory", memory_of);
}

unsigned sh_cpus_within(unsigned cpus, long limit)
{
	if (limit > 0 && limit < 2)
		limit = 2; /* with one CPU, no worker could run while the other is throttled */
	return limit > 0 && limit < (long)cpus ? (unsigned)limit : cpus;
}
