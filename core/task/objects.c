/*
 * objects.c - which code belongs to a task. See objects.h.
 */
#include "core/task/objects.h"
#include "core/task/task.h"
#include "shm/check.h"
#include "shm/kernel.h"
#include "shm/segment.h"

#include <string.h>

/* Room for this many instances. Pages that are not touched use no memory, and core has no allocator of its own. */
#define TABLE_MAX (1u << 20)

static struct objects **table;
static uint32_t ntable; /* entries up to the highest instance that was set */

static void sort_by_text(struct objects *s)
{
	for (unsigned i = 0; i < s->n; i++) {
		unsigned k = i;

		for (; k > 0 && s->object[s->by_text[k - 1]].text > s->object[i].text; k--)
			s->by_text[k] = s->by_text[k - 1];
		s->by_text[k] = i;
	}
}

void sh_objects_set(uint32_t instance, struct objects *s)
{
	sh_check(instance < TABLE_MAX);
	if (!table) {
		table = kernel_mmap(NULL, TABLE_MAX * sizeof(*table), PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		sh_check(table != MAP_FAILED);
	}
	if (instance >= ntable)
		ntable = instance + 1;
	if (s)
		sort_by_text(s);
	table[instance] = s;
}

const struct objects *sh_objects_of(const struct task *t)
{
	return t->instance < ntable ? table[t->instance] : NULL;
}

const struct object *sh_objects_text(const struct task *t, uintptr_t pc)
{
	const struct objects *s = sh_objects_of(t);
	unsigned from = 0, to = s ? s->n : 0;

	while (from < to) {
		unsigned mid = (from + to) / 2;
		const struct object *o = &s->object[s->by_text[mid]];

		if (pc < o->text)
			to = mid;
		else if (pc >= o->text_end)
			from = mid + 1;
		else
			return o;
	}
	return NULL;
}

/* False for -1 and 0, with which linkers fill arrays of constructors. */
static bool is_function(uintptr_t f)
{
	return f != 0 && f != UINTPTR_MAX;
}

void sh_object_construct(const struct object *o, int argc, char **argv, char **envp)
{
	if (o->init)
		o->init(argc, argv, envp);
	for (size_t i = 0; i < o->ninit; i++)
		if (is_function((uintptr_t)o->init_array[i]))
			o->init_array[i](argc, argv, envp);
}

void sh_object_destroy(const struct object *o)
{
	for (size_t i = o->nfini; i-- > 0;)
		if (is_function((uintptr_t)o->fini_array[i]))
			o->fini_array[i]();
	if (o->fini)
		o->fini();
}

/* ---- reset ---- */

#define REMOVE_PAGES 16 /* at least so many consecutive pages are returned to the system; fewer are cleared */

/* Sets the pages to zero. Only pages that a task has touched have memory. */
static void clear_pages(char *at, size_t size)
{
	unsigned char here[256];

	for (size_t n; size; at += n, size -= n) {
		size_t from = 0, to;

		n = size < sizeof here * SH_PAGE ? size : sizeof here * SH_PAGE;
		if (kernel_mincore(at, n, here) < 0)
			memset(here, 1, sizeof here);
		for (; from < n / SH_PAGE; from = to) {
			bool there = here[from] & 1;

			for (to = from + 1; to < n / SH_PAGE && (here[to] & 1) == there; to++)
				;
			if (there && (to - from < REMOVE_PAGES ||
				      kernel_madvise(at + from * SH_PAGE, (to - from) * SH_PAGE, MADV_REMOVE) < 0))
				memset(at + from * SH_PAGE, 0, (to - from) * SH_PAGE);
		}
	}
}

static void reset_range(const struct object_range *r)
{
	char *to = (char *)r->start;
	size_t at = 0, zero;

	while (at < r->size) {
		for (zero = at; zero < r->size && r->zero[zero / SH_PAGE]; zero += SH_PAGE)
			;
		if (zero > at)
			clear_pages(to + at, zero - at);
		at = zero;
		if (at < r->size) {
			if (memcmp(to + at, r->pristine + at, SH_PAGE) != 0)
				memcpy(to + at, r->pristine + at, SH_PAGE);
			at += SH_PAGE;
		}
	}
}

void sh_object_reset(const struct object *o)
{
	for (unsigned i = 0; i < o->nranges; i++)
		reset_range(&o->range[i]);
}
