/*
 * medic.c - the process that detects deaths, repairs the segment, starts and ends tasks, and runs sysmon.
 *
 * The medic has seat 0 and is cloned by the zygote like a worker, so it shares the workers' descriptor table
 * and may be killed as a worker may: its successor begins by repairing seat 0. The supervisor never takes a
 * lock that a worker can hold, so the medic does everything that needs one.
 *
 * The medic sleeps in futex_waitv on the bell and on the liveness word of every seat. It sees a death after
 * 20 to 40 us, long before SIGCHLD arrives.
 */
#include "shm/kernel.h"
#include "shm/syscall.h"
#include "supervisor/daemon/log.h"
#include "supervisor/zygote/zygote.h"
#include "core/g/life.h"
#include "core/g/tstack.h"
#include "core/host.h"
#include "core/process.h"
#include "core/repair/audit.h"
#include "core/repair/crash.h"
#include "core/repair/old_heaps.h"
#include "core/repair/repair.h"
#include "core/root.h"
#include "core/sched/stuck.h"
#include "core/sched/idle.h"
#include "core/sched/m.h"
#include "core/sched/procs.h"
#include "core/sched/sysmon.h"
#include "core/task/checkdead.h"
#include "core/task/task.h"
#include "shm/area.h"
#include "shm/kill.h"
#include "shm/offspring.h"
#include "shm/segment.h"

#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define IDLE_NS 1000000000
#define DEADLOCK_NS 25000000	  /* between two deadlock checks */
#define DEADLOCK_IDLE_NS 10000000 /* the same while no goroutine runs */
#define DEADLOCK_SHARE 20	  /* deadlock checks use at most this percentage of the medic's time */
#define DEADLOCK_CHECKS 5	  /* checks without a status change; then none until one happens */
#define STW_NS 50000		  /* between two steps of stopping the world */
#define PROMPT_NS 20000000	  /* between two calls of prompt_sleepers */
#define ALONE_NS 10000000000ull	  /* how long the medic lives without zygote, standby and supervisor */
#define SWEEP_NS 50000000	  /* between two looks at stacks that wait for their sweep */
#define STUCK_NS 1000000	  /* between two steps of a task that does not end */

static uint32_t active_slots[TASK_SLOTS]; /* slots that are queued, running or ending */
static unsigned nactive;
static bool deadlock_due; /* check for deadlocks in this round of the loop */

static void notify_supervisor(void)
{
	uint64_t one = 1;

	while (kernel_write(sh_medic_fd, &one, sizeof one) < 0 && errno == EINTR)
		;
}

/* ---- deaths ---- */

static void log_fenced(unsigned seat)
{
	static const char *const why[] = {
		[STUCK_STOPPED] = "was stopped", [STUCK_HANGS] = "hung and could not be preempted"};
	uint32_t fenced = allm(seat)->stuck;

	allm(seat)->stuck = STUCK_NOT;
	if (fenced == STUCK_STOPPED || fenced == STUCK_HANGS)
		sh_log("worker %u (pid %d) %s: killed it", seat, (int)atomic_load(&sh_root->seat[seat].pid),
		       why[fenced]);
}

static void keep_crash(unsigned seat)
{
	struct crash *c = &allm(seat)->crash;

	if (!atomic_load(&c->valid))
		return;
	rt->crash[atomic_load(&rt->ncrashes) % CRASH_KEPT] = *c;
	atomic_fetch_add(&rt->ncrashes, 1);
}

/*
 * Moves the dead worker's own descriptors to a list. They are closed later, while its successor is being cloned,
 * because closing takes up to 100 us.
 */
static void set_aside_descriptors(unsigned seat)
{
	struct sh_seat *s = &sh_root->seat[seat];

	for (unsigned i = 0; i < SH_OWN_FDS; i++) {
		if (s->own_fds[i] < 0)
			continue;
		s->dead_fds[i] = s->own_fds[i];
		KILL_POINT("medic.fds.aside");
		s->own_fds[i] = -1;
	}
}

static void close_gone(unsigned seat)
{
	struct sh_seat *s = &sh_root->seat[seat];

	for (unsigned i = 0; i < SH_OWN_FDS; i++) {
		int fd = s->dead_fds[i];

		if (fd >= 0 && s->own_fds[i] == fd) /* an earlier medic died between copy and clear */
			s->own_fds[i] = -1;
		s->dead_fds[i] = -1;
		KILL_POINT("medic.fds.closing");
		if (fd >= ZFD_FIRST_FREE)
			kernel_close(fd);
	}
}

