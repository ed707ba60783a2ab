/*
 * posix/spawn.c - other programs: posix_spawn, waitpid and kin, system, popen.
 *
 * A child belongs to the process that made it, a goroutine does not. So each child is written down
 * in the segment: the worker that made it reaps it when it ends and notes how; who waits for it
 * waits on a pidfd, in whatever worker. A worker that leaves in good order stays until its
 * children have ended.
 *
 * The child is made by a thread with a descriptor table of its own, in which 1 and 2 are the
 * task's output and the descriptors of other tasks are closed; what is not close-on-exec of the
 * task's own is inherited, as it should be.
 *
 * OWNER  the worker in seat, while that process lives; reaped when state says ended: the task
 * DEATH  of the worker: nobody can learn how its children end, who waits for them is told ECHILD
 */
#include "worker/posix/own.h"
#include "worker/posix/posix.h"
#include "shm/kill.h"
#include "shm/offspring.h"
#include "worker/arrivals.h"
#include "worker/flags.h"
#include "worker/posix/signal.h"
#include "worker/posix/thread_cancel.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define CHILDREN 4096

enum { CHILD_FREE, CHILD_MADE, CHILD_ENDED };

struct child {
	_Atomic uint64_t task; /* id; 0: the entry is free */
	_Atomic uint64_t
		was; /* the task of pid, also when the entry is free again: a signal that it sent may still come */
	_Atomic uint32_t state;
	_Atomic int32_t pid;
	int32_t seat;
	uint32_t generation;
	int32_t status;
	FILE *file;	       /* of popen */
	_Atomic uint32_t told; /* its task was sent SIGCHLD */
	struct rusage usage;
};
#define children ((struct child *)(SH_BASE + SH_OFF_CHILD))

/* ---- reaping, in the worker that made it ---- */

static void reap_ours(void)
{
	unsigned generation = sh_root->seat[getm->seat].generation;
	int err = errno;
	bool some = false;

	for (struct child *c = children; c < children + atomic_load(&posix_shared->children_top); c++) {
		int status;

		if (!atomic_load(&c->task) || atomic_load(&c->state) != CHILD_MADE || c->seat != getm->seat ||
		    c->generation != generation || atomic_load(&c->pid) <= 0)
			continue;
		if (syscall(SYS_wait4, atomic_load(&c->pid), &status, WNOHANG, &c->usage) != atomic_load(&c->pid))
			continue;
		c->status = status;
		atomic_store(&c->state, CHILD_ENDED);
		KILL_POINT("child.reaped");
		some = true;
	}
	if (some)
		arrivals_child();
	errno = err;
}

static void on_child(int sig)
{
	(void)sig;
	flags_clean();
	reap_ours();
}

/* ---- SIGCHLD, and signals that children send ---- */

static void info_of(const struct child *c, siginfo_t *info)
{
	int killed = WIFSIGNALED(c->status);

	*info = (siginfo_t){.si_signo = SIGCHLD};
	info->si_pid = atomic_load(&((struct child *)c)->pid);
	info->si_uid = getuid();
	info->si_code = !killed ? CLD_EXITED : WCOREDUMP(c->status) ? CLD_DUMPED : CLD_KILLED;
	info->si_status = killed ? WTERMSIG(c->status) : WEXITSTATUS(c->status);
}

void children_tell(void)
{
	for (struct child *c = children; c < children + atomic_load(&posix_shared->children_top); c++) {
		uint64_t id = atomic_load(&c->task);
		struct task *t = task_at(id % TASK_SLOTS);
		uint32_t none = 0;
		siginfo_t info;

		if (!id || atomic_load(&c->state) != CHILD_ENDED || t->id != id ||
		    !atomic_compare_exchange_strong(&c->told, &none, 1))
			continue;
		KILL_POINT("child.told");
		info_of(c, &info);
		if (atomic_load(&t->state) == TASK_RUNNING)
			signal_send_task(t, NULL, &info);
	}
}

