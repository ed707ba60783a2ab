/*
 * signal/posix.c CASE - signals as POSIX has them for a process with threads. Each case checks itself and prints "ok".
 * Only pthreads and POSIX, so that it can also be built as a program (-Dshoal_main=main) and compared.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <spawn.h>
#include <time.h>
#include <unistd.h>

#define MUST(x) ((x) ? (void)0 : fail(#x, __LINE__))

int shoal_main(int argc, char **argv);
extern char **environ;

static void fail(const char *what, int line)
{
	int err = errno;

	fprintf(stderr, "posix.c:%d: %s (errno %d: %s)\n", line, what, err, strerror(err));
	exit(1);
}

static volatile sig_atomic_t count, last;

static void handles(int sig)
{
	last = sig;
	__atomic_fetch_add((int *)&count, 1, __ATOMIC_SEQ_CST);
}

static void install(int sig, void (*fn)(int), int flags)
{
	struct sigaction a = {.sa_handler = fn, .sa_flags = flags};

	sigemptyset(&a.sa_mask);
	MUST(sigaction(sig, &a, NULL) == 0);
}

static sigset_t only(int sig)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, sig);
	return set;
}

static void pause_ms(int ms)
{
	struct timespec t = {ms / 1000, ms % 1000 * 1000000};

	while (nanosleep(&t, &t) < 0 && errno == EINTR)
		;
}

/* ---- SIGPIPE ---- */

static int broken_pipe(void)
{
	int p[2];

	MUST(pipe(p) == 0 && close(p[0]) == 0);
	return p[1];
}

static int broken_socket(void)
{
	int s[2];

	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0 && close(s[1]) == 0);
	return s[0];
}

static ssize_t call(int which, int pipe_end, int sock, int file, int full)
{
	struct iovec v = {"x", 1};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
	struct mmsghdr mm = {.msg_hdr = m};
	off_t at = 0;

	switch (which) {
	case 0: return write(pipe_end, "x", 1);
	case 1: return writev(pipe_end, &v, 1);
	case 2: return write(sock, "x", 1);
	case 3: return writev(sock, &v, 1);
	case 4: return send(sock, "x", 1, 0);
	case 5: return sendto(sock, "x", 1, 0, NULL, 0);
	case 6: return sendmsg(sock, &m, 0);
	case 7: return sendmmsg(sock, &mm, 1, 0);
	case 8: return sendfile(sock, file, &at, 1);
	case 9: return sendfile(pipe_end, file, &at, 1);
	case 10: return splice(full, NULL, sock, NULL, 1, 0);
	case 11: return tee(full, pipe_end, 1, 0);
	case 12: return vmsplice(pipe_end, &v, 1, 0);
	case 13: return dprintf(pipe_end, "x");
	case 14: return splice(file, &at, pipe_end, NULL, 1, 0);
	case 15: return pwritev2(pipe_end, &v, 1, -1, 0);
	default: return 0;
	}
}

