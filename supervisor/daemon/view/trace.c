/*
 * trace.c - records what all workers do for some seconds, in the JSON format of Chrome and Perfetto.
 *
 * While sched.tracing is set every change of status leaves an event with the time it happened
 * (core/g/life.h). A child of the supervisor empties the rings as they fill and writes JSON: a track for each
 * worker, a slice for each run of a goroutine and each system call, an arrow from the waker to the run.
 * The rings are emptied one after the other, and either end of an arrow may lie before the start of the
 * recording, so an arrow is written when both ends are known. If a poller or a timer wakes a goroutine
 * between two runs, the arrow begins in a short slice of its own.
 * The child only reads the segment, so it needs no seat. Events that were overwritten before the child read
 * them are counted as lost.
 *
 * OWNER  sched.tracing is written by the supervisor only
 */
#include "shm/kernel.h"
#include "supervisor/daemon/view/trace.h"
#include "supervisor/daemon/control.h"
#include "supervisor/daemon/failure.h"
#include "supervisor/daemon/fleet.h"
#include "supervisor/daemon/log.h"
#include "supervisor/daemon/task/output.h"
#include "supervisor/daemon/view/ps.h"
#include "core/g/g.h"
#include "core/g/life.h"
#include "core/g/names.h"
#include "core/root.h"
#include "core/sched/m.h"
#include "shm/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define AT_ONCE 8192u
#define ROUND_NS 500000
#define BYTES_MAX (1l << 30) /* a trace ends early at this size */

struct trace {
	struct trace *next;
	struct asker *asker;
	int64_t ns;
	int file;
	pid_t pid; /* of the child that records */
};

/*
 * A goroutine that ran when its worker died, or was taken from it: the medic wrote the event. The ring of the medic
 * may be read before the one that holds the start of the run, so the slice is ended one round later at the latest.
 */
struct fall {
	uint64_t gid;
	int64_t ns;
	uint64_t round;
	const char *to, *why;
};

struct track {				   /* state of one worker's track */
	int64_t runs_since, syscall_since; /* 0: nothing */
	uint64_t gid;
	bool named;
};

/* The latest start and end of an arrow that is not written yet, for the G with that index. */
struct end {
	uint64_t gid;
	int64_t ns;  /* 0: none */
	int64_t run; /* for a start: time at which the waker's run began; 0: the waker was no goroutine */
	uint16_t order;
	uint8_t seat;
};
struct ends {
	struct end start, arrival;
};

#define FALLS 256

static unsigned active_tracks;

/* ---- the child ---- */

static FILE *out;
static struct track track[SH_SEATS];
static int64_t began;
static uint64_t events, lost_events;

static double us(int64_t ns)
{
	return (double)(ns - began) / 1000.0;
}

static void begin_event(const char *ph, unsigned tid, int64_t ns)
{
	fprintf(out, ",\n{\"ph\":\"%s\",\"pid\":1,\"tid\":%u,\"ts\":%.3f", ph, tid, us(ns));
	events++;
}

/* Writes name and task of the goroutine, if it still exists. */
static void put_name(uint64_t gid)
{
	uint64_t i = gid & (GID_STEP - 1);
	struct g *g = i && i < G_MAX && i < atomic_load(&sched.ngs) ? allg(i) : NULL;
	char name[32] = "";
	uint64_t task = 0;

	if (g && ((g->gid ^ gid) & ((1ull << 40) - 1)) == 0 && g_state(g) != G_DEAD) {
		sh_view_name(name, g->name);
		task = sh_view_task_of(g);
	}
	fprintf(out, ",\"name\":\"G%lu%s%s\",\"args\":{\"gid\":%lu", (unsigned long)gid, name[0] ? " " : "", name,
		(unsigned long)gid);
	if (task)
		fprintf(out, ",\"task\":%lu", (unsigned long)task);
}

static bool in_worker(unsigned seat)
{
	return seat && seat < WORKERS_MAX;
}

static void name_track(unsigned seat)
{
	if (track[seat].named)
		return;
	track[seat].named = true;
	fprintf(out, ",\n{\"ph\":\"M\",\"pid\":1,\"tid\":%u,\"name\":\"thread_name\",\"args\":{\"name\":\"%s %u\"}}",
		seat, in_worker(seat) ? "worker" : "medic", seat);
}

static void end_run(unsigned seat, int64_t ns, const char *to, const char *why)
{
	struct track *t = &track[seat];

	if (!t->runs_since)
		return;
	begin_event("X", seat, t->runs_since);
	fprintf(out, ",\"dur\":%.3f", (double)(ns - t->runs_since) / 1000.0);
	put_name(t->gid);
	fprintf(out, ",\"then\":\"%s\",\"why\":\"%s\"}}", to, why);
	t->runs_since = 0;
}

