/*
 * fleet.c - the processes of the runtime: clones a process for each seat and handles the end of each process.
 *
 * After a death the medic repairs the seat and sets it to VACANT. Then the supervisor lets the zygote clone a new
 * process for the seat: at once if the last process exited normally, otherwise after the delay of the restart
 * policy. The medic's own seat is different: the supervisor requests a new medic as soon as it has reaped the old
 * one, and the new medic repairs the seat.
 *
 * Processes that were cloned for an earlier supervisor, or by its zygote, are not children of this process. A
 * pidfd reports their end, but not their exit status.
 */
#include "shm/kernel.h"
#include "shm/offspring.h"
#include "shm/syscall.h"
#include "supervisor/daemon/fleet.h"
#include "core/sched/sched.h"
#include "shm/procstat.h"
#include "supervisor/daemon/adopt.h"
#include "supervisor/daemon/control.h"
#include "supervisor/daemon/failure.h"
#include "supervisor/daemon/link.h"
#include "supervisor/daemon/log.h"
#include "supervisor/daemon/main.h"
#include "supervisor/daemon/setup.h"
#include "supervisor/daemon/sweep.h"
#include "supervisor/keeper/keeper.h"
#include "supervisor/zygote/zygote.h"
#include "core/root.h"
#include "core/sched/m.h"
#include "shm/segment.h"
#include "shm/signame.h"

#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define AT_ONCE 3 /* restarts within WITHIN_NS that have no delay */
#define WITHIN_NS 10000000000ull
#define DELAY_MS 100u
#define DELAY_MAX_MS 10000u
#define HEALTHY_NS 30000000000ull
#define EXITS_KEPT 64
#define STANDBY_NS 3000000000ull /* how long the supervisor waits for a standby to take over */
#define RENEW_NS 5000000000ull

struct seat_process {
	pid_t pid;	   /* of the process in the seat; 0 while a clone is under way */
	bool cloning, due; /* due: the timer that clones the next process is running */
	uint64_t began_ns;
	uint64_t restart_ns[AT_ONCE];
	unsigned restarts, delay_ms;
	uv_timer_t timer;
};

struct watch {
	struct watch *next;
	pid_t pid;
	child_done *done;
	void *arg;
};

/*
 * A replacement of workers. When each wanted seat has a new live process, the asker gets the answer; if it is
 * NULL, sweep.c is called.
 */
struct renewal {
	struct renewal *next;
	struct asker *asker;
	uint64_t until_ns;
	uint32_t generation[SH_SEATS]; /* of the process to replace, for each wanted seat */
	bool wanted[SH_SEATS];
};

static struct seat_process seat_process[SH_SEATS];
static struct renewal *renewals;
static unsigned nseats; /* number of workers; the medic is not counted */
static pid_t zygote;
static uint64_t zygote_gone_ns; /* when the zygote died; 0 as soon as a standby has taken over */
/* the zygote was started by an earlier supervisor, so its clones are not children of this process */
static bool adopted;
static bool no_delay; /* SHOAL_DEBUG=nodelay: no restart delay, for tests that kill often */
static struct watch *watches;
static struct {
	pid_t pid;
	int status;
} unclaimed_exit[EXITS_KEPT]; /* children that were reaped before the zygote's answer named their pid */
static unsigned nunclaimed_exits;
static struct {
	pid_t pid;
	unsigned seat;
	/* processes that are not reaped yet although their seat already belongs to a successor */
} leaving_processes[EXITS_KEPT];
static unsigned nleaving;

struct pidfd_watch { /* waits for the end of a process that is not our child */
	uv_poll_t poll;
	pid_t pid;
	int fd;
};

static void clone_into(unsigned seat);
static void on_exit_of(pid_t pid, int status);

static struct sh_seat *seat_at(unsigned seat)
{
	return &sh_root->seat[seat];
}

/*
 * The process of the seat has exited. The kernel sets FUTEX_OWNER_DIED, but not if the process died before it took
 * its seat, or if a task damaged what the kernel needs for that: the robust list, the liveness word, or the
 * mapping of the segment. So the reaper sets it as well.
 */
static void mark_dead(unsigned seat)
{
	struct sh_seat *s = seat_at(seat);
	uint32_t state = atomic_load(&s->state);

	if ((state != SEAT_STARTING && state != SEAT_LIVE) || sh_seat_dead(seat))
		return;
	atomic_fetch_or(&s->liveness, FUTEX_OWNER_DIED);
	sh_bell();
}

