/*
 * shoal.h - goroutines across processes: the interface for tasks.
 *
 * Functions return 0 (or a count) on success and -errno on failure. Durations are nanoseconds: SHOAL_FOREVER waits
 * without limit, 0 does not wait, any other negative timeout acts like 0 but returns -ETIMEDOUT. Sync objects are
 * ready for use when they are zero; they live in module globals or on the heap, never on a goroutine's stack. A
 * function that can park says "Parks.": after it the goroutine may run in another process, which looks the same to
 * it.
 */
#ifndef SHOAL_H
#define SHOAL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SHOAL_FOREVER ((int64_t)-1)

/*
 * The default entry of a module: you write it. Its result is the task's exit code (the low 8 bits); the task ends
 * when it returns, with all other goroutines.
 */
int shoal_main(int argc, char **argv);

/* ---- goroutines ---- */
typedef uint64_t shoal_gid; /* never reused; 0 is no goroutine */

#define SHOAL_PINNED 1u	  /* stays on the worker that first runs it */
#define SHOAL_ISOLATED 2u /* if it crashes, only this goroutine ends, not the task */

struct shoal_go_opts {
	const char *name; /* shown by ps, dump and life; copied, at most 31 bytes */
	size_t stack_max; /* in bytes, up to 64 MiB; 0: 1 MiB */
	int attempts;	  /* maximum number of runs, if it crashes or its worker dies; 0: as the task */
	unsigned flags;
};

/*
 * Starts fn as a goroutine. The size bytes at arg are copied; fn gets its own copy, aligned to 16 bytes, or NULL if
 * size is 0. The options may be NULL. Returns its number, or 0 and errno: EINVAL (no fn, a stack_max of more than
 * 64 MiB, an argument of more than half the stack), ENOMEM, EAGAIN (8,388,607 goroutines exist, or too many are
 * pinned).
 *
 * flags may contain SHOAL_PINNED and SHOAL_ISOLATED. A pinned goroutine stays on the worker that first runs it. If an
 * isolated goroutine crashes (SIGSEGV, stack overflow, misuse of this interface) or its worker dies, only this
 * goroutine ends, and shoal_join reports how. If any other goroutine crashes, its task ends.
 */
shoal_gid shoal_go(void (*fn)(void *), const void *arg, size_t size);
shoal_gid shoal_go_with(const struct shoal_go_opts *, void (*fn)(void *), const void *arg, size_t size);
/* The number of this goroutine; 0 if the caller is not on a goroutine. */
shoal_gid shoal_self(void);
/* Lets other goroutines run, then continues behind them. Parks. */
void shoal_yield(void);
/*
 * Ends this goroutine. If it is the first one of its task, the task goes on until the last one has ended, with exit
 * code 0.
 */
void shoal_exit(void) __attribute__((__noreturn__));
/* Sleeps for at least ns nanoseconds; SHOAL_FOREVER: until it is cancelled. Parks. 0 or -ECANCELED. */
int shoal_sleep(int64_t ns);
/* Monotonic time in nanoseconds. */
int64_t shoal_now(void);

enum { SHOAL_DONE, SHOAL_CRASHED, SHOAL_LOST, SHOAL_CANCELLED };
struct shoal_end {
	int how; /* SHOAL_DONE ... SHOAL_CANCELLED */
	int signal;
	void *address;
	int attempts;
};
/*
 * Waits until the goroutine has ended, and says how. Pass NULL if you do not need that. Any number of goroutines may
 * wait. A normal end is known for ever, any other until the task ends; with several attempts it is the end of the
 * last run. Parks. 0; -ESRCH: the number was never issued; -EDEADLK: it is the caller's; -ECANCELED.
 */
int shoal_join(shoal_gid, struct shoal_end *);
/*
 * Cancels a goroutine of this task: from now on its calls that would block return -ECANCELED (POSIX calls: -1 and
 * ECANCELED), also one in which it already waits. Locking a mutex or rwmutex is not cancelled. An operation that
 * need not wait is done all the same. Its end is reported as SHOAL_CANCELLED. 0, also if it has ended; -ESRCH: the task
 * never had a goroutine with this number.
 */
