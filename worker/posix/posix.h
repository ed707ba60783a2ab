/*
 * posix.h - what the libc calls that park share. See posix.c.
 *
 * Every call first tries without waiting, in a way that does not show on the descriptor, parks
 * when it would block, and tries again. What cannot be waited for is a system call: the P is
 * handed on if it lasts.
 */
#ifndef WORKER_POSIX_POSIX_H
#define WORKER_POSIX_POSIX_H

#include "core/sched/netpoll.h"
#include "core/sync/waitq.h"
#include "shm/syscall.h"
#include "worker/posix/libc.h"
#include "worker/posix/own.h"
#include "worker/worker.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

/* The same function under the name by which old programs and libraries call it. */
#if __has_attribute(copy)
#define ALSO(name) extern __typeof(name) __##name __attribute__((alias(#name), copy(name)));
#else
#define ALSO(name) extern __typeof(name) __##name __attribute__((alias(#name)));
#endif

/* On a goroutine: it gives way first if it was asked to. */
static inline struct g *posix_enter(void)
{
	struct g *g = on_g();

	if (g && __builtin_expect(atomic_load_explicit(&g->preempt, memory_order_relaxed), 0))
		gopreempt();
	return g;
}

/* A system call that may block (blocking.c). w: the n files that it works on, as they were when it began. */
struct blocking {
	long nr, a, b, c, d, e, f, r;
	const struct pollwait *w;
	unsigned n;
	bool comes_out;	  /* EINTR rather than waiting for long: the caller waits by netpoll */
	bool interrupted; /* a handler has run that ends the call with EINTR */
	bool makes_fd;	  /* its result is a descriptor of the task's */
};
/* Parks. -1 and errno as in libc: ECANCELED if the goroutine is, EBADF if a file of w was closed. */
long blocking(struct blocking *);      /* EINTR: interrupted */
long blocking_once(struct blocking *); /* a caller with a time-out, or comes_out: begins anew after EINTR */
#define BLOCKING(...) blocking(&(struct blocking){SYSTEM_CALL(__VA_ARGS__)})
#define BLOCKING_ONCE(...) blocking_once(&(struct blocking){SYSTEM_CALL(__VA_ARGS__)})
#define BLOCKING_ON(file, ...) blocking(&(struct blocking){SYSTEM_CALL(__VA_ARGS__), .w = (file), .n = 1})
#define BLOCKING_MAKES_FD(...) blocking(&(struct blocking){SYSTEM_CALL(__VA_ARGS__), .makes_fd = true})
#define COMES_OUT(files, count, ...) \
	blocking_once(&(struct blocking){SYSTEM_CALL(__VA_ARGS__), .w = (files), .n = (count), .comes_out = true})
#define SYSTEM_CALL(...) SYSTEM_CALL_(__VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define SYSTEM_CALL_(number, a1, a2, a3, a4, a5, a6, ...) \
	.nr = (number), .a = (long)(a1), .b = (long)(a2), .c = (long)(a3), .d = (long)(a4), .e = (long)(a5), \
	.f = (long)(a6)

/* Of vectors that we advance in: a copy, on the stack if it is short. */
#define IOV_FEW 16
static inline struct iovec *iov_copy(struct iovec *few, const struct iovec *iov, size_t n)
{
	struct iovec *v = n <= IOV_FEW ? few : malloc(n * sizeof *v);

	if (v && n)
		memcpy(v, iov, n * sizeof *v);
	return v;
}

static inline size_t iov_total(const struct iovec *iov, size_t n)
{
	size_t all = 0;

	for (size_t i = 0; i < n; i++)
		all += iov[i].iov_len;
	return all;
}

/* What is left after r bytes; the vector is the caller's own copy. */
static inline void iov_advance(struct iovec **iov, size_t *n, size_t r)
{
	for (; *n > 0 && r >= (*iov)->iov_len; ++*iov, --*n)
		r -= (*iov)->iov_len;
	if (*n > 0) {
		(*iov)->iov_base = (char *)(*iov)->iov_base + r;
		(*iov)->iov_len -= r;
	}
}

