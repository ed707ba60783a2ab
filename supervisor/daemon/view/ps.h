/*
 * ps.h - the list of goroutines.
 */
#ifndef SUPERVISOR_DAEMON_VIEW_PS_H
#define SUPERVISOR_DAEMON_VIEW_PS_H

#include <stdint.h>

struct asker;
struct g;

/* copies the name of a goroutine; characters that JSON would quote become '?' */
void sh_view_name(char name[32], const char *from);
uint64_t sh_view_task_of(const struct g *);
void sh_view_ps(struct asker *, int64_t task); /* task 0: of all tasks */

#endif
