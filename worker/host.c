/*
 * host.c - what a worker lends the core: stacks at fixed addresses, the switch, the loop it idles in.
 * See core/host.h. All state here is private to the process and goes with it.
 */
#include "core/sync/semtable.h"
#include "shm/check.h"
#include "shm/heap.h"
#include "shm/kill.h"
#include "shm/procstat.h"
#include "worker/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif

#define G0_STACK (256ul << 10)
#define PAGE 4096ul

static char *g0_top;
static uint32_t guard_pages[WIN_ALL]; /* offset of the guard from the window's base, in pages + 1; 0: none yet */

/* ---- windows ---- */

char *host_window(uint32_t w)
{
	if (w < WIN_COUNT)
		return (char *)SH_WIN_BASE + (uint64_t)w * WIN_SIZE;
	return (char *)SH_WIN_BASE + WIN_COUNT * WIN_SIZE + (uint64_t)(w - WIN_COUNT) * WIN_LARGE_SIZE;
}

size_t host_window_size(uint32_t w)
{
	return w < WIN_COUNT ? WIN_SIZE : WIN_LARGE_SIZE;
}

char *host_region(unsigned seat, uint32_t w)
{
	return (char *)sh_at(SH_OFF_WINDOWS) + seat * SH_REGION + (host_window(w) - (char *)SH_WIN_BASE);
}

_Static_assert(WIN_COUNT *WIN_SIZE + WIN_LARGE_COUNT * WIN_LARGE_SIZE <= SH_REGION, "the windows fit a region");

void windows_map(unsigned seat)
{
	/* An old size of 0 makes a second mapping of the same shared memory. */
	void *at = mremap((char *)sh_at(SH_OFF_WINDOWS) + seat * SH_REGION, 0, SH_REGION, MREMAP_MAYMOVE | MREMAP_FIXED,
			  (void *)SH_WIN_BASE);

	sh_check(at == (void *)SH_WIN_BASE);
	memset(guard_pages, 0, sizeof guard_pages);
}

static void set_guard(char *at)
{
	if (madvise(at, PAGE, MADV_GUARD_INSTALL) < 0)
		mprotect(at, PAGE, PROT_NONE);
}

static void clear_guard(char *at)
{
	if (madvise(at, PAGE, MADV_GUARD_REMOVE) < 0)
		mprotect(at, PAGE, PROT_READ | PROT_WRITE);
}

void host_window_guard(uint32_t w, size_t stack_max)
{
	size_t size = host_window_size(w), off = stack_max + 2 * PAGE < size ? size - stack_max - 2 * PAGE : 0;
	uint32_t want = (uint32_t)(off / PAGE) + 1;

	if (__builtin_expect(guard_pages[w] == want, 1))
		return;
	if (guard_pages[w] > 1)
		clear_guard(host_window(w) + (guard_pages[w] - 1) * PAGE);
	if (!guard_pages[w])
		set_guard(host_window(w));
	if (want > 1)
		set_guard(host_window(w) + off);
	guard_pages[w] = want;
}

/* ---- the switch ---- */

_Static_assert(offsetof(struct g, sp) == 8, "switch_x86_64.S says so");

/* For sh_first: where the stack of a G begins that has none yet. */
char *sh_first_top(struct g *g)
{
	return stack_top(g->win);
}

void host_mcall(struct g *(*fn)(struct g *))
{
	sh_mcall(getg(), fn, g0_top);
}

void host_mexit(struct g *(*fn)(struct g *))
{
	sh_mexit(getg(), fn, g0_top);
}

int64_t host_now(void)
{
	return (int64_t)sh_now();
}

static int *errno_at;

int *host_errno(void)
{
	return errno_at;
}

/* ---- other processes ---- */

void host_bell(void)
{
	sh_bell();
}

void host_barrier(void)
{
	if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0) < 0)
		syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
}

static void send_signal(unsigned seat, int sig)
{
	int32_t pid = atomic_load(&sh_root->seat[seat].pid);

	if (seat > 0 && pid > 0 && !sh_seat_dead(seat))
		syscall(SYS_kill, pid, sig); /* not kill(): on a goroutine that is its task's, and parks */
}

void host_kick(unsigned seat)
{
	send_signal(seat, SIGURG);
}