uint64_t children_task_of(int32_t pid)
{
	for (struct child *c = children; c < children + atomic_load(&posix_shared->children_top); c++)
		if (pid > 0 && atomic_load(&c->pid) == pid)
			return atomic_load(&c->was);
	return 0;
}

uint64_t children_only_task(void)
{
	uint64_t only = 0;

	for (struct child *c = children; c < children + atomic_load(&posix_shared->children_top); c++) {
		uint64_t id = atomic_load(&c->task);

		if (!id || c->seat != getm->seat || atomic_load(&c->state) != CHILD_MADE ||
		    c->generation != sh_root->seat[getm->seat].generation)
			continue;
		if (only && only != id)
			return 0;
		only = id;
	}
	return only;
}

static bool lives(const struct child *c)
{
	return sh_root->seat[c->seat].generation == c->generation && !sh_seat_dead((unsigned)c->seat) &&
	       !atomic_load(&sh_root->seat[c->seat].exited_clean);
}

bool children_left(void)
{
	bool some = false;
	siginfo_t si;

	reap_ours();
	for (struct child *c = children; c < children + atomic_load(&posix_shared->children_top); c++)
		some |= atomic_load(&c->task) && atomic_load(&c->state) == CHILD_MADE && c->seat == getm->seat &&
			lives(c) &&
			syscall(SYS_waitid, P_PID, atomic_load(&c->pid), &si, WEXITED | WNOHANG | WNOWAIT, NULL) == 0;
	return some;
}

static bool is_free(struct child *c, uint64_t *task)
{
	struct task *t;

	*task = atomic_load(&c->task);
	if (!*task)
		return true;
	t = task_at(*task % TASK_SLOTS);
	/* Its task is over; or it never came to be, because its maker died. */
	return (t->id != *task || atomic_load(&t->state) == TASK_ENDED) &&
	       (atomic_load(&c->state) == CHILD_ENDED || !lives(c));
}

static struct child *new_child(struct g *g)
{
	for (uint32_t i = 0; i < CHILDREN; i++) {
		struct child *c = &children[i];
		uint32_t top = atomic_load(&posix_shared->children_top);
		uint64_t was;

		if (!is_free(c, &was) || !atomic_compare_exchange_strong(&c->task, &was, g->task->id))
			continue;
		c->file = NULL;
		atomic_store(&c->told, 0);
		atomic_store(&c->pid, 0);
		atomic_store(&c->state, CHILD_FREE);
		KILL_POINT("child.taken");
		while (top <= i && !atomic_compare_exchange_weak(&posix_shared->children_top, &top, i + 1))
			;
		return c;
	}
	errno = EAGAIN;
	return NULL;
}

/* ---- making ---- */

typedef int spawn_fn(pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *,
		     char *const *, char *const *);

struct spawn {
	const char *name, *call;
	const posix_spawn_file_actions_t *actions;
	const posix_spawnattr_t *attr;
	char *const *argv, *const *env;
	struct task *task;
	struct child *child;
	uint64_t blocked, ignored; /* what the goroutine and its task have set: the program begins with it */
	int r;
};

static void own_descriptors(const struct task *t)
{
	uint32_t top = atomic_load(&sched.fd_top);

	syscall(SYS_dup3, t->fd_out, 1, 0);
	syscall(SYS_dup3, t->fd_err, 2, 0);
	for (uint32_t fd = 3; fd < top; fd++) {
		uint32_t owner = atomic_load(&poll_owner[fd]);

		if (owner && owner != t->slot + 1)
			syscall(SYS_close, fd);
	}
}

/*
 * A program inherits which signals are ignored from the process that makes it: for that moment the worker ignores
 * them too. A signal that comes to the worker then is lost. Not SIGCHLD: the kernel would not tell how children end.
 */
static void ignore(uint64_t set, bool on)
{
	static struct sigaction had[_NSIG];
	struct sigaction a = {.sa_handler = SIG_IGN};

	for (set &= ~(SIG_UNBLOCKABLE | SIG_BIT(SIGCHLD)); set; set &= set - 1) {
		int sig = __builtin_ctzll(set) + 1;

		sigaction(sig, on ? &a : &had[sig], on ? &had[sig] : NULL);
	}
}

