/*
 * main.c - shoald: options, start, signals, end.
 *
 * Start: makes lock, socket, segment and the medic's eventfd; forks the zygote, while this process has neither a
 * thread nor a loop; then starts the loop, the medic and the workers. If a keeper holds a runtime whose supervisor
 * has died, shoald takes that over instead (adopt.c).
 *
 * End: waits for the tasks, kills and reaps the processes, removes the socket, answers the clients that asked for
 * it.
 */
#include "shm/kernel.h"
#include "supervisor/daemon/main.h"
#include "core/sched/sched.h"
#include "shm/size.h"
#include "supervisor/daemon/adopt.h"
#include "supervisor/daemon/calls.h"
#include "supervisor/daemon/control.h"
#include "supervisor/daemon/fleet.h"
#include "supervisor/daemon/link.h"
#include "supervisor/daemon/log.h"
#include "supervisor/daemon/procs.h"
#include "supervisor/daemon/setup.h"
#include "supervisor/daemon/sweep.h"
#include "supervisor/daemon/task/source.h"
#include "supervisor/daemon/task/output.h"
#include "supervisor/daemon/task/spill.h"
#include "supervisor/daemon/task/tasks.h"
#include "supervisor/daemon/verbs.h"
#include "supervisor/daemon/view/symbol.h"
#include "supervisor/daemon/view/trace.h"
#include "supervisor/daemon/view/views.h"
#include "supervisor/keeper/ledger.h"
#include "supervisor/zygote/zygote.h"
#include "core/process.h"
#include "core/root.h"
#include "core/sched/m.h"
#include "core/sched/proc.h"
#include "shm/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define TICK_MS 1000
#define FILES_MIN 128u
#define STOP_NOW_MS 2000  /* tasks may take this long to end */
#define ONE_SHOT_MS 10000 /* a client must have connected by then */

struct options sh_options = {.ready_fd = -1};
uv_loop_t *sh_loop;
uint64_t sh_start_ns;
int sh_stopping;

static uv_poll_t medic_poll;
static uv_timer_t tick, stop_timer, trace_timer;
static uv_signal_t signal_handlers[5];

/* ---- stopping ---- */

static _Noreturn void end(int code)
{
	sh_stopping = STOP_GONE;
	sh_fleet_kill();
	sh_setup_remove_socket();
	sh_spill_stop();
	sh_verbs_stopped();
	sh_control_stop();
	sh_log("stopped");
	_exit(code);
}

static void on_stop_timer(uv_timer_t *timer)
{
	(void)timer;
	if (sh_jobs_live())
		sh_log("%u tasks did not end in time", sh_jobs_live());
	end(0);
}

/* Ends the process from the loop, so that the caller still returns to its own caller. */
static void end_soon(void)
{
	uv_timer_start(&stop_timer, on_stop_timer, 0, 0);
}

void sh_stop_if_done(void)
{
	if (sh_options.one_shot && sh_control_used && !sh_control_conns() && !sh_stopping)
		sh_stop(sh_jobs_live() == 0);
	else if (sh_stopping && sh_stopping < STOP_GONE && !sh_jobs_live())
		end_soon();
}

void sh_stop(bool now)
{
	if (sh_stopping >= (now ? STOP_NOW : STOP_DRAIN)) {
		sh_stop_if_done();
		return;
	}
	sh_log(now ? "stopping at once" : "stopping when all tasks have ended");
	sh_stopping = now ? STOP_NOW : STOP_DRAIN;
	atomic_store(&sched.draining, 1);
	if (now) {
		uv_timer_start(&stop_timer, on_stop_timer, STOP_NOW_MS, 0);
		sh_jobs_cancel_all();
	}
	sh_stop_if_done();
}

/* ---- events ---- */

void sh_check_segment(void)
{
	sh_fleet_look();
	sh_crashes_log();
	sh_jobs_update();
	sh_verbs_check_audit();
}

static void on_medic(uv_poll_t *handle, int status, int events)
{
	uint64_t n;

	(void)handle;
	(void)status;
	(void)events;
	while (kernel_read(sh_medic_fd, &n, sizeof n) < 0 && errno == EINTR)
		;
	sh_check_segment();
}

