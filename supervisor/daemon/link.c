/*
 * link.c - the supervisor's end of the zygote's socket.
 *
 * Requests are sent in order and answered in order. Requests that the socket does not take yet wait in a
 * list, so the loop never blocks on the zygote. If the answer to a later request arrives first, a zygote
 * died during the earlier one: that request is sent again, to the standby that took over. Answers with an
 * unknown serial are for an earlier supervisor.
 */
#include "shm/kernel.h"
#include "shm/pass.h"
#include "supervisor/daemon/link.h"
#include "supervisor/daemon/fleet.h"
#include "supervisor/daemon/main.h"
#include "supervisor/zygote/zygote.h"
#include "shm/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct call {
	struct call *next;
	struct zreq req;
	int fds[3], nfds;
	zygote_done *done;
	void *arg;
};

static uv_poll_t poll_handle;
static int link_sock = -1;
static uint32_t serial;
static struct call *sent, **sent_end = &sent;
static struct call *unsent, **unsent_end = &unsent;

static void on_event(uv_poll_t *, int status, int events);

static void append(struct call ***end, struct call *c)
{
	c->next = NULL;
	**end = c;
	*end = &c->next;
}

/* Returns false if the socket accepts no more at the moment. */
static bool transmit(struct call *c)
{
	if (sh_pass_send(link_sock, &c->req, sizeof c->req, c->fds, c->nfds, MSG_DONTWAIT) < 0 &&
	    (errno == EAGAIN || errno == EINTR || errno == ENOBUFS || errno == ETOOMANYREFS))
		return false;
	return true; /* after any other failure the zygote has died: its pidfd reports that */
}

static void free_call(struct call *c)
{
	for (int i = 0; i < c->nfds; i++)
		kernel_close(c->fds[i]);
	free(c);
}

static void push(void)
{
	while (unsent && transmit(unsent)) {
		struct call *c = unsent;

		unsent = c->next;
		if (!unsent)
			unsent_end = &unsent;
		append(&sent_end, c);
	}
	uv_poll_start(&poll_handle, unsent ? UV_READABLE | UV_WRITABLE : UV_READABLE, on_event);
}

void sh_link_ask(const struct zreq *req, const int *fds, int nfds, zygote_done *done, void *arg)
{
	struct call *c = calloc(1, sizeof *c);

	if (!c)
		abort();
	c->req = *req;
	c->req.serial = ++serial;
	c->done = done;
	c->arg = arg;
	c->nfds = nfds;
	for (int i = 0; i < nfds; i++) {
		c->fds[i] = kernel_fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
		if (c->fds[i] < 0) { /* no descriptor is free: sends none, and the zygote refuses the request */
			while (i-- > 0)
				kernel_close(c->fds[i]);
			c->nfds = 0;
			break;
		}
	}
	append(&unsent_end, c);
	push();
}

static void ask_again(struct call *c)
{
	if (c->req.op == Z_CLONE) { /* the clone may exist: the caller finds it by its seat */
		struct zrep lost = {.code = ZREP_LOST};

		c->done(c->arg, &lost);
		free_call(c);
		return;
	}
	c->req.serial = ++serial;
	append(&unsent_end, c);
}

/* Unlinks the call with this number. Returns NULL if this supervisor did not send it. */
static struct call *answered(uint32_t number)
{
	struct call *c;

	for (c = sent; c && c->req.serial != number; c = c->next)
		;
	if (!c)
		return NULL;
	while ((c = sent)->req.serial != number) {
		sent = c->next;
		ask_again(c);
	}
	sent = c->next;
	if (!sent)
		sent_end = &sent;
	return c;
}

static void hello(void *arg, const struct zrep *rep)
{
	(void)arg;
	(void)rep;
}

static void on_event(uv_poll_t *handle, int status, int events)
{
	struct zrep rep;

	(void)handle;
	if (status < 0)
		return;
	while (events & UV_READABLE) {
		ssize_t n = kernel_recv(link_sock, &rep, sizeof rep, MSG_DONTWAIT);
		struct call *c;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		if (n != sizeof rep)
			continue;
		/*
		 * A standby has taken over. When it answers this request, earlier requests without an answer are
		 * known to be lost.
		 */
		if (!rep.serial) {
			sh_fleet_zygote(rep.pid);
			sh_link_ask(&(struct zreq){.op = Z_HELLO}, NULL, 0, hello, NULL);
			continue;
		}
		rep.message[sizeof rep.message - 1] = '\0';
		c = answered(rep.serial);
		if (!c)
			continue;
		c->done(c->arg, &rep);
		free_call(c);
	}
	push();
}

int sh_link_start(int s)
{
	int err;

	link_sock = s;
	serial = (uint32_t)(sh_now() >> 12) | 1u << 31; /* differs from the serials of an earlier supervisor */
	err = uv_poll_init(sh_loop, &poll_handle, link_sock);
	return err ? err : uv_poll_start(&poll_handle, UV_READABLE, on_event);
}
