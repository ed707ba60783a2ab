/*
 * net/times.c CASE - calls with a time: one that is too far away for 64 bits is never over, a short one
 * is not late by a millisecond. Prints "ok".
 */
#define _GNU_SOURCE
#include "tests/modules/net/net.h"

#include <limits.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

static const time_t huge[] = {9223372036, 9223372037, 18446744074, LONG_MAX / 1000, LONG_MAX};
#define HUGES (sizeof huge / sizeof *huge)

static int s[2];
static sem_t sem;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;

static void relative(struct timespec t)
{
	clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
}
static void absolute(struct timespec t)
{
	clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &t, NULL);
}
static void plain(struct timespec t)
{
	nanosleep(&t, NULL);
}
static void polls(struct timespec t)
{
	ppoll(&(struct pollfd){s[0], POLLIN, 0}, 1, &t, NULL);
}
static void polls_none(struct timespec t)
{
	ppoll(NULL, 0, &t, NULL);
}
static void selects(struct timespec t)
{
	fd_set r;

	FD_ZERO(&r);
	FD_SET(s[0], &r);
	select(s[0] + 1, &r, NULL, NULL, &(struct timeval){t.tv_sec, 0});
}
static void pselects(struct timespec t)
{
	sigset_t mask;

	sigemptyset(&mask);
	pselect(0, NULL, NULL, NULL, &t, &mask);
}
static void waits_for_set(struct timespec t)
{
	struct epoll_event e;

	epoll_pwait2(epoll_create1(0), &e, 1, &t, NULL);
}
static void receives(struct timespec t)
{
	struct timeval tv = {t.tv_sec, 0};
	int p[2];
	char c;

	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0);
	MUST(setsockopt(p[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv) == 0);
	read(p[0], &c, 1);
}
static void waits_for_sem(struct timespec t)
{
	sem_timedwait(&sem, &t);
}
static void waits_for_cond(struct timespec t)
{
	pthread_mutex_lock(&mutex);
	pthread_cond_timedwait(&cond, &mutex, &t);
}
static void waits_for_signal(struct timespec t)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigtimedwait(&set, NULL, &t);
}
static void sets_alarm(struct timespec t)
{
	struct itimerval i = {{0, 0}, {t.tv_sec, 0}};

	MUST(setitimer(ITIMER_REAL, &i, NULL) == 0);
	shoal_sleep(1000 * (int64_t)MS);
}
static void sleeps(struct timespec t)
{
	shoal_sleep(t.tv_sec > 9223372036 ? INT64_MAX : t.tv_sec * 1000000000);
}
static void waits_for_ipc(struct timespec t)
{
	int id = semget(IPC_PRIVATE, 1, 0600);

	MUST(id >= 0);
	semtimedop(id, &(struct sembuf){0, -1, 0}, 1, &t);
	semctl(id, 0, IPC_RMID);
}
static void waits_for_queue(struct timespec t)
{
	struct mq_attr attr = {.mq_maxmsg = 1, .mq_msgsize = 8};
	char name[64], b[8];
	mqd_t q;

	snprintf(name, sizeof name, "/shoal-net-times-%d", (int)getpid());
	MUST((q = mq_open(name, O_RDWR | O_CREAT, 0600, &attr)) >= 0);
	mq_unlink(name);
	mq_timedreceive(q, b, sizeof b, NULL, &t);
}

static const struct way {
	const char *name;
	void (*wait)(struct timespec);
} ways[] = {
	{"clock_nanosleep", relative},
	{"clock_nanosleep until", absolute},
	{"nanosleep", plain},
	{"ppoll", polls},
	{"ppoll of none", polls_none},
	{"select", selects},
	{"pselect", pselects},
	{"epoll_pwait2", waits_for_set},
	{"SO_RCVTIMEO", receives},
	{"sem_timedwait", waits_for_sem},
	{"pthread_cond_timedwait", waits_for_cond},
	{"sigtimedwait", waits_for_signal},
	{"setitimer", sets_alarm},
	{"semtimedop", waits_for_ipc},
	{"mq_timedreceive", waits_for_queue},
	{"shoal_sleep", sleeps},
};
#define WAYS (sizeof ways / sizeof *ways)

static _Atomic int begun;
static _Atomic int back[WAYS][HUGES];

static void waits(void *arg)
{
	int i = *(int *)arg;

	begun++;
	ways[i / HUGES].wait((struct timespec){huge[i % HUGES], 0});
	back[i / HUGES][i % HUGES] = 1;
}

static void never_over(void)
{
	for (int i = 0; i < (int)(WAYS * HUGES); i++)
		shoal_go(waits, &i, sizeof i);
	while (begun < (int)(WAYS * HUGES))
		shoal_sleep(MS);
	shoal_sleep(300 * MS);
	for (size_t i = 0; i < WAYS; i++)
		for (size_t k = 0; k < HUGES; k++) {
			net_at = ways[i].name;
			MUST(!back[i][k]);
		}
}

/* When nothing else runs, a sleep is late by far less than a millisecond: the least of many, for the machine may be busy. */
static int by_size(const void *a, const void *b)
{
	return *(const int64_t *)a < *(const int64_t *)b ? -1 : 1;
}

static void precise(void)
{
	static const int64_t ns[] = {10000, 50000, 200000, 700000};
	int64_t late[101];

	for (size_t k = 0; k < sizeof ns / sizeof *ns; k++) {
		for (int i = 0; i < 101; i++) {
			int64_t t = shoal_now();

			nanosleep(&(struct timespec){0, ns[k]}, NULL);
			late[i] = shoal_now() - t - ns[k];
			MUST(late[i] >= 0);
		}
		qsort(late, 101, sizeof *late, by_size);
		if (late[0] >= 500000)
			printf("a sleep of %ld us is late by %ld us\n", ns[k] / 1000, late[0] / 1000);
	}
}

/* A wait for nothing in a task without other goroutines: it cannot end. */
static void for_nothing(void)
{
	poll(NULL, 0, -1);
	puts("poll has come back");
}

static const struct net_case cases[] = {{"huge", never_over}, {"precise", precise}, {"nothing", for_nothing}};

int shoal_main(int argc, char **argv)
{
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0 && sem_init(&sem, 0, 0) == 0);
	return NET_RUN(argc, argv, cases);
}
