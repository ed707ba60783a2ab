/*
 * live.c [--seed N] [--runs N] [requests] [modules] [http] - what others hand to the running programs.
 *
 *   requests  lines to the supervisor, with and without descriptors, whole and cut off
 *   modules   files that claim to be modules
 *   http      requests to the web server of tools/examples
 *
 * After each the program must answer as before; at the end it is the same process, no worker has died
 * and the audit is clean. Not after modules: one whose tables are wrong calls what it does not mean to,
 * in the runtime as well. It may crash, as any task, but the supervisor does not.
 */
#include "shm/pass.h"
#include "tests/fuzz/fuzz.h"
#include "tests/outside/outside.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define ROOM 65536
#define PATIENCE_MS 20000

static const struct fuzz_input requests[] = {
	SEED("{\"verb\":\"hello\"}\n"),
	SEED("{\"verb\":\"submit\",\"module\":\"/tmp/none.so\",\"args\":[\"a\",{\"hex\":\"62ff\"}],\"env\":[\"A=b\"],\"attempts\":3,\"tag\":1}\n"),
	SEED("{\"verb\":\"submit\",\"module\":\"MODULE\",\"args\":[\"x\",\"y\"],\"name\":\"n\",\"key\":\"0123\",\"timeout_ns\":1000000000}\n"),
	SEED("{\"verb\":\"wait\",\"ids\":[1,2,3]}\n"),
	SEED("{\"verb\":\"logs\",\"id\":1}\n"),
	SEED("{\"verb\":\"cancel\",\"id\":1,\"now\":true}\n"),
	SEED("{\"verb\":\"tasks\",\"all\":true}\n{\"verb\":\"workers\"}\n"),
	SEED("{\"verb\":\"ps\",\"task\":1}\n{\"verb\":\"stats\"}\n"),
	SEED("{\"verb\":\"check\"}\n"),
	SEED("{\"verb\":\"crash\",\"id\":1}\n"),
	SEED("{\"verb\":\"sched\"}\n{\"verb\":\"info\"}\n"),
	SEED("{\"verb\":\"life\",\"gid\":1}\n"),
	SEED("{\"verb\":\"dump\",\"gid\":1}\n"),
	SEED("{\"verb\":\"procs\",\"n\":2}\n"),
	SEED("{\"verb\":\"trace\",\"on\":true}\n"),
	SEED("{\"verb\":\"own\",\"id\":1}\n"),
	SEED("{\"verb\":\"restart\",\"worker\":1}\n"),
	{NULL, 0}};
static const char *const request_words[] = {"\n",	"\"",	      "{",	  "}",		 "[",
					    "]",	":",	      ",",	  "null",	 "true",
					    "\"verb\"", "\"tag\"",    "\"id\"",	  "\"ids\"",	 "\"gid\"",
					    "\"hex\"",	"\"module\"", "\"args\"", "\"\\u0000\"", "\"\\ud800\"",
					    "\xff",	"\"submit\"", "\"wait\"", "\"dump\"",	 NULL};

static const struct fuzz_input http[] = {SEED("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
					 SEED("GET / HTTP/1.1\r\nConnection: close\r\n\r\n"),
					 SEED("HEAD /static HTTP/1.0\r\n\r\n"),
					 SEED("GET /a/../../etc/passwd HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n"),
					 SEED("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"),
					 {NULL, 0}};
static const char *const http_words[] = {"\r\n",
					 "\r\n\r\n",
					 " ",
					 "/",
					 "..",
					 "%2e",
					 "%00",
					 "HTTP/1.1",
					 "Connection: close",
					 "Content-Length: -1",
					 "Transfer-Encoding: chunked",
					 ":",
					 "\n",
					 NULL};

static const char *const no_words[] = {NULL};

static const char *build;
static char dir[32], text[1 << 16], module[4096];
static unsigned failures;
static uint64_t seed = 1, runs;

static void failed(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	printf("FAILED: ");
	vprintf(fmt, ap);
	putchar('\n');
	va_end(ap);
	failures++;
}

static int sh(const char *fmt, ...)
{
	va_list ap;
	int code;

	va_start(ap, fmt);
	code = outside_sh(text, sizeof text, fmt, ap);
	va_end(ap);
	return code;
}

static long figure(const char *verb, const char *key)
{
	return sh("timeout 30 %s/shoal %s --json 2>&1", build, verb) ? -1 : outside_number(text, key, -1);
}

/* Keeps what was sent, to find the reason of a failure. */
static void keep(const char *what, const uint8_t *data, size_t n)
{
	char path[4200];
	int fd;

	snprintf(path, sizeof path, "%s/log/fuzz-live.%s", build, what);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd >= 0 && write(fd, data, n) == (ssize_t)n)
		printf("the last input is in %s\n", path);
	if (fd >= 0)
		close(fd);
}

