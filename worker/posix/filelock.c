/*
 * filelock.c - fcntl's record locks, lockf and flock on a goroutine. See core/task/filelock.h.
 *
 * A request of F_SETLK becomes F_OFD_SETLK on the task's lock file for the same file. The lock file is
 * a description of its own, opened through /proc/self/fd; if that is not permitted it is a copy of
 * the caller's descriptor. What POSIX adds to the kernel's rules is done here: the access mode of
 * the caller's descriptor decides, and closing any descriptor of the file releases all locks of the
 * task on it.
 *
 * F_SETLKW waits in the kernel, as a system call that cancellation and signals end. Before it
 * waits it looks for a deadlock between tasks: the owner of the lock in its way may wait for a lock
 * of ours.
 */
#include "worker/posix/filelock.h"
#include "core/g/g.h"
#include "core/host.h"
#include "core/root.h"
#include "core/task/filelock.h"
#include "core/task/task.h"
#include "shm/kill.h"
#include "shm/lock.h"

#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>

#define INNER_FIRST 512u
#define CHAIN_MAX 32 /* tasks in a row, each waiting for the next one */

int fd_inner(int fd)
{
	unsigned first = sh_fd_ceiling() / 2 < INNER_FIRST ? sh_fd_ceiling() / 2 : INNER_FIRST;
	int inner, err;

	if (fd < 0)
		return -1;
	inner = (int)syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, first);
	err = errno;
	syscall(SYS_close, fd);
	if (inner >= 0 && (unsigned)inner >= POLL_FDS) {
		syscall(SYS_close, inner);
		inner = -1;
		err = EMFILE;
	}
	if (inner < 0) {
		errno = err;
		return -1;
	}
	KILL_POINT("fd.inner.made"); /* a death here leaves a stray: supervisor/zygote/strays.c */
	fd_adopt_inner(inner);
	return inner;
}

static struct task *lock_task(struct g *g)
{
	acquirem();
	sh_lock_take(&g->task->lock, (unsigned)getm->seat);
	return g->task;
}

static void unlock_task(struct task *t)
{
	sh_lock_drop(&t->lock, (unsigned)getm->seat);
	releasem();
}

/* ---- the lock file ---- */

static int open_again(int fd)
{
	char path[32];
	int again;

	sh_format(path, sizeof path, "/proc/self/fd/%d", fd);
	again = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0);
	return again >= 0 ? again : (int)syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 0);
}

static bool writable(int fd)
{
	return (syscall(SYS_fcntl, fd, F_GETFL) & O_ACCMODE) != O_RDONLY;
}

/*
 * The locks are released first: a waiter may have a copy of the descriptor, and after a death past the unlinking
 * nobody would release them. Holds: task->lock.
 */
static void forget_file(struct task *t, int fd)
{
	host_file_unlock(fd, false);
	sh_filelock_unlink(t, fd);
}

/* Makes the task's lock file for the file behind fd. Another goroutine may close it at any time. 0, or -1 and errno. */
static int make_lock_file(struct g *g, int fd, const struct stat *st, bool write)
{
	int made = fd_inner(S_ISREG(st->st_mode) ? open_again(fd) : (int)syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 0));
	struct task *t;
	int found;

	if (made < 0)
		return -1;
	*fd_lock(made) = (struct fd_lock){
		.kind = LOCKED_RECORDS, .dev = st->st_dev, .ino = st->st_ino, .gid = g->gid, .pid = getpid()};
	t = lock_task(g);
	found = sh_filelock_find(t, st->st_dev, st->st_ino);
	if (found >= 0 && (!write || writable(found))) { /* another goroutine was faster */
		unlock_task(t);
		host_file_close(made);
		return 0;
	}
	if (found >= 0)
		forget_file(t, found);
	sh_filelock_link(t, made);
	unlock_task(t);
	if (found >= 0)
		host_file_close(found);
	return 0;
}

void sh_filelock_closing(int fd)
{
	struct g *g = on_g();
	struct task *t;
	struct stat st;
	int found;

	if (!g || !g->task->file_locks || (unsigned)fd >= POLL_FDS || fstat(fd, &st) < 0)
		return;
	t = lock_task(g);
	if (fd_lock(fd)->kind == LOCKED_WHOLE)
		sh_filelock_unlink(t, fd);
	found = sh_filelock_find(t, st.st_dev, st.st_ino);
	if (found >= 0)
		forget_file(t, found);
	unlock_task(t);
	if (found >= 0)
		host_file_close(found);
}

