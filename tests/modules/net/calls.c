/*
 * net/calls.c CASE - the calls of POSIX that are seldom heard of: those that wait in the kernel park or give
 * the P away, those that would copy, replace or end a worker do not.
 */
#define _GNU_SOURCE
#include "tests/modules/net/net.h"

#include <err.h>
#include <error.h>
#include <fcntl.h>
#include <iconv.h>
#include <mqueue.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static struct shoal_wg wg;
static _Atomic int got, times;
static int fd[2], id;

static void handles(int sig)
{
	got = sig;
	times++;
}

/* ---- signals that are waited for ---- */

static void waits_info(void *arg)
{
	siginfo_t si;
	sigset_t set;

	(void)arg;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	MUST(sigwaitinfo(&set, &si) == SIGUSR2 && si.si_code == SI_QUEUE && si.si_value.sival_int == 42);
	got = 42;
}

static void waits_none(void *arg)
{
	sigset_t set;
	int sig = 0;

	(void)arg;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	MUST(sigwait(&set, &sig) == ECANCELED);
}

static void sigwait_case(void)
{
	int64_t t0 = shoal_now();
	sigset_t set;
	int sig = 0;
	shoal_gid g;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	MUST(sigtimedwait(&set, NULL, &(struct timespec){0, 20 * MS}) < 0 && errno == EAGAIN &&
	     shoal_now() - t0 >= 20 * MS);
	MUST(sigtimedwait(&set, NULL, &(struct timespec){0, 0}) < 0 && errno == EAGAIN);
	MUST(sigprocmask(SIG_BLOCK, &set, NULL) == 0 && kill(getpid(), SIGUSR1) == 0);
	MUST(sigwait(&set, &sig) == 0 && sig == SIGUSR1 && sigpending(&set) == 0 && !sigismember(&set, SIGUSR1));
	shoal_wg_go(&wg, waits_info, NULL, 0);
	shoal_sleep(5 * MS);
	MUST(sigqueue(getpid(), SIGUSR2, (union sigval){42}) == 0 && shoal_wg_wait(&wg) == 0 && got == 42);
	signal(SIGUSR2, handles);
	MUST(killpg(0, SIGUSR2) == 0 && got == SIGUSR2 && killpg(getpgrp(), SIGUSR2) == 0 && kill(0, SIGUSR2) == 0 &&
	     times == 3);
	g = shoal_wg_go(&wg, waits_none, NULL, 0);
	shoal_sleep(5 * MS);
	MUST(shoal_cancel(g) == 0 && shoal_wg_wait(&wg) == 0);
	MUST(signalfd(-1, &set, 0) < 0 && errno == ENOTSUP);
	MUST(sigaltstack(&(stack_t){.ss_flags = SS_DISABLE}, NULL) == 0);
}

/* ---- timers ---- */

static void in_function(union sigval v)
{
	got = v.sival_int;
	times++;
	shoal_yield();
}

