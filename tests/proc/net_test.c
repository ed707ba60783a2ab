/* net_test.c - calls that park, system calls, and connections when workers die. */
#include "tests/proc/proc.h"

#include <arpa/inet.h>
#include <errno.h>
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>

#define NET_TEST(name, ...) Test(net, name, .init = start, .fini = stop, .timeout = TEST_S, ##__VA_ARGS__)

static void runs(const char *module, const char *what)
{
	cr_expect_eq(sh("timeout 30 build/shoal run build/tests/modules/%s.so %s 2>&1", module, what), 0, "%s: %s",
		     what, text);
	cr_expect_not_null(strstr(text, "ok\n"), "%s: %s", what, text); /* beside what was refused, in words */
}

NET_TEST(system_calls_give_the_p_away)
{
	static const char *const cases[] = {"errno", "share", "many"};

	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++)
		runs("net/syscall", cases[i]);
	cr_expect_geq(count_in("workers", "workers", "status", NULL), 12u, "more workers were cloned: %s", text);
}

NET_TEST(each_call_is_tried_first)
{
	static const char *const cases[] = {"polled", "packets", "rights", "urgent",
					    "edges",  "at_once", "waits",  "timeout"};

	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++)
		runs("net/try", cases[i]);
}

NET_TEST(close_ends_each_call_that_is_blocked)
{
	static const char *const cases[] = {"all", "race", "replaced"};

	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++)
		runs("net/close", cases[i]);
}

NET_TEST(times_are_kept)
{
	runs("net/times", "huge");
	runs("net/times", "precise");
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/net/times.so nothing 2>&1"), 2, "%s", text);
	cr_expect_not_null(strstr(text, "all goroutines are asleep - deadlock!"), "%s", text);
}

NET_TEST(names_streams_and_programs_act_like_in_a_process)
{
	static const char *const cases[] = {"names", "sleep", "streams", "system", "popen"};

	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++)
		runs("net/progs", cases[i]);
	cr_expect_eq(sh("timeout 30 build/shoal run build/tests/modules/net/progs.so spawn 2>&1"), 0, "%s", text);
	cr_expect_str_eq(text, "from the program\nok\n", "%s", text);
}

/* In the kernel as well, and without the death of a worker; the end of the task gets them out, too. */
NET_TEST(calls_that_block_are_cancelled)
{
	runs("net/cancel", "all 3");
	sh("mkfifo %s/fifo; cat >%s/b.c <<'E'\n#include <shoal.h>\n#include <fcntl.h>\n#include <stddef.h>\n"
	   "static void f(void *a) { for (;;) open(a, O_RDONLY); }\n"
	   "int shoal_main(int c, char **v) { shoal_go(f, v[1], 100); shoal_sleep(10000000); return 0; }\nE",
	   dir, dir);
	cr_expect_eq(sh("timeout 20 build/shoal run %s/b.c %s/fifo 2>&1", dir, dir), 0, "%s", text);
	cr_expect_eq(number_in("stats", "worker_deaths"), 0);
}

/* One FILE, many goroutines on two workers. */
NET_TEST(a_stdio_stream_has_one_user_at_a_time)
{
	static const char *const cases[] = {"file", "socket", "locks", "reopen"};
	char end[80];

	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++)
		runs("net/streams", cases[i]);
	snprintf(end, sizeof end, "end %s/kept", dir);
	runs("net/streams", end);
	cr_expect_eq(sh("cat %s/kept", dir), 0);
	cr_expect_str_eq(text, "kept too");
}

NET_TEST(posix_calls_in_corner_cases)
{
	static const char *const cases[] = {"flags", "shutdown", "connect",  "rights",
					    "poll",  "copies",	 "language", "fifo"};

	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++)
		runs("net/more", cases[i]);
}

NET_TEST(locks_of_pthreads_park)
{
	static const char *const cases[] = {"mutex", "cond", "rwlock", "barrier", "once", "sem",    "c11",
					    "own",   "own",  "own",    "thread",  "exit", "statics"};

	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++)
		runs("net/locks", cases[i]);
	cr_expect_eq(sh("timeout 10 build/shoal run build/tests/modules/net/locks.so deadlock 2>&1"), 2, "%s", text);
	cr_expect(strstr(text, "all goroutines are asleep") && strstr(text, "[pthread lock]") &&
			  strstr(text, "[sem_wait]"),
		  "%s", text);
}