static void mend_seat(unsigned seat)
{
	struct sh_seat *s = &sh_root->seat[seat];

	s->dead_ns = (int64_t)sh_now();
	atomic_store(&s->state, SEAT_DEAD);
	repair_seat(seat);
	s->repaired_ns = (int64_t)sh_now();
	keep_crash(seat);
	atomic_store(&allm(seat)->blamed, atomic_load(&allm(seat)->crash.valid) && allm(seat)->crash.gid);
	KILL_POINT("medic.blamed");
	atomic_store(&allm(seat)->crash.valid, 0);
	set_aside_descriptors(seat);
	log_fenced(seat);
	atomic_store(&s->stopped, 0);
	old_heaps_renewed(seat);
	if (!atomic_load(&s->exited_clean)) {
		atomic_fetch_add(&s->restarts, 1);
		sched.deaths++;
	}
	atomic_store(&s->state, SEAT_VACANT);
	KILL_POINT("medic.repaired");
	notify_supervisor();
	repair_wake();
	close_gone(seat);
}

static void look_at_seats(void)
{
	for (unsigned i = 1; i < SH_SEATS; i++) {
		uint32_t state = atomic_load(&sh_root->seat[i].state);

		if (state == SEAT_DEAD || ((state == SEAT_LIVE || state == SEAT_STARTING) && sh_seat_dead(i)))
			mend_seat(i);
	}
}

/* ---- tasks ---- */

/*
 * A module was loaded after this process was cloned, so its variables are not mapped here and the locks in
 * them could not be repaired. Exit: the successor is cloned with the module. Tasks of the module start only
 * under a medic that has it mapped.
 */
static void exit_for_renewal(void)
{
	atomic_store(&sh_root->seat[SH_SEAT_MEDIC].exited_clean, 1);
	KILL_POINT("medic.renewed");
	_exit(0);
}

#define DEAD_TOLD_NS 5000000000 /* time limit for the supervisor to write the stacks */

static void say_deadlock(const struct task *t)
{
	static const char text[] = "fatal error: all goroutines are asleep - deadlock!\n\n";

	if (t->fd_err >= 0 && kernel_write(t->fd_err, text, sizeof text - 1) < 0)
		return; /* the file could not be written */
}

/* As Go's checkdead, but only the task ends; the runtime continues. */
static void check_deadlock(struct task *t)
{
	int64_t now = (int64_t)sh_now();

	switch (atomic_load(&t->dead)) {
	case TASK_DEAD_NO:
		if (!checkdead(t))
			return;
		say_deadlock(t);
		t->dead_ns = now;
		atomic_store(&t->dead, TASK_DEAD_FOUND);
		KILL_POINT("medic.deadlock.found");
		notify_supervisor();
		return;
	case TASK_DEAD_FOUND:
		if (now - t->dead_ns < DEAD_TOLD_NS)
			return;
	}
	sh_format(t->message, sizeof t->message, "all goroutines are asleep - deadlock!");
	task_end(t, TASK_CRASHED, 2, 0);
}

static bool step_task(struct task *t)
{
	bool news = false, more;

	uint32_t state = atomic_load(&t->state);

	if ((state == TASK_QUEUED || state == TASK_RUNNING) && t->load_gen > sh_root->seat[SH_SEAT_MEDIC].load_gen)
		exit_for_renewal();
	more = task_step(t, &news);
	if (news)
		notify_supervisor();
	if (atomic_load(&t->state) == TASK_RUNNING && (deadlock_due || atomic_load(&t->dead)))
		check_deadlock(t);
	return more;
}

/*
 * Finds tasks that were queued since the last call. Their order does not matter, because a slot may have waited
 * for the end of an earlier task.
 */
static void find_new(void)
{
	for (unsigned i = 0; i < TASK_SLOTS / 64; i++)
		for (uint64_t bits = atomic_load(&rt->tasks.queued[i]); bits && nactive < TASK_SLOTS;
		     bits &= bits - 1) {
			unsigned slot = i * 64 + (unsigned)__builtin_ctzll(bits);

			if (atomic_load(&task_at(slot)->state) != TASK_QUEUED)
				continue;
			active_slots[nactive++] = slot;
			atomic_fetch_and(&rt->tasks.queued[i], ~(1ull << slot % 64));
		}
}

