/*
 * fleet.c - the processes: who sits where, who is cloned when, who has died.
 *
 * The medic repairs and says VACANT; then a new process is cloned into the seat: at once if the
 * last one left in good order, else by the restart policy of FAULTS. The medic's own seat has
 * nobody to repair it: it is filled anew as soon as its process is reaped.
 *
 * Processes that a supervisor before us had cloned are no children of ours, nor is what their
 * zygote clones: a pidfd tells of their end, though not how it was.
 */
#include "supervisor/daemon/fleet.h"
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

#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define AT_ONCE 3 /* restarts within WITHIN_NS that do not wait */
#define WITHIN_NS 10000000000ull
#define DELAY_MS 100u
#define DELAY_MAX_MS 10000u
#define HEALTHY_NS 30000000000ull
#define STRANGERS 64
#define STANDBY_NS 3000000000ull /* a standby has come forward by then, or there is none */
#define RENEW_NS 5000000000ull

struct place {
	pid_t pid;	   /* of the process in it; 0 while a clone is under way */
	bool cloning, due; /* due: the timer runs, or will */
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

/* restart: who asked (NULL: sweep.c) is told when each of the seats has a new process that lives. */
struct renewal {
	struct renewal *next;
	struct asker *asker;
	uint64_t until_ns;
	uint32_t generation[SH_SEATS]; /* that goes; of seats in wanted */
	bool wanted[SH_SEATS];
};

static struct place place[SH_SEATS];
static struct renewal *renewals;
static unsigned nseats; /* workers; the medic is one more */
static pid_t zygote;
static uint64_t zygote_gone_ns; /* and no standby has come forward */
static bool adopted;		/* nothing that the zygote clones is our child */
static bool no_delay;		/* SHOAL_DEBUG=nodelay: tests kill more often than anything should die */
static struct watch *watches;
static struct {
	pid_t pid;
	int status;
} stranger[STRANGERS]; /* reaped before we were told their pid */
static unsigned nstrangers;
static struct {
	pid_t pid;
	unsigned seat;
} leaving[STRANGERS]; /* had a seat, which is another's by now, and are not reaped yet */
static unsigned nleaving;

struct stranger_watch { /* the end of a process that is no child */
	uv_poll_t poll;
	pid_t pid;
	int fd;
};

static void clone_into(unsigned seat);
static void gone(pid_t pid, int status);

static struct sh_seat *seat_at(unsigned seat)
{
	return &sh_root->seat[seat];
}

/* It died before it could take its seat: the kernel marks nothing, so we do. */
static void mark_dead(unsigned seat)
{
	struct sh_seat *s = seat_at(seat);

	if (atomic_load(&s->state) != SEAT_STARTING)
		return;
	atomic_fetch_or(&s->liveness, FUTEX_OWNER_DIED);
	sh_bell();
}

static bool alive(pid_t pid)
{
	return pid > 0 && !sh_process_gone(pid);
}

/* Who lives is another process, which has the number of one that was nobody's when it was reaped. */
static int forget_stranger(pid_t pid, int *status)
{
	int found = 0;

	for (unsigned i = 0; i < STRANGERS; i++)
		if (stranger[i].pid == pid) {
			stranger[i].pid = 0;
			*status = stranger[i].status;
			found = 1;
		}
	return found && !alive(pid);
}

static bool forget_leaving(pid_t pid, unsigned *seat)
{
	for (unsigned i = 0; i < STRANGERS; i++)
		if (leaving[i].pid == pid) {
			leaving[i].pid = 0;
			*seat = leaving[i].seat;
			return true;
		}
	return false;
}

static void on_watch_closed(uv_handle_t *handle)
{
	struct stranger_watch *w = handle->data;

	close(w->fd);
	free(w);
}

static void on_pidfd(uv_poll_t *handle, int status, int events)
{
	struct stranger_watch *w = handle->data;
	int how;

	(void)status;
	(void)events;
	uv_poll_stop(&w->poll);
	uv_close((uv_handle_t *)&w->poll, on_watch_closed);
	if (waitpid(w->pid, &how, WNOHANG) != w->pid) /* a compiler is our child in any case */
		how = STATUS_UNKNOWN;
	gone(w->pid, how);
}

/* false: it is gone already. */
static bool watch_stranger(pid_t pid)
{
	struct stranger_watch *w;
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
		close(fd);
		free(w);
		return false;
	}
	uv_poll_start(&w->poll, UV_READABLE, on_pidfd);
	return true;
}

static void on_timer(uv_timer_t *timer)
{
	struct place *p = timer->data;

	p->due = false;
	if (sh_stopping < STOP_GONE)
		clone_into((unsigned)(p - place));
}