/* A process may die before it writes to the eventfd. This tick limits how long such an event stays unseen. */
static void on_tick(uv_timer_t *timer)
{
	(void)timer;
	sh_check_segment();
	sh_fleet_tick();
	sh_sweep_if_due();
	sh_output_tick();
	sh_trace_end_abandoned();
	sh_procs_follow();
	if (sh_options.one_shot && !sh_control_used && sh_now() - sh_start_ns > ONE_SHOT_MS * 1000000ull)
		sh_stop(true);
}

static void on_trace(uv_timer_t *timer)
{
	char line[8192];
	size_t n = sh_view_sched(line, sizeof line - 1);

	(void)timer;
	line[n++] = '\n';
	if (kernel_write(2, line, n) < 0)
		return; /* no process waits for the start */
}

static void ignore_zygote(void *arg, const struct zrep *rep)
{
	(void)arg;
	(void)rep;
}

/* The zygote, the medic and the workers share the zygote's descriptors, so the zygote opens the new file for all. */
static void reload(void)
{
	const struct zreq req = {.op = Z_LOG};
	int log = 2;

	sh_source_forget();
	if (sh_setup_reopen_log())
		sh_link_ask(&req, &log, 1, ignore_zygote, NULL);
}

static void on_signal(uv_signal_t *handle, int sig)
{
	(void)handle;
	switch (sig) {
	case SIGCHLD: sh_fleet_reap(); break;
	case SIGTERM: sh_stop(sh_stopping >= STOP_DRAIN); break;
	case SIGINT: sh_stop(true); break;
	case SIGHUP: reload(); break;
	case SIGQUIT: sh_view_dump(); break;
	default: break;
	}
}

/* ---- start ---- */

static void tell_ready(const char *what)
{
	if (sh_options.ready_fd < 0)
		return;
	dprintf(sh_options.ready_fd, "%s\n", what);
	kernel_close(sh_options.ready_fd);
	sh_options.ready_fd = -1;
}

void sh_fail(int code, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	dprintf(2, "shoald: %s\n", text);
	tell_ready(text);
	exit(code);
}

static void usage(void)
{
	puts("usage: shoald [--procs N] [--spare N] [--memory SIZE] [--output-memory SIZE] [--output-dir DIR]\n"
	     "              [--socket PATH] [--foreground]\n"
	     "Runs tasks made of goroutines on worker processes. Stays in the foreground;\n"
	     "'shoal start' puts it in the background. See shoald(8).");
}

static unsigned number(const char *text, unsigned low, unsigned high, const char *what)
{
	char *rest;
	long n = strtol(text, &rest, 10);

	if (rest == text || *rest || n < (long)low || n > (long)high)
		sh_fail(2, "%s must be a number from %u to %u", what, low, high);
	return (unsigned)n;
}