static bool asked_default(const posix_spawnattr_t *attr, int sig)
{
	sigset_t asked;

	return posix_spawnattr_getsigdefault(attr, &asked) == 0 && sigismember(&asked, sig);
}

static void *spawn_thread(void *arg)
{
	struct spawn *s = arg;
	posix_spawnattr_t attr;
	short flags = 0;
	sigset_t defaults;
	spawn_fn *real;
	pid_t pid;

	real = LIBC_OWN(s->call);
	if (unshare(CLONE_FILES) < 0) {
		s->r = errno;
		return NULL;
	}
	own_descriptors(s->task);
	sh_timer_slack(true); /* of this thread: the program inherits it */
	posix_spawnattr_init(&attr);
	if (s->attr)
		attr = *s->attr;
	posix_spawnattr_getflags(&attr, &flags);
	/*
	 * What the worker ignores for itself, a program must not: every signal is at its default, libc's own 32 and
	 * 33 too, but for those that the task ignores and that the caller did not ask to reset.
	 */
	memset(&defaults, 0xff, sizeof defaults);
	for (int sig = 1; sig < 32; sig++)
		if ((s->ignored & SIG_BIT(sig)) && !((flags & POSIX_SPAWN_SETSIGDEF) && asked_default(&attr, sig)))
			sigdelset(&defaults, sig);
	posix_spawnattr_setsigdefault(&attr, &defaults);
	posix_spawnattr_setflags(&attr, (short)(flags | POSIX_SPAWN_SETSIGDEF));
	s->child->seat = getm->seat;
	s->child->generation = sh_root->seat[getm->seat].generation;
	ignore(s->ignored, true);
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &s->blocked, NULL, _NSIG / 8);
	s->r = real(&pid, s->name, s->actions, &attr, s->argv, s->env);
	ignore(s->ignored, false);
	if (s->r == 0) {
		atomic_store(&s->child->state, CHILD_MADE);
		atomic_store(&s->child->was, s->task->id);
		atomic_store(&s->child->pid, pid);
		KILL_POINT("child.made");
	}
	return NULL;
}

static void spawn_out(void *arg)
{
	struct spawn *s = arg;
	struct sigaction sa = {.sa_handler = on_child, .sa_flags = SA_RESTART | SA_NOCLDSTOP | SA_ONSTACK}, old;
	uint64_t all = ~0ull, none, mark;
	pthread_t thread;
	int r;

	if (sigaction(SIGCHLD, NULL, &old) == 0 && old.sa_handler != on_child)
		sigaction(SIGCHLD, &sa, NULL);
	mark = sh_offspring_mark(s->task->id);
	/* The thread takes no signal of the worker's. */
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &none, _NSIG / 8);
	r = pthread_create(&thread, NULL, spawn_thread, s);
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, _NSIG / 8);
	if (r)
		s->r = r;
	else
		pthread_join(thread, NULL);
	sh_offspring_unmark(mark);
	reap_ours(); /* it may have ended before it was written down */
}

static int spawn(pid_t *pid, struct spawn s)
{
	struct g *g = getg();
	struct child *c = new_child(g);

	if (!c)
		return errno;
	s.task = g->task;
	s.child = c;
	s.blocked = sig_blocked(g);
	s.ignored = signals_ignored(g->task);
	atomic_store(&g->task->programs, 1);
	KILL_POINT("child.announced");
	outcall(spawn_out, &s);
	if (s.r) {
		atomic_store(&c->task, 0);
		return s.r;
	}
	if (pid)
		*pid = atomic_load(&c->pid);
	return 0;
}

