/*
 * opens.c - opens libraries in all ways, with parks in between. Prints the same as a plain program does:
 * tests/proc/dl_test.c compares. argv[1]: the folder with the libraries.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(NATIVE)
static void move(void)
{
}
#define shoal_main main
#else
#include <shoal.h>

static void move(void)
{
	int worker = shoal_worker();

	for (int i = 0; i < 100 && shoal_worker() == worker; i++)
		shoal_sleep(100000);
}
#endif

/* Functions that plugins call. */
int host_calls;
int host_call(int n);
int host_call(int n)
{
	host_calls += n;
	return host_calls;
}

static char path[4096];

static const char *in_folder(const char *folder, const char *name)
{
	snprintf(path, sizeof path, "%s/%s", folder, name);
	return path;
}

static const char *last_part(const char *name)
{
	const char *slash = strrchr(name, '/');

	return slash ? slash + 1 : name;
}

static int call(void *handle, const char *name)
{
	int (*fn)(void) = NULL;

	*(void **)&fn = dlsym(handle, name);
	if (!fn) {
		printf("no %s: %s\n", name, last_part(dlerror()));
		return -1;
	}
	return fn();
}

struct seen {
	int plugin, other, libc;
};

static int look(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct seen *s = arg;
	const char *name = last_part(info->dlpi_name);

	(void)size;
	s->plugin += strcmp(name, "counter.so") == 0;
	s->libc += strcmp(name, "libc.so.6") == 0;
	s->other += strncmp(name, "libjansson", 10) == 0 || strncmp(name, "libuv", 5) == 0;
	return 0;
}

static void print_objects(void)
{
	struct seen s = {0, 0, 0};

	dl_iterate_phdr(look, &s);
	printf("objects: plugin %d, libc %d, other %d\n", s.plugin, s.libc, s.other);
}

static void count_and_close(const char *folder)
{
	for (int round = 0; round < 3; round++) {
		void *h = dlopen(in_folder(folder, "counter.so"), RTLD_NOW), *again;
		Dl_info info;
		int found;

		if (!h) {
			printf("counter.so: %s\n", dlerror());
			return;
		}
		printf("round %d: %d", round, call(h, "count"));
		move();
		printf(" %d", call(h, "count"));
		again = dlopen(in_folder(folder, "counter.so"), RTLD_LAZY);
		printf(" same %d, %d", again == h, call(again, "count"));
		printf(" noload %d", dlopen(in_folder(folder, "counter.so"), RTLD_NOW | RTLD_NOLOAD) == h);
		found = dladdr(dlsym(h, "count"), &info);
		printf(" name %s %s\n", found ? last_part(info.dli_fname) : "?", found ? info.dli_sname : "?");
		print_objects();
		printf("close %d", dlclose(h));
		printf(" %d", dlclose(h));
		move();
		printf(" %d\n", dlclose(h));
		print_objects();
	}
}

static void find_symbols(const char *folder)
{
	void *self = dlopen(NULL, RTLD_NOW), *local = dlopen(in_folder(folder, "local.so"), RTLD_NOW), *global;
	int (*again)(int) = NULL;
	char *error;

	printf("self: %d %d\n", dlsym(self, "host_call") == (void *)host_call,
	       dlsym(RTLD_DEFAULT, "host_call") == (void *)host_call);
	printf("malloc: %d, libuv's %d, json's %d\n", dlsym(RTLD_DEFAULT, "malloc") != NULL,
	       dlsym(RTLD_DEFAULT, "uv_run") != NULL, dlsym(self, "json_dumps") != NULL);
	dlerror();
	printf("local: %d", call(local, "number"));
	printf(", not for all %d", dlsym(RTLD_DEFAULT, "number") != NULL);
	error = dlerror();
	printf(" %d", error && strstr(error, "undefined symbol: number") != NULL);
	printf(" %d\n", dlerror() == NULL);
	global = dlopen(in_folder(folder, "global.so"), RTLD_NOW | RTLD_GLOBAL);
	move();
	printf("global: %d, for all %d\n", call(global, "global_number"), dlsym(RTLD_DEFAULT, "global_number") != NULL);
	printf("user: %d\n", call(dlopen(in_folder(folder, "user.so"), RTLD_NOW), "use"));
	printf("missing: %d", dlopen(in_folder(folder, "nothing.so"), RTLD_NOW) != NULL);
	printf(" %s\n", last_part(dlerror()));
	printf("damaged: %d", dlopen(in_folder(folder, "damaged.so"), RTLD_NOW) != NULL);
	printf(" %d\n", dlerror() != NULL);
	printf("undefined now: %d\n", dlopen(in_folder(folder, "undefined.so"), RTLD_NOW) != NULL);
	printf("undefined lazily: %d\n", call(dlopen(in_folder(folder, "undefined.so"), RTLD_LAZY), "defined"));
	*(void **)&again = dlsym(self, "host_call");
	printf("calls %d\n", again(0));
}

static void find_by_name(void)
{
	void *m = dlopen("libm.so.6", RTLD_NOW), *z = dlopen("libplugin.so", RTLD_NOW);
	double (*root)(double) = NULL;

	*(void **)&root = m ? dlsym(m, "cbrt") : NULL;
	printf("libm: %g", root ? root(27) : 0);
	printf(" close %d\n", dlclose(m));
	printf("by name: %d\n", z ? call(z, "number") : -1);
	printf("none: %d\n", dlopen("libnothing-like-this.so.7", RTLD_NOW) != NULL);
}

int shoal_main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
	if (argc < 2)
		return 2;
	count_and_close(argv[1]);
	find_symbols(argv[1]);
	find_by_name();
	return 0;
}
