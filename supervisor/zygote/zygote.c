/*
 * zygote.c - the zygote's loop: clones, loads, and keeps the descriptors of tasks. See zygote.h.
 *
 * Because of CLONE_PARENT the clones are children of the supervisor. Because of CLONE_FILES they share the
 * zygote's descriptors: a number that Z_BEGIN returns is valid in every worker, and Z_END closes it in all of
 * them.
 */
#include "shm/kernel.h"
#include "shm/pass.h"
#include "shm/syscall.h"
#include "supervisor/zygote/zygote.h"
#include "supervisor/keeper/ledger.h"
#include "supervisor/daemon/log.h"
#include "core/process.h"
#include "supervisor/zygote/instance.h"
#include "supervisor/zygote/closure.h"
#include "supervisor/zygote/openings.h"
#include "supervisor/zygote/reserve.h"
#include "supervisor/zygote/zygote_int.h"
#include "core/sched/netpoll.h"
#include "shm/check.h"
#include "shm/heap.h"
#include "shm/lock.h"
#include "shm/offspring.h"
#include "shm/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#ifndef CLONE_FILES
#include <linux/sched.h>
#endif

#define ZYGOTE_SEAT (SH_SEATS - 1) /* seats without a process, so that the zygote and the supervisor can list locks */
#define SUPERVISOR_SEAT (SH_SEATS - 2)
#define TRIAL_SECONDS 10
#define CARETAKER_MS 20			/* between two rounds of the caretaker */
#define TRIALS 16			/* at most so many trials of libraries are polled in one round */
#define CARETAKER_CLONE_NS 100000000ull /* between two clones into one seat */

int sh_medic_fd = -1;

static int sock;
static int *tid_address; /* where glibc keeps this thread's id: raw clone must set it */
static uint64_t load_gen;
static struct instance **instances;
static uint32_t ninstances;
static bool bound;     /* all processes end when the supervisor dies */
static bool caretaker; /* no supervisor lives: the zygote replaces processes that die */
static bool standby_watched;
static unsigned late_ms; /* SHOAL_DEBUG=late=MS: each clone waits so long before it claims its seat */
static uint64_t cloned_ns[SH_SEATS];

static _Noreturn void serve_all(bool took_over);

/*
 * Calls clone without glibc: no atfork handlers run, and the child's parent is the caller's parent. Some
 * architectures take the address for the thread id as the fourth argument, others as the fifth, so it is passed as
 * both.
 */
static pid_t spawn(unsigned long flags)
{
	flags |= 0x00008000 /* CLONE_PARENT */ | 0x01000000 /* CLONE_CHILD_SETTID */ | SIGCHLD;
	return (pid_t)syscall(SYS_clone, flags, 0, 0, tid_address, tid_address);
}

/* A private supervisor (--one-shot) ends its children when it dies. It may have died before the prctl. */
static void die_with_supervisor(int sig)
{
	if (!bound)
		return;
	prctl(PR_SET_PDEATHSIG, sig);
	if (getppid() != atomic_load(&sh_root->supervisor))
		_exit(1);
}

static void fail(struct zrep *rep, int code, const char *what)
{
	rep->code = code;
	snprintf(rep->message, sizeof rep->message, "%s: %s", what, strerror(errno));
}

static uint64_t clone_number[SH_SEATS];
static uint32_t cloned_with[SH_SEATS]; /* the number of the last claim request for each seat that was served */

