/*
 * net/progs.c - names, streams and other programs: shoal run net/progs.so CASE. Prints "ok".
 */
#define _GNU_SOURCE
#include "tests/modules/net/net.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct shoal_wg wg;
static _Atomic int count;

static void asks(void *arg)
{
	struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *a;
	char host[64], port[16];

	(void)arg;
	for (int i = 0; i < 5; i++) {
		MUST(getaddrinfo("127.0.0.1", "80", &hints, &a) == 0);
		MUST(((struct sockaddr_in *)(void *)a->ai_addr)->sin_port == htons(80));
		shoal_yield();
		MUST(getnameinfo(a->ai_addr, a->ai_addrlen, host, sizeof host, port, sizeof port,
				 NI_NUMERICHOST | NI_NUMERICSERV) == 0);
		MUST(!strcmp(host, "127.0.0.1") && !strcmp(port, "80"));
		freeaddrinfo(a);
		MUST(getaddrinfo("localhost", NULL, &hints, &a) == 0 && a);
		shoal_yield();
		freeaddrinfo(a);
		MUST(getaddrinfo("no.such.host.invalid.", NULL, &hints, &a) != 0);
	}
	count++;
}

static void names_case(void)
{
	for (int i = 0; i < 10; i++)
		shoal_wg_go(&wg, asks, NULL, 0);
	shoal_wg_wait(&wg);
	MUST(count == 10);
}

static void system_waits(void *arg)
{
	char command[64];
	int n = *(int *)arg, r;

	snprintf(command, sizeof command, "sleep 0.%d; exit %d", n % 3 + 1, n);
	for (int i = 0; i < 2; i++) {
		r = system(command);
		MUST(WIFEXITED(r) && WEXITSTATUS(r) == n);
		shoal_yield();
	}
	count++;
}

static void system_case(void)
{
	int64_t t0 = shoal_now();

	MUST(system(NULL) == 1);
	for (int i = 0; i < 12; i++)
		shoal_wg_go(&wg, system_waits, &i, sizeof i);
	shoal_wg_wait(&wg);
	MUST(count == 12 && shoal_now() - t0 < 4000 * (int64_t)MS);
	MUST(WIFSIGNALED(system("kill -9 $$")));
}

static void popens(void *arg)
{
	int n = *(int *)arg;
	char command[64], line[64];
	FILE *f;

	snprintf(command, sizeof command, "for i in 1 2 3; do sleep 0.05; echo %d $i; done; exit 3", n);
	f = popen(command, "r");
	MUST(f);
	for (int i = 1; i <= 3; i++) {
		int a, b;

		MUST(fgets(line, sizeof line, f) && sscanf(line, "%d %d", &a, &b) == 2 && a == n && b == i);
		shoal_yield();
	}
	MUST(!fgets(line, sizeof line, f));
	MUST(WEXITSTATUS(pclose(f)) == 3);
	f = popen("cat >/dev/null; exit 4", "w");
	MUST(f && fprintf(f, "%d\n", n) > 0 && WEXITSTATUS(pclose(f)) == 4);
	count++;
}

static void popen_case(void)
{
	for (int i = 0; i < 10; i++)
		shoal_wg_go(&wg, popens, &i, sizeof i);
	shoal_wg_wait(&wg);
	MUST(count == 10);
}

static void spawn_case(void)
{
	char *argv[] = {"sh", "-c", "echo from the program; exit 5", NULL};
	posix_spawn_file_actions_t actions;
	int status, fd[2];
	char b[64];
	pid_t pid, pids[5];
	ssize_t n;

	MUST(posix_spawn(&pid, "/bin/sh", NULL, NULL, argv, environ) == 0);
	for (int i = 0; i < 200; i++)
		shoal_yield();
	MUST(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 5);
	MUST(waitpid(pid, &status, 0) < 0 && errno == ECHILD);
	MUST(posix_spawnp(&pid, "no-such-program", NULL, NULL, argv, environ) == ENOENT);
	MUST(pipe2(fd, O_CLOEXEC) == 0);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, fd[1], 1);
	MUST(posix_spawnp(&pid, "sh", &actions, NULL, argv, environ) == 0);
	close(fd[1]);
	n = read(fd[0], b, sizeof b);
	MUST(n == 17 && !memcmp(b, "from the program\n", 17));
	MUST(wait(&status) == pid && WEXITSTATUS(status) == 5);
	MUST(wait(&status) < 0 && errno == ECHILD);
	argv[2] = "sleep 0.2";
	for (int i = 0; i < 5; i++)
		MUST(posix_spawnp(&pids[i], "sh", NULL, NULL, argv, environ) == 0);
	MUST(waitpid(pids[3], &status, WNOHANG) == 0);
	for (int i = 0; i < 5; i++)
		MUST(waitpid(-1, &status, 0) > 0 && status == 0);
	MUST(waitpid(-1, &status, WNOHANG) < 0 && errno == ECHILD);
}

static void writes_lines(void *arg)
{
	FILE *f = fdopen(*(int *)arg, "w");

	MUST(f && fileno(f) == *(int *)arg);
	for (int i = 0; i < 100; i++) {
		MUST(fprintf(f, "line %d\n", i) > 0);
		if (i % 10 == 0) {
			fflush(f);
			shoal_sleep(1 * MS);
		}
	}
	MUST(fclose(f) == 0);
}

static void streams_case(void)
{
	char line[64], path[] = "/tmp/shoal-net-progs.XXXXXX";
	int fd[2], n;
	FILE *f;

	for (int round = 0; round < 5; round++) {
		MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) == 0);
		shoal_wg_go(&wg, writes_lines, &fd[1], sizeof fd[1]);
		f = fdopen(fd[0], "r");
		for (int i = 0; i < 100; i++)
			MUST(fgets(line, sizeof line, f) && sscanf(line, "line %d", &n) == 1 && n == i);
		MUST(!fgets(line, sizeof line, f) && feof(f));
		MUST(fclose(f) == 0 && fcntl(fd[0], F_GETFD) < 0);
		shoal_wg_wait(&wg);
	}
	n = mkstemp(path);
	f = fdopen(n, "w+");
	for (int i = 0; i < 1000; i++) {
		fprintf(f, "line %d\n", i);
		if (i % 50 == 0)
			shoal_yield();
	}
	rewind(f);
	for (int i = 0; i < 1000; i++)
		MUST(fgets(line, sizeof line, f) && sscanf(line, "line %d", &n) == 1 && n == i);
	fclose(f);
	f = fopen(path, "r");
	MUST(f && fgets(line, sizeof line, f) && !strcmp(line, "line 0\n"));
	n = fileno(f);
	fclose(f);
	MUST(fcntl(n, F_GETFD) < 0);
	unlink(path);
}

static void sleep_case(void)
{
	struct timespec t;
	int64_t t0 = shoal_now();

	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += (t.tv_nsec + 50 * MS) / 1000000000;
	t.tv_nsec = (t.tv_nsec + 50 * MS) % 1000000000;
	MUST(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == 0);
	MUST(shoal_now() - t0 >= 50 * MS);
	MUST(usleep(10000) == 0 && shoal_now() - t0 >= 60 * MS);
	MUST(nanosleep(&(struct timespec){0, -1}, NULL) < 0 && errno == EINVAL);
}

int shoal_main(int argc, char **argv)
{
	static const struct net_case cases[] = {{"names", names_case},	   {"system", system_case},
						{"popen", popen_case},	   {"spawn", spawn_case},
						{"streams", streams_case}, {"sleep", sleep_case}};

	return NET_RUN(argc, argv, cases);
}