static void timer_case(void)
{
	struct sigevent function = {.sigev_notify = SIGEV_THREAD,
				    .sigev_notify_function = in_function,
				    .sigev_value.sival_int = 7},
			sig = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1},
			none = {.sigev_notify = SIGEV_NONE};
	struct itimerspec every = {{0, 2 * MS}, {0, 2 * MS}}, now, soon = {{0, 0}, {100, 0}};
	struct itimerval left;
	struct timespec t;
	timer_t a, b, c;

	MUST(timer_create(CLOCK_MONOTONIC, &function, &a) == 0 && timer_settime(a, 0, &every, NULL) == 0);
	while (times < 5)
		shoal_sleep(MS);
	MUST(got == 7 && timer_gettime(a, &now) == 0 && now.it_interval.tv_nsec == 2 * MS && now.it_value.tv_nsec > 0);
	MUST(timer_delete(a) == 0);
	shoal_sleep(5 * MS);
	times = 0;
	signal(SIGUSR1, handles);
	MUST(timer_create(CLOCK_REALTIME, &sig, &b) == 0);
	clock_gettime(CLOCK_REALTIME, &t);
	soon.it_value = t;
	soon.it_value.tv_nsec += 3 * MS;
	soon.it_value.tv_sec += soon.it_value.tv_nsec / 1000000000;
	soon.it_value.tv_nsec %= 1000000000;
	MUST(timer_settime(b, TIMER_ABSTIME, &soon, NULL) == 0 && pause() < 0 && errno == EINTR && got == SIGUSR1 &&
	     times == 1);
	MUST(timer_create(CLOCK_MONOTONIC, &none, &c) == 0 &&
	     timer_settime(c, 0, &(struct itimerspec){{0, 0}, {100, 0}}, NULL) == 0);
	MUST(timer_gettime(c, &now) == 0 && now.it_value.tv_sec == 99 && timer_delete(c) == 0 && timer_delete(b) == 0);
	MUST(timer_create(CLOCK_PROCESS_CPUTIME_ID, &none, &c) == 0 && timer_delete(c) == 0);
	MUST(ualarm(500000, 0) == 0 && getitimer(ITIMER_REAL, &left) == 0 && left.it_value.tv_usec > 400000 &&
	     alarm(0) == 1);
}

/* ---- calls that wait in the kernel: the P runs other goroutines ---- */

struct message {
	long type;
	char text[8];
};

static void receives(void *arg)
{
	struct message m;

	(void)arg;
	MUST(msgrcv(id, &m, sizeof m.text, 0, 0) == 6 && !strcmp(m.text, "hello"));
}

static void takes(void *arg)
{
	struct sembuf take = {0, -1, 0};

	(void)arg;
	MUST(semop(id, &take, 1) == 0);
}

static void is_cancelled(void *arg)
{
	struct sembuf take = {0, -1, 0};

	(void)arg;
	MUST(semop(id, &take, 1) < 0 && errno == ECANCELED);
}

static void sysv_case(void)
{
	struct message m = {1, "hello"};
	struct sembuf give = {0, 1, 0}, take = {0, -1, 0};
	int64_t t0;
	shoal_gid g;

	MUST((id = msgget(IPC_PRIVATE, 0600)) >= 0);
	shoal_wg_go(&wg, receives, NULL, 0);
	shoal_sleep(10 * MS);
	MUST(msgsnd(id, &m, 6, 0) == 0 && shoal_wg_wait(&wg) == 0 && msgctl(id, IPC_RMID, NULL) == 0);
	MUST((id = semget(IPC_PRIVATE, 1, 0600)) >= 0);
	t0 = shoal_now();
	MUST(semtimedop(id, &take, 1, &(struct timespec){0, 20 * MS}) < 0 && errno == EAGAIN &&
	     shoal_now() - t0 >= 20 * MS);
	shoal_wg_go(&wg, takes, NULL, 0);
	shoal_sleep(10 * MS);
	MUST(semop(id, &give, 1) == 0 && shoal_wg_wait(&wg) == 0);
	g = shoal_wg_go(&wg, is_cancelled, NULL, 0);
	shoal_sleep(10 * MS);
	MUST(shoal_cancel(g) == 0 && shoal_wg_wait(&wg) == 0 && semctl(id, 0, IPC_RMID) == 0);
}

