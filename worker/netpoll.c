/*
 * netpoll.c - the worker's half of netpoll: the loop it sleeps in, the epoll set, and what is
 * known of a descriptor. See core/sched/netpoll.h.
 *
 * All workers share one epoll set. A worker that has ever slept for all (sched.poller) has it in its
 * libuv loop as one more descriptor; the others wait for their eventfd alone, or every event would wake
 * them all. A descriptor costs uv_poll an epoll_ctl at each start and stop, 160 ns; edge triggered in a
 * set of our own it costs one in its life. The poller sleeps until the next timer to the microsecond.
 *
 * DEATH  the loop goes with the process, its descriptors are in the seat. The set stays. Events are
 *        taken straight into m->events: what was taken and not delivered is there for the medic
 */
#include "core/sched/netpoll.h"
#include "shm/check.h"
#include "shm/kill.h"
#include "shm/syscall.h"
#include "worker/posix/clock.h"
#include "worker/posix/filelock.h"
#include "worker/posix/posix.h"
#include "worker/arrivals.h"
#include "worker/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>
#include <uv.h>

#define ALONE_NS 5000000000l /* between two looks of one who sleeps, whether anybody is there */

_Static_assert(sizeof(struct net_event) == sizeof(struct epoll_event) &&
		       offsetof(struct net_event, fd) == offsetof(struct epoll_event, data),
	       "the kernel writes into m->events");
_Static_assert(NET_READ == (EPOLLIN | EPOLLPRI | EPOLLERR | EPOLLHUP | EPOLLRDHUP), "");
_Static_assert(NET_WRITE == (EPOLLOUT | EPOLLERR | EPOLLHUP), "");

static uv_loop_t loop;
static uv_poll_t wake_poll, net_poll;
static uv_timer_t wake_timer;
static int wake_fd = -1;
static bool was_rung; /* a wake-up was taken out of wake_fd */

/* ---- the loop ---- */

static void drain_wake_fd(void)
{
	uint64_t n;

	if (syscall(SYS_read, wake_fd, &n, sizeof n) < 0)
		return; /* somebody else's wake-up was taken together with ours */
}

static void on_wake(uv_poll_t *h, int status, int events)
{
	(void)h;
	(void)status;
	(void)events;
	was_rung = true;
	drain_wake_fd();
}

static void on_net(uv_poll_t *h, int status, int events)
{
	(void)h;
	(void)status;
	(void)events; /* host_idle() polls once the loop has returned */
}

static void on_time(uv_timer_t *h)
{
	(void)h;
}

static int timer_slack;

void sh_timer_slack(bool usual)
{
	syscall(SYS_prctl, PR_SET_TIMERSLACK, usual && timer_slack > 0 ? timer_slack : 1, 0, 0, 0);
}

void loop_start(unsigned seat)
{
	struct sh_seat *s = &sh_root->seat[seat];

	wake_fd = atomic_load(&s->wake_fd);
	if (wake_fd < 0) {
		wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		sh_check(wake_fd >= 0);
		atomic_store(&s->wake_fd, wake_fd);
		KILL_POINT("worker.loop.eventfd");
	}
	fd_keep(wake_fd); /* whoever made it: he may not have come to this */
	sh_check(uv_loop_init(&loop) == 0);
	s->own_fds[0] = uv_backend_fd(&loop);
	s->own_fds[1] = loop.signal_pipefd[0];
	s->own_fds[2] = loop.signal_pipefd[1];
	s->own_fds[3] = loop.async_io_watcher.fd;
	for (unsigned i = 0; i < 4; i++)
		fd_keep(s->own_fds[i]);
	KILL_POINT("worker.loop.ready");
	timer_slack = (int)syscall(SYS_prctl, PR_GET_TIMERSLACK, 0, 0, 0, 0);
	sh_timer_slack(false);
	uv_poll_init(&loop, &wake_poll, wake_fd);
	uv_poll_start(&wake_poll, UV_READABLE, on_wake);
	uv_poll_init(&loop, &net_poll, sh_root->poll_fd); /* started by who sleeps in the loop, once */
	uv_timer_init(&loop, &wake_timer);
}