int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attr,
		char *const argv[], char *const env[])
{
	static spawn_fn *real;

	if (posix_enter())
		return spawn(pid, (struct spawn){.name = path,
						 .call = "posix_spawn",
						 .actions = actions,
						 .attr = attr,
						 .argv = argv,
						 .env = env});
	LIBC_FIND(real, "posix_spawn");
	return real(pid, path, actions, attr, argv, env);
}

int posix_spawnp(pid_t *pid, const char *name, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attr,
		 char *const argv[], char *const env[])
{
	static spawn_fn *real;

	if (posix_enter())
		return spawn(pid, (struct spawn){.name = name,
						 .call = "posix_spawnp",
						 .actions = actions,
						 .attr = attr,
						 .argv = argv,
						 .env = env});
	LIBC_FIND(real, "posix_spawnp");
	return real(pid, name, actions, attr, argv, env);
}

/* ---- waiting ---- */

/* One of the task's children: pid, or -1 for any, those that have ended first. */
static struct child *find_child(uint64_t task, pid_t pid)
{
	struct child *some = NULL;

	for (struct child *c = children; c < children + atomic_load(&posix_shared->children_top); c++) {
		uint32_t state = atomic_load(&c->state);

		if (atomic_load(&c->task) != task || state == CHILD_FREE || (pid > 0 && atomic_load(&c->pid) != pid))
			continue;
		if (state == CHILD_ENDED || pid > 0)
			return c;
		some = c;
	}
	return some;
}

/* 0, -ECANCELED, or -EINTR if a handler ends the wait. */
static int nap_for(int64_t ns)
{
	int r = sleep_until(host_now() + ns, WAIT_SLEEP);

	return r == -ECANCELED || r == -EINTR ? r : 0;
}

/* Parks until the child has ended. 0, or -errno. */
static int await_end(struct child *c)
{
	int64_t nap = 50000;
	int fd = fd_made((int)syscall(SYS_pidfd_open, atomic_load(&c->pid), 0)), r = 0;

	while (atomic_load(&c->state) != CHILD_ENDED && r == 0) {
		struct pollwait w;
		struct pollfd p = {.fd = fd, .events = POLLIN};

		if (!lives(c)) {
			r = -ECHILD;
		} else if (fd >= 0 && (fd_kind(fd), w = netpoll_begin(fd, POLL_READ), fd_watch(&w)) &&
			   syscall(SYS_ppoll, &p, 1, &(struct timespec){0, 0}, NULL, 0) == 0) {
			r = netpoll_wait(&w, 1, host_now() + 1000000000); /* its worker may die: a look now and then */
			r = r == -ETIMEDOUT || r == -ERESTART ? 0 : r;
		} else { /* ended: its worker is about to note how */
			r = nap_for(nap);
			nap = nap < 10000000 ? nap * 2 : nap;
		}
	}
	if (fd >= 0)
		fd_close(fd);
	return atomic_load(&c->state) == CHILD_ENDED ? 0 : r;
}

/* One that has ended. Parks. NULL: *r says why, 0 that none has yet (WNOHANG). */
static struct child *await_child(struct g *g, pid_t pid, int options, int *r)
{
	for (;;) {
		struct child *c = find_child(g->task->id, pid);

		*r = c ? 0 : -ECHILD;
		if (!c)
			return NULL;
		if (c->seat == getm->seat)
			reap_ours();
		if (atomic_load(&c->state) == CHILD_ENDED)
			return c;
		if (!lives(c)) {
			atomic_store(&c->task, 0);
			continue;
		}
		if (options & WNOHANG)
			return NULL;
		*r = pid > 0 ? await_end(c) : nap_for(2000000);
		if (*r == -ECANCELED || *r == -EINTR)
			return NULL;
	}
}

pid_t wait4(pid_t pid, int *status, int options, struct rusage *usage)
{
	CANCEL_POINT();
	struct g *g = posix_enter();
	struct child *c;
	int r;

	if (!g)
		return (pid_t)syscall(SYS_wait4, pid, status, options, usage);
	c = await_child(g, pid, options, &r);
	if (!c) {
		errno = r ? -r : errno;
		return r ? -1 : 0;
	}
	pid = atomic_load(&c->pid);
	if (status)
		*status = c->status;
	if (usage)
		*usage = c->usage;
	atomic_store(&c->task, 0);
	return pid;
}

