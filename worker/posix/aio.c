/*
 * posix/aio.c - asynchronous input and output: a goroutine for each request.
 *
 * Requests for one descriptor are carried out in the order in which they were made, as libc does it; aio_fsync is
 * one of them. Each notifies as it was asked to: by a signal, by a function on a goroutine of its own, or not.
 *
 * Only its own goroutine may touch a stack. If the control block, or the buffer of a read, lies on a stack, the
 * request keeps result and data until that goroutine asks for them:
 *
 *	caller					goroutine of the request
 *	begin(): copy the arguments
 *						read into r->copy
 *						end_request(): result, error, state
 *	aio_error(), aio_suspend(), ...:	finish_request(): notify
 *	settle(): copy data and result
 *
 * The goroutine of a request begins again if its worker dies (at most TRIES times in all). Each of its steps is noted
 * in the request, which stays in the list until the last one, so the next run goes on there. It may notify twice.
 *
 * OWNER  of a request: its goroutine, until it has ended; then also the goroutine on whose stack it stores. Whichever
 *        is the last takes it off the list. The list is the task's
 * LOCK   the task's: the list, all of a request but its arguments, groups
 * ORDER  the result is stored before the error code, which says that it is there (pairs with aio_error)
 * DEATH  each field is whole by itself. A request that a worker unlists and does not free is freed with the task
 */
#include "core/sync/semtable.h"
#include "worker/posix/own.h"
#include "worker/posix/signal.h"
#include "worker/posix/timer.h"
#include "worker/posix/thread_cancel.h"

#include <aio.h>
#include <fcntl.h>
#include <limits.h>

#define TRIES 3

/* All requests of one lio_listio that have it as their group. */
struct group {
	struct sigevent event;
	bool open;   /* lio_listio may still add some */
	bool waits;  /* LIO_WAIT: its caller frees it */
	bool failed; /* one of them has */
};

enum state { QUEUED, BEGUN, ENDED };

struct request {
	struct request *next;
	uint64_t number; /* no other request of the task has it */
	/* the arguments */
	struct aiocb *cb;
	uint64_t keeper; /* gid: only this goroutine may store into cb and the buffer; 0: every goroutine may */
	int op;		 /* LIO_READ, LIO_WRITE, SYNC_ALL, SYNC_DATA */
	int fd;
	void *at;   /* the caller's buffer, or copy */
	void *copy; /* of the buffer, if that lies on a stack */
	size_t size;
	off_t offset;
	struct sigevent event;
	/* what has happened to it */
	enum state state;
	int error;
	ssize_t result;
	struct group *group; /* or NULL */
	bool cancelled;
	bool last;    /* it was the last of its group to end */
	bool through; /* its goroutine has notified */
	bool gone;    /* its keeper has the result, or will not ask */
};

#define SYNC_ALL 100
#define SYNC_DATA 101

static _Atomic(void *) *list_of(struct g *g)
{
	return &task_own(g->task)->aio;
}

static bool on_some_stack(const volatile void *p)
{
	return (uintptr_t)p - SH_WIN_BASE < SH_WIN_SPAN;
}

/* ---- the list: in the order of the requests. Holds: the task's lock ---- */

static struct request *first(struct g *g)
{
	return atomic_load(list_of(g));
}

static void append(struct g *g, struct request *r)
{
	struct request *last = first(g);

	while (last && last->next)
		last = last->next;
	if (last)
		last->next = r;
	else
		atomic_store(list_of(g), r);
	KILL_POINT("aio.listed");
}

static void take_out(struct g *g, struct request *r)
{
	struct request *before = first(g);

	if (before == r) {
		atomic_store(list_of(g), r->next);
	} else {
		while (before && before->next != r)
			before = before->next;
		if (before)
			before->next = r->next;
	}
	KILL_POINT("aio.unlisted");
}

static void free_request(struct g *g, struct request *r)
{
	if (r->copy)
		g_free(g, r->copy);
	g_free(g, r);
}

