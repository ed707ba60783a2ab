/*
 * note.h - what a worker has in hand.
 */
#ifndef CORE_REPAIR_NOTE_H
#define CORE_REPAIR_NOTE_H

#include <stdint.h>

struct g;
struct shoal_wg;
struct sudog;

/*
 * What a worker has in hand, written before each commit; read by the medic only. A note may name
 * what was done already or never begun: repair looks at the facts again.
 */
struct note {
	struct g *g; /* taken off a free list, or being put on one */
	uint64_t gid;
	struct g *ready;	  /* being made runnable and queued */
	struct g *kicked;	  /* leaves runnext for the ring */
	struct g *scan;		  /* its scan bit is ours */
	struct g *suspend;	  /* asked to stop for us, or stopped */
	uint32_t handed;	  /* id + 1 of our P on its way to a pinned worker, or of the one we take */
	uint32_t closed;	  /* descriptor + 1 whose waiters are being told that it means another file now */
	uint32_t grab_at, grab_n; /* ring slots of our P that a steal or a batch is filling */
	void *chan;		  /* channel or sync object under way, with its lock held */
	struct sudog *sg;	  /* taken off its queue, to be told and readied */
	uint32_t sg_seq;
	uint64_t sg_mark;    /* chan->sendx before its value is put */
	struct shoal_wg *wg; /* its count is being changed to wg_count, and *wg_slot with it to wg_value */
	struct shoal_wg **wg_slot, *wg_value;
	int64_t wg_count;
	struct shoal_wg *wg_promised; /* counts a member that is being made: g, if that is noted */
	struct g *ending;	      /* a G being ended, with its gid and how */
	uint64_t ending_gid;
	int32_t ending_how, ending_signal;
	void *ending_address;
	uint64_t *ended_counter, ended_value; /* who counts the ends, and what it says after this one */
	uint64_t making;		      /* number of a G that never was: ours, if its status names us */
	uint64_t made; /* what counts the Gs of g's task on our P says once g is made; 0: not yet to be counted */
};

#endif
