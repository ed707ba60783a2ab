/*
 * quarantine.h - refuses modules whose tasks crash again and again.
 */
#ifndef SUPERVISOR_DAEMON_TASK_QUARANTINE_H
#define SUPERVISOR_DAEMON_TASK_QUARANTINE_H

struct module;

void sh_module_crashed(struct module *);
unsigned sh_module_quarantine(const struct module *); /* the seconds that remain; 0: not quarantined */

#endif