static void clone_later(unsigned seat, unsigned ms)
{
	struct place *p = &place[seat];

	if (p->due || p->cloning)
		return;
	p->due = true;
	uv_timer_start(&p->timer, on_timer, ms, 0);
}

/* When the next process may be cloned into it, by the restart policy: ms from now. */
static unsigned restart_delay(struct place *p)
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

static void tell_death(unsigned seat, pid_t pid, int status)
{
	if (WIFSIGNALED(status))
		sh_log("%s %u (pid %d) was ended by %s", seat ? "worker" : "medic", seat, (int)pid,
		       sh_signal_name(WTERMSIG(status)));
}

static void child_gone(unsigned seat, int status)
{
	tell_death(seat, place[seat].pid, status);
	place[seat].pid = 0;
	if (seat == SH_SEAT_MEDIC) {
		unsigned ms = atomic_load(&seat_at(seat)->left) ? 0 : restart_delay(&place[seat]);

		if (ms)
			clone_later(seat, ms);
		else
			clone_into(seat);
	} else {
		mark_dead(seat);
	}
}

/* The zygote died over it. Who has claimed the seat is named there: find_pid. */
static void clone_lost(unsigned seat)
{
	if (sh_seat_unask(seat))
		clone_into(seat);
}

static void cloned(void *arg, const struct zrep *rep)
{
	unsigned seat = (unsigned)(uintptr_t)arg;
	struct place *p = &place[seat];
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
		kill(p->pid, SIGKILL);
	else if (forget_stranger(rep->pid, &status))
		child_gone(seat, status);
	else if (!watch_stranger(rep->pid))
		child_gone(seat, STATUS_UNKNOWN);
}

static void clone_into(unsigned seat)
{
	struct zreq req = {.op = Z_CLONE, .seat = seat};

	if (place[seat].cloning || sh_stopping == STOP_GONE)
		return;
	place[seat].cloning = true;
	if (place[seat].pid) {
		leaving[nleaving % STRANGERS].pid = place[seat].pid;
		leaving[nleaving++ % STRANGERS].seat = seat;
	}
	place[seat].pid = 0;
	req.ask = sh_seat_ask(seat);
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

static void look_at_renewals(void)
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
					"a worker has not come to a point where it may go");
		free(r);
	}
}

static void woken(void *arg, const struct zrep *rep)
{
	(void)arg;
	(void)rep;
}

static void renew_seat(unsigned seat)
{
	struct zreq req = {.op = Z_WAKE, .seat = seat};
	struct place *p = &place[seat];

	if (p->due) { /* it waits out its delay: no longer */
		uv_timer_stop(&p->timer);
		p->due = false;
		clone_into(seat);
	} else if (atomic_load(&seat_at(seat)->state) == SEAT_LIVE) {
		atomic_store(&seat_at(seat)->leave, 1);
		sh_bell();
		sh_link_ask(&req, NULL, 0, woken, NULL);
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
		/* One that is on its way has taken its number already, or will: it is new as it is. */
		r->wanted[seat] = atomic_load(&seat_at(seat)->state) != SEAT_STARTING;
		r->generation[seat] = seat_at(seat)->generation;
		renew_seat(seat);
	}
	r->next = renewals;
	renewals = r;
}

static bool is_stopped(pid_t pid)
{
	char path[32], stat[256], *at;
	FILE *f;
	size_t n;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	f = fopen(path, "re");
	n = f ? fread(stat, 1, sizeof stat - 1, f) : 0;
	if (f)
		fclose(f);
	stat[n] = '\0';
	at = strrchr(stat, ')');
	return at && strncmp(at, ") T", 3) == 0;
}

static _Noreturn void end_without_zygote(void)
{
	sh_log("the zygote is gone, and no standby: nobody can clone a worker any more");
	sh_fleet_kill();
	sh_setup_remove_socket();
	exit(1);
}

static void look_for_stopped(void);

void sh_fleet_tick(void)
{
	look_for_stopped();
	look_at_renewals();
	if (zygote_gone_ns && sh_now() - zygote_gone_ns > STANDBY_NS)
		end_without_zygote();
}

static bool somebody_works(void)
{
	for (unsigned seat = 1; seat <= nseats; seat++) {
		uint32_t state = atomic_load(&seat_at(seat)->state);

		if (state == SEAT_LIVE || state == SEAT_STARTING)
			return true;
	}
	return false;
}