static void pipe_case(void)
{
	int pipe_end = broken_pipe(), sock = broken_socket(), file = open("/proc/self/exe", O_RDONLY), full[2], before;
	sigset_t set = only(SIGPIPE);
	siginfo_t info;
	FILE *f;

	MUST(file >= 0 && pipe(full) == 0 && write(full[1], "abc", 3) == 3);
	install(SIGPIPE, handles, 0);
	for (int i = 0; i < 16; i++) {
		before = count;
		errno = 0;
		if (call(i, pipe_end, sock, file, full[0]) != -1 || errno != EPIPE || count != before + 1) {
			fprintf(stderr, "call %d: %d handled, errno %d\n", i, count - before, errno);
			exit(1);
		}
	}
	MUST((f = fdopen(dup(pipe_end), "w")) && fputs("text", f) >= 0);
	before = count;
	MUST(fflush(f) == EOF && errno == EPIPE && count == before + 1);
	before = count;
	MUST(send(sock, "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE && count == before);
	sigprocmask(SIG_BLOCK, &set, NULL);
	MUST(write(pipe_end, "x", 1) == -1 && errno == EPIPE && count == before);
	MUST(sigpending(&set) == 0 && sigismember(&set, SIGPIPE) && !sigismember(&set, SIGINT));
	MUST(sigwaitinfo(&set, &info) == SIGPIPE && info.si_pid == getpid());
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	MUST(write(sock, "x", 1) == -1 && errno == EPIPE && count == before);
}

static void pipe_default_case(void)
{
	ssize_t r = write(broken_pipe(), "x", 1);

	printf("still here: %zd\n", r);
}

/* ---- masks of handlers ---- */

static volatile sig_atomic_t depth, deepest, order[8], norder, rounds;

static void nests(int sig)
{
	if (++depth > deepest)
		deepest = depth;
	order[norder++ % 8] = sig;
	if (norder < rounds)
		raise(SIGUSR1);
	if (norder == 1)
		raise(SIGUSR2);
	order[norder++ % 8] = -sig;
	depth--;
}

static void mask_case(void)
{
	struct sigaction a = {.sa_handler = nests};
	sigset_t now;

	sigemptyset(&a.sa_mask);
	sigaddset(&a.sa_mask, SIGUSR2);
	sigaction(SIGUSR1, &a, NULL);
	sigemptyset(&a.sa_mask);
	a.sa_handler = handles;
	sigaction(SIGUSR2, &a, NULL);
	rounds = 2;
	raise(SIGUSR1); /* twice in a row, never one in the other; SIGUSR2 after the first of them */
	MUST(deepest == 1 && norder == 4 && order[0] == SIGUSR1 && order[1] == -SIGUSR1 && order[2] == SIGUSR1);
	MUST(count == 1 && sigprocmask(SIG_BLOCK, NULL, &now) == 0 && !sigismember(&now, SIGUSR1));
	norder = deepest = 0;
	rounds = 4;
	install(SIGUSR1, nests, SA_NODEFER);
	raise(SIGUSR1);
	MUST(deepest == 4 && depth == 0);
	install(SIGUSR1, handles, (int)SA_RESETHAND);
	count = 0;
	raise(SIGUSR1);
	MUST(count == 1 && sigaction(SIGUSR1, NULL, &a) == 0 && a.sa_handler == SIG_DFL);
}

static char *alt;
static size_t alt_size = 65536;
static volatile sig_atomic_t on_alt;
static stack_t seen;

static void looks(int sig)
{
	char here;

	(void)sig;
	on_alt = &here >= alt && &here < alt + alt_size;
	sigaltstack(NULL, &seen);
}

static sigjmp_buf back;

static void jumps(int sig)
{
	siglongjmp(back, sig);
}

static void stack_case(void)
{
	stack_t s = {.ss_sp = alt = malloc(alt_size), .ss_size = alt_size};
	sigset_t now;

	MUST(alt && sigaltstack(&s, NULL) == 0);
	install(SIGUSR1, looks, SA_ONSTACK);
	raise(SIGUSR1);
	MUST(on_alt && (seen.ss_flags & SS_ONSTACK) && seen.ss_sp == alt);
	install(SIGUSR1, looks, 0);
	raise(SIGUSR1);
	MUST(!on_alt && !(seen.ss_flags & SS_ONSTACK));
	install(SIGUSR2, jumps, SA_ONSTACK);
	for (volatile int i = 0; i < 3; i++) {
		if (sigsetjmp(back, 1) == 0)
			raise(SIGUSR2);
		MUST(sigprocmask(SIG_BLOCK, NULL, &now) == 0 && !sigismember(&now, SIGUSR2));
		MUST(sigaltstack(NULL, &seen) == 0 && !(seen.ss_flags & SS_ONSTACK));
	}
	s.ss_flags = SS_DISABLE;
	MUST(sigaltstack(&s, NULL) == 0 && sigaltstack(NULL, &seen) == 0 && seen.ss_flags == SS_DISABLE);
}

/* ---- queues and waits ---- */

static int got[32], ngot;

static void notes(int sig, siginfo_t *si, void *uc)
{
	(void)uc;
	got[ngot++ % 32] = (sig - SIGRTMIN) * 100 + si->si_value.sival_int;
	MUST(si->si_code == SI_QUEUE && si->si_pid == getpid() && si->si_uid == getuid());
}

static void queue_case(void)
{
	struct sigaction a = {.sa_sigaction = notes, .sa_flags = SA_SIGINFO};
	sigset_t set = only(SIGRTMIN);
	siginfo_t si;
	int sig;

	sigfillset(&a.sa_mask);
	sigaddset(&set, SIGRTMIN + 1);
	sigaddset(&set, SIGUSR1);
	sigaction(SIGRTMIN, &a, NULL);
	sigaction(SIGRTMIN + 1, &a, NULL);
	sigprocmask(SIG_BLOCK, &set, NULL);
	for (int i = 0; i < 5; i++) {
		sigqueue(getpid(), SIGRTMIN + 1, (union sigval){i});
		sigqueue(getpid(), SIGRTMIN, (union sigval){i});
	}
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	MUST(ngot == 10);
	for (int i = 0; i < 10; i++)
		MUST(got[i] == i / 5 * 100 + i % 5); /* the lowest number first, each in the order of sending */
	sigprocmask(SIG_BLOCK, &set, NULL);
	kill(getpid(), SIGUSR1);
	kill(getpid(), SIGUSR1); /* no queue below SIGRTMIN */
	sigqueue(getpid(), SIGRTMIN, (union sigval){7});
	MUST(sigwait(&set, &sig) == 0 && sig == SIGUSR1);
	MUST(sigtimedwait(&set, &si, &(struct timespec){1, 0}) == SIGRTMIN && si.si_value.sival_int == 7);
	MUST(sigtimedwait(&set, &si, &(struct timespec){0, 1000000}) == -1 && errno == EAGAIN);
	MUST(sigtimedwait(&set, &si, &(struct timespec){0, 0}) == -1 && errno == EAGAIN);
}

/* ---- SA_RESTART and EINTR ---- */

struct wait {
	const char *name;
	ssize_t (*call)(void); /* returns -1 and errno, or not */
	void (*satisfy)(void);
	int restarts; /* with SA_RESTART */
};

static int in[2], listener, locked_fd, other_fd, epoll_fd, sem_id, msg_id;
static struct sockaddr_un address;
static sem_t semaphore;
static pid_t child;
static struct flock whole = {.l_type = F_WRLCK};

static ssize_t reads(void)
{
	char c;

	return read(in[0], &c, 1);
}

static ssize_t accepts(void)
{
	int fd = accept(listener, NULL, NULL);

	return fd < 0 ? -1 : close(fd);
}

static ssize_t receives(void)
{
	char c;

	return recv(in[0], &c, 1, 0);
}

static ssize_t locks(void)
{
	return flock(locked_fd, LOCK_EX);
}

static ssize_t locks_record(void)
{
	return fcntl(locked_fd, F_OFD_SETLKW, &whole);
}

static ssize_t waits_semaphore(void)
{
	return sem_wait(&semaphore);
}

static ssize_t waits_semaphore_timed(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_sec += 30;
	return sem_timedwait(&semaphore, &t);
}

static ssize_t polls(void)
{
	return poll(&(struct pollfd){.fd = in[0], .events = POLLIN}, 1, 30000);
}

static ssize_t selects(void)
{
	fd_set set;

	FD_ZERO(&set);
	FD_SET(in[0], &set);
	return select(in[0] + 1, &set, NULL, NULL, &(struct timeval){30, 0});
}

static ssize_t waits_epoll(void)
{
	struct epoll_event e;

	return epoll_wait(epoll_fd, &e, 1, 30000);
}

static ssize_t sleeps(void)
{
	struct timespec left;
	int r = nanosleep(&(struct timespec){30, 0}, &left);

	MUST(r == 0 || (left.tv_sec > 0 && left.tv_sec < 30));
	return r;
}

static ssize_t sleeps_clock(void)
{
	int r = clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){30, 0}, NULL);

	errno = r ? r : errno;
	return r ? -1 : 0;
}

