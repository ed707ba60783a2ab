/*
 * storm.c [SECONDS] - everything at once, while whoever works is killed, stopped and run short.
 *
 * A supervisor on a socket of its own; clients that run tasks of all kinds and check what came of
 * each; a web server with connections that stay. Meanwhile workers are killed and stopped, and now
 * and then the medic, the zygote, its standby, the keeper and the supervisor. At the end: the
 * books of all tasks, the audit, and what is left of memory, descriptors and processes.
 *
 * A task may be lost only with the worker that ran its root, and only if it had one attempt. A
 * connection may be lost only with the worker that ran its goroutine (or the server's root): so a
 * worker is stopped for a moment before it is killed, to see what it runs.
 */
#include "core/sched/sched.h"
#include "shm/procstat.h"
#include "tests/outside/outside.h"
#include "core/g/g.h"
#include "core/root.h"
#include "core/sched/m.h"
#include "core/sched/p.h"
#include "shm/segment.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CLIENTS 4
#define CONNECTIONS 12
#define SAMPLES 100000
#define KINDS 5

enum kind { MARK, MARK_AGAIN, WORK, COUNT, HUNGRY };
static const char *const kind_name[KINDS] = {"channels+timers", "the same, 50 attempts", "work", "wordfreq",
					     "memory limit"};

static struct shared {
	_Atomic uint64_t attempted[KINDS], ended[KINDS], lost[KINDS], wrong;
	_Atomic uint64_t answers, connections_lost, connections_short; /* the last: while memory was short */
	_Atomic uint64_t connections_due;			       /* lost with who ran */
	_Atomic uint64_t refused;
	_Atomic int scarce, stop; /* scarce: a task uses all memory */
} * all;

struct samples {
	unsigned n;
	double us[SAMPLES];
};
static struct samples *taken, *replaced, *adopted;
static uint64_t kills, stops, others, supervisors, web;
static char dir[64], calm[65536];
static int port;
static uint64_t rng;

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static unsigned pick(unsigned n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (unsigned)((rng >> 20) % n);
}

/* A log of the kills with their times, like the supervisor's. */
static void tell(const char *what, int pid)
{
	static FILE *f;
	struct timespec t;
	char path[96];
	struct tm tm;

	snprintf(path, sizeof path, "%s/storm.log", dir);
	f = f ? f : fopen(path, "we");
	clock_gettime(CLOCK_REALTIME, &t);
	gmtime_r(&t.tv_sec, &tm);
	fprintf(f, "%02d:%02d:%02d.%03ld %s %d\n", tm.tm_hour, tm.tm_min, tm.tm_sec, t.tv_nsec / 1000000, what, pid);
	fflush(f);
}

static void wrong(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fputs("wrong: ", stdout);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
	atomic_fetch_add(&all->wrong, 1);
}

/* Runs a command; its output in text. Its exit code. */
static int sh(char *text, size_t room, const char *fmt, ...)
{
	va_list ap;
	int code;

	va_start(ap, fmt);
	code = outside_sh(text, room, fmt, ap);
	va_end(ap);
	return code;
}

static long figure(const char *verb, const char *key)
{
	char text[65536];

	sh(text, sizeof text, "build/shoal %s --json 2>/dev/null", verb);
	return outside_number(text, key, 0);
}

/* Prints the state of the runtime when it hangs. */
static void tell_state(void)
{
	static const char *const verb[] = {"info", "workers", "sched", "tasks", "ps", "dump"};
	static char text[20000];

	for (size_t i = 0; i < sizeof verb / sizeof *verb; i++) {
		sh(text, sizeof text, "timeout -s KILL 5 build/shoal %s 2>&1 | head -n 60", verb[i]);
		printf("%s:\n%s\n", verb[i], text);
	}
	fflush(stdout);
}

/* ---- clients ---- */

