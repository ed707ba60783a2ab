/*
 * httpd.c - an HTTP/1.1 server on plain sockets, with a goroutine for each connection.
 *
 *   shoal run httpd.so [--port N] [--static FILE] [--acceptors N]
 *
 * /         says hello                     /static   sends FILE
 * /worker   says which worker answers      /spin     computes for 100 ms without a call
 * /crash    dereferences NULL in a goroutine of its own, and reports how that goroutine ended
 *
 * All calls that wait park their goroutine. When a worker is killed, its connections continue on other workers;
 * only the goroutine that it was running is lost. That goroutine has attempts left, so it starts again with its
 * connection, and closes the connection if it was handling a request, so that the client need not wait.
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

#define REQUEST_FIRST 1024
#define REQUEST_MAX 8192
#define FDS 65536
#define SPIN_NS 100000000

static int listener;
static const char *static_file;

/*
 * The state of each connection, by descriptor, where a goroutine that starts again finds it. The buffer is on the
 * heap, and small until a request is long: a connection that waits for a request needs only this and a few hundred
 * bytes of stack.
 */
static struct connection {
	char *buf;
	size_t room;
	int busy;	 /* a request is being handled */
	unsigned serial; /* number of the connection that the descriptor belongs to */
} connections[FDS];

struct accepted {
	int fd;
	unsigned serial;
};

struct request {
	int fd, keep, head; /* head: the answer must have no body */
};

static int send_all(int fd, const char *head, size_t n)
{
	return send(fd, head, n, MSG_NOSIGNAL) == (ssize_t)n ? 0 : -1;
}

static int answer(const struct request *r, const char *status, const char *body)
{
	char text[512];
	int n = snprintf(text, sizeof text,
			 "HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n%s\r\n%s", status,
			 strlen(body), r->keep ? "" : "Connection: close\r\n", r->head ? "" : body);

	return send_all(r->fd, text, (size_t)n);
}

static int say_hello(const struct request *r)
{
	static const char hello[] =
		"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, world\n";

	return r->keep && !r->head ? send_all(r->fd, hello, sizeof hello - 1) : answer(r, "200 OK", "Hello, world\n");
}

static int send_static(const struct request *rq)
{
	int file = static_file ? open(static_file, O_RDONLY | O_CLOEXEC) : -1, r;
	struct stat st;
	char head[256];
	off_t at = 0;

	if (file < 0 || fstat(file, &st) < 0) {
		if (file >= 0)
			close(file);
		return answer(rq, "404 Not Found", "no such file\n");
	}
	r = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %ld\r\n%s\r\n", (long)st.st_size,
		     rq->keep ? "" : "Connection: close\r\n");
	r = send_all(rq->fd, head, (size_t)r);
	while (r == 0 && !rq->head && at < st.st_size)
		if (sendfile(rq->fd, file, &at, (size_t)(st.st_size - at)) <= 0)
			r = -1;
	close(file);
	return r;
}

/* ---- failures on purpose ---- */

static void crashes(void *arg)
{
	volatile int *nowhere = NULL;

	(void)arg;
	*nowhere = 1;
}

static int crash(const struct request *r)
{
	struct shoal_go_opts o = {.name = "crash", .flags = SHOAL_ISOLATED};
	struct shoal_end end = {0};
	char body[96];

	shoal_join(shoal_go_with(&o, crashes, NULL, 0), &end);
	snprintf(body, sizeof body, "goroutine %s, signal %d\n", end.how == SHOAL_CRASHED ? "crashed" : "ended",
		 end.signal);
	return answer(r, "500 Internal Server Error", body);
}

static void ends_spin(void *arg)
{
	shoal_sleep(SPIN_NS);
	**(volatile int **)arg = 1;
}

static int spin(const struct request *r)
{
	volatile int *stop = calloc(1, sizeof *stop); /* on the heap, because another goroutine writes it */

	if (!stop || !shoal_go(ends_spin, &stop, sizeof stop)) {
		free((void *)stop);
		return answer(r, "503 Service Unavailable", "no memory\n");
	}
	while (!*stop)
		;
	free((void *)stop);
	return answer(r, "200 OK", "spun\n");
}

static int which_worker(const struct request *r)
{
	char body[32];

	snprintf(body, sizeof body, "%d\n", shoal_worker());
	return answer(r, "200 OK", body);
}

/* ---- connections ---- */

static int is_path(const char *request, const char *path)
{
	size_t n = strlen(path);
	const char *at = strchr(request, ' ');

	return at && strncmp(at + 1, path, n) == 0 && (at[1 + n] == ' ' || at[1 + n] == '?');
}