static bool alive(pid_t pid)
{
	return pid > 0 && !sh_process_gone(pid);
}

/*
 * True, with the exit status, if pid was reaped before its seat was known. A pid that is alive belongs to a
 * later process to which the kernel gave the same number.
 */
static int take_unclaimed_exit(pid_t pid, int *status)
{
	int found = 0;

	for (unsigned i = 0; i < EXITS_KEPT; i++)
		if (unclaimed_exit[i].pid == pid) {
			unclaimed_exit[i].pid = 0;
			*status = unclaimed_exit[i].status;
			found = 1;
		}
	return found && !alive(pid);
}

static bool take_leaving(pid_t pid, unsigned *seat)
{
	for (unsigned i = 0; i < EXITS_KEPT; i++)
		if (leaving_processes[i].pid == pid) {
			leaving_processes[i].pid = 0;
			*seat = leaving_processes[i].seat;
			return true;
		}
	return false;
}

static void on_watch_closed(uv_handle_t *handle)
{
	struct pidfd_watch *w = handle->data;

	kernel_close(w->fd);
	free(w);
}

static void on_pidfd(uv_poll_t *handle, int status, int events)
{
	struct pidfd_watch *w = handle->data;
	int how;

	(void)status;
	(void)events;
	uv_poll_stop(&w->poll);
	uv_close((uv_handle_t *)&w->poll, on_watch_closed);
	/* succeeds for a compiler, which is always a child of this process */
	if (kernel_waitpid(w->pid, &how, WNOHANG) != w->pid)
		how = STATUS_UNKNOWN;
	on_exit_of(w->pid, how);
}

/* False if the process has ended already. */
static bool watch_pidfd(pid_t pid)
{
	struct pidfd_watch *w;
	int fd;

	if (!adopted)
		return true;
	fd = (int)syscall(SYS_pidfd_open, pid, 0);
	w = fd >= 0 ? malloc(sizeof *w) : NULL;
	if (!w)
		return false;
	w->pid = pid;
	w->fd = fd;
	w->poll.data = w;
	if (uv_poll_init(sh_loop, &w->poll, fd) < 0) {
		kernel_close(fd);
		free(w);
		return false;
	}
	uv_poll_start(&w->poll, UV_READABLE, on_pidfd);
	return true;
}

static void on_timer(uv_timer_t *timer)
{
	struct seat_process *p = timer->data;

	p->due = false;
	if (sh_stopping < STOP_GONE)
		clone_into((unsigned)(p - seat_process));
}

static void clone_later(unsigned seat, unsigned ms)
{
	struct seat_process *p = &seat_process[seat];

	if (p->due || p->cloning)
		return;
	p->due = true;
	uv_timer_start(&p->timer, on_timer, ms, 0);
}

/* Returns the delay in ms of the restart policy before the next process may be cloned for the seat. */
static unsigned restart_delay(struct seat_process *p)
{
	uint64_t now = sh_now(), oldest = p->restart_ns[p->restarts % AT_ONCE];
	unsigned delay;

	if (p->began_ns && now - p->began_ns >= HEALTHY_NS) {
		p->restarts = 0;
		p->delay_ms = 0;
		memset(p->restart_ns, 0, sizeof p->restart_ns);
		oldest = 0;
	}
	p->restart_ns[p->restarts++ % AT_ONCE] = now;
	if (no_delay)
		return 0;
	if (!p->delay_ms && (!oldest || now - oldest > WITHIN_NS))
		return 0;
	delay = p->delay_ms ? p->delay_ms : DELAY_MS;
	p->delay_ms = delay * 2 < DELAY_MAX_MS ? delay * 2 : DELAY_MAX_MS;
	return delay;
}

static void log_death(unsigned seat, pid_t pid, int status)
{
	if (WIFSIGNALED(status))
		sh_log("%s %u (pid %d) was ended by %s", seat ? "worker" : "medic", seat, (int)pid,
		       sh_signal_name(WTERMSIG(status)));
}

static void on_seat_exit(unsigned seat, int status)
{
	pid_t pid = seat_process[seat].pid;

	log_death(seat, pid, status);
	seat_process[seat].pid = 0;
	if (seat == SH_SEAT_MEDIC) {
		unsigned ms = atomic_load(&seat_at(seat)->exited_clean) ? 0 : restart_delay(&seat_process[seat]);

		if (ms)
			clone_later(seat, ms);
		else
			clone_into(seat);
	} else if (!alive(pid)) { /* false: only no descriptor was free to watch it */
		mark_dead(seat);
	}
}

