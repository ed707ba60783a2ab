/*
 * link.h - sends requests to the zygote and receives the answers.
 */
#ifndef SUPERVISOR_DAEMON_LINK_H
#define SUPERVISOR_DAEMON_LINK_H

#include "supervisor/zygote/zygote.h"

typedef void zygote_done(void *arg, const struct zrep *);
int sh_link_start(int sock);
/* Sends a request to the zygote; done gets the answer. Copies the descriptors. */
void sh_link_ask(const struct zreq *, const int *fds, int nfds, zygote_done *, void *arg);

#endif