static ssize_t waits_child(void)
{
	int st;

	return waitpid(child, &st, 0);
}

static ssize_t waits_semop(void)
{
	struct sembuf op = {.sem_op = -1};

	return semop(sem_id, &op, 1);
}

static ssize_t receives_message(void)
{
	struct {
		long type;
		char text[8];
	} m;

	return msgrcv(msg_id, &m, sizeof m.text, 0, 0);
}

static ssize_t pauses(void)
{
	return pause();
}

static ssize_t waits_signal(void)
{
	sigset_t set = only(SIGUSR2);

	return sigtimedwait(&set, NULL, &(struct timespec){30, 0});
}

static void put_byte(void)
{
	MUST(write(in[1], "x", 1) == 1);
}

static void connects(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	MUST(connect(fd, (struct sockaddr *)&address, sizeof(sa_family_t) + 6) == 0 && close(fd) == 0);
}

static void unlocks(void)
{
	MUST(flock(other_fd, LOCK_UN) == 0);
}

static void unlocks_record(void)
{
	struct flock l = {.l_type = F_UNLCK};

	MUST(fcntl(other_fd, F_OFD_SETLK, &l) == 0);
}

static void posts(void)
{
	sem_post(&semaphore);
}

static void ends_child(void)
{
	kill(child, SIGTERM);
}

