/*
 * load.c - clients that keep a server busy, and the plain server that it is compared with. See load.h.
 *
 * The client is one process with one epoll loop; it is cheaper than any server of the table, but on
 * two processors it takes its share of them, as wrk does.
 */
#include "tests/bench/load.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MESSAGE 64
#define CONNECTIONS_MAX 1000
#define EVENTS 256
#define ANSWER_WAIT_MS 2000

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static struct sockaddr_in local(int port)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void no_delay(int s)
{
	int one = 1;

	setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static int connect_to(int port)
{
	struct sockaddr_in a = local(port);
	int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (s >= 0 && connect(s, (struct sockaddr *)&a, sizeof a) == 0) {
		no_delay(s);
		return s;
	}
	if (s >= 0)
		close(s);
	return -1;
}

static bool send_message(int s)
{
	static const char message[MESSAGE] = "echo";

	return send(s, message, MESSAGE, MSG_NOSIGNAL) == MESSAGE;
}

/* Until the time is over: an answer on each connection, and the next message. How many; -1: one failed. */
static long keep_busy(int ep, size_t got[], const int s[], double until)
{
	struct epoll_event ev[EVENTS];
	char buf[4096];
	long done = 0;

	while (now() < until) {
		int n = epoll_wait(ep, ev, EVENTS, ANSWER_WAIT_MS);

		if (n <= 0)
			return -1;
		for (int i = 0; i < n; i++) {
			unsigned c = ev[i].data.u32;
			ssize_t k = recv(s[c], buf, sizeof buf, 0);

			if (k <= 0)
				return -1;
			got[c] += (size_t)k;
			if (got[c] < MESSAGE)
				continue;
			got[c] -= MESSAGE;
			done++;
			if (!send_message(s[c]))
				return -1;
		}
	}
	return done;
}

double load_echo(int port, int connections, double seconds)
{
	int s[CONNECTIONS_MAX], ep = epoll_create1(EPOLL_CLOEXEC), open = 0;
	size_t got[CONNECTIONS_MAX] = {0};
	double start = 0;
	long done = -1;

	for (; open < connections && open < CONNECTIONS_MAX; open++) {
		struct epoll_event e = {.events = EPOLLIN, .data.u32 = (uint32_t)open};

		s[open] = connect_to(port);
		if (s[open] < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, s[open], &e) < 0 || !send_message(s[open]))
			break;
	}
	if (open == connections && keep_busy(ep, got, s, now() + seconds / 4) >= 0) { /* warms up */
		start = now();
		done = keep_busy(ep, got, s, start + seconds);
	}
	seconds = now() - start;
	while (open > 0)
		close(s[--open]);
	close(ep);
	return done > 0 ? (double)done / seconds : 0;
}

bool load_has_wrk(void)
{
	static int has = -1;

	if (has < 0) {
		has = system("command -v wrk >/dev/null 2>&1") == 0;
		if (!has)
			fprintf(stderr, "bench: no HTTP rows without wrk: apt-get install wrk\n");
	}
	return has;
}

double load_http(int port, int connections, double seconds)
{
	char command[256], line[512];
	double figure = 0;
	FILE *p;

	if (!load_has_wrk())
		return 0;
	snprintf(command, sizeof command, "wrk -t1 -c%d -d%.0fs http://127.0.0.1:%d/", connections, seconds, port);
	p = popen(command, "r");
	while (p && fgets(line, sizeof line, p)) {
		if (strstr(line, "Non-2xx") || strstr(line, "Socket errors"))
			fprintf(stderr, "bench: wrk:%s", line);
		sscanf(line, "Requests/sec: %lf", &figure);
	}
	if (p)
		pclose(p);
	return figure;
}

/* ---- the plain server ---- */

static const char hello[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, world\n";

/* What a connection has sent is answered; false: it is over. A request comes in one piece from these clients. */
static bool answer(int s, bool http)
{
	char buf[8192];
	ssize_t n = recv(s, buf, sizeof buf - 1, 0);

	if (n <= 0)
		return false;
	if (!http)
		return send(s, buf, (size_t)n, MSG_NOSIGNAL) == n;
	buf[n] = '\0';
	return strstr(buf, "\r\n\r\n") && send(s, hello, sizeof hello - 1, MSG_NOSIGNAL) == sizeof hello - 1;
}

static _Noreturn void plain_server(int listener, bool http)
{
	struct epoll_event ev[EVENTS], e = {.events = EPOLLIN | EPOLLEXCLUSIVE, .data.fd = listener};
	int ep = epoll_create1(EPOLL_CLOEXEC);

	epoll_ctl(ep, EPOLL_CTL_ADD, listener, &e);
	e.events = EPOLLIN;
	for (;;) {
		int n = epoll_wait(ep, ev, EVENTS, -1);

		for (int i = 0; i < n; i++) {
			int s = ev[i].data.fd;

			if (s != listener) {
				if (!answer(s, http))
					close(s);
				continue;
			}
			e.data.fd = s = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
			if (s >= 0) {
				no_delay(s);
				epoll_ctl(ep, EPOLL_CTL_ADD, s, &e);
			}
		}
	}
}

int plain_start(bool http, int procs, pid_t pid[], int most)
{
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_in a = local(0);
	socklen_t size = sizeof a;
	pid_t parent = getpid();

	if (listener < 0 || bind(listener, (struct sockaddr *)&a, sizeof a) < 0 || listen(listener, 4096) < 0 ||
	    getsockname(listener, (struct sockaddr *)&a, &size) < 0 || procs > most)
		return 0;
	for (int i = 0; i < procs; i++) {
		pid[i] = fork();
		if (pid[i] == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (getppid() != parent)
				_exit(1);
			plain_server(listener, http);
		}
	}
	close(listener);
	return ntohs(a.sin_port);
}

void plain_stop(pid_t pid[], int procs)
{
	for (int i = 0; i < procs; i++)
		if (pid[i] > 0) {
			kill(pid[i], SIGKILL);
			waitpid(pid[i], NULL, 0);
		}
}