static void one_task(unsigned client, unsigned number, char *text, size_t room)
{
	bool scarce = atomic_load(&all->scarce);
	enum kind kind = pick(100) < 45	  ? MARK
			 : pick(100) < 45 ? MARK_AGAIN
			 : scarce	  ? HUNGRY
			 : pick(100) < 70 ? WORK
					  : COUNT;
	int code = -1, good = kind == MARK || kind == MARK_AGAIN ? 7 : 0;
	bool right = true;

	atomic_fetch_add(&all->attempted[kind], 1);
	switch (kind) {
	case MARK:
	case MARK_AGAIN:
		code = sh(
			text, room,
			"timeout -s KILL 40 build/shoal run --name %c%u.%u %s build/tests/modules/survive/mark.so %s/marks %c%u.%u 100 2>%s/err%u",
			"oa"[kind], client, number, kind == MARK ? "" : "--attempts 50", dir, "oa"[kind], client,
			number, dir, client);
		/* With several attempts the last run counts; output of earlier ones is there too. */
		right = kind == MARK ? strcmp(text, "100\n") == 0 : strstr(text, "100\n") != NULL;
		break;
	case WORK:
		code = sh(text, room, "timeout -s KILL 40 build/shoal run build/tests/modules/basic/work.so 2>%s/err%u",
			  dir, client);
		right = strcmp(text, "4000 0\n") == 0;
		break;
	case COUNT:
		code = sh(
			text, room,
			"timeout -s KILL 40 build/shoal run --attempts 10000 build/examples/wordfreq.so -n 50 core shm 2>%s/err%u",
			dir, client);
		right = strcmp(text, calm) == 0;
		break;
	case HUNGRY:
		code = sh(text, room,
			  "timeout -s KILL 40 build/shoal run build/tests/modules/memory/hungry.so eat 2>%s/err%u", dir,
			  client);
		break;
	}
	if (code == good && right) {
		atomic_fetch_add(&all->ended[kind], 1);
	} else if (code == 137 && kind != MARK_AGAIN && kind != COUNT) {
		atomic_fetch_add(&all->ended[kind], 1);
		atomic_fetch_add(&all->lost[kind], 1);
	} else if (scarce && (code == 12 || kind == HUNGRY || code == 125 || code == 134)) {
		atomic_fetch_add(&all->ended[kind], 1); /* no memory to begin, or for a stack */
		atomic_fetch_add(&all->refused, 1);
	} else {
		char said[2000];

		sh(said, sizeof said, "cat %s/err%u", dir, client);
		wrong("%s %s with %d and says %.100s %.300s", kind_name[kind],
		      code == 137 ? "is lost or hangs, ending" : "ends", code, text, said);
		tell_state();
	}
}

static _Noreturn void client(unsigned number)
{
	static char text[65536];

	rng = (number + 1) * 0x9e3779b97f4a7c15u;
	for (unsigned i = 0; !atomic_load(&all->stop); i++)
		one_task(number, i, text, sizeof text);
	_exit(0);
}

/* ---- connections ---- */