static void end_syscall(unsigned seat, int64_t ns)
{
	struct track *t = &track[seat];

	if (!t->syscall_since)
		return;
	begin_event("X", seat, t->syscall_since);
	fprintf(out, ",\"dur\":%.3f,\"name\":\"syscall\",\"args\":{\"gid\":%lu}}",
		(double)(ns - t->syscall_since) / 1000.0, (unsigned long)t->gid);
	t->syscall_since = 0;
}

/* ---- runs that another process ended ---- */

static struct fall fall[FALLS];
static unsigned nfalls;
static uint64_t rounds;

/* Ends the run of the goroutine, on whichever track it is. False: no track has its start yet. */
static bool end_fallen(const struct fall *l)
{
	for (unsigned seat = 1; seat < SH_SEATS; seat++) {
		struct track *t = &track[seat];

		if (!t->runs_since || t->gid != l->gid || t->runs_since > l->ns)
			continue;
		end_syscall(seat, l->ns);
		begin_event("i", seat, l->ns);
		fprintf(out, ",\"s\":\"t\",\"name\":\"%s\",\"args\":{\"gid\":%lu}}", l->why, (unsigned long)l->gid);
		end_run(seat, l->ns, l->to, l->why);
		return true;
	}
	return false;
}

static void end_falls(void)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < nfalls; i++)
		if (!end_fallen(&fall[i]) && fall[i].round == rounds)
			fall[kept++] = fall[i];
	nfalls = kept;
	rounds++;
}

/* The track begins a new run although the last one has no end: perhaps its goroutine has fallen. */
static void end_before(unsigned seat, int64_t ns)
{
	for (unsigned i = 0; i < nfalls && track[seat].runs_since; i++)
		if (fall[i].gid == track[seat].gid && fall[i].ns <= ns)
			end_fallen(&fall[i]);
	end_syscall(seat, ns);
	end_run(seat, ns, "?", "");
}

static void add_fall(const struct life *l)
{
	static const char *const how[] = {"done", "crashed", "lost", "cancelled"};
	bool ends_task = l->to == G_WAITING && (l->why == WAIT_CRASHED || l->why == WAIT_LOST);
	bool dead = l->to == G_DEAD || ends_task;

	if (nfalls < FALLS)
		fall[nfalls++] = (struct fall){l->gid, l->ns, rounds, dead ? "dead" : g_status_name(l->to),
					       ends_task	 ? waitreason_name[l->why]
					       : l->to == G_DEAD ? how[l->why & 3]
								 : "taken over by the medic"};
}

static struct ends *ends; /* by index of the G; sparse: untouched pages use no memory */
static uint64_t arrows;

static void put_end(const struct end *e, const char *ph, int64_t ns)
{
	begin_event(ph, e->seat, ns);
	fprintf(out, ",\"cat\":\"wake\",\"name\":\"wake\",\"id\":%lu%s}", (unsigned long)arrows,
		ph[0] == 'f' ? ",\"bp\":\"e\"" : "");
}

/* Writes an arrow if both ends belong to the same transition of the goroutine. */
static void arrow(struct ends *e)
{
	struct end *from = &e->start, *to = &e->arrival;
	int64_t ns = from->ns < to->ns ? from->ns
				       /*
			 * the waker reads the clock after the wake, sometimes after the goroutine has started to
			 * run
			 */
				       : to->ns;

	if (!from->ns || !to->ns || from->gid != to->gid || from->order != to->order)
		return;
	if (ns >= from->run) { /* otherwise the arrow would begin outside of any slice */
		arrows++;
		if (!from->run) {
			begin_event("X", from->seat, ns);
			fprintf(out, ",\"dur\":0.010,\"name\":\"poll\",\"args\":{\"gid\":%lu}}",
				(unsigned long)from->gid);
		}
		put_end(from, "s", ns);
		put_end(to, "f", to->ns);
	}
	from->ns = to->ns = 0;
}

static void record_end(const struct life *l, bool start, unsigned order)
{
	struct ends *e = &ends[l->gid & (GID_STEP - 1)];

	if ((l->gid & (GID_STEP - 1)) >= G_MAX)
		return;
	*(start ? &e->start : &e->arrival) = (struct end){l->gid, l->ns, start ? track[l->worker].runs_since : 0,
							  (uint16_t)(order % LIFE_ORDERS), (uint8_t)l->worker};
	arrow(e);
}

static void add_event(const struct life *l)
{
	unsigned seat = (unsigned)l->worker;
	struct track *t = &track[seat];

	name_track(seat);
	if ((l->from == G_RUNNING || l->from == G_SYSCALL) && (!t->runs_since || t->gid != l->gid) &&
	    !in_worker(seat)) {
		add_fall(l);
		return;
	}
	if (l->from == G_SYSCALL)
		end_syscall(seat, l->ns);
	if (l->to == G_RUNNABLE && (l->from == G_WAITING || l->from == G_DEAD))
		record_end(l, true, (unsigned)l->order + (l->from == G_DEAD ? 2 : 1));
	if (l->to == G_RUNNING && l->from == G_RUNNABLE) {
		record_end(l, false, (unsigned)l->order);
		end_before(seat, l->ns);
		t->runs_since = l->ns;
		t->gid = l->gid;
	} else if (l->to == G_SYSCALL) {
		t->syscall_since = l->ns;
	} else if ((l->from == G_RUNNING || l->from == G_SYSCALL) && l->to != G_RUNNING && l->to != G_COPYSTACK) {
		end_run(seat, l->ns, g_status_name(l->to),
			l->why < WAIT_REASONS && l->to != G_DEAD ? waitreason_name[l->why] : "");
	}
}

