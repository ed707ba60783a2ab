/*
 * conn.c - the connection to the supervisor. Both sides send one JSON object on each line; descriptors are sent
 * with the first byte of the line that they belong to.
 */
#include "shm/pass.h"
#include "tools/shoal/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define HELLO_MS 5000
#define HELLO_MAX 65536
#define AGAIN_MS 20
#define NEXT_SUPERVISOR_MS 10000 /* how long verbs without waits_for_next wait for a new supervisor */
#define LINE_MAX_BYTES (1ul << 30)

static char *chosen;

void socket_use(char *other)
{
	chosen = other;
}

const char *socket_path(void)
{
	if (chosen)
		return chosen;
	const char *env = getenv("SHOAL_SOCKET"), *run = getenv("XDG_RUNTIME_DIR");
	if (cli.socket)
		chosen = absolute(cli.socket);
	else if (env && *env)
		chosen = absolute(env);
	else if (run && *run)
		chosen = format("%s/shoal/default.sock", run);
	else {
		/* Any user can make this folder in /tmp, so it must belong to this user and be writable by no other. */
		char *folder = format("/tmp/shoal-%u", (unsigned)geteuid());
		struct stat st;
		if (lstat(folder, &st) == 0 && (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 022)))
			fail(EXIT_NOT_PERMITTED,
			     "%s belongs to another user, or others can write to it: remove it, or use --socket",
			     folder);
		chosen = format("%s/default.sock", folder);
		free(folder);
	}
	return chosen;
}

/* A path that is too long for sun_path is opened by way of /proc/self/fd and its folder. */
static int connect_to(int fd, const char *path)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int folder = -1;
	if (strlen(path) < sizeof(sa.sun_path)) {
		strcpy(sa.sun_path, path);
	} else {
		const char *slash = strrchr(path, '/');
		char *dir = format("%.*s", (int)(slash - path), path);
		folder = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
		free(dir);
		if (folder < 0)
			return -1;
		int n = snprintf(sa.sun_path, sizeof(sa.sun_path), "/proc/self/fd/%d/%s", folder, slash + 1);
		if (n >= (int)sizeof(sa.sun_path)) {
			close(folder);
			errno = ENAMETOOLONG;
			return -1;
		}
	}
	int rc, tries = 0;
	/* EAGAIN: the queue of waiting connections is full. */
	while ((rc = connect(fd, (struct sockaddr *)&sa, sizeof(sa))) < 0 && (errno == EAGAIN || errno == EINTR) &&
	       tries++ < HELLO_MS / 10)
		usleep(10000);
	int e = errno;
	if (folder >= 0)
		close(folder);
	errno = e;
	return rc;
}

/* ---- after the death of a supervisor ---- */

/* As long as the keeper accepts connections, a new supervisor can adopt the runtime. */
bool conn_orphaned(void)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int n = snprintf(sa.sun_path, sizeof(sa.sun_path), "%s.keeper", socket_path());
	int fd = n < (int)sizeof(sa.sun_path) ? socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0) : -1;
	bool there = fd >= 0 && connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0;
	if (fd >= 0)
		close(fd);
	return there;
}

static bool say_hello(struct conn *c, const char *path);

bool conn_reconnect(struct conn *c, void (*meanwhile)(void *), void *arg)
{
	bool reported = false;
	for (int tries = 0;; tries++) {
		conn_close(c);
		if (conn_try(c, socket_path()))
			return true;
		if (!conn_orphaned())
			return false;
		if (tries * AGAIN_MS > NEXT_SUPERVISOR_MS && cli.verb && !cli.verb->waits_for_next)
			fail(EXIT_NO_SUPERVISOR,
			     "no supervisor at %s; its tasks continue (start one with: shoal start)", socket_path());
		if (tries * AGAIN_MS > 1000 && !reported) {
			say("the supervisor died: waiting for the next one (start it with: shoal start)");
			reported = true;
		}
		if (meanwhile)
			meanwhile(arg);
		usleep(AGAIN_MS * 1000);
		if (interrupted())
			exit(EXIT_CANCELLED);
	}
}