/* Somebody took the seat of whom the zygote did not live to tell, or told our predecessor. */
static void find_pid(unsigned seat)
{
	struct place *p = &place[seat];
	uint32_t state = atomic_load(&seat_at(seat)->state);
	pid_t pid = sh_seat_claimed(seat_at(seat));
	int status;

	if (p->pid || p->cloning || p->due)
		return;
	if (seat == SH_SEAT_MEDIC && sh_seat_dead(seat))
		child_gone(seat, STATUS_UNKNOWN); /* it came and went before we learned of it */
	if (p->cloning || (state != SEAT_LIVE && state != SEAT_STARTING) || sh_seat_dead(seat) || pid <= 0)
		return;
	p->pid = pid;
	p->began_ns = sh_now();
	if (forget_stranger(pid, &status))
		child_gone(seat, status);
	else if (!watch_stranger(pid))
		child_gone(seat, STATUS_UNKNOWN);
}

static void add_seat(unsigned seat)
{
	uv_timer_init(sh_loop, &place[seat].timer);
	place[seat].timer.data = &place[seat];
	clone_into(seat);
}

/* All workers are in system calls, and there is work: one more, unless one is on its way. */
static void look_at_want(void)
{
	if (!atomic_exchange(&sched.want_worker, 0) || nseats >= WORKERS_MAX - 1 || sh_stopping == STOP_GONE)
		return;
	for (unsigned seat = 1; seat <= nseats; seat++)
		if (atomic_load(&seat_at(seat)->state) != SEAT_LIVE)
			return;
	add_seat(++nseats);
}

void sh_fleet_look(void)
{
	look_at_renewals();
	for (unsigned seat = 0; seat <= nseats; seat++)
		find_pid(seat);
	look_at_want();
	for (unsigned seat = 1; seat <= nseats; seat++) {
		struct place *p = &place[seat];
		unsigned ms;

		if (p->cloning || p->due || atomic_load(&seat_at(seat)->state) != SEAT_VACANT)
			continue;
		ms = atomic_load(&seat_at(seat)->left) ? 0 : restart_delay(p);
		if (ms > DELAY_MS && !somebody_works())
			ms = DELAY_MS; /* whatever is wrong with it: tasks wait, and there is nobody else */
		if (ms) {
			sh_log("worker %u starts again in %u ms", seat, ms);
			clone_later(seat, ms);
		} else {
			clone_into(seat);
		}
	}
}

/* Who was in the middle of something when our predecessor died has finished it: the zygote has answered us. */
void sh_fleet_adopt(unsigned workers)
{
	adopted = true;
	nseats = workers;
	for (unsigned seat = workers + 1; seat < WORKERS_MAX; seat++) /* cloned when all were in system calls */
		if (atomic_load(&seat_at(seat)->state) != SEAT_EMPTY)
			nseats = seat;
	no_delay = getenv("SHOAL_DEBUG") && strstr(getenv("SHOAL_DEBUG"), "nodelay");
	for (unsigned seat = 0; seat <= nseats; seat++) {
		uint32_t state = atomic_load(&seat_at(seat)->state);

		uv_timer_init(sh_loop, &place[seat].timer);
		place[seat].timer.data = &place[seat];
		if (seat == SH_SEAT_MEDIC && (sh_seat_dead(seat) || state == SEAT_EMPTY))
			clone_into(seat);
		else if (state == SEAT_EMPTY)
			clone_into(seat);
		else if (state == SEAT_STARTING && sh_seat_unask(seat))
			mark_dead(seat); /* asked for, and has not come: should it be on its way, it is too late now */
	}
	sh_fleet_zygote(atomic_load(&sh_root->zygote));
	if (!watch_stranger(sh_keeper_pid()))
		gone(sh_keeper_pid(), STATUS_UNKNOWN);
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
	if (!watch_stranger(pid))
		gone(pid, STATUS_UNKNOWN);
}

void sh_fleet_start(pid_t zygote_pid, unsigned workers)
{
	zygote = zygote_pid;
	nseats = workers;
	no_delay = getenv("SHOAL_DEBUG") && strstr(getenv("SHOAL_DEBUG"), "nodelay");
	for (unsigned seat = 0; seat <= nseats; seat++)
		add_seat(seat);
}

void sh_fleet_watch(pid_t pid, child_done *done, void *arg)
{
	struct watch *w;
	int status;

	if (forget_stranger(pid, &status)) {
		done(arg, status);
		return;
	}
	if (!watch_stranger(pid)) {
		done(arg, STATUS_UNKNOWN);
		return;
	}
	w = malloc(sizeof *w);
	if (!w)
		abort();
	*w = (struct watch){watches, pid, done, arg};
	watches = w;
}

static bool tell_watch(pid_t pid, int status)
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

static bool tell_seat(pid_t pid, int status)
{
	unsigned seat;

	if (forget_leaving(pid, &seat)) {
		tell_death(seat, pid, status);
		return true;
	}
	for (seat = 0; seat <= nseats; seat++)
		if (place[seat].pid == pid) {
			child_gone(seat, status);
			return true;
		}
	return false;
}