static pid_t clone_seat(unsigned seat, uint32_t ask)
{
	struct sh_seat *s = &sh_root->seat[seat];
	pid_t pid;

	/* Stored by the zygote: when the clone runs, load_gen may be higher than at the time of the clone. */
	s->load_gen = load_gen;
	cloned_ns[seat] = sh_now();
	cloned_with[seat] = ask;
	clone_number[seat] = sh_reserve_clone();
	pid = spawn(0x00000400 /* CLONE_FILES */);
	if (pid)
		return pid;
	die_with_supervisor(seat == SH_SEAT_MEDIC ? MEDIC_ALONE : SIGKILL);
	if (late_ms)
		kernel_nanosleep(&(struct timespec){late_ms / 1000, late_ms % 1000 * 1000000}, NULL);
	/*
	 * If a zygote died during the request, two processes may be cloned for it. Only one gets the seat; the
	 * other exits.
	 */
	if (atomic_load(&sh_root->over) || !sh_seat_claim(seat, ask))
		_exit(0);
	prctl(PR_SET_NAME, seat == SH_SEAT_MEDIC ? "shoal-medic" : "shoal-worker");
	if (seat == SH_SEAT_MEDIC) {
		/*
		 * The kernel divides CPU time among sessions, so a medic in its own session does not wait for the
		 * workers.
		 */
		setsid();
		medic_main();
	}
	worker_main(seat); /* the worker keeps the zygote's scheduling priority until it has started */
}

static void do_clone(const struct zreq *req, struct zrep *rep)
{
	sh_check(req->seat < SH_SEATS);
	rep->pid = clone_seat(req->seat, req->ask);
	if (rep->pid < 0)
		fail(rep, 125, "clone");
}

/* ---- the standby ---- */

static void nap_on(_Atomic uint32_t *word, uint32_t value, long ms)
{
	struct timespec t = {ms / 1000, ms % 1000 * 1000000};

	syscall(SYS_futex, word, FUTEX_WAIT, value, &t, NULL, 0);
}

/* Sleeps until the zygote is dead, then takes over. A standby that was cloned before the last load exits instead. */
static _Noreturn void stand_by(uint64_t gen, uint32_t word)
{
	uint32_t dead;

	die_with_supervisor(SIGKILL);
	prctl(PR_SET_NAME, "shoal-standby");
	while (atomic_load(&sh_root->zygote_word) == word)
		nap_on(&sh_root->zygote_word, word, 1000);
	dead = atomic_load(&sh_root->zygote_word);
	if (gen < atomic_load(&sh_root->load_gen) || atomic_load(&sh_root->over) || !(dead & FUTEX_OWNER_DIED) ||
	    !sh_robust_take(&sh_root->zygote_word,
			    /*
			     * Takes the word over directly, so that at each moment the word has an owner whose
			     * death the next standby sees.
			     */
			    dead)) {
		/* passes the wake-up on to another standby */
		syscall(SYS_futex, &sh_root->zygote_word, FUTEX_WAKE, 1, NULL, NULL, 0);
		_exit(0);
	}
	sh_log("the zygote died: its standby takes over");
	load_gen = atomic_load(&sh_root->load_gen);
	sh_heap_repair(sh_root->arena, ZYGOTE_SEAT, ZYGOTE_SEAT); /* the zygote may have died inside malloc */
	serve_all(true);
}

/*
 * Opens a pidfd under a fixed number. The number is never free in between, because other processes take free
 * numbers.
 */
static bool watch(pid_t pid, int number)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);

	if (fd < 0)
		return false;
	kernel_dup3(fd, number, O_CLOEXEC);
	kernel_close(fd);
	return true;
}

/* Clones a new standby before it kills the old one, so at each moment one standby has everything that was loaded. */
static void renew_standby(uint64_t gen)
{
	pid_t old = atomic_load(&sh_root->standby), pid;
	uint32_t word = atomic_load(&sh_root->zygote_word);

	kernel_madvise(sh_ledger, sizeof *sh_ledger, MADV_DOFORK);
	pid = spawn(0x00000400 /* CLONE_FILES */);
	if (pid == 0)
		stand_by(gen, word);
	kernel_madvise(sh_ledger, sizeof *sh_ledger, MADV_DONTFORK);
	if (pid < 0)
		sh_log("cannot clone a standby for the zygote: %s", strerror(errno));
	standby_watched = pid > 0 && watch(pid, ZFD_STANDBY);
	atomic_store(&sh_root->standby, pid > 0 ? pid : 0);
	atomic_store(&sh_root->load_gen, gen); /* from here on the old standby would exit instead of taking over */
	if (old > 0)
		kernel_kill(old, SIGKILL);
}