void host_kill(unsigned seat)
{
	send_signal(seat, SIGKILL);
}

enum host_doing host_doing(unsigned seat, int64_t *cpu_ns)
{
	uint32_t alive = atomic_load(&sh_root->seat[seat].liveness) & (FUTEX_TID_MASK | FUTEX_OWNER_DIED);
	int32_t pid = atomic_load(&sh_root->seat[seat].pid);
	struct timespec t = {0};
	struct sh_procstat stat;

	/* While it starts the pid may still be that of the one before it. */
	if (seat == 0 || pid <= 0 || alive != (uint32_t)pid || syscall(SYS_clock_gettime, (~pid << 3) | 2, &t) < 0)
		return HOST_GONE;
	*cpu_ns = t.tv_sec * 1000000000l + t.tv_nsec;
	switch (sh_procstat_read(pid, &stat) ? stat.state : 0) {
	case 'R':
	case 't': /* a debugger has it: that one knows why */ return HOST_RUNS;
	case 'T': return HOST_STOPPED;
	case 'S':
	case 'D': return HOST_SLEEPS;
	default: return HOST_GONE;
	}
}

/* ---- tasks: see process_state.c ---- */

void host_leave(void)
{
	struct sh_seat *s = &sh_root->seat[getm->seat];

	while (children_left()) /* nobody else could learn how they end */
		syscall(SYS_nanosleep, &(struct timespec){0, 10000000}, NULL);
	atomic_store(&s->left, 1);
	KILL_POINT("worker.leave");
	_exit(0);
}

void host_before_run(struct g *g)
{
	host_switch_task(g->task);
	if (__builtin_expect(g->flags & GF_ROOT, 0)) { /* libc keeps them per process, the task has one */
		optind = g->task->optind;
		optarg = g->task->own.optarg;
	}
}

void host_left(struct g *g)
{
	g->task->optind = optind;
	g->task->own.optarg = optarg;
}

void host_before_park(struct g *g)
{
	struct m *m = getm;

	if (__builtin_expect((atomic_load_explicit(&m->out[0].held, memory_order_relaxed) |
			      atomic_load_explicit(&m->out[1].held, memory_order_relaxed)) != 0,
			     0))
		output_flush(g, false);
}

void host_g_end(struct g *g)
{
	struct m *m;

	if (__builtin_expect(g->flags & (GF_OWN | GF_ONCE), 0)) {
		if (g->flags & GF_OWN)
			thread_end(g);
		if (g->flags & GF_ONCE)
			waits_gone(g);
	}
	m = getm;
	if (__builtin_expect(g->part || atomic_load_explicit(&m->out[0].held, memory_order_relaxed) ||
				     atomic_load_explicit(&m->out[1].held, memory_order_relaxed),
			     0))
		output_flush(g, true);
}

/* ---- the worker ---- */

/* What goroutines open leaves room for the workers that start later. */
static void leave_descriptors(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) < 0)
		return;
	files.rlim_cur = sh_fd_ceiling();
	setrlimit(RLIMIT_NOFILE, &files);
}

void worker_main(unsigned seat)
{
	struct sh_seat *s = &sh_root->seat[seat];
	char *stack;

	sh_seat_take(seat);
	getm = allm(seat);
	errno_at = &errno;
	atomic_store(&getm->curg, NULL);
	/* s->load_gen was set by the zygote's own count in the clone: the shared one may be ahead of us by now. */
	atomic_store(&s->leave, 0);
	syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0);
	windows_map(seat);
	signals_start();
	loop_start(seat);
	process_state_start();
	process_start();
	iconv_start();
	leave_descriptors();
	stack = mmap(NULL, G0_STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	sh_check(stack != MAP_FAILED);
	g0_top = stack + G0_STACK - 64;
	/* With a P to take it is like everybody from here on; else it is a spare: see host_idle. */
	atomic_store(&s->prompt, atomic_load(&sched.pidle) == 0);
	if (!atomic_load(&s->prompt))
		sh_prompt(0, false);
	s->live_ns = sh_now();
	atomic_store(&s->state, SEAT_LIVE);
	KILL_POINT("worker.live");
	sh_mstart(g0_top, mstart, seat);
}
