/*
 * maps.h - the address space of a task: the table of its mappings.
 *
 * A worker maps memory for its own process only. So each mapping of a task is an entry of a table in
 * the segment, and a worker that runs a goroutine of the task makes its process agree with the table
 * (worker/view.c). Every change of the table has a number, gen; the last MAP_CHANGES changed ranges are
 * remembered, so that a worker that comes by applies only what it has missed.
 *
 *	munmap on worker 1			worker 2, which runs a goroutine of the task
 *	a  entries are MAPS_LEAVING, gen = 8
 *	b  unmaps in its own process
 *	c  sends a signal to worker 2
 *						d  unmaps; writes 8 to m->map_gen
 *	e  sees 8: nobody has the pages any more
 *	f  gives the pages back, entries are MAPS_GONE:
 *	   their addresses may be used again
 *
 * OWNER  the task; the block is in its heap
 * LOCK   lock for table, change, next, limit and brk
 * ORDER  change[] and table are stored before gen. A worker shows which goroutine it is about to run (m->curg)
 *        before it reads the task's state number; a changer stores gen, raises that number, makes all pass a
 *        barrier, and reads curg: either the worker applies the change by itself, or the changer waits for it
 * DEATH  a table is never changed but for the state of an entry: a change makes a new table, and one store
 *        publishes it. A death before that costs a block of the task's heap; after it, the change is made.
 *        MAPS_LEAVING entries of a goroutine that died are finished by the next who removes some.
 *        sh_maps_repair() counts anew what the task has mapped
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
#define MAP_PAGE 4096ul

enum map_kind {
	MAPS_MEMORY, /* pages of the area, at off */
	MAPS_FILE,   /* a file, open as fd, from off on */
	MAPS_LENT,   /* memory that the task has anyway (heap, variables), with another protection */
	MAPS_BLANK   /* addresses only: on their way out, nothing is behind them */
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
	struct map_entry e[]; /* by address, and none overlap */
};

struct map_change {
	uintptr_t start, end;
};

struct map_space {
	struct sh_lock lock;
	uint32_t owner; /* of its chunks: slot + 1 */
	struct task *task;
	_Atomic(struct map_table *) table; /* complete when it is stored: pairs with table_of */
	_Atomic uint64_t gen;
	_Atomic uint32_t over;		       /* the task has ended: workers unmap all */
	uint32_t first_chunk, last_chunk;      /* all its chunks are among these; last + 1 is past the end */
	uintptr_t next, limit;		       /* free addresses, where the next mapping goes */
	uintptr_t brk_start, brk;	       /* sbrk */
	bool lock_future;		       /* mlockall(MCL_FUTURE) */
	struct map_change change[MAP_CHANGES]; /* of number gen: change[gen % MAP_CHANGES] */
};

/* A new table under construction. */
struct map_edit {
	struct map_space *space;
	struct map_table *to;
};

/* The task's space, made if there is none. NULL: no memory. On a goroutine of the task. */
struct map_space *sh_maps_of(struct task *);

/* ---- Holds: space->lock, all of these ---- */

/* The entry at or after the address, its number in the table; n if there is none. */
uint32_t sh_maps_seek(const struct map_table *, uintptr_t at);
/* The used entry with that address, or NULL. */
struct map_entry *sh_maps_find(struct map_space *, uintptr_t at);
/* No entry, used or leaving, overlaps [start, end). */
bool sh_maps_vacant(struct map_space *, uintptr_t start, uintptr_t end);
/* Pages of the area at [off, off + size) are behind no entry. */
bool sh_maps_unbacked(struct map_space *, uint64_t off, size_t size);
/* [start, end) has used entries without a hole. */
bool sh_maps_whole(struct map_space *, uintptr_t start, uintptr_t end);
/* Free addresses in the area, whose own pages are free as well. 0: none are left. */
uintptr_t sh_maps_room(struct map_space *, size_t size);
/* [start, end) lies in chunks of this space: claims none. */
bool sh_maps_own(struct map_space *, uintptr_t start, uintptr_t end);

/* Begins a new table, with what is in the old one and room for this number of entries and cuts more. False: no memory. */
bool sh_maps_edit_begin(struct map_edit *, struct map_space *, uint32_t more);
/* Takes out what lies in [start, end). */
void sh_maps_edit_remove(struct map_edit *, uintptr_t start, uintptr_t end);
/* Adds an entry, in any order. */
void sh_maps_edit_put(struct map_edit *, struct map_entry);
/* Publishes it. [start, end): what workers must look at again; 0, 0: nothing. */
void sh_maps_edit_commit(struct map_edit *, uintptr_t start, uintptr_t end);
/* One more changed range, with the number of the next change. */
void sh_maps_note_change(struct map_space *, uintptr_t start, uintptr_t end);
void sh_maps_edit_drop(struct map_edit *);

/* The part of the entry that lies in [start, end); start == end if there is none. */
struct map_entry sh_maps_cut(struct map_entry, uintptr_t start, uintptr_t end);
/* Bytes that count as the task's memory. */
size_t sh_maps_charged(const struct map_table *);

/* ---- the medic's ---- */

/* The task is over and nothing of it runs: all is given back. False: some workers have not unmapped yet, call again. */
bool sh_maps_release(struct task *);
void sh_maps_repair(struct sh_lock *);	  /* its holder is dead */
const char *sh_maps_fault(struct task *); /* what is wrong, or NULL */

#endif
