/*
 * setup.c - preparations before the start: socket and lock, log file, and the numbers of processors and bytes that
 * the supervisor may use.
 */
#include "shm/kernel.h"
#include "shm/procstat.h"
#include "core/sched/sched.h"
#include "supervisor/daemon/setup.h"
#include "supervisor/daemon/limits.h"
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

/* Makes the folder of the socket if it does not exist. Refuses one in /tmp that belongs to another user. */
static int make_folder(const char *path, char *error, size_t n)
{
	char copy[PATH_MAX], *dir;
	struct stat st;

	snprintf(copy, sizeof copy, "%s", path);
	dir = dirname(copy);
	if (kernel_mkdir(dir, 0700) < 0 && errno != EEXIST) {
		snprintf(error, n, "%s: %s", dir, strerror(errno));
		return -1;
	}
	if (stat(dir, &st) < 0 || !S_ISDIR(st.st_mode)) {
		snprintf(error, n, "%s is not a folder", dir);
		return -1;
	}
	if (st.st_uid != geteuid() && st.st_uid != 0) {
		snprintf(error, n, "%s belongs to another user", dir);
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

static bool get_lock(int fd)
{
	for (unsigned ms = 0; ms < LOCK_DYING_MS; ms += 5) {
		if (kernel_flock(fd, LOCK_EX | LOCK_NB) == 0)
			return true;
		if (ms >= LOCK_MS && !is_dying(holder_of(fd)))
			return false;
		kernel_poll(NULL, 0, 5);
	}
	return false;
}

/* Takes the lock until this process ends. The last holder may remove the file while we wait: check, then try again. */
static int take_lock(const char *path, char *error, size_t n)
{
	struct stat ours, there;

	snprintf(lock_path, sizeof lock_path, "%s.lock", path);
	for (;;) {
		lock_fd = kernel_open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (lock_fd < 0) {
			snprintf(error, n, "%s: %s", lock_path, strerror(errno));
			return -1;
		}
		if (!get_lock(lock_fd)) {
			snprintf(error, n, "a supervisor runs on %s already, pid %d", path, (int)holder_of(lock_fd));
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

int sh_setup_log(void)
{
	char path[PATH_MAX];
	size_t n = (size_t)snprintf(path, sizeof path - 8, "%s", sh_options.socket);
	int fd, null;

	if (n > 5 && strcmp(path + n - 5, ".sock") == 0)
		n -= 5;
	memcpy(path + n, ".log", 5);
	fd = kernel_open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	null = kernel_open("/dev/null", O_RDWR | O_CLOEXEC, 0);
	if (fd < 0 || null < 0)
		return -errno;
	kernel_dup2(null, 0);
	kernel_dup2(fd, 1);
	kernel_dup2(fd, 2);
	kernel_close(fd);
	kernel_close(null);
	return 0;
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