NET_TEST(rarely_used_calls_work)
{
	static const char *const cases[] = {"sigwait",	"timer",  "sysv",  "mq",   "files",
					    "programs", "limits", "names", "iconv"};

	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++)
		runs("net/calls", cases[i]);
	cr_expect_eq(number_in("stats", "worker_deaths"), 0);
	/* libc calls its own exit inside: of the task, not of the worker, and again and again. */
	for (int i = 0; i < 3; i++) {
		cr_expect_eq(sh("timeout 10 build/shoal run build/tests/modules/net/calls.so err 2>&1"), 3, "%s", text);
		cr_expect_str_eq(text, "calls.so: what: Success\n");
		cr_expect_eq(sh("timeout 10 build/shoal run build/tests/modules/net/calls.so error 2>&1"), 4, "%s",
			     text);
		cr_expect_not_null(strstr(text, "calls.so: what 7: No such file or directory\n"), "%s", text);
		cr_expect_eq(sh("timeout 10 build/shoal run build/tests/modules/net/calls.so _Exit 2>&1"), 5, "%s",
			     text);
	}
	cr_expect_eq(number_in("stats", "worker_deaths"), 0);
}

/* In a network of its own, whose name server is silent. */
NET_TEST(lookups_are_cancelled)
{
	if (sh("unshare -rmn true 2>&1"))
		return;
	sh("echo nameserver 127.0.0.1 >%s/resolv.conf", dir);
	cr_expect_eq(
		sh("timeout 30 unshare -rmn sh -c 'ip link set lo up && mount --bind %s/resolv.conf /etc/resolv.conf && "
		   "build/shoal run --socket %s/alone build/tests/modules/net/calls.so silent' 2>&1",
		   dir, dir),
		0, "%s", text);
	cr_expect_str_eq(text, "ok\n");
}

NET_TEST(signals_and_locks_of_a_process)
{
	static const char *const cases[] = {"signals", "suspend", "masked", "fault", "threads", "stdin"};

	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++)
		runs("net/signal", cases[i]);
	cr_expect_eq(number_in("stats", "worker_deaths"), 0);
	cr_expect_eq(sh("build/shoal run build/tests/modules/net/signal.so term 2>&1"), 128 + SIGTERM);
	cr_expect_not_null(strstr(text, "crashed: SIGTERM"), "%s", text);
	cr_expect_eq(sh("build/shoal run build/tests/modules/net/signal.so alarm 2>&1"), 128 + SIGALRM);
	cr_expect_eq(sh("timeout 10 build/shoal run build/tests/modules/net/signal.so segv 2>&1"), 128 + SIGSEGV, "%s",
		     text);
}

/* Exceptions and statics on goroutines that move; sources that ask for <sched.h>. */
NET_TEST(modules_of_cplusplus)
{
	if (sh("command -v g++"))
		return;
	sh("cat >%s/m.cc <<'E'\n#include <pthread.h>\n#include <shoal.h>\n#include <cstdio>\n#include <mutex>\n"
	   "#include <shared_mutex>\n#include <stdexcept>\n#include <string>\n"
	   "static shoal_wg wg; static int made;\n"
	   "struct S { int v; S() { made++; shoal_sleep(2000000); v = 7; } };\nstatic S &one() { static S s; return s; }\n"
	   "static int deep(int n) { std::string s(100, 'x'); shoal_yield(); if (!n) throw std::runtime_error(\"deep\"); "
	   "return deep(n - 1) + (int)s.size(); }\n"
	   "static std::once_flag once; static int tries; struct D { std::string s; D() : s(50, 'd') {} };\n"
	   "static thread_local D d; static std::shared_mutex sm; static std::timed_mutex tm_;\n"
	   "static void g(void *) { try { std::call_once(once, [] { tries++; shoal_sleep(1000000); "
	   "if (tries == 1) throw std::runtime_error(\"x\"); }); } catch (const std::exception &) { shoal_yield(); } "
	   "std::shared_lock<std::shared_mutex> l(sm); d.s += 'e'; if (d.s.size() < 51 || d.s.size() > 70) std::puts(\"not of this task\"); "
	   "if (tm_.try_lock_for(std::chrono::milliseconds(1))) std::puts(\"taken twice\"); }\n"
	   "static void f(void *) { try { one(); deep(20); } catch (const std::exception &e) { shoal_yield(); "
	   "if (e.what() != std::string(\"deep\") || one().v != 7) std::puts(\"wrong\"); } }\n"
	   "extern \"C\" int shoal_main(int, char **) { for (int i = 0; i < 20; i++) shoal_wg_go(&wg, f, nullptr, 0); "
	   "shoal_wg_wait(&wg); tm_.lock(); for (int i = 0; i < 20; i++) shoal_wg_go(&wg, g, nullptr, 0); shoal_wg_wait(&wg); "
	   "std::printf(\"%%d %%d\\n\", made, tries); return 0; }\nE",
	   dir);
	cr_assert_eq(
		sh("g++ -shared -fPIC -O2 -idirafter core -fstack-protector-all -fstack-clash-protection -o %s/m.so %s/m.cc 2>&1",
		   dir, dir),
		0, "%s", text);
	for (int i = 0; i < 5; i++) {
		cr_expect_eq(sh("timeout 20 build/shoal run %s/m.so 2>&1", dir), 0, "%s", text);
		cr_expect_str_eq(text, "1 2\n");
	}
}

