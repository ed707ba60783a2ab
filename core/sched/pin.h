/* pin.h - goroutines that stay on one worker. See pin.c. */
#ifndef CORE_SCHED_PIN_H
#define CORE_SCHED_PIN_H

#include "core/sched/m.h"

#include <stdbool.h>

struct g;

#define PINNED_MAX (WORKERS_MAX - 8)
void pin(struct g *);
bool unpin(struct g *);
bool pin_room(void);
_Noreturn void pin_retire(struct m *);
struct g *stoplockedm(struct m *);
void startlockedm(struct m *, struct g *);
void pin_begin(struct m *);
/*
 * The caller is pinned and depends on this process from here on: it has put something into it that no other process
 * has. No renewal takes the process away before it unpins. change: no other goroutine may find that, so the process
 * is replaced then. If the process dies, the goroutine is lost with it.
 */
void pin_keep(bool change);
bool pin_keeps(const struct m *); /* the process stays although it was asked to leave */
void repair_pinned(struct m *, struct g *);
void repair_pin(struct m *, struct g *);
void repair_handed(struct m *);

#endif
