/*
 * net.c - the benchmarks of system calls and descriptors: shoal run net.so NAME
 *
 * The client of the TCP rows is a thread with an epoll loop that keeps every connection busy, as a
 * load generator in a process of its own would: it is no goroutine and takes no P. Figures are ns a
 * request, over all connections.
 */
#define _GNU_SOURCE
#define shoal_main httpd_main /* its own entry is not ours */
#include "tools/examples/httpd.c"
#undef shoal_main

#include <pthread.h>
#include <sys/epoll.h>

#define ROUNDS 5
#define SYSCALLS 1000000
#define RING 64
#define HOPS 100000
#define LOAD_NS 1000000000
#define CONNS_MAX 1000

static _Noreturn void give_up(const char *what)
{
	fprintf(stderr, "bench: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* ---- syscall: one that finds at once that there is nothing to do ---- */

static double syscall_round(void)
{
	int64_t t0 = shoal_now();

	for (int i = 0; i < SYSCALLS; i++)
		fsync(-1);
	return (double)(shoal_now() - t0) / SYSCALLS;
}

/* ---- pipe_ring: each blocks in a read, one has the token ---- */

static int ring[RING][2];
static int laps;
static struct shoal_wg ring_wg;

static void ring_member(void *arg)
{
	int i = *(int *)arg;
	char token;

	for (int n = 0; n < laps; n++) {
		if (read(ring[i][0], &token, 1) != 1)
			give_up("read");
		if (write(ring[(i + 1) % RING][1], &token, 1) != 1)
			give_up("write");
	}
}

static double pipe_ring_round(void)
{
	int64_t t0;

	laps = HOPS / RING;
	for (int i = 0; i < RING; i++)
		if (!ring[i][1] && pipe(ring[i]) < 0)
			give_up("pipe");
	for (int i = 0; i < RING; i++)
		shoal_wg_go(&ring_wg, ring_member, &i, sizeof i);
	shoal_sleep(10000000);
	t0 = shoal_now();
	if (write(ring[0][1], "x", 1) != 1)
		give_up("write");
	shoal_wg_wait(&ring_wg);
	t0 = shoal_now() - t0;
	if (read(ring[0][0], &laps, 1) != 1) /* the last one passed it on */
		give_up("read");
	return (double)t0 / (HOPS / RING * RING);
}

/* ---- the client ---- */

static struct load {
	int port, conns;
	const char *request;
	size_t size, answer;
	uint64_t requests;
	int64_t ns;
	int done; /* eventfd-like pipe: who waits for it parks */
} load;

static int64_t clock_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000l + t.tv_nsec;
}

static void *client(void *arg)
{
	static size_t got[FDS];
	struct load *l = arg;
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)l->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct epoll_event e, ev[256];
	int ep = epoll_create1(EPOLL_CLOEXEC), fd[CONNS_MAX], one = 1;
	int64_t t0, now;
	char buf[65536];

	for (int i = 0; i < l->conns; i++) {
		fd[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd[i] < 0 || fd[i] >= FDS || connect(fd[i], (struct sockaddr *)&a, sizeof a) < 0)
			give_up("connect");
		setsockopt(fd[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		e = (struct epoll_event){.events = EPOLLIN, .data.fd = fd[i]};
		epoll_ctl(ep, EPOLL_CTL_ADD, fd[i], &e);
		got[fd[i]] = 0;
	}
	t0 = now = clock_ns();
	for (int i = 0; i < l->conns; i++)
		send(fd[i], l->request, l->size, 0);
	while (now - t0 < LOAD_NS) {
		int n = epoll_wait(ep, ev, 256, 1000);

		for (int i = 0; i < n; i++) {
			int s = ev[i].data.fd;
			ssize_t k = recv(s, buf, sizeof buf, 0);

			if (k <= 0)
				give_up("recv");
			got[s] += (size_t)k;
			if (got[s] < l->answer)
				continue;
			got[s] -= l->answer;
			l->requests++;
			send(s, l->request, l->size, 0);
		}
		now = clock_ns();
	}
	l->ns = now - t0;
	for (int i = 0; i < l->conns; i++)
		close(fd[i]);
	close(ep);
	if (write(l->done, "", 1) != 1)
		give_up("write");
	return NULL;
}

static double put_load_on(int port, int conns, const char *request, size_t size, size_t answer_size)
{
	pthread_t thread;
	int done[2];
	char b;

	if (pipe(done) < 0)
		give_up("pipe");
	load = (struct load){port, conns, request, size, answer_size, 0, 0, done[1]};
	shoal_pin(); /* the thread belongs to this worker */
	if (pthread_create(&thread, NULL, client, &load) != 0 || read(done[0], &b, 1) != 1)
		give_up("client");
	pthread_join(thread, NULL);
	shoal_unpin();
	close(done[0]);
	close(done[1]);
	return (double)load.ns / (double)load.requests;
}

/* ---- echo: 64 bytes there and back; http: httpd's hello ---- */

static void echo(void *arg)
{
	int s = *(int *)arg;
	char b[64];
	ssize_t n;

	while ((n = recv(s, b, sizeof b, 0)) > 0 && send(s, b, (size_t)n, 0) == n)
		;
	close(s);
}

static void echo_acceptor(void *arg)
{
	int s, one = 1;

	(void)arg;
	while ((s = accept(listener, NULL, NULL)) >= 0) {
		setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		shoal_go(echo, &s, sizeof s);
	}
}

static double serve_load(void (*accepts)(void *), int conns, const char *request, size_t size, size_t answer_size)
{
	static int port;

	if (!port && ((port = listen_on(0)) < 0 || !shoal_go(accepts, NULL, 0)))
		give_up("listen");
	return put_load_on(port, conns, request, size, answer_size);
}

static double echo_load(int conns)
{
	static const char message[64] = "echo";

	return serve_load(echo_acceptor, conns, message, sizeof message, sizeof message);
}

static double http_load(int conns)
{
	static const char request[] = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";

	return serve_load(acceptor, conns, request, sizeof request - 1, 77);
}

static double echo_1(void)
{
	return echo_load(1);
}

static double echo_64(void)
{
	return echo_load(64);
}

static double echo_1000(void)
{
	return echo_load(CONNS_MAX);
}

static double http_64(void)
{
	return http_load(64);
}

static double http_1000(void)
{
	return http_load(CONNS_MAX);
}

/* ---- */

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

int shoal_main(int argc, char **argv); /* shoal.h has declared the other one under this name */
int shoal_main(int argc, char **argv)
{
	static const struct {
		const char *name;
		double (*round)(void);
		int rounds;
	} all[] = {{"syscall", syscall_round, ROUNDS}, {"pipe_ring", pipe_ring_round, ROUNDS}, {"echo_1", echo_1, 1},
		   {"echo_64", echo_64, 3}, {"echo_1000", echo_1000, 3}, {"http_64", http_64, 3}, {"http_1000", http_1000, 3}};
	double ns[ROUNDS];

	for (unsigned i = 0; argc == 2 && i < sizeof all / sizeof *all; i++) {
		if (strcmp(argv[1], all[i].name) != 0)
			continue;
		all[i].round();
		for (int k = 0; k < all[i].rounds; k++)
			ns[k] = all[i].round();
		qsort(ns, (size_t)all[i].rounds, sizeof *ns, compare);
		printf("%s %.2f\n", all[i].name, ns[all[i].rounds / 2]);
		return 0;
	}
	fprintf(stderr, "bench: one of syscall, pipe_ring, echo_1, echo_64, echo_1000, http_64, http_1000\n");
	return 2;
}
