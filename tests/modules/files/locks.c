/*
 * files/locks.c - locks on files: the task is their owner.
 *
 *   locks.so rules FILE	what POSIX says of one process, checked from within
 *   locks.so hold FILE TYPE	takes a lock on all of the file, makes FILE.held, waits for FILE.end
 *   locks.so try FILE TYPE	0: the lock was to be had; 10: another holds it
 *   locks.so tell FILE	prints what F_GETLK says: "none", or type, start, length; the owner's pid must be one
 *   locks.so cross A B N	locks A, waits until N tasks have locked their first file, locks B: 0, or 35 for EDEADLK
 *   locks.so cancel FILE	a goroutine that waits for the lock of another task is cancelled
 *   locks.so again FILE	a goroutine that is killed with locks held runs again and takes them again
 *   locks.so root FILE	the same of the first goroutine: run it with --attempts 2
 */
#define _GNU_SOURCE
#include "tests/modules/net/net.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *file;

static int lock(int fd, int op, int type, int64_t start, int64_t len)
{
	struct flock l = {.l_type = (short)type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};

	return fcntl(fd, op, &l);
}

static int opened(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	MUST(fd >= 0);
	return fd;
}

/* How another owner sees [start, start + len): the type of a lock in the way of a write lock there. */
static int seen(int64_t start, int64_t len)
{
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = start, .l_len = len};
	int fd = open(file, O_RDWR | O_CLOEXEC);

	MUST(fd >= 0 && fcntl(fd, F_OFD_GETLK, &l) == 0);
	return l.l_type; /* fd stays open: closing it would release the locks */
}

/* ---- one task ---- */

static void ranges(void)
{
	int a = opened(file), b = opened(file);
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 100};

	MUST(lock(a, F_SETLK, F_WRLCK, 0, 100) == 0);
	MUST(lock(b, F_SETLK, F_WRLCK, 50, 100) == 0); /* the same owner */
	MUST(fcntl(b, F_GETLK, &l) == 0 && l.l_type == F_UNLCK && l.l_len == 100);
	MUST(seen(0, 10) == F_WRLCK && seen(140, 10) == F_WRLCK && seen(150, 10) == F_UNLCK);
	MUST(lock(b, F_SETLK, F_UNLCK, 40, 20) == 0); /* split */
	MUST(seen(40, 20) == F_UNLCK && seen(39, 1) == F_WRLCK && seen(60, 1) == F_WRLCK);
	MUST(lock(a, F_SETLK, F_RDLCK, 0, 40) == 0 && seen(0, 40) == F_RDLCK);
	l = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_END, .l_start = -10, .l_len = 5};
	MUST(ftruncate(a, 1000) == 0 && fcntl(a, F_SETLK, &l) == 0);
	MUST(seen(990, 5) == F_WRLCK && seen(995, 5) == F_UNLCK);
	l = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_CUR, .l_start = 5, .l_len = -5};
	MUST(lseek(b, 500, SEEK_SET) == 500 && fcntl(b, F_SETLK, &l) == 0);
	MUST(seen(500, 5) == F_WRLCK && seen(505, 1) == F_UNLCK && seen(499, 1) == F_UNLCK);
	MUST(lseek(a, 700, SEEK_SET) == 700 && lockf(a, F_TLOCK, 10) == 0 && seen(700, 10) == F_WRLCK);
	MUST(lseek(b, 700, SEEK_SET) == 700 && lockf(b, F_TEST, 10) == 0 && lockf(b, F_ULOCK, 10) == 0);
	MUST(seen(700, 10) == F_UNLCK);
	close(dup(b)); /* any descriptor of the file: all locks go */
	MUST(seen(0, 0) == F_UNLCK);
	MUST(lock(a, F_SETLKW, F_WRLCK, 0, 0) == 0 && seen(5000, 1) == F_WRLCK);
	MUST(dup2(a, b) == b && seen(0, 0) == F_UNLCK); /* b was closed */
	close(a);
	close(b);
}

static void refusals(void)
{
	int r = open(file, O_RDONLY), w = open(file, O_WRONLY), p[2];
	struct flock bad = {.l_type = 77, .l_whence = SEEK_SET};

	MUST(lock(r, F_SETLK, F_WRLCK, 0, 1) < 0 && errno == EBADF);
	MUST(lock(w, F_SETLK, F_RDLCK, 0, 1) < 0 && errno == EBADF);
	MUST(lock(r, F_SETLK, F_RDLCK, 0, 1) == 0 && lock(w, F_SETLK, F_WRLCK, 1, 1) == 0);
	MUST(seen(0, 1) == F_RDLCK && seen(1, 1) == F_WRLCK);
	MUST(lock(400, F_SETLK, F_RDLCK, 0, 1) < 0 && errno == EBADF);
	MUST(fcntl(r, F_SETLK, &bad) < 0 && errno == EINVAL);
	MUST(lock(r, F_GETLK, F_UNLCK, 0, 1) < 0 && errno == EINVAL);
	MUST(lock(r, F_SETLK, F_RDLCK, -1, 1) < 0 && errno == EINVAL);
	MUST(lock(r, F_SETLK, F_UNLCK, 7, 0) == 0);
	MUST(pipe(p) == 0 && p[0] < 100); /* the runtime's descriptor for the locks takes none of the low numbers */
	close(p[0]);
	close(p[1]);
	close(r);
	close(w);
}

