/*
 * signal/notices.c CASE - timers with overruns and SIGEV_THREAD, interval timers of all kinds, completions of aio,
 * mq_notify. Each case checks itself and prints "ok". Only POSIX, so that it can also be built as a program
 * (-Dshoal_main=main) and compared.
 */
#define _GNU_SOURCE
#include <aio.h>
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define MUST(x) ((x) ? (void)0 : fail(#x, __LINE__))
#define MS 1000000l

int shoal_main(int argc, char **argv);

static void fail(const char *what, int line)
{
	int err = errno;

	fprintf(stderr, "notices.c:%d: %s (errno %d: %s)\n", line, what, err, strerror(err));
	exit(1);
}

static void sleep_ms(long ms)
{
	struct timespec t = {ms / 1000, ms % 1000 * MS};

	while (nanosleep(&t, &t) < 0 && errno == EINTR)
		;
}

static volatile sig_atomic_t count, last_code, last_value;
static sem_t called;

static void handles(int sig, siginfo_t *si, void *uc)
{
	(void)sig;
	(void)uc;
	last_code = si->si_code;
	last_value = si->si_value.sival_int;
	__atomic_fetch_add((int *)&count, 1, __ATOMIC_SEQ_CST);
}

static void install(int sig)
{
	struct sigaction a = {.sa_sigaction = handles, .sa_flags = SA_SIGINFO | SA_RESTART};

	sigemptyset(&a.sa_mask);
	MUST(sigaction(sig, &a, NULL) == 0);
}

static void until(int n)
{
	for (int i = 0; i < 20000 && count < n; i++)
		sleep_ms(1);
	MUST(count >= n);
}

static void on_notice(union sigval value)
{
	last_value = value.sival_int;
	sem_post(&called);
}

static void wait_called(void)
{
	while (sem_wait(&called) < 0)
		MUST(errno == EINTR);
}

/* ---- timer_create ---- */

static void timer_case(void)
{
	struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value.sival_int = 5};
	struct itimerspec every = {{0, MS}, {0, MS}}, off = {{0, 0}, {0, 0}}, once = {{0, 0}, {0, 2 * MS}}, now;
	struct timespec t;
	sigset_t set;
	siginfo_t si;
	timer_t id;

	install(SIGRTMIN);
	MUST(timer_create(CLOCK_MONOTONIC, &e, &id) == 0);
	MUST(timer_settime(id, 0, &every, NULL) == 0);
	until(3);
	MUST(last_code == SI_TIMER && last_value == 5);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	sigprocmask(SIG_BLOCK, &set, NULL);
	while (sigtimedwait(&set, &si, &(struct timespec){0, 0}) > 0)
		;
	sleep_ms(50);
	MUST(sigwaitinfo(&set, &si) == SIGRTMIN && si.si_code == SI_TIMER && si.si_overrun > 0);
	MUST(timer_getoverrun(id) >= si.si_overrun && si.si_value.sival_int == 5);
	MUST(timer_gettime(id, &now) == 0 && now.it_interval.tv_nsec == MS);
	MUST(timer_settime(id, 0, &off, &now) == 0 && now.it_value.tv_nsec > 0);
	MUST(timer_gettime(id, &now) == 0 && now.it_value.tv_nsec == 0);
	while (sigtimedwait(&set, &si, &(struct timespec){0, 0}) > 0)
		;
	clock_gettime(CLOCK_REALTIME, &t);
	once.it_value = t; /* now: expires at once */
	MUST(timer_settime(id, TIMER_ABSTIME, &once, NULL) == 0);
	MUST(timer_delete(id) == 0 && timer_settime(id, 0, &off, NULL) < 0 && errno == EINVAL);
	MUST(timer_create(CLOCK_REALTIME, &e, &id) == 0 && timer_settime(id, TIMER_ABSTIME, &once, NULL) == 0);
	MUST(sigwaitinfo(&set, &si) == SIGRTMIN && timer_delete(id) == 0);
	e.sigev_notify = SIGEV_THREAD;
	e.sigev_notify_function = on_notice;
	e.sigev_value.sival_int = 9;
	MUST(timer_create(CLOCK_MONOTONIC, &e, &id) == 0 && timer_settime(id, 0, &every, NULL) == 0);
	for (int i = 0; i < 3; i++)
		wait_called();
	MUST(last_value == 9 && timer_delete(id) == 0);
	e.sigev_notify = SIGEV_NONE;
	MUST(timer_create(CLOCK_MONOTONIC, &e, &id) == 0);
	once = (struct itimerspec){{0, 0}, {100, 0}};
	MUST(timer_settime(id, 0, &once, NULL) == 0 && timer_gettime(id, &now) == 0);
	MUST(now.it_value.tv_sec >= 98 && now.it_value.tv_sec <= 100 && timer_delete(id) == 0);
}

static void itimer_case(void)
{
	static const struct {
		int which, sig;
	} kinds[] = {{ITIMER_REAL, SIGALRM}, {ITIMER_VIRTUAL, SIGVTALRM}, {ITIMER_PROF, SIGPROF}};

	for (unsigned i = 0; i < 3; i++) {
		struct itimerval every = {{0, 2000}, {0, 2000}}, off = {{0, 0}, {0, 0}}, now;

		count = 0;
		install(kinds[i].sig);
		MUST(setitimer(kinds[i].which, &every, NULL) == 0);
		while (count < 3) /* computes: two of them count processor time */
			for (volatile int k = 0; k < 10000; k++)
				getpid();
		MUST(getitimer(kinds[i].which, &now) == 0 && now.it_interval.tv_usec == 2000);
		MUST(setitimer(kinds[i].which, &off, &now) == 0 && now.it_interval.tv_usec == 2000);
		MUST(getitimer(kinds[i].which, &now) == 0 && now.it_value.tv_usec == 0 && now.it_value.tv_sec == 0);
	}
	MUST(alarm(100) == 0 && alarm(0) >= 99);
}

/* ---- aio: blocks and buffers on the stack, as programs have them ---- */

static void aio_case(void)
{
	char path[] = "/tmp/shoal-aio-XXXXXX", buf[4][8] = {"abcdefg", "hijklmn"}, text[8] = "";
	int fd = mkstemp(path);
	struct aiocb w = {.aio_fildes = fd, .aio_buf = buf[0], .aio_nbytes = 7}, r = w, l[2], *list[2] = {&l[0], &l[1]};
	const struct aiocb *one[1] = {&w};

	MUST(fd >= 0 && unlink(path) == 0);
	w.aio_sigevent.sigev_notify = r.aio_sigevent.sigev_notify = SIGEV_NONE;
	MUST(aio_write(&w) == 0);
	while (aio_error(&w) == EINPROGRESS)
		MUST(aio_suspend(one, 1, NULL) == 0 || errno == EINTR);
	MUST(aio_error(&w) == 0 && aio_return(&w) == 7);
	r.aio_buf = text;
	r.aio_sigevent = (struct sigevent){.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 1};
	r.aio_sigevent.sigev_value.sival_int = 4;
	install(SIGRTMIN + 1);
	count = 0;
	MUST(aio_read(&r) == 0);
	until(1);
	MUST(last_code == SI_ASYNCIO && last_value == 4 && aio_error(&r) == 0 && aio_return(&r) == 7);
	MUST(strcmp(text, "abcdefg") == 0);
	r.aio_sigevent = (struct sigevent){.sigev_notify = SIGEV_THREAD, .sigev_notify_function = on_notice};
	r.aio_sigevent.sigev_value.sival_int = 6;
	r.aio_offset = 3;
	MUST(aio_read(&r) == 0);
	wait_called();
	MUST(last_value == 6 && aio_error(&r) == 0 && aio_return(&r) == 4 && memcmp(text, "defg", 4) == 0);
	for (int i = 0; i < 2; i++) {
		l[i] = (struct aiocb){.aio_fildes = fd, .aio_buf = buf[2 + i], .aio_nbytes = 3, .aio_offset = i};
		l[i].aio_sigevent.sigev_notify = SIGEV_NONE;
		l[i].aio_lio_opcode = LIO_READ;
	}
	MUST(lio_listio(LIO_WAIT, list, 2, NULL) == 0);
	MUST(memcmp(buf[2], "abc", 3) == 0 && memcmp(buf[3], "bcd", 3) == 0 && aio_return(&l[1]) == 3);
	count = 0;
	MUST(lio_listio(LIO_NOWAIT, list, 2,
			&(struct sigevent){.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 1}) == 0);
	until(1);
	MUST(aio_error(&l[0]) == 0 && aio_error(&l[1]) == 0 && aio_return(&l[0]) == 3);
	w.aio_fildes = 1000;
	MUST(aio_write(&w) == 0 || errno == EBADF);
	while (aio_error(&w) == EINPROGRESS)
		sleep_ms(1);
	MUST(aio_error(&w) == EBADF && aio_fsync(O_SYNC, &r) == 0);
	while (aio_error(&r) == EINPROGRESS)
		sleep_ms(1);
	MUST(aio_error(&r) == 0 && aio_cancel(fd, NULL) == AIO_ALLDONE);
}

static void cancel_case(void)
{
	char c[2];
	struct aiocb first = {.aio_buf = &c[0], .aio_nbytes = 1}, second;
	int p[2];

	MUST(pipe(p) == 0);
	first.aio_fildes = p[0];
	first.aio_sigevent.sigev_notify = SIGEV_NONE;
	second = first;
	second.aio_buf = &c[1];
	MUST(aio_read(&first) == 0);
	sleep_ms(20); /* it may have begun */
	MUST(aio_read(&second) == 0 && aio_cancel(p[0], &second) == AIO_CANCELED);
	MUST(aio_error(&second) == ECANCELED && aio_return(&second) == -1);
	MUST(write(p[1], "x", 1) == 1);
	while (aio_error(&first) == EINPROGRESS)
		sleep_ms(1);
	MUST(aio_return(&first) == 1 && c[0] == 'x');
}

/* ---- mq_notify ---- */

static void queue_case(void)
{
	struct mq_attr attr = {.mq_maxmsg = 4, .mq_msgsize = 16};
	struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 2};
	char name[40], buf[16];
	mqd_t q;

	snprintf(name, sizeof name, "/shoal-notices-%d", (int)getpid());
	q = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attr);
	MUST(q != (mqd_t)-1 && mq_unlink(name) == 0);
	install(SIGRTMIN + 2);
	e.sigev_value.sival_int = 3;
	for (int i = 1; i <= 3; i++) { /* one notice, then it must be asked for again */
		count = 0;
		MUST(mq_notify(q, &e) == 0 && mq_notify(q, &e) < 0 && errno == EBUSY);
		MUST(mq_send(q, "a", 1, 0) == 0 && mq_send(q, "b", 1, 0) == 0);
		until(1);
		MUST(last_code == SI_MESGQ && last_value == 3);
		MUST(mq_receive(q, buf, sizeof buf, NULL) == 1 && mq_receive(q, buf, sizeof buf, NULL) == 1);
	}
	e.sigev_notify = SIGEV_THREAD;
	e.sigev_notify_function = on_notice;
	e.sigev_value.sival_int = 8;
	MUST(mq_notify(q, &e) == 0 && mq_send(q, "c", 1, 0) == 0);
	wait_called();
	MUST(last_value == 8 && mq_receive(q, buf, sizeof buf, NULL) == 1);
	MUST(mq_notify(q, &e) == 0 && mq_notify(q, NULL) == 0 && mq_notify(q, &e) == 0 && mq_close(q) == 0);
}

static const struct {
	const char *name;
	void (*run)(void);
} cases[] = {
	{"timer", timer_case},	 {"itimer", itimer_case}, {"aio", aio_case},
	{"cancel", cancel_case}, {"queue", queue_case},
};

int shoal_main(int argc, char **argv)
{
	MUST(sem_init(&called, 0, 0) == 0);
	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++)
		if (argc > 1 && strcmp(argv[1], cases[i].name) == 0) {
			cases[i].run();
			return puts("ok") < 0;
		}
	return 2;
}