/* ---- requests ---- */

static int to_supervisor(void)
{
	char path[64];

	snprintf(path, sizeof path, "%s/s", dir);
	return outside_connect(path);
}

static bool send_with(int s, const uint8_t *data, size_t n, unsigned nfds)
{
	int fd[4] = {0, 1, 2, s};

	return sh_pass_send(s, data, n, fd, (int)nfds, MSG_DONTWAIT) >= 0;
}

/* It still takes requests and answers them. */
static bool answers(void)
{
	static const char hello[] = "{\"verb\":\"hello\"}\n";
	int s = to_supervisor();
	char c = 0;
	bool good;

	if (s < 0)
		return false;
	good = send(s, hello, sizeof hello - 1, MSG_NOSIGNAL) > 0 &&
	       poll(&(struct pollfd){s, POLLIN, 0}, 1, PATIENCE_MS) == 1 && recv(s, &c, 1, 0) == 1 && c == '{';
	close(s);
	return good;
}

/* A number of Ps by chance may be any; a task that the module was given may run. */
static void part_requests(void)
{
	static struct fuzz_input seeds[sizeof requests / sizeof *requests];
	uint64_t n = runs ? runs : 3000;
	static uint8_t data[ROOM];
	static char submit[8192];

	memcpy(seeds, requests, sizeof seeds);
	snprintf(submit, sizeof submit,
		 "{\"verb\":\"submit\",\"module\":\"%s\",\"args\":[\"x\",\"y\"],\"name\":\"n\",\"key\":\"0123\"}\n",
		 module);
	seeds[2] = (struct fuzz_input){submit, strlen(submit)};
	for (uint64_t i = 0; i < n; i++) {
		int s = to_supervisor();
		size_t len;

		fuzz_begin(seed + i);
		len = fuzz_make(seeds, request_words, data, ROOM);
		if (memmem(data, len, "stop", 4))
			memcpy(memmem(data, len, "stop", 4), "spot", 4);
		if (s < 0 || !send_with(s, data, len ? len : 1, fuzz_random() % 8 ? 0 : 1 + fuzz_random() % 4)) {
			failed("requests: no connection, run %lu", (unsigned long)i);
			break;
		}
		if (fuzz_random() % 4 == 0)
			shutdown(s, SHUT_WR);
		if (fuzz_random() % 4) /* else it goes before the answer comes */
			poll(&(struct pollfd){s, POLLIN, 0}, 1, 1);
		close(s);
		if (i % 16 == 15 && !answers()) {
			failed("requests: no answer any more, at run %lu", (unsigned long)i);
			keep("request", data, len);
			break;
		}
	}
	printf("requests: %lu, from seed %lu\n", (unsigned long)n, (unsigned long)seed);
}

/* ---- modules ---- */

static size_t read_all(const char *name, uint8_t *to, size_t room)
{
	FILE *f = fopen(name, "re");
	size_t n = f ? fread(to, 1, room, f) : 0;

	if (f)
		fclose(f);
	return n;
}