static void parse(int argc, char **argv)
{
	static const struct option longs[] = {
		{"procs", 1, NULL, 'p'},	 {"spare", 1, NULL, 's'},      {"memory", 1, NULL, 'm'},
		{"output-memory", 1, NULL, 'O'}, {"output-dir", 1, NULL, 'D'}, {"socket", 1, NULL, 'S'},
		{"foreground", 0, NULL, 'f'},	 {"one-shot", 0, NULL, 'o'},   {"ready-fd", 1, NULL, 'r'},
		{"help", 0, NULL, 'h'},		 {"version", 0, NULL, 'v'},    {NULL, 0, NULL, 0}};
	const char *env = getenv("SHOAL_PROCS");
	bool spare = false;
	int64_t size;
	int c;

	while ((c = getopt_long(argc, argv, "h", longs, NULL)) != -1)
		switch (c) {
		case 'p': sh_options.procs = number(optarg, 1, 1u << 20, "--procs"); break;
		case 's':
			sh_options.spare = number(optarg, 0, WORKERS_MAX - 2, "--spare");
			spare = true;
			break;
		case 'm':
			if (!sh_size_parse(optarg, &size) || size < 1 << 20)
				sh_fail(2, "--memory must be a size of 1M or more, such as 512M or 1.5G");
			sh_options.memory = (size_t)size;
			break;
		case 'O':
			if (!sh_size_parse(optarg, &size) || size < 1 << 20)
				sh_fail(2, "--output-memory must be a size of 1M or more, such as 64M or 1.5G");
			sh_options.output_memory = (size_t)size;
			break;
		case 'D': sh_options.output_dir = optarg; break;
		case 'S': sh_options.socket = optarg; break;
		case 'f': break;
		case 'o': sh_options.one_shot = true; break;
		case 'r': sh_options.ready_fd = (int)number(optarg, 3, 1u << 20, "--ready-fd"); break;
		case 'h': usage(); exit(0);
		case 'v': puts("shoald " SHOAL_VERSION); exit(0);
		default: exit(2);
		}
	if (optind < argc)
		sh_fail(2, "unexpected argument '%s' (run a module with: shoal run MODULE)", argv[optind]);
	if (!sh_options.procs && env && *env)
		sh_options.procs = number(env, 1, 1u << 20, "SHOAL_PROCS");
	sh_options.procs_custom = sh_options.procs != 0;
	if (!sh_options.procs)
		sh_options.procs = sh_setup_cpus();
	if (sh_options.procs > WORKERS_MAX - 2)
		sh_options.procs = WORKERS_MAX - 2;
	if (!spare)
		sh_options.spare = sh_options.procs > 1 ? 2 : 1;
	if (sh_options.procs + sh_options.spare > WORKERS_MAX - 1)
		sh_options.spare = WORKERS_MAX - 1 - sh_options.procs;
	if (!sh_options.memory)
		sh_options.memory = sh_setup_memory();
	if (!sh_options.output_memory)
		sh_options.output_memory = sh_setup_output_memory();
	if (!sh_options.socket)
		sh_options.socket = sh_default_socket();
}

/* Closes descriptors that the caller left open, and raises the limit of open files, because each task needs three. */
static void prepare_process(void)
{
	struct rlimit files;

	for (int fd = 0; fd <= 2; fd++)
		if (kernel_fcntl(fd, F_GETFD, 0) < 0)
			kernel_open("/dev/null", O_RDWR, 0);
	if (sh_options.ready_fd > 3) {
		kernel_close_range(3, (unsigned)sh_options.ready_fd - 1, 0);
	}
	kernel_close_range(sh_options.ready_fd >= 3 ? (unsigned)sh_options.ready_fd + 1 : 3, ~0u, 0);
	if (sh_options.ready_fd >= 0)
		kernel_fcntl(sh_options.ready_fd, F_SETFD, FD_CLOEXEC);
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		if (files.rlim_max < FILES_MIN)
			sh_fail(1,
				"%lu open files are allowed (ulimit -n), but at least %u are needed: raise the limit",
				(unsigned long)files.rlim_max, FILES_MIN);
		files.rlim_cur = files.rlim_max;
		kernel_setrlimit(RLIMIT_NOFILE, &files);
	}
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* with ulimit -f a write fails with EFBIG instead of killing the supervisor */
}