int shoal_cancel(shoal_gid);
/*
 * Pins this goroutine to its worker, which then runs nothing else. Meant for per-process state, such as a library's
 * globals. Pins nest; if the goroutine ends while pinned, the worker is replaced, and so it is at shoal_unpin if the
 * goroutine has changed its user, limits or the like: shoal(7). At most 56 goroutines at a time: one more ends as a
 * crash (shoal_pin) or fails with EAGAIN (SHOAL_PINNED).
 */
void shoal_pin(void);
void shoal_unpin(void);
/*
 * Sets the number of Ps, at most 62; 0 only asks for it. Parks. The old number; -EAGAIN: a goroutine reached no point at
 * which it can stop.
 */
int shoal_procs(int n);
/* The number of the worker that runs it now; it may change with every park. */
int shoal_worker(void);

/* ---- channels ---- */
struct shoal_chan;
/*
 * Makes a channel for values of elem_size bytes with a buffer for capacity values; 0: every send waits for a receiver.
 * NULL and errno: EINVAL for a size that no memory can hold, ENOMEM.
 */
struct shoal_chan *shoal_chan_new(size_t elem_size, size_t capacity);
/*
 * Frees a channel. Safe once no goroutine will use it again: a matched peer does not touch it any more. NULL is allowed.
 * Channels that are left when the task ends are freed with it.
 */
void shoal_chan_free(struct shoal_chan *);
/*
 * Sends a copy of a value to a waiting receiver or into the buffer; otherwise waits, at most for timeout. The value may
 * be NULL if elements have size 0. A NULL channel blocks for ever. Parks. 0; -EPIPE: the channel is closed;
 * -ECANCELED; -ENOMEM for a value of more than 32 bytes; timed also -EAGAIN for timeout 0, and -ETIMEDOUT.
 */
int shoal_send(struct shoal_chan *, const void *);
int shoal_send_timed(struct shoal_chan *, const void *, int64_t timeout);
/*
 * Receives a value from the buffer or a waiting sender; otherwise waits, at most for timeout. NULL drops the value. A
 * closed channel gives the values that are in it, then zeros. A NULL channel blocks for ever. Parks. 1: a value; 0:
 * closed and empty; -ECANCELED; -ENOMEM for a value of more than 32 bytes; timed also -EAGAIN for timeout 0, and
 * -ETIMEDOUT.
 */
int shoal_recv(struct shoal_chan *, void *);
int shoal_recv_timed(struct shoal_chan *, void *, int64_t timeout);
/*
 * Closes a channel: waiting receivers return 0, waiting senders -EPIPE. 0, or -EPIPE if it is closed already.
 */
int shoal_close(struct shoal_chan *);
/* How many values the channel holds now, and how many it can hold. 0 for NULL. */
size_t shoal_chan_len(struct shoal_chan *);
size_t shoal_chan_cap(struct shoal_chan *);

enum { SHOAL_SEND, SHOAL_RECV };
struct shoal_case {
	int op;			 /* SHOAL_SEND, SHOAL_RECV */
	struct shoal_chan *chan; /* NULL: never chosen */
	void *value;
	int result; /* of the chosen case: what shoal_send or shoal_recv would have returned */
};
/*
 * Does one of n channel operations, chosen with equal chance from those that are possible; otherwise waits, at most for
 * timeout. A channel may be in several cases. Without any channel it sleeps for the timeout. Parks. The index of the
 * chosen case, whose result is set (-EPIPE for a send to a closed channel); -EAGAIN for timeout 0 if none is possible;
 * -ETIMEDOUT; -ECANCELED; -ENOMEM; -EINVAL for more than 65,536 cases.
 */
int shoal_select(struct shoal_case *, size_t n, int64_t timeout);