NET_TEST(calls_on_descriptors_park)
{
	static const char *const cases[] = {"pipe",    "much", "nonblock", "close", "readers",
					    "timeout", "poll", "others",   "tcp",   "udp"};

	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++)
		runs("net/basic", cases[i]);
}

/* ---- connections outlive the worker that accepted them ---- */

#define CLIENTS 32
#define KILLS 60

struct client {
	pthread_t thread;
	int port;
	_Atomic unsigned answers, lost;
};
static _Atomic int over;

static int connect_to(int port)
{
	struct sockaddr_in a = {
		.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct timeval tv = {5, 0};
	int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
	if (connect(s, (struct sockaddr *)&a, sizeof a) == 0)
		return s;
	close(s);
	return -1;
}

/* One request on a connection that stays. */
static int ask(int s, const char *path)
{
	char b[1024];
	int n = snprintf(b, sizeof b, "GET %s HTTP/1.1\r\n\r\n", path);
	ssize_t got = 0, k;

	if (send(s, b, (size_t)n, MSG_NOSIGNAL) != n)
		return -1;
	while ((k = recv(s, b + got, sizeof b - 1 - (size_t)got, 0)) > 0) {
		got += k;
		b[got] = 0;
		if (strstr(b, "\r\n\r\n"))
			return atoi(b + 9);
	}
	return -1;
}

/* The page is what text holds. */
static bool same_as_text(int port, const char *path)
{
	static char b[1 << 16];
	size_t got = 0;
	ssize_t k;
	int s = connect_to(port), n = snprintf(b, sizeof b, "GET %s HTTP/1.0\r\n\r\n", path);
	char *body;

	cr_assert_eq(send(s, b, (size_t)n, 0), n);
	while ((k = recv(s, b + got, sizeof b - 1 - got, 0)) > 0)
		got += (size_t)k;
	close(s);
	b[got] = 0;
	body = strstr(b, "\r\n\r\n");
	return k == 0 && body && !strcmp(body + 4, text);
}

static void *client(void *arg)
{
	struct client *c = arg;
	int s = connect_to(c->port);

	while (!over) {
		if (s >= 0 && ask(s, "/") == 200) {
			c->answers++;
		} else {
			c->lost++;
			close(s);
			s = connect_to(c->port);
		}
		usleep(200); /* the pace of this client */
	}
	close(s);
	return NULL;
}

static int start_server(const char *options)
{
	int port = 0;

	cr_assert_eq(sh("build/shoal submit build/examples/httpd.so --port 0 %s", options), 0, "%s", text);
	WAIT_FOR(sh("build/shoal logs 1") == 0 && sscanf(text, "http://127.0.0.1:%d/", &port) == 1);
	return port;
}

/*
 * Sends the request and reads to the end of the connection. Returns the number of bytes; the first of them are in
 * text.
 */
static size_t exchange(int port, const char *request, size_t n)
{
	int s = connect_to(port);
	size_t got = 0, k = 0;
	ssize_t r;

	cr_assert_geq(s, 0);
	while (k < n && (r = send(s, request + k, n - k, MSG_NOSIGNAL)) > 0)
		k += (size_t)r;
	while ((r = recv(s, text + (got < sizeof text - 1 ? got : sizeof text - 2),
			 got < sizeof text - 1 ? sizeof text - 1 - got : 1, 0)) > 0)
		got += (size_t)r;
	text[got < sizeof text - 1 ? got : sizeof text - 1] = 0;
	close(s);
	cr_expect_eq(r, 0, "the connection is not closed in good order: %s", strerror(errno));
	return got;
}

static unsigned count_of(const char *what)
{
	unsigned n = 0;

	for (const char *p = text; (p = strstr(p, what)); p++)
		n++;
	return n;
}

/* Requests as a browser, a scanner or a broken client sends them. */
NET_TEST(requests_of_all_kinds)
{
	static const struct {
		const char *request, *status, *ends;
	} cases[] = {
		{"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", "200 OK", "Hello, world\n"},
		{"GET / HTTP/1.0\r\n\r\n", "200 OK", "Hello, world\n"},
		{"HEAD / HTTP/1.1\r\nConnection: close\r\n\r\n", "200 OK",
		 "Content-Length: 13\r\nConnection: close\r\n\r\n"},
		{"HEAD /static HTTP/1.1\r\nConnection: close\r\n\r\n", "200 OK", "Connection: close\r\n\r\n"},
		{"GET /../etc/passwd HTTP/1.0\r\n\r\n", "404 Not Found", "no such page\n"},
		{"GET /static/../../etc/passwd HTTP/1.0\r\n\r\n", "404 Not Found", "no such page\n"},
		{"POST / HTTP/1.1\r\nContent-Length: 20\r\n\r\nGET / HTTP/1.1\r\n\r\n..", "501 Not Implemented",
		 "are supported\n"},
		{"GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\nGET /", "200 OK", "Hello, world\n"},
		{"GET HTTP/1.1\r\n\r\n", "400 Bad Request", "not HTTP/1.1\n"},
		{"rubbish\r\n\r\n", "400 Bad Request", "not HTTP/1.1\n"},
		{"GET /crash HTTP/1.0\r\n\r\n", "500 Internal", "goroutine crashed, signal 11\n"},
	};
	static char much[1 << 20];
	int port = start_server("--static build/shoald"), n = 0;

	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
		size_t end = strlen(cases[i].ends);

		exchange(port, cases[i].request, strlen(cases[i].request));
		cr_expect(!strncmp(text + 9, cases[i].status, strlen(cases[i].status)) && count_of("HTTP/1.1 ") == 1 &&
				  strlen(text) > end && !strcmp(text + strlen(text) - end, cases[i].ends),
			  "%s: %s", cases[i].request, text);
	}
	memset(much, 'a', sizeof much);
	memcpy(much, "GET / HTTP/1.1\r\nX: ", 19);
	exchange(port, much, sizeof much); /* the answer arrives, although we have not read it all */
	cr_expect_not_null(strstr(text, "431 "), "%s", text);
	exchange(port, "\0\1\2\r\n\r\n", 7);
	cr_expect_not_null(strstr(text, "400 "), "%s", text);
	for (int i = 0; i < 500; i++)
		n += sprintf(much + n, "GET / HTTP/1.1\r\n\r\n");
	n += sprintf(much + n, "GET /x HTTP/1.0\r\n\r\n");
	cr_expect_eq(exchange(port, much, (size_t)n), 500 * 78 + 104, "%zu", strlen(text));
	for (int i = 0; i < 100; i++) /* half a request, then the connection is closed */
		close(({
			int s = connect_to(port);
			send(s, "GET / HT", 8, MSG_NOSIGNAL);
			s;
		}));
	exchange(port, "GET / HTTP/1.0\r\n\r\n", 18);
	cr_expect_not_null(strstr(text, "200 OK"), "%s", text);
	cr_expect_eq(sh("build/shoal check"), 0, "%s", text);
}

