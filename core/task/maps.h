/*
 * maps.h - the address space of a task: the table of its mappings.
 *
 * A worker maps memory only in its own process. So each mapping of a task is an entry of a table in the segment,
 * and a worker that runs a goroutine of the task makes its process agree with the table (worker/view.c). Every
 * change of the table has a number, gen. The last MAP_CHANGES changed ranges are kept, so that a worker applies
 * only the changes that it has missed.
 *
 * 	munmap on worker 1			worker 2, which runs a goroutine of the task
 * 	a  entries are MAPS_LEAVING, gen = 8
 * 	b  unmaps in its own process
 * 	c  sends a signal to worker 2
 * 						d  unmaps; writes 8 to m->map_gen
 * 	e  sees 8: no worker has the pages any more
 * 	f  frees the pages, entries are MAPS_GONE:
 * 	   their addresses may be used again
 *
 * OWNER  the task; the block is in its heap
 * LOCK   lock for table, change, next, limit and brk
 * ORDER  change[] and table are stored before gen. A worker publishes the goroutine that it is about to run
 *        (m->curg) before it reads the task's state number. A changer stores gen, raises that number, makes all
 *        workers pass a barrier, and reads curg: either the worker applies the change by itself, or the changer
 *        waits for it
 * DEATH  a table never changes except for the state of an entry: a change makes a new table, and one store
 *        publishes it. A death before that store costs a block of the task's heap; after it, the change is done.
 *        MAPS_LEAVING entries of a goroutine that died are finished by the next goroutine that unmaps something.
 *        sh_maps_repair() counts the task's mapped memory again
 */
#ifndef CORE_TASK_MAPS_H
#define CORE_TASK_MAPS_H

#include "shm/area.h"
#include "shm/lock.h"
#include "shm/segment.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct task;

#define MAP_CHANGES 128

enum map_kind {
	MAPS_MEMORY, /* pages of the area, at off */
	MAPS_FILE,   /* a file, open as fd, from off on */
	MAPS_LENT,   /* memory that the task already has (heap, variables), with another protection */
	MAPS_BLANK   /* only addresses, while they are being unmapped: they have no memory */
};
enum map_state { MAPS_USED, MAPS_LEAVING, MAPS_GONE };
enum map_flags {
	MAPF_SHARED = 1,  /* MAP_SHARED */
	MAPF_CHARGED = 2, /* counts as the task's memory */
	MAPF_LOCKED = 4,  /* mlock */
	MAPF_FREE = 8	  /* MAP_NORESERVE: never charged */
};

struct map_entry {
	uintptr_t start, end;
	uint64_t off;
	int32_t fd;
	uint32_t leaver; /* MAPS_LEAVING: run_mark() of the goroutine that removes it */
	uint8_t kind, prot, flags;
	uint8_t state;
};

struct map_table {
	uint32_t n, room;
	struct map_entry e[]; /* sorted by address, without overlap */
};

struct map_change {
	uintptr_t start, end;
};

struct map_space {
	struct sh_lock lock;
	uint32_t owner; /* owner of its chunks: slot of the task + 1 */
	struct task *task;
	_Atomic(struct map_table *) table; /* complete when it is stored: pairs with table_of */
	_Atomic uint64_t gen;
	_Atomic uint32_t over;		       /* the task has ended, and workers unmap everything */
	uint32_t first_chunk, last_chunk;      /* all its chunks are in this range; last + 1 is its end */
	uintptr_t next, limit;		       /* free addresses, where the next mapping goes */
	uintptr_t brk_start, brk;	       /* sbrk */
	bool lock_future;		       /* mlockall(MCL_FUTURE) */
	struct map_change change[MAP_CHANGES]; /* change number gen is in change[gen % MAP_CHANGES] */
};

/* A new table under construction. */
struct map_edit {
	struct map_space *space;
	struct map_table *to;
};

/* Returns the task's space, which it makes if there is none. NULL: no memory. Only on a goroutine of the task. */
struct map_space *sh_maps_of(struct task *);

/* ---- all of these: the caller holds space->lock ---- */

/* Returns the index of the entry at or after the address; n if there is none. */
uint32_t sh_maps_seek(const struct map_table *, uintptr_t at);
/* Returns the used entry that contains the address, or NULL. */
struct map_entry *sh_maps_find(struct map_space *, uintptr_t at);
/* True if no entry, used or leaving, overlaps [start, end). */
bool sh_maps_vacant(struct map_space *, uintptr_t start, uintptr_t end);
/* True if no entry uses the pages of the area at [off, off + size). */
bool sh_maps_unbacked(struct map_space *, uint64_t off, size_t size);
/* True if used entries cover [start, end) without a hole. */
bool sh_maps_whole(struct map_space *, uintptr_t start, uintptr_t end);
/* Returns free addresses in the area whose own pages are free as well, or 0. */
uintptr_t sh_maps_room(struct map_space *, size_t size);
/* True if [start, end) lies in chunks of this space. Claims no chunk. */
bool sh_maps_own(struct map_space *, uintptr_t start, uintptr_t end);

/*
 * Begins a new table with the entries of the old one and room for more entries and cuts. Returns false if there is
 * no memory.
 */
bool sh_maps_edit_begin(struct map_edit *, struct map_space *, uint32_t more);
/* Removes the parts of entries that lie in [start, end). */
void sh_maps_edit_remove(struct map_edit *, uintptr_t start, uintptr_t end);
/* Adds an entry, in any order. */
void sh_maps_edit_put(struct map_edit *, struct map_entry);
/* Publishes the new table. [start, end) is the range that workers must compare again; 0, 0: none. */
void sh_maps_edit_commit(struct map_edit *, uintptr_t start, uintptr_t end);
/* Records one more changed range under the number of the next change. */
void sh_maps_note_change(struct map_space *, uintptr_t start, uintptr_t end);
void sh_maps_edit_drop(struct map_edit *);

/* Returns the part of the entry that lies in [start, end); start == end if there is none. */
struct map_entry sh_maps_cut(struct map_entry, uintptr_t start, uintptr_t end);
/* Returns the bytes that count as the task's memory. */
size_t sh_maps_charged(const struct map_table *);

/* ---- called by the medic ---- */

/*
 * Called after the end of the task, when nothing of it runs: frees all. Returns false if some workers have not
 * unmapped yet; then call it again.
 */
bool sh_maps_release(struct task *);
void sh_maps_repair(struct sh_lock *);	  /* called when the holder of the lock is dead */
const char *sh_maps_fault(struct task *); /* returns what is wrong, or NULL */

#endif
