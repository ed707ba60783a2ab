/* ledger.c - makes and maps the ledger, and lists the libraries of instances in it. See ledger.h. */
#include "shm/kernel.h"
#include "supervisor/keeper/ledger.h"
#include "core/g/g.h"
#include "core/root.h"
#include "shm/segment.h"
#include "core/task/objects.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct ledger *sh_ledger;

static uint64_t layout(void)
{
	return sizeof(struct ledger) * 1000003u + sizeof(struct shoal_root) * 101u + sizeof(struct g) * 7u +
	       sizeof(struct zreq) + SH_VERSION;
}

static int map(int fd)
{
	void *at = kernel_mmap(NULL, sizeof *sh_ledger, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);

	if (at == MAP_FAILED)
		return -errno;
	sh_ledger = at;
	return 0;
}

int sh_ledger_create(void)
{
	int fd = kernel_memfd_create("shoal-ledger", MFD_CLOEXEC), err;

	if (fd < 0)
		return -errno;
	err = kernel_ftruncate(fd, sizeof *sh_ledger) < 0 ? -errno : map(fd);
	if (err < 0) {
		kernel_close(fd);
		return err;
	}
	sh_ledger->layout = layout();
	sh_ledger->magic = LEDGER_MAGIC;
	return fd;
}

int sh_ledger_attach(int fd)
{
	int err = map(fd);

	if (err < 0)
		return err;
	return sh_ledger->magic == LEDGER_MAGIC && sh_ledger->layout == layout() ? 0 : -EINVAL;
}

/* ---- objects ---- */

static void put_object(uint32_t instance, const struct object *o)
{
	uint32_t n = atomic_load(&sh_ledger->nobjects);

	for (uint32_t i = 0; i < LEDGER_OBJECTS; i++) {
		struct ledger_object *l = &sh_ledger->object[i];

		if (atomic_load(&l->instance))
			continue;
		l->base = o->base;
		l->text_start = o->text;
		l->text_end = o->text_end;
		snprintf(l->path, sizeof l->path, "%s", strlen(o->path) < sizeof l->path ? o->path : "");
		if (i >= n)
			atomic_store(&sh_ledger->nobjects, i + 1);
		atomic_store(&l->instance, instance + 1);
		return;
	}
}

void sh_ledger_objects_put(uint32_t instance, const struct objects *s)
{
	uint32_t n = atomic_load(&sh_ledger->nobjects);

	for (uint32_t i = 0; i < n; i++)
		if (atomic_load(&sh_ledger->object[i].instance) == instance + 1)
			atomic_store(&sh_ledger->object[i].instance, 0);
	for (unsigned i = 1; s && i < s->n; i++)
		put_object(instance, &s->object[i]);
}

const struct ledger_object *sh_ledger_object_next(uint32_t *i)
{
	uint32_t n = atomic_load(&sh_ledger->nobjects);

	while (*i < n && *i < LEDGER_OBJECTS) {
		struct ledger_object *l = &sh_ledger->object[(*i)++];

		if (atomic_load(&l->instance) && l->path[0])
			return l;
	}
	return NULL;
}

const struct ledger_object *sh_ledger_object_at(uintptr_t pc)
{
	const struct ledger_object *l;

	for (uint32_t i = 0; (l = sh_ledger_object_next(&i)) != NULL;)
		if (pc >= l->text_start && pc < l->text_end)
			return l;
	return NULL;
}
