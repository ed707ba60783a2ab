/*
 * quarantine.h - modules that always crash are refused for a while.
 */
#ifndef SUPERVISOR_DAEMON_TASK_QUARANTINE_H
#define SUPERVISOR_DAEMON_TASK_QUARANTINE_H

struct module;

void sh_module_crashed(struct module *);
unsigned sh_module_quarantine(const struct module *); /* remaining seconds; 0: not quarantined */

#endif