static void mq_case(void)
{
	struct mq_attr attr = {.mq_maxmsg = 2, .mq_msgsize = 16};
	char name[64], b[16];
	struct timespec t;
	unsigned prio;
	mqd_t q;

	snprintf(name, sizeof name, "/shoal-net-%lu", (unsigned long)shoal_self());
	q = mq_open(name, O_CREAT | O_RDWR, 0600, &attr);
	if (q < 0 && (errno == ENOSYS || errno == EACCES))
		return; /* there are none here */
	MUST(q >= 3 && mq_unlink(name) == 0 && mq_send(q, "x", 1, 3) == 0 && mq_receive(q, b, sizeof b, &prio) == 1 &&
	     prio == 3);
	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_sec += (t.tv_nsec + 20 * MS) / 1000000000;
	t.tv_nsec = (t.tv_nsec + 20 * MS) % 1000000000;
	MUST(mq_timedreceive(q, b, sizeof b, NULL, &t) < 0 && errno == ETIMEDOUT &&
	     mq_notify(q, &(struct sigevent){.sigev_notify = SIGEV_NONE}) == 0 && mq_notify(q, NULL) == 0);
	MUST(mq_close(q) == 0 && mq_send(q, "x", 1, 0) < 0 && errno == EBADF);
}

static void adds(void *arg)
{
	(void)arg;
	shoal_sleep(10 * MS);
	MUST(eventfd_write(fd[0], 5) == 0);
}

static void locks_it(void *arg)
{
	int f = open(arg, O_RDWR);
	struct flock l = {.l_type = F_WRLCK};

	MUST(f >= 3 && fcntl(f, F_OFD_SETLK, &l) == 0);
	times++;
	shoal_sleep(20 * MS);
	times++;
	close(f);
}

static void files_case(void)
{
	char path[] = "/tmp/shoal-net-calls.XXXXXX", b[8] = "";
	struct iovec v = {"abc", 3}, w = {b, 8};
	struct flock l = {.l_type = F_WRLCK};
	struct epoll_event e = {.events = EPOLLIN};
	eventfd_t n = 0;
	int p[2], q[2], f = mkstemp(path), ep = epoll_create1(0), master, slave;

	MUST((fd[0] = eventfd(0, 0)) >= 3 && epoll_ctl(ep, EPOLL_CTL_ADD, fd[0], &e) == 0);
	MUST(epoll_pwait2(ep, &e, 1, &(struct timespec){0, MS}, NULL) == 0);
	shoal_wg_go(&wg, adds, NULL, 0);
	MUST(epoll_pwait2(ep, &e, 1, NULL, NULL) == 1 && eventfd_read(fd[0], &n) == 0 && n == 5 &&
	     shoal_wg_wait(&wg) == 0);
	MUST(pwritev2(f, &v, 1, 0, RWF_DSYNC) == 3 && preadv2(f, &w, 1, 0, 0) == 3 && !strcmp(b, "abc") &&
	     sync_file_range(f, 0, 3, 2) == 0);
	MUST(pipe(p) == 0 && pipe(q) == 0 && vmsplice(p[1], &v, 1, 0) == 3 && tee(p[0], q[1], 3, 0) == 3 &&
	     read(q[0], b, 8) == 3);
	MUST(preadv2(p[0], &w, 1, -1, 0) == 3 && preadv2(p[0], &w, 1, -1, RWF_NOWAIT) < 0);
	MUST(lockf(f, F_LOCK, 0) == 0 && lockf(f, F_TEST, 0) == 0 && lockf(f, F_ULOCK, 0) == 0);
	shoal_wg_go(&wg, locks_it, path, sizeof path);
	while (!times)
		shoal_yield();
	MUST(lockf(f, F_TLOCK, 0) < 0 && (errno == EAGAIN || errno == EACCES) && lockf(f, F_LOCK, 0) == 0 &&
	     times == 2);
	MUST(fcntl(f, F_OFD_GETLK, &l) == 0 && shoal_wg_wait(&wg) == 0);
	MUST(close_range(3, ~0u, CLOSE_RANGE_UNSHARE) < 0 && errno == EINVAL &&
	     close_range(p[0], p[0], CLOSE_RANGE_CLOEXEC) == 0);
	MUST(fcntl(p[0], F_GETFD) == FD_CLOEXEC && unlink(path) == 0);
	if (openpty(&master, &slave, NULL, NULL, NULL) == 0) {
		struct termios t;

		MUST(tcgetattr(slave, &t) == 0 && tcsetattr(slave, TCSADRAIN, &t) == 0 && tcdrain(master) == 0);
		MUST(write(master, "line\n", 5) == 5 && read(slave, b, 8) == 5);
	}
}

