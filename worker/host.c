/*
 * host.c - the worker's side of core/host.h: windows at fixed addresses, the switch, signals to other
 * processes. All state here is private to the process.
 */
#include "core/g/tstack.h"
#include "core/sync/semtable.h"
#include "shm/check.h"
#include "shm/heap.h"
#include "shm/kill.h"
#include "shm/procstat.h"
#include "shm/segment.h"
#include "shm/syscall.h"
#include "worker/posix/signal.h"
#include "worker/stacks.h"
#include "worker/output.h"
#include "worker/posix/own.h"
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
#include <sys/single_threaded.h>
#include <time.h>
#include <unistd.h>

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif

#define G0_STACK (256ul << 10)

/* Where things lie, for debuggers: tools/gdb/shoal.py reads it. */
extern const struct debug_layout {
	uint64_t base, gs, regions, region_size, window_base, window_stride, window_size, large_size, windows;
} sh_debug_layout;
const struct debug_layout sh_debug_layout = {SH_BASE,	SH_BASE + SH_OFF_GS, SH_BASE + SH_OFF_WINDOWS,
					     SH_REGION, SH_WIN_BASE,	     SH_WIN_STRIDE,
					     WIN_SIZE,	WIN_LARGE_SIZE,	     WIN_COUNT};

static unsigned region_seat;
static uint32_t
	guard_pages[WIN_ALL]; /* 0: the window is not mapped yet; else 1 + the guard's offset in pages, 1: no guard */

/* ---- windows ---- */

/* A large window fills one stride and leaves the one below it empty. */
char *host_window(uint32_t w)
{
	uint64_t stride = w < WIN_COUNT ? w : WIN_COUNT + 2 * (uint64_t)(w - WIN_COUNT) + 1;

	return win_of_thread(w) ? tstack_low(w) : (char *)SH_WIN_BASE + stride * SH_WIN_STRIDE;
}

size_t host_window_size(uint32_t w)
{
	if (win_of_thread(w))
		return tstack_class_of(w)->size;
	return w < WIN_COUNT ? WIN_SIZE : WIN_LARGE_SIZE;
}

char *host_region(unsigned seat, uint32_t w)
{
	uint64_t at = w < WIN_COUNT ? w * WIN_SIZE : WIN_COUNT * WIN_SIZE + (uint64_t)(w - WIN_COUNT) * WIN_LARGE_SIZE;

	return win_of_thread(w) ? tstack_low(w) : (char *)sh_at(SH_OFF_WINDOWS) + seat * SH_REGION + at;
}

_Static_assert(WIN_COUNT *WIN_SIZE + WIN_LARGE_COUNT * WIN_LARGE_SIZE <= SH_REGION, "the windows fit a region");
_Static_assert((WIN_COUNT + 2 * WIN_LARGE_COUNT) * SH_WIN_STRIDE <= SH_WIN_SPAN, "the windows fit their range");
_Static_assert(WIN_SIZE < SH_WIN_STRIDE && WIN_LARGE_SIZE <= SH_WIN_STRIDE, "a window fits its stride");

void windows_map(unsigned seat)
{
	region_seat = seat;
	memset(guard_pages, 0, sizeof guard_pages);
}

/* Maps a window when this worker first uses it. Mapping all windows at the start would take a millisecond. */
static void map_window(uint32_t w)
{
	/* mremap with an old size of 0 makes a second mapping of the same shared memory. */
	void *at = mremap(host_region(region_seat, w), 0, host_window_size(w), MREMAP_MAYMOVE | MREMAP_FIXED,
			  host_window(w));

	sh_check(at == (void *)host_window(w));
}

static void set_guard(char *at, size_t size)
{
	if (madvise(at, size, MADV_GUARD_INSTALL) < 0)
		mprotect(at, size, PROT_NONE);
}

static void clear_guard(char *at)
{
	if (madvise(at, SH_PAGE, MADV_GUARD_REMOVE) < 0)
		mprotect(at, SH_PAGE, PROT_READ | PROT_WRITE);
}

/*
 * The gap below a thread's stack faults in this process from now on. The guard of a stack is always at the same place:
 * other goroutines may read all of it, in a process that had set the guard for an earlier owner.
 */
static void guard_thread(uint32_t w)
{
	static uint8_t guarded[(TSTACKS + 7) / 8];
	uint32_t n = w - WIN_THREADS;
	size_t gap = tstack_class_of(w)->gap;
	char *low = tstack_low(w);

	if (__builtin_expect(guarded[n / 8] & 1u << n % 8, 1))
		return;
	if (gap < TSTACK_GAP_GUARDED || syscall(SYS_munmap, low - gap, gap) < 0)
		set_guard(low - TSTACK_GAP_LEAST, TSTACK_GAP_LEAST);
	guarded[n / 8] |= (uint8_t)(1u << n % 8);
}

void host_window_guard(uint32_t w, size_t stack_max)
{
	uint32_t want;

	if (win_of_thread(w)) {
		guard_thread(w);
		return;
	}
	want = (uint32_t)(stack_guard(w, stack_max) / SH_PAGE) + 1;
	if (__builtin_expect(guard_pages[w] == want, 1))
		return;
	if (guard_pages[w] > 1)
		clear_guard(host_window(w) + (guard_pages[w] - 1) * SH_PAGE);
	if (!guard_pages[w])
		map_window(w);
	if (want > 1)
		set_guard(host_window(w) + (want - 1) * SH_PAGE, SH_PAGE);
	guard_pages[w] = want;
}