/* ---- requests ---- */

static int trial_out;

/*
 * Called when a constructor calls the runtime. In a task this works, because there constructors run on a
 * goroutine. A trial has no goroutine, so it ends here with success.
 */
static void end_trial_at_call(const char *what)
{
	struct ztrial t = {.code = 0};

	(void)what;
	_exit(kernel_write(trial_out, &t, sizeof t) == sizeof t ? 0 : 1);
}

/*
 * Finds the module's libraries, loads all of them and runs the constructors. A module that is damaged, crashes or
 * hangs does so in this process.
 */
static _Noreturn void trial(const struct zreq *req, const int *fds)
{
	struct load l = {.module = fds[0],
			 .libraries = fds[2],
			 .name = req->name,
			 .entry = req->entry[0] ? req->entry : NULL,
			 .trial = true};
	struct ztrial t = {0};
	struct instance *in = NULL;

	die_with_supervisor(SIGKILL);
	signal(SIGALRM, SIG_DFL);
	alarm(TRIAL_SECONDS); /* the supervisor has a time limit too, but it may die */
	trial_out = fds[1];
	sh_outside_hook = end_trial_at_call;
	t.code = sh_closure_find(l.libraries, l.module, l.name, t.message, sizeof t.message);
	if (!t.code)
		in = sh_instance_load(&l, &t.code, t.message, sizeof t.message);
	if (in)
		sh_instance_construct(in);
	_exit(kernel_write(trial_out, &t, sizeof t) == sizeof t ? 0 : 1);
}

static void do_trial(const struct zreq *req, struct zrep *rep, const int *fds)
{
	rep->pid = spawn(0);
	if (rep->pid == 0)
		trial(req, fds);
	if (rep->pid < 0)
		fail(rep, 125, "clone");
}

static void record_instance(const struct zreq *req, struct instance *in)
{
	struct ledger_instance *l = &sh_ledger->instance[req->instance];
	struct objects *objects = sh_instance_objects(in);

	l->base = objects->object[0].base;
	l->text_start = objects->object[0].text;
	l->text_end = objects->object[0].text_end;
	l->load_gen = load_gen;
	sh_ledger_objects_put(req->instance, objects);
	for (unsigned i = 0; i < 3; i++)
		atomic_store(&l->fd[i], -1);
	atomic_store(&l->begun, 0);
	atomic_store(&l->state, INSTANCE_LOADED);
}

/* Releases the addresses of unloaded objects that no process maps any more. */
static void release_addresses(void)
{
	uint64_t oldest = UINT64_MAX;

	for (unsigned seat = 0; seat < SH_SEATS; seat++) {
		uint32_t state = atomic_load(&sh_root->seat[seat].state);

		if (state != SEAT_EMPTY && state != SEAT_VACANT && clone_number[seat] < oldest)
			oldest = clone_number[seat];
	}
	sh_reserve_release(oldest);
}

static struct instance **instance_slot(uint32_t number)
{
	sh_check(number < LEDGER_INSTANCES);
	if (number >= ninstances) {
		uint32_t n = number + 64;

		instances = realloc(instances, n * sizeof *instances);
		sh_check(instances);
		memset(instances + ninstances, 0, (n - ninstances) * sizeof *instances);
		ninstances = n;
	}
	return &instances[number];
}

struct instance *sh_zygote_instance(uint32_t number)
{
	return number < ninstances ? instances[number] : NULL;
}

pid_t sh_zygote_fork(void)
{
	return (pid_t)syscall(SYS_clone, 0x01000000 /* CLONE_CHILD_SETTID */ | SIGCHLD, 0, 0, tid_address, tid_address);
}

uint64_t sh_zygote_loaded(void)
{
	renew_standby(++load_gen);
	return load_gen;
}

void sh_zygote_publish(uint32_t number)
{
	sh_objects_set(number, sh_instance_objects(instances[number]));
	sh_ledger_objects_put(number, sh_instance_objects(instances[number]));
}

