/*
 * sched_cases.c - the scheduler, after the cases of Go's own tests (proc_test.go, sema_test.go). See
 * cases.h. Others of them, which want a number of Ps or are looked at from outside, are see/fair.c,
 * see/pin.c and see/run.c.
 */
#define _GNU_SOURCE
#include "tests/modules/kernel_call.h"

#include "tests/modules/language/cases.h"

#include <fcntl.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static atomic_int over, turn, count, began, ended;
static struct shoal_chan *ch;

static void fresh(void)
{
	atomic_store(&over, 0);
	atomic_store(&turn, 0);
	atomic_store(&count, 0);
	atomic_store(&began, 0);
	atomic_store(&ended, 0);
}

static void until(atomic_int *v, int n, int ms)
{
	for (int i = 0; i < ms && atomic_load(v) < n; i++)
		shoal_sleep(MS);
}

/* ---- stop the world ---- */

static void respawns(void *arg)
{
	(void)arg;
	atomic_fetch_add(&count, 1);
	if (!atomic_load(&over))
		shoal_go(respawns, NULL, 0);
}

static void changes_procs(void *arg)
{
	int me = *(int *)arg;

	for (int i = 0; i < 125 && !(cases_killed && i == 10); i++)
		MUST(shoal_procs(2 + (i + me) % 2) > 0);
	atomic_fetch_add(&ended, 1);
}

/*
 * TestStopTheWorldDeadlock: the number of Ps changes a thousand times beside a goroutine that starts itself again
 * for ever.
 */
static void procs_beside_respawns(void)
{
	fresh();
	shoal_go(respawns, NULL, 0);
	spawn_n(changes_procs, 8);
	finish();
	atomic_store(&over, 1);
	WANT(atomic_load(&ended) == 8);
	WANT(atomic_load(&count) > 0);
	shoal_procs(2);
}

static void computes(void *arg)
{
	volatile unsigned long n = 0;

	(void)arg;
	while (!atomic_load_explicit(&over, memory_order_relaxed))
		n++;
}

/* TestPreemptionGC, TestAsyncPreempt: the world stops though all Ps run loops without a call. */
static void procs_beside_loops(void)
{
	int n = cases_killed ? 2 : 10;

	fresh();
	spawn_n(computes, 5);
	for (int i = 0; i < n; i++) {
		shoal_sleep(MS);
		MUST(shoal_procs(3 - i % 2) > 0);
	}
	atomic_store(&over, 1);
	finish();
	shoal_procs(2);
}

/* ---- giving way ---- */

static void polls(void *arg)
{
	bool pinned = *(int *)arg;
	int v, r;

	if (pinned)
		shoal_pin();
	while ((r = shoal_recv_timed(ch, &v, 0)) == -EAGAIN)
		shoal_yield();
	MUST(r == 1 || r == -ECANCELED);
	if (pinned)
		shoal_unpin();
	atomic_fetch_add(&ended, 1);
}

static void sends_one(void *arg)
{
	int r = shoal_send_timed(ch, arg, cases_killed ? 200 * MS : SHOAL_FOREVER);

	MUST(r == 0 || ((r == -ETIMEDOUT || r == -ECANCELED) && cases_killed));
}

/* TestYieldProgress, TestYieldLockedProgress */
static void yield_lets_others_on(void)
{
	for (int pinned = 0; pinned < 2; pinned++) {
		fresh();
		ch = shoal_chan_new(sizeof(int), 0);
		spawn(polls, &pinned, sizeof pinned);
		shoal_sleep(2 * MS);
		spawn(sends_one, &pinned, sizeof pinned);
		finish();
		WANT(atomic_load(&ended) == 1);
	}
}

static void ends_pinned(void *arg)
{
	(void)arg;
	shoal_pin();
	for (int i = 0; i < 10; i++) {
		int at = shoal_worker();

		shoal_yield();
		shoal_sleep(MS);
		MUST(shoal_worker() == at);
	}
	atomic_fetch_add(&ended, 1);
}

/* TestYieldLocked: it ends while it is pinned, and its worker with it; no other goroutine is affected. */
static void yield_pinned(void)
{
	fresh();
	spawn_n(ends_pinned, 4);
	finish();
	WANT(atomic_load(&ended) == 4);
}

