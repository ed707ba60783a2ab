/*
 * spill.c - copies output that exceeds the memory budget to files, DIR/task-ID.stdout and DIR/task-ID.stderr.
 *
 * A byte has the same offset in the file as in the stream, so a piece can be copied again after a death of the
 * supervisor. The ledger's `moved` (where the memory of a stream begins) is stored only when all bytes before it
 * are in the file. Threads of libuv copy, because a disk may block a write.
 *
 * OWNER  the supervisor: it keeps a lock on the folder while it lives
 */
#include "shm/kernel.h"
#include "supervisor/daemon/task/spill.h"
#include "supervisor/daemon/log.h"
#include "supervisor/daemon/main.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#define COPIES_MAX 8u

struct copy {
	uv_work_t work;
	uint64_t task, from, to;
	int stream, fd, err;
	spill_done *done;
};

static char folder[PATH_MAX];
static int folder_fd = -1;
static unsigned ncopies;

bool sh_spill_on(void)
{
	return folder_fd >= 0;
}

static const char *name_of(char name[64], uint64_t task, int stream)
{
	snprintf(name, 64, "task-%lu.%s", (unsigned long)task, stream ? "stderr" : "stdout");
	return name;
}

static bool is_spill_file(const char *name)
{
	unsigned long task;
	char stream[8], again[64];

	return sscanf(name, "task-%lu.%7s", &task, stream) == 2 &&
	       strcmp(name, name_of(again, task, strcmp(stream, "stderr") == 0)) == 0;
}

static void remove_files(void)
{
	DIR *d = opendir(folder);

	for (struct dirent *e; d && (e = readdir(d));)
		if (is_spill_file(e->d_name))
			unlinkat(folder_fd, e->d_name, 0);
	if (d)
		closedir(d);
}

int sh_spill_start(const char *dir, bool fresh, char *error, size_t n)
{
	if (kernel_mkdir(dir, 0700) < 0 && errno != EEXIST) {
		snprintf(error, n, "cannot make the output folder %s: %s", dir, strerror(errno));
		return -1;
	}
	folder_fd = kernel_open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	if (folder_fd < 0 || !realpath(dir, folder)) {
		snprintf(error, n, "cannot open the output folder %s: %s", dir, strerror(errno));
		return -1;
	}
	if (kernel_flock(folder_fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno == EWOULDBLOCK)
			snprintf(
				error, n,
				"another supervisor uses the output folder %s: give each supervisor its own --output-dir",
				dir);
		else
			snprintf(error, n, "cannot lock the output folder %s: flock: %s", dir, strerror(errno));
		return -1;
	}
	if (fresh)
		remove_files();
	return 0;
}

void sh_spill_stop(void)
{
	if (sh_spill_on())
		remove_files();
}

/* ---- in a thread ---- */

static int copy_piece(int to_fd, const struct copy *c)
{
	off_t at = (off_t)c->from;

	if (lseek(to_fd, at, SEEK_SET) != at)
		return -errno;
	while (at < (off_t)c->to) {
		ssize_t n = kernel_sendfile(to_fd, c->fd, &at, (size_t)((off_t)c->to - at));

		if (n == 0)
			return -EIO;
		if (n < 0 && errno != EINTR)
			return -errno;
	}
	return 0;
}

static void copy_work(uv_work_t *work)
{
	struct copy *c = work->data;
	char name[64];
	int fd = kernel_openat(folder_fd, name_of(name, c->task, c->stream),
			       O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	c->err = fd < 0 ? -errno : copy_piece(fd, c);
	if (fd >= 0)
		kernel_close(fd);
}

/* ---- in the loop ---- */

static void copy_over(uv_work_t *work, int status)
{
	struct copy *c = work->data;

	ncopies--;
	kernel_close(c->fd);
	c->done(c->task, c->stream, c->from, c->to, status ? -ECANCELED : c->err);
	free(c);
}

bool sh_spill_copy(uint64_t task, int stream, int fd, uint64_t from, uint64_t to, spill_done *done)
{
	struct copy *c = ncopies < COPIES_MAX ? calloc(1, sizeof *c) : NULL;

	if (!c)
		return false;
	*c = (struct copy){.task = task, .from = from, .to = to, .stream = stream, .done = done};
	c->work.data = c;
	c->fd = kernel_fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (c->fd < 0 || uv_queue_work(sh_loop, &c->work, copy_work, copy_over)) {
		if (c->fd >= 0)
			kernel_close(c->fd);
		free(c);
		return false;
	}
	ncopies++;
	return true;
}

int sh_spill_reader(uint64_t task, int stream)
{
	char name[64];

	return sh_spill_on()
		       ? kernel_openat(folder_fd, name_of(name, task, stream), O_RDONLY | O_CLOEXEC | O_NOFOLLOW, 0)
		       : -1;
}

void sh_spill_remove(uint64_t task, int stream)
{
	char name[64];

	if (sh_spill_on())
		unlinkat(folder_fd, name_of(name, task, stream), 0);
}