NET_TEST(a_server_answers_malformed_requests)
{
	int port = start_server("--static /etc/passwd"), s = connect_to(port);

	cr_expect_eq(ask(s, "/"), 200);
	cr_expect_eq(ask(s, "/nowhere"), 404);
	for (int i = 0; i < 3; i++)
		cr_expect_eq(ask(s, "/crash"), 500, "the connection stays when what it started crashes");
	cr_expect_eq(ask(s, "/spin"), 200);
	cr_expect_eq(ask(s, "/"), 200);
	close(s);
	cr_expect_eq(sh("cat /etc/passwd"), 0);
	cr_expect(same_as_text(port, "/static"));
	cr_expect_eq(count_in("ps", "goroutines", "name", "acceptor"), 2u, "%s", text);
}

/* Each connection has had an answer since it had so many. */
static bool all_answered(struct client *c, unsigned since)
{
	for (unsigned i = 0; i < CLIENTS; i++)
		if (c[i].answers + c[i].lost <= since)
			return false;
	return true;
}

Test(net, connections_outlive_the_worker_that_accepted_them, .init = start_nodelay, .fini = stop, .timeout = TEST_S)
{
	static struct client c[CLIENTS];
	unsigned kills = 0, lost = 0, least = ~0u;
	int port = start_server("");

	over = 0;
	for (unsigned i = 0; i < CLIENTS; i++) {
		c[i].port = port;
		cr_assert_eq(pthread_create(&c[i].thread, NULL, client, &c[i]), 0);
	}
	for (unsigned i = 0; kills < KILLS; i++) {
		WAIT_FOR(all_answered(c, kills));
		kills += kill_worker(i % 2);
	}
	WAIT_FOR(all_answered(c, KILLS + 10));
	over = 1;
	for (unsigned i = 0; i < CLIENTS; i++) {
		pthread_join(c[i].thread, NULL);
		lost += c[i].lost;
		least = c[i].answers < least ? c[i].answers : least;
	}
	fprintf(stderr, "connections: %u workers killed, %u connections lost, at least %u answers on each\n", kills,
		lost, least);
	cr_expect_eq(kills, KILLS);
	cr_expect_leq(lost, kills, "%u lost, %u workers killed: more than what ran there", lost, kills);
	cr_expect_gt(least, 10);
}