/* Returns false if the supervisor died before it answered. */
static bool say_hello(struct conn *c, const char *path)
{
	conn_send(c, request("hello"), -1);
	json_t *reply = conn_reply(c, HELLO_MS);
	if (!reply && interrupted())
		exit(EXIT_CANCELLED);
	if (!reply && errno == EPIPE && conn_orphaned())
		return false;
	if (!reply)
		fail(EXIT_NO_SUPERVISOR, "no supervisor at %s: %s", path,
		     errno == ETIMEDOUT ? "it does not answer"
		     : errno == EPIPE	? "it closed the connection"
					: "another program answers");
	if (json_object_get(reply, "error"))
		reply_check(reply);
	if (get_int(reply, "shoal", 0) != 1)
		fail(EXIT_NO_SUPERVISOR, "no supervisor at %s: another program answers, or another version of shoald",
		     path);
	c->pid = (pid_t)get_int(reply, "pid", 0);
	json_decref(reply);
	return true;
}

bool conn_try(struct conn *c, const char *path)
{
	memset(c, 0, sizeof(*c));
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c->fd < 0)
		fail(failure_code(), "cannot make a socket: %s", strerror(errno));
	if (connect_to(c->fd, path) < 0) {
		struct stat st;
		int e = errno;
		close(c->fd);
		c->fd = -1;
		bool no_socket = stat(path, &st) == 0 && !S_ISSOCK(st.st_mode);
		if ((e == ENOENT || e == ENOTDIR || e == ECONNREFUSED) && !no_socket)
			return false;
		if (e == EACCES || e == EPERM)
			fail(EXIT_NOT_PERMITTED, "%s: %s", path, strerror(e));
		fail(EXIT_NO_SUPERVISOR, "no supervisor at %s: %s", path,
		     no_socket ? "it is not a socket" : strerror(e));
	}
	if (say_hello(c, path))
		return true;
	conn_close(c);
	return false;
}

/*
 * The kernel says which process made the socket, by its number in our PID namespace. The number in the supervisor's
 * answer may be of another namespace.
 */
pid_t conn_peer(const struct conn *c)
{
	struct ucred peer;
	socklen_t n = sizeof(peer);
	return getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0 && peer.pid > 0 ? peer.pid : 0;
}

void conn_open(struct conn *c)
{
	if (!conn_try(c, socket_path()) && !conn_reconnect(c, NULL, NULL))
		fail(EXIT_NO_SUPERVISOR, "no supervisor at %s (start one with: shoal start)", socket_path());
}

void conn_close(struct conn *c)
{
	while (c->nfds)
		close(c->fds[--c->nfds]);
	if (c->fd >= 0)
		close(c->fd);
	free(c->buf);
	*c = (struct conn){.fd = -1};
}

void conn_send(struct conn *c, json_t *object, int fd)
{
	char *text = must(json_dumps(object, JSON_COMPACT));
	size_t len = strlen(text), at = 0;
	json_decref(object);
	text[len++] = '\n'; /* replaces the final '\0'; len counts bytes from here on */
	while (at < len) {
		ssize_t n = sh_pass_send(c->fd, text + at, len - at, &fd, at == 0 && fd >= 0, 0);
		if (n > 0) {
			at += (size_t)n;
		} else if (errno == EAGAIN) {
			struct pollfd p = {.fd = c->fd, .events = POLLOUT};
			poll(&p, 1, 1000);
		} else if (errno != EINTR) {
			/*
			 * The supervisor may have sent a reason before it closed the connection: conn_reply
			 * returns it.
			 */
			break;
		}
		if (interrupted())
			exit(EXIT_CANCELLED);
	}
	free(text);
}