/* At two looks in a row there is no medic, and nobody who could make one: supervisor or no, all is over. */
static void look_for_others(void)
{
	static unsigned looks;

	looks = (atomic_load(&sh_root->zygote_word) & FUTEX_OWNER_DIED) && sh_seat_dead(SH_SEAT_MEDIC) ? looks + 1 : 0;
	if (looks == 2)
		_exit(0);
}

/* To the millisecond: for kernels without epoll_pwait2 (before 5.11). */
static void run_loop_for(int64_t ns)
{
	uv_update_time(&loop);
	uv_timer_start(&wake_timer, on_time, (uint64_t)(ns + 999999) / 1000000, 0);
	uv_run(&loop, UV_RUN_ONCE);
	uv_timer_stop(&wake_timer);
}

/* libuv sleeps to the millisecond, so the sleep is ours and libuv has what came. */
static void wait_for_loop(int64_t ns)
{
	struct timespec t = timespec_of_ns(ns > 0 ? ns : 0);
	struct epoll_event e;
	long n = syscall(SYS_epoll_pwait2, uv_backend_fd(&loop), &e, 1, &t, NULL, 0);

	if (n > 0)
		uv_run(&loop, UV_RUN_NOWAIT);
	else if (n < 0 && errno == ENOSYS)
		run_loop_for(ns > 0 ? ns : 0);
}

static void sleep_in_loop(int64_t until)
{
	int64_t now = host_now(), look = now + ALONE_NS;
	bool looks = !until || until > look;

	/* Each loop that watches the set is told of each event: 0.2 us in the kernel. Spare workers need not be. */
	was_rung = false;
	if (!uv_is_active((uv_handle_t *)&net_poll)) {
		uv_poll_start(&net_poll, UV_READABLE, on_net);
		uv_run(&loop,
		       UV_RUN_NOWAIT); /* libuv enters what it watches into its own set, and takes what is there */
	}
	if (looks)
		until = look;
	if (!was_rung)
		wait_for_loop(until - now);
	if (looks && host_now() >= look)
		look_for_others();
	host_poll();
}

void host_idle(int64_t until)
{
	struct pollfd p = {.fd = wake_fd, .events = POLLIN};
	long n;

	if (arrivals_wait())
		arrivals_pass_on();
	if (atomic_load(&sched.poller) == getm->seat) {
		sleep_in_loop(until); /* a signal wakes it by its descriptor, and host_poll passes it on */
		return;
	}
	while ((n = syscall(SYS_ppoll, &p, 1, &(struct timespec){ALONE_NS / 1000000000, 0}, NULL, 0)) == 0)
		look_for_others();
	if (n > 0)
		drain_wake_fd();
	if (arrivals_wait())
		arrivals_pass_on();
}

void host_nap(int64_t ns)
{
	syscall(SYS_nanosleep, &(struct timespec){0, ns}, NULL);
}

/*
 * Who has slept for a while was made prompt, to take over at once: what it runs now is no more than others.
 * Not as soon as it wakes: two system calls.
 */
void host_works(void)
{
	struct sh_seat *s = &sh_root->seat[getm->seat];

	if (__builtin_expect(atomic_load_explicit(&s->prompt, memory_order_relaxed), 0)) {
		atomic_store(&s->prompt, 0);
		sh_prompt(0, false);
	}
}

bool host_foreign;

void host_wake(unsigned seat)
{
	if (__builtin_expect(host_foreign, 0) && seat < WORKERS_MAX) {
		atomic_fetch_or(&sched.wake_asked, 1ull << seat);
		sh_bell();
		return;
	}
	sh_seat_wake(seat);
}

