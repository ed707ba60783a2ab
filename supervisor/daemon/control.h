/*
 * control.h - connections, lines and answers.
 */
#ifndef SUPERVISOR_DAEMON_CONTROL_H
#define SUPERVISOR_DAEMON_CONTROL_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct asker;

extern bool sh_control_used; /* a client has connected */
int sh_control_start(int listener);
unsigned sh_control_conns(void);
void sh_control_stop(void); /* flushes what it can */

/* A request without an answer so far. The answer frees it. Its connection may be closed by then. */
bool sh_ask_closed(const struct asker *);
const void *sh_ask_conn(const struct asker *);
void sh_answer(struct asker *, json_t *reply, const int *fds, int nfds); /* takes reply; copies fds */
void sh_answer_error(struct asker *, int code, const char *detail, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/*
 * Sends a long answer piece by piece, as the client reads it. more() writes at most n bytes to buf and returns
 * their number, or 0 at the end. A last call with buf NULL frees arg. If more() returns -1, it is called again
 * later.
 */
typedef size_t answer_more(void *arg, char *buf, size_t n);
void sh_answer_stream(struct asker *, answer_more *, void *arg);
json_t *sh_ask_tag(const struct asker *);
int sh_ask_take_fd(struct asker *); /* the next descriptor that came with the request, or -1 */

#endif