/* It is the first for its descriptor, and begins; or it was cancelled. */
static bool its_turn(struct g *g, struct request *r)
{
	struct request *o;

	signals_lock(g->task);
	for (o = first(g); o && o != r && (o->state == ENDED || o->fd != r->fd); o = o->next)
		;
	if (o == r && !r->cancelled) {
		r->state = BEGUN;
		KILL_POINT("aio.begun");
	}
	signals_unlock(g->task);
	return o == r || r->cancelled;
}

/* Those of a group that have not ended; all: or whose goroutines are not through. Holds: the task's lock. */
static unsigned members(struct g *g, const struct group *group, bool all)
{
	unsigned n = 0;

	for (struct request *r = first(g); r; r = r->next)
		n += r->group == group && (all || r->state != ENDED);
	return n;
}

/* Takes the request off the list if neither the program nor its helper uses it any more. Holds: the task's lock. True: the caller frees it. */
static bool is_over(struct g *g, struct request *r)
{
	if (!r->through || (r->keeper && !r->gone))
		return false;
	take_out(g, r);
	return true;
}

/* ---- results that wait for their goroutine ---- */

static void store_result(struct aiocb *cb, ssize_t n, int err)
{
	cb->__return_value = n;
	__atomic_store_n(&cb->__error_code, err, __ATOMIC_RELEASE);
}

static bool is_request_of(const struct request *r, const struct g *g, const struct aiocb *cb)
{
	return r->cb == cb && !r->gone && (r->keeper == g->gid || !on_some_stack(cb));
}

/* The error code of cb. kept: the request, if it has ended and is kept for the current goroutine. */
static int look_up(struct g *g, const struct aiocb *cb, struct request **kept)
{
	struct request *r;
	int err = __atomic_load_n(&cb->__error_code, __ATOMIC_ACQUIRE);

	if (err != EINPROGRESS)
		return err;
	signals_lock(g->task);
	for (r = first(g); r && !is_request_of(r, g, cb); r = r->next)
		;
	err = r && r->state == ENDED ? r->error : EINPROGRESS;
	if (kept && r && r->state == ENDED && r->keeper == g->gid)
		*kept = r;
	signals_unlock(g->task);
	/* A request without a keeper may have stored its result and gone meanwhile. */
	return err == EINPROGRESS ? __atomic_load_n(&cb->__error_code, __ATOMIC_ACQUIRE) : err;
}

/* Its keeper will not ask for it. */
static void let_go(struct g *g, struct request *r)
{
	bool over;

	signals_lock(g->task);
	r->gone = true;
	KILL_POINT("aio.gone");
	over = is_over(g, r);
	signals_unlock(g->task);
	if (over)
		free_request(g, r);
}

/* If the request of cb has ended and is kept for the current goroutine, stores its data and result. Its error code. */
static int settle(struct g *g, struct aiocb *cb)
{
	struct request *r = NULL;
	int err = look_up(g, cb, &r);

	if (!r)
		return err;
	if (r->op == LIO_READ && r->copy && r->result > 0)
		memcpy((void *)cb->aio_buf, r->copy, (size_t)r->result);
	store_result(cb, r->result, err);
	let_go(g, r);
	return err;
}

static void settle_all(struct g *g, const struct aiocb *const list[], int n)
{
	int err = errno;

	for (int i = 0; i < n; i++)
		if (list[i])
			settle(g, (struct aiocb *)list[i]);
	errno = err;
}

/* The goroutine will not ask for results any more; cb: for this one's. */
static void drop_kept(struct g *g, const struct aiocb *cb)
{
	struct request *r;

	do {
		signals_lock(g->task);
		for (r = first(g); r && (r->gone || r->keeper != g->gid || (cb && r->cb != cb)); r = r->next)
			;
		signals_unlock(g->task);
		if (r)
			let_go(g, r);
	} while (r);
}

void sh_aio_g_end(struct g *g)
{
	if (first(g))
		drop_kept(g, NULL);
}

/* ---- carrying out ---- */