void sh_filelock_whole(int fd)
{
	struct g *g = on_g();
	struct task *t;

	if (!g || (g->attempts <= 1 && !g->task->file_locks) || (unsigned)fd >= POLL_FDS)
		return;
	t = lock_task(g);
	sh_filelock_unlink(t, fd);
	*fd_lock(fd) = (struct fd_lock){.kind = LOCKED_WHOLE, .gid = g->gid};
	sh_filelock_link(t, fd);
	unlock_task(t);
}

void host_file_unlock(int fd, bool whole)
{
	struct flock all = {.l_type = F_UNLCK, .l_whence = SEEK_SET};

	syscall(SYS_fcntl, fd, F_OFD_SETLK, &all);
	if (whole)
		syscall(SYS_flock, fd, LOCK_UN);
}

/* ---- deadlocks between tasks ---- */

/* The goroutine still waits: the entry of one that died says nothing. */
static bool lock_waits(const struct fd_lock *l)
{
	uint64_t gid = atomic_load(&((struct fd_lock *)l)->wait_gid);
	struct g *g = gid ? allg(gid % GID_STEP) : NULL;

	return g && g_plausible(g) && g->gid == gid && (g_state(g) == G_SYSCALL || g_state(g) == G_RUNNING);
}

static uint32_t lock_file_task(int fd)
{
	uint32_t owner = atomic_load(&poll_owner[fd]);

	return owner & POLL_INNER && owner < POLL_HELD && fd_lock(fd)->kind == LOCKED_RECORDS ? owner & ~POLL_INNER : 0;
}

/* The lock file of another task that holds what the wait is for: nothing of others is in its own way there. -1: none is known. */
static int holder_of(const struct fd_lock *w, uint32_t waiter)
{
	for (uint32_t fd = 0; fd < atomic_load(&sched.fd_top); fd++) {
		struct flock test = {
			.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = w->wait_start, .l_len = w->wait_len};
		uint32_t owner = lock_file_task((int)fd);

		if (owner && owner != waiter && fd_lock(fd)->dev == w->dev && fd_lock(fd)->ino == w->ino &&
		    syscall(SYS_fcntl, fd, F_OFD_GETLK, &test) == 0 && test.l_type == F_UNLCK)
			return (int)fd;
	}
	return -1;
}

static const struct fd_lock *wait_of(uint32_t task)
{
	for (uint32_t fd = 0; fd < atomic_load(&sched.fd_top); fd++)
		if (lock_file_task((int)fd) == task && lock_waits(fd_lock(fd)))
			return fd_lock(fd);
	return NULL;
}

/* The tasks that wait for each other, from ours on, come back to ours. */
static bool deadlocks(const struct fd_lock *w, uint32_t me)
{
	uint32_t waiter = me;

	for (unsigned n = 0; n < CHAIN_MAX && w; n++) {
		int held = holder_of(w, waiter);

		if (held < 0)
			return false;
		waiter = lock_file_task(held);
		if (waiter == me)
			return true;
		w = waiter ? wait_of(waiter) : NULL;
	}
	return false;
}

/* Waits on a copy of the lock file, which another goroutine may close meanwhile. */
static int wait_for_lock(struct g *g, int file, int copy, struct flock *l)
{
	struct fd_lock *e = fd_lock(file);
	uint64_t none = 0;
	bool noted;
	int r;

	if (!lock_waits(e))
		atomic_store(&e->wait_gid, 0);
	KILL_POINT("filelock.wait.free");
	e->wait_start = l->l_start;
	e->wait_len = l->l_len;
	noted = atomic_compare_exchange_strong(&e->wait_gid, &none, g->gid);
	KILL_POINT("filelock.wait.noted");
	if (noted && deadlocks(e, g->task->slot + 1)) {
		errno = EDEADLK;
		r = -1;
	} else {
		r = (int)BLOCKING(SYS_fcntl, copy, F_OFD_SETLKW, l);
	}
	if (noted)
		atomic_store(&e->wait_gid, 0);
	KILL_POINT("filelock.wait.over");
	return r;
}

/* ---- fcntl ---- */

/* The same range from the start of the file. */
static int make_absolute(int fd, const struct stat *st, const struct flock *l, struct flock *to)
{
	int64_t base = 0;

	*to = *l;
	if (l->l_whence == SEEK_CUR)
		base = syscall(SYS_lseek, fd, 0l, SEEK_CUR);
	else if (l->l_whence == SEEK_END)
		base = st->st_size;
	else if (l->l_whence != SEEK_SET)
		return EINVAL;
	if (base < 0)
		base = 0; /* it has no position */
	if (__builtin_add_overflow(base, l->l_start, &to->l_start))
		return EOVERFLOW;
	to->l_whence = SEEK_SET;
	to->l_pid = 0;
	return to->l_start < 0 ? EINVAL : 0;
}