/* Takes the next step of each active task. True if a task is ending and needs another step soon. */
static bool step_tasks(void)
{
	bool soon = false;
	unsigned kept = 0;

	find_new();
	for (unsigned i = 0; i < nactive; i++) {
		struct task *t = task_at(active_slots[i]);

		if (step_task(t))
			active_slots[kept++] = active_slots[i];
		soon |= atomic_load(&t->state) == TASK_ENDING ||
			(atomic_load(&t->state) == TASK_RUNNING && atomic_load(&t->cancel));
	}
	nactive = kept;
	return soon;
}

/* Called by the successor of a medic: finds the active tasks by looking at all slots. */
static void find_all(void)
{
	for (unsigned i = 0; i < TASK_SLOTS; i++) {
		struct task *t = task_at(i);
		uint32_t state = atomic_load(&t->state);

		if (state == TASK_FREE)
			continue;
		if (state == TASK_ENDED && !atomic_load(&t->again))
			continue;
		active_slots[nactive++] = i;
		atomic_fetch_and(&rt->tasks.queued[i / 64], ~(1ull << i % 64));
	}
}

/* ---- wake-ups by eventfd, for processes that do not share the workers' descriptors ---- */

static void wake_for_others(void)
{
	for (uint64_t seats = atomic_exchange(&sched.wake_asked, 0); seats; seats &= seats - 1)
		host_wake((unsigned)__builtin_ctzll(seats));
}

static bool all_idle(void)
{
	return npidle() >= atomic_load(&sched.procs);
}

/*
 * The number of status changes so far. A goroutine that parks or ends adds one, so while the sum stays the
 * same no task can have come to a deadlock.
 */
static uint64_t changes(void)
{
	uint64_t n = 0;

	for (unsigned i = 1; i < SH_SEATS; i++)
		if (atomic_load(&sh_root->seat[i].state) != SEAT_EMPTY)
			n += atomic_load(&life_ring_of(i)->n);
	return n;
}

static struct {
	int64_t next;
	uint64_t changes; /* status changes before the last check */
	unsigned checks;  /* checks since the last status change */
} deadlocks;

/* True if a deadlock check is due: at intervals while goroutines run, sooner once none runs. */
static bool deadlock_check_due(int64_t now)
{
	uint64_t n;

	if (now < deadlocks.next)
		return false;
	n = changes();
	deadlocks.checks = n == deadlocks.changes ? deadlocks.checks + 1 : 1;
	deadlocks.changes = n;
	return true;
}

static void deadlocks_looked(int64_t began)
{
	int64_t now = (int64_t)sh_now(), pause = all_idle() ? DEADLOCK_IDLE_NS : DEADLOCK_NS;

	if (pause < DEADLOCK_SHARE * (now - began))
		pause = DEADLOCK_SHARE * (now - began);
	deadlocks.next = now + pause;
}

/* How long the medic may sleep while no goroutine runs, ns. */
static int64_t idle_sleep(void)
{
	int64_t ns = deadlocks.next - (int64_t)sh_now();

	if (!nactive || (deadlocks.checks >= DEADLOCK_CHECKS && changes() == deadlocks.changes))
		return IDLE_NS;
	return ns > 0 ? ns : 1;
}

/*
 * Gives workers that have slept for a while a short time slice, so that they take over a dead worker's P without
 * waiting for a processor.
 */
static void prompt_sleepers(int64_t now)
{
	static int64_t last;

	if (now - last < PROMPT_NS)
		return;
	last = now;
	for (uint64_t seats = atomic_load(&sched.midle); seats; seats &= seats - 1) {
		struct sh_seat *s = &sh_root->seat[__builtin_ctzll(seats)];
		uint32_t no = 0;

		if (atomic_load(&s->state) == SEAT_LIVE && atomic_compare_exchange_strong(&s->prompt, &no, 1))
			sh_prompt(atomic_load(&s->pid), true);
	}
}

/* ---- the loop ---- */

static void audit_if_asked(void)
{
	uint32_t asked = atomic_load(&rt->audit_asked);

	if (asked == atomic_load(&rt->audit_done))
		return;
	audit(rt->audit, sizeof rt->audit);
	atomic_store(&rt->audit_done, asked);
	notify_supervisor();
}