/*
 * A fault on a window that this process has not mapped yet, while frames of a parked goroutine are behind it: the
 * process that had this seat before has left them there. Entering that goroutine touches its window first of all.
 */
bool window_fault(uintptr_t at)
{
	uintptr_t stride = (at - SH_WIN_BASE) / SH_WIN_STRIDE;
	uint32_t w = (uint32_t)(stride < WIN_COUNT ? stride : WIN_COUNT + (stride - WIN_COUNT) / 2);
	struct g *g;

	if (at - SH_WIN_BASE >= SH_WIN_SPAN || w >= WIN_ALL || guard_pages[w] ||
	    at - (uintptr_t)host_window(w) >= host_window_size(w))
		return false;
	g = getm->occ[w];
	if (!g_plausible(g) || g->win != w || atomic_load(&g->res) != getm->seat)
		return false;
	host_window_guard(w, g->stack_max);
	return true;
}

/* ---- the switch ---- */

_Static_assert(offsetof(struct g, sp) == 8, "G_SP in switch_x86_64.S is this offset");

/* For sh_first: the initial stack pointer of a G that has not run yet. */
char *sh_first_top(struct g *g)
{
	return stack_top(g->win);
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
		syscall(SYS_tgkill, pid, pid, sig); /* to the main thread, not to one that a library has made */
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

	/* During a start the seat may still name the previous process: compare with the liveness word. */
	if (seat == 0 || pid <= 0 || alive != (uint32_t)pid || syscall(SYS_clock_gettime, (~pid << 3) | 2, &t) < 0)
		return HOST_GONE;
	*cpu_ns = t.tv_sec * 1000000000l + t.tv_nsec;
	switch (sh_procstat_read(pid, &stat) ? stat.state : 0) {
	case 'R':
	case 't': /* stopped by a debugger: leave it alone */ return HOST_RUNS;
	case 'T': return HOST_STOPPED;
	case 'S':
	case 'D': return HOST_SLEEPS;
	default: return HOST_GONE;
	}
}

/* ---- tasks: see process_state.c ---- */

void host_die(void)
{
	for (;;)
		syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
}

void host_leave(void)
{
	struct sh_seat *s = &sh_root->seat[getm->seat];

	while (children_left()) /* only their parent can wait for them */
		syscall(SYS_nanosleep, &(struct timespec){0, 10000000}, NULL);
	atomic_store(&s->exited_clean, 1);
	KILL_POINT("worker.leave");
	_exit(0);
}

void host_before_run(struct g *g)
{
	host_switch_task(g->task);
	if (__builtin_expect(g->flags & GF_ROOT, 0)) { /* libc has one copy for the process: load the task's */
		optind = task_own(g->task)->optind;
		optarg = task_own(g->task)->optarg;
		opterr = task_own(g->task)->opterr;
		optopt = task_own(g->task)->optopt;
	}
}

void host_off_cpu(struct g *g)
{
	task_own(g->task)->optind = optind;
	task_own(g->task)->optarg = optarg;
	task_own(g->task)->opterr = opterr;
	task_own(g->task)->optopt = optopt;
	environ_left(g);
}

void host_before_park(struct g *g)
{
	struct m *m = getm;

	if (__builtin_expect((atomic_load_explicit(&m_out(m, 0)->held, memory_order_relaxed) |
			      atomic_load_explicit(&m_out(m, 1)->held, memory_order_relaxed)) != 0,
			     0))
		output_flush(g, false);
}

void host_g_end(struct g *g)
{
	struct m *m;

	if (__builtin_expect(atomic_load_explicit(&g->signals, memory_order_relaxed) |
				     (atomic_load_explicit(&g->preempt, memory_order_relaxed) & PREEMPT_SIGNAL),
			     0)) {
		signal_own_end(g);
		sh_aio_g_end(g);
	}
	if (__builtin_expect(g->flags & (GF_OWN | GF_ONCE), 0)) {
		if (g->flags & GF_OWN)
			thread_end(g);
		if (g->flags & GF_ONCE)
			semtable_g_gone(g);
	}
	m = getm;
	if (__builtin_expect(g->part || atomic_load_explicit(&m_out(m, 0)->held, memory_order_relaxed) ||
				     atomic_load_explicit(&m_out(m, 1)->held, memory_order_relaxed),
			     0))
		output_flush(g, true);
}

/* ---- the worker ---- */

/* Lowers this process' limit of open files, so that workers that start later still get descriptors. */
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
	char *stack, *top;

	sh_seat_take(seat);
	getm = allm(seat);
	errno_at = &errno;
	__libc_single_threaded = 0; /* goroutines run at once: C++ counts references by atomic operations */
	atomic_store(&getm->curg, NULL);
	/* The clone has set s->load_gen from the zygote's own count. The shared count may already be higher. */
	atomic_store(&s->leave, 0);
	syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0);
	windows_map(seat);
	stacks_start();
	signals_start();
	loop_start(seat);
	process_state_start();
	process_start();
	iconv_start();
	leave_descriptors();
	stack = mmap(NULL, G0_STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	sh_check(stack != MAP_FAILED);
	top = stack + G0_STACK - 64;
	stack_g0(top);
	stack_private(stack, G0_STACK);
	/* If no P is free this worker becomes a spare: see host_idle. */
	atomic_store(&s->prompt, atomic_load(&sched.pidle) == 0);
	if (!atomic_load(&s->prompt))
		sh_prompt(0, false);
	s->live_ns = sh_now();
	atomic_store(&s->state, SEAT_LIVE);
	KILL_POINT("worker.live");
	sh_mstart(top, mstart, seat);
}
