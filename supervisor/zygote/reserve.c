/*
 * reserve.c - addresses of what was unloaded, until no worker has it mapped any more.
 *
 * A worker that was cloned before still has the old object there. Were the addresses used again, a
 * pointer would mean one thing in that worker and another in the rest. So the zygote maps nothing there
 * (PROT_NONE) until all clones that had the object are gone.
 *
 * OWNER  the zygote. A standby goes on with its copy: it may keep a range longer than need be
 */
#include "supervisor/zygote/reserve.h"
#include "shm/kernel.h"

#include <stdlib.h>

static struct reserved {
	uintptr_t start;
	size_t size;
	uint64_t clones; /* made before it was unloaded: these may have it */
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
