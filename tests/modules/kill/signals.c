/*
 * kill/signals.c - signals of a task: queued, masked, awaited, inherited; timers, completions and notifications that
 * send them. Its goroutines may be killed at any point and begin again. For the kill driver, as kill/work.c.
 */
#define _GNU_SOURCE
#include <shoal.h>

#include <aio.h>
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SENDERS 4
#define ROUNDS 8

static const struct shoal_go_opts stubborn = {.name = "sender", .attempts = 100, .flags = SHOAL_ISOLATED};
static struct shoal_wg all;
static int ended;

static void on_signal(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)info;
	(void)context;
}

static void on_plain(int sig)
{
	(void)sig;
}

/* None of these signals ends the task, whichever are still pending after a death. */
static void handle(int sig, int flags)
{
	struct sigaction a = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART | flags};

	sigemptyset(&a.sa_mask);
	sigaddset(&a.sa_mask, SIGUSR2);
	sigaction(sig, &a, NULL);
}

static void queue(void)
{
	struct timespec soon = {0, 1000000};
	sigset_t set, old;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGRTMIN);
	pthread_sigmask(SIG_BLOCK, &set, &old);
	raise(SIGUSR1);
	kill(getpid(), SIGUSR1);
	for (int i = 0; i < 3; i++)
		sigqueue(getpid(), SIGRTMIN, (union sigval){i});
	sigtimedwait(&set, NULL, &soon);
	sigtimedwait(&set, NULL, &soon);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	handle(SIGWINCH, SA_RESETHAND);
	raise(SIGWINCH);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 1);
	sigtimedwait(&set, NULL, &soon); /* none comes */
}

static void timers(void)
{
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 2};
	struct itimerspec fast = {{0, 100000}, {0, 100000}}, once = {{0, 0}, {0, 1000}}, off = {{0, 0}, {0, 0}};
	struct itimerval used = {{0, 1000}, {0, 1000}}, none = {{0, 0}, {0, 0}};
	sigset_t set, old;
	timer_t timer;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 2);
	if (timer_create(CLOCK_MONOTONIC, &event, &timer) == 0) {
		pthread_sigmask(SIG_BLOCK, &set, &old);
		timer_settime(timer, 0, &fast, NULL);
		shoal_sleep(2000000);
		timer_getoverrun(timer);
		pthread_sigmask(SIG_SETMASK, &old, NULL);
		timer_settime(timer, 0, &once, NULL);
		shoal_sleep(500000);
		timer_settime(timer, 0, &off, NULL);
		timer_delete(timer);
	}
	setitimer(ITIMER_PROF, &used, NULL);
	for (volatile long i = 0; i < 3000000; i++)
		;
	shoal_yield();
	setitimer(ITIMER_PROF, &none, NULL);
}

static void completions(int me)
{
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 3};
	struct mq_attr attr = {.mq_maxmsg = 4, .mq_msgsize = 16};
	static char buf[SENDERS][16];
	struct aiocb cb = {.aio_buf = buf[me], .aio_nbytes = 16, .aio_sigevent = event};
	const struct aiocb *list[] = {&cb};
	char name[32];
	mqd_t q;

	cb.aio_fildes = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	if (cb.aio_fildes >= 0 && aio_read(&cb) == 0) {
		while (aio_error(&cb) == EINPROGRESS)
			aio_suspend(list, 1, &(struct timespec){0, 1000000});
		aio_return(&cb);
	}
	close(cb.aio_fildes);
	snprintf(name, sizeof name, "/shoal-kill-%d-%d", (int)getpid(), me);
	q = mq_open(name, O_RDWR | O_CREAT | O_NONBLOCK | O_CLOEXEC, 0600, &attr);
	if (q == (mqd_t)-1)
		return;
	mq_notify(q, &event);
	mq_send(q, "x", 1, 0);
	mq_notify(q, NULL);
	mq_close(q);
	mq_unlink(name);
}

struct victim {
	pthread_t thread;
	int *done;
};

/* Until its wait has ended: a signal may come before it. */
static void interrupt(void *arg)
{
	const struct victim *v = arg;

	for (int i = 0; i < 1000 && !__atomic_load_n(v->done, __ATOMIC_SEQ_CST); i++) {
		pthread_kill(v->thread, SIGRTMIN + 4);
		shoal_sleep(1000000);
	}
}

/* Two reads of one pipe: the second waits for its turn and is cancelled. A list of requests that a handler interrupts. */
static void lists(void)
{
	struct aiocb *cb = calloc(3, sizeof *cb), *list[] = {&cb[0], &cb[1]};
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 3};
	const struct aiocb *one[] = {&cb[2]};
	struct victim self = {pthread_self(), calloc(1, sizeof(int))};
	char *buf = malloc(3);
	int fd[2];

	if (!cb || !buf || !self.done || pipe2(fd, O_CLOEXEC) < 0)
		abort();
	for (int i = 0; i < 3; i++)
		cb[i] = (struct aiocb){
			.aio_fildes = fd[0], .aio_buf = buf + i, .aio_nbytes = 1, .aio_lio_opcode = LIO_READ};
	lio_listio(LIO_NOWAIT, list, 2, &event);
	aio_cancel(fd[0], &cb[1]);
	cb[2].aio_sigevent.sigev_notify = SIGEV_NONE;
	shoal_go(interrupt, &self, sizeof self);
	list[0] = &cb[2];
	lio_listio(LIO_WAIT, list, 1, NULL);
	__atomic_store_n(self.done, 1, __ATOMIC_SEQ_CST);
	for (int i = 0; i < 3; i++)
		if (write(fd[1], "abc", 3) != 3)
			abort();
	while (aio_error(&cb[2]) == EINPROGRESS)
		aio_suspend(one, 1, &(struct timespec){0, 1000000});
	while (aio_error(&cb[0]) == EINPROGRESS)
		shoal_yield();
	close(fd[0]);
	close(fd[1]);
}

static void nothing(void *arg)
{
	(void)arg;
}

static void send_all(void *arg)
{
	int me = *(int *)arg;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	for (int i = 0; i < ROUNDS; i++) {
		queue();
		timers();
		completions(me);
		lists();
		pthread_sigmask(SIG_BLOCK, &set, NULL);
		shoal_join(shoal_go(nothing, NULL, 0), NULL); /* it inherits the mask */
		pthread_sigmask(SIG_UNBLOCK, &set, NULL);
		raise(SIGUSR2);
	}
	__atomic_fetch_add(&ended, 1, __ATOMIC_SEQ_CST);
}

int shoal_main(int argc, char **argv)
{
	const int with[] = {SIGUSR1, SIGUSR2, SIGPROF, SIGRTMIN, SIGRTMIN + 1, SIGRTMIN + 2, SIGRTMIN + 3};

	(void)argc;
	(void)argv;
	for (unsigned i = 0; i < sizeof with / sizeof *with; i++)
		handle(with[i], 0);
	sigaction(SIGRTMIN + 4, &(struct sigaction){.sa_handler = on_plain}, NULL); /* no SA_RESTART: it ends a wait */
	for (int i = 0; i < SENDERS; i++)
		if (!shoal_wg_go_with(&all, &stubborn, send_all, &i, sizeof i))
			return 1;
	shoal_wg_wait(&all);
	return __atomic_load_n(&ended, __ATOMIC_SEQ_CST) < SENDERS;
}