static void unload(uint32_t number)
{
	struct instance **place = instance_slot(number);

	if (*place)
		sh_instance_unload(*place);
	*place = NULL;
	sh_objects_set(number, NULL);
	sh_ledger_objects_put(number, NULL);
	atomic_store(&sh_ledger->instance[number].state, INSTANCE_NONE);
}

static void do_unload(const struct zreq *req)
{
	unload(req->instance);
}

static void do_load(const struct zreq *req, struct zrep *rep, const int *fds)
{
	struct load l = {.module = fds[0], .libraries = fds[1], .name = req->name, .number = req->load};
	struct instance **place = instance_slot(req->instance), *in = *place;
	int code = 0, open[STRAYS];
	unsigned nopen = sh_strays(open, STRAYS);

	release_addresses();
	if (in && sh_instance_number(in) != req->load) {
		unload(req->instance); /* the zygote that did the unload has died, and this standby has not seen it */
		in = NULL;
	}
	if (!in) /* if it is there, this standby has inherited the load and the supervisor sent it again */
		in = sh_instance_load(&l, &code, rep->message, sizeof rep->message);
	sh_strays_keep(open, nopen);
	rep->code = code;
	if (!in)
		return;
	*place = in;
	sh_objects_set(req->instance, sh_instance_objects(in));
	renew_standby(++load_gen);
	record_instance(req, in);
	rep->load_gen = load_gen;
}

static struct instance *instance_of(const struct zreq *req)
{
	sh_check(req->instance < ninstances && instances[req->instance]);
	return instances[req->instance];
}

static void close_own(struct ledger_instance *l)
{
	for (int i = 0; i < 3; i++) {
		int fd = atomic_exchange(&l->fd[i], -1);

		if (fd >= ZFD_FIRST_FREE) {
			atomic_store(&poll_owner[fd], 0);
			kernel_close(fd);
		}
	}
}

/* Keeps the descriptors open under the numbers that they have. Returns 1 if it keeps them. */
static int do_begin(const struct zreq *req, struct zrep *rep, const int *fds)
{
	struct instance *in = instance_of(req);
	struct ledger_instance *l = &sh_ledger->instance[req->instance];

	rep->entry = sh_instance_entry(in, req->entry);
	if (!rep->entry) {
		rep->code = 127;
		snprintf(rep->message, sizeof rep->message, "%s has no function '%s'", req->name, req->entry);
		return 0;
	}
	for (int i = 0; i < 3; i++)
		if ((unsigned)fds[i] >= sh_fd_ceiling()) {
			errno = EMFILE;
			fail(rep, 125, "descriptors");
			return 0;
		}
	close_own(l);
	atomic_store(&l->begun, 1);
	for (int i = 0; i < 3; i++) {
		atomic_store(&l->fd[i], rep->fd[i] = fds[i]);
		atomic_store(&poll_owner[fds[i]], POLL_RUNTIME);
	}
	return 1;
}

static void do_end(const struct zreq *req, struct zrep *rep)
{
	struct ledger_instance *l;

	sh_check(req->instance < LEDGER_INSTANCES);
	l = &sh_ledger->instance[req->instance];
	close_own(l);
	if (atomic_load(&l->state) == INSTANCE_LOADED && atomic_load(&l->begun)) {
		sh_instance_reset(instance_of(req));
		rep->count = sh_instance_is_full(instance_of(req));
	}
	atomic_store(&l->begun, 0);
}

static void do_sweep(const struct zreq *req, struct zrep *rep)
{
	if (req->instance != SWEEP_ALL) {
		rep->count = sh_strays_step(req->instance);
		return;
	}
	for (unsigned seat = 1; seat < SH_SEATS; seat++)
		if (atomic_load(&sh_root->seat[seat].state) == SEAT_STARTING) { /* it is opening its own descriptors */
			rep->code = 1;
			return;
		}
	sh_strays_step(SWEEP_CANCEL);
	rep->count = sh_strays_close();
}

static void do_hello(const struct zreq *req, struct zrep *rep)
{
	if (req->pid)
		caretaker = !watch(req->pid, ZFD_WATCH);
	rep->pid = getpid();
}