static pid_t fork_zygote(int *link)
{
	int ends[2];
	pid_t pid;

	if (kernel_socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		sh_fail(1, "socketpair: %s", strerror(errno));
	atomic_store(&sh_root->supervisor, getpid());
	pid = fork();
	if (pid < 0)
		sh_fail(1, "fork: %s", strerror(errno));
	if (pid == 0)
		sh_zygote_main(ends[1], sh_options.one_shot);
	kernel_close(ends[1]);
	*link = ends[0];
	atomic_store(&sh_root->zygote, pid);
	return pid;
}

static void watch_signals(void)
{
	static const int which[] = {SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGQUIT};

	for (size_t i = 0; i < sizeof which / sizeof *which; i++) {
		uv_signal_init(sh_loop, &signal_handlers[i]);
		uv_signal_start(&signal_handlers[i], on_signal, which[i]);
	}
}

/* SHOAL_DEBUG=schedtrace=1000,... */
static void start_trace(void)
{
	long ms = sh_debug_number("schedtrace=", 0);

	uv_timer_init(sh_loop, &trace_timer);
	if (ms > 0)
		uv_timer_start(&trace_timer, on_trace, (uint64_t)ms, (uint64_t)ms);
}

static int listener = -1;

/* Everything is ready: the supervisor takes tasks from here on. */
static void begin_service(void)
{
	int err;

	watch_signals();
	uv_timer_init(sh_loop, &tick);
	uv_timer_start(&tick, on_tick, TICK_MS, TICK_MS);
	uv_timer_init(sh_loop, &stop_timer);
	start_trace();
	err = uv_poll_init(sh_loop, &medic_poll, sh_medic_fd);
	if (!err)
		err = uv_poll_start(&medic_poll, UV_READABLE, on_medic);
	if (!err)
		err = sh_control_start(listener);
	if (err)
		sh_fail(1, "the loop does not start: %s", uv_strerror(err));
	sh_fleet_reap(); /* children that died before the SIGCHLD handler was set */
	sh_log("takes tasks on %s: %u procs, %u workers, %zu MiB", sh_options.socket, sh_options.procs,
	       sh_options.procs + sh_options.spare, sh_options.memory >> 20);
	tell_ready("ok");
}

static void on_hello(void *arg, const struct zrep *rep)
{
	(void)arg;
	(void)rep;
	sh_adopt_end();
	begin_service();
}

static void adopt_runtime(int link)
{
	const struct zreq hello = {.op = Z_HELLO, .pid = getpid()};
	int err;

	sh_loop = uv_default_loop();
	err = sh_link_start(link);
	if (err)
		sh_fail(1, "the loop does not start: %s", uv_strerror(err));
	sh_link_ask(&hello, NULL, 0, on_hello, NULL);
}

static void make_runtime(void)
{
	int segment = sh_segment_create(sh_options.memory), ledger = segment < 0 ? segment : sh_ledger_create(), link,
	    err;
	char error[512];
	pid_t zygote;

	if (sh_options.output_dir && sh_spill_start(sh_options.output_dir, true, error, sizeof error) < 0) {
		sh_setup_remove_socket();
		sh_fail(1, "%s", error);
	}
	if (ledger < 0) {
		sh_setup_remove_socket();
		sh_fail(1, "cannot make the segment: %s", strerror(-ledger));
	}
	schedinit(sh_options.procs);
	atomic_store(&sched.procs_custom, sh_options.procs_custom);
	sh_start_ns = sh_ledger->start_ns = sh_now();
	sh_ledger->procs = sh_options.procs;
	sh_ledger->spare = sh_options.spare;
	sh_ledger->workers = sh_options.procs + sh_options.spare;
	sh_ledger->memory = sh_options.memory;
	sh_ledger->output_memory = sh_options.output_memory;
	if (sh_options.output_dir) {
		if (!realpath(sh_options.output_dir, sh_ledger->output_dir))
			sh_ledger->output_dir[0] = '\0';
	}
	sh_ledger->code = (uintptr_t)sh_symbol;
	sh_medic_fd = kernel_eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (sh_medic_fd < 0)
		sh_fail(1, "eventfd: %s", strerror(errno));
	zygote = fork_zygote(&link);
	if (!sh_options.one_shot)
		sh_keeper_first(segment, ledger, link, sh_medic_fd);
	sh_loop = uv_default_loop();
	err = sh_link_start(link);
	if (err)
		sh_fail(1, "the loop does not start: %s", uv_strerror(err));
	sh_fleet_start(zygote, sh_ledger->workers);
	begin_service();
}

int main(int argc, char **argv)
{
	char error[512];
	int link;

	parse(argc, argv);
	prepare_process();
	sh_calls_check();
	listener = sh_setup_socket(error, sizeof error);
	if (listener < 0)
		sh_fail(1, "%s", error);
	if (sh_options.ready_fd >= 0) {
		setsid();
		if (!sh_options.one_shot && sh_setup_log(error, sizeof error) < 0) {
			sh_setup_remove_socket();
			sh_fail(1, "%s", error);
		}
	}
	prctl(PR_SET_NAME, "shoald");
	sh_prompt(0, true);
	if (!sh_options.one_shot && sh_adopt_begin(&link))
		adopt_runtime(link);
	else
		make_runtime();
	uv_run(sh_loop, UV_RUN_DEFAULT);
	end(1);
}