/* Like wait4, but for the form of the answer, and that it may be left for another to take. */
int waitid(idtype_t type, id_t id, siginfo_t *info, int options)
{
	CANCEL_POINT();
	struct g *g = posix_enter();
	pid_t pid = type == P_PID ? (pid_t)id : -1;
	struct child *c;
	int r = 0;

	if (!g)
		return (int)syscall(SYS_waitid, type, id, info, options, NULL);
	if ((type != P_PID && type != P_ALL) || !(options & WEXITED)) { /* nothing is told of stops */
		errno = EINVAL;
		return -1;
	}
	c = await_child(g, pid, options, &r);
	if (!c) {
		if (r == 0 && info)
			*info = (siginfo_t){.si_signo = 0};
		errno = r ? -r : errno;
		return r ? -1 : 0;
	}
	if (info)
		info_of(c, info);
	if (!(options & WNOWAIT))
		atomic_store(&c->task, 0);
	return 0;
}

pid_t waitpid(pid_t pid, int *status, int options)
{
	CANCEL_POINT();
	return wait4(pid, status, options, NULL);
}

pid_t wait(int *status)
{
	CANCEL_POINT();
	return wait4(-1, status, 0, NULL);
}

pid_t wait3(int *status, int options, struct rusage *usage)
{
	CANCEL_POINT();
	return wait4(-1, status, options, usage);
}

/* ---- system, popen ---- */

static int shell(pid_t *pid, const char *command, const posix_spawn_file_actions_t *actions)
{
	char *argv[] = {"sh", "-c", (char *)command, NULL};

	return posix_spawn(pid, "/bin/sh", actions, NULL, argv, environ);
}

/* The wait status of a program. A handler that ends a wait with EINTR does not end this one, as in libc. */
static int end_of(pid_t pid)
{
	int status, r;

	do
		r = waitpid(pid, &status, 0);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -1 : status;
}

int system(const char *command)
{
	CANCEL_POINT();
	static int (*real)(const char *);
	int r;
	pid_t pid;

	if (!posix_enter()) {
		LIBC_FIND(real, "system");
		return real(command);
	}
	if (!command)
		return 1;
	fflush(NULL);
	r = shell(&pid, command, NULL);
	if (r) {
		errno = r;
		return -1;
	}
	return end_of(pid);
}

FILE *popen(const char *command, const char *mode)
{
	static FILE *(*real)(const char *, const char *);
	posix_spawn_file_actions_t actions;
	int fd[2], reads = mode[0] == 'r', r;
	struct child *c;
	pid_t pid;
	FILE *f;

	if (!posix_enter()) {
		LIBC_FIND(real, "popen");
		return real(command, mode);
	}
	if (pipe2(fd, O_CLOEXEC) < 0)
		return NULL;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, fd[reads], reads);
	r = shell(&pid, command, &actions);
	posix_spawn_file_actions_destroy(&actions);
	close(fd[reads]);
	f = r == 0 ? fdopen(fd[!reads], reads ? "r" : "w") : NULL;
	if (!f) {
		close(fd[!reads]);
		errno = r ? r : errno;
		return NULL;
	}
	c = find_child(getg()->task->id, pid);
	if (c)
		c->file = f;
	return f;
}

int pclose(FILE *f)
{
	static int (*real)(FILE *);
	struct g *g = posix_enter();
	struct child *c;

	if (!g) {
		LIBC_FIND(real, "pclose");
		return real(f);
	}
	for (c = children; c < children + atomic_load(&posix_shared->children_top); c++)
		if (atomic_load(&c->task) == g->task->id && c->file == f) {
			c->file = NULL; /* its address may be another stream's in a moment */
			fclose(f);
			return end_of(atomic_load(&c->pid));
		}
	errno = ECHILD;
	return -1;
}