unsigned host_poll(void)
{
	struct m *m = getm;
	long n;

	if (arrivals_wait())
		arrivals_pass_on();
	if (!atomic_load_explicit(&sched.netpolled, memory_order_relaxed))
		return 0;
	n = syscall(SYS_epoll_pwait, sh_root->poll_fd, m->events, POLL_BATCH, 0, NULL, 0);
	if (n <= 0)
		return 0;
	KILL_POINT("netpoll.events.taken");
	return netpoll_deliver(m, (unsigned)n);
}

/* ---- what is known of a descriptor ---- */

static int64_t timeo_of(int fd, int option)
{
	struct timeval tv = {0};
	socklen_t n = sizeof tv;

	if (syscall(SYS_getsockopt, fd, SOL_SOCKET, option, &tv, &n) < 0)
		return 0;
	return ns_of_timeval(&tv);
}

/* The task's end looks for its descriptors below this. */
static void fd_top_over(struct task *t, int fd)
{
	uint32_t top = atomic_load_explicit(&sched.fd_top, memory_order_relaxed);

	atomic_store_explicit(&t->fds, 1, memory_order_relaxed);
	while (top <= (uint32_t)fd && !atomic_compare_exchange_weak(&sched.fd_top, &top, (uint32_t)fd + 1))
		;
}

/* Nobody's: a library has opened it, and it is the task's like any other. */
static void fd_found(int fd)
{
	struct task *t = getg()->task;
	uint32_t nobody = 0;

	if (atomic_load(&poll_owner[fd]))
		return;
	fd_top_over(t, fd);
	if (atomic_compare_exchange_strong(&poll_owner[fd], &nobody, t->slot + 1))
		KILL_POINT("fd.found");
}

static int socket_option(int fd, int option)
{
	int value = 0;
	socklen_t n = sizeof value;

	return syscall(SYS_getsockopt, fd, SOL_SOCKET, option, &value, &n) < 0 ? 0 : value;
}

static enum poll_kind find_out(int fd)
{
	struct polldesc *d = polldesc(fd);
	enum poll_kind kind;
	struct stat st;
	int err = errno;

	if (fstat(fd, &st) < 0)
		return PD_UNKNOWN;
	if (S_ISSOCK(st.st_mode)) {
		kind = PD_SOCKET;
		atomic_store(&d->sock_type, (uint8_t)socket_option(fd, SO_TYPE));
		atomic_store(&d->lowat, (uint32_t)socket_option(fd, SO_RCVLOWAT));
		atomic_store(&d->timeo[POLL_READ], timeo_of(fd, SO_RCVTIMEO));
		atomic_store(&d->timeo[POLL_WRITE], timeo_of(fd, SO_SNDTIMEO));
	} else if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode) || S_ISBLK(st.st_mode)) {
		kind = PD_PLAIN;
	} else {
		kind = PD_NOWAIT;
	}
	fd_found(fd);
	atomic_store(&d->kind, (uint8_t)kind);
	KILL_POINT("fd.known");
	errno = err;
	return kind;
}

enum poll_kind fd_kind(int fd)
{
	enum poll_kind kind;

	if ((unsigned)fd >= POLL_FDS)
		return PD_PLAIN;
	kind = atomic_load_explicit(&polldesc(fd)->kind, memory_order_relaxed);
	return __builtin_expect(kind != PD_UNKNOWN, 1) ? kind : find_out(fd);
}

/* Puts it into the set, once in the life of its file. False: it cannot be waited for. */
static bool registered(int fd, uint32_t gen)
{
	struct polldesc *d = polldesc(fd);
	struct net_event e = {
		.events = EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP | EPOLLET, .fd = (uint32_t)fd, .gen = gen};
	long r;

	if (__builtin_expect(atomic_load_explicit(&d->registered, memory_order_acquire) == gen + 1, 1))
		return true;
	r = syscall(SYS_epoll_ctl, sh_root->poll_fd, EPOLL_CTL_ADD, fd, &e);
	if (r < 0 && errno == EEXIST) /* somebody else right now, or before a close that we did not see */
		r = syscall(SYS_epoll_ctl, sh_root->poll_fd, EPOLL_CTL_MOD, fd, &e);
	if (r < 0) {
		if (errno == EPERM)
			atomic_store(&d->kind, PD_PLAIN);
		return false;
	}
	KILL_POINT("netpoll.registered.added");
	atomic_store(&sched.netpolled, 1);
	atomic_store_explicit(&d->registered, gen + 1, memory_order_release);
	KILL_POINT("netpoll.registered.noted");
	return true;
}

