/* pin.h - goroutines that stay on one worker. See pin.c. */
#ifndef CORE_SCHED_PIN_H
#define CORE_SCHED_PIN_H

#include "core/sched/m.h"

#include <stdbool.h>

struct g;

#define PINNED_MAX (WORKERS_MAX - 8)
void pin(struct g *);
void unpin(struct g *);
bool pin_room(void);
_Noreturn void pin_retire(struct m *);
struct g *stoplockedm(struct m *);
void startlockedm(struct m *, struct g *);
void pin_begin(struct m *);
void repair_pinned(struct m *, struct g *);
void repair_pin(struct m *, struct g *);
void repair_handed(struct m *);

#endif