/* ---- sync ---- */
/* Treat the structs as opaque: declare them, zero them, pass their addresses. */
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
	SHOAL_ATOMIC_(uint32_t) starving;
	struct shoal_waitq_ q;
	struct shoal_mutex *next, *prev;
};
/*
 * Locks a mutex; trylock only if it is free. A goroutine that has waited for more than a millisecond is next. Not
 * cancelled. Parks (trylock does not). 0; -EOWNERDEAD: locked, but the last holder ended or died with it, so what it
 * guards may be inconsistent; trylock: -EBUSY.
 */
int shoal_mutex_lock(struct shoal_mutex *);
int shoal_mutex_trylock(struct shoal_mutex *);
/* Unlocks a mutex. If this goroutine does not hold it, it ends as a crash. 0. */
int shoal_mutex_unlock(struct shoal_mutex *);

struct shoal_rwmutex {
	struct shoal_waitq_ q;
	SHOAL_ATOMIC_(uint64_t) writer;
	uint32_t readers, dead;
};
/*
 * Locks a reader/writer lock: rlock shares it with other readers, lock does not. A waiting writer keeps new readers out,
 * so a goroutine must not lock it twice. Not cancelled. Parks. 0; -EOWNERDEAD: locked, but the last writer ended
 * or died with it. A reader that dies releases it.
 */
int shoal_rwmutex_rlock(struct shoal_rwmutex *);
int shoal_rwmutex_lock(struct shoal_rwmutex *);
/* Unlocks a reader/writer lock. If this goroutine does not hold it in this way, it ends as a crash. 0. */
int shoal_rwmutex_runlock(struct shoal_rwmutex *);
int shoal_rwmutex_unlock(struct shoal_rwmutex *);

struct shoal_cond {
	struct shoal_waitq_ q;
};
/*
 * Waits for a signal. The mutex, which this goroutine holds, is unlocked meanwhile and locked again on return, whatever
 * the result. Check your condition again: the death of a worker may wake all. Parks. 0, -ECANCELED, -EOWNERDEAD (as
 * shoal_mutex_lock).
 */
int shoal_cond_wait(struct shoal_cond *, struct shoal_mutex *);
/* Wakes the first waiter, or all, with or without the mutex. 0. */
int shoal_cond_signal(struct shoal_cond *);
int shoal_cond_broadcast(struct shoal_cond *);

struct shoal_once {
	struct shoal_mutex mu;
	SHOAL_ATOMIC_(uint32_t) done;
};
/*
 * Runs fn unless it was run before, and returns when it is complete. If the goroutine that runs it dies, another one
 * runs it. Parks. 0.
 */
int shoal_once_do(struct shoal_once *, void (*fn)(void));

struct shoal_sem {
	struct shoal_waitq_ q;
	int64_t units;
};
/*
 * Takes n units of a semaphore, which begins with none. Waits in order until there are enough. Parks. 0 or
 * -ECANCELED.
 */
int shoal_sem_acquire(struct shoal_sem *, int n);
/* Adds n units to a semaphore and serves its waiters in order. 0 or -EOVERFLOW. */
int shoal_sem_release(struct shoal_sem *, int n);

struct shoal_wg {
	struct shoal_waitq_ q;
	SHOAL_ATOMIC_(int64_t) count;
};
/*
 * Changes the count of a wait group by n, or by -1. At 0 the waiters go on; below 0 the goroutine ends as a
 * crash. 0.
 */
int shoal_wg_add(struct shoal_wg *, int n);
int shoal_wg_done(struct shoal_wg *);
/* Waits until the count of the wait group is 0. Parks. 0 or -ECANCELED. */
int shoal_wg_wait(struct shoal_wg *);
/*
 * Starts a goroutine like shoal_go, counted in a wait group until it has ended, however it ends. Its number, or 0 and
 * errno.
 */
shoal_gid shoal_wg_go(struct shoal_wg *, void (*fn)(void *), const void *arg, size_t size);
shoal_gid shoal_wg_go_with(struct shoal_wg *, const struct shoal_go_opts *, void (*fn)(void *), const void *arg,
			   size_t size);

#ifdef __cplusplus
}
#endif
#endif
