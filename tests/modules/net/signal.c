/*
 * net/signal.c CASE - signals as a task sees them, and what pthreads has for waiting. Prints "ok".
 */
#define _GNU_SOURCE
#include "tests/modules/net/net.h"

#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/time.h>
#include <unistd.h>

static struct shoal_wg wg;
static volatile sig_atomic_t got, times;
static sigjmp_buf back;
static char *volatile nowhere = (char *)8;

static void handles(int sig)
{
	got = sig;
	times++;
}

static void handles_info(int sig, siginfo_t *si, void *uc)
{
	(void)uc;
	MUST(si->si_signo == sig && si->si_addr == nowhere);
	siglongjmp(back, sig);
}

static void signals_case(void)
{
	struct itimerval every = {{0, 5000}, {0, 5000}}, left;
	struct sigaction old;
	sigset_t set;

	MUST(signal(SIGUSR1, handles) == SIG_DFL && raise(SIGUSR1) == 0 && got == SIGUSR1);
	MUST(signal(SIGUSR1, SIG_IGN) == handles && kill(getpid(), SIGUSR1) == 0 && times == 1);
	MUST(sigaction(SIGUSR1, NULL, &old) == 0 && old.sa_handler == SIG_IGN && sigaction(SIGKILL, &old, NULL) < 0);
	MUST(raise(0) == 0 && raise(99) < 0 && errno == EINVAL && raise(SIGCHLD) == 0);
	signal(SIGUSR2, handles);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	MUST(sigprocmask(SIG_BLOCK, &set, NULL) == 0 && raise(SIGUSR2) == 0 && times == 1);
	MUST(sigpending(&set) == 0 && sigismember(&set, SIGUSR2) == 1);
	MUST(pthread_sigmask(SIG_UNBLOCK, &set, NULL) == 0 && times == 2 && got == SIGUSR2);
	signal(SIGALRM, handles);
	MUST(alarm(100) == 0 && alarm(0) == 100);
	MUST(setitimer(ITIMER_REAL, &every, NULL) == 0 && getpid() > 0);
	MUST(pause() < 0 && errno == EINTR && got == SIGALRM && times >= 3);
	while (times < 6)
		shoal_sleep(MS);
	MUST(setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 0}}, &left) == 0 &&
	     left.it_interval.tv_usec == 5000);
}

static void raises(void *arg)
{
	(void)arg;
	shoal_sleep(5 * MS);
	kill(getpid(), SIGUSR1); /* not raise: it has inherited a mask in which the signal is blocked */
}

/* A signal that is pending when the mask is lifted ends the wait. */
static void suspend_case(void)
{
	sigset_t set, none, before, after;

	signal(SIGUSR1, handles);
	sigemptyset(&none);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	MUST(sigprocmask(SIG_BLOCK, &set, NULL) == 0 && sigprocmask(SIG_BLOCK, NULL, &before) == 0);
	for (int i = 1; i <= 3; i++) {
		MUST(raise(SIGUSR1) == 0 && times == i - 1);
		MUST(sigsuspend(&none) < 0 && errno == EINTR && times == i && got == SIGUSR1);
	}
	MUST(shoal_wg_go(&wg, raises, NULL, 0) && sigsuspend(&none) < 0 && errno == EINTR && times == 4);
	MUST(sigprocmask(SIG_BLOCK, NULL, &after) == 0 &&
	     sigismember(&after, SIGUSR1) == sigismember(&before, SIGUSR1));
	shoal_wg_wait(&wg);
}

/* The mask of ppoll and its like holds while they wait, and a handler ends the wait. */
static int waits_masked(int how, int fd, const struct timespec *t, const sigset_t *mask)
{
	struct pollfd p = {fd, POLLIN, 0};
	struct epoll_event e = {.events = EPOLLIN};
	int set, r;
	fd_set in;

	if (how == 0)
		return ppoll(&p, 1, t, mask);
	if (how == 1) {
		FD_ZERO(&in);
		FD_SET(fd, &in);
		r = pselect(fd + 1, &in, NULL, NULL, t, mask);
		MUST(r < 0 || (r == 1) == (FD_ISSET(fd, &in) != 0));
		return r;
	}
	set = epoll_create1(0);
	MUST(set >= 0 && epoll_ctl(set, EPOLL_CTL_ADD, fd, &e) == 0);
	r = epoll_pwait(set, &e, 1, t ? (int)(t->tv_sec * 1000 + t->tv_nsec / MS) : -1, mask);
	close(set);
	return r;
}