static inline void iov_free(const struct iovec *few, struct iovec *v)
{
	int err = errno;

	if (v != few)
		free(v);
	errno = err;
}

void sh_signals_due(void); /* signal.c: runs the handlers that are due on the current goroutine */

/* The end of a call that writes: the handler of SIGPIPE or SIGXFSZ runs before it returns. */
static inline long after_write(long r)
{
	if (__builtin_expect(r < 0, 0) && (errno == EPIPE || errno == EFBIG))
		sh_signals_due();
	return r;
}

/* A signal mask for the time of one wait: posix/signal.c. begin: false and errno if there is no memory. */
struct signal_masked {
	sigset_t old;
	uint32_t before;
};
bool signal_masked_begin(struct signal_masked *, const sigset_t *mask);
bool signal_masked_ran(const struct signal_masked *); /* a handler, since then */
void signal_masked_end(const struct signal_masked *);

/* What the goroutine has of its own is that of its present run. */
static inline uint32_t g_run(const struct g *g) /* not 0; another one for each attempt, and for who is this G next */
{
	return ((uint32_t)(g->gid >> 24) << 8 | (g->attempt & 0xff)) + 1;
}

/* The run as others note it in a word: the index and seven bits that tell this run from others of the G. Not 0. */
#define RUN_MARK_BITS 30
static inline uint32_t run_mark(const struct g *g)
{
	return (uint32_t)g_index(g) | ((g_run(g) >> 8 ^ g_run(g)) * G_MAX & ((1u << RUN_MARK_BITS) - 1));
}

static inline bool run_gone(uint32_t mark)
{
	struct g *g = allg(mark & (G_MAX - 1));
	unsigned state = g_state(g);

	return state == G_DEAD || state == G_IDLE || (__atomic_load_n(&g->flags, __ATOMIC_ACQUIRE) & GF_GONE) ||
	       run_mark(g) != mark;
}

/* Which of the events there are right now, without waiting: as poll. */
static inline long poll_now(int fd, short events)
{
	struct pollfd p = {.fd = fd, .events = events};
	struct timespec none = {0, 0};
	long r;

	do
		r = syscall(SYS_ppoll, &p, 1, &none, NULL, 0);
	while (r < 0 && errno == EINTR);
	return r;
}

enum poll_kind fd_kind(int fd);
ssize_t sh_socket_read(int fd, const struct iovec *, size_t n); /* socket.c: readv, for a socket. Parks. */
/* It would block: waits until the try is worth repeating. Parks. 0, or -1 and errno: EAGAIN if the
 * caller has set O_NONBLOCK, or at the end of its timeout; ECANCELED, EBADF when closed meanwhile. */
int fd_block(struct pollwait *, int64_t *when);
int fd_wait(struct pollwait *, unsigned n, int64_t when); /* the same, whatever the flags say. Parks. */
bool fd_watch(const struct pollwait *);			  /* before fd_wait: it is in the set. False: it cannot be */
int sh_fifo_open(int dir, const char *path, int flags, mode_t); /* fifo.c. Parks. */
static inline bool fd_is_closed(const struct pollwait *w)
{
	return atomic_load(&polldesc_of(w->fd)->gen) != w->gen;
}
int fd_made(int fd); /* a new descriptor of the current task, if any; returns it */
void fd_adopt(int fd);
void fd_adopt_inner(int fd); /* the runtime holds it for the current task */
void fd_gone(int fd);	     /* libc has closed it */
void fd_keep(int fd);	     /* the runtime's own: no task closes it */
bool fd_ours(int fd);	     /* the task may close it */
void fd_forget(int fd);	     /* the number is to mean something else */
int fd_close(int fd);
void fd_closing(int fd);      /* libc is about to close it */
void fd_emptied(int fd);      /* the file is closed, its waiters wake, and the number, nobody's, may be freed */
void sh_fd_replacing(int fd); /* before a dup2 onto it; after it fd_made */
void mq_notify_forget(int q); /* mqnotify.c: this queue is being closed */
void outcall(void (*fn)(void *), void *arg); /* outcall.c: a call of libc's that blocks. Parks. */

#endif