static void sends_pinned(void *arg)
{
	(void)arg;
	shoal_pin();
	for (int i = 0; i < 10; i++)
		if (shoal_send_timed(ch, &i, cases_killed ? 200 * MS : SHOAL_FOREVER) < 0)
			break;
	shoal_unpin();
}

static void receives_ten(void *arg)
{
	int v;

	(void)arg;
	for (int i = 0; i < 10; i++) {
		if (shoal_recv_timed(ch, &v, cases_killed ? 200 * MS : SHOAL_FOREVER) != 1)
			return;
		MUST(v == i);
	}
	atomic_fetch_add(&ended, 1);
}

/* TestBlockLocked */
static void pinned_sender(void)
{
	fresh();
	ch = shoal_chan_new(sizeof(int), 0);
	spawn(sends_pinned, NULL, 0);
	spawn(receives_ten, NULL, 0);
	finish();
	WANT(atomic_load(&ended) == 1);
}

static void nests(void *arg)
{
	int at;

	(void)arg;
	shoal_pin();
	shoal_pin();
	shoal_unpin();
	at = shoal_worker();
	for (int i = 0; i < 20; i++) {
		shoal_yield();
		MUST(shoal_worker() == at);
	}
	shoal_unpin();
	atomic_fetch_add(&ended, 1);
}

/* TestLockOSThreadNesting */
static void pins_nest(void)
{
	fresh();
	spawn_n(nests, 4);
	finish();
	WANT(atomic_load(&ended) == 4);
}

static void spoils_its_process(void *arg)
{
	(void)arg;
	shoal_pin();
	kernel_call(SYS_umask, 0777, 0); /* past the interface, which would keep it for the task */
	MUST(kernel_call(SYS_chdir, (long)"/proc", 0) == 0);
	atomic_fetch_add(&ended, 1);
}

static void looks_where_it_is(void *arg)
{
	char here[256];

	(void)arg;
	for (int i = 0; i < 20; i++) {
		MUST(getcwd(here, sizeof here) && strcmp(here, "/proc"));
		shoal_sleep(MS / 4);
	}
}

/* TestLockOSThreadAvoidsStatePropagation: changes of a pinned goroutine to its process end with the process. */
static void pinned_state_goes(void)
{
	fresh();
	for (int i = 0; i < 3; i++) {
		spawn(spoils_its_process, NULL, 0);
		finish();
	}
	WANT(atomic_load(&ended) == 3);
	spawn_n(looks_where_it_is, 8);
	finish();
}

/* ---- all at once ---- */

#define AT_ONCE 2

static void takes_turns(void *arg)
{
	int me = *(int *)arg;

	for (int i = 0; i < 100; i++) {
		int64_t give_up = shoal_now() + 3000 * MS;

		while (atomic_load(&turn) % AT_ONCE != me)
			if (shoal_now() > give_up)
				return; /* the other one was lost */
		atomic_fetch_add(&turn, 1);
	}
	atomic_fetch_add(&ended, 1);
}

static void spawns_the_next(void *arg)
{
	int me = *(int *)arg, next = me + 1;

	if (next < AT_ONCE)
		shoal_go(spawns_the_next, &next, sizeof next);
	takes_turns(&me);
}

/* TestGoroutineParallelism, TestGoroutineParallelism2: they spin in strict turns, after all workers have slept. */
static void run_at_once(void)
{
	for (int try = 0; try < (cases_killed ? 1 : 10); try++) {
		fresh();
		shoal_sleep(2 * MS);
		spawn_n(takes_turns, AT_ONCE);
		finish();
		WANT(atomic_load(&ended) == AT_ONCE);
	}
	if (cases_killed)
		return;
	for (int try = 0, first = 0; try < 10; try++) {
		fresh();
		shoal_sleep(2 * MS);
		shoal_go(spawns_the_next, &first, sizeof first);
		until(&ended, AT_ONCE, 10000);
		WANT(atomic_load(&ended) == AT_ONCE);
	}
}

/* ---- system calls ---- */

static char *bulk;
static int64_t call_ns;

