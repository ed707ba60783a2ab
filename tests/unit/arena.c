/*
 * arena.c - keeps Criterion out of the addresses of the segment.
 *
 * Criterion maps its arena (boxfort) at a random address with MAP_FIXED. About one run in nine it chose one inside of
 * the area, and then no test could make a segment. It calls this mmap64 instead of libc's, and takes the address that
 * it returns.
 */
#include "shm/area.h"
#include "shm/kernel.h"
#include "shm/segment.h"

#include <sys/mman.h>

#define FIRST SH_BASE
#define END (SH_AREA + SH_AREA_SIZE) /* all ranges of shm and core lie between these */
#define TiB (1ul << 40)

void *mmap64(void *at, size_t size, int prot, int flags, int fd, off_t offset)
{
	if ((flags & MAP_FIXED) && (uintptr_t)at - FIRST < END - FIRST)
		at = (void *)(END + (uintptr_t)at % TiB);
	return kernel_mmap(at, size, prot, flags, fd, offset);
}
