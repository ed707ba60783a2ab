/*
 * start.c - starts and stops supervisors.
 *
 * `start` leaves a supervisor in the background. If none is running, `run` starts a private one in a temporary
 * folder. atexit stops it and removes the folder. If `run` is killed, the kernel sends the private supervisor
 * SIGINT.
 */
#include "shm/ownfile.h"
#include "tools/shoal/cli.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define STOP_MS 1000
#define STOP_SAY_MS 1000 /* after this time `stop` says what it waits for */
#define STOP_SHOWN 5
#define STOP_GONE_MS 10000
#define READY_MS 30000
#define READY_FD 3

/* ---- finding shoald ---- */

static char *if_program(char *path)
{
	struct stat st;
	if (stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0)
		return path;
	free(path);
	return NULL;
}

static char *find_shoald(void)
{
	char self[4096];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	self[n > 0 ? n : 0] = 0;
	char *slash = strrchr(self, '/'), *found = NULL;
	if (slash)
		*slash = 0;
	if (slash && (found = if_program(format("%s/shoald", self))))
		return found;
	const char *path = getenv("PATH");
	while (path && *path && !found) {
		size_t len = strcspn(path, ":");
		if (len && *path == '/')
			found = if_program(format("%.*s/shoald", (int)len, path));
		path += len + (path[len] == ':');
	}
	if (!found && slash)
		found = if_program(format("%s/../libexec/shoald", self));
	if (!found && slash)
		found = if_program(format("%s/../libexec/shoal/shoald", self));
	if (!found)
		fail(failure_code(), "cannot find shoald: it is neither next to shoal nor in PATH");
	return found;
}

/* ---- starting ---- */

struct launch {
	const char *socket;
	char *log;
	char *argv[16];
	int argc;
	bool is_private; /* the supervisor ends when this process ends */
	pid_t pid;
	int ready;
	off_t log_size; /* size before the start: later bytes are from this supervisor */
};

static void add_arg(struct launch *l, const char *name, const char *value)
{
	l->argv[l->argc++] = must(strdup(name));
	if (value)
		l->argv[l->argc++] = must(strdup(value));
	l->argv[l->argc] = NULL;
}

static _Noreturn void become_shoald(struct launch *l, int ready, pid_t parent)
{
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	signal(SIGHUP, SIG_DFL);
	/* In a session of its own, so that Ctrl-C reaches only this client, which then cancels the task. */
	setsid();
	if (l->is_private) {
		prctl(PR_SET_PDEATHSIG, SIGINT);
		if (getppid() != parent)
			_exit(1);
	}
	int log = sh_own_file_open(l->log, O_WRONLY | O_APPEND), null = open("/dev/null", O_RDWR);
	/* Move the descriptors out of the way first: the log may have a number that dup2 replaces below. */
	ready = fcntl(ready, F_DUPFD, 10);
	log = log >= 0 ? fcntl(log, F_DUPFD, 10) : -1;
	null = fcntl(null, F_DUPFD, 10);
	if (ready < 0 || null < 0)
		_exit(1);
	dup2(null, 0);
	dup2(null, 1);
	dup2(log >= 0 ? log : null, 2);
	dup2(ready, READY_FD);
	syscall(SYS_close_range, READY_FD + 1, ~0u, 0);
	if (chdir("/") < 0)
		_exit(1);
	execv(l->argv[0], l->argv);
	dprintf(READY_FD, "cannot run %s: %s\n", l->argv[0], strerror(errno));
	_exit(1);
}

static off_t size_of(const char *path)
{
	struct stat st;
	return stat(path, &st) == 0 ? st.st_size : 0;
}

static void launch(struct launch *l)
{
	int fds[2];
	char number[16];
	snprintf(number, sizeof(number), "%d", READY_FD);
	add_arg(l, "--socket", l->socket);
	add_arg(l, "--ready-fd", number);
	if (pipe2(fds, O_CLOEXEC) < 0)
		fail(failure_code(), "cannot make a pipe: %s", strerror(errno));
	pid_t parent = getpid();
	fflush(NULL);
	l->log_size = size_of(l->log);
	l->pid = fork();
	if (l->pid < 0)
		fail(failure_code(), "cannot start a process: %s", strerror(errno));
	if (l->pid == 0)
		become_shoald(l, fds[1], parent);
	close(fds[1]);
	l->ready = fds[0];
}