bool fd_watch(const struct pollwait *w)
{
	return registered(w->fd, w->gen);
}

/* Waits, and reads the edges anew before the next try; the file stays the one that the call began with. Parks. */
static int wait_for_edge(struct pollwait *w, unsigned n, int64_t when)
{
	int r = netpoll_wait(w, n, when);

	for (unsigned i = 0; i < n; i++)
		w[i].edges = atomic_load_explicit(&polldesc(w[i].fd)->edges[w[i].mode], memory_order_acquire);
	return r;
}

int fd_wait(struct pollwait *w, unsigned n, int64_t when)
{
	int r = wait_for_edge(w, n, when);

	if (r == 0)
		return 0;
	errno = r == -ETIMEDOUT ? EAGAIN : r == -ERESTART ? EINTR : -r;
	return -1;
}

int fd_block(struct pollwait *w, int64_t *when)
{
	long flags = syscall(SYS_fcntl, w->fd, F_GETFL);
	int r;

	if (flags < 0)
		return -1;
	if (flags & O_NONBLOCK) {
		errno = EAGAIN;
		return -1;
	}
	if (!registered(w->fd, w->gen))
		return errno == EPERM ? 0 : -1;
	if (!*when) {
		int64_t timeo = atomic_load_explicit(&polldesc(w->fd)->timeo[w->mode], memory_order_relaxed);

		if (timeo)
			*when = deadline_after(timeo);
	}
	r = wait_for_edge(w, 1, *when);
	if (r == 0 || (r == -ERESTART && !*when)) /* with a timeout a call does not begin again: see signal(7) */
		return 0;
	errno = r == -ETIMEDOUT ? EAGAIN : r == -ERESTART ? EINTR : -r;
	return -1;
}

/* ---- whose it is ---- */

void fd_keep(int fd)
{
	if ((unsigned)fd < POLL_FDS)
		atomic_store(&poll_owner[fd], POLL_RUNTIME);
}

void fd_adopt(int fd)
{
	struct task *t = getg()->task;

	fd_top_over(t, fd);
	atomic_store(&poll_owner[fd], t->slot + 1);
	KILL_POINT("fd.adopted");
}

void fd_adopt_inner(int fd)
{
	struct task *t = getg()->task;

	fd_top_over(t, fd);
	atomic_store(&poll_owner[fd], (t->slot + 1) | POLL_INNER);
	KILL_POINT("fd.inner.adopted");
}

void fd_gone(int fd)
{
	uint32_t mine = getg()->task->slot + 1;

	if ((unsigned)fd < POLL_FDS) /* unless the number is another's by now */
		atomic_compare_exchange_strong(&poll_owner[fd], &mine, 0);
	KILL_POINT("fd.gone");
}

int fd_made(int fd)
{
	struct polldesc *d;

	if ((unsigned)fd >= POLL_FDS || !on_g())
		return fd;
	KILL_POINT("fd.made");
	d = polldesc(fd);
	if (__builtin_expect(
		    atomic_load(&d->kind) != PD_UNKNOWN || atomic_load(&d->registered) == atomic_load(&d->gen) + 1, 0))
		netpoll_closed(fd); /* it was another file's, closed where we did not see it, or by dup2 */
	fd_adopt(fd);
	return fd;
}

