/*
 * state/raw.c [exit] - system calls by number, with syscall(): each does what the function of its name does on a
 * goroutine. Checks itself and prints "ok".
 */
#define _GNU_SOURCE
#include <shoal.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MUST(x) ((x) ? (void)0 : fail(#x, __LINE__))
#define READERS 100

static void fail(const char *what, int line)
{
	fprintf(stderr, "raw.c:%d: %s (errno %d)\n", line, what, errno);
	exit(1);
}

static struct shoal_wg wg;
static int pipes[READERS][2];
static volatile sig_atomic_t handled;

/* More of them than workers: each parks. */
static void reader(void *arg)
{
	char c;

	MUST(syscall(SYS_read, pipes[*(int *)arg][0], &c, 1) == 1 && c == 'x');
}

static void parks(void)
{
	for (int i = 0; i < READERS; i++) {
		MUST(syscall(SYS_pipe2, pipes[i], O_CLOEXEC) == 0);
		MUST(shoal_wg_go(&wg, reader, &i, sizeof i));
	}
	shoal_yield();
	for (int i = READERS; i-- > 0;)
		MUST(syscall(SYS_write, pipes[i][1], "x", 1) == 1);
	shoal_wg_wait(&wg);
}

static void descriptors(void)
{
	int fd = (int)syscall(SYS_openat, AT_FDCWD, "/dev/zero", O_RDONLY | O_CLOEXEC), two[2];
	char buf[8] = "abc";

	MUST(fd > 2 && syscall(SYS_pread64, fd, buf, 8l, 0l) == 8 && buf[0] == 0);
	MUST(syscall(SYS_fcntl, fd, F_GETFD) == FD_CLOEXEC && syscall(SYS_close, fd) == 0);
	MUST(syscall(SYS_close, fd) == -1 && errno == EBADF);
	MUST(syscall(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, two) == 0);
	MUST(syscall(SYS_sendto, two[0], "hi", 2l, 0, NULL, 0) == 2 &&
	     syscall(SYS_recvfrom, two[1], buf, 8l, 0, NULL, NULL) == 2);
	MUST(syscall(SYS_close, 100000) == -1 && errno == EBADF);
	MUST(syscall(SYS_memfd_create, "x", 0) > 2);
}

static void on_signal(int sig)
{
	handled = sig;
}

static void signals(void)
{
	uint64_t set = 1ull << (SIGUSR1 - 1), old = 1, pending = 0;

	signal(SIGUSR1, on_signal);
	MUST(syscall(SYS_gettid) == gettid() && syscall(SYS_getpid) > 0);
	MUST(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &set, &old, 8l) == 0 && old == 0);
	MUST(syscall(SYS_tgkill, getpid(), gettid(), SIGUSR1) == 0 && handled == 0);
	MUST(syscall(SYS_rt_sigpending, &pending, 8l) == 0 && pending == set);
	MUST(syscall(SYS_rt_sigprocmask, SIG_UNBLOCK, &set, NULL, 8l) == 0 && handled == SIGUSR1);
	handled = 0;
	MUST(syscall(SYS_kill, getpid(), SIGUSR1) == 0 && handled == SIGUSR1);
}

static void times_and_memory(void)
{
	struct timespec little = {0, 1000000};
	uint32_t word = 7;
	char *p;

	MUST(syscall(SYS_nanosleep, &little, NULL) == 0);
	MUST(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 8, NULL) == -1 && errno == EAGAIN);
	MUST(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 7, &little) == -1 && errno == ETIMEDOUT);
	p = (char *)syscall(SYS_mmap, NULL, 4096l, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0l);
	MUST(p != MAP_FAILED);
	p[5] = 1;
	shoal_yield();
	MUST(p[5] == 1 && syscall(SYS_munmap, p, 4096l) == 0);
	MUST(syscall(100000) == -1 && errno == ENOSYS);
}

static void refused(void)
{
	MUST(syscall(SYS_fork) == -1 && errno == ENOTSUP);
	MUST(syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, 0l) == -1 && errno == ENOTSUP);
	MUST(syscall(SYS_execve, "/bin/true", NULL, NULL) == -1 && errno == ENOTSUP);
	MUST(syscall(SYS_setuid, 12345) == -1 && errno == EPERM);
}

int shoal_main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "exit") == 0)
		syscall(SYS_exit_group, 7);
	printf("1 ");
	syscall(SYS_write, 1, "2 ", 2l);
	printf("3\n");
	parks();
	descriptors();
	signals();
	times_and_memory();
	refused();
	puts("ok");
	return 0;
}
