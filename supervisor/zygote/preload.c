/*
 * preload.c - loads libraries that libc would load later by itself, before the first worker is cloned.
 *
 * The services of nsswitch.conf are libraries, which libc opens inside getpwnam and similar calls. If libc opened
 * one in a worker, the other workers would not have it, and a goroutine that parks inside such a call and
 * continues on another worker would jump to an address where there is no code. A library that is not installed is
 * skipped: libc would not find it either.
 */
#include "supervisor/zygote/zygote.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#define NSSWITCH "/etc/nsswitch.conf"

static void load(const char *service)
{
	char name[64];

	if (strchr(service, '/') || snprintf(name, sizeof name, "libnss_%s.so.2", service) >= (int)sizeof name)
		return;
	dlopen(name, RTLD_NOW | RTLD_NODELETE);
}

/* Loads the services that a line names: "hosts: files [NOTFOUND=return] dns # comment". */
static void load_all(char *line)
{
	char *at = NULL, *word;

	line[strcspn(line, "#\n")] = '\0';
	line = strchr(line, ':');
	if (!line)
		return;
	for (char *from, *to; (from = strchr(line, '[')) && (to = strchr(from, ']'));)
		memset(from, ' ', (size_t)(to - from) + 1);
	for (word = strtok_r(line + 1, " \t", &at); word; word = strtok_r(NULL, " \t", &at))
		load(word);
}

void sh_preload(void)
{
	char line[512];
	FILE *f = fopen(NSSWITCH, "re");

	if (!f)
		return;
	while (fgets(line, sizeof line, f))
		load_all(line);
	fclose(f);
}
