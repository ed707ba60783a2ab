/*
 * reserve.h - reserves the addresses of unloaded objects until no worker maps the objects any more.
 */
#ifndef SUPERVISOR_ZYGOTE_RESERVE_H
#define SUPERVISOR_ZYGOTE_RESERVE_H

#include <stddef.h>
#include <stdint.h>

void sh_reserve(uintptr_t start, size_t size); /* called after the unload: keeps other mappings out of the range */
/* Releases the ranges that no living clone maps. oldest: the number of the oldest living clone. */
void sh_reserve_release(uint64_t oldest);
uint64_t sh_reserve_clone(void); /* the number of the clone that is about to be made */

#endif
