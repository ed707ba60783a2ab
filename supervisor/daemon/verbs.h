/*
 * verbs.h - the requests of the command line.
 */
#ifndef SUPERVISOR_DAEMON_VERBS_H
#define SUPERVISOR_DAEMON_VERBS_H

#include <jansson.h>

struct asker;
struct job;

void sh_verb(struct asker *, json_t *request);
void sh_verbs_ended(const struct job *); /* answers the clients that wait for this task */
void sh_verbs_check_audit(void);	 /* answers `check` if the audit has ended */
void sh_verbs_stopped(void);		 /* answers stop */

#endif