static void notify(struct g *g, const struct sigevent *e)
{
	siginfo_t info = {.si_signo = e->sigev_signo, .si_code = SI_ASYNCIO};

	if (e->sigev_notify == SIGEV_THREAD) {
		timer_call(e->sigev_notify_function, e->sigev_value);
	} else if (e->sigev_notify == SIGEV_SIGNAL && e->sigev_signo > 0 && e->sigev_signo < _NSIG) {
		info.si_pid = getpid();
		info.si_uid = getuid();
		info.si_value = e->sigev_value;
		signal_send_task(g->task, NULL, &info);
	}
}

static ssize_t carry_out(const struct request *r)
{
	ssize_t n;

	switch (r->op) {
	case SYNC_ALL: return fsync(r->fd);
	case SYNC_DATA: return fdatasync(r->fd);
	case LIO_READ:
		n = pread(r->fd, r->at, r->size, r->offset);
		return n < 0 && errno == ESPIPE ? read(r->fd, r->at, r->size) : n;
	default:
		if (fcntl(r->fd, F_GETFL) & O_APPEND)
			return write(r->fd, r->at, r->size);
		n = pwrite(r->fd, r->at, r->size, r->offset);
		return n < 0 && errno == ESPIPE ? write(r->fd, r->at, r->size) : n;
	}
}

/* False if a second run of the request gives another result: a stream moves on, a file that is appended to grows. */
static bool repeatable(const struct request *r)
{
	return r->op >= SYNC_ALL ||
	       (lseek(r->fd, 0, SEEK_CUR) >= 0 && (r->op == LIO_READ || !(fcntl(r->fd, F_GETFL) & O_APPEND)));
}

static void end_request(struct g *g, struct request *r, ssize_t n, int err)
{
	if (!r->keeper && !r->cancelled)
		store_result(r->cb, n, err);
	signals_lock(g->task);
	r->result = n;
	r->error = err;
	if (r->group && err)
		r->group->failed = true;
	r->last = r->group && !r->group->open && members(g, r->group, false) == 1;
	r->state = ENDED;
	KILL_POINT("aio.ended");
	signals_unlock(g->task);
	semtable_wake(g, list_of(g), true);
}

/* It has ended: notifies, then lets it go. */
static void finish_request(struct g *g, struct request *r)
{
	struct group *group = r->group;
	bool over, waits = false, frees = false;

	if (!r->through)
		notify(g, &r->event);
	if (group && r->last && !group->waits)
		notify(g, &group->event);
	signals_lock(g->task);
	r->group = NULL;
	KILL_POINT("aio.grouped");
	if (group) {
		waits = group->waits;
		frees = !waits && !group->open && members(g, group, true) == 0;
	}
	r->through = true;
	KILL_POINT("aio.through");
	over = is_over(g, r);
	signals_unlock(g->task);
	if (over)
		free_request(g, r);
	if (frees)
		g_free(g, group);
	else if (waits)
		semtable_wake(g, group, true);
}

struct ticket {
	struct request *r;
	uint64_t number;
};

static bool is_listed(struct g *g, const struct ticket *t)
{
	struct request *r;

	signals_lock(g->task);
	for (r = first(g); r && (r != t->r || r->number != t->number); r = r->next)
		;
	signals_unlock(g->task);
	return r != NULL;
}

static void aio_main(void *arg)
{
	const struct ticket *t = arg;
	struct request *r = t->r;
	struct g *g = getg();
	struct shoal_waitq_ *q;
	bool again;
	ssize_t n;

	if (g->attempt > 1 && !is_listed(g, t))
		return;
	again = r->state == BEGUN;
	signal_set_mask(g, ~0ull);
	while (r->state != ENDED && !its_turn(g, r)) {
		if (!(q = semtable_lock(g, list_of(g))))
			shoal_sleep(1000000);
		else if (its_turn(g, r))
			semtable_unlock(q);
		else if (semtable_wait(q, g, list_of(g), WAIT_IO, 0) == -ECANCELED)
			break;
	}
	if (r->state != ENDED) {
		if (r->cancelled || g_cancelled(g)) {
			end_request(g, r, -1, ECANCELED);
		} else if (again && !repeatable(r)) {
			end_request(g, r, -1, EIO);
		} else {
			n = carry_out(r);
			end_request(g, r, n, n < 0 ? errno : 0);
		}
	}
	finish_request(g, r);
}

