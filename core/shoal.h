/*
 * shoal.h - goroutines across processes: the interface for tasks.
 *
 * Functions return 0 (or a count) on success and -errno on failure. Durations are nanoseconds;
 * SHOAL_FOREVER waits without limit, 0 does not wait. Sync objects are ready when zero; they live
 * in module globals or on the heap, never on a goroutine's stack. A function that can park says
 * "Parks.": after it the goroutine may run in another process, where everything but
 * _Thread_local variables is as it was.
 */
#ifndef SHOAL_H
#define SHOAL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SHOAL_FOREVER ((int64_t)-1)

int shoal_main(int argc, char **argv); /* the default entry of a module: you write it */

/* ---- goroutines ---- */
typedef uint64_t shoal_gid; /* never reused; 0 is no goroutine */

#define SHOAL_PINNED 1u	  /* stays on the worker that first runs it */
#define SHOAL_ISOLATED 2u /* its crash ends it alone, not the task */

struct shoal_go_opts {
	const char *name; /* shown by ps, dump, life; copied, 31 bytes are kept */
	size_t stack_max; /* bytes; 0: 1 MiB; up to 64 MiB */
	int attempts;	  /* runs it may have when its worker dies under it or it crashes; 0: the task's */
	unsigned flags;
};

/* Starts fn as a goroutine; size bytes at arg are copied, fn gets its own copy (16-byte aligned), NULL if size is 0. */
shoal_gid shoal_go(void (*fn)(void *), const void *arg, size_t size);
shoal_gid shoal_go_with(const struct shoal_go_opts *, void (*fn)(void *), const void *arg, size_t size);
shoal_gid shoal_self(void);
void shoal_yield(void);		  /* Parks. */
_Noreturn void shoal_exit(void);  /* ends this goroutine */
int shoal_sleep(int64_t ns);	  /* Parks. 0 or -ECANCELED */
int64_t shoal_now(void);	  /* monotonic ns */

enum { SHOAL_DONE, SHOAL_CRASHED, SHOAL_LOST, SHOAL_CANCELLED };
struct shoal_end {
	int how; /* SHOAL_DONE ... SHOAL_CANCELLED */
	int signal;
	void *address;
	int attempts;
};
int shoal_join(shoal_gid, struct shoal_end *); /* Parks. 0, -ESRCH, -EDEADLK (itself), -ECANCELED */
int shoal_cancel(shoal_gid); /* its blocking calls return -ECANCELED from now on. 0, -ESRCH if never issued */
/*
 * Pinned, it runs on this worker alone and the worker runs nothing else: for what a process has only
 * once. Nests; one that ends while it is pinned has its worker replaced. At most 56 at a time: more end
 * as a crash (shoal_pin) or fail with EAGAIN (SHOAL_PINNED).
 */
void shoal_pin(void);
void shoal_unpin(void);
/*
 * Parks. Returns the old number of Ps; n > 0 sets it, to 62 at most. -EAGAIN: a goroutine did not come to
 * a point where it can stop.
 */
int shoal_procs(int n);
int shoal_worker(void);

/* ---- channels ---- */
struct shoal_chan;
struct shoal_chan *shoal_chan_new(size_t elem_size, size_t capacity); /* NULL and errno: EINVAL, ENOMEM */
void shoal_chan_free(struct shoal_chan *);
int shoal_send(struct shoal_chan *, const void *); /* Parks. 0, -EPIPE, -ECANCELED */
int shoal_recv(struct shoal_chan *, void *);	   /* Parks. 1, 0 closed and drained, -ECANCELED */
int shoal_send_timed(struct shoal_chan *, const void *, int64_t timeout);
int shoal_recv_timed(struct shoal_chan *, void *, int64_t timeout);
int shoal_close(struct shoal_chan *); /* 0, -EPIPE when closed already */
size_t shoal_chan_len(struct shoal_chan *);
size_t shoal_chan_cap(struct shoal_chan *);

