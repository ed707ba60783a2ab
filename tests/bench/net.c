/*
 * net.c - the benchmarks of system calls and descriptors: shoal run net.so NAME
 *
 * echo_server prints its port and serves: main.c puts the load on it.
 */
#define _GNU_SOURCE
#define shoal_main httpd_main /* its own entry is not ours */
#include "tools/examples/httpd.c"
#undef shoal_main

#define ROUNDS 5
#define SYSCALLS 1000000
#define RING 64
#define HOPS 100000

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

/* ---- echo_server: until it is cancelled ---- */

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

static int echo_server(void)
{
	int port = listen_on(0);

	if (port < 0)
		give_up("listen");
	printf("port %d\n", port);
	echo_acceptor(NULL);
	return 0;
}

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
	} all[] = {{"syscall", syscall_round}, {"pipe_ring", pipe_ring_round}};
	double ns[ROUNDS];

	if (argc == 2 && strcmp(argv[1], "echo_server") == 0)
		return echo_server();

	for (unsigned i = 0; argc == 2 && i < sizeof all / sizeof *all; i++) {
		if (strcmp(argv[1], all[i].name) != 0)
			continue;
		all[i].round();
		for (int k = 0; k < ROUNDS; k++)
			ns[k] = all[i].round();
		qsort(ns, ROUNDS, sizeof *ns, compare);
		printf("%s %.2f\n", all[i].name, ns[ROUNDS / 2]);
		return 0;
	}
	fprintf(stderr, "bench: one of syscall, pipe_ring, echo_server\n");
	return 2;
}