bool fd_ours(int fd)
{
	uint32_t owner;

	if ((unsigned)fd >= POLL_FDS)
		return fd >= 0;
	owner = atomic_load(&poll_owner[fd]);
	return owner == 0 || owner == getg()->task->slot + 1;
}

/* Out of the set, as long as the number leads to the file: others may have the file open. */
static void leave_set(int fd)
{
	struct polldesc *d = polldesc(fd);
	struct net_event none;

	if (atomic_load(&d->registered) == atomic_load(&d->gen) + 1)
		syscall(SYS_epoll_ctl, sh_root->poll_fd, EPOLL_CTL_DEL, fd, &none);
}

void fd_forget(int fd)
{
	int err = errno;

	if ((unsigned)fd >= POLL_FDS)
		return;
	leave_set(fd);
	netpoll_closed(fd);
	errno = err;
}

void sh_fd_replacing(int fd)
{
	int err = errno;

	if ((unsigned)fd >= POLL_FDS)
		return;
	getm->note.closed = (uint32_t)fd + 1; /* a death between this and netpoll_closed: waiters look again */
	KILL_POINT("fd.close.noted");
	leave_set(fd);
	errno = err;
}

void fd_closing(int fd)
{
	if ((unsigned)fd >= POLL_FDS)
		return;
	sh_filelock_closing(fd);
	atomic_fetch_or(&poll_owner[fd], POLL_CLOSING); /* until it is done: a death leaves it to the task's end */
	KILL_POINT("fd.close.marked");
	sh_fd_replacing(fd);
}

/* The file is closed, the number is not free yet: what is called on it fails with EBADF. */
static void close_file(int fd)
{
	while (syscall(SYS_dup3, sh_root->closed_fd, fd, O_CLOEXEC) < 0 && (errno == EBUSY || errno == EINTR))
		;
	KILL_POINT("fd.close.emptied");
}

static void release_number(int fd)
{
	if ((unsigned)fd < POLL_FDS) {
		netpoll_closed(fd);
		atomic_store(&poll_owner[fd], 0);
	}
	KILL_POINT("fd.close.done"); /* a death here costs the number */
}

/*
 * The number is given up in three steps. First it leads to a file that nothing can be done with, and
 * is still the task's; then those wake that wait for the file that it led to; then it is nobody's and
 * may be freed. So a call that races with the close gets EBADF, never the end of a file or another file;
 * no waiter comes too late to be woken; and a death leaves no doubt: what is the task's is open.
 */
void fd_emptied(int fd)
{
	close_file(fd);
	release_number(fd);
}

int fd_close(int fd)
{
	if (syscall(SYS_fcntl, fd, F_GETFD) < 0)
		return -1;
	fd_closing(fd);
	entersyscall(); /* the last use of a file may take its time */
	close_file(fd);
	exitsyscall();
	release_number(fd);
	return (int)syscall(SYS_close, fd);
}

void host_file_close(int fd)
{
	struct net_event none;

	syscall(SYS_epoll_ctl, sh_root->poll_fd, EPOLL_CTL_DEL, fd, &none);
	fd_emptied(fd);
	syscall(SYS_close, fd);
}

bool host_file_open(int fd)
{
	return syscall(SYS_fcntl, fd, F_GETFD) >= 0;
}

static bool of_runtime(int fd)
{
	return (unsigned)fd < POLL_FDS && host_file_open(fd) && atomic_load(&poll_owner[fd]) == POLL_RUNTIME;
}

const char *host_seat_fault(unsigned seat)
{
	struct sh_seat *s = &sh_root->seat[seat];

	if (seat == SH_SEAT_MEDIC || atomic_load(&s->state) != SEAT_LIVE)
		return NULL;
	if (!of_runtime(atomic_load(&s->wake_fd)))
		return "cannot be woken: worker";
	for (unsigned i = 0; i < 8; i++)
		if (s->own_fds[i] >= 0 && !of_runtime(s->own_fds[i]))
			return "a descriptor of its loop is closed: worker";
	return NULL;
}