enum { SHOAL_SEND, SHOAL_RECV };
struct shoal_case {
	int op; /* SHOAL_SEND, SHOAL_RECV */
	struct shoal_chan *chan; /* NULL: never chosen */
	void *value;
	int result; /* of the chosen case: what shoal_send or shoal_recv would have returned */
};
/*
 * Parks. One of the operations that can go on, each with the same chance; its index. -EAGAIN for
 * timeout 0 if there is none, -ETIMEDOUT, -ECANCELED, -ENOMEM; -EINVAL for more than 65536 cases.
 */
int shoal_select(struct shoal_case *, size_t n, int64_t timeout);

/* ---- sync ---- */
/*
 * The members are nobody's business: declare the structs, zero them, pass their addresses.
 */
#ifdef __cplusplus
#define SHOAL_ATOMIC_(type) type
#else
#define SHOAL_ATOMIC_(type) _Atomic type
#endif
struct shoal_waitq_ {
	SHOAL_ATOMIC_(uint32_t) lock;
	uint32_t kind;
	void *first, *last;
};

struct shoal_mutex {
	SHOAL_ATOMIC_(uint64_t) owner;
	SHOAL_ATOMIC_(uint32_t) waiters;
	SHOAL_ATOMIC_(uint16_t) woken;
	SHOAL_ATOMIC_(uint16_t) starving;
	struct shoal_waitq_ q;
	struct shoal_mutex *next, *prev;
};
int shoal_mutex_lock(struct shoal_mutex *);    /* Parks. 0 or -EOWNERDEAD: taken, its last holder died */
int shoal_mutex_trylock(struct shoal_mutex *); /* 0, -EBUSY, -EOWNERDEAD */
int shoal_mutex_unlock(struct shoal_mutex *);

struct shoal_rwmutex {
	struct shoal_waitq_ q;
	SHOAL_ATOMIC_(uint64_t) writer;
	uint32_t readers, dead;
};
int shoal_rwmutex_rlock(struct shoal_rwmutex *); /* Parks. 0 or -EOWNERDEAD: taken, its last writer died */
int shoal_rwmutex_runlock(struct shoal_rwmutex *);
int shoal_rwmutex_lock(struct shoal_rwmutex *);	 /* Parks. 0 or -EOWNERDEAD */
int shoal_rwmutex_unlock(struct shoal_rwmutex *);

struct shoal_cond {
	struct shoal_waitq_ q;
};
/* Parks. The mutex is let go meanwhile and held again on return, whatever it is. 0, -ECANCELED, -EOWNERDEAD (of the mutex). */
int shoal_cond_wait(struct shoal_cond *, struct shoal_mutex *);
int shoal_cond_signal(struct shoal_cond *);
int shoal_cond_broadcast(struct shoal_cond *);

struct shoal_once {
	struct shoal_mutex mu;
	SHOAL_ATOMIC_(uint32_t) done;
};
int shoal_once_do(struct shoal_once *, void (*fn)(void)); /* Parks. 0: fn has been run to its end */

struct shoal_sem {
	struct shoal_waitq_ q;
	int64_t units;
};
int shoal_sem_acquire(struct shoal_sem *, int n); /* Parks. 0 or -ECANCELED */
int shoal_sem_release(struct shoal_sem *, int n); /* 0 or -EOVERFLOW */

struct shoal_wg {
	struct shoal_waitq_ q;
	SHOAL_ATOMIC_(int64_t) count;
};
int shoal_wg_add(struct shoal_wg *, int n);
int shoal_wg_done(struct shoal_wg *);
int shoal_wg_wait(struct shoal_wg *); /* Parks. 0 or -ECANCELED */
shoal_gid shoal_wg_go(struct shoal_wg *, void (*fn)(void *), const void *arg, size_t size);
shoal_gid shoal_wg_go_with(struct shoal_wg *, const struct shoal_go_opts *, void (*fn)(void *), const void *arg, size_t size);

#ifdef __cplusplus
}
#endif
#endif
