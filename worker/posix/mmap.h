/*
 * mmap.h - what the calls on mappings share: mmap.c, mremap.c, madvise.c.
 */
#ifndef WORKER_POSIX_MMAP_H
#define WORKER_POSIX_MMAP_H

#include "worker/posix/posix.h"
#include "shm/segment.h"
#include "worker/view.h"

#include <sys/mman.h>

static inline uintptr_t page_down(uintptr_t at)
{
	return at & ~(SH_PAGE - 1);
}

static inline uintptr_t page_up(uintptr_t at)
{
	return page_down(at + SH_PAGE - 1);
}

static inline void *map_failed(int err)
{
	errno = err;
	return MAP_FAILED;
}

/* The task has mappings, so an address may be one of them. */
static inline struct map_space *has_maps(struct g *g)
{
	return g ? atomic_load_explicit(&g->task->maps, memory_order_relaxed) : NULL;
}

/*
 * Takes [start, end) away: what is mapped there is unmapped in all workers and its pages are given back. The
 * addresses stay the caller's until sh_map_leave_end; fill: also those where nothing was. Parks. 0 or an errno.
 */
int sh_map_leave(struct g *, uintptr_t start, uintptr_t end, bool fill);
void sh_map_leave_end(struct g *); /* all that this goroutine has taken away is free */
/* The same for a caller that holds space->lock: fd and *n get descriptors for sh_map_files_close, once it holds nothing. */
#define MAP_CLOSES 16
void sh_map_leave_end_locked(struct map_space *, uint32_t mark, int fd[MAP_CLOSES], unsigned *n);
void sh_map_files_close(const int *fd, unsigned n);
/*
 * Adds an entry at e->start, where nothing is or the caller has taken away what was, or anywhere (e->start 0).
 * Its place is in *e afterwards. Parks. 0 or an errno; EEXIST: those addresses are not to be had.
 */
int sh_map_add(struct g *, struct map_entry *e);
/* Reads the file's bytes into memory, zeros stay behind its end. Parks. 0 or an errno. */
int sh_map_read_in(char *to, size_t n, int fd, off_t off);
/* A descriptor of the runtime's for the file behind fd. -1 and errno. */
int sh_map_file_open(int fd);

/* Hold space->lock. The task can have these addresses; the pages for a mapping there are found: e->off. */
bool sh_map_can_choose(struct map_space *, uintptr_t start, uintptr_t end, uint32_t mark);
bool sh_map_find_pages(struct map_space *, struct map_entry *e);
/* The entry becomes the task's memory, if it is such that counts. False: a limit. */
bool sh_map_charge(struct map_space *, struct map_entry *e);

#endif
