/*
 * dl_process.c - what a task finds of the process: libc's family, and what the runtime stands in for.
 *
 * The runtime links libraries of its own (libuv, jansson, ...). They are not the task's: a task that asks for
 * one of their symbols gets what a program gets that does not link them.
 *
 * Nothing here calls the loader: what it allocates on a goroutine would be the task's, and its tables
 * would differ between workers.
 */
#include "worker/posix/dl.h"
#include "worker/posix/dl_symbol.h"

#include <dlfcn.h>
#include <link.h>

static const char *last_part(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* Names of the loader's interface mean the task's own (dl.c). */
static const char *stand_in(const char *name)
{
	static const char *const names[] = {LIBRARY_CALLS};

	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (strcmp(names[i] + 3, name) == 0)
			return names[i];
	return name;
}

static bool find_in(struct link_map *map, const char *name, const char *version, void **address)
{
	struct object o = {.map = map, .base = map->l_addr};

	dlinfo(map, RTLD_DI_TLS_MODID, &o.tls_module);
	return dl_symbol(&o, name, version, address);
}

/* The first in the list is the runtime's own program, which exports what it stands in for. */
bool dl_of_process(void *handle, const char *name, const char *version, void **address)
{
	struct link_map *first = _r_debug.r_map;

	for (struct link_map *map = first; map; map = map->l_next)
		if ((map == first || sh_library_is_libcs(last_part(map->l_name))) && (!handle || map == handle) &&
		    find_in(map, map == first ? stand_in(name) : name, version, address))
			return true;
	return false;
}

bool dl_is_loaded(const void *handle)
{
	for (struct link_map *map = _r_debug.r_map; map; map = map->l_next)
		if (map == handle)
			return true;
	return false;
}

void *dl_family_handle(const char *name)
{
	for (struct link_map *map = _r_debug.r_map; map; map = map->l_next)
		if (strcmp(last_part(map->l_name), name) == 0)
			return map;
	return NULL;
}
