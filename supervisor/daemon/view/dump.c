/*
 * dump.c - copies the stacks of goroutines out of the segment: for `dump`, for SIGQUIT, and for a deadlocked task.
 *
 * A child of the supervisor does the work, because the data may be damaged and a running goroutine must be stopped
 * for a short time. The child has a seat of its own (DUMP_SEAT); if it dies, the medic repairs what it held. It
 * does not share the workers' descriptors, so the medic wakes workers for it. It writes a file
 * (core/repair/dump.h), which the command line turns into text; for the log and for a task's output the supervisor
 * runs `shoal dump` itself.
 *
 * OWNER  the supervisor; one child at a time, further requests wait in a queue
 */
#include "shm/kernel.h"
#include "supervisor/daemon/view/dump.h"
#include "supervisor/daemon/control.h"
#include "supervisor/daemon/failure.h"
#include "supervisor/daemon/fleet.h"
#include "supervisor/daemon/log.h"
#include "supervisor/daemon/main.h"
#include "supervisor/daemon/task/module.h"
#include "supervisor/daemon/task/pool.h"
#include "supervisor/keeper/ledger.h"
#include "supervisor/daemon/task/output.h"
#include "supervisor/daemon/view/ps.h"
#include "supervisor/daemon/view/symbol.h"
#include "core/g/g.h"
#include "core/g/life.h"
#include "core/g/names.h"
#include "core/g/stack.h"
#include "core/g/tstack.h"
#include "core/host.h"
#include "core/repair/dump.h"
#include "core/root.h"
#include "core/sched/m.h"
#include "core/sched/preempt.h"
#include "shm/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#define DUMP_SEAT (SH_SEATS - 3)
#define STOP_NS 100000000	/* time limit for one goroutine to reach a point where it can be stopped */
#define ALL_STOP_NS 2000000000l /* for all goroutines together */
#define CHILD_S 60
#define RETRY_MS 2u

struct dump {
	struct dump *next;
	struct asker *asker; /* the request; NULL: write text to out */
	uint64_t gid, task;  /* 0: all */
	int out;	     /* without asker: descriptor for the text, closed at the end */
	int file;	     /* the file that the child writes */
	sh_dump_done *done;
	void *arg;
};

static struct dump *waiting, **waiting_end = &waiting;
static struct dump *running_dump;
static uv_timer_t *retry;

static void next_dump(void);

/* ---- the child ---- */

static char stack[DUMP_STACK_MAX];

/*
 * Holds: the scan bit of a goroutine in a system call. entersyscall has left pc, sp and bp in the worker's m;
 * the other registers are unknown.
 */
static void copy_syscall(struct g *g, struct dump_g *d)
{
	uint64_t s = atomic_load(&g->status), used;
	int seat = G_OWNER_SEAT(s);
	uint32_t win = g->win;
	const struct m *m = allm(seat);

	d->flags |= DUMP_NO_STACK;
	if (seat <= 0 || seat >= SH_SEATS || !win_valid(win) || atomic_load(&g->res) != seat)
		return;
	used = (uint64_t)stack_top(win) - m->syscallsp;
	if (used > host_window_size(win) || used % 8)
		return;
	d->stack_used = used;
	d->pc = m->syscallpc;
	d->rsp = m->syscallsp;
	d->rbp = m->syscallbp;
	d->bytes = (uint32_t)(used < sizeof stack ? used : sizeof stack);
	memcpy(stack, host_region((unsigned)seat, win) + (d->rsp - (uint64_t)host_window(win)), d->bytes);
	d->flags ^= DUMP_NO_STACK;
}

/* Holds: the goroutine's scan bit. */
static void copy_stack(struct g *g, struct dump_g *d)
{
	int res = atomic_load(&g->res);
	uint32_t win = g->win;
	const struct saved_frame *f;
	uint64_t used;
	const char *from;

	if (!g->sp || !win_valid(win) || res == RES_NONE) {
		d->flags |= DUMP_NOT_BEGUN;
		return;
	}
	used = (uint64_t)(stack_top(win) - g->sp);
	if (used < sizeof *f || used > host_window_size(win) || used % 8 || res >= SH_SEATS) {
		d->flags |= DUMP_NO_STACK;
		return;
	}
	if (win_of_thread(win)) /* the frames never move, and are at the same addresses here */
		from = g->sp;
	else
		from = res == RES_IMAGE ? g->image : host_region((unsigned)res, win) + (g->sp - host_window(win));
	if (!from) {
		d->flags |= DUMP_NO_STACK;
		return;
	}
	f = (const struct saved_frame *)from;
	d->stack_used = used;
	d->pc = f->pc;
	d->rsp = (uint64_t)g->sp + sizeof *f;
	d->rbp = f->rbp;
	d->rbx = f->rbx;
	d->r12 = f->r12;
	d->r13 = f->r13;
	d->r14 = f->r14;
	d->r15 = f->r15;
	used -= sizeof *f;
	d->bytes = (uint32_t)(used < sizeof stack ? used : sizeof stack);
	memcpy(stack, from + sizeof *f, d->bytes);
}

