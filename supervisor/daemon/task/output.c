/*
 * output.c - what tasks write: two memfds each, kept a while for logs.
 *
 * Of ended tasks the newest KEEP_TASKS are kept, and KEEP_BYTES of what they wrote; the oldest go
 * first. Of a task that writes without end, the beginning goes once it has LIVE_BYTES.
 */
#include "supervisor/daemon/task/output.h"
#include "supervisor/daemon/task/tasks.h"
#include "supervisor/keeper/keeper.h"
#include "supervisor/keeper/ledger.h"
#include "core/task/task.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEEP_TASKS 1000u
#define KEEP_BYTES (256ul << 20)
#define LIVE_BYTES (128ul << 20)

static struct job *oldest, **newest = &oldest;
static unsigned nkept;
static uint64_t bytes_kept;

static int make(const char *name)
{
	int fd = memfd_create(name, MFD_CLOEXEC);

	if (fd >= 0)
		fcntl(fd, F_SETFL, O_APPEND);
	return fd;
}

int sh_output_open(struct job *j)
{
	if (j->out < 0)
		j->out = make("stdout");
	if (j->err < 0)
		j->err = make("stderr");
	return j->out < 0 || j->err < 0 ? -1 : 0;
}

int sh_output_reader(int fd, bool empty)
{
	char path[40];

	if (fd < 0)
		return empty ? memfd_create("nothing", MFD_CLOEXEC) : -1;
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	return open(path, O_RDONLY | O_CLOEXEC);
}

static uint64_t bytes_of(int fd)
{
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

static void forget(struct job *j)
{
	if (j->out >= 0)
		close(j->out);
	if (j->err >= 0)
		close(j->err);
	j->out = j->err = -1;
}

void sh_output_drop(struct job *j)
{
	for (struct job **at = &oldest; *at; at = &(*at)->newer)
		if (*at == j) {
			*at = j->newer;
			if (!*at)
				newest = at;
			nkept--;
			bytes_kept -= j->output_bytes;
			atomic_store(&sh_ledger->job[j->id % TASK_SLOTS].over, JOB_DROPPED);
			break;
		}
	if (j->id)
		sh_keeper_drop(j->id, 7);
	forget(j);
}

/* Most tasks write to one of them at most. */
static bool drop_empty(int *fd)
{
	struct stat st;

	if (*fd >= 0 && (fstat(*fd, &st) < 0 || st.st_size > 0))
		return false;
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	return true;
}

void sh_output_keep(struct job *j)
{
	j->out_empty = drop_empty(&j->out);
	j->err_empty = drop_empty(&j->err);
	sh_keeper_drop(j->id, j->out_empty * 1u | j->err_empty * 2u | 4u);
	j->output_bytes = bytes_of(j->out) + bytes_of(j->err);
	j->newer = NULL;
	*newest = j;
	newest = &j->newer;
	nkept++;
	bytes_kept += j->output_bytes;
	while (oldest && oldest != j && (nkept > KEEP_TASKS || bytes_kept > KEEP_BYTES))
		sh_output_drop(oldest);
}

static void trim(int fd)
{
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || (uint64_t)st.st_blocks * 512 < LIVE_BYTES)
		return;
	fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, st.st_size - (off_t)(LIVE_BYTES / 2));
}

void sh_output_trim(void)
{
	for (unsigned i = 0; i < sh_jobs_live(); i++) {
		trim(sh_job_live(i)->out);
		trim(sh_job_live(i)->err);
	}
}