/* ---- programs ---- */

static void programs_case(void)
{
	char *argv[] = {"sh", "-c", "exit 3", NULL};
	siginfo_t si;
	pid_t pid;

	MUST(posix_spawn(&pid, "/bin/sh", NULL, NULL, argv, environ) == 0);
	MUST(waitid(P_PID, (id_t)pid, &si, WEXITED | WNOWAIT) == 0 && si.si_pid == pid && si.si_status == 3 &&
	     si.si_code == CLD_EXITED);
	MUST(waitid(P_ALL, 0, &si, WEXITED) == 0 && si.si_pid == pid && waitid(P_ALL, 0, &si, WEXITED) < 0 &&
	     errno == ECHILD);
	argv[2] = "kill -9 $$";
	MUST(posix_spawn(&pid, "/bin/sh", NULL, NULL, argv, environ) == 0);
	MUST(waitid(P_PID, (id_t)pid, &si, WEXITED) == 0 && si.si_code == CLD_KILLED && si.si_status == SIGKILL);
	MUST(fork() < 0 && errno == ENOTSUP && vfork() < 0 && errno == ENOTSUP && daemon(0, 0) < 0 && errno == ENOTSUP);
	MUST(execl("/bin/true", "true", NULL) < 0 && errno == ENOTSUP && execvp("true", argv) < 0 && errno == ENOTSUP);
	MUST(execle("/bin/true", "true", NULL, environ) < 0 && unshare(CLONE_FILES) < 0 && errno == EPERM);
}

static void limits_case(void)
{
	struct rlimit l, had;

	MUST(getrlimit(RLIMIT_NOFILE, &had) == 0 && setrlimit(RLIMIT_NOFILE, &had) == 0);
	l = had;
	l.rlim_cur = 10;
	MUST(setrlimit(RLIMIT_NOFILE, &l) < 0 && errno == EPERM &&
	     prlimit(0, RLIMIT_CPU, &(struct rlimit){1, 1}, NULL) < 0);
	MUST(getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur == had.rlim_cur);
}

/* ---- names ---- */

static void asks(void *arg)
{
	struct addrinfo *a;
	int r = getaddrinfo("nowhere.example", "80", NULL, &a);

	if (arg)
		MUST(r == EAI_SYSTEM && errno == ECANCELED);
	got = r;
}

static void names_case(void)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_CANONNAME}, *a;
	char host[256], serv[32];
	struct hostent *h, into;
	char buf[1024];
	int herr;

	MUST(getaddrinfo("127.0.0.1", "80", &hints, &a) == 0 && a->ai_addrlen == sizeof(struct sockaddr_in) &&
	     !strcmp(a->ai_canonname, "127.0.0.1"));
	MUST(getnameinfo(a->ai_addr, a->ai_addrlen, host, sizeof host, serv, sizeof serv,
			 NI_NUMERICHOST | NI_NUMERICSERV) == 0);
	MUST(!strcmp(host, "127.0.0.1") && !strcmp(serv, "80"));
	freeaddrinfo(a);
	MUST(getaddrinfo("localhost", NULL, NULL, &a) == 0);
	MUST(getnameinfo(a->ai_addr, a->ai_addrlen, host, sizeof host, NULL, 0, 0) == 0 && host[0]);
	freeaddrinfo(a);
	MUST(getaddrinfo("127.0.0.1", "no-such-service", NULL, &a) == EAI_SERVICE);
	for (int i = 0; i < 3; i++)
		MUST((h = gethostbyname("localhost")) && h->h_addrtype == AF_INET && h->h_addr_list[0][0] == 127);
	MUST((h = gethostbyaddr(&(struct in_addr){htonl(INADDR_LOOPBACK)}, 4, AF_INET)) && h->h_name);
	memset(buf, '#', sizeof buf);
	for (size_t room = 0; room < sizeof buf; room += 8) /* from too little to enough, and never a byte more */
		MUST((gethostbyname_r("localhost", &into, buf + 1, room, &h, &herr) == 0
			      ? h == &into && !strcmp(h->h_name, "localhost") && h->h_length == 4 &&
					h->h_addr_list[0][0] == 127 && !h->h_addr_list[1]
			      : h == NULL && errno == ERANGE && herr == NETDB_INTERNAL) &&
		     buf[room + 1] == '#' && (room > 0 || !h) && (room < 400 || h));
	MUST(gethostbyaddr_r(&(struct in_addr){htonl(INADDR_LOOPBACK)}, 4, AF_INET, &into, buf, sizeof buf, &h,
			     &herr) == 0 &&
	     h == &into && h->h_name && h->h_addr_list[0][3] == 1);
}