/* Records the goroutine's state before the child stops it. */
static void record_state(struct g *g, struct dump_g *d)
{
	uint64_t s = atomic_load(&g->status);
	int64_t since = g->wait_since, now = (int64_t)sh_now();

	memset(d, 0, sizeof *d);
	d->gid = g->gid;
	d->task = sh_view_task_of(g);
	d->parent = g->parent;
	d->status = (uint32_t)(s & G_STATE);
	d->waitreason = g->waitreason < WAIT_REASONS ? g->waitreason : WAIT_ZERO;
	d->worker = d->status == G_RUNNING || d->status == G_SYSCALL || d->status == G_COPYSTACK ? G_OWNER_SEAT(s) : -1;
	d->worker = d->worker > 0 && d->worker < SH_SEATS ? d->worker : -1;
	d->p = d->worker > 0 ? atomic_load(&allm(d->worker)->p) : -1;
	d->waiting_ns = d->status == G_WAITING && since > 0 && since < now ? now - since : 0;
	d->stack_size = win_of_thread(g->win) ? host_window_size(g->win) : g->image_cap;
	d->gopc = (uint64_t)g->gopc;
	d->fn = (uint64_t)g->fn;
	d->flags = g->locked ? DUMP_PINNED : 0;
	sh_view_name(d->name, g->name);
}

static bool matches_request(const struct dump *w, const struct dump_g *d)
{
	return d->gid && d->status != G_DEAD && d->status != G_IDLE && (!w->gid || d->gid == w->gid) &&
	       (!w->task || d->task == w->task);
}

static unsigned write_modules(FILE *f, bool write)
{
	const struct modinstance *in;
	const struct ledger_object *l;
	unsigned n = 0, libraries = 0;

	for (uint32_t i = 0; (l = sh_ledger_object_next(&i)) != NULL; libraries++) {
		struct dump_module m = {.base = l->base, .fd = -1};
		const char *slash = strrchr(l->path, '/');

		snprintf(m.name, sizeof m.name, "%.*s", (int)sizeof m.name - 1, slash ? slash + 1 : l->path);
		snprintf(m.file, sizeof m.file, "%s", l->path);
		if (write)
			fwrite(&m, sizeof m, 1, f);
	}
	for (; (in = sh_symbol_instance(n)); n++) {
		struct dump_module m = {.base = in->base, .fd = in->module->so_fd};

		snprintf(m.name, sizeof m.name, "%s", in->module->name);
		if (write)
			fwrite(&m, sizeof m, 1, f);
	}
	return libraries + n;
}

static void write_g(FILE *f, struct g *g, struct dump_g *d, int64_t until)
{
	int64_t soon = (int64_t)sh_now() + STOP_NS;
	enum suspended how = suspendG(g, d->gid, soon < until ? soon : until);

	if (how == SUSPEND_HELD || how == SUSPEND_STOPPED)
		copy_stack(g, d);
	else if (how == SUSPEND_SYSCALL)
		copy_syscall(g, d);
	if (!resumeG(g, how)) {
		d->flags |= DUMP_NO_STACK;
		d->bytes = 0;
	}
	if (how == SUSPEND_GONE)
		return;
	fwrite(d, sizeof *d, 1, f);
	fwrite(stack, d->bytes, 1, f);
}

static unsigned collect_stacks(const struct dump *w, FILE *f)
{
	struct dump_head head = {DUMP_MAGIC, DUMP_VERSION, write_modules(f, false), getppid(), sh_root->zygote};
	int64_t until = (int64_t)sh_now() + ALL_STOP_NS;
	uint64_t n = atomic_load(&sched.ngs);
	unsigned found = 0;

	fwrite(&head, sizeof head, 1, f);
	write_modules(f, true);
	for (uint64_t i = 1; i < n && i < G_MAX; i++) {
		struct g *g = allg(i);
		struct dump_g d;

		if (g_state(g) == G_DEAD)
			continue;
		record_state(g, &d);
		if (!matches_request(w, &d))
			continue;
		write_g(f, g, &d, until);
		found++;
	}
	return found;
}

static void take_dump_seat(void)
{
	static const int sigs[] = {SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGQUIT};

	for (unsigned i = 0; i < sizeof sigs / sizeof *sigs; i++)
		signal(sigs[i], SIG_DFL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, "shoald-dump");
	alarm(CHILD_S);
	sh_seat_take(DUMP_SEAT);
	getm = allm(DUMP_SEAT);
	host_foreign = true;
	life_look(getm);
	atomic_store(&sh_root->seat[DUMP_SEAT].state, SEAT_LIVE);
}

