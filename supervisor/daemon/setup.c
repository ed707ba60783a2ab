/*
 * setup.c - preparations before the start: socket and lock, log file, and the numbers of processors and bytes that
 * the supervisor may use.
 */
#include "shm/kernel.h"
#include "shm/ownfile.h"
#include "shm/procstat.h"
#include "core/sched/sched.h"
#include "supervisor/daemon/setup.h"
#include "supervisor/daemon/limits.h"
#include "supervisor/daemon/log.h"
#include "supervisor/daemon/main.h"
#include "supervisor/keeper/keeper.h"
#include "core/sched/p.h"
#include "shm/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define LOCK_MS 100 /* a holder that was just killed may not show PF_EXITING yet */
#define LOCK_DYING_MS 5000

static int lock_fd = -1;
static char lock_path[PATH_MAX];

const char *sh_default_socket(void)
{
	static char path[PATH_MAX];
	const char *env = getenv("SHOAL_SOCKET"), *dir = getenv("XDG_RUNTIME_DIR");

	if (env && *env)
		return env;
	if (dir && *dir)
		snprintf(path, sizeof path, "%s/shoal/default.sock", dir);
	else
		snprintf(path, sizeof path, "/tmp/shoal-%u/default.sock", (unsigned)geteuid());
	return path;
}

/* ---- the socket ---- */

static bool is_trusted(uid_t owner)
{
	return owner == geteuid() || owner == 0;
}

/* True if users other than the owner and root can replace files in the folder. */
static bool is_open_to_others(const struct stat *st)
{
	return st->st_mode & S_IWOTH && !(st->st_mode & S_ISVTX);
}

/*
 * Makes the folder of the socket if it does not exist. Refuses a folder, or a symlink to a folder, that another
 * user has made: in /tmp any user can make one under our name.
 */
static int make_folder(const char *path, char *error, size_t n)
{
	char copy[PATH_MAX], *dir;
	struct stat link, st;

	snprintf(copy, sizeof copy, "%s", path);
	dir = dirname(copy);
	if (kernel_mkdir(dir, 0700) < 0 && errno != EEXIST) {
		snprintf(error, n, "%s: %s", dir, strerror(errno));
		return -1;
	}
	if (lstat(dir, &link) == 0 && !is_trusted(link.st_uid)) {
		snprintf(error, n, "%s belongs to another user: remove it, or use --socket", dir);
		return -1;
	}
	if (stat(dir, &st) < 0 || !S_ISDIR(st.st_mode)) {
		snprintf(error, n, "%s is not a folder", dir);
		return -1;
	}
	if (!is_trusted(st.st_uid) || is_open_to_others(&st)) {
		snprintf(error, n, "%s belongs to another user, or others can write to it: remove it, or use --socket",
			 dir);
		return -1;
	}
	return 0;
}

static pid_t holder_of(int fd)
{
	char text[16];
	ssize_t k = kernel_pread(fd, text, sizeof text - 1, 0);

	text[k > 0 ? k : 0] = '\0';
	return atoi(text);
}

/* The process was killed or has ended; while it is torn down it still holds the lock. */
static bool is_dying(pid_t pid)
{
	struct sh_procstat stat;

	return !sh_procstat_read(pid, &stat) || strchr("ZX", stat.state) || stat.flags & SH_PROCSTAT_EXITING;
}

/* Returns 0, -EWOULDBLOCK if another process holds the lock, or -errno if the file cannot be locked at all. */
static int get_lock(int fd)
{
	for (unsigned ms = 0; ms < LOCK_DYING_MS; ms += 5) {
		if (kernel_flock(fd, LOCK_EX | LOCK_NB) == 0)
			return 0;
		if (errno != EWOULDBLOCK && errno != EINTR)
			return -errno;
		if (ms >= LOCK_MS && !is_dying(holder_of(fd)))
			break;
		kernel_poll(NULL, 0, 5);
	}
	return -EWOULDBLOCK;
}

/* Takes the lock until this process ends. The last holder may remove the file while we wait: check, then try again. */
static int take_lock(const char *path, char *error, size_t n)
{
	struct stat ours, there;
	int err;

	snprintf(lock_path, sizeof lock_path, "%s.lock", path);
	for (;;) {
		lock_fd = sh_own_file_open(lock_path, O_RDWR);
		if (lock_fd < 0) {
			if (lock_fd == -EPERM)
				snprintf(error, n, "%s is not a file of this user alone: remove it, or use --socket",
					 lock_path);
			else
				snprintf(error, n, "%s: %s", lock_path, strerror(-lock_fd));
			return -1;
		}
		err = get_lock(lock_fd);
		if (err < 0) {
			if (err == -EWOULDBLOCK)
				snprintf(error, n, "a supervisor runs on %s already, pid %d", path,
					 (int)holder_of(lock_fd));
			else
				snprintf(error, n, "cannot lock %s: flock: %s", lock_path, strerror(-err));
			kernel_close(lock_fd);
			lock_fd = -1;
			return -1;
		}
		if (fstat(lock_fd, &ours) == 0 && stat(lock_path, &there) == 0 && ours.st_ino == there.st_ino &&
		    ours.st_dev == there.st_dev)
			break;
		kernel_close(lock_fd);
	}
	if (kernel_ftruncate(lock_fd, 0) == 0)
		dprintf(lock_fd, "%d\n", (int)getpid());
	return 0;
}