static void begin_tracks(uint64_t *at)
{
	for (unsigned seat = 0; seat < SH_SEATS; seat++) {
		struct g *g = seat && seat < WORKERS_MAX ? atomic_load(&allm(seat)->curg) : NULL;
		uint64_t i = ((uintptr_t)g - (uintptr_t)allg(0)) / sizeof *g;

		at[seat] = atomic_load(&life_ring_of(seat)->n);
		if (g && i < G_MAX && atomic_load(&allm(seat)->oncpu)) {
			name_track(seat);
			track[seat].runs_since = began;
			track[seat].gid = allg(i)->gid;
		}
	}
}

static void drain(uint64_t *at)
{
	static struct life_event piece[AT_ONCE];
	int64_t now = (int64_t)sh_now();

	for (unsigned seat = 0; seat < SH_SEATS; seat++) {
		unsigned n;

		while ((n = life_read(seat, &at[seat], piece, AT_ONCE, &lost_events)) > 0)
			for (unsigned i = 0; i < n; i++) {
				struct life l;

				life_decode(&piece[i], seat, now, &l);
				if (l.ns >= began)
					add_event(&l);
			}
	}
	end_falls();
}

static _Noreturn void child(const struct trace *w)
{
	static const int sigs[] = {SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGQUIT};
	static uint64_t at[SH_SEATS];
	int64_t now;

	for (unsigned i = 0; i < sizeof sigs / sizeof *sigs; i++)
		signal(sigs[i], SIG_DFL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, "shoald-trace");
	out = fdopen(kernel_dup(w->file), "w");
	ends = kernel_mmap(NULL, G_MAX * sizeof *ends, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (!out || ends == MAP_FAILED)
		_exit(1);
	setvbuf(out, NULL, _IOFBF, 1 << 20);
	began = (int64_t)sh_now();
	fprintf(out, "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n"
		     "{\"ph\":\"M\",\"pid\":1,\"tid\":0,\"name\":\"process_name\",\"args\":{\"name\":\"shoal\"}}");
	begin_tracks(at);
	do {
		kernel_nanosleep(&(struct timespec){0, ROUND_NS}, NULL);
		drain(at);
		now = (int64_t)sh_now();
	} while (now - began < w->ns && ftell(out) < BYTES_MAX);
	for (unsigned seat = 0; seat < SH_SEATS; seat++) {
		end_syscall(seat, now);
		end_run(seat, now, "running", "");
	}
	fprintf(out, "\n],\"otherData\":{\"version\":1,\"events\":%lu,\"lost\":%lu}}\n", (unsigned long)events,
		(unsigned long)lost_events);
	_exit(fclose(out) == 0 ? 0 : 1);
}

/* ---- the supervisor ---- */

static struct trace *traces; /* traces whose child is running */

static void on_recorder_exit(void *arg, int status)
{
	struct trace *w = arg, **at;
	int fd = status ? -1 : sh_file_reader(w->file);

	for (at = &traces; *at && *at != w; at = &(*at)->next)
		;
	if (*at)
		*at = w->next;
	atomic_store(&sched.tracing, --active_tracks);
	if (fd < 0) {
		sh_answer_error(w->asker, CODE_FAILED, NULL, "cannot write the trace: see the supervisor's log");
	} else {
		sh_answer(w->asker, json_pack("{s:b}", "ok", 1), &fd, 1);
		kernel_close(fd);
	}
	kernel_close(w->file);
	free(w);
}

void sh_trace(struct asker *a, int64_t ns)
{
	struct trace *w = malloc(sizeof *w);
	pid_t pid;

	if (!w)
		abort();
	*w = (struct trace){.asker = a, .ns = ns, .file = kernel_memfd_create("trace", MFD_CLOEXEC)};
	atomic_store(&sched.tracing, ++active_tracks);
	pid = w->file < 0 ? -1 : fork();
	if (pid == 0)
		child(w);
	if (pid < 0) {
		sh_log("cannot start a child to trace: %s", strerror(errno));
		on_recorder_exit(w, 1 << 8);
		return;
	}
	w->pid = pid;
	w->next = traces;
	traces = w;
	sh_fleet_watch(pid, on_recorder_exit, w);
}

void sh_trace_end_abandoned(void)
{
	for (struct trace *w = traces; w; w = w->next)
		if (sh_ask_closed(w->asker))
			kernel_kill(w->pid, SIGKILL); /* on_recorder_exit then frees the trace */
}
