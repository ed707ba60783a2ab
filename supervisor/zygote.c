/*
 * zygote.c - the zygote's loop: clones, loads, and keeps the descriptors of tasks. See zygote.h.
 *
 * The loop blocks in recvmsg. With CLONE_PARENT the clones are the supervisor's children, with
 * CLONE_FILES they share this process' descriptors: a number that Z_BEGIN returns is good in every
 * worker, and Z_END closes it in all of them.
 */
#include "supervisor/zygote.h"
#include "core/netpoll.h"
#include "shm/check.h"
#include "shm/segment.h"
#include "supervisor/log.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef CLONE_FILES
#include <linux/sched.h>
#endif

int sh_medic_fd = -1;

static int sock;
static int *tid_address; /* where glibc keeps this thread's id: raw clone must set it */
static uint64_t load_gen;
static struct instance **instances;
static uint32_t ninstances;

/*
 * clone without glibc: no atfork handlers, the parent's parent as parent. The thread id goes to
 * both places where the architectures look for its address; the other one is not read.
 */
static pid_t spawn(unsigned long flags)
{
	flags |= 0x00008000 /* CLONE_PARENT */ | 0x01000000 /* CLONE_CHILD_SETTID */ | SIGCHLD;
	return (pid_t)syscall(SYS_clone, flags, 0, 0, tid_address, tid_address);
}

/* A child dies with the supervisor; it may be dead already. */
static void die_with_supervisor(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != sh_root->supervisor)
		_exit(1);
}

static void fail(struct zrep *rep, int code, const char *what)
{
	rep->code = code;
	snprintf(rep->message, sizeof rep->message, "%s: %s", what, strerror(errno));
}

static void do_clone(const struct zreq *req, struct zrep *rep)
{
	unsigned seat = req->seat;

	sh_check(seat < SH_SEATS);
	/* The clone itself cannot know it: another load may come before it runs. */
	sh_root->seat[seat].load_gen = load_gen;
	rep->pid = spawn(0x00000400 /* CLONE_FILES */);
	if (rep->pid == 0) {
		die_with_supervisor();
		if (seat == SH_SEAT_MEDIC)
			medic_main();
		worker_main(seat);
	}
	if (rep->pid < 0)
		fail(rep, 125, "clone");
}

static _Noreturn void trial(const struct zreq *req, int so_fd, int out)
{
	struct ztrial t = {0};
	int code = 0;

	die_with_supervisor();
	sh_instance_load(so_fd, req->name, req->entry[0] ? req->entry : NULL, 1, &code, t.message, sizeof t.message);
	t.code = code;
	_exit(write(out, &t, sizeof t) == sizeof t ? 0 : 1);
}

static void do_trial(const struct zreq *req, struct zrep *rep, const int *fds)
{
	rep->pid = spawn(0);
	if (rep->pid == 0)
		trial(req, fds[0], fds[1]);
	if (rep->pid < 0)
		fail(rep, 125, "clone");
}

static void do_load(const struct zreq *req, struct zrep *rep, const int *fds)
{
	struct instance *in;
	int code = 0;

	sh_check(req->instance < 1u << 20);
	if (req->instance >= ninstances) {
		uint32_t n = req->instance + 64;

		instances = realloc(instances, n * sizeof *instances);
		sh_check(instances);
		memset(instances + ninstances, 0, (n - ninstances) * sizeof *instances);
		ninstances = n;
	}
	in = sh_instance_load(fds[0], req->name, NULL, 0, &code, rep->message, sizeof rep->message);
	rep->code = code;
	if (!in)
		return;
	instances[req->instance] = in;
	sh_instance_ranges(in, &rep->base, &rep->text_start, &rep->text_end);
	rep->load_gen = ++load_gen;
	atomic_store(&sh_root->load_gen, load_gen);
}

static struct instance *instance_of(const struct zreq *req)
{
	sh_check(req->instance < ninstances && instances[req->instance]);
	return instances[req->instance];
}

/* Takes the descriptors over: they stay open under the numbers they have. */
static int do_begin(const struct zreq *req, struct zrep *rep, const int *fds)
{
	struct instance *in = instance_of(req);

	rep->entry = sh_instance_entry(in, req->entry);
	if (!rep->entry) {
		rep->code = 127;
		snprintf(rep->message, sizeof rep->message, "%s has no function '%s'", req->name, req->entry);
		return 0;
	}
	sh_instance_ranges(in, &rep->base, &rep->text_start, &rep->text_end);
	memcpy(rep->fd, fds, sizeof rep->fd);
	for (int i = 0; i < 3; i++)
		atomic_store(&poll_owner[fds[i]], POLL_RUNTIME);
	return 1;
}

