/*
 * fleet.c - the processes: who sits where, who is cloned when, who has died.
 *
 * The medic repairs and says VACANT; then a new process is cloned into the seat: at once if the
 * last one left in good order, else by the restart policy of FAULTS. The medic's own seat has
 * nobody to repair it: it is filled anew as soon as its process is reaped.
 */
#include "supervisor/super.h"

#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define AT_ONCE 3		/* restarts within WITHIN_NS that do not wait */
#define WITHIN_NS 10000000000ull
#define DELAY_MS 100u
#define DELAY_MAX_MS 10000u
#define HEALTHY_NS 30000000000ull
#define STRANGERS 64
#define RENEW_NS 5000000000ull

struct place {
	pid_t pid;	    /* of the process in it; 0 while a clone is under way */
	pid_t before;	    /* of the one before it, until that is reaped */
	bool cloning, due;  /* due: the timer runs, or will */
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

/* restart: who asked is told when each of the seats has a new process that lives. */
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
static bool no_delay; /* SHOAL_DEBUG=nodelay: tests kill more often than anything should die */
static struct watch *watches;
static struct {
	pid_t pid;
	int status;
} stranger[STRANGERS]; /* reaped before we were told their pid */
static unsigned nstrangers;

static void clone_into(unsigned seat);

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

static int forget_stranger(pid_t pid, int *status)
{
	for (unsigned i = 0; i < STRANGERS; i++)
		if (stranger[i].pid == pid) {
			stranger[i].pid = 0;
			*status = stranger[i].status;
			return 1;
		}
	return 0;
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

static void cloned(void *arg, const struct zrep *rep)
{
	unsigned seat = (unsigned)(uintptr_t)arg;
	struct place *p = &place[seat];
	int status;

	p->cloning = false;
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
}

static void clone_into(unsigned seat)
{
	struct zreq req = {.op = Z_CLONE, .seat = seat};

	if (place[seat].cloning || sh_stopping == STOP_GONE)
		return;
	place[seat].cloning = true;
	if (place[seat].pid)
		place[seat].before = place[seat].pid;
	place[seat].pid = 0;
	/*
	 * The mark of the last death goes first: STARTING with it would be a death. The medic waits on
	 * the words of the seats it knows: rung, it learns of this one.
	 */
	atomic_store(&seat_at(seat)->liveness, 0);
	atomic_store(&seat_at(seat)->state, SEAT_STARTING);
	sh_bell();
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
		if (done)
			sh_answer(r->asker, json_pack("{s:b}", "ok", 1), NULL, 0);
		else
			sh_answer_error(r->asker, CODE_FAILED, NULL, "a worker has not come to a point where it may go");
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
		r->wanted[seat] = true;
		r->generation[seat] = seat_at(seat)->generation;
		renew_seat(seat);
	}
	r->next = renewals;
	renewals = r;
}

void sh_fleet_tick(void)
{
	look_at_renewals();
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

void sh_fleet_look(void)
{
	look_at_renewals();
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

void sh_fleet_start(pid_t zygote_pid, unsigned workers)
{
	zygote = zygote_pid;
	nseats = workers;
	no_delay = getenv("SHOAL_DEBUG") && strstr(getenv("SHOAL_DEBUG"), "nodelay");
	for (unsigned seat = 0; seat <= nseats; seat++) {
		uv_timer_init(sh_loop, &place[seat].timer);
		place[seat].timer.data = &place[seat];
		clone_into(seat);
	}
}

void sh_fleet_watch(pid_t pid, child_done *done, void *arg)
{
	struct watch *w;
	int status;

	if (forget_stranger(pid, &status)) {
		done(arg, status);
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
	for (unsigned seat = 0; seat <= nseats; seat++)
		if (place[seat].pid == pid) {
			child_gone(seat, status);
			return true;
		} else if (place[seat].before == pid) {
			tell_death(seat, pid, status);
			place[seat].before = 0;
			return true;
		}
	return false;
}

void sh_fleet_reap(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == zygote) {
			sh_log("the zygote is gone (%s): nobody can clone a worker any more",
				WIFSIGNALED(status) ? sh_signal_name(WTERMSIG(status)) : "it ended");
			zygote = 0;
			sh_fleet_kill();
			sh_setup_remove_socket();
			exit(1);
		}
		if (tell_seat(pid, status) || tell_watch(pid, status))
			continue;
		/* Cloned a moment ago: the zygote's answer will tell us who it was. */
		stranger[nstrangers % STRANGERS].pid = pid;
		stranger[nstrangers++ % STRANGERS].status = status;
	}
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

void sh_fleet_kill(void)
{
	sh_stopping = STOP_GONE;
	if (zygote > 0)
		kill(zygote, SIGKILL);
	for (unsigned seat = 0; seat < SH_SEATS; seat++)
		if (place[seat].pid > 0)
			kill(place[seat].pid, SIGKILL);
	for (struct watch *w = watches; w; w = w->next)
		kill(w->pid, SIGKILL);
	for (unsigned tries = 0; tries < 5000; tries++) {
		pid_t pid = waitpid(-1, NULL, WNOHANG);

		if (pid < 0 && errno == ECHILD)
			return;
		if (pid == 0 && tries % 64 == 8)
			kill_children();
		if (pid == 0)
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
