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
#include "worker/posix/own.h"
#include "worker/worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* real_NAME: libc's own. */
#define REAL(result, name, params, ...) \
	static result real_##name params \
	{ \
		static result(*libc) params; \
		if (!libc) \
			*(void **)&libc = dlsym(RTLD_NEXT, #name); \
		return libc(__VA_ARGS__); \
	}

/* On a goroutine: it gives way first if it was asked to. */
static inline struct g *posix_enter(void)
{
	struct g *g = on_g();

	if (g && __builtin_expect(atomic_load_explicit(&g->preempt, memory_order_relaxed), 0))
		gopreempt();
	return g;
}

/* blocking.c: a system call that may block. Parks. -1 and errno as in libc; no EINTR, ECANCELED if the goroutine is. */
long blocking(long nr, long a, long b, long c, long d, long e, long f);
long blocking_once(long nr, long a, long b, long c, long d, long e, long f);
#define BLOCKING(...) BLOCKING_(__VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define BLOCKING_ONCE(...) BLOCKING_ONCE_(__VA_ARGS__, 0, 0, 0, 0, 0, 0) /* EINTR is told: of a call with a timeout */
#define BLOCKING_(nr, a, b, c, d, e, f, ...) \
	blocking(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define BLOCKING_ONCE_(nr, a, b, c, d, e, f, ...) \
	blocking_once(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

/* Of vectors that we advance in: a copy, on the stack if it is short. */
#define IOV_FEW 16
static inline struct iovec *iov_copy(struct iovec *few, const struct iovec *iov, size_t n)
{
	struct iovec *v = n <= IOV_FEW ? few : malloc(n * sizeof *v);

	if (v && n)
		memcpy(v, iov, n * sizeof *v);
	return v;
}

static inline void iov_free(const struct iovec *few, struct iovec *v)
{
	int err = errno;

	if (v != few)
		free(v);
	errno = err;
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

static inline void g_fresh(struct g *g)
{
	uint32_t run = g_run(g);

	if (__builtin_expect(g_cxx(g)->run == run, 1))
		return;
	g_cxx(g)->caught = g_cxx(g)->own = NULL;
	g_cxx(g)->uncaught = 0;
	g_cxx(g)->run = run;
}

enum poll_kind fd_kind(int fd);
/* It would block: waits until the try is worth repeating. Parks. 0, or -1 and errno: EAGAIN if the
 * caller has set O_NONBLOCK, or at the end of its timeout; ECANCELED, EBADF when closed meanwhile. */
int fd_block(struct pollwait *, int64_t *when);
int fd_wait(struct pollwait *, unsigned n, int64_t when); /* the same, whatever the flags say. Parks. */
bool fd_watch(const struct pollwait *);			  /* before fd_wait: it is in the set. False: it cannot be */
int fd_made(int fd);					  /* a new descriptor of the current task, if any; returns it */
void fd_adopt(int fd);
void fd_adopt_inner(int fd); /* the runtime holds it for the current task */
void fd_gone(int fd);	     /* libc has closed it */
void fd_keep(int fd);	     /* the runtime's own: no task closes it */
bool fd_ours(int fd);	     /* the task may close it */
void fd_forget(int fd);	     /* the number is to mean something else */
int fd_close(int fd);
void fd_closing(int fd);		     /* libc is about to close it */
void fd_emptied(int fd);		     /* nothing is behind it any more, and it is nobody's: it may be closed */
void outcall(void (*fn)(void *), void *arg); /* outcall.c: a call of libc's that blocks. Parks. */

#endif
