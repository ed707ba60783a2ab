/*
 * keeper.c - the keeper process, and the supervisor's calls to it. See keeper.h.
 *
 * The process has one thread, allocates only its table, and waits in poll. While it has no supervisor it
 * checks once a second that its socket still exists in the file system. If the socket is gone, no
 * supervisor can ever adopt the runtime: the keeper exits, and the runtime ends. SIGTERM ends a keeper
 * without a supervisor in the same way.
 */
#include "shm/kernel.h"
#include "shm/pass.h"
#include "supervisor/keeper/keeper.h"
#include "supervisor/daemon/main.h"
#include "supervisor/keeper/ledger.h"
#include "core/task/task.h"
#include "shm/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define CALLERS 8
#define LOOK_MS 1000

static pid_t keeper;
static int channel = -1;
static struct sockaddr_un at;

/* ---- messages ---- */

static int transmit(int sock, const struct kmsg *m, const int *fds, int nfds)
{
	ssize_t n;

	do {
		n = sh_pass_send(sock, m, sizeof *m, fds, nfds, 0);
		if (n < 0 && (errno == ETOOMANYREFS || errno == ENOBUFS)) {
			kernel_poll(NULL, 0, 1);
			errno = EINTR;
		}
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

/* Returns 1 for a message, 0 if the other end is closed, or -errno. */
static int receive(int sock, struct kmsg *m, int fds[3], int *nfds)
{
	ssize_t n = sh_pass_receive(sock, m, sizeof *m, fds, 3, nfds, 0);

	return n < 0 ? -errno : n == sizeof *m ? 1 : 0;
}

static int make_address(void)
{
	memset(&at, 0, sizeof at);
	at.sun_family = AF_UNIX;
	return snprintf(at.sun_path, sizeof at.sun_path, "%s%s", sh_options.socket, KEEPER_SUFFIX) <
			       (int)sizeof at.sun_path
		       ? 0
		       : -ENAMETOOLONG;
}

/* ---- the process ---- */

static struct {
	int single[KEEP_SINGLES];
	int module[LEDGER_MODULES][2];
	struct {
		uint64_t id;
		int fd[3];
	} task[TASK_SLOTS];
} * kept;

static void replace(int *place, int fd)
{
	if (*place >= 0)
		kernel_close(*place);
	*place = fd;
}

static void keep(const struct kmsg *m, int *fds, int nfds)
{
	int used = 0;

	if (m->op == KEEP_SINGLE && m->id < KEEP_SINGLES && nfds == 1) {
		replace(&kept->single[m->id], fds[used++]);
	} else if (m->op == KEEP_MODULE && m->id < LEDGER_MODULES) {
		for (unsigned i = 0; i < 2; i++)
			if (m->mask & 1u << i && used < nfds)
				replace(&kept->module[m->id][i], fds[used++]);
	} else if (m->op == KEEP_TASK || m->op == KEEP_DROP) {
		unsigned slot = m->id % TASK_SLOTS;

		for (unsigned i = 0; i < 3; i++)
			if (m->op == KEEP_TASK ? kept->task[slot].id != m->id || m->mask & 1u << i
					       : kept->task[slot].id == m->id && m->mask & 1u << i)
				replace(&kept->task[slot].fd[i],
					m->op == KEEP_TASK && m->mask & 1u << i && used < nfds ? fds[used++] : -1);
		if (m->op == KEEP_TASK)
			kept->task[slot].id = m->id;
	}
	while (used < nfds)
		kernel_close(fds[used++]);
}

static int give_one(int sock, enum keeper_op op, uint64_t id, const int *fds, int n)
{
	struct kmsg m = {.op = op, .id = id};
	int some[3], k = 0;

	for (int i = 0; i < n; i++)
		if (fds[i] >= 0) {
			m.mask |= 1u << i;
			some[k++] = fds[i];
		}
	return k ? transmit(sock, &m, some, k) : 0;
}

static int give_all(int sock)
{
	struct kmsg end = {.op = KEEP_ALL, .id = (uint64_t)getpid()};
	int err = 0;

	for (unsigned i = 0; i < KEEP_SINGLES && !err; i++)
		err = give_one(sock, KEEP_SINGLE, i, &kept->single[i], 1);
	for (unsigned i = 0; i < LEDGER_MODULES && !err; i++)
		err = give_one(sock, KEEP_MODULE, i, kept->module[i], 2);
	for (unsigned i = 0; i < TASK_SLOTS && !err; i++)
		err = give_one(sock, KEEP_TASK, kept->task[i].id, kept->task[i].fd, 3);
	return err ? err : transmit(sock, &end, NULL, 0);
}

static bool findable(const struct stat *ours)
{
	struct stat st;

	return lstat(at.sun_path, &st) == 0 && st.st_ino == ours->st_ino && st.st_dev == ours->st_dev;
}

static bool permitted(int fd)
{
	struct ucred peer;
	socklen_t n = sizeof peer;

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0 && (peer.uid == geteuid() || peer.uid == 0);
}

/* A connection is either a probe or a new supervisor. A new supervisor's becomes the channel, others are closed. */
static void handle_caller(int *caller)
{
	struct kmsg m;
	int fds[3], nfds, got = receive(*caller, &m, fds, &nfds);

	while (nfds > 0)
		kernel_close(fds[--nfds]);
	if (got == 1 && m.op == KEEP_ADOPT && channel < 0 && give_all(*caller) == 0)
		channel = *caller;
	else
		kernel_close(*caller);
	*caller = -1;
}

static void hear_channel(void)
{
	struct kmsg m;
	int fds[3], nfds, got = receive(channel, &m, fds, &nfds);

	if (got == 1) {
		keep(&m, fds, nfds);
	} else {
		kernel_close(channel);
		channel = -1;
	}
}

/* Ends the process, and the runtime with it: the zygote sees that both ends of its socket are closed. */
static _Noreturn void end_runtime(const struct stat *ours)
{
	if (findable(ours))
		kernel_unlink(at.sun_path);
	_exit(0);
}

/* A keeper that has a supervisor ignores the signal: the supervisor would only start another keeper. */
static void on_sigterm(int signals, const struct stat *ours)
{
	struct signalfd_siginfo info;

	if (kernel_read(signals, &info, sizeof info) == sizeof info && channel < 0)
		end_runtime(ours);
}

static _Noreturn void serve(int listener, int signals)
{
	int caller[CALLERS];
	struct stat ours;
	struct pollfd p[3 + CALLERS];

	for (unsigned i = 0; i < CALLERS; i++)
		caller[i] = -1;
	if (lstat(at.sun_path, &ours) < 0)
		_exit(1);
	for (;;) {
		int fd;

		/* Reads all messages of the old supervisor before it answers a new one. */
		p[0] = (struct pollfd){channel, POLLIN, 0};
		p[1] = (struct pollfd){listener, POLLIN, 0};
		p[2] = (struct pollfd){signals, POLLIN, 0};
		for (unsigned i = 0; i < CALLERS; i++)
			p[3 + i] = (struct pollfd){caller[i], POLLIN, 0};
		if (kernel_poll(p, 3 + CALLERS, channel < 0 ? LOOK_MS : -1) < 0)
			continue;
		if (channel < 0 && !findable(&ours))
			_exit(0);
		if (p[0].revents) {
			hear_channel();
			continue;
		}
		if (p[2].revents)
			on_sigterm(signals, &ours);
		for (unsigned i = 0; i < CALLERS; i++)
			if (p[3 + i].revents)
				handle_caller(&caller[i]);
		if (!p[1].revents || (fd = kernel_accept4(listener, NULL, NULL, SOCK_CLOEXEC)) < 0)
			continue;
		for (unsigned i = 0; i < CALLERS && fd >= 0; i++)
			if (caller[i] < 0 && permitted(fd)) {
				caller[i] = fd;
				fd = -1;
			}
		if (fd >= 0)
			kernel_close(fd);
	}
}

static _Noreturn void keeper_main(int sock, int listener)
{
	static const int ignored[] = {SIGINT, SIGHUP, SIGQUIT, SIGPIPE, SIGURG};
	sigset_t blocked;

	prctl(PR_SET_NAME, "shoal-keeper");
	setsid();
	for (unsigned i = 0; i < sizeof ignored / sizeof *ignored; i++)
		signal(ignored[i], SIG_IGN);
	signal(SIGCHLD, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGTERM);
	kernel_sigprocmask(SIG_SETMASK, &blocked, NULL);
	channel = kernel_fcntl(sock, F_DUPFD_CLOEXEC, 64);
	listener = kernel_fcntl(listener, F_DUPFD_CLOEXEC, 64);
	kernel_dup3(channel, 3, O_CLOEXEC);
	kernel_dup3(listener, 4, O_CLOEXEC);
	kernel_close_range(5, ~0u, 0);
	channel = 3;
	/* Do not use malloc: the fork may have happened while its locks were held. */
	kept = kernel_mmap(NULL, sizeof *kept, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (kept == MAP_FAILED)
		_exit(1);
	memset(kept, 0xff, sizeof *kept);
	sh_segment_detach();
	serve(4, kernel_signalfd(-1, &blocked, SFD_CLOEXEC));
}

/* ---- the supervisor's side ---- */

pid_t sh_keeper_pid(void)
{
	return keeper;
}

static int listen_at(void)
{
	int fd = kernel_socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	mode_t mask = kernel_umask(0177);

	kernel_unlink(at.sun_path);
	if (fd >= 0 && (bind(fd, (struct sockaddr *)&at, sizeof at) < 0 || listen(fd, 64) < 0)) {
		int err = errno;

		kernel_close(fd);
		fd = -1;
		errno = err;
	}
	kernel_umask(mask);
	return fd;
}

int sh_keeper_start(void)
{
	int ends[2], listener, err = make_address();

	if (err < 0)
		return err;
	listener = listen_at();
	if (listener < 0)
		return -errno;
	if (kernel_socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) {
		err = -errno;
		kernel_close(listener);
		return err;
	}
	keeper = fork();
	if (keeper == 0)
		keeper_main(ends[1], listener);
	err = keeper < 0 ? -errno : 0;
	kernel_close(ends[1]);
	kernel_close(listener);
	channel = ends[0];
	return err;
}

void sh_keeper_forget(void)
{
	keeper = 0;
	if (channel >= 0)
		kernel_close(channel);
	channel = -1;
}

void sh_keeper_keep(enum keeper_op op, uint64_t id, uint32_t mask, const int *fds)
{
	struct kmsg m = {op, mask, id};

	if (channel >= 0) /* if this fails, the keeper has died, and fleet.c starts another one */
		transmit(channel, &m, fds, fds ? __builtin_popcount(mask) : 0);
}

void sh_keeper_drop(uint64_t id, uint32_t mask)
{
	sh_keeper_keep(KEEP_DROP, id, mask, NULL);
}

void sh_keeper_remove_socket(void)
{
	if (at.sun_path[0])
		kernel_unlink(at.sun_path);
}

int sh_keeper_adopt(keeper_got *got)
{
	struct kmsg m = {.op = KEEP_ADOPT};
	int fds[3], nfds, err = make_address(), sock;
	struct ucred peer;
	socklen_t n = sizeof peer;

	if (err < 0)
		return err;
	sock = kernel_socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (sock < 0)
		return -errno;
	if (kernel_connect(sock, (struct sockaddr *)&at, sizeof at) < 0) {
		kernel_close(sock);
		return 0;
	}
	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &n) < 0 || peer.uid != geteuid()) {
		kernel_close(sock);
		return -EPERM;
	}
	err = transmit(sock, &m, NULL, 0);
	while (!err && (err = receive(sock, &m, fds, &nfds)) == 1 && m.op != KEEP_ALL) {
		err = 0;
		got(&m, fds, nfds);
	}
	if (err != 1) {
		kernel_close(sock);
		return err < 0 ? err : -EPIPE;
	}
	keeper = (pid_t)m.id;
	channel = sock;
	return 1;
}