static void serve(const struct zreq *req, struct zrep *rep, int *fds, int nfds)
{
	static const int wanted[] = {[Z_CLONE] = 0, [Z_TRIAL] = 3, [Z_LOAD] = 2,  [Z_UNLOAD] = 0, [Z_BEGIN] = 3,
				     [Z_END] = 0,   [Z_WAKE] = 0,  [Z_SWEEP] = 0, [Z_HELLO] = 0,  [Z_LOG] = 1};
	int keep = 0;

	rep->serial = req->serial;
	sh_check(req->op >= Z_CLONE && req->op <= Z_LOG);
	if (nfds != wanted[req->op]) {
		errno = EMFILE; /* the kernel drops descriptors for which no number is free */
		fail(rep, 125, "descriptors");
		goto out;
	}
	switch (req->op) {
	case Z_CLONE: do_clone(req, rep); break;
	case Z_TRIAL: do_trial(req, rep, fds); break;
	case Z_LOAD: do_load(req, rep, fds); break;
	case Z_UNLOAD: do_unload(req); break;
	case Z_BEGIN: keep = do_begin(req, rep, fds); break;
	case Z_END: do_end(req, rep); break;
	case Z_WAKE:
		sh_check(req->seat < SH_SEATS);
		sh_seat_wake(req->seat);
		break;
	case Z_SWEEP: do_sweep(req, rep); break;
	case Z_HELLO: do_hello(req, rep); break;
	case Z_LOG:
		kernel_dup2(fds[0], 1);
		kernel_dup2(fds[0], 2);
		break;
	}
out:
	for (int i = 0; i < nfds && !keep; i++)
		kernel_close(fds[i]);
}

/*
 * Receives one request and its descriptors. Returns their number, or -1 if supervisor and keeper have closed the
 * socket.
 */
static int receive(struct zreq *req, int fds[3])
{
	int nfds;
	ssize_t n = sh_pass_receive(sock, req, sizeof *req, fds, 3, &nfds, 0);

	if (n <= 0)
		return -1;
	sh_check(n == sizeof *req);
	return nfds;
}

/*
 * The first loop of a process makes a pipe for all its loops. When the zygote makes it, all workers share it;
 * otherwise each worker would leave behind two descriptors that its seat does not list.
 */
static void share_loop_pipe(void)
{
	uv_loop_t loop;

	sh_check(uv_loop_init(&loop) == 0 && uv_loop_close(&loop) == 0);
}

/*
 * Closes all descriptors that the zygote does not need. The others get fixed numbers: 0 /dev/null, 1 and 2 the
 * log, 3 the eventfd to the supervisor, 4 the socket, 5 and 6 pidfds, 7 the eventfd of goroutines that want to
 * open a library.
 */
static void keep_descriptors(void)
{
	int medic = kernel_fcntl(sh_medic_fd, F_DUPFD_CLOEXEC, 64), s = kernel_fcntl(sock, F_DUPFD_CLOEXEC, 64);
	int null = kernel_open("/dev/null", O_RDWR | O_CLOEXEC, 0);
	sh_check(medic >= 0 && s >= 0 && null >= 0);
	kernel_dup2(null, 0);
	kernel_dup2(2, 1);
	sh_check(kernel_dup3(medic, ZFD_MEDIC, O_CLOEXEC) >= 0 && kernel_dup3(s, ZFD_SUPERVISOR, O_CLOEXEC) >= 0);
	kernel_dup3(0, ZFD_WATCH, O_CLOEXEC);
	kernel_dup3(0, ZFD_STANDBY, O_CLOEXEC);
	kernel_close_range(ZFD_LIBRARY, ~0u, 0);
	sh_openings_init();
	sh_medic_fd = ZFD_MEDIC;
	sock = ZFD_SUPERVISOR;
	caretaker = !watch(atomic_load(&sh_root->supervisor), ZFD_WATCH);
	sh_root->poll_fd = kernel_epoll_create1(EPOLL_CLOEXEC);
	sh_root->closed_fd = kernel_open("/", O_PATH | O_CLOEXEC, 0);
	sh_check(sh_root->poll_fd >= 0 && sh_root->closed_fd >= 0);
	share_loop_pipe();
	for (int fd = 0; fd < 64; fd++)
		if (kernel_fcntl(fd, F_GETFD, 0) >= 0)
			atomic_store(&poll_owner[fd], POLL_RUNTIME);
}