/* Headers and the tables that a loader reads, in the first page; of code and data only where they are. */
static void damage_elf(uint8_t *data, size_t n)
{
	for (uint64_t times = 1 + fuzz_random() % 6; times; times--) {
		size_t span = fuzz_random() % 2 ? 0x400 : 0x1000, at = fuzz_random() % (span < n ? span : n);

		if (fuzz_random() % 2)
			data[at] ^= (uint8_t)(1u << fuzz_random() % 8);
		else
			memset(data + at, (int)fuzz_random(), n - at < 8 ? n - at : 1 + fuzz_random() % 8);
	}
}

static void part_modules(void)
{
	uint64_t n = runs ? runs : 60, codes[256] = {0};
	static uint8_t whole[1 << 20], data[1 << 20];
	size_t size = read_all(module, whole, sizeof whole);
	char name[64];

	for (uint64_t i = 0; i < n && size; i++) {
		size_t len = size;
		FILE *f;
		int code;

		fuzz_begin(seed + i);
		memcpy(data, whole, size);
		if (fuzz_random() % 8 == 0)
			len = fuzz_damage(no_words, data, size, sizeof data);
		else
			damage_elf(data, len);
		snprintf(name, sizeof name, "%s/m%lu.so", dir, (unsigned long)i);
		f = fopen(name, "we");
		if (!f || fwrite(data, 1, len, f) != len || fclose(f)) {
			failed("modules: %s cannot be written", name);
			return;
		}
		/* It may run, whatever it is now: a crash, an end by time, a code. Never a failure of ours. */
		code = sh("timeout -s KILL 40 %s/shoal run --timeout 2s %s x y 2>&1", build, name);
		code = code >= 0 && code < 256 ? code : 255;
		codes[code]++;
		if (code == 125 || code == 255 || code == 3 || !answers()) {
			failed("modules: exit code %d for %s: %.300s", code, name, text);
			keep("module", data, len);
			return;
		}
		unlink(name);
	}
	printf("modules: %lu, from seed %lu; not loadable %lu, without entry %lu, ran %lu, crashed %lu\n",
	       (unsigned long)n, (unsigned long)seed, (unsigned long)codes[126], (unsigned long)codes[127],
	       (unsigned long)codes[0],
	       (unsigned long)(codes[139] + codes[135] + codes[132] + codes[134] + codes[136]));
}

/* ---- http ---- */