/* The name server (set up by the test) does not answer: another goroutine runs meanwhile. */
static void silent_case(void)
{
	struct sockaddr_in a = {
		.sin_family = AF_INET, .sin_port = htons(53), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int s = socket(AF_INET, SOCK_DGRAM, 0), n = 0;
	int64_t t0 = shoal_now();
	shoal_gid g;

	MUST(bind(s, (struct sockaddr *)&a, sizeof a) == 0);
	g = shoal_wg_go(&wg, asks, "", 1);
	while (shoal_now() - t0 < 100 * MS)
		n += shoal_sleep(MS) == 0;
	MUST(n > 30 && shoal_cancel(g) == 0 && shoal_wg_wait(&wg) == 0 && shoal_now() - t0 < 500 * MS);
}

/* ---- character sets: libc loads them into one worker ---- */

static void converts(void *arg)
{
	static const char *const sets[] = {"ISO-8859-1", "KOI8-R", "UTF-16LE", "SHIFT_JIS", "UTF-32", "CP1252"};
	const char *set = sets[*(int *)arg % 6];

	for (int i = 0; i < 10; i++) {
		char in[] = "plain text", mid[64], out[64], *a = in, *b = mid, *c = mid, *d = out;
		size_t an = sizeof in, bn = sizeof mid, cn, dn = sizeof out;
		iconv_t to = iconv_open(set, "UTF-8"), back = iconv_open("UTF-8", set);

		MUST(to != (iconv_t)-1 && back != (iconv_t)-1);
		shoal_sleep(MS / 2);
		MUST(iconv(to, &a, &an, &b, &bn) == 0 && an == 0);
		shoal_yield();
		cn = sizeof mid - bn;
		MUST(iconv(back, &c, &cn, &d, &dn) == 0 && !strcmp(out, in));
		MUST(iconv_close(to) == 0);
		shoal_sleep(MS / 4);
		MUST(iconv_close(back) == 0);
	}
}

static void iconv_case(void)
{
	MUST(iconv_open("no such set", "UTF-8") == (iconv_t)-1 && errno == EINVAL);
	for (int i = 0; i < 24; i++)
		shoal_wg_go(&wg, converts, &i, sizeof i);
	MUST(shoal_wg_wait(&wg) == 0);
}

int shoal_main(int argc, char **argv)
{
	static const struct net_case cases[] = {
		{"sigwait", sigwait_case}, {"timer", timer_case},	{"sysv", sysv_case},	 {"mq", mq_case},
		{"files", files_case},	   {"programs", programs_case}, {"limits", limits_case}, {"names", names_case},
		{"silent", silent_case},   {"iconv", iconv_case}};

	if (argc > 1 && !strcmp(argv[1], "err"))
		err(3, "what");
	if (argc > 1 && !strcmp(argv[1], "error"))
		error(4, ENOENT, "what %d", 7);
	if (argc > 1 && !strcmp(argv[1], "_Exit"))
		_Exit(5);
	return NET_RUN(argc, argv, cases);
}