static const struct wait waits[] = {
	{"read", reads, put_byte, 1},
	{"recv", receives, put_byte, 1},
	{"accept", accepts, connects, 1},
	{"flock", locks, unlocks, 1},
	{"fcntl", locks_record, unlocks_record, 1},
	{"sem_wait", waits_semaphore, posts, 1},
	{"sem_timedwait", waits_semaphore_timed, NULL, 0},
	{"waitpid", waits_child, ends_child, 1},
	{"poll", polls, NULL, 0},
	{"select", selects, NULL, 0},
	{"epoll_wait", waits_epoll, NULL, 0},
	{"nanosleep", sleeps, NULL, 0},
	{"clock_nanosleep", sleeps_clock, NULL, 0},
	{"semop", waits_semop, NULL, 0},
	{"msgrcv", receives_message, NULL, 0},
	{"pause", pauses, NULL, 0},
	{"sigtimedwait", waits_signal, NULL, 0},
};
#define WAITS (sizeof waits / sizeof *waits)

static struct wait now;
static ssize_t result;
static int error;
static volatile int over;

static void *blocks(void *unused)
{
	(void)unused;
	result = now.call();
	error = errno;
	__atomic_store_n(&over, 1, __ATOMIC_SEQ_CST);
	return NULL;
}

static void lock_others(int on)
{
	whole.l_type = F_WRLCK;
	if (now.call == locks)
		MUST(flock(other_fd, on ? LOCK_EX : LOCK_UN) == 0 && (on || flock(locked_fd, LOCK_UN) == 0));
	if (now.call == locks_record) {
		struct flock l = {.l_type = on ? F_WRLCK : F_UNLCK};

		MUST((on || fcntl(locked_fd, F_OFD_SETLK, &l) == 0) && fcntl(other_fd, F_OFD_SETLK, &l) == 0);
	}
}

/* A thread is in the call while it gets signals. */
static void interrupt(int flags)
{
	int restarts = (flags & SA_RESTART) && now.restarts;
	pthread_t t;

	over = count = 0;
	lock_others(1);
	install(SIGUSR1, handles, flags);
	MUST(pthread_create(&t, NULL, blocks, NULL) == 0);
	for (int i = 0; i < 20000 && !__atomic_load_n(&over, __ATOMIC_SEQ_CST); i++) {
		if (restarts && count >= 5)
			break;
		pause_ms(1);
		pthread_kill(t, SIGUSR1);
	}
	if (restarts) {
		if (over)
			fprintf(stderr, "%s ended with %zd, errno %d\n", now.name, result, error), exit(1);
		now.satisfy();
	}
	MUST(pthread_join(t, NULL) == 0);
	if (restarts ? result < 0 : result != -1 || error != EINTR || count < 1) {
		fprintf(stderr, "%s, flags %x: returned %zd, errno %d, %d handled\n", now.name, (unsigned)flags, result,
			error, count);
		exit(1);
	}
	lock_others(0);
}