static void do_end(const struct zreq *req, struct zrep *rep)
{
	for (int i = 0; i < 3; i++)
		if (req->fd[i] >= ZFD_FIRST_FREE) {
			atomic_store(&poll_owner[req->fd[i]], 0);
			close(req->fd[i]);
		}
	rep->spent = (uint32_t)sh_instance_reset(instance_of(req));
	if (rep->spent)
		instances[req->instance] = NULL;
}

static void serve(const struct zreq *req, struct zrep *rep, int *fds, int nfds)
{
	static const int wanted[] = {[Z_CLONE] = 0, [Z_TRIAL] = 2, [Z_LOAD] = 1, [Z_BEGIN] = 3, [Z_END] = 0, [Z_WAKE] = 0};
	int keep = 0;

	rep->serial = req->serial;
	sh_check(req->op >= Z_CLONE && req->op <= Z_WAKE);
	if (nfds != wanted[req->op]) {
		errno = EMFILE; /* the kernel drops what finds no number */
		fail(rep, 125, "descriptors");
		goto out;
	}
	switch (req->op) {
	case Z_CLONE: do_clone(req, rep); break;
	case Z_TRIAL: do_trial(req, rep, fds); break;
	case Z_LOAD: do_load(req, rep, fds); break;
	case Z_BEGIN: keep = do_begin(req, rep, fds); break;
	case Z_END: do_end(req, rep); break;
	case Z_WAKE:
		sh_check(req->seat < SH_SEATS);
		sh_seat_wake(req->seat);
		break;
	}
out:
	for (int i = 0; i < nfds && !keep; i++)
		close(fds[i]);
}

/* One request and its descriptors. Returns how many came, -1 when the supervisor is gone. */
static int receive(struct zreq *req, int fds[3])
{
	union {
		struct cmsghdr h;
		char room[CMSG_SPACE(3 * sizeof(int))];
	} control;
	struct iovec iov = {req, sizeof *req};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	struct cmsghdr *c;
	ssize_t n;
	int nfds = 0;

	do
		n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return -1;
	sh_check(n == sizeof *req);
	for (c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
			nfds = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
			sh_check(nfds <= 3);
			memcpy(fds, CMSG_DATA(c), (size_t)nfds * sizeof(int));
		}
	return nfds;
}

/*
 * Only what the zygote needs stays open, under numbers that are the same each time: 0 /dev/null,
 * 1 and 2 the log, 3 the eventfd to the supervisor, 4 the socket.
 */
static void keep_descriptors(void)
{
	int medic = fcntl(sh_medic_fd, F_DUPFD_CLOEXEC, 64), s = fcntl(sock, F_DUPFD_CLOEXEC, 64);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	sh_check(medic >= 0 && s >= 0 && null >= 0);
	dup2(null, 0);
	dup2(2, 1);
	sh_check(dup3(medic, ZFD_MEDIC, O_CLOEXEC) >= 0 && dup3(s, ZFD_SUPERVISOR, O_CLOEXEC) >= 0);
	close_range(ZFD_FIRST_FREE, ~0u, 0);
	sh_medic_fd = ZFD_MEDIC;
	sock = ZFD_SUPERVISOR;
	sh_root->poll_fd = epoll_create1(EPOLL_CLOEXEC);
	sh_check(sh_root->poll_fd >= 0);
	for (int fd = 0; fd <= sh_root->poll_fd; fd++)
		atomic_store(&poll_owner[fd], POLL_RUNTIME);
}

_Noreturn void sh_zygote_main(int s)
{
	struct zreq req;
	struct zrep rep;
	struct rlimit core;
	int fds[3], nfds;

	sock = s;
	die_with_supervisor();
	setsid(); /* Ctrl-C on the supervisor's terminal is for the supervisor */
	signal(SIGPIPE, SIG_IGN);
	if (getrlimit(RLIMIT_CORE, &core) == 0) {
		core.rlim_cur = 0; /* a core takes 0.6 s: off unless asked for */
		setrlimit(RLIMIT_CORE, &core);
	}
	keep_descriptors();
	output_start();
	sh_check(prctl(PR_GET_TID_ADDRESS, &tid_address) == 0 && tid_address);
	while ((nfds = receive(&req, fds)) >= 0) {
		memset(&rep, 0, sizeof rep);
		serve(&req, &rep, fds, nfds);
		while (send(sock, &rep, sizeof rep, MSG_NOSIGNAL) < 0)
			if (errno != EINTR)
				_exit(0);
	}
	_exit(0);
}
