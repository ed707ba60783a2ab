/*
 * posix/mqnotify.c - mq_notify: a goroutine waits for the message.
 *
 * The kernel tells of it as it tells libc for SIGEV_THREAD: by 32 bytes on a netlink socket, which is in the
 * descriptor table of all workers. It takes the worker that registers for the owner, and only that one could take a
 * registration back: so one that was taken back stays in the list, and the next one for its queue revives it.
 *
 * OWNER  of an entry: its goroutine, which unlists it. event and active are the task's
 * LOCK   the task's
 * DEATH  of the worker that runs the goroutine: it begins again, at most TRIES times, and finds the message still on
 *        the socket. It may notify twice
 */
#include "worker/posix/own.h"
#include "worker/posix/libc.h"
#include "worker/posix/signal.h"
#include "worker/posix/timer.h"

#include <mqueue.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define COOKIE 32 /* NOTIFY_COOKIE_LEN of linux/mqueue.h; the kernel stores in its last byte why it sends it */
#define ARRIVED 1

#define TRIES 3

struct mq_entry {
	uint64_t number; /* no other entry of the task has it */
	dev_t dev;
	ino_t ino;
	int fd; /* the socket */
	bool active;
	bool over; /* the kernel has dropped the registration: it is for no other */
	struct sigevent event;
	struct mq_entry *next;
};

REAL(int, mq_notify, (mqd_t q, const struct sigevent *e), q, e)

/* Holds: the task's lock. */
static struct mq_entry **find(struct g *g, const struct stat *st)
{
	struct mq_entry **at = (struct mq_entry **)&task_own(g->task)->mq_notices;

	while (*at && ((*at)->over || (*at)->dev != st->st_dev || (*at)->ino != st->st_ino))
		at = &(*at)->next;
	return at;
}

static void notify(struct g *g, const struct sigevent *e)
{
	siginfo_t info = {.si_signo = e->sigev_signo, .si_code = SI_MESGQ};

	if (e->sigev_notify == SIGEV_THREAD) {
		timer_call(e->sigev_notify_function, e->sigev_value);
	} else if (e->sigev_notify == SIGEV_SIGNAL) {
		info.si_pid = getpid();
		info.si_uid = getuid();
		info.si_value = e->sigev_value;
		signal_send_task(g->task, NULL, &info);
	}
}

struct ticket {
	struct mq_entry *e;
	uint64_t number;
};

/* Where the list points to it. Holds: the task's lock. NULL: it is not there. */
static struct mq_entry **find_entry(struct g *g, const struct ticket *t)
{
	struct mq_entry **at = (struct mq_entry **)&task_own(g->task)->mq_notices;

	while (*at && (*at != t->e || (*at)->number != t->number))
		at = &(*at)->next;
	return *at ? at : NULL;
}

/* Reads the message but leaves it on the socket, for another run. */
static void notice_main(void *arg)
{
	const struct ticket *t = arg;
	struct mq_entry *e = t->e, **at;
	struct g *g = getg();
	char cookie[COOKIE];
	bool listed, arrived;

	signals_lock(g->task);
	listed = find_entry(g, t) != NULL;
	signals_unlock(g->task);
	if (!listed)
		return;
	signal_set_mask(g, ~0ull);
	arrived = recv(e->fd, cookie, sizeof cookie, MSG_PEEK) == COOKIE && cookie[COOKIE - 1] == ARRIVED;
	signals_lock(g->task);
	e->over = true;
	KILL_POINT("mq.over");
	arrived &= e->active;
	signals_unlock(g->task);
	if (arrived)
		notify(g, &e->event);
	signals_lock(g->task);
	at = find_entry(g, t);
	*at = e->next;
	KILL_POINT("mq.unlisted");
	signals_unlock(g->task);
	close(e->fd);
	g_free(g, e);
}

/* The kernel's side of it. 0, or -1 and errno. */
static int enlist(mqd_t q, struct mq_entry *e)
{
	char cookie[COOKIE] = {0};
	struct sigevent how = {.sigev_notify = SIGEV_THREAD, .sigev_value.sival_ptr = cookie};
	int err;

	e->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (e->fd < 0)
		return -1;
	how.sigev_signo = e->fd;
	if (syscall(SYS_mq_notify, q, &how) == 0)
		return 0;
	err = errno;
	close(e->fd);
	errno = err;
	return -1;
}

/* 1: there is none yet; else what mq_notify returns. */
static int change(struct g *g, const struct stat *st, const struct sigevent *event)
{
	struct mq_entry *e;
	int r = 1;

	signals_lock(g->task);
	e = *find(g, st);
	if (!event) {
		if (e)
			e->active = false;
		r = 0;
	} else if (e && e->active) {
		errno = EBUSY;
		r = -1;
	} else if (e) {
		e->event = *event;
		e->active = true;
		r = 0;
	}
	signals_unlock(g->task);
	return r;
}

int mq_notify(mqd_t q, const struct sigevent *event)
{
	struct shoal_go_opts o = {.name = "mq_notify", .attempts = TRIES};
	struct ticket t;
	struct g *g = posix_enter();
	struct mq_entry *e;
	struct stat st;
	int r;

	if (!g)
		return real_mq_notify(q, event);
	if (event && event->sigev_notify != SIGEV_NONE && event->sigev_notify != SIGEV_THREAD &&
	    (event->sigev_notify != SIGEV_SIGNAL || event->sigev_signo <= 0 || event->sigev_signo >= _NSIG)) {
		errno = EINVAL;
		return -1;
	}
	if (fstat(q, &st) < 0 || (r = change(g, &st, event)) < 0)
		return -1;
	if (r == 0)
		return 0;
	if (!(e = g_alloc(g, sizeof *e))) {
		errno = ENOMEM;
		return -1;
	}
	*e = (struct mq_entry){
		.number = posix_new_state(), .dev = st.st_dev, .ino = st.st_ino, .active = true, .event = *event};
	if (enlist(q, e) < 0) {
		g_free(g, e);
		return -1;
	}
	signals_lock(g->task);
	e->next = task_own(g->task)->mq_notices;
	task_own(g->task)->mq_notices = e;
	KILL_POINT("mq.listed");
	signals_unlock(g->task);
	t = (struct ticket){e, e->number};
	if (shoal_go_with(&o, notice_main, &t, sizeof t))
		return 0;
	change(g, &st, NULL);
	errno = EAGAIN;
	return -1;
}

void mq_notify_forget(int q)
{
	struct g *g = on_g();
	struct stat st;

	if (g && task_own(g->task)->mq_notices && fstat(q, &st) == 0)
		change(g, &st, NULL);
}
