/*
 * httpd.c - an HTTP/1.1 server, a goroutine a connection, on plain sockets.
 *
 *   shoal run httpd.so [--port N] [--static FILE] [--acceptors N]
 *
 * /         says hello                     /static   sends FILE
 * /worker   says which worker answers      /spin     loops for 100 ms, without a single call
 * /crash    dereferences NULL, in a goroutine of its own, and tells how that one ended
 *
 * All calls that wait park their goroutine. When a worker is killed its connections go on in the
 * others; only a goroutine that was running there is lost. It has attempts left, so it starts again
 * with its connection, and closes that if a request was under way: the client need not wait.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <shoal.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define REQUEST_MAX 8192
#define FDS 65536
#define SPIN_NS 100000000

static int listener;
static const char *static_file;
static unsigned char busy[FDS]; /* a request of the connection is under way */

static int send_all(int fd, const char *head, size_t n)
{
	return send(fd, head, n, MSG_NOSIGNAL) == (ssize_t)n ? 0 : -1;
}

static int answer(int fd, const char *status, const char *body, int keep)
{
	char text[512];
	int n = snprintf(text, sizeof text, "HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n%s\r\n%s", status,
			 strlen(body), keep ? "" : "Connection: close\r\n", body);

	return send_all(fd, text, (size_t)n);
}

static int say_hello(int fd, int keep)
{
	static const char hello[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, world\n";

	return keep ? send_all(fd, hello, sizeof hello - 1) : answer(fd, "200 OK", "Hello, world\n", 0);
}

static int send_static(int fd, int keep)
{
	int file = static_file ? open(static_file, O_RDONLY | O_CLOEXEC) : -1, r;
	struct stat st;
	char head[256];
	off_t at = 0;

	if (file < 0 || fstat(file, &st) < 0) {
		if (file >= 0)
			close(file);
		return answer(fd, "404 Not Found", "no such file\n", keep);
	}
	r = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %ld\r\n%s\r\n", (long)st.st_size,
		     keep ? "" : "Connection: close\r\n");
	r = send_all(fd, head, (size_t)r);
	while (r == 0 && at < st.st_size)
		if (sendfile(fd, file, &at, (size_t)(st.st_size - at)) <= 0)
			r = -1;
	close(file);
	return r;
}

/* ---- what should not happen to a server ---- */

static void crashes(void *arg)
{
	volatile int *nowhere = NULL;

	(void)arg;
	*nowhere = 1;
}

static int crash(int fd, int keep)
{
	struct shoal_go_opts o = {.name = "crash", .flags = SHOAL_ISOLATED};
	struct shoal_end end = {0};
	char body[96];

	shoal_join(shoal_go_with(&o, crashes, NULL, 0), &end);
	snprintf(body, sizeof body, "goroutine %s, signal %d\n", end.how == SHOAL_CRASHED ? "crashed" : "ended", end.signal);
	return answer(fd, "500 Internal Server Error", body, keep);
}

static void ends_spin(void *arg)
{
	shoal_sleep(SPIN_NS);
	**(volatile int **)arg = 1;
}

static int spin(int fd, int keep)
{
	volatile int *stop = calloc(1, sizeof *stop); /* not on the stack: another goroutine writes it */

	if (!stop || !shoal_go(ends_spin, &stop, sizeof stop)) {
		free((void *)stop);
		return answer(fd, "503 Service Unavailable", "no memory\n", keep);
	}
	while (!*stop)
		;
	free((void *)stop);
	return answer(fd, "200 OK", "spun\n", keep);
}

static int which_worker(int fd, int keep)
{
	char body[32];

	snprintf(body, sizeof body, "%d\n", shoal_worker());
	return answer(fd, "200 OK", body, keep);
}

/* ---- connections ---- */

static int is_path(const char *request, const char *path)
{
	size_t n = strlen(path);
	const char *at = strchr(request, ' ');

	return at && strncmp(at + 1, path, n) == 0 && (at[1 + n] == ' ' || at[1 + n] == '?');
}