/* ---- while there is no supervisor ---- */

bool sh_process_gone(int pid)
{
	struct pollfd p = {(int)syscall(SYS_pidfd_open, pid, 0), POLLIN, 0};
	bool gone = p.fd < 0 ? errno == ESRCH : kernel_poll(&p, 1, 0) > 0;

	if (p.fd >= 0)
		kernel_close(p.fd);
	return gone;
}

/* True if the process that is to claim the seat has died, or if the request to clone it will never be served. */
static bool clone_is_lost(unsigned seat)
{
	pid_t pid = sh_seat_claimed(&sh_root->seat[seat]);

	/* Check the process first: once it is dead, the liveness word shows whether the process ever held it. */
	return pid ? sh_process_gone(pid) && !atomic_load(&sh_root->seat[seat].liveness) : sh_seat_unreserve(seat);
}

/* As mark_dead of the supervisor: the kernel does not mark a process that damaged its robust list or its mapping. */
static void mark_if_gone(unsigned seat)
{
	struct sh_seat *s = &sh_root->seat[seat];
	int32_t pid = sh_seat_claimed(s);

	if (atomic_load(&s->state) != SEAT_LIVE || sh_seat_dead(seat) || pid <= 0 || !sh_process_gone(pid))
		return;
	atomic_fetch_or(&s->liveness, FUTEX_OWNER_DIED);
	sh_bell();
}

/* Clones a successor for each process that has died, at most ten times a second for each seat. */
static void replace_dead_processes(void)
{
	for (unsigned seat = 0; seat <= sh_ledger->workers && seat < SH_SEATS; seat++) {
		uint32_t state;

		mark_if_gone(seat);
		state = atomic_load(&sh_root->seat[seat].state);
		if (sh_now() - cloned_ns[seat] < CARETAKER_CLONE_NS)
			continue;
		if (state == SEAT_VACANT || (state == SEAT_STARTING && clone_is_lost(seat)) ||
		    (seat == SH_SEAT_MEDIC && (state == SEAT_LIVE || state == SEAT_STARTING) && sh_seat_dead(seat)))
			clone_seat(seat, sh_seat_reserve(seat));
	}
}

/* True if there is no medic until the zygote clones one: it is dead, or the request for one has not been served yet. */
static bool no_medic(void)
{
	struct sh_seat *s = &sh_root->seat[SH_SEAT_MEDIC];
	uint64_t claim = atomic_load(&s->claim);

	return sh_seat_dead(SH_SEAT_MEDIC) || (atomic_load(&s->state) == SEAT_STARTING && !(uint32_t)claim &&
					       (uint32_t)(claim >> 32) != cloned_with[SH_SEAT_MEDIC]);
}

/*
 * Supervisor and keeper have died, so no request will ever come. The medic ends all processes; the zygote does not
 * do it itself, because its parent has died and the kernel may be about to kill it.
 */
static _Noreturn void end_all(void)
{
	int32_t medic = atomic_load(&sh_root->seat[SH_SEAT_MEDIC].pid);

	atomic_store(&sh_root->over, 1);
	if (no_medic() || medic <= 0 || kernel_kill(medic, MEDIC_ALONE) < 0)
		sh_offspring_end_runtime();
	_exit(0);
}

/*
 * Waits for a request. Meanwhile it serves requests for libraries, and replaces dead processes if there is no
 * supervisor.
 */