/* The body of a request is not read, so the bytes behind it cannot be parsed as the next request. */
static int keeps_alive(const char *request, const char *end)
{
	const char *option = strcasestr(request, "\r\nConnection:");

	if (strcasestr(request, "\r\nContent-Length:") || strcasestr(request, "\r\nTransfer-Encoding:"))
		return 0;
	if (option)
		return strncasecmp(option + 13 + strspn(option + 13, " "), "close", 5) != 0;
	return strncmp(end - 8, "HTTP/1.1", 8) == 0;
}

/* Handles one complete request that ends with '\0'. Returns -1 if the connection must be closed. */
static int serve(int fd, const char *request)
{
	const char *end = strstr(request, "\r\n");
	struct request rq = {fd, 0, strncmp(request, "HEAD ", 5) == 0};
	int r;

	if (!end || end - request < 14 || strncmp(end - 9, " HTTP/1.", 8) != 0) {
		answer(&rq, "400 Bad Request", "this is not HTTP/1.1\n");
		return -1;
	}
	rq.keep = keeps_alive(request, end);
	if (!rq.head && strncmp(request, "GET ", 4) != 0)
		r = answer(&rq, "501 Not Implemented", "only GET and HEAD are supported\n");
	else if (is_path(request, "/"))
		r = say_hello(&rq);
	else if (is_path(request, "/static"))
		r = send_static(&rq);
	else if (is_path(request, "/worker"))
		r = which_worker(&rq);
	else if (is_path(request, "/spin"))
		r = spin(&rq);
	else if (is_path(request, "/crash"))
		r = crash(&rq);
	else
		r = answer(&rq, "404 Not Found", "no such page\n");
	return rq.keep ? r : -1;
}

/* Makes room for more bytes of a request. Returns -1 if there is no memory. */
static int grow(struct connection *c, size_t room)
{
	char *more = room <= REQUEST_MAX ? realloc(c->buf, room + 1) : NULL;

	if (!more)
		return -1;
	c->buf = more;
	c->room = room;
	return 0;
}

/*
 * Reads what is left before it closes: closing with unread bytes would send a reset, and the client might not see
 * the last answer.
 */
static void hang_up(int fd)
{
	struct timeval patience = {2, 0};
	char away[512];

	shutdown(fd, SHUT_WR);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	for (int i = 0; i < 4096 && recv(fd, away, sizeof away, 0) > 0; i++)
		;
}

static void requests(int fd, struct connection *c)
{
	size_t have = 0;
	ssize_t n;
	char *end;

	do {
		c->buf[have] = '\0';
		while ((end = memmem(c->buf, have, "\r\n\r\n", 4))) {
			end[2] = '\0';
			if (serve(fd, c->buf) < 0) {
				hang_up(fd);
				return;
			}
			end += 4;
			have -= (size_t)(end - c->buf);
			memmove(c->buf, end, have + 1);
			c->busy = have > 0;
		}
		if (have == c->room && grow(c, 2 * c->room) < 0) {
			answer(&(struct request){fd, 0, 0}, "431 Request Header Fields Too Large", "too long\n");
			hang_up(fd);
			return;
		}
		n = recv(fd, c->buf + have, c->room - have, 0);
		c->busy = 1;
		have += n > 0 ? (size_t)n : 0;
	} while (n > 0);
}

static void connection(void *arg)
{
	struct accepted *a = arg;
	struct connection *c = &connections[a->fd];
	char *buf;

	if (c->serial != a->serial)
		return; /* the earlier run was lost just before its end */
	if (!c->busy && (c->buf || grow(c, REQUEST_FIRST) == 0))
		requests(a->fd, c);
	else if (c->busy)
		c->buf =
			/*
			 * The earlier run was lost during a request, perhaps while the buffer grew: leave that
			 * memory to the end of the task.
			 */
			NULL;
	buf = c->buf;
	c->buf = NULL;
	c->busy = 0;
	free(buf);
	c->serial++;
	close(a->fd);
}

static void acceptor(void *arg)
{
	struct shoal_go_opts o = {.name = "connection", .attempts = 100, .flags = SHOAL_ISOLATED};
	struct accepted a;
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
		if (fd >= FDS) {
			close(fd);
			continue;
		}
		a = (struct accepted){fd, ++connections[fd].serial};
		if (!shoal_go_with(&o, connection, &a, sizeof a))
			close(fd);
	}
}

static int listen_on(int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_port = htons((unsigned short)port),
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