static int connect_to_server(void)
{
	struct sockaddr_in a = {
		.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct timeval limit = {5, 0};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	if (connect(fd, (struct sockaddr *)&a, sizeof a) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static _Noreturn void browser(void)
{
	static const char get[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
	int fd[CONNECTIONS];
	char answer[1024];

	for (unsigned i = 0; i < CONNECTIONS; i++)
		fd[i] = connect_to_server();
	for (unsigned i = 0; !atomic_load(&all->stop); i = (i + 1) % CONNECTIONS) {
		if (fd[i] >= 0 && send(fd[i], get, sizeof get - 1, MSG_NOSIGNAL) == (ssize_t)sizeof get - 1 &&
		    recv(fd[i], answer, sizeof answer, 0) > 12 && memcmp(answer, "HTTP/1.1 200", 12) == 0) {
			atomic_fetch_add(&all->answers, 1);
			usleep(300);
			continue;
		}
		atomic_fetch_add(atomic_load(&all->scarce) ? &all->connections_short : &all->connections_lost, 1);
		if (fd[i] >= 0)
			close(fd[i]);
		fd[i] = connect_to_server();
		usleep(1000);
	}
	_exit(0);
}

/* ---- trouble ---- */

static void note_sample(struct samples *s, double us)
{
	if (s->n < SAMPLES)
		s->us[s->n++] = us;
}

/* Stops it and waits until it has stopped. False: it has ended. */
static bool hold(int pid)
{
	if (kill(pid, SIGSTOP) < 0)
		return false;
	for (unsigned i = 0; i < 1000; i++) {
		struct sh_procstat stat;

		if (!sh_procstat_read(pid, &stat) || stat.state == 'Z')
			return false;
		if (stat.state == 'T')
			return true;
		usleep(10);
	}
	return true;
}

/* The connections that may go with the goroutine that the stopped worker runs. */
static void count_connections(unsigned seat)
{
	struct g *g = atomic_load(&allm(seat)->curg);

	if (!g || !g->task || g->task->id != web)
		return;
	atomic_fetch_add(&all->connections_due, g->flags & GF_ROOT ? CONNECTIONS : 1);
}

/* A worker is killed; how long until another has its P, and until its seat has a new process. */
static void kill_worker(void)
{
	unsigned seat = 1 + pick((unsigned)(atomic_load(&sched.procs) + 2));
	struct sh_seat *s = &sh_root->seat[seat];
	uint32_t generation = s->generation;
	int p = atomic_load(&allm(seat)->p), pid = atomic_load(&s->pid);
	bool ran = p >= 0 && p < P_MAX && atomic_load(&allp(p)->m) == (int)seat, other = false;
	uint64_t began;

	if (atomic_load(&s->state) != SEAT_LIVE || pid <= 1 || sh_seat_dead(seat))
		return;
	tell("worker", pid);
	if (hold(pid))
		count_connections(seat);
	began = now_ns();
	kill(pid, SIGKILL);
	kills++;
	while (now_ns() - began < 1000000000u) {
		int m = ran && !other ? atomic_load(&allp(p)->m) : NOSEAT;
		double us = (double)(now_ns() - began) / 1e3;

		if (ran && !other && m > 0 && m != (int)seat) {
			note_sample(taken, us);
			other = true;
		}
		if (s->generation != generation && atomic_load(&s->state) == SEAT_LIVE) {
			note_sample(replaced, us);
			return;
		}
		nanosleep(&(struct timespec){0, 5000}, NULL);
	}
	note_sample(replaced, 1e6);
}

static void stop_worker(void)
{
	unsigned seat = 1 + pick((unsigned)(atomic_load(&sched.procs) + 2));
	struct sh_seat *s = &sh_root->seat[seat];
	int pid = atomic_load(&s->pid);

	if (atomic_load(&s->state) != SEAT_LIVE || pid <= 1)
		return;
	tell("stop worker", pid);
	if (hold(pid)) /* and ended, perhaps, because it does not answer */
		count_connections(seat);
	stops++;
	usleep(20000 + pick(60000));
	kill(pid, SIGCONT); /* it may have been killed by the medic meanwhile */
}

static void kill_other(const char *whom, int pid)
{
	tell(whom, pid);
	if (pid > 1 && kill(pid, SIGKILL) == 0)
		others++;
}

static void kill_supervisor(void)
{
	int pid = atomic_load(&sh_root->supervisor), code;
	char text[1024];
	uint64_t began;

	if (pid <= 1)
		return;
	tell("supervisor", pid);
	kill(pid, SIGKILL);
	supervisors++;
	usleep(pick(30000));
	began = now_ns();
	code = sh(text, sizeof text, "build/shoal start 2>&1");
	note_sample(adopted, (double)(now_ns() - began) / 1e3);
	if (code)
		wrong("the supervisor does not start again: %.200s", text);
}

static void trouble(uint64_t until)
{
	const char *only = getenv("STORM_ONLY");

	while (now_ns() < until) {
		unsigned what = pick(only ? (unsigned)atoi(only) : 100); /* the first are the harmless ones */

		if (what < 82)
			kill_worker();
		else if (what < 90)
			stop_worker();
		else if (what < 92)
			kill_other("medic", atomic_load(&sh_root->seat[SH_SEAT_MEDIC].pid));
		else if (what < 94)
			kill_other("zygote", atomic_load(&sh_root->zygote));
		else if (what < 95)
			kill_other("standby", atomic_load(&sh_root->standby));
		else
			kill_supervisor();
		usleep(10000 + pick(40000));
	}
}

/* ---- before and after ---- */

/* There may be more or fewer of them than at the start: system calls that last have more cloned. */
static int count_workers(void)
{
	int n = 0;

	for (unsigned i = 1; i < WORKERS_MAX; i++)
		n += atomic_load(&sh_root->seat[i].state) == SEAT_LIVE;
	return n;
}

/* Without the descriptors of each worker's loop. */
static int count_fds(void)
{
	char path[64];
	int n = 0;
	DIR *d;

	for (unsigned i = 1; i < WORKERS_MAX; i++) {
		n -= atomic_load(&sh_root->seat[i].wake_fd) >= 0; /* stays with the seat */
		for (unsigned k = 0; k < 8 && atomic_load(&sh_root->seat[i].state) == SEAT_LIVE; k++)
			n -= sh_root->seat[i].own_fds[k] >= 0;
	}

	snprintf(path, sizeof path, "/proc/%d/fd", (int)atomic_load(&sh_root->zygote));
	d = opendir(path);
	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n;
}

static int count_processes(void)
{
	char text[64];

	sh(text, sizeof text,
	   "grep -lsa '%s/s' /proc/[0-9]*/cmdline | while read f; do grep -qs ') Z' ${f%%cmdline}stat || echo x; done | wc -l",
	   dir);
	return atoi(text) - count_workers();
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static void print_times(const char *what, struct samples *s)
{
	if (!s->n)
		return;
	qsort(s->us, s->n, sizeof *s->us, by_size);
	printf("  %-44s p50 %8.0f us   p99 %8.0f us   of %u\n", what, s->us[s->n / 2], s->us[s->n * 99 / 100], s->n);
}

/* Tasks with one attempt have each mark at most once, and an end if they ended well. */
static void check_marks(void)
{
	char text[256];
	uint64_t again = atomic_load(&all->attempted[MARK_AGAIN]);

	sh(text, sizeof text, "grep '^b o' %s/marks | sort | uniq -d | wc -l", dir);
	printf("doubled: %d of those with one attempt, ", atoi(text));
	if (atoi(text))
		wrong("tasks with one attempt began twice");
	sh(text, sizeof text, "grep '^b a' %s/marks | sort | uniq -c | awk '{ n += $1 - 1 } END { print n + 0 }'", dir);
	printf("%d more runs of those with 50\n", atoi(text));
	sh(text, sizeof text, "grep '^e a' %s/marks | sort -u | wc -l", dir);
	if ((uint64_t)atoi(text) + atomic_load(&all->refused) < again)
		wrong("%lu tasks with 50 attempts, and %d ended", (unsigned long)again, atoi(text));
}

static bool settle(const char *what, int (*count)(void), int want)
{
	int is = 0;

	for (int i = 0; i < 100 && (is = count()) != want; i++)
		usleep(50000);
	printf("  %-44s %d before, %d after\n", what, want, is);
	return is == want;
}

static void report(int fds, int processes, long used)
{
	uint64_t attempted = 0, ended = 0, lost = 0, gone, due;
	char text[4096];
	long left;

	if (atomic_load(&all->wrong))
		sh(text, sizeof text, "build/shoal crash >%s/crashes 2>&1", dir);
	for (unsigned i = 0; i < KINDS; i++) {
		uint64_t a = atomic_load(&all->attempted[i]), e = atomic_load(&all->ended[i]),
			 l = atomic_load(&all->lost[i]);

		printf("  %-24s %6lu tasks, %6lu ended, %5lu of them with the worker that ran their root\n",
		       kind_name[i], (unsigned long)a, (unsigned long)e, (unsigned long)l);
		attempted += a;
		ended += e;
		lost += l;
	}
	printf("%lu tasks, %lu without a recorded end; %lu workers killed, %lu stopped, %lu medics, zygotes and standbys, "
	       "%lu supervisors\n",
	       (unsigned long)attempted, (unsigned long)(attempted - ended), (unsigned long)kills, (unsigned long)stops,
	       (unsigned long)others, (unsigned long)supervisors);
	if (attempted != ended)
		wrong("tasks without an end");
	if (lost > kills + stops)
		wrong("more tasks were lost than workers");
	check_marks();
	printf("refused for want of memory: %lu\n", (unsigned long)atomic_load(&all->refused));
	gone = atomic_load(&all->connections_lost);
	due = atomic_load(&all->connections_due);
	printf("connections: %lu answers, %lu lost, at most %lu with the goroutines that died: %lu others; %lu while memory was short\n",
	       (unsigned long)atomic_load(&all->answers), (unsigned long)gone, (unsigned long)due,
	       (unsigned long)(gone > due ? gone - due : 0), (unsigned long)atomic_load(&all->connections_short));
	if (gone > due)
		wrong("connections were lost whose goroutines did not run");
	if (atomic_load(&all->answers) < 100)
		wrong("the web server does not answer");
	print_times("SIGKILL -> another worker has its P", taken);
	print_times("SIGKILL -> replacement serves", replaced);
	print_times("start of a supervisor -> it has adopted", adopted);
	if (!settle("descriptors but for those of idle workers", count_fds,
		    fds)) /* supervisor/zygote/sweep.c closes what deaths left */
		wrong("descriptors are left open");
	sh(text, sizeof text, "ls -l /proc/%d/fd >%s/fds; build/shoal tasks >%s/tasks; build/shoal ps >%s/ps",
	   (int)atomic_load(&sh_root->zygote), dir, dir, dir);
	if (!settle("processes besides workers", count_processes, processes))
		wrong("processes are left");
	left = figure("stats", "memory_used");
	printf("  %-44s %ld before, %ld after\n", "memory used by tasks", used, left);
	if (left > used)
		printf("warning: storm: %ld bytes of the runtime's own are not back after memory was short\n",
		       left - used);
	if (left > used + (1l << 20))
		wrong("memory is not back");
	if (sh(text, sizeof text, "timeout 20 build/shoal check 2>&1"))
		wrong("%.500s", text);
	else
		printf("  check: %s", text);
}

/* Ends the processes of our folder, should any be left. */
static void end_all(void)
{
	char text[4096];

	for (int i = 0; i < 60; i++) {
		sh(text, sizeof text,
		   "grep -lsa '%s/s' /proc/[0-9]*/cmdline | tr -dc '0-9\\n' | while read p; do grep -qs ') Z' /proc/$p/stat || "
		   "[ $p = $$ ] || tr '\\0' ' ' </proc/$p/cmdline | grep '^build/shoald\\|shoald --' | sed \"s/^/$p /\"; done 2>/dev/null",
		   dir);
		if (!*text)
			return;
		usleep(50000);
	}
	wrong("left after stop: %.300s", text);
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
		if (atoi(line) > 1)
			kill(atoi(line), SIGKILL);
}

static int count_goroutines(void)
{
	return (int)figure("stats", "goroutines");
}

static void wait_for_server(void)
{
	for (int i = 0, fd; i < 400; i++, usleep(50000))
		if ((fd = connect_to_server()) >= 0) {
			close(fd);
			return;
		}
	wrong("the web server does not listen");
}

static struct samples *new_samples(void)
{
	return mmap(NULL, sizeof(struct samples), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void begin(void)
{
	char text[65536];

	strcpy(dir, "/tmp/shoal-storm.XXXXXX");
	if (!mkdtemp(dir))
		exit(2);
	snprintf(text, sizeof text, "%s/s", dir);
	setenv("SHOAL_SOCKET", text, 1);
	setenv("SHOAL_DEBUG", "nodelay", 1);
	all = mmap(NULL, sizeof *all, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	taken = new_samples();
	replaced = new_samples();
	adopted = new_samples();
	if (sh(text, sizeof text, "build/shoal start --procs 2 --spare 2 --memory 512M 2>&1"))
		wrong("no supervisor: %.200s", text);
	/* Runs each module once, because loaded instances stay. */
	sh(calm, sizeof calm, "timeout -s KILL 40 build/shoal run build/examples/wordfreq.so -n 50 core shm");
	if (strlen(calm) < 100)
		wrong("wordfreq counts nothing: %.200s", calm);
	sh(text, sizeof text,
	   "timeout -s KILL 40 build/shoal run build/tests/modules/basic/work.so; build/shoal run build/tests/modules/memory/hungry.so eat; "
	   "timeout -s KILL 40 build/shoal run build/tests/modules/survive/mark.so %s/warm w 10",
	   dir);
	if (!settle("goroutines", count_goroutines, 0))
		wrong("goroutines of the first tasks are left");
}

int main(int argc, char **argv)
{
	double seconds = argc > 1 ? atof(argv[1]) : 120;
	char text[1024];
	int fds, processes;
	long used;
	pid_t child;

	rng = now_ns() | 1;
	begin();
	if (!outside_map(figure("info", "pid"))) {
		puts("cannot map the segment");
		return 1;
	}
	prctl(PR_SET_TIMERSLACK, 1);
	setpriority(PRIO_PROCESS, 0,
		    -10); /* the measuring process has priority over what it measures; only root may do that */
	used = figure("stats", "memory_used");
	fds = count_fds();
	processes = count_processes();
	port = 20000 + getpid() % 20000;
	sh(text, sizeof text, "build/shoal submit --attempts 10000 --name web build/examples/httpd.so --port %d", port);
	web = (uint64_t)atol(text);
	wait_for_server();
	for (unsigned i = getenv("STORM_CALM") ? CLIENTS : 0; i <= CLIENTS; i++) { /* calm: to measure, not to stress */
		child = fork();
		if (child == 0) {
			setpriority(PRIO_PROCESS, 0, 0);
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (i == CLIENTS)
				browser();
			client(i);
		}
	}
	if (getenv("STORM_CALM"))
		sh(text, sizeof text, "build/shoal submit --attempts 1000 build/tests/modules/survive/busy.so 16 %d",
		   (int)seconds);
	trouble(now_ns() + (uint64_t)(seconds * 0.8e9));
	atomic_store(&all->scarce, 1);
	trouble(now_ns() + (uint64_t)(seconds * 0.2e9));
	atomic_store(&all->stop, 1);
	while (wait(NULL) > 0)
		;
	sh(text, sizeof text, "timeout -s KILL 10 build/shoal cancel %lu", (unsigned long)web);
	sh(text, sizeof text, "timeout -s KILL 10 build/shoal wait %lu 2>&1", (unsigned long)web);
	report(fds, processes, used);
	sh(text, sizeof text, "timeout -s KILL 20 build/shoal stop --now 2>&1");
	end_all();
	if (!atomic_load(&all->wrong))
		sh(text, sizeof text, "rm -rf %s", dir);
	else
		printf("see %s\n", dir);
	printf("tests: %d passed, %d failed\n", !atomic_load(&all->wrong), atomic_load(&all->wrong) != 0);
	return atomic_load(&all->wrong) != 0;
}