/* Reads the bytes that have arrived. Returns 1, 0 if the connection is closed, or -1 and errno. */
static int fill(struct conn *c)
{
	if (c->cap - c->len < 65536)
		c->buf = must(realloc(c->buf, c->cap = c->cap * 2 + 65536));
	int nfds;
	ssize_t n = sh_pass_receive(c->fd, c->buf + c->len, c->cap - c->len, c->fds + c->nfds,
				    (int)(sizeof(c->fds) / sizeof(c->fds[0])) - c->nfds, &nfds, 0);
	if (n <= 0)
		return (int)n;
	c->nfds += nfds;
	c->len += (size_t)n;
	return 1;
}

/* Returns the next complete line. NULL and EAGAIN: none yet; EPROTO: it is not a JSON object. */
static json_t *next_line(struct conn *c)
{
	char *end = c->len > c->seen ? memchr(c->buf + c->seen, '\n', c->len - c->seen) : NULL;
	if (!end) {
		c->seen = c->len;
		errno = c->len > (c->pid ? LINE_MAX_BYTES : HELLO_MAX) ? EPROTO : EAGAIN;
		return NULL;
	}
	json_t *object = json_loadb(c->buf, (size_t)(end - c->buf), 0, NULL);
	c->len -= (size_t)(end + 1 - c->buf);
	memmove(c->buf, end + 1, c->len);
	c->seen = 0;
	if (json_is_object(object))
		return object;
	json_decref(object);
	errno = EPROTO;
	return NULL;
}

static int64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

json_t *conn_reply(struct conn *c, int ms)
{
	int64_t until = now_ms() + ms;
	for (;;) {
		json_t *object = next_line(c);
		if (object || errno != EAGAIN)
			return object;
		int64_t left = ms < 0 ? -1 : until - now_ms();
		struct pollfd p = {.fd = c->fd, .events = POLLIN};
		int n = poll(&p, 1, ms < 0 ? -1 : left < 0 ? 0 : (int)left);
		if (n == 0)
			errno = ETIMEDOUT;
		if (n <= 0)
			return NULL;
		n = fill(c);
		if (n == 0)
			errno = EPIPE;
		if (n < 0 && errno == ECONNRESET)
			errno = EPIPE;
		if (n <= 0 && errno != EAGAIN)
			return NULL;
	}
}

void reply_check(json_t *reply)
{
	json_t *error = json_object_get(reply, "error");
	if (!error)
		return;
	say("%s", json_is_string(error) ? json_string_value(error) : "the supervisor refused, without a reason");
	const char *detail = get_text(reply, "detail");
	if (*detail)
		say_block(detail);
	int64_t code = get_int(reply, "code", failure_code());
	exit(code > 0 && code < 256 ? (int)code : failure_code());
}

json_t *conn_call(struct conn *c, json_t *object, int fd)
{
	json_t *reply;
	for (;;) {
		conn_send(c, json_incref(object), fd);
		while (!(reply = conn_reply(c, -1)) && errno == EINTR)
			if (interrupted())
				exit(EXIT_CANCELLED);
		if (reply)
			break;
		if (errno == EPROTO)
			fail(failure_code(), "the supervisor sent an invalid answer");
		if (!conn_reconnect(c, NULL, NULL))
			fail(failure_code(), "the supervisor closed the connection");
		put(object, "again", json_true());
	}
	json_decref(object);
	reply_check(reply);
	return reply;
}

int conn_take_fd(struct conn *c)
{
	if (!c->nfds)
		fail(failure_code(), "the supervisor sent too few descriptors");
	int fd = c->fds[0];
	memmove(c->fds, c->fds + 1, sizeof(int) * (size_t)--c->nfds);
	return fd;
}

json_t *request(const char *verb)
{
	json_t *object = must(json_object());
	put(object, "verb", json_string(verb));
	return object;
}

void put(json_t *object, const char *key, json_t *value)
{
	must(value);
	if (json_object_set_new(object, key, value) < 0)
		must(NULL);
}