/* A request with what it needs of the control block. NULL: there is no memory. */
static struct request *make_request(struct g *g, struct aiocb *cb, int op, struct group *group)
{
	struct request *r = g_alloc(g, sizeof *r);
	void *buf = (void *)cb->aio_buf;

	if (!r)
		return NULL;
	*r = (struct request){.cb = cb, .op = op, .fd = cb->aio_fildes, .at = buf, .size = cb->aio_nbytes};
	r->offset = cb->aio_offset;
	r->event = cb->aio_sigevent;
	r->group = group;
	r->number = posix_new_state();
	if (op < SYNC_ALL && r->size && on_some_stack(buf)) {
		r->at = r->copy = g_alloc(g, r->size);
		if (!r->copy) {
			g_free(g, r);
			return NULL;
		}
		if (op == LIO_WRITE)
			memcpy(r->copy, buf, r->size);
	}
	if (on_some_stack(cb) || (op == LIO_READ && r->copy)) {
		r->keeper = g->gid;
		atomic_store_explicit(&g->signals, 1, memory_order_relaxed); /* host_g_end calls sh_aio_g_end */
	}
	return r;
}

static bool good_event(const struct sigevent *e)
{
	return e->sigev_notify == SIGEV_NONE || e->sigev_notify == SIGEV_SIGNAL || e->sigev_notify == SIGEV_THREAD;
}

/* 0, or -1 and errno. */
static int begin(struct g *g, struct aiocb *cb, int op, struct group *group)
{
	struct shoal_go_opts o = {.name = "aio", .attempts = TRIES};
	struct ticket t;
	struct request *r;

	if (cb->aio_reqprio < 0 || cb->aio_reqprio > AIO_PRIO_DELTA_MAX || !good_event(&cb->aio_sigevent) ||
	    (op < SYNC_ALL && (ssize_t)cb->aio_nbytes < 0) || (op < SYNC_ALL && cb->aio_offset < 0)) {
		store_result(cb, -1, EINVAL);
		errno = EINVAL;
		return -1;
	}
	if (first(g))
		drop_kept(g, cb); /* of a former use of the block */
	if (!(r = make_request(g, cb, op, group))) {
		errno = EAGAIN;
		return -1;
	}
	cb->__return_value = 0;
	__atomic_store_n(&cb->__error_code, EINPROGRESS, __ATOMIC_RELEASE);
	signals_lock(g->task);
	append(g, r);
	signals_unlock(g->task);
	t = (struct ticket){r, r->number};
	if (shoal_go_with(&o, aio_main, &t, sizeof t))
		return 0;
	signals_lock(g->task);
	take_out(g, r);
	signals_unlock(g->task);
	free_request(g, r);
	store_result(cb, -1, EAGAIN);
	errno = EAGAIN;
	return -1;
}

static struct g *enter(void)
{
	struct g *g = posix_enter();

	if (!g)
		errno = ENOSYS; /* not in the supervisor, nor in a constructor */
	return g;
}

int aio_read(struct aiocb *cb)
{
	struct g *g = enter();

	return g ? begin(g, cb, LIO_READ, NULL) : -1;
}

int aio_write(struct aiocb *cb)
{
	struct g *g = enter();

	return g ? begin(g, cb, LIO_WRITE, NULL) : -1;
}

int aio_fsync(int op, struct aiocb *cb)
{
	struct g *g = enter();
	int flags;

	if (!g)
		return -1;
	if (op != O_SYNC && op != O_DSYNC) {
		errno = EINVAL;
		return -1;
	}
	flags = fcntl(cb->aio_fildes, F_GETFL);
	if (flags < 0 || (flags & O_ACCMODE) == O_RDONLY) {
		errno = EBADF;
		return -1;
	}
	return begin(g, cb, op == O_SYNC ? SYNC_ALL : SYNC_DATA, NULL);
}