/* No worker runs a goroutine when it is killed: then nothing at all is lost. */
NET_TEST(idle_connections_survive_deaths_of_idle_workers)
{
	enum { N = 200 };
	int s[N], port = start_server(""), bad = 0;

	for (int i = 0; i < N; i++) {
		s[i] = connect_to(port);
		bad += ask(s[i], "/") != 200;
	}
	for (unsigned round = 0; round < 4; round++) {
		/* A goroutine that has answered is on its way to its next read. */
		WAIT_FOR(with_status("running") + with_status("runnable") + with_status("syscall") == 0);
		cr_expect(kill_worker(round));
		WAIT_FOR(number_in("stats", "worker_deaths") == (long)round + 1);
		for (int i = 0; i < N; i++)
			bad += ask(s[i], "/") != 200;
	}
	cr_expect_eq(bad, 0);
	for (int i = 0; i < N; i++)
		close(s[i]);
}

/* Descriptors that a task leaves open are closed when it ends. */
NET_TEST(descriptors_of_a_task_are_closed_at_its_end)
{
	int port = start_server(""), s[50];

	for (int i = 0; i < 50; i++) {
		s[i] = connect_to(port);
		cr_expect_eq(ask(s[i], "/"), 200);
	}
	cr_expect_eq(sh("build/shoal cancel 1 && timeout 10 build/shoal wait 1"), 130, "%s", text);
	for (int i = 0; i < 50; i++) {
		char b;

		cr_expect_leq(recv(s[i], &b, 1, 0), 0, "the other end is closed");
		close(s[i]);
	}
	cr_expect_eq(connect_to(port), -1);
}

NET_TEST(an_idle_runtime_uses_no_cpu)
{
	long before, after;
	int port = start_server(""), s = connect_to(port);
	const char *all =
		"s=$(cat $SHOAL_SOCKET.lock); for p in $s $(cat /proc/$s/task/*/children); do cat /proc/$p/stat; done | "
		"awk '{ n += $14 + $15 } END { print n }'";

	cr_expect_eq(ask(s, "/"), 200);
	WAIT_FOR(count_workers() == number_in("info", "workers"));
	do { /* until no process uses CPU for half a second */
		sh("%s", all);
		before = atol(text);
		pass_ms(500);
		sh("%s", all);
	} while (atol(text) != before);
	pass_ms(5000);
	sh("%s", all);
	after = atol(text);
	cr_expect_leq(after - before, 1, "%ld ticks of 10 ms in 5 s", after - before);
	close(s);
}
