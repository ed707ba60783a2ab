/*
 * named.c - semaphores with a name, which other tasks and processes share.
 *
 * One is a file of libc's format in /dev/shm, mapped into the task: so a task and any process that opened the name
 * with libc's sem_open are at the same word, and sem_wait and sem_post (sem.c) work on it as on any semaphore that is
 * shared between processes. A task has each file mapped once: all goroutines get the same address for it.
 *
 * OWNER  the task: task_own.semaphores is a list of what it has open, in its heap
 * LOCK   task->lock for the list and the counts
 * ORDER  an entry is complete before it is in the list
 * DEATH  before it is in the list an entry costs a block and a page until the task ends; a count that a dead
 *        goroutine has raised stays, so the mapping stays until the task ends
 */
#include "core/task/task.h"
#include "shm/kill.h"
#include "worker/posix/posix.h"

#include <fcntl.h>
#include <limits.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define FOLDER "/dev/shm/"
#define PREFIX "sem."
#define NAME_ROOM (NAME_MAX - 4) /* libc's limit: four bytes for the prefix */
#define PATH_ROOM (sizeof FOLDER + NAME_MAX + 1)
#define TRIES 100

struct named {
	struct named *next;
	dev_t device;
	ino_t file;
	sem_t *at;
	uint64_t count; /* sem_open without sem_close */
};

REAL(int, sem_close, (sem_t * s), s)

static bool path_of(const char *name, char path[PATH_ROOM])
{
	size_t n;

	while (*name == '/')
		name++;
	n = strlen(name);
	if (n == 0 || strchr(name, '/') || n > NAME_ROOM) {
		errno = n > NAME_ROOM ? ENAMETOOLONG : EINVAL;
		return false;
	}
	snprintf(path, PATH_ROOM, "%s%s%s", FOLDER, PREFIX, name);
	return true;
}

/* The file becomes visible under its name only when it is complete. 0, or -1 and errno. */
static int make_file(const char *path, mode_t mode, unsigned value)
{
	char early[PATH_ROOM + 32];
	int fd, r, err;
	sem_t s;

	memset(&s, 0, sizeof s);
	if (sem_init(&s, 1, value) < 0)
		return -1;
	for (int i = 0;; i++) {
		snprintf(early, sizeof early, "%s%s%lx.%x", FOLDER, PREFIX, (unsigned long)getg()->gid,
			 (unsigned)host_now());
		fd = open(early, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
		if (fd >= 0)
			break;
		if (errno != EEXIST || i == TRIES)
			return -1;
	}
	r = write(fd, &s, sizeof s) == (ssize_t)sizeof s ? link(early, path) : -1;
	err = errno;
	close(fd);
	unlink(early);
	errno = err;
	return r;
}

/* A descriptor of the file, which is made if the flags say so. -1 and errno. */
static int open_file(const char *path, int flags, mode_t mode, unsigned value)
{
	for (int i = 0; i < TRIES; i++) {
		bool exclusive = (flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL);
		int fd = exclusive ? -1 : open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);

		if (fd >= 0 || (!exclusive && (errno != ENOENT || !(flags & O_CREAT))))
			return fd;
		if (value > SEM_VALUE_MAX) {
			errno = EINVAL;
			return -1;
		}
		if (make_file(path, mode, value) < 0 && (errno != EEXIST || exclusive))
			return -1;
		flags &= ~O_EXCL; /* it is there */
	}
	errno = EAGAIN;
	return -1;
}

/* Holds: task->lock. The place in the list that names it. */
static struct named **find(struct task *t, const struct named *like)
{
	struct named **at = (struct named **)&task_own(t)->semaphores;

	while (*at && (like->at ? (*at)->at != like->at : (*at)->device != like->device || (*at)->file != like->file))
		at = &(*at)->next;
	return at;
}

/* Counts one more opening, if the task has the file open already. */
static sem_t *open_again(const struct named *like)
{
	struct task *t = process_state_begin();
	struct named *n = *find(t, like);
	sem_t *s = n ? n->at : SEM_FAILED;

	if (n)
		n->count++;
	KILL_POINT("sem.counted");
	process_state_end(t, false);
	return s;
}

/* Another goroutine may have opened the same file meanwhile: then its mapping stays, and ours goes. */
static sem_t *add(struct named *mine)
{
	struct named like = {.device = mine->device, .file = mine->file};
	struct task *t = process_state_begin();
	struct named **at = find(t, &like), *n = *at;

	if (n)
		n->count++;
	else
		*at = n = mine;
	KILL_POINT("sem.listed");
	process_state_end(t, false);
	return n->at;
}

static sem_t *map_file(int fd)
{
	struct named like = {.at = NULL}, *mine;
	struct stat st;
	sem_t *s;

	if (fstat(fd, &st) < 0)
		return SEM_FAILED;
	if (st.st_size < (off_t)sizeof(sem_t)) {
		errno = EINVAL;
		return SEM_FAILED;
	}
	like.device = st.st_dev;
	like.file = st.st_ino;
	if ((s = open_again(&like)) != SEM_FAILED)
		return s;
	mine = malloc(sizeof *mine);
	if (!mine)
		return SEM_FAILED;
	*mine = like;
	mine->count = 1;
	mine->at = mmap(NULL, sizeof(sem_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	s = mine->at == MAP_FAILED ? SEM_FAILED : add(mine);
	if (s != mine->at) {
		if (mine->at != MAP_FAILED)
			munmap(mine->at, sizeof(sem_t));
		free(mine);
	}
	return s;
}

sem_t *sem_open(const char *name, int flags, ...)
{
	static sem_t *(*libc)(const char *, int, mode_t, unsigned);
	char path[PATH_ROOM];
	mode_t mode = 0;
	unsigned value = 0;
	va_list ap;
	sem_t *s;
	int fd, err;

	va_start(ap, flags);
	if (flags & O_CREAT) {
		mode = va_arg(ap, mode_t);
		value = va_arg(ap, unsigned);
	}
	va_end(ap);
	if (!posix_enter()) {
		LIBC_FIND(libc, "sem_open");
		return libc(name, flags, mode, value);
	}
	if (!path_of(name, path))
		return SEM_FAILED;
	fd = open_file(path, flags, mode, value);
	if (fd < 0)
		return SEM_FAILED;
	s = map_file(fd);
	err = errno;
	close(fd);
	errno = err;
	return s;
}

int sem_close(sem_t *s)
{
	struct named like = {.at = s}, **at, *n, *last = NULL;
	struct task *t;

	if (!on_g())
		return real_sem_close(s);
	t = process_state_begin();
	at = find(t, &like);
	n = *at;
	if (n && --n->count == 0) {
		*at = n->next;
		last = n;
	}
	KILL_POINT("sem.closed");
	process_state_end(t, false);
	if (!n) {
		errno = EINVAL;
		return -1;
	}
	if (last) {
		munmap(last->at, sizeof(sem_t));
		free(last);
	}
	return 0;
}