static void wait_on(struct futex_waitv *w, unsigned *n, _Atomic uint32_t *word, uint32_t val)
{
	w[(*n)++] = (struct futex_waitv){.val = val, .uaddr = (uintptr_t)word, .flags = FUTEX_32};
}

static void sleep_for(uint32_t bell, int64_t ns)
{
	struct futex_waitv w[SH_SEATS];
	struct timespec until;
	unsigned n = 0;

	wait_on(w, &n, &sh_root->bell, bell);
	for (unsigned i = 1; i < SH_SEATS; i++) {
		uint32_t state = atomic_load(&sh_root->seat[i].state), live;

		if (state != SEAT_LIVE && state != SEAT_STARTING)
			continue;
		live = atomic_load(&sh_root->seat[i].liveness);
		if (live & FUTEX_OWNER_DIED)
			return;
		wait_on(w, &n, &sh_root->seat[i].liveness, live);
	}
	clock_gettime(CLOCK_MONOTONIC, &until);
	ns += until.tv_nsec;
	until.tv_sec += ns / 1000000000;
	until.tv_nsec = ns % 1000000000;
	syscall(SYS_futex_waitv, w, n, 0, &until, CLOCK_MONOTONIC);
}

/* SHOAL_DEBUG=hung=MS sets the grace period for hung workers, for tests. */
static void set_hung_grace(void)
{
	long ms = sh_debug_number("hung=", 0);

	if (ms > 0)
		stuck_call_ns = ms * 1000000l;
}

static volatile sig_atomic_t supervisor_died; /* the supervisor died and no other can adopt the runtime */

static void on_supervisor_death(int sig)
{
	(void)sig;
	supervisor_died = 1;
}

static void begin(void)
{
	sh_seat_take(SH_SEAT_MEDIC);
	getm = allm(SH_SEAT_MEDIC);
	sh_area_open(); /* mapped memory of tasks may contain locks that must be repaired */
	repair_begin();
	signal(SIGPIPE, SIG_IGN);
	signal(MEDIC_ALONE, on_supervisor_death);
	prctl(PR_SET_TIMERSLACK, 1); /* sysmon ticks every 20 us; the default slack is 50 us */
	if (sh_root->seat[SH_SEAT_MEDIC].generation > 1) {
		repair_seat(SH_SEAT_MEDIC); /* repairs what the last medic held */
		repair_wake();
		for (unsigned i = 1; i < SH_SEATS; i++)
			close_gone(i);
		notify_supervisor(); /* the last medic may have repaired seats without reporting them */
	}
	set_hung_grace();
	life_look(getm);
	old_heaps_find();
	find_all();
	atomic_store(&sh_root->seat[SH_SEAT_MEDIC].state, SEAT_LIVE);
}

/*
 * If zygote, standby and supervisor have been dead for ALONE_NS, no worker can ever be cloned again: kills all
 * workers and exits.
 */
static void end_if_alone(void)
{
	static uint64_t since;

	if (!(atomic_load(&sh_root->zygote_word) & FUTEX_OWNER_DIED)) {
		since = 0;
		return;
	}
	if (!since)
		since = sh_now();
	if (sh_now() - since < ALONE_NS)
		return;
	sh_offspring_end_runtime();
}

void medic_main(void)
{
	begin();
	for (;;) {
		uint32_t bell = atomic_load(&sh_root->bell);
		int64_t ns, now;
		bool soon, sweep;

		life_look(getm);
		now = (int64_t)sh_now();
		deadlock_due = deadlock_check_due(now);
		if (supervisor_died)
			sh_offspring_end_runtime();
		end_if_alone();
		look_at_seats();
		wake_for_others();
		soon = step_tasks();
		if (deadlock_due)
			deadlocks_looked(now);
		audit_if_asked();
		prompt_sleepers((int64_t)sh_now());
		ns = sysmon((int64_t)sh_now());
		if (atomic_load(&sched.want_worker))
			notify_supervisor();
		soon |= old_heaps_scan((int64_t)sh_now());
		sweep = tstack_sweep((int64_t)sh_now());
		if (ns == 0)
			ns = idle_sleep();
		if (sweep && ns > SWEEP_NS)
			ns = SWEEP_NS;
		if (procs_step((int64_t)sh_now()) && ns > STW_NS)
			ns = STW_NS;
		sleep_for(bell, soon && ns > STUCK_NS ? STUCK_NS : ns);
	}
}
