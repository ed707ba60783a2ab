/*
 * link.h - questions to the zygote and their answers.
 */
#ifndef SUPERVISOR_DAEMON_LINK_H
#define SUPERVISOR_DAEMON_LINK_H

#include "supervisor/zygote/zygote.h"

typedef void zygote_done(void *arg, const struct zrep *);
int sh_link_start(int sock);
/* Asks the zygote; done gets the answer. Copies the descriptors. */
void sh_link_ask(const struct zreq *, const int *fds, int nfds, zygote_done *, void *arg);

#endif
