/*
 * reserve.c - reserves the addresses of unloaded objects until no worker maps the objects any more.
 *
 * A worker that was cloned before the unload still has the old object mapped. If the addresses were used again, a
 * pointer would mean one thing in that worker and another thing in the others. So the zygote maps the range
 * PROT_NONE until all clones that had the object have ended.
 *
 * OWNER  the zygote. A standby continues with its copy and may keep a range longer than necessary
 */
#include "supervisor/zygote/reserve.h"
#include "shm/kernel.h"

#include <stdlib.h>

static struct reserved {
	uintptr_t start;
	size_t size;
	uint64_t clones; /* number of clones made before the unload; these clones may map the range */
} * reserved;
static unsigned nreserved;
static uint64_t clones;

void sh_reserve(uintptr_t start, size_t size)
{
	struct reserved *more = realloc(reserved, (nreserved + 1) * sizeof *more);

	if (!more)
		return;
	reserved = more;
	if (kernel_mmap((void *)start, size, PROT_NONE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0) != (void *)start)
		return;
	reserved[nreserved++] = (struct reserved){start, size, clones};
}

void sh_reserve_release(uint64_t oldest)
{
	for (unsigned i = 0; i < nreserved;) {
		if (oldest <= reserved[i].clones) {
			i++;
			continue;
		}
		kernel_munmap((void *)reserved[i].start, reserved[i].size);
		reserved[i] = reserved[--nreserved];
	}
}

uint64_t sh_reserve_clone(void)
{
	return ++clones;
}