/* The zygote died during the clone. If a process claimed the seat, find_pid reads its pid there. */
static void clone_lost(unsigned seat)
{
	if (sh_seat_unreserve(seat))
		clone_into(seat);
}

static void cloned(void *arg, const struct zrep *rep)
{
	unsigned seat = (unsigned)(uintptr_t)arg;
	struct seat_process *p = &seat_process[seat];
	int status;

	p->cloning = false;
	if (rep->code == ZREP_LOST) {
		clone_lost(seat);
		return;
	}
	if (rep->code) {
		sh_log("cannot clone %s %u: %s", seat ? "worker" : "medic", seat, rep->message);
		atomic_store(&seat_at(seat)->state, SEAT_VACANT);
		clone_later(seat, 100);
		return;
	}
	p->pid = rep->pid;
	p->began_ns = sh_now();
	if (sh_stopping == STOP_GONE)
		kernel_kill(p->pid, SIGKILL);
	else if (take_unclaimed_exit(rep->pid, &status))
		on_seat_exit(seat, status);
	else if (!watch_pidfd(rep->pid))
		on_seat_exit(seat, STATUS_UNKNOWN);
}

static void clone_into(unsigned seat)
{
	struct zreq req = {.op = Z_CLONE, .seat = seat};

	if (seat_process[seat].cloning || sh_stopping == STOP_GONE)
		return;
	seat_process[seat].cloning = true;
	if (seat_process[seat].pid) {
		leaving_processes[nleaving % EXITS_KEPT].pid = seat_process[seat].pid;
		leaving_processes[nleaving++ % EXITS_KEPT].seat = seat;
	}
	seat_process[seat].pid = 0;
	req.ask = sh_seat_reserve(seat);
	sh_link_ask(&req, NULL, 0, cloned, (void *)(uintptr_t)seat);
}

/* ---- renewal ---- */

static bool renewed(const struct renewal *r)
{
	for (unsigned seat = 1; seat <= nseats; seat++)
		if (r->wanted[seat] && (atomic_load(&seat_at(seat)->state) != SEAT_LIVE ||
					seat_at(seat)->generation == r->generation[seat]))
			return false;
	return true;
}

static void finish_renewals(void)
{
	for (struct renewal **at = &renewals; *at;) {
		struct renewal *r = *at;
		bool done = renewed(r);

		if (!done && sh_now() < r->until_ns) {
			at = &r->next;
			continue;
		}
		*at = r->next;
		if (!r->asker)
			sh_sweep_renewed(done);
		else if (done)
			sh_answer(r->asker, json_pack("{s:b}", "ok", 1), NULL, 0);
		else
			sh_answer_error(r->asker, CODE_FAILED, NULL,
					"a worker did not reach a point where it can be replaced");
		free(r);
	}
}

static void ignore_answer(void *arg, const struct zrep *rep)
{
	(void)arg;
	(void)rep;
}

static void renew_seat(unsigned seat)
{
	struct zreq req = {.op = Z_WAKE, .seat = seat};
	struct seat_process *p = &seat_process[seat];

	if (p->due) { /* the seat waits for its restart delay: end the delay now */
		uv_timer_stop(&p->timer);
		p->due = false;
		clone_into(seat);
	} else if (atomic_load(&seat_at(seat)->state) == SEAT_LIVE) {
		atomic_store(&seat_at(seat)->leave, 1);
		sh_bell();
		sh_link_ask(&req, NULL, 0, ignore_answer, NULL);
	}
}

void sh_fleet_renew(struct asker *asker, unsigned only)
{
	struct renewal *r = calloc(1, sizeof *r);

	if (!r)
		abort();
	r->asker = asker;
	r->until_ns = sh_now() + RENEW_NS;
	for (unsigned seat = 1; seat <= nseats; seat++) {
		if (only && seat != only)
			continue;
		/* A seat in STARTING is about to get a new process anyway. */
		r->wanted[seat] = atomic_load(&seat_at(seat)->state) != SEAT_STARTING;
		r->generation[seat] = seat_at(seat)->generation;
		renew_seat(seat);
	}
	r->next = renewals;
	renewals = r;
}