/* ---- asking and waiting ---- */

int aio_error(const struct aiocb *cb)
{
	struct g *g = posix_enter();

	return g ? settle(g, (struct aiocb *)cb) : __atomic_load_n(&cb->__error_code, __ATOMIC_ACQUIRE);
}

ssize_t aio_return(struct aiocb *cb)
{
	struct g *g = posix_enter();

	if (g)
		settle(g, cb);
	return cb->__return_value;
}

static bool some_done(struct g *g, const struct aiocb *const list[], int n)
{
	bool some = false;

	for (int i = 0; i < n; i++) {
		if (!list[i])
			continue;
		if (look_up(g, list[i], NULL) != EINPROGRESS)
			return true;
		some = true;
	}
	return !some;
}

int aio_suspend(const struct aiocb *const list[], int n, const struct timespec *t)
{
	CANCEL_POINT();
	struct g *g = enter();
	struct shoal_waitq_ *q;
	int64_t when = 0;
	int r = 0;

	if (!g)
		return -1;
	if (n < 0 || (t && (t->tv_sec < 0 || t->tv_nsec < 0 || t->tv_nsec > 999999999))) {
		errno = EINVAL;
		return -1;
	}
	if (t)
		when = deadline(t->tv_sec > INT64_MAX / 2000000000 ? INT64_MAX / 2
								   : t->tv_sec * 1000000000l + t->tv_nsec);
	while (!some_done(g, list, n)) {
		if (r == -ECANCELED || r == -EINTR || r == -ETIMEDOUT) {
			errno = r == -ETIMEDOUT ? EAGAIN : -r;
			return -1;
		}
		if (!(q = semtable_lock(g, list_of(g)))) {
			r = shoal_sleep(1000000);
		} else if (some_done(g, list, n)) {
			semtable_unlock(q);
		} else {
			r = semtable_wait(q, g, list_of(g), WAIT_SIGNAL, when);
		}
	}
	settle_all(g, list, n);
	return 0;
}

/* The next that has not begun is cancelled. False: there is none. busy: one has begun. */
static bool cancel_one(struct g *g, int fd, const struct aiocb *cb, bool *busy)
{
	struct aiocb *stores = NULL;
	struct request *r;

	signals_lock(g->task);
	for (r = first(g); r; r = r->next) {
		if (r->state == ENDED || r->cancelled || r->fd != fd || (cb && !is_request_of(r, g, cb)))
			continue;
		if (r->state == QUEUED)
			break;
		*busy = true;
	}
	if (r) {
		r->cancelled = true;
		stores = r->keeper ? NULL : r->cb;
		KILL_POINT("aio.cancelled");
	}
	signals_unlock(g->task);
	if (stores)
		store_result(stores, -1, ECANCELED);
	return r != NULL;
}

int aio_cancel(int fd, struct aiocb *cb)
{
	struct g *g = enter();
	bool some = false, busy = false;

	if (!g)
		return -1;
	if (fcntl(fd, F_GETFL) < 0)
		return -1;
	if (cb && cb->aio_fildes != fd) {
		errno = EINVAL;
		return -1;
	}
	while (cancel_one(g, fd, cb, &busy))
		some = true;
	semtable_wake(g, list_of(g), true);
	return busy ? AIO_NOTCANCELED : some ? AIO_CANCELED : AIO_ALLDONE;
}

static bool group_is_over(struct g *g, const struct group *group)
{
	unsigned n;

	signals_lock(g->task);
	n = members(g, group, true);
	signals_unlock(g->task);
	return n == 0;
}

/* lio_listio adds no more. True: all have ended; over: and all goroutines are through. */
static bool close_group(struct g *g, struct group *group, bool *over)
{
	bool ended;

	signals_lock(g->task);
	group->open = false;
	KILL_POINT("aio.group.closed");
	ended = members(g, group, false) == 0;
	*over = members(g, group, true) == 0;
	signals_unlock(g->task);
	return ended;
}