/* flock belongs to the open file description, as ever. */
static void whole(void)
{
	int a = opened(file), b = opened(file), c = dup(a);

	MUST(flock(a, LOCK_EX) == 0 && flock(b, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK);
	MUST(flock(c, LOCK_SH) == 0 && flock(b, LOCK_SH | LOCK_NB) == 0);
	MUST(flock(b, LOCK_UN) == 0 && close(a) == 0 && flock(b, LOCK_EX | LOCK_NB) < 0);
	MUST(close(c) == 0 && flock(b, LOCK_EX | LOCK_NB) == 0);
	close(b);
}

/* ---- two tasks ---- */

static void wait_for_file(const char *what)
{
	char path[200];

	snprintf(path, sizeof path, "%s.%s", file, what);
	while (access(path, F_OK) != 0)
		shoal_sleep(2 * MS);
}

static void make_file(const char *name, const char *what)
{
	char path[200];

	snprintf(path, sizeof path, "%s.%s", name, what);
	close(open(path, O_CREAT | O_WRONLY, 0600));
}

static int type_of(const char *name)
{
	return *name == 'r' ? F_RDLCK : F_WRLCK;
}

static int hold(const char *type)
{
	int fd = opened(file);

	MUST(lock(fd, F_SETLKW, type_of(type), 0, 0) == 0);
	make_file(file, "held");
	wait_for_file("end");
	return 0;
}

static int try(const char *type)
{
	int r = lock(opened(file), F_SETLK, type_of(type), 0, 0);

	MUST(r == 0 || errno == EAGAIN || errno == EACCES);
	return r == 0 ? 0 : 10;
}

static int tell(void)
{
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	char proc[32];

	MUST(fcntl(opened(file), F_GETLK, &l) == 0);
	snprintf(proc, sizeof proc, "/proc/%d", (int)l.l_pid);
	if (l.l_type == F_UNLCK)
		printf("none\n");
	else
		printf("%s %ld %ld %s\n", l.l_type == F_RDLCK ? "read" : "write", (long)l.l_start, (long)l.l_len,
		       l.l_pid > 0 && access(proc, F_OK) == 0 ? "by a process" : "by nobody");
	return 0;
}

static int cross(const char *second, int n)
{
	int a = opened(file), b = opened(second), r;

	MUST(lock(a, F_SETLKW, F_WRLCK, 0, 0) == 0);
	make_file(file, "held");
	for (int i = 0; i < n; i++) {
		char path[200];

		snprintf(path, sizeof path, "%.*s%d.held", (int)strlen(file) - 1, file, i);
		while (access(path, F_OK) != 0)
			shoal_sleep(MS);
	}
	r = lock(b, F_SETLKW, F_WRLCK, 0, 0);
	MUST(r == 0 || errno == EDEADLK);
	return r == 0 ? 0 : 35;
}

static _Atomic int waits;

static void waiter(void *arg)
{
	int fd = opened(file);

	(void)arg;
	waits = 1;
	MUST(lock(fd, F_SETLKW, F_WRLCK, 0, 0) < 0 && errno == ECANCELED);
	MUST(flock(fd, LOCK_EX | LOCK_NB) == 0 || errno == ECANCELED || errno == EWOULDBLOCK);
}

static int cancel(void)
{
	shoal_gid g = shoal_go(waiter, NULL, 0);

	while (!waits)
		shoal_yield();
	shoal_sleep(5 * MS);
	MUST(shoal_cancel(g) == 0 && shoal_join(g, NULL) == 0);
	return 0;
}

/* ---- attempts ---- */

static void lock_both(int fd, int records)
{
	MUST(flock(fd, LOCK_EX) == 0);
	MUST(lock(records, F_SETLKW, F_WRLCK, 0, 10) == 0);
}

static _Atomic int runs;

static void dies_once(void *arg)
{
	(void)arg;
	lock_both(opened(file), opened(file));
	if (runs++ == 0)
		raise(SIGKILL);
}

static int again(void)
{
	struct shoal_go_opts o = {.attempts = 2, .flags = SHOAL_ISOLATED};
	struct shoal_end end;
	shoal_gid g = shoal_go_with(&o, dies_once, NULL, 0);

	MUST(shoal_join(g, &end) == 0 && end.how == SHOAL_DONE && runs == 2);
	return 0;
}

static int root(void)
{
	char path[200];

	snprintf(path, sizeof path, "%s.first", file);
	lock_both(opened(file), opened(file));
	if (access(path, F_OK) != 0) {
		make_file(file, "first");
		raise(SIGKILL);
	}
	return 0;
}

int shoal_main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	file = argv[2];
	net_at = argv[1];
	if (!strcmp(argv[1], "rules")) {
		ranges();
		refusals();
		whole();
		puts("ok");
		return 0;
	}
	if (!strcmp(argv[1], "hold") && argc > 3)
		return hold(argv[3]);
	if (!strcmp(argv[1], "try") && argc > 3)
		return try(argv[3]);
	if (!strcmp(argv[1], "tell"))
		return tell();
	if (!strcmp(argv[1], "cross") && argc > 4)
		return cross(argv[3], atoi(argv[4]));
	if (!strcmp(argv[1], "cancel"))
		return cancel();
	if (!strcmp(argv[1], "again"))
		return again();
	return !strcmp(argv[1], "root") ? root() : 2;
}