/* Holds: the lock. A socket that exists is therefore stale, unless a program other than shoald listens on it. */
static int bind_socket(const char *path, char *error, size_t n)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	struct stat st;
	int fd, probe;
	mode_t mask;

	memcpy(at.sun_path, path, strlen(path) + 1);
	if (lstat(path, &st) == 0) {
		if (!S_ISSOCK(st.st_mode)) {
			snprintf(error, n, "%s exists and is not a socket", path);
			return -1;
		}
		probe = kernel_socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (probe >= 0 && (kernel_connect(probe, (struct sockaddr *)&at, sizeof at) == 0 || errno == EAGAIN)) {
			snprintf(error, n, "another program listens on %s", path);
			kernel_close(probe);
			return -1;
		}
		kernel_close(probe);
		kernel_unlink(path);
	}
	fd = kernel_socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	mask = kernel_umask(0177);
	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) < 0 || listen(fd, 1024) < 0) {
		snprintf(error, n, "%s: %s", path, strerror(errno));
		kernel_umask(mask);
		if (fd >= 0)
			kernel_close(fd);
		return -1;
	}
	kernel_umask(mask);
	return fd;
}

int sh_setup_socket(char *error, size_t n)
{
	const char *path = sh_options.socket;
	int fd;

	/* The keeper's socket has the same path with a suffix. */
	if (strlen(path) + strlen(KEEPER_SUFFIX) >= sizeof((struct sockaddr_un *)NULL)->sun_path) {
		snprintf(error, n, "the socket's path is longer than %zu bytes",
			 sizeof((struct sockaddr_un *)NULL)->sun_path - 1 - strlen(KEEPER_SUFFIX));
		return -1;
	}
	if (make_folder(path, error, n) < 0 || take_lock(path, error, n) < 0)
		return -1;
	fd = bind_socket(path, error, n);
	if (fd < 0)
		kernel_unlink(lock_path);
	return fd;
}

void sh_setup_remove_socket(void)
{
	kernel_unlink(sh_options.socket);
	sh_keeper_remove_socket();
	if (lock_fd >= 0)
		kernel_unlink(lock_path); /* while it is locked: a waiter checks the path again, see take_lock */
}

/* ---- the log ---- */

static char log_path[PATH_MAX]; /* empty: the log is the stderr that the caller gave */

static int use_log(int fd)
{
	int r = kernel_dup2(fd, 1) < 0 || kernel_dup2(fd, 2) < 0 ? -errno : 0;

	kernel_close(fd);
	return r;
}

int sh_setup_log(char *error, size_t room)
{
	size_t n = strlen(sh_options.socket);
	int fd, null;

	if (n > 5 && strcmp(sh_options.socket + n - 5, ".sock") == 0)
		n -= 5;
	snprintf(log_path, sizeof log_path, "%.*s.log", (int)n, sh_options.socket);
	fd = sh_own_file_open(log_path, O_WRONLY | O_APPEND);
	null = kernel_open("/dev/null", O_RDWR | O_CLOEXEC, 0);
	if (fd == -EPERM) {
		snprintf(error, room, "%s is not a file of this user alone: remove it, or use --socket", log_path);
		return -1;
	}
	if (fd < 0 || null < 0) {
		snprintf(error, room, "cannot open the log file %s: %s", log_path, strerror(fd < 0 ? -fd : errno));
		return -1;
	}
	kernel_dup2(null, 0);
	kernel_close(null);
	return use_log(fd);
}

bool sh_setup_reopen_log(void)
{
	int fd, err;

	if (!log_path[0])
		return false;
	fd = sh_own_file_open(log_path, O_WRONLY | O_APPEND);
	err = fd < 0 ? fd : use_log(fd);
	if (err < 0)
		sh_log("cannot open %s again: %s; the log stays in the file that is open", log_path, strerror(-err));
	return err == 0;
}

/* ---- limits ---- */

unsigned sh_setup_cpus(void)
{
	cpu_set_t set;
	long n = sysconf(_SC_NPROCESSORS_ONLN);

	if (sched_getaffinity(0, sizeof set, &set) == 0)
		n = CPU_COUNT(&set);
	n = sh_cpus_within(n < 1 ? 1 : (unsigned)n, sh_limit_cpus(""));
	return n > P_MAX ? P_MAX : (unsigned)n;
}

static size_t machine_memory(void)
{
	size_t all = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
	long limit = sh_limit_memory("");

	if (limit > 0 && (size_t)limit < all)
		all = (size_t)limit;
	return all;
}

/* Returns three quarters of the memory that the machine and the control groups allow. */
size_t sh_setup_memory(void)
{
	size_t all = machine_memory() / 4 * 3;

	return all < SH_HEAP_SIZE ? all : SH_HEAP_SIZE;
}

/* Returns a sixteenth of that memory. */
size_t sh_setup_output_memory(void)
{
	size_t part = machine_memory() / 16;

	return part > 1ul << 20 ? part : 1ul << 20;
}
