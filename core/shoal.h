/*
 * shoal.h - goroutines across processes: the interface for tasks.
 *
 * Functions return 0 (or a count) on success and -errno on failure. Durations are nanoseconds;
 * SHOAL_FOREVER waits without limit, 0 does not wait, and with any other negative one the time is up as
 * soon as there is nothing to be had. Sync objects are ready when zero; they live in module globals or
 * on the heap, never on a goroutine's stack. A function that can park says
 * "Parks.": after it the goroutine may run in another process, where all that is its own is as it was.
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
 * The default entry of a module: you write it. What it returns is the task's exit code (its low 8
 * bits); the task ends then, and its other goroutines with it.
 */
int shoal_main(int argc, char **argv);

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

/*
 * Starts fn as a goroutine. size bytes at arg are copied; fn gets its own copy, aligned to 16 bytes,
 * or NULL if size is 0. The options may be NULL. Returns its number, or 0 and errno: EINVAL (no fn, a
 * stack_max beyond 64 MiB, an argument of more than half the stack), ENOMEM, EAGAIN (8,388,607
 * goroutines exist, or too many are pinned).
 */
shoal_gid shoal_go(void (*fn)(void *), const void *arg, size_t size);
shoal_gid shoal_go_with(const struct shoal_go_opts *, void (*fn)(void *), const void *arg, size_t size);
/* The number of this goroutine. 0 where there is none. */
shoal_gid shoal_self(void);
/* Lets others run, and goes on behind them. Parks. */
void shoal_yield(void);
/*
 * Ends this goroutine. If it is the task's first one the task goes on until the last has ended; its
 * exit code is 0 then.
 */
void shoal_exit(void) __attribute__((__noreturn__));
/* Sleeps for ns nanoseconds at least; SHOAL_FOREVER: until it is cancelled. Parks. 0 or -ECANCELED. */
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
 * Waits until the goroutine has ended, and tells how; NULL: nobody wants to know. All who wait are
 * told. A normal end is known for ever, another until the task ends; with attempts, that of the last
 * run. Parks. 0, -ESRCH if the number was never issued, -EDEADLK for itself, -ECANCELED.
 */
int shoal_join(shoal_gid, struct shoal_end *);
/*
 * Cancels a goroutine of this task: its calls that would block return -ECANCELED from now on (POSIX
 * calls -1 and ECANCELED), and so does one in which it waits already. Taking a mutex or rwmutex is no
 * such call. What can be done at once is done all the same. Its end is told as SHOAL_CANCELLED.
 * 0, also if it has ended; -ESRCH if there was never one with this number in the task.
 */
int shoal_cancel(shoal_gid);
/*
 * Pins this goroutine to its worker. It runs there alone and the worker runs nothing else: for what a process has only
 * once. Nests; one that ends while it is pinned has its worker replaced. At most 56 at a time: more end
 * as a crash (shoal_pin) or fail with EAGAIN (SHOAL_PINNED).
 */
void shoal_pin(void);
void shoal_unpin(void);
/*
 * Sets the number of Ps, to 62 at most; 0 only asks. Parks. The old number; -EAGAIN: a goroutine did not
 * come to a point where it can stop.
 */
int shoal_procs(int n);
/* The number of the worker it runs on right now; it may be another one after the next park. */
int shoal_worker(void);

/* ---- channels ---- */
struct shoal_chan;
/*
 * Makes a channel for values of elem_size bytes, of which it holds capacity; 0: each send waits for a
 * receive. NULL and errno: EINVAL for a size that no memory could hold, ENOMEM.
 */
struct shoal_chan *shoal_chan_new(size_t elem_size, size_t capacity);
/*
 * Gives a channel's memory back. Safe once nobody will call on it again: a peer that was matched
 * already does not touch it any more. NULL is allowed. What is left at the end of the task comes back
 * by itself.
 */
void shoal_chan_free(struct shoal_chan *);
/*
 * Sends a copy of a value, to a receiver that waits or into the buffer; else waits, for timeout
 * nanoseconds at most. The value may be NULL for elements of size 0. A NULL channel blocks for ever.
 * Parks. 0; -EPIPE: the channel is closed; -ECANCELED; -ENOMEM for a value beyond 32 bytes; timed
 * also -EAGAIN for timeout 0, and -ETIMEDOUT.
 */
int shoal_send(struct shoal_chan *, const void *);
int shoal_send_timed(struct shoal_chan *, const void *, int64_t timeout);
/*
 * Receives a value, from the buffer or a sender that waits; else waits, for timeout nanoseconds at
 * most. NULL drops the value. From a closed channel come the values that are in it, then zeros. A NULL
 * channel blocks for ever. Parks. 1: a value; 0: closed and drained; -ECANCELED; -ENOMEM for a value
 * beyond 32 bytes; timed also -EAGAIN for timeout 0, and -ETIMEDOUT.
 */