/* A system call of about this length: it copies memory into an anonymous file. */
static void calls(void *arg)
{
	int fd = memfd_create("calls", MFD_CLOEXEC);
	size_t n = (size_t)(call_ns * 2); /* bytes; about 2 GB a second */

	(void)arg;
	MUST(fd >= 0);
	n = n > 4u << 20 ? 4u << 20 : n;
	atomic_fetch_add(&began, 1);
	while (!atomic_load(&over))
		MUST(pwrite(fd, bulk, n, 0) == (ssize_t)n);
	close(fd);
	atomic_fetch_add(&ended, 1);
}

/* TestPreemptionAfterSyscall: eight in a loop of calls of that length on two Ps: all begin, and all end. */
static void preempted_after_calls(void)
{
	static const int us[] = {10, 100, 1000};

	bulk = calloc(1, 4u << 20);
	MUST(bulk);
	for (int i = 0; i < 3; i++) {
		fresh();
		call_ns = us[i] * 1000l;
		spawn_n(calls, 8);
		until(&began, 8, cases_killed ? 200 : 5000);
		WANT(cases_killed || atomic_load(&began) == 8);
		shoal_sleep(10 * MS);
		atomic_store(&over, 1);
		finish();
		WANT(atomic_load(&ended) == 8);
	}
	free(bulk);
}

static void ping(void *arg)
{
	int v = 0, zero = *(int *)arg;
	char none;

	while (!atomic_load(&over)) {
		if (zero) /* a system call at each turn */
			MUST(read(zero, &none, 0) == 0);
		if (shoal_send_timed(ch, &v, 100 * MS) < 0)
			break;
	}
}

static void pong(void *arg)
{
	int v;

	(void)arg;
	while (!atomic_load(&over))
		if (shoal_recv_timed(ch, &v, 100 * MS) < 0)
			break;
}

static void timer_of_20_ms(void *arg)
{
	int64_t from = shoal_now();

	(void)arg;
	if (shoal_sleep(20 * MS) == 0) {
		MUST(shoal_now() - from >= 20 * MS);
		atomic_fetch_add(&ended, 1);
	}
	atomic_store(&over, 1);
}

/* TestTimerFairness, TestTimerFairness2 */
static void timer_beside_a_busy_channel(void)
{
	for (int with = 0; with < 2; with++) {
		int zero = with ? open("/dev/zero", O_RDONLY | O_CLOEXEC) : 0;

		fresh();
		ch = shoal_chan_new(sizeof(int), 0);
		for (int i = 0; i < 2; i++)
			spawn(ping, &zero, sizeof zero);
		spawn_n(pong, 2);
		spawn(timer_of_20_ms, NULL, 0);
		until(&over, 1, 5000);
		WANT(atomic_load(&over) == 1);
		atomic_store(&over, 1);
		finish();
		WANT(atomic_load(&ended) == 1);
		if (with)
			close(zero);
	}
}

/* ---- waking ---- */

static void sleeps_long(void *arg)
{
	(void)arg;
	shoal_sleep(10000 * MS);
}

static void ends_soon(void *arg)
{
	(void)arg;
	atomic_fetch_add(&ended, 1);
}

/* TestNetpollBreak: a worker that sleeps until a far timer is woken for a goroutine that becomes ready. */
static void far_timer_is_no_hindrance(void)
{
	int64_t from;

	fresh();
	spawn(sleeps_long, NULL, 0);
	shoal_sleep(30 * MS);
	from = shoal_now();
	spawn_n(ends_soon, 10);
	until(&ended, 10, 5000);
	WANT(cases_killed || atomic_load(&ended) == 10);
	WANT(cases_killed || shoal_now() - from < 5000 * MS);
	for (int i = 0; i < group_n; i++)
		shoal_cancel(group[i]);
	for (int i = 0; i < group_n; i++)
		shoal_join(group[i], NULL);
	group_n = 0;
	atomic_store(&group_left, 0);
}

static struct shoal_sem sem;

static void hands_back(void *arg)
{
	(void)arg;
	if (shoal_sem_acquire(&sem, 1) == 0)
		atomic_store(&turn, 1);
	shoal_sem_release(&sem, 1);
}