static int to_server(int port)
{
	struct sockaddr_in a = {
		.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (s >= 0 && connect(s, (struct sockaddr *)&a, sizeof a) == 0)
		return s;
	if (s >= 0)
		close(s);
	return -1;
}

static bool serves(int port)
{
	static const char get[] = "GET / HTTP/1.1\r\nConnection: close\r\n\r\n";
	int s = to_server(port);
	char buf[16] = "";
	bool good;

	if (s < 0)
		return false;
	good = send(s, get, sizeof get - 1, MSG_NOSIGNAL) > 0 &&
	       poll(&(struct pollfd){s, POLLIN, 0}, 1, PATIENCE_MS) == 1 && recv(s, buf, 12, MSG_WAITALL) == 12 &&
	       memcmp(buf, "HTTP/1.1 200", 12) == 0;
	close(s);
	return good;
}

static int start_server(long *id)
{
	int port = 0;

	if (sh("timeout 30 %s/shoal submit %s/examples/httpd.so --port 0 2>&1", build, build))
		return 0;
	*id = atol(text);
	for (int tries = 0; tries < 100 && !port; tries++) {
		nanosleep(&(struct timespec){0, 50000000}, NULL);
		sh("timeout 30 %s/shoal logs %ld 2>/dev/null", build, *id);
		sscanf(text, "http://127.0.0.1:%d/", &port);
	}
	return port;
}

static void part_http(void)
{
	uint64_t n = runs ? runs : 2000;
	static uint8_t data[ROOM];
	long id = 0;
	int port = start_server(&id);

	if (!port)
		failed("http: the server does not say its port: %.200s", text);
	for (uint64_t i = 0; i < n && port; i++) {
		int s = to_server(port);
		size_t len;
		uint8_t *bad;

		fuzz_begin(seed + i);
		len = fuzz_make(http, http_words, data, ROOM);
		while ((bad = memmem(data, len, "/crash", 6)) || (bad = memmem(data, len, "/spin", 5)))
			bad[1] = 'x'; /* these two would really crash and spin */
		if (s >= 0 && send(s, data, len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno != EPIPE &&
		    errno != ECONNRESET)
			failed("http: send: %s", strerror(errno));
		if (fuzz_random() % 4 == 0)
			shutdown(s, SHUT_WR);
		if (fuzz_random() % 4)
			poll(&(struct pollfd){s, POLLIN, 0}, 1, 1);
		close(s);
		if (s < 0 || (i % 32 == 31 && !serves(port))) {
			failed("http: no service any more, at run %lu", (unsigned long)i);
			keep("http", data, len);
			break;
		}
	}
	sh("timeout 30 %s/shoal cancel %ld 2>&1; timeout 30 %s/shoal wait %ld 2>&1", build, id, build, id);
	printf("http: %lu, from seed %lu\n", (unsigned long)n, (unsigned long)seed);
}

/* ---- all ---- */

static bool chosen(int argc, char **argv, const char *part)
{
	for (int i = optind; i < argc; i++)
		if (strcmp(argv[i], part) == 0)
			return true;
	return optind >= argc;
}

static void start(void)
{
	char path[64];

	strcpy(dir, "/tmp/shoal-fuzz.XXXXXX");
	if (!mkdtemp(dir))
		exit(2);
	snprintf(path, sizeof path, "%s/s", dir);
	setenv("SHOAL_SOCKET", path, 1);
	setenv("SHOAL_DEBUG", "nodelay", 1);
	if (sh("timeout 30 %s/shoal start --procs 2 --memory 1G 2>&1", build)) {
		printf("no supervisor: %s", text);
		exit(1);
	}
}

static void stop(long pid)
{
	if (figure("info", "pid") != pid)
		failed("it is another supervisor, or none");
	if (sh("timeout 60 %s/shoal stop --now 2>&1", build))
		failed("stop: %.300s", text);
	if (!failures)
		sh("rm -rf %s", dir);
}

static void with_audit(int argc, char **argv)
{
	long pid, deaths;

	start();
	pid = figure("info", "pid");
	if (chosen(argc, argv, "requests"))
		part_requests();
	if (chosen(argc, argv, "http"))
		part_http();
	deaths = figure("stats", "worker_deaths");
	if (deaths)
		failed("%ld workers have died", deaths);
	if (sh("timeout 60 %s/shoal check 2>&1", build))
		failed("check: %.300s", text);
	stop(pid);
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{"seed", required_argument, NULL, 's'}, {"runs", required_argument, NULL, 'r'}, {NULL, 0, NULL, 0}};
	char path[4200];
	int c;

	build = getenv("SHOAL_BUILD") ? getenv("SHOAL_BUILD") : "build";
	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1)
		if (c == 's')
			seed = strtoull(optarg, NULL, 0);
		else if (c == 'r')
			runs = strtoull(optarg, NULL, 0);
		else
			return 2;
	signal(SIGPIPE, SIG_IGN);
	snprintf(path, sizeof path, "%s/tests/modules/storm/task.so", build);
	if (!realpath(path, module)) {
		perror(path);
		return 2;
	}
	if (chosen(argc, argv, "requests") || chosen(argc, argv, "http"))
		with_audit(argc, argv);
	if (chosen(argc, argv, "modules")) {
		start();
		pid_t pid = (pid_t)figure("info", "pid");
		part_modules();
		stop(pid);
	}
	printf("tests: %d passed, %u failed\n", failures ? 0 : 1, failures);
	return failures ? 1 : 0;
}