int shoal_recv(struct shoal_chan *, void *);
int shoal_recv_timed(struct shoal_chan *, void *, int64_t timeout);
/*
 * Closes a channel: who waits to receive gets what a closed one gives, who waits to send -EPIPE.
 * 0, or -EPIPE when it is closed already.
 */
int shoal_close(struct shoal_chan *);
/* How many values a channel holds right now, and how many it can hold. 0 for NULL. */
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
 * Does one of n channel operations, of those that can go on each with the same chance; else waits, for
 * timeout nanoseconds at most. A channel may be in several cases. No case, or none with a channel:
 * sleeps for the timeout. Parks. The index of the one done, whose result is set (-EPIPE for a send to
 * a closed channel); -EAGAIN for timeout 0 if there is none; -ETIMEDOUT; -ECANCELED; -ENOMEM; -EINVAL
 * for more than 65,536 cases.
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
	SHOAL_ATOMIC_(uint32_t) starving;
	struct shoal_waitq_ q;
	struct shoal_mutex *next, *prev;
};
/*
 * Takes a mutex, trylock only if it is free. Who has waited for more than a millisecond is next. Not
 * ended by a cancellation. Parks (trylock does not). 0; -EOWNERDEAD: taken, but the last holder ended
 * or died with it, and what it guards may be half done; trylock: -EBUSY.
 */
int shoal_mutex_lock(struct shoal_mutex *);
int shoal_mutex_trylock(struct shoal_mutex *);
/* Lets a mutex go. It must be held by this goroutine, which ends as a crash if it is not. 0. */
int shoal_mutex_unlock(struct shoal_mutex *);

struct shoal_rwmutex {
	struct shoal_waitq_ q;
	SHOAL_ATOMIC_(uint64_t) writer;
	uint32_t readers, dead;
};
/*
 * Takes a reader/writer lock: rlock with other readers, lock alone. A writer that waits keeps new
 * readers out, so no goroutine should take it twice. Not ended by a cancellation. Parks. 0, or
 * -EOWNERDEAD: taken, but the last writer ended or died with it. A reader that dies is counted out.
 */
int shoal_rwmutex_rlock(struct shoal_rwmutex *);
int shoal_rwmutex_lock(struct shoal_rwmutex *);
/* Lets a reader/writer lock go. It must be held so by this goroutine, which ends as a crash if it is not. 0. */
int shoal_rwmutex_runlock(struct shoal_rwmutex *);
int shoal_rwmutex_unlock(struct shoal_rwmutex *);

struct shoal_cond {
	struct shoal_waitq_ q;
};
/*
 * Waits for a signal. The mutex, which this goroutine holds, is let go meanwhile and held again on
 * return, whatever it is. Look again at what you wait for: the death of a worker may wake all. Parks.
 * 0, -ECANCELED, -EOWNERDEAD (as shoal_mutex_lock).
 */
int shoal_cond_wait(struct shoal_cond *, struct shoal_mutex *);
/* Wakes the first that waits, or all. With or without the mutex. 0. */
int shoal_cond_signal(struct shoal_cond *);
int shoal_cond_broadcast(struct shoal_cond *);

struct shoal_once {
	struct shoal_mutex mu;
	SHOAL_ATOMIC_(uint32_t) done;
};
/*
 * Runs fn unless it has been run, and returns when it has been run to its end. If who runs it dies,
 * another does. Parks. 0.
 */
int shoal_once_do(struct shoal_once *, void (*fn)(void));

struct shoal_sem {
	struct shoal_waitq_ q;
	int64_t units;
};
/* Takes n units of a semaphore, which starts with none; waits its turn until there are so many. Parks. 0 or -ECANCELED. */
int shoal_sem_acquire(struct shoal_sem *, int n);
/* Gives n units to a semaphore, and serves those who wait, in order. 0 or -EOVERFLOW. */
int shoal_sem_release(struct shoal_sem *, int n);

struct shoal_wg {
	struct shoal_waitq_ q;
	SHOAL_ATOMIC_(int64_t) count;
};
/* Changes the count of a wait group by n, or by -1. At 0 who waits goes on; below it the goroutine ends as a crash. 0. */
int shoal_wg_add(struct shoal_wg *, int n);
int shoal_wg_done(struct shoal_wg *);
/* Waits until the count of a wait group is 0. Parks. 0 or -ECANCELED. */
int shoal_wg_wait(struct shoal_wg *);
/*
 * Starts a goroutine as shoal_go does, counted in a wait group until it has ended, however it ends.
 * Its number, or 0 and errno.
 */
shoal_gid shoal_wg_go(struct shoal_wg *, void (*fn)(void *), const void *arg, size_t size);
shoal_gid shoal_wg_go_with(struct shoal_wg *, const struct shoal_go_opts *, void (*fn)(void *), const void *arg,
			   size_t size);

#ifdef __cplusplus
}
#endif
#endif
