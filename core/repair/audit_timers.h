/*
 * audit_timers.h - the audit of the timer heaps.
 *
 * Each function returns what is wrong at this moment, or NULL. A change in progress can look wrong, so the caller
 * calls again and reports only a fault that is still there.
 */
#ifndef CORE_REPAIR_AUDIT_TIMERS_H
#define CORE_REPAIR_AUDIT_TIMERS_H

#include <stdbool.h>
#include <stdint.h>

struct g;
struct p;

const char *audit_heap_fault(struct p *);	       /* count, first time and dirty word */
const char *audit_entry_fault(struct p *, uint32_t i); /* entry i names a goroutine and is not before its parent */
const char *audit_wake_fault(struct g *);	       /* G waits with a wake time, and no heap has an entry for it */
void audit_entries_begin(uint64_t from);	       /* notes which of AUDIT_BLOCK goroutines have an entry */
bool audit_entry_seen(uint64_t i);		       /* goroutine i of that block had one */

#define AUDIT_BLOCK (1u << 20)

#endif