static void await_request(void)
{
	for (;;) {
		struct pollfd p[4 + TRIALS] = {{sock, POLLIN, 0},
					       {caretaker ? -1 : ZFD_WATCH, POLLIN, 0},
					       {standby_watched ? ZFD_STANDBY : -1, POLLIN, 0},
					       {ZFD_LIBRARY, POLLIN, 0}};
		unsigned n = sh_openings_poll(p + 4, TRIALS);

		if (kernel_poll(p, 4 + n, caretaker ? CARETAKER_MS : -1) < 0)
			continue;
		if (p[2].revents && !atomic_load(&sh_root->over))
			renew_standby(load_gen);
		if (p[3].revents)
			sh_openings_start_asked();
		for (unsigned i = 0; i < n; i++)
			if (p[4 + i].revents)
				sh_openings_trial_ended(p[4 + i].fd);
		if (p[0].revents)
			return;
		if (p[1].revents) {
			caretaker = true;
			/* the supervisor may have died while it read the heap's counters */
			sh_heap_repair(sh_root->arena, SUPERVISOR_SEAT, ZYGOTE_SEAT);
			sh_log("the supervisor died: tasks continue and wait for the next supervisor");
		}
		if (caretaker)
			replace_dead_processes();
	}
}

/*
 * Called while the zygote waits for a lock of the heap. If the owner is dead and there is no medic, nobody else
 * would free the lock. The zygote repairs the heap here, because no medic can do it at the same time.
 */
static void repair_lock_owner(struct sh_lock *l, unsigned waiter)
{
	int owner = (int)atomic_load(&l->owner) - 1;

	if (waiter != ZYGOTE_SEAT || l->kind != SH_LOCK_HEAP || owner < 0 || owner >= SH_SEATS || !no_medic())
		return;
	if (owner == SH_SEAT_MEDIC || sh_seat_dead((unsigned)owner))
		sh_heap_repair(sh_root->arena, (unsigned)owner, ZYGOTE_SEAT);
}

/* The main loop of the zygote, both of the first one and of a standby that took over. */
static _Noreturn void serve_all(bool took_over)
{
	struct zreq req;
	struct zrep rep = {.pid = getpid()};
	int fds[3], nfds;

	prctl(PR_SET_NAME, "shoal-zygote");
	/* the value is from the time of the clone; ZFD_WATCH shows a death of the supervisor since */
	caretaker &= !took_over;
	sh_lock_wait_hook = repair_lock_owner;
	sh_prompt(0, true);
	if (!took_over)
		sh_robust_hold(&sh_root->zygote_word);
	atomic_store(&sh_root->zygote, getpid());
	if (took_over)
		kernel_send(sock, &rep, sizeof rep, MSG_NOSIGNAL | MSG_DONTWAIT);
	atomic_store(&sh_root->standby, 0);
	renew_standby(load_gen);
	if (took_over)
		sh_openings_restart();
	for (;;) {
		await_request();
		nfds = receive(&req, fds);
		if (nfds < 0)
			end_all();
		memset(&rep, 0, sizeof rep);
		serve(&req, &rep, fds, nfds);
		while (kernel_send(sock, &rep, sizeof rep, MSG_NOSIGNAL) < 0)
			if (errno != EINTR)
				end_all();
	}
}

_Noreturn void sh_zygote_main(int s, bool bound_to_supervisor)
{
	struct rlimit core;

	sock = s;
	late_ms = (unsigned)sh_debug_number("late=", 0);
	bound = bound_to_supervisor;
	die_with_supervisor(SIGKILL);
	setsid(); /* so Ctrl-C on the supervisor's terminal does not reach the zygote */
	signal(SIGPIPE, SIG_IGN);
	if (getrlimit(RLIMIT_CORE, &core) == 0) {
		core.rlim_cur = 0; /* writing a core dump takes 0.6 s, so it is off unless asked for */
		kernel_setrlimit(RLIMIT_CORE, &core);
	}
	sh_check(prctl(PR_GET_TID_ADDRESS, &tid_address) == 0 && tid_address);
	keep_descriptors();
	sh_preload();
	output_start();
	kernel_madvise(sh_ledger, sizeof *sh_ledger, MADV_DONTFORK); /* workers do not need the ledger */
	serve_all(false);
}