/* Parks until all of the group have ended. 0, or -1 and errno. */
static int await_group(struct g *g, struct group *group)
{
	struct shoal_waitq_ *q;
	bool over;
	int r = 0;

	close_group(g, group, &over);
	while (!group_is_over(g, group)) {
		if (r == -ECANCELED || r == -EINTR) {
			signals_lock(g->task);
			group->waits = false; /* the last of its requests frees it */
			KILL_POINT("aio.group.left");
			signals_unlock(g->task);
			errno = -r;
			return -1;
		}
		if (!(q = semtable_lock(g, group)))
			r = shoal_sleep(1000000);
		else if (group_is_over(g, group))
			semtable_unlock(q);
		else
			r = semtable_wait(q, g, group, WAIT_SIGNAL, 0);
	}
	r = group->failed ? -1 : 0;
	errno = r ? EIO : errno;
	g_free(g, group);
	return r;
}

/* The group is the caller's only while it is open. */
static void leave_group(struct g *g, struct group *group)
{
	struct sigevent event = group->event;
	bool over;

	if (close_group(g, group, &over))
		notify(g, &event);
	if (over)
		g_free(g, group);
}

int lio_listio(int mode, struct aiocb *const list[], int n, struct sigevent *event)
{
	struct sigevent none = {.sigev_notify = SIGEV_NONE};
	struct g *g = enter();
	struct group *group;
	bool failed = false;

	if (!g)
		return -1;
	if ((mode != LIO_WAIT && mode != LIO_NOWAIT) || n < 0 || (mode == LIO_NOWAIT && event && !good_event(event))) {
		errno = EINVAL;
		return -1;
	}
	if (!(group = g_alloc(g, sizeof *group))) {
		errno = EAGAIN;
		return -1;
	}
	*group = (struct group){.open = true, .waits = mode == LIO_WAIT};
	group->event = event && mode == LIO_NOWAIT ? *event : none;
	for (int i = 0; i < n; i++) {
		if (!list[i] || list[i]->aio_lio_opcode == LIO_NOP)
			continue;
		if (list[i]->aio_lio_opcode != LIO_READ && list[i]->aio_lio_opcode != LIO_WRITE)
			store_result(list[i], -1, EINVAL);
		else if (begin(g, list[i], list[i]->aio_lio_opcode, group) == 0)
			continue;
		failed = true;
	}
	if (mode == LIO_WAIT) {
		failed |= await_group(g, group) < 0;
		settle_all(g, (const struct aiocb *const *)list, n);
	} else {
		leave_group(g, group);
	}
	errno = failed && (mode == LIO_NOWAIT || errno != EINTR) ? EIO : errno;
	return failed ? -1 : 0;
}

void aio_init(const struct aioinit *unused)
{
	(void)unused;
}

/* ---- of files of 64 bits: the same here ---- */

_Static_assert(sizeof(struct aiocb) == sizeof(struct aiocb64), "offsets have 64 bits");

int aio_read64(struct aiocb64 *cb)
{
	return aio_read((struct aiocb *)cb);
}

int aio_write64(struct aiocb64 *cb)
{
	return aio_write((struct aiocb *)cb);
}

int aio_fsync64(int op, struct aiocb64 *cb)
{
	return aio_fsync(op, (struct aiocb *)cb);
}

int aio_error64(const struct aiocb64 *cb)
{
	return aio_error((const struct aiocb *)cb);
}

ssize_t aio_return64(struct aiocb64 *cb)
{
	return aio_return((struct aiocb *)cb);
}

int aio_suspend64(const struct aiocb64 *const list[], int n, const struct timespec *t)
{
	return aio_suspend((const struct aiocb *const *)list, n, t);
}

int aio_cancel64(int fd, struct aiocb64 *cb)
{
	return aio_cancel(fd, (struct aiocb *)cb);
}

int lio_listio64(int mode, struct aiocb64 *const list[], int n, struct sigevent *event)
{
	return lio_listio(mode, (struct aiocb *const *)list, n, event);
}
