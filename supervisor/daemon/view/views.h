/*
 * views.h - makes the answers of the reading verbs.
 */
#ifndef SUPERVISOR_DAEMON_VIEW_VIEWS_H
#define SUPERVISOR_DAEMON_VIEW_VIEWS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct g;
struct job;

json_t *sh_view_task(const struct job *);
json_t *sh_view_tasks(bool all);
json_t *sh_view_workers(void);
json_t *sh_view_stats(void);
json_t *sh_view_info(void);
json_t *sh_view_crashes(int64_t id);		      /* id < 0: all */
json_t *sh_view_string(const char *text, size_t max); /* bytes that are not UTF-8 become '?' */
/* Returns the length of the UTF-8 sequence at s, or 0 if it is not valid or longer than max. */
size_t sh_utf8_at(const unsigned char *s, size_t max);
size_t sh_view_sched(char *buf, size_t n);
void sh_view_dump(void); /* writes every G, M and P to the log */
void sh_crashes_log(void);

#endif