/*
 * The kernel knows the holder only as the owner of an open file description. If a task is the owner: the pid
 * that getpid() gave it when it locked, or, if that worker has been replaced, a worker that lives.
 */
static int32_t pid_of_holder(const struct stat *st, const struct flock *found, uint32_t me)
{
	struct fd_lock w = {
		.dev = st->st_dev, .ino = st->st_ino, .wait_start = found->l_start, .wait_len = found->l_len};
	int held = holder_of(&w, me);
	int32_t pid = getpid();

	if (held < 0)
		return -1;
	for (unsigned i = 1; i < SH_SEATS; i++) {
		int32_t other = atomic_load(&sh_root->seat[i].pid);

		if (atomic_load(&sh_root->seat[i].state) != SEAT_LIVE)
			continue;
		if (other == fd_lock(held)->pid)
			return other;
		if (i != (unsigned)getm->seat)
			pid = other;
	}
	return pid;
}

static int get_lock(struct g *g, int fd, const struct stat *st, const struct flock *want, struct flock *l)
{
	struct task *t = lock_task(g);
	int file = sh_filelock_find(t, st->st_dev, st->st_ino);
	struct flock found = *want;

	unlock_task(t);
	if (syscall(SYS_fcntl, file >= 0 ? file : fd, F_OFD_GETLK, &found) < 0)
		return -1;
	if (found.l_type == F_UNLCK) {
		l->l_type = F_UNLCK;
		return 0;
	}
	if (found.l_pid < 0)
		found.l_pid = pid_of_holder(st, &found, t->slot + 1);
	*l = found;
	return 0;
}

static int fail_with(int err)
{
	errno = err;
	return -1;
}

/* One try. 0: locked, EAGAIN: another owner is in the way, ENOENT: the task has no lock file. *copy: of the lock file, to wait on. */
static int try_lock(struct g *g, const struct stat *st, const struct flock *want, int *file, int *copy)
{
	struct task *t = lock_task(g);
	int err = ENOENT;

	*file = sh_filelock_find(t, st->st_dev, st->st_ino);
	if (*file >= 0 && (want->l_type != F_WRLCK || writable(*file))) {
		if (want->l_type != F_UNLCK && fd_lock(*file)->gid != g->gid)
			fd_lock(*file)->gid = 0;
		KILL_POINT("filelock.try.owner");
		err = syscall(SYS_fcntl, *file, F_OFD_SETLK, want) == 0 ? 0 : errno == EACCES ? EAGAIN : errno;
		if (err == EAGAIN && copy)
			*copy = (int)syscall(SYS_fcntl, *file, F_DUPFD_CLOEXEC, 0);
	}
	unlock_task(t);
	return err;
}

static int set_lock(struct g *g, int fd, const struct stat *st, struct flock *want, bool wait)
{
	for (;;) {
		int file, copy = -1, err = try_lock(g, st, want, &file, wait ? &copy : NULL), r;

		if (err == ENOENT) {
			if (want->l_type == F_UNLCK)
				return 0;
			if (make_lock_file(g, fd, st, want->l_type == F_WRLCK) < 0)
				return fail_with(ENOLCK);
			continue;
		}
		if (err != EAGAIN || !wait)
			return err ? fail_with(err) : 0;
		copy = fd_inner(copy);
		if (copy < 0)
			return fail_with(ENOLCK);
		r = wait_for_lock(g, file, copy, want);
		err = errno;
		host_file_close(copy);
		if (r < 0)
			return fail_with(err);
		/* Once more: it is ours already, unless the lock file was closed during the wait. */
	}
}

int sh_filelock_record(int fd, int op, struct flock *l)
{
	struct g *g = getg();
	long flags = syscall(SYS_fcntl, fd, F_GETFL);
	struct flock want;
	struct stat st;
	int err;

	if (flags < 0 || fstat(fd, &st) < 0)
		return -1;
	if (flags & O_PATH)
		return fail_with(EBADF);
	err = make_absolute(fd, &st, l, &want);
	if (err)
		return fail_with(err);
	if (op == F_GETLK)
		return want.l_type == F_RDLCK || want.l_type == F_WRLCK ? get_lock(g, fd, &st, &want, l)
									: fail_with(EINVAL);
	if (want.l_type != F_RDLCK && want.l_type != F_WRLCK && want.l_type != F_UNLCK)
		return fail_with(EINVAL);
	if ((want.l_type == F_RDLCK && (flags & O_ACCMODE) == O_WRONLY) ||
	    (want.l_type == F_WRLCK && (flags & O_ACCMODE) == O_RDONLY))
		return fail_with(EBADF);
	return set_lock(g, fd, &st, &want, op == F_SETLKW);
}