static void prepare(void)
{
	char path[] = "/tmp/shoal-signal-XXXXXX", copy[64];
	char *const argv[] = {"sleep", "100", NULL};
	struct epoll_event e = {.events = EPOLLIN};

	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, in) == 0);
	listener = socket(AF_UNIX, SOCK_STREAM, 0);
	address.sun_family = AF_UNIX;
	snprintf(address.sun_path + 1, 12, "%05d", (int)getpid() % 100000);
	MUST(bind(listener, (struct sockaddr *)&address, sizeof(sa_family_t) + 6) == 0 && listen(listener, 5) == 0);
	MUST((locked_fd = mkstemp(path)) >= 0);
	snprintf(copy, sizeof copy, "/proc/self/fd/%d", locked_fd);
	MUST((other_fd = open(copy, O_RDWR)) >= 0 && unlink(path) == 0);
	epoll_fd = epoll_create1(0);
	MUST(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, in[0], &e) == 0 && sem_init(&semaphore, 0, 0) == 0);
	MUST((sem_id = semget(IPC_PRIVATE, 1, 0600)) >= 0 && (msg_id = msgget(IPC_PRIVATE, 0600)) >= 0);
	MUST(posix_spawnp(&child, "sleep", NULL, NULL, argv, environ) == 0);
}

static void restart_case(void)
{
	prepare();
	for (unsigned i = 0; i < WAITS; i++) {
		now = waits[i];
		interrupt(0);
		interrupt(SA_RESTART);
	}
	semctl(sem_id, 0, IPC_RMID);
	msgctl(msg_id, IPC_RMID, NULL);
}

static void alarm_case(void)
{
	char c;
	int p[2];

	MUST(pipe(p) == 0);
	install(SIGALRM, handles, 0);
	alarm(1);
	MUST(read(p[0], &c, 1) == -1 && errno == EINTR && count == 1);
}

/* ---- threads ---- */

static pthread_t receiver;
static volatile pthread_t handled_by;
static sem_t ready;

static void says_who(int sig)
{
	(void)sig;
	handled_by = pthread_self();
	__atomic_fetch_add((int *)&count, 1, __ATOMIC_SEQ_CST);
}

static void *sleeps_until_told(void *arg)
{
	sigset_t set = only(SIGUSR2);

	if (arg)
		pthread_sigmask(SIG_BLOCK, &set, NULL);
	sem_post(&ready);
	while (!over)
		pause_ms(1);
	return NULL;
}

static void until(int n)
{
	for (int i = 0; i < 20000 && count < n; i++)
		pause_ms(1);
	MUST(count == n);
}

static void thread_case(void)
{
	sigset_t set = only(SIGUSR2);
	pthread_t blocked;

	install(SIGUSR1, says_who, SA_RESTART);
	install(SIGUSR2, says_who, SA_RESTART);
	sem_init(&ready, 0, 0);
	pthread_create(&receiver, NULL, sleeps_until_told, NULL);
	pthread_create(&blocked, NULL, sleeps_until_told, "blocks SIGUSR2");
	sem_wait(&ready);
	sem_wait(&ready);
	MUST(pthread_kill(receiver, SIGUSR1) == 0);
	until(1);
	MUST(pthread_equal(handled_by, receiver));
	MUST(pthread_sigqueue(blocked, SIGUSR1, (union sigval){3}) == 0);
	until(2);
	MUST(pthread_equal(handled_by, blocked));
	pthread_kill(blocked, SIGUSR2); /* pending for that thread alone */
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	pause_ms(20);
	MUST(count == 2);
	kill(getpid(), SIGUSR2); /* only the receiver does not block it */
	until(3);
	MUST(pthread_equal(handled_by, receiver));
	MUST(pthread_kill(receiver, 0) == 0 && pthread_kill(receiver, 1000) == EINVAL);
	over = 1;
	pthread_join(receiver, NULL);
	pthread_join(blocked, NULL);
}

/* ---- SIGCHLD, historical names ---- */

static volatile sig_atomic_t child_pid, child_code, child_status;

