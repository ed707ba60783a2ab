/*
 * cancel.h - cancellation.
 */
#ifndef CORE_SYNC_CANCEL_H
#define CORE_SYNC_CANCEL_H

#include <stdbool.h>
#include <stdint.h>

struct g;

void g_cancel_mark(struct g *, uint64_t gid);
void g_cancel_wake(struct g *);
/* The wait with this sequence is over before it has begun: told, or cancelled. */
bool wait_finished(struct g *, uint32_t seq);
bool wait_cancellable(unsigned why);

#endif
