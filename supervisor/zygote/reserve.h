/*
 * reserve.h - addresses of what was unloaded, until no worker has it mapped any more.
 */
#ifndef SUPERVISOR_ZYGOTE_RESERVE_H
#define SUPERVISOR_ZYGOTE_RESERVE_H

#include <stddef.h>
#include <stdint.h>

void sh_reserve(uintptr_t start, size_t size); /* unloaded just now: nothing else is mapped there from now on */
/* oldest: number of the oldest clone that lives. Ranges that no clone has mapped may be used again. */
void sh_reserve_release(uint64_t oldest);
uint64_t sh_reserve_clone(void); /* the number of the clone that is about to be made */

#endif