static void masked_case(void)
{
	struct timespec t = {0, 20 * MS};
	sigset_t set, none, now;
	int ends[2];

	signal(SIGUSR1, handles);
	sigemptyset(&none);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	MUST(pipe(ends) == 0 && sigprocmask(SIG_BLOCK, &set, NULL) == 0);
	for (int how = 0; how < 3; how++) {
		times = 0;
		MUST(raise(SIGUSR1) == 0 && times == 0);
		MUST(waits_masked(how, ends[0], NULL, &none) < 0 && errno == EINTR && times == 1); /* pending */
		MUST(shoal_wg_go(&wg, raises, NULL, 0) && waits_masked(how, ends[0], NULL, &none) < 0 &&
		     errno == EINTR && times == 2);
		MUST(waits_masked(how, ends[0], &t, &none) == 0 && times == 2);
		MUST(raise(SIGUSR1) == 0 && waits_masked(how, ends[0], &t, &set) == 0 && times == 2); /* blocked */
		MUST(write(ends[1], "x", 1) == 1 && waits_masked(how, ends[0], NULL, &set) == 1 && times == 2);
		MUST(waits_masked(how, ends[0], NULL, &none) == 1 &&
		     times == 3); /* ready: no error, though a handler was run */
		MUST(read(ends[0], &now, 1) == 1 && sigprocmask(SIG_BLOCK, NULL, &now) == 0 &&
		     sigismember(&now, SIGUSR1) == 1);
	}
	shoal_wg_wait(&wg);
}

/* A fault in the module's code may be survived, as in a process. */
static void fault_case(void)
{
	struct sigaction sa = {.sa_sigaction = handles_info, .sa_flags = SA_SIGINFO};

	MUST(sigaction(SIGSEGV, &sa, NULL) == 0);
	for (volatile int i = 0; i < 20; i++) {
		if (sigsetjmp(back, 1) == 0) {
			*nowhere = 1;
			MUST(!"came by");
		}
		shoal_yield();
	}
	signal(SIGSEGV, SIG_DFL);
}

/* ---- pthreads: no goroutine waits in a futex of the worker ---- */

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER, re = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static sem_t sem;
static long n, turns, queue;

static void counts(void *arg)
{
	(void)arg;
	for (int i = 0; i < 2000; i++) {
		pthread_mutex_lock(&mu);
		n++;
		if (i % 200 == 0)
			shoal_sleep(100000);
		pthread_mutex_unlock(&mu);
		MUST(pthread_mutex_lock(&re) == 0 && pthread_mutex_lock(&re) == 0);
		turns++;
		if (i % 500 == 0)
			shoal_yield();
		MUST(pthread_mutex_unlock(&re) == 0 && pthread_mutex_unlock(&re) == 0);
	}
}

static void takes(void *arg)
{
	(void)arg;
	for (int i = 0; i < 100; i++) {
		pthread_mutex_lock(&mu);
		while (queue == 0)
			pthread_cond_wait(&cond, &mu);
		queue--;
		pthread_mutex_unlock(&mu);
		sem_wait(&sem);
	}
}

static void threads_case(void)
{
	struct timespec t;

	for (int i = 0; i < 8; i++)
		shoal_wg_go(&wg, counts, NULL, 0);
	shoal_wg_wait(&wg);
	MUST(n == 16000 && turns == 16000);
	MUST(pthread_mutex_lock(&mu) == 0 && pthread_mutex_trylock(&mu) == EBUSY);
	clock_gettime(CLOCK_REALTIME, &t);
	MUST(pthread_mutex_timedlock(&mu, &t) == ETIMEDOUT && pthread_cond_timedwait(&cond, &mu, &t) == ETIMEDOUT);
	MUST(pthread_mutex_unlock(&mu) == 0 && pthread_mutex_unlock(&re) == EPERM);
	MUST(sem_init(&sem, 0, 0) == 0);
	for (int i = 0; i < 4; i++)
		shoal_wg_go(&wg, takes, NULL, 0);
	for (int i = 0; i < 400; i++) {
		pthread_mutex_lock(&mu);
		queue++;
		pthread_cond_signal(&cond);
		pthread_mutex_unlock(&mu);
		MUST(sem_post(&sem) == 0);
		if (i % 50 == 0)
			shoal_yield();
	}
	shoal_wg_wait(&wg);
	MUST(queue == 0 && sem_timedwait(&sem, &t) < 0 && errno == ETIMEDOUT);
}

/* stdin is the null device unless the task reopens it; descriptor 0 stays. */
static void stdin_case(void)
{
	char b[64];

	MUST(getchar() == EOF && read(0, b, 1) == 0);
	MUST(freopen("/etc/passwd", "r", stdin) == stdin && scanf("%4s", b) == 1 && !strcmp(b, "root"));
	for (int i = 0; i < 20; i++) {
		shoal_sleep(100000);
		MUST(getc(stdin) != EOF);
	}
	MUST(read(0, b, 1) == 0 && fclose(stdin) == 0 && fclose(stdin) == 0 && read(0, b, 1) == 0);
}

int shoal_main(int argc, char **argv)
{
	static const struct net_case cases[] = {{"signals", signals_case}, {"suspend", suspend_case},
						{"masked", masked_case},   {"fault", fault_case},
						{"threads", threads_case}, {"stdin", stdin_case}};

	if (argc > 1 && !strcmp(argv[1], "term"))
		raise(SIGTERM);
	if (argc > 1 && !strcmp(argv[1], "alarm")) {
		alarm(1);
		pause();
	}
	if (argc > 1 && !strcmp(argv[1], "segv")) {
		signal(SIGSEGV, handles);
		*nowhere = 1;
	}
	return NET_RUN(argc, argv, cases);
}