static int keeps_alive(const char *request)
{
	const char *end = strstr(request, "\r\n"), *option = strcasestr(request, "\r\nConnection:");

	if (option)
		return strncasecmp(option + 13 + strspn(option + 13, " "), "close", 5) != 0;
	return end && end - request > 8 && strncmp(end - 8, "HTTP/1.1", 8) == 0;
}

/* One request, whole and ended by a 0. Returns -1 when the connection is to be closed. */
static int serve(int fd, const char *request)
{
	int keep = keeps_alive(request), r;

	if (strncmp(request, "GET ", 4) != 0)
		r = answer(fd, "501 Not Implemented", "GET is all we know\n", keep);
	else if (is_path(request, "/"))
		r = say_hello(fd, keep);
	else if (is_path(request, "/static"))
		r = send_static(fd, keep);
	else if (is_path(request, "/worker"))
		r = which_worker(fd, keep);
	else if (is_path(request, "/spin"))
		r = spin(fd, keep);
	else if (is_path(request, "/crash"))
		r = crash(fd, keep);
	else
		r = answer(fd, "404 Not Found", "no such page\n", keep);
	return keep ? r : -1;
}

static void connection(void *arg)
{
	int fd = *(int *)arg, open = !busy[fd]; /* else: we were lost in the middle of a request */
	char buf[REQUEST_MAX + 1], *end;
	size_t have = 0;

	while (open) {
		ssize_t n;

		buf[have] = '\0';
		if ((end = strstr(buf, "\r\n\r\n"))) {
			size_t used = (size_t)(end - buf) + 4;

			end[2] = '\0';
			open = serve(fd, buf) == 0;
			memmove(buf, buf + used, have -= used);
			busy[fd] = have > 0;
			continue;
		}
		if (have == REQUEST_MAX) {
			answer(fd, "431 Request Header Fields Too Large", "too long\n", 0);
			break;
		}
		n = recv(fd, buf + have, REQUEST_MAX - have, 0);
		if (n <= 0)
			break;
		busy[fd] = 1;
		have += (size_t)n;
	}
	busy[fd] = 0;
	close(fd);
}

static void acceptor(void *arg)
{
	struct shoal_go_opts o = {.name = "connection", .attempts = 100, .flags = SHOAL_ISOLATED};
	int one = 1, fd;

	(void)arg;
	for (;;) {
		fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0 && (errno == ECONNABORTED || errno == EMFILE || errno == ENFILE)) {
			shoal_sleep(10000000);
			continue;
		}
		if (fd < 0)
			return;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		if (fd >= FDS || !shoal_go_with(&o, connection, &fd, sizeof fd))
			close(fd);
	}
}

static int listen_on(int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port),
				.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof a;
	int one = 1;

	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (listener < 0 || bind(listener, (struct sockaddr *)&a, sizeof a) < 0 || listen(listener, 4096) < 0 ||
	    getsockname(listener, (struct sockaddr *)&a, &n) < 0)
		return -1;
	return ntohs(a.sin_port);
}

int shoal_main(int argc, char **argv)
{
	static struct shoal_wg wg;
	struct shoal_go_opts o = {.name = "acceptor", .attempts = 10000, .flags = SHOAL_ISOLATED};
	int port = 8080, acceptors = 2;

	for (int i = 1; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "--port"))
			port = atoi(argv[i + 1]);
		else if (!strcmp(argv[i], "--static"))
			static_file = argv[i + 1];
		else if (!strcmp(argv[i], "--acceptors"))
			acceptors = atoi(argv[i + 1]);
	}
	port = listen_on(port);
	if (port < 0) {
		fprintf(stderr, "httpd: %s\n", strerror(errno));
		return 1;
	}
	printf("http://127.0.0.1:%d/\n", port);
	while (acceptors-- > 0)
		shoal_wg_go_with(&wg, &o, acceptor, NULL, 0);
	shoal_wg_wait(&wg);
	return 0;
}
