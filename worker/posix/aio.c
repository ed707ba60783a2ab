/*
 * posix/aio.c - asynchronous input and output: a goroutine for each request.
 *
 * Requests for one descriptor are carried out in the order in which they were made, as libc does it; aio_fsync is
 * one of them. Each notifies as it was asked to: by a signal, by a function on a goroutine of its own, or not.
 *
 * OWNER  of a request: its goroutine, from the list on. The list is the task's
 * LOCK   the task's: the list, and group.left
 * ORDER  the result is stored before the error code, which says that it is there (pairs with aio_error)
 * DEATH  of the worker that runs a request's goroutine: it is lost as any other, and with it the task
 */
#include "core/sync/semtable.h"
#include "worker/posix/own.h"
#include "worker/posix/signal.h"
#include "worker/posix/timer.h"
#include "worker/posix/thread_cancel.h"

#include <aio.h>
#include <fcntl.h>
#include <limits.h>

/* All requests of one lio_listio. */
struct group {
	_Atomic int left, failed;
	struct sigevent event;
	bool waits; /* LIO_WAIT: its caller frees it */
};

struct request {
	struct aiocb *cb;
	int op; /* LIO_READ, LIO_WRITE, SYNC_ALL, SYNC_DATA */
	bool cancelled, begun;
	struct group *group; /* or NULL */
	struct request *next;
};

#define SYNC_ALL 100
#define SYNC_DATA 101

