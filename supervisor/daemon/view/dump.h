/*
 * dump.h - copies the stacks of goroutines.
 */
#ifndef SUPERVISOR_DAEMON_VIEW_DUMP_H
#define SUPERVISOR_DAEMON_VIEW_DUMP_H

#include <stdint.h>

struct asker;

void sh_dump(struct asker *, uint64_t gid); /* gid 0: all. Answers with a descriptor: core/repair/dump.h */
typedef void sh_dump_done(void *arg);
void sh_dump_to(uint64_t task, int fd, sh_dump_done *, void *arg); /* as text; task 0: all */

#endif