static void on_child(int sig, siginfo_t *si, void *uc)
{
	(void)sig;
	(void)uc;
	child_pid = si->si_pid;
	child_code = si->si_code;
	child_status = si->si_status;
	__atomic_fetch_add((int *)&count, 1, __ATOMIC_SEQ_CST);
}

static void child_case(void)
{
	struct sigaction a = {.sa_sigaction = on_child, .sa_flags = SA_SIGINFO | SA_RESTART};
	char *const argv[] = {"sh", "-c", "exit 7", NULL}, *const killed[] = {"sh", "-c", "kill -9 $$", NULL};
	pid_t pid;
	int st;

	sigaction(SIGCHLD, &a, NULL);
	MUST(posix_spawnp(&pid, "sh", NULL, NULL, argv, environ) == 0);
	until(1);
	MUST(child_pid == pid && child_code == CLD_EXITED && child_status == 7);
	MUST(waitpid(pid, &st, 0) == pid && WEXITSTATUS(st) == 7);
	MUST(posix_spawnp(&pid, "sh", NULL, NULL, killed, environ) == 0);
	until(2);
	MUST(child_pid == pid && child_code == CLD_KILLED && child_status == 9 && waitpid(pid, &st, 0) == pid);
}

/* Programs send a signal to whatever getpid() said; the first of each round has ended before it may arrive. */
static void program_case(void)
{
	char command[100];

	install(SIGUSR1, handles, SA_RESTART);
	for (int i = 0; i < 20; i++) {
		snprintf(command, sizeof command, "kill -USR1 %d", (int)getpid());
		usleep(1000);
		MUST(system(command) == 0);
		until(2 * i + 1);
		snprintf(command, sizeof command, "(sh -c 'kill -USR1 %d; exit 3'); exit $?", (int)getpid());
		MUST(WEXITSTATUS(system(command)) == 3);
		until(2 * i + 2);
	}
}

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
static void old_case(void)
{
	struct sigaction a;
	sigset_t set;

	MUST(sysv_signal(SIGUSR1, handles) == SIG_DFL && raise(SIGUSR1) == 0 && count == 1);
	MUST(sigaction(SIGUSR1, NULL, &a) == 0 && a.sa_handler == SIG_DFL);
	MUST(signal(SIGUSR1, handles) == SIG_DFL && sighold(SIGUSR1) == 0 && raise(SIGUSR1) == 0 && count == 1);
	MUST(sigpending(&set) == 0 && sigismember(&set, SIGUSR1) && sigrelse(SIGUSR1) == 0 && count == 2);
	MUST(sigset(SIGUSR1, SIG_HOLD) == handles && raise(SIGUSR1) == 0 && count == 2);
	MUST(sigset(SIGUSR1, handles) == SIG_HOLD && count == 3);
	MUST(sigignore(SIGUSR1) == 0 && raise(SIGUSR1) == 0 && count == 3);
	MUST(signal(SIGUSR1, handles) == SIG_IGN && siginterrupt(SIGUSR1, 1) == 0);
	MUST(sigaction(SIGUSR1, NULL, &a) == 0 && !(a.sa_flags & SA_RESTART) && siginterrupt(SIGUSR1, 0) == 0);
	MUST(sigaction(SIGUSR1, NULL, &a) == 0 && (a.sa_flags & SA_RESTART));
	MUST(sighold(SIGUSR1) == 0 && raise(SIGUSR1) == 0 && sigpause(SIGUSR1) == -1 && errno == EINTR && count == 4);
}

static const struct {
	const char *name;
	void (*run)(void);
} cases[] = {
	{"pipe", pipe_case},   {"pipe-default", pipe_default_case}, {"mask", mask_case},      {"stack", stack_case},
	{"queue", queue_case}, {"restart", restart_case},	    {"alarm", alarm_case},    {"thread", thread_case},
	{"child", child_case}, {"program", program_case},	    {"historical", old_case},
};

int shoal_main(int argc, char **argv)
{
	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++)
		if (argc > 1 && strcmp(argv[1], cases[i].name) == 0) {
			cases[i].run();
			return puts("ok") < 0;
		}
	return 2;
}