/* Waits until the supervisor takes tasks and returns NULL, or returns an error message. */
static char *wait_ready(struct launch *l)
{
	char line[1024];
	size_t n = 0;
	int64_t left = READY_MS;
	while (n < sizeof(line) - 1 && !memchr(line, '\n', n)) {
		struct pollfd p = {.fd = l->ready, .events = POLLIN};
		int rc = poll(&p, 1, 20);
		if (interrupted())
			return must(strdup("interrupted"));
		if (rc == 0 && (left -= 20) <= 0)
			return format("shoald is not ready after %d seconds: see its log %s", READY_MS / 1000, l->log);
		if (rc <= 0)
			continue;
		ssize_t got = read(l->ready, line + n, sizeof(line) - 1 - n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		n += (size_t)got;
	}
	line[n] = 0;
	if (strncmp(line, "ok\n", 3) == 0)
		return NULL;
	line[strcspn(line, "\n")] = 0;
	if (*line)
		return must(strdup(line));
	char *last = size_of(l->log) > l->log_size ? tail_of(l->log) : NULL;
	return last ? format("shoald exited before it was ready: %s", last)
		    : format("shoald exited before it was ready; its log is %s", l->log);
}

/*
 * Stops a supervisor that failed to start or was too slow. Returns the exit code: 2 if it rejected an option,
 * otherwise 1.
 */
static int stop_failed(struct launch *l)
{
	int status;

	kill(l->pid, SIGTERM);
	for (int ms = 0; ms < STOP_MS; ms += 5) {
		if (waitpid(l->pid, &status, WNOHANG) == l->pid)
			return WIFEXITED(status) && WEXITSTATUS(status) == EXIT_USAGE ? EXIT_USAGE : 1;
		usleep(5000);
	}
	return 1;
}

static char *log_beside(const char *socket)
{
	size_t n = strlen(socket);
	bool suffix = n > 5 && strcmp(socket + n - 5, ".sock") == 0;
	return format("%.*s.log", (int)(suffix ? n - 5 : n), socket);
}

/* Makes the folder of the default socket. A folder that the user named must exist already. */
static void make_default_folder(const char *socket)
{
	if (cli.socket || (getenv("SHOAL_SOCKET") && *getenv("SHOAL_SOCKET")))
		return;
	char *folder = must(strdup(socket));
	*strrchr(folder, '/') = 0;
	if (mkdir(folder, 0700) < 0 && errno != EEXIST)
		fail(1, "cannot make %s: %s", folder, strerror(errno));
	free(folder);
}

static void say_if_fewer_procs(int64_t wanted)
{
	struct conn c;
	const char *env = getenv("SHOAL_PROCS");
	if (!wanted && env)
		wanted = atoll(env);
	if (!wanted || !conn_try(&c, socket_path()))
		return;
	json_t *reply = conn_call(&c, request("procs"), -1);
	int64_t set = get_int(reply, "procs", wanted);
	if (set != wanted)
		say("set %lld Ps: there cannot be %lld", (long long)set, (long long)wanted);
	json_decref(reply);
	conn_close(&c);
}

int verb_start(int argc, char **argv)
{
	int64_t procs = 0, spare = -1, memory = 0, output_memory = 0;
	const char *output_dir = NULL;
	bool foreground = false;
	const struct opt opts[] = {
		{"output-dir", 0, OPT_TEXT, &output_dir},
		{"procs", 'p', OPT_COUNT, &procs},
		{"spare", 0, OPT_COUNT0, &spare},
		{"memory", 'm', OPT_SIZE, &memory},
		{"foreground", 'f', OPT_FLAG, &foreground},
		{"output-memory", 0, OPT_SIZE, &output_memory},
		{NULL, 0, OPT_FLAG, NULL},
	};
	if (parse_options(argc, argv, opts, false))
		usage("unexpected argument '%s'", argv[0]);
	struct launch l = {.socket = socket_path()};
	struct conn c;
	if (conn_try(&c, l.socket))
		fail(1, "a supervisor is already running at %s (pid %d)", l.socket, (int)c.pid);
	make_default_folder(l.socket);
	l.log = log_beside(l.socket);
	add_arg(&l, find_shoald(), NULL);
	if (procs)
		add_arg(&l, "--procs", format("%lld", (long long)procs));
	if (spare >= 0)
		add_arg(&l, "--spare", format("%lld", (long long)spare));
	if (memory)
		add_arg(&l, "--memory", format("%lld", (long long)memory));
	if (output_dir)
		add_arg(&l, "--output-dir", absolute(output_dir));
	if (output_memory)
		add_arg(&l, "--output-memory", format("%lld", (long long)output_memory));
	if (foreground) {
		add_arg(&l, "--socket", l.socket);
		execv(l.argv[0], l.argv);
		fail(1, "cannot run %s: %s", l.argv[0], strerror(errno));
	}
	launch(&l);
	char *error = wait_ready(&l);
	if (error)
		fail(stop_failed(&l), "%s", error);
	say("supervisor %d takes tasks at %s", (int)l.pid, l.socket);
	say_if_fewer_procs(procs);
	return 0;
}

/* ---- private supervisors ---- */

static struct {
	char *folder, *log;
	pid_t pid;
} private;

static void wait_for_child(pid_t pid, int ms)
{
	for (int waited = 0; waited < ms; waited++) {
		pid_t got = waitpid(pid, NULL, WNOHANG);
		if (got == pid || (got < 0 && errno != EINTR)) {
			private.pid = 0;
			return;
		}
		usleep(1000);
	}
}

static void stop_private(void)
{
	if (private.pid > 0) {
		kill(private.pid, SIGINT);
		wait_for_child(private.pid, 5000);
	}
	if (private.pid > 0) {
		kill(private.pid, SIGKILL);
		wait_for_child(private.pid, 1000);
	}
	DIR *d = private.folder ? opendir(private.folder) : NULL;
	struct dirent *e;
	while (d && (e = readdir(d)))
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			unlinkat(dirfd(d), e->d_name, 0);
	if (d)
		closedir(d);
	if (private.folder)
		rmdir(private.folder);
}

const char *supervisor_private_log(void)
{
	return private.log;
}

bool supervisor_start_private(struct conn *c)
{
	const char *tmp = getenv("TMPDIR");
	/* The path of a socket must be shorter than 108 bytes. */
	char *folder = format("%s/shoal-run-XXXXXX", tmp && *tmp == '/' && strlen(tmp) < 70 ? tmp : "/tmp");
	char *shoald = find_shoald();
	if (!mkdtemp(folder))
		fail(failure_code(), "cannot make a folder in /tmp: %s", strerror(errno));
	private.folder = folder;
	atexit(stop_private);
	char *socket = format("%s/sock", folder);
	struct launch l = {.socket = socket, .log = format("%s/log", folder), .is_private = true};
	private.log = l.log;
	add_arg(&l, shoald, NULL);
	add_arg(&l, "--one-shot", NULL); /* the supervisor ends when this connection ends */
	launch(&l);
	private.pid = l.pid;
	char *error = wait_ready(&l);
	if (interrupted())
		return false;
	if (error)
		fail(failure_code(), "cannot start a supervisor: %s", error);
	close(l.ready);
	socket_use(socket);
	if (!conn_try(c, socket))
		fail(failure_code(), "the supervisor exited right after its start: run it again");
	return true;
}

/* ---- stop ---- */

/* Says which tasks the stop waits for. Asks on a connection of its own, because the other one waits for the end. */
static void say_what_stop_waits_for(void)
{
	struct conn c;
	if (!conn_try(&c, socket_path()))
		return;
	conn_send(&c, request("tasks"), -1);
	json_t *reply = conn_reply(&c, STOP_MS), *tasks = json_object_get(reply, "tasks"), *t;
	size_t n = json_array_size(tasks), i, shown = n < STOP_SHOWN ? n : STOP_SHOWN;
	char *list = must(strdup(""));
	json_array_foreach(tasks, i, t)
	{
		if (i == shown)
			break;
		char *longer = format("%s%s %lld (%s)", list, i ? "," : "", (long long)get_int(t, "id", 0),
				      get_text(t, "name"));
		free(list);
		list = longer;
	}
	if (n > shown)
		say("waits for %zu tasks:%s and %zu more (end them with: shoal stop --now)", n, list, n - shown);
	else if (n)
		say("waits for %s%s (end %s with: shoal stop --now)", n > 1 ? "tasks" : "task", list,
		    n > 1 ? "them" : "it");
	free(list);
	json_decref(reply);
	conn_close(&c);
}

/* Waits for the answer, which comes when all tasks have ended. */
static void await_stop(struct conn *c)
{
	json_t *reply = conn_reply(c, STOP_SAY_MS);
	if (!reply && errno == ETIMEDOUT) {
		say_what_stop_waits_for();
		reply = conn_reply(c, -1);
	}
	if (!reply && errno != EPIPE)
		fail(1, "the supervisor sent an invalid answer");
	if (reply)
		reply_check(reply);
	json_decref(reply);
}

int verb_stop(int argc, char **argv)
{
	bool now = false;
	const struct opt opts[] = {{"now", 0, OPT_FLAG, &now}, {NULL, 0, OPT_FLAG, NULL}};
	if (parse_options(argc, argv, opts, false))
		usage("unexpected argument '%s'", argv[0]);
	struct conn c;
	conn_open(&c);
	pid_t pid = conn_peer(&c);
	int process = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
	json_t *ask = request("stop");
	put(ask, "now", json_boolean(now));
	conn_send(&c, ask, -1);
	await_stop(&c);
	/*
	 * Waits for the process to exit, so that a `start` right after this can use the socket. If its PID namespace
	 * hides it, the end of the connection says that it exits.
	 */
	struct pollfd p = {.fd = process, .events = POLLIN};
	json_t *more = conn_reply(&c, STOP_GONE_MS);
	bool closed = !more && errno == EPIPE;
	json_decref(more);
	if (!closed || (process >= 0 && poll(&p, 1, STOP_GONE_MS) == 0))
		fail(1, "the supervisor acknowledged the stop but is still running after %d seconds",
		     STOP_GONE_MS / 1000);
	conn_close(&c);
	return 0;
}
