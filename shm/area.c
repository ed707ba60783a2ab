/*
 * area.c - maps the pages of tasks' mappings, and records the owner of each chunk of addresses. See area.h.
 */
#include "shm/area.h"
#include "shm/check.h"
#include "shm/kernel.h"
#include "shm/kill.h"
#include "shm/segment.h"

#include <errno.h>

#define sh_chunk ((_Atomic uint32_t *)(SH_BASE + SH_OFF_CHUNK))
#define sh_chunk_hint ((_Atomic uint32_t *)(SH_BASE + SH_OFF_CHUNK) + SH_CHUNKS)

static bool open_here;

int sh_area_map(int fd)
{
	void *at = kernel_mmap((void *)SH_AREA_BACK, SH_AREA_SIZE, PROT_NONE,
			       MAP_SHARED | MAP_FIXED_NOREPLACE | MAP_NORESERVE, fd, (off_t)SH_AREA_FILE);

	if (at == MAP_FAILED)
		return -errno;
	kernel_madvise(at, SH_AREA_SIZE, MADV_DONTDUMP);
	return 0;
}

void sh_area_unmap(void)
{
	kernel_munmap((void *)SH_AREA_BACK, SH_AREA_SIZE);
}

void sh_area_open(void)
{
	sh_check(kernel_mprotect((void *)SH_AREA_BACK, SH_AREA_SIZE, PROT_READ | PROT_WRITE) == 0);
	sh_check(sh_area_show(0, SH_AREA_SIZE, (void *)SH_AREA, PROT_READ | PROT_WRITE) == 0);
	open_here = true;
}

int sh_area_show(size_t off, size_t size, void *at, int prot)
{
	/* An old size of 0 makes a second mapping of the same shared memory. */
	if (kernel_mremap((char *)SH_AREA_BACK + off, 0, size, MREMAP_MAYMOVE | MREMAP_FIXED, at) == MAP_FAILED)
		return -errno;
	return prot != PROT_NONE && kernel_mprotect(at, size, prot) < 0 ? -errno : 0;
}

void sh_area_discard(size_t off, size_t size)
{
	char *at = (char *)SH_AREA_BACK + off;

	if (kernel_madvise(at, size, MADV_REMOVE) == 0 || errno != EACCES || open_here)
		return;
	/* Kernels before Linux 6.7 remove pages only through a mapping that is writable at the moment. */
	kernel_mprotect(at, size, PROT_READ | PROT_WRITE);
	kernel_madvise(at, size, MADV_REMOVE);
	kernel_mprotect(at, size, PROT_NONE);
}

/* ---- chunks ---- */

bool sh_chunk_owned(uint32_t chunk, uint32_t owner)
{
	return chunk < SH_CHUNKS && atomic_load(&sh_chunk[chunk]) == owner;
}

static bool claim_all(uint32_t first, uint32_t n, uint32_t owner)
{
	for (uint32_t i = 0; i < n; i++) {
		uint32_t nobody = 0;

		if (!atomic_compare_exchange_strong(&sh_chunk[first + i], &nobody, owner)) {
			while (i-- > 0) {
				atomic_store(&sh_chunk[first + i], 0);
				KILL_POINT("area.claim.undone");
			}
			return false;
		}
		KILL_POINT("area.claim.one");
	}
	return true;
}

/* Returns the first of n free neighbouring chunks in [from, to), or to. */
static uint32_t find_free(uint32_t from, uint32_t to, uint32_t n)
{
	uint32_t run = 0;

	for (uint32_t i = from; i < to; i++) {
		run = atomic_load_explicit(&sh_chunk[i], memory_order_relaxed) ? 0 : run + 1;
		if (run == n)
			return i + 1 - n;
	}
	return to;
}

int64_t sh_chunks_claim(uint32_t owner, uint32_t n)
{
	uint32_t hint = atomic_load(sh_chunk_hint) % SH_CHUNKS;

	for (unsigned turn = 0; turn < 2; turn++) {
		uint32_t at = turn ? 0 : hint;

		while ((at = find_free(at, SH_CHUNKS, n)) < SH_CHUNKS) {
			if (claim_all(at, n, owner)) {
				atomic_store(sh_chunk_hint, at + n);
				KILL_POINT("area.claim.hint");
				return at;
			}
			at++;
		}
	}
	return -1;
}

void sh_chunk_release(uint32_t chunk, uint32_t owner)
{
	if (!sh_chunk_owned(chunk, owner))
		return;
	sh_area_discard((size_t)chunk * SH_CHUNK, SH_CHUNK);
	atomic_store(&sh_chunk[chunk], 0);
	KILL_POINT("area.release.one");
}
