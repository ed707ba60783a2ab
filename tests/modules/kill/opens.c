/*
 * kill/opens.c - opens and closes a library that no task has opened before. For the kill driver, as kill/work.c.
 */
#define _GNU_SOURCE
#include <shoal.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static struct shoal_go_opts stubborn = {.name = "opens", .attempts = 100, .flags = SHOAL_ISOLATED};
static struct shoal_wg wg;

/* A file of its own each time, which a library opened before cannot stand for. */
static void copy_library(const char *from, char *to)
{
	char buf[4096];
	int in = open(from, O_RDONLY | O_CLOEXEC), out = mkstemp(to);
	ssize_t n;

	if (in < 0 || out < 0)
		abort();
	while ((n = read(in, buf, sizeof buf)) > 0)
		if (write(out, buf, (size_t)n) != n)
			abort();
	close(in);
	close(out);
}

static void opens(void *arg)
{
	char path[] = "/tmp/shoal-opens-XXXXXX";
	void *h;

	(void)arg;
	copy_library("build/tests/modules/library/tiny.so", path);
	h = dlopen(path, RTLD_NOW);
	unlink(path);
	if (!h || !dlsym(h, "tiny_number"))
		abort();
	shoal_yield();
	dlclose(h);
}

int shoal_main(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	for (int i = 0; i < 2; i++)
		shoal_wg_go_with(&wg, &stubborn, opens, NULL, 0);
	shoal_wg_wait(&wg);
	return 0;
}