static _Atomic(void *) *list_of(struct g *g)
{
	return &task_own(g->task)->aio;
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

/* It is the first for its descriptor, and begins; or it was cancelled. */
static bool its_turn(struct g *g, struct request *r)
{
	struct request *o;

	signals_lock(g->task);
	for (o = first(g); o && o != r && o->cb->aio_fildes != r->cb->aio_fildes; o = o->next)
		;
	r->begun |= o == r;
	signals_unlock(g->task);
	return o == r || r->cancelled;
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
	struct aiocb *cb = r->cb;
	void *at = (void *)cb->aio_buf;
	ssize_t n;

	switch (r->op) {
	case SYNC_ALL: return fsync(cb->aio_fildes);
	case SYNC_DATA: return fdatasync(cb->aio_fildes);
	case LIO_READ:
		n = pread(cb->aio_fildes, at, cb->aio_nbytes, cb->aio_offset);
		return n < 0 && errno == ESPIPE ? read(cb->aio_fildes, at, cb->aio_nbytes) : n;
	default:
		if (fcntl(cb->aio_fildes, F_GETFL) & O_APPEND)
			return write(cb->aio_fildes, at, cb->aio_nbytes);
		n = pwrite(cb->aio_fildes, at, cb->aio_nbytes, cb->aio_offset);
		return n < 0 && errno == ESPIPE ? write(cb->aio_fildes, at, cb->aio_nbytes) : n;
	}
}

static void group_done(struct g *g, struct group *group, bool failed)
{
	if (failed)
		atomic_store(&group->failed, 1);
	if (atomic_fetch_sub(&group->left, 1) != 1)
		return;
	if (group->waits) {
		semtable_wake(g, group, true);
		return;
	}
	notify(g, &group->event);
	g_free(g, group);
}

static void finish_request(struct g *g, struct request *r, ssize_t n, int err)
{
	struct sigevent event = r->cb->aio_sigevent;

	signals_lock(g->task);
	take_out(g, r);
	signals_unlock(g->task);
	r->cb->__return_value = n;
	__atomic_store_n(&r->cb->__error_code, err, __ATOMIC_RELEASE);
	semtable_wake(g, list_of(g), true);
	notify(g, &event);
	if (r->group)
		group_done(g, r->group, err != 0);
	g_free(g, r);
}

static void aio_main(void *arg)
{
	struct request *r = *(struct request **)arg;
	struct g *g = getg();
	struct shoal_waitq_ *q;
	ssize_t n;

	signal_set_mask(g, ~0ull);
	while (!its_turn(g, r)) {
		if (!(q = semtable_lock(g, list_of(g))))
			shoal_sleep(1000000);
		else if (its_turn(g, r))
			semtable_unlock(q);
		else if (semtable_wait(q, g, list_of(g), WAIT_IO, 0) == -ECANCELED)
			break;
	}
	if (r->cancelled || g_cancelled(g)) {
		finish_request(g, r, -1, ECANCELED);
		return;
	}
	n = carry_out(r);
	finish_request(g, r, n, n < 0 ? errno : 0);
}

static bool good_event(const struct sigevent *e)
{
	return e->sigev_notify == SIGEV_NONE || e->sigev_notify == SIGEV_SIGNAL || e->sigev_notify == SIGEV_THREAD;
}

/* 0, or -1 and errno. */
static int begin(struct g *g, struct aiocb *cb, int op, struct group *group)
{
	struct shoal_go_opts o = {.name = "aio", .attempts = 1};
	struct request *r;

	if (cb->aio_reqprio < 0 || cb->aio_reqprio > AIO_PRIO_DELTA_MAX || !good_event(&cb->aio_sigevent) ||
	    (op < SYNC_ALL && (ssize_t)cb->aio_nbytes < 0) || (op < SYNC_ALL && cb->aio_offset < 0)) {
		cb->__return_value = -1;
		cb->__error_code = EINVAL;
		errno = EINVAL;
		return -1;
	}
	if (!(r = g_alloc(g, sizeof *r))) {
		errno = EAGAIN;
		return -1;
	}
	*r = (struct request){.cb = cb, .op = op, .group = group};
	cb->__return_value = 0;
	__atomic_store_n(&cb->__error_code, EINPROGRESS, __ATOMIC_RELEASE);
	signals_lock(g->task);
	append(g, r);
	signals_unlock(g->task);
	if (shoal_go_with(&o, aio_main, &r, sizeof r))
		return 0;
	signals_lock(g->task);
	take_out(g, r);
	signals_unlock(g->task);
	g_free(g, r);
	cb->__return_value = -1;
	cb->__error_code = EAGAIN;
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
	posix_enter();
	return __atomic_load_n(&cb->__error_code, __ATOMIC_ACQUIRE);
}

ssize_t aio_return(struct aiocb *cb)
{
	return cb->__return_value;
}

static bool some_done(const struct aiocb *const list[], int n)
{
	bool some = false;

	for (int i = 0; i < n; i++) {
		if (!list[i])
			continue;
		if (__atomic_load_n(&list[i]->__error_code, __ATOMIC_ACQUIRE) != EINPROGRESS)
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
	while (!some_done(list, n)) {
		if (r == -ECANCELED || r == -EINTR || r == -ETIMEDOUT) {
			errno = r == -ETIMEDOUT ? EAGAIN : -r;
			return -1;
		}
		if (!(q = semtable_lock(g, list_of(g)))) {
			r = shoal_sleep(1000000);
		} else if (some_done(list, n)) {
			semtable_unlock(q);
		} else {
			r = semtable_wait(q, g, list_of(g), WAIT_SIGNAL, when);
		}
	}
	return 0;
}

int aio_cancel(int fd, struct aiocb *cb)
{
	struct g *g = enter();
	bool some = false, all = true;

	if (!g)
		return -1;
	if (fcntl(fd, F_GETFL) < 0)
		return -1;
	if (cb && cb->aio_fildes != fd) {
		errno = EINVAL;
		return -1;
	}
	signals_lock(g->task);
	for (struct request *r = first(g); r; r = r->next) {
		if (r->cb->aio_fildes != fd || (cb && r->cb != cb))
			continue;
		some = true;
		if (r->begun)
			all = false;
		else
			r->cancelled = true;
	}
	signals_unlock(g->task);
	semtable_wake(g, list_of(g), true);
	return !some ? AIO_ALLDONE : all ? AIO_CANCELED : AIO_NOTCANCELED;
}

/* Parks until all of the group are done. 0, or -1 and errno. */
static int await_group(struct g *g, struct group *group)
{
	struct shoal_waitq_ *q;
	int r = 0;

	while (atomic_load(&group->left) > 0) {
		if (r == -ECANCELED || r == -EINTR) {
			errno = -r;
			return -1; /* the group stays: its requests will look at it */
		}
		if (!(q = semtable_lock(g, group)))
			r = shoal_sleep(1000000);
		else if (atomic_load(&group->left) <= 0)
			semtable_unlock(q);
		else
			r = semtable_wait(q, g, group, WAIT_SIGNAL, 0);
	}
	r = atomic_load(&group->failed) ? -1 : 0;
	errno = r ? EIO : errno;
	g_free(g, group);
	return r;
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
	*group = (struct group){.left = 1, .waits = mode == LIO_WAIT, .event = event ? *event : none};
	for (int i = 0; i < n; i++) {
		if (!list[i] || list[i]->aio_lio_opcode == LIO_NOP)
			continue;
		atomic_fetch_add(&group->left, 1);
		if (list[i]->aio_lio_opcode != LIO_READ && list[i]->aio_lio_opcode != LIO_WRITE) {
			list[i]->__return_value = -1;
			list[i]->__error_code = EINVAL;
		} else if (begin(g, list[i], list[i]->aio_lio_opcode, group) == 0) {
			continue;
		}
		failed = true;
		atomic_fetch_sub(&group->left, 1);
	}
	if (mode == LIO_WAIT) {
		if (failed)
			atomic_store(&group->failed, 1);
		atomic_fetch_sub(&group->left, 1);
		return await_group(g, group);
	}
	group_done(g, group, failed);
	errno = failed ? EIO : errno;
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