/* Runs `shoal dump --from`, from the folder of shoald, to turn the file into text. */
static _Noreturn void print_dump(const struct dump *w)
{
	char path[PATH_MAX], number[16];
	ssize_t n = readlink("/proc/self/exe", path, sizeof path - 8);
	char *slash;

	path[n > 0 ? n : 0] = '\0';
	slash = strrchr(path, '/');
	if (!slash)
		_exit(1);
	strcpy(slash + 1, "shoal");
	lseek(w->file, 0, SEEK_SET);
	kernel_fcntl(w->file, F_SETFD, 0);
	snprintf(number, sizeof number, "%d", w->file);
	kernel_dup2(w->out, 1);
	/* exec releases the robust list as an exit does, so the medic repairs the seat from here on. */
	execl(path, path, "dump", "--from", number, (char *)NULL);
	_exit(1);
}

static _Noreturn void child(const struct dump *w)
{
	FILE *f;
	unsigned found;

	take_dump_seat();
	f = fdopen(kernel_dup(w->file), "w");
	if (!f)
		_exit(1);
	found = collect_stacks(w, f);
	if (fclose(f) != 0)
		_exit(1);
	atomic_store(&sh_root->seat[DUMP_SEAT].exited_clean, 1);
	if (w->gid && !found)
		_exit(CODE_UNKNOWN);
	if (!w->asker)
		print_dump(w);
	_exit(0);
}

/* ---- the supervisor ---- */

static void free_dump(struct dump *w)
{
	if (w->file >= 0)
		kernel_close(w->file);
	if (w->out >= 0)
		kernel_close(w->out);
	free(w);
}

static void answer(struct dump *w, int status)
{
	int fd;

	if (!w->asker)
		return;
	if (status && WIFEXITED(status) && WEXITSTATUS(status) == CODE_UNKNOWN) {
		sh_answer_error(w->asker, CODE_UNKNOWN, NULL, "no such goroutine: %lu", (unsigned long)w->gid);
		return;
	}
	fd = status ? -1 : sh_file_reader(w->file);
	if (fd < 0) {
		sh_answer_error(w->asker, CODE_FAILED, NULL, "cannot read the stacks: see the supervisor's log");
		return;
	}
	sh_answer(w->asker, json_pack("{s:b}", "ok", 1), &fd, 1);
	kernel_close(fd);
}

static void on_copier_exit(void *arg, int status)
{
	struct dump *w = arg;
	struct sh_seat *s = &sh_root->seat[DUMP_SEAT];

	if (atomic_load(&s->state) == SEAT_STARTING) { /* the child died before it took its seat */
		atomic_fetch_or(&s->liveness, FUTEX_OWNER_DIED);
		sh_bell();
	}
	running_dump = NULL;
	answer(w, status);
	if (w->done)
		w->done(w->arg);
	free_dump(w);
	next_dump();
}

static void on_seat_retry(uv_timer_t *timer)
{
	(void)timer;
	next_dump();
}

static void retry_later(void)
{
	if (!retry) {
		retry = malloc(sizeof *retry);
		if (!retry)
			abort();
		uv_timer_init(sh_loop, retry);
	}
	uv_timer_start(retry, on_seat_retry, RETRY_MS, 0);
}

static void next_dump(void)
{
	struct sh_seat *s = &sh_root->seat[DUMP_SEAT];
	struct dump *w = waiting;
	uint32_t state = atomic_load(&s->state);
	pid_t pid;

	if (running_dump || !w)
		return;
	if (state != SEAT_EMPTY && state != SEAT_VACANT) { /* the medic is still repairing the seat */
		retry_later();
		return;
	}
	waiting = w->next;
	if (!waiting)
		waiting_end = &waiting;
	w->file = kernel_memfd_create("dump", MFD_CLOEXEC);
	atomic_store(&s->liveness, 0);
	atomic_store(&s->state, SEAT_STARTING);
	sh_bell();
	pid = w->file < 0 ? -1 : fork();
	if (pid == 0)
		child(w);
	running_dump = w;
	if (pid < 0) {
		sh_log("cannot start a child to read stacks: %s", strerror(errno));
		on_copier_exit(w, 1 << 8);
		return;
	}
	sh_fleet_watch(pid, on_copier_exit, w);
}

static void enqueue(struct dump *w)
{
	w->file = -1;
	w->next = NULL;
	*waiting_end = w;
	waiting_end = &w->next;
	next_dump();
}

void sh_dump(struct asker *a, uint64_t gid)
{
	struct dump *w = calloc(1, sizeof *w);

	if (!w)
		abort();
	w->asker = a;
	w->gid = gid;
	w->out = -1;
	enqueue(w);
}

void sh_dump_to(uint64_t task, int fd, sh_dump_done *done, void *arg)
{
	struct dump *w = calloc(1, sizeof *w);

	if (!w)
		abort();
	w->task = task;
	w->out = fd < 0 ? -1 : kernel_fcntl(fd, F_DUPFD_CLOEXEC, 3);
	w->done = done;
	w->arg = arg;
	enqueue(w);
}
