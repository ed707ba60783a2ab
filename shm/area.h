/*
 * area.h - the area: where the mappings of tasks lie.
 *
 *	file of the segment	SH_AREA_FILE ...........................
 *				    |                      |
 *	SH_AREA_BACK		its pages, the same in every process; in a worker they cannot be touched
 *	SH_AREA			the addresses that tasks see; a worker maps there what its current task has
 *
 * The page at offset x of the area usually appears at SH_AREA + x, but a mapping that was moved (mremap),
 * or whose address the task has chosen itself, has its pages at another offset.
 *
 * The area is cut into chunks. A chunk belongs to one task at a time, so the addresses of two tasks
 * never meet.
 *
 * OWNER  a chunk: the task whose slot + 1 is in sh_chunk[]; only that task, and the medic at its end, write
 * DEATH  a chunk that was claimed but is not used yet belongs to the task until the task ends
 */
#ifndef SHM_AREA_H
#define SHM_AREA_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SH_AREA_BACK 0x400000000000ul
#define SH_AREA 0x480000000000ul
#define SH_AREA_SIZE (8ul << 40)
#define SH_AREA_FILE (16ul << 40) /* offset in the file of the segment */
#define SH_CHUNK (64ul << 20)
#define SH_CHUNKS (SH_AREA_SIZE / SH_CHUNK)

/* True if the address is in the area or in the second mapping of its pages. */
static inline bool sh_in_area(uintptr_t at)
{
	return at - SH_AREA < SH_AREA_SIZE;
}

/*
 * Maps the pages of the area from the segment's file. Called by sh_segment_create and sh_segment_attach. 0 or
 * -errno.
 */
int sh_area_map(int fd);
void sh_area_unmap(void);
/* Makes all pages accessible to the caller (the medic), at both addresses. */
void sh_area_open(void);
/* Maps the pages at [off, off + size) at the address as well, with this protection. 0 or -errno. */
int sh_area_show(size_t off, size_t size, void *at, int prot);
/* Gives the pages back to the system; they read as zeros afterwards. */
void sh_area_discard(size_t off, size_t size);

/* Claims n neighbouring chunks for the owner. Returns the number of the first, or -1 if there are none. */
int64_t sh_chunks_claim(uint32_t owner, uint32_t n);
/* Frees the chunk and returns its memory to the system, if it belongs to the owner. */
void sh_chunk_release(uint32_t chunk, uint32_t owner);
bool sh_chunk_owned(uint32_t chunk, uint32_t owner);

#endif
