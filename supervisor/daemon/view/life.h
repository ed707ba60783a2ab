/*
 * life.h - the life of a goroutine, read from the rings.
 */
#ifndef SUPERVISOR_DAEMON_VIEW_LIFE_H
#define SUPERVISOR_DAEMON_VIEW_LIFE_H

#include <jansson.h>
#include <stdint.h>

json_t *sh_view_life(uint64_t gid); /* NULL: no such goroutine */

#endif