static void zygote_gone(int status)
{
	sh_log("the zygote (pid %d) is gone%s%s", (int)zygote, WIFSIGNALED(status) ? ": " : "",
	       WIFSIGNALED(status) ? sh_signal_name(WTERMSIG(status)) : "");
	zygote = 0;
	zygote_gone_ns = sh_now(); /* its standby tells us when it has taken over */
	if (sh_options.one_shot && !atomic_load(&sh_root->standby))
		end_without_zygote();
}

static void gone(pid_t pid, int status)
{
	if (pid == zygote) {
		zygote_gone(status);
	} else if (pid == sh_keeper_pid()) {
		sh_keeper_forget();
		if (sh_stopping != STOP_GONE) {
			sh_log("the keeper is gone: here is another");
			sh_keeper_begin();
		}
	} else if (!tell_seat(pid, status) && !tell_watch(pid, status) && !adopted) {
		/* Cloned a moment ago: the zygote's answer will tell us who it was. */
		stranger[nstrangers % STRANGERS].pid = pid;
		stranger[nstrangers++ % STRANGERS].status = status;
	}
}

/*
 * Somebody was stopped. What a worker has the medic knows: it decides. Those whom all wait for, and
 * who hold no goroutine, are ended; others take their places.
 */
static void stopped(pid_t pid)
{
	for (unsigned seat = 1; seat <= nseats; seat++)
		if (place[seat].pid == pid) {
			atomic_store(&seat_at(seat)->stopped, 1);
			sh_bell();
			return;
		}
	if (pid != place[SH_SEAT_MEDIC].pid && pid != zygote && pid != atomic_load(&sh_root->standby) &&
	    pid != sh_keeper_pid())
		return;
	sh_log("process %d was stopped: it is ended, another takes its place", (int)pid);
	kill(pid, SIGKILL);
}

void sh_fleet_reap(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG | WUNTRACED)) > 0)
		if (WIFSTOPPED(status))
			stopped(pid);
		else
			gone(pid, status);
}

/* Of those who are no children of ours nobody tells us. */
static void look_for_stopped(void)
{
	const pid_t who[] = {place[SH_SEAT_MEDIC].pid, zygote, atomic_load(&sh_root->standby), sh_keeper_pid()};

	for (size_t i = 0; adopted && i < sizeof who / sizeof *who; i++)
		if (who[i] > 0 && is_stopped(who[i]))
			stopped(who[i]);
}

/* Also those whose pid the zygote had no time to tell. */
static void kill_children(void)
{
	FILE *f = fopen("/proc/thread-self/children", "re");
	int pid;

	if (!f)
		return;
	while (fscanf(f, "%d", &pid) == 1)
		kill(pid, SIGKILL);
	fclose(f);
}

static bool kill_one(pid_t pid)
{
	if (!alive(pid))
		return false;
	kill(pid, SIGKILL);
	return true;
}

/* True: some process of ours, child or not, is still there. */
static bool kill_all(void)
{
	bool some = kill_one(atomic_load(&sh_root->standby));

	some |= kill_one(zygote);
	some |= kill_one(sh_keeper_pid());
	for (unsigned seat = 0; seat < SH_SEATS; seat++)
		some |= kill_one(place[seat].pid);
	for (struct watch *w = watches; w; w = w->next)
		some |= kill_one(w->pid);
	return some;
}

/* Adopted, and cloned while we died: only their seats know them. Who has not sat down yet sees that all is over. */
static void find_pids(void)
{
	for (unsigned seat = 0; seat < SH_SEATS; seat++) {
		pid_t pid = atomic_load(&seat_at(seat)->pid);

		if (adopted && !place[seat].pid && pid > 0 &&
		    (atomic_load(&seat_at(seat)->liveness) & (FUTEX_TID_MASK | FUTEX_OWNER_DIED)) == (uint32_t)pid)
			place[seat].pid = pid;
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
		if (place[seat].pid == pid)
			place[seat].pid = 0;
	for (struct watch *w = watches; w; w = w->next)
		if (w->pid == pid)
			w->pid = 0;
}

void sh_fleet_kill(void)
{
	sh_stopping = STOP_GONE;
	atomic_store(&sh_root->over, 1);
	find_pids();
	kill_all();
	for (unsigned tries = 0; tries < 5000; tries++) {
		pid_t pid = waitpid(-1, NULL, WNOHANG);

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
		nanosleep(&(struct timespec){0, 1000000}, NULL);
	}
	sh_log("children do not end");
}

pid_t sh_fleet_pid(unsigned seat)
{
	return place[seat].pid;
}

unsigned sh_fleet_seats(void)
{
	return nseats;
}