/*
 * TestSemaHandoff: a released unit goes to the goroutine in the queue, not to one that comes right after the
 * release.
 */
static void semaphore_is_handed_over(void)
{
	int won = 0, n = 1000;

	if (cases_killed)
		return;
	for (int i = 0; i < n; i++) {
		fresh();
		memset(&sem, 0, sizeof sem);
		spawn(hands_back, NULL, 0);
		while (!atomic_load_explicit((atomic_int *)&group_left, memory_order_relaxed))
			;
		shoal_yield();
		shoal_sem_release(&sem, 1);
		if (shoal_sem_acquire(&sem, 1) == 0)
			won += atomic_load(&turn);
		shoal_sem_release(&sem, 1);
		finish();
	}
	WANT(won > n * 2 / 3);
}

static void nobody(void *arg)
{
	(void)arg;
}

/* TestGoNil, and other arguments that are refused. */
static void refused(void)
{
	errno = 0;
	MUST(shoal_go(NULL, NULL, 0) == 0 && errno == EINVAL);
	errno = 0;
	MUST(shoal_go_with(&(struct shoal_go_opts){.stack_max = (64ul << 20) + 1}, nobody, NULL, 0) == 0 &&
	     errno == EINVAL);
	MUST(shoal_join(shoal_self() + (1ull << 60), NULL) == -ESRCH);
}

static void needs_stack(int depth)
{
	char frame[1024];

	memset(frame, depth, sizeof frame);
	if (depth > 0)
		needs_stack(depth - 1);
	else
		shoal_yield();
	for (unsigned i = 0; i < sizeof frame; i++)
		MUST(frame[i] == (char)depth);
}

static void deep(void *arg)
{
	(void)arg;
	needs_stack(128);
}

/* TestStackMem: batches of goroutines with deep stacks; the next batch reuses the memory of the last. */
static void stacks_are_used_again(void)
{
	for (int batch = 0; batch < (cases_killed ? 4 : 256); batch++) {
		spawn_n(deep, 32);
		finish();
	}
}

static void grows(void *arg)
{
	int most = *(int *)arg ? 800 : 200;

	for (int n = 10; n <= most; n = n * 3 / 2)
		needs_stack(n);
}

/* TestStackGrowth: the root, a goroutine, and a pinned one. */
static void stacks_grow(void)
{
	int much = 1;

	spawn(grows, &much, sizeof much);
	shoal_pin();
	grows(&(int){0});
	shoal_unpin();
	finish();
}

#if defined(__x86_64__)
#define FLAGS 0x40400ul /* alignment check, direction */

static void flags_set(void *arg)
{
	for (int i = 0; i < 2000; i++) {
		__builtin_ia32_writeeflags_u64(__builtin_ia32_readeflags_u64() | *(unsigned long *)arg);
		shoal_yield();
	}
}

/* A goroutine that leaves flags set which no C code expects harms no other one. */
static void flags_are_not_passed_on(void)
{
	const unsigned long sets[] = {0x400, 0x40000, FLAGS};

	for (int k = 0; k < 3; k++) {
		spawn(flags_set, &sets[k], sizeof sets[k]);
		for (int i = 0; i < 2000; i++) {
			shoal_yield();
			MUST((__builtin_ia32_readeflags_u64() & FLAGS) == 0);
		}
		finish();
	}
}
#endif

int shoal_main(int argc, char **argv)
{
	cases_begin(argc, argv);
	RUN(procs_beside_respawns);
	RUN(procs_beside_loops);
	RUN(yield_lets_others_on);
	RUN(yield_pinned);
	RUN(pinned_sender);
	RUN(pins_nest);
	RUN(pinned_state_goes);
	RUN(run_at_once);
	RUN(preempted_after_calls);
	RUN(timer_beside_a_busy_channel);
	RUN(far_timer_is_no_hindrance);
	RUN(semaphore_is_handed_over);
	RUN(refused);
	RUN(stacks_are_used_again);
	RUN(stacks_grow);
#if defined(__x86_64__)
	RUN(flags_are_not_passed_on);
#endif
	return cases_failed;
}