static bool is_stopped(pid_t pid)
{
	struct sh_procstat stat;

	return sh_procstat_read(pid, &stat) && stat.state == 'T';
}

static _Noreturn void end_without_zygote(void)
{
	sh_log("the zygote died and no standby took over: no worker can be cloned any more, so all tasks end");
	sh_fleet_kill();
	sh_setup_remove_socket();
	exit(1);
}

static void poll_for_stopped(void);

void sh_fleet_tick(void)
{
	poll_for_stopped();
	finish_renewals();
	if (zygote_gone_ns && sh_now() - zygote_gone_ns > STANDBY_NS)
		end_without_zygote();
}

static bool any_worker_runs(void)
{
	for (unsigned seat = 1; seat <= nseats; seat++) {
		uint32_t state = atomic_load(&seat_at(seat)->state);

		if (state == SEAT_LIVE || state == SEAT_STARTING)
			return true;
	}
	return false;
}

/* Finds the process in a seat whose pid the zygote did not report, or reported to an earlier supervisor. */
static void find_pid(unsigned seat)
{
	struct seat_process *p = &seat_process[seat];
	uint32_t state = atomic_load(&seat_at(seat)->state);
	pid_t pid = sh_seat_claimed(seat_at(seat));
	int status;

	if (p->pid || p->cloning || p->due)
		return;
	if (seat == SH_SEAT_MEDIC && sh_seat_dead(seat))
		on_seat_exit(seat, STATUS_UNKNOWN); /* it started and died before we learned its pid */
	if (p->cloning || (state != SEAT_LIVE && state != SEAT_STARTING) || sh_seat_dead(seat) || pid <= 0)
		return;
	p->pid = pid;
	p->began_ns = sh_now();
	if (take_unclaimed_exit(pid, &status))
		on_seat_exit(seat, status);
	else if (!watch_pidfd(pid))
		on_seat_exit(seat, STATUS_UNKNOWN);
}

static void add_seat(unsigned seat)
{
	uv_timer_init(sh_loop, &seat_process[seat].timer);
	seat_process[seat].timer.data = &seat_process[seat];
	clone_into(seat);
}

/* All workers are in system calls and goroutines are runnable: adds a worker, unless one is starting. */
static void add_wanted_worker(void)
{
	if (!atomic_exchange(&sched.want_worker, 0) || nseats >= WORKERS_MAX - 1 || sh_stopping == STOP_GONE)
		return;
	for (unsigned seat = 1; seat <= nseats; seat++)
		if (atomic_load(&seat_at(seat)->state) != SEAT_LIVE)
			return;
	add_seat(++nseats);
}

static void set_delay(void)
{
	no_delay = getenv("SHOAL_DEBUG") && strstr(getenv("SHOAL_DEBUG"), "nodelay");
	atomic_store(&sched.no_delay, no_delay);
}

/* A process that ended in good order, or by its goroutine's crash (the delay is its task's), has none. */
static unsigned delay_of_seat(unsigned seat)
{
	if (atomic_load(&seat_at(seat)->exited_clean) || atomic_load(&allm(seat)->blamed))
		return 0;
	return restart_delay(&seat_process[seat]);
}

void sh_fleet_look(void)
{
	finish_renewals();
	for (unsigned seat = 0; seat <= nseats; seat++)
		find_pid(seat);
	add_wanted_worker();
	for (unsigned seat = 1; seat <= nseats; seat++) {
		struct seat_process *p = &seat_process[seat];
		unsigned ms;

		if (p->cloning || p->due || atomic_load(&seat_at(seat)->state) != SEAT_VACANT)
			continue;
		ms = delay_of_seat(seat);
		if (ms > DELAY_MS && !any_worker_runs())
			ms = DELAY_MS; /* no other worker runs, and tasks wait */
		if (ms) {
			sh_log("worker %u starts again in %u ms", seat, ms);
			clone_later(seat, ms);
		} else {
			clone_into(seat);
		}
	}
}

