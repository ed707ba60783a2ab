/* note.h - what a worker has in hand, written down for the case of its death. */
#ifndef CORE_REPAIR_NOTE_H
#define CORE_REPAIR_NOTE_H

#include <stdint.h>

struct g;
struct shoal_wg;
struct sudog;

/*
 * One in each seat. A note may name what is done already or was never begun: repair checks the facts.
 * OWNER  the process in the seat
 * LOCK   none
 * ORDER  a field is stored before the commit that it announces and cleared after it; sh_noted() keeps the
 *        compiler from moving either. What belongs to a field is stored before the field itself
 * DEATH  only the medic reads it, then clears all of it
 */
struct note {
	struct g *g; /* taken off a free list, or being put on one; gid is its number */
	uint64_t gid;
	struct g *ready;	  /* being made runnable and queued */
	struct g *kicked;	  /* moves from runnext to the ring */
	struct g *scan;		  /* we hold its scan bit */
	struct g *suspend;	  /* we asked it to stop, or it has stopped for us */
	uint32_t handed;	  /* id + 1 of our P that is on its way to a pinned worker, or of the P that we take */
	uint32_t closed;	  /* descriptor + 1 that is being closed: its waiters are being woken */
	uint32_t grab_at, grab_n; /* slots of our ring that a steal is filling */
	void *chan; /* a mutex that is being taken or released, or whose woken waiter is this goroutine: mutex.c */
	struct sudog *sg; /* taken off its queue; its wait is being finished. sg_seq: its park sequence */
	uint32_t sg_seq;
	uint64_t sg_mark;    /* channel: the sendx that commits its value; semaphore: the units that stay, plus 1 */
	struct shoal_wg *wg; /* its count becomes wg_count, and then *wg_slot becomes wg_value */
	struct shoal_wg **wg_slot, *wg_value;
	int64_t wg_count;
	struct shoal_wg *wg_promised; /* the wait group that counts a member that is being made; g names that one */
	struct g *ending;	      /* the G that is being ended, its gid and how */
	uint64_t ending_gid;
	int32_t ending_how, ending_signal;
	void *ending_address;
	uint64_t *ended_counter, ended_value; /* the counter of ended Gs, and its value after this end */
	uint64_t making; /* index of a G that is being made for the first time; ours if its status names us */
	uint64_t made;	 /* the value of our P's counter of Gs of this task once g is made; 0: none is being made */
};

#endif