/* Called after the zygote's first answer: it has finished what the earlier supervisor had asked. */
void sh_fleet_adopt(unsigned workers)
{
	adopted = true;
	nseats = workers;
	for (unsigned seat = workers + 1; seat < WORKERS_MAX; seat++) /* workers added by add_wanted_worker */
		if (atomic_load(&seat_at(seat)->state) != SEAT_EMPTY)
			nseats = seat;
	set_delay();
	for (unsigned seat = 0; seat <= nseats; seat++) {
		uint32_t state = atomic_load(&seat_at(seat)->state);

		uv_timer_init(sh_loop, &seat_process[seat].timer);
		seat_process[seat].timer.data = &seat_process[seat];
		if (seat == SH_SEAT_MEDIC && (sh_seat_dead(seat) || state == SEAT_EMPTY))
			clone_into(seat);
		else if (state == SEAT_EMPTY)
			clone_into(seat);
		else if (state == SEAT_STARTING && sh_seat_unreserve(seat))
			/* no process has claimed the seat, and the claim of a late process is refused */
			mark_dead(seat);
	}
	sh_fleet_zygote(atomic_load(&sh_root->zygote));
	if (!watch_pidfd(sh_keeper_pid()))
		on_exit_of(sh_keeper_pid(), STATUS_UNKNOWN);
	sh_fleet_look();
}

void sh_fleet_zygote(pid_t pid)
{
	if (zygote == pid)
		return;
	if (zygote)
		sh_log("process %d is the zygote now", (int)pid);
	zygote = pid;
	zygote_gone_ns = 0;
	if (!watch_pidfd(pid))
		on_exit_of(pid, STATUS_UNKNOWN);
}

void sh_fleet_start(pid_t zygote_pid, unsigned workers)
{
	zygote = zygote_pid;
	nseats = workers;
	set_delay();
	for (unsigned seat = 0; seat <= nseats; seat++)
		add_seat(seat);
}

void sh_fleet_watch(pid_t pid, child_done *done, void *arg)
{
	struct watch *w;
	int status;

	if (take_unclaimed_exit(pid, &status)) {
		done(arg, status);
		return;
	}
	if (!watch_pidfd(pid)) {
		done(arg, STATUS_UNKNOWN);
		return;
	}
	w = malloc(sizeof *w);
	if (!w)
		abort();
	*w = (struct watch){watches, pid, done, arg};
	watches = w;
}

static bool notify_watch(pid_t pid, int status)
{
	for (struct watch **at = &watches; *at; at = &(*at)->next) {
		struct watch *w = *at;

		if (w->pid != pid)
			continue;
		*at = w->next;
		w->done(w->arg, status);
		free(w);
		return true;
	}
	return false;
}

static bool notify_seat(pid_t pid, int status)
{
	unsigned seat;

	if (take_leaving(pid, &seat)) {
		log_death(seat, pid, status);
		return true;
	}
	for (seat = 0; seat <= nseats; seat++)
		if (seat_process[seat].pid == pid) {
			on_seat_exit(seat, status);
			return true;
		}
	return false;
}

static void on_zygote_exit(int status)
{
	sh_log("the zygote (pid %d) died%s%s", (int)zygote, WIFSIGNALED(status) ? ": " : "",
	       WIFSIGNALED(status) ? sh_signal_name(WTERMSIG(status)) : "");
	zygote = 0;
	zygote_gone_ns = sh_now(); /* its standby sends a message when it has taken over */
	if (sh_options.one_shot && !atomic_load(&sh_root->standby))
		end_without_zygote();
}

static void on_exit_of(pid_t pid, int status)
{
	if (pid == zygote) {
		on_zygote_exit(status);
	} else if (pid == sh_keeper_pid()) {
		sh_keeper_forget();
		if (sh_stopping != STOP_GONE) {
			sh_log("the keeper died: starting another one");
			sh_keeper_begin();
		}
	} else if (!notify_seat(pid, status) && !notify_watch(pid, status) && !adopted) {
		/* The process was just cloned: the zygote's answer, which has not arrived yet, names its seat. */
		unclaimed_exit[nunclaimed_exits % EXITS_KEPT].pid = pid;
		unclaimed_exit[nunclaimed_exits++ % EXITS_KEPT].status = status;
	}
}

/*
 * Called when a process was stopped by a signal. A stopped worker may hold a goroutine, so the medic decides. The
 * other processes hold none, and everybody waits for them: kills the process, and a successor takes over.
 */
static void on_stopped(pid_t pid)
{
	for (unsigned seat = 1; seat <= nseats; seat++)
		if (seat_process[seat].pid == pid) {
			atomic_store(&seat_at(seat)->stopped, 1);
			sh_bell();
			return;
		}
	if (pid != seat_process[SH_SEAT_MEDIC].pid && pid != zygote && pid != atomic_load(&sh_root->standby) &&
	    pid != sh_keeper_pid())
		return;
	sh_log("process %d was stopped by a signal: killed it, a successor takes over", (int)pid);
	kernel_kill(pid, SIGKILL);
}

void sh_fleet_reap(void)
{
	int status;
	pid_t pid;

	while ((pid = kernel_waitpid(-1, &status, WNOHANG | WUNTRACED)) > 0)
		if (WIFSTOPPED(status))
			on_stopped(pid);
		else
			on_exit_of(pid, status);
}

/* The supervisor gets no SIGCHLD for a process that an earlier supervisor or another zygote has cloned: it polls them. */
static void poll_for_stopped(void)
{
	const pid_t who[] = {seat_process[SH_SEAT_MEDIC].pid, zygote, atomic_load(&sh_root->standby), sh_keeper_pid()};

	for (size_t i = 0; adopted && i < sizeof who / sizeof *who; i++)
		if (who[i] > 0 && is_stopped(who[i]))
			on_stopped(who[i]);
}

/* Kills the children of this process, also those whose pid the zygote did not report before it died. */
static void kill_children(void)
{
	FILE *f = fopen("/proc/thread-self/children", "re");
	int pid;

	if (!f)
		return;
	while (fscanf(f, "%d", &pid) == 1)
		kernel_kill(pid, SIGKILL);
	fclose(f);
}

static bool kill_one(pid_t pid)
{
	if (!alive(pid))
		return false;
	kernel_kill(pid, SIGKILL);
	return true;
}

/* Kills all processes of the runtime, children or not. True if one of them still exists. */
static bool kill_all(void)
{
	bool some = kill_one(atomic_load(&sh_root->standby));

	some |= kill_one(zygote);
	some |= kill_one(sh_keeper_pid());
	for (unsigned seat = 0; seat < SH_SEATS; seat++)
		some |= kill_one(seat_process[seat].pid);
	for (struct watch *w = watches; w; w = w->next)
		some |= kill_one(w->pid);
	return some;
}

/*
 * Finds adopted processes that were cloned while there was no supervisor: only their seats have their pids. A
 * process that has not claimed its seat yet reads sh_root->over and exits.
 */
static void find_pids(void)
{
	for (unsigned seat = 0; seat < SH_SEATS; seat++) {
		pid_t pid = atomic_load(&seat_at(seat)->pid);

		if (adopted && !seat_process[seat].pid && pid > 0 &&
		    (atomic_load(&seat_at(seat)->liveness) & (FUTEX_TID_MASK | FUTEX_OWNER_DIED)) == (uint32_t)pid)
			seat_process[seat].pid = pid;
	}
}

static void reaped(pid_t pid)
{
	if (pid == zygote)
		zygote = 0;
	if (pid == sh_keeper_pid())
		sh_keeper_forget();
	if (pid == atomic_load(&sh_root->standby))
		atomic_store(&sh_root->standby, 0);
	for (unsigned seat = 0; seat < SH_SEATS; seat++)
		if (seat_process[seat].pid == pid)
			seat_process[seat].pid = 0;
	for (struct watch *w = watches; w; w = w->next)
		if (w->pid == pid)
			w->pid = 0;
}

/* Kills the programs that tasks have started. No process can start more of them now. */
static void kill_offspring(void)
{
	for (unsigned tries = 0; tries < 1000 && sh_offspring_kill(SH_OFFSPRING_ALL, SIGKILL); tries++)
		kernel_nanosleep(&(struct timespec){0, 1000000}, NULL);
}

static void kill_fleet(void)
{
	atomic_store(&sh_root->over, 1);
	find_pids();
	kill_all();
	for (unsigned tries = 0; tries < 5000; tries++) {
		pid_t pid = kernel_waitpid(-1, NULL, WNOHANG);

		if (pid > 0) {
			reaped(pid);
			continue;
		}
		if (tries % 64 == 8) {
			kill_children();
			find_pids();
		}
		if (!kill_all() && pid < 0 && errno == ECHILD)
			return;
		kernel_nanosleep(&(struct timespec){0, 1000000}, NULL);
	}
	sh_log("some processes did not end after SIGKILL");
}

void sh_fleet_kill(void)
{
	sh_stopping = STOP_GONE;
	kill_fleet();
	kill_offspring();
}

pid_t sh_fleet_pid(unsigned seat)
{
	return seat_process[seat].pid;
}

unsigned sh_fleet_seats(void)
{
	return nseats;
}
