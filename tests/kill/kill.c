/*
 * kill.c - every kill point, on each of its first hits: the runtime is whole after it and goes on.
 *
 *   kill [--hits N] [--point PATTERN [--via NAME]] [--part I/N] [--times N] [--verbose]
 *                                                  without arguments: the first three hits of all points; via:
 *                                                  after a death there; part: each Nth point, from the Ith on; times: again and again
 *   kill --list                                    the points
 *
 * One supervisor (build/kill/shoald, in which a request arms a point) for all of them. First each
 * workload runs undisturbed and the points it passes are noted; then for each point and each hit:
 * armed, the workload, the audit; and now and then the first workload, the audit. The workloads are the modules of
 * tests/modules/kill, whose goroutines and root have attempts left: they check themselves and always end
 * with 0; and verbs (see verbs[]). Points of the repair that are passed only after a death at
 * some other point have their turn after that: two kills. A point that nobody passes
 * is a failure, unless excuse[] says why.
 */
#include <errno.h>
#include <fnmatch.h>
#include <glob.h>
#include <jansson.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define POINTS_MAX 1024
#define WORK_MAX 32
#define RUN_MS 8000 /* times SLOW, of the environment */
#define WAYS 12
#define TRIES 3 /* the same run passes a point now and then, if it is a matter of who meets whom */
#define FIRST_TRIES 10
#define OTHERS_EVERY 4 /* kills: what comes next is another workload, which may suffer from what is left */

extern char **environ;

/* A workload that passes a point: undisturbed, or after a death at another one. */
struct way {
	int work;
	const struct point *via;
};

struct point {
	char name[64];
	struct way way[WAYS];
	unsigned nways;
	bool surely; /* the first way did each time */
	unsigned kills;
	bool done, failed;
};

/* Passed after a death elsewhere, by a workload that does not show it by itself: who dies where in what. */
static const struct hint {
	const char *name, *via, *work;
} hints[] = {
	{"rwmutex.repair.back", "waitq.remove.done", "kill/rwmutex.so"},
	{"waitq.relink.middle", "waitq.remove.done", "kill/queue.so"},
	{"waitq.relink.empty", "waitq.remove.done", "kill/queue.so"},
	{"waitq.relink.first", "waitq.remove.done", "kill/queue.so"},
	{"waitq.relink.last", "waitq.remove.done", "kill/queue.so"},
	{"rwmutex.repair.dead", "rwmutex.admit.told", "kill/rwmutex.so"},
	{"procs.forgotten", "procs.asker", "kill/procs.so"},
	{"syscall.retake.repaired", "syscall.retake.scan", "kill/net.so"},
	{"filelock.restart.released", "filelock.link.done", "kill/files.so"},
	{"g.preempted.waiting", "g.suspend.asked", "!dump"},
};

/*
 * Why nobody comes by here. A name that ends with * stands for all that begin so.
 * never: no workload can; else it depends on who meets whom, and a run without is no fault.
 */
static const struct excuse {
	const char *name, *why;
	bool never;
} excuse[] = {
	{"heap.flush.*", "no worker gives a whole cache back; build/kill/heap_stress dies there", true},
	{"area.claim.undone", "two workers that claim one range of addresses at the same moment", true},
	{"output.room.asked", "a writer that passes its credit while no reader is attached", true},
	{"stw.failed", "a goroutine that does not stop within two seconds", true},
	{"m.wake.back", "a sleeper that wakes by itself between two instructions of its waker", false},
	{"select.claimed.wait", "a timer and a peer at the same moment", false},
	{"g.scan.wait", "two want the same stack", false},
	{"mutex.handed", "a waiter that has failed for 1 ms, and another that waits", false},
	{"g.slice.*", "asked to give way as it parks, with somebody in runnext", false},
	{"stack.letgo.*", "two workers at once, each in want of the window whose frames the other takes", false},
	{"heap.grow.top", "past the highest page so far: in a young arena; build/kill/heap_stress dies there", false},
	{"heap.grow.moved", "past the highest page so far: in a young arena; build/kill/heap_stress dies there", false},
	{"pin.lost", "the medic ends a pinned goroutine while its worker sleeps", false},
	{"pin.hand.back", "a pinned worker that finds another P first", false},
	{"syscall.backoff",
	 "sixty goroutines in calls that block, as in proc's more_blocking_calls_than_workers; a hint", false},
	{"heap.partial.*", "spans without an owner come of heap.flush.*; build/kill/heap_stress dies there", true},
};

static struct point point[POINTS_MAX];
static unsigned npoints, kills, failures;
static char dir[64], socket_path[96], output[16384];
static const char *build, *work[WORK_MAX]; /* a module, or what begins with !: a verb */
static unsigned nwork;
static pid_t supervisor;
static bool verbose;
static unsigned part, parts = 1, times = 1, slow = 1;

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static _Noreturn void give_up(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\ntests: 0 passed, 1 failed\n");
	fflush(stdout);
	if (supervisor > 0)
		kill(supervisor, SIGKILL);
	_exit(1);
}

static void read_output(void)
{
	char path[128];
	size_t n;
	FILE *f;

	snprintf(path, sizeof path, "%s/out", dir);
	f = fopen(path, "r");
	n = f ? fread(output, 1, sizeof output - 1, f) : 0;
	output[n] = 0;
	if (f)
		fclose(f);
}

/* Starts a program of the build; its output goes to the file `out`. */
static pid_t start(const char *const *argv)
{
	posix_spawn_file_actions_t fa;
	char path[128];
	pid_t pid;

	snprintf(path, sizeof path, "%s/out", dir);
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", 0, 0);
	posix_spawn_file_actions_addopen(&fa, 1, path, 01 | 0100 | 01000, 0600);
	posix_spawn_file_actions_adddup2(&fa, 1, 2);
	if (posix_spawn(&pid, argv[0], &fa, NULL, (char *const *)argv, environ) != 0)
		give_up("cannot start %s: %s", argv[0], strerror(errno));
	posix_spawn_file_actions_destroy(&fa);
	return pid;
}

/* Before the client goes and its task with it. */
static void tell_hang(void)
{
	static const char *const verb[] = {"workers", "sched", "ps", "dump"};
	char cmd[512];

	for (unsigned i = 0; i < 4; i++) {
		snprintf(cmd, sizeof cmd, "timeout 3 %s/shoal %s 2>&1 | head -n 60", build, verb[i]);
		if (system(cmd) != 0)
			printf("(%s: no answer)\n", verb[i]);
	}
	if (getenv("ON_HANG") && system(getenv("ON_HANG")) != 0) /* a debugger, for example */
		printf("(%s)\n", getenv("ON_HANG"));
}

/* Its exit code, 128 + signal, or -1 when it has not ended in time. */
static int end_of(pid_t pid, int ms)
{
	double until = seconds() + ms / 1000.0;
	int st;

	while (waitpid(pid, &st, WNOHANG) == 0) {
		if (seconds() > until) {
			tell_hang();
			kill(pid, SIGKILL);
			waitpid(pid, &st, 0);
			return -1;
		}
		usleep(300);
	}
	return WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
}

static int shoal(const char *verb, const char *a, const char *b, const char *c)
{
	char path[256];
	int r;

	snprintf(path, sizeof path, "%s/shoal", build);
	r = end_of(start((const char *const[]){path, verb, a, b, c, NULL}), (int)slow * RUN_MS);
	read_output();
	return r;
}

/* ---- workloads that are requests ---- */

/* A task of kill/by_verb.c, another request meanwhile, and the task's end. */
static int with_task(const char *what, const char *verb, int ends_with)
{
	char path[256], id[16];
	int r;

	snprintf(path, sizeof path, "%s/tests/modules/kill/by_verb.so", build);
	r = shoal("submit", "--attempts=30", path, what);
	if (r != 0)
		return r;
	snprintf(id, sizeof id, "%.15s", output);
	id[strcspn(id, "\n")] = 0;
	if (verb) {
		usleep(2000);
		r = strcmp(verb, "dump") ? shoal(verb, id, NULL, NULL) : shoal(verb, NULL, NULL, NULL);
		if (r < 0 ||
		    (r && strcmp(verb, "dump"))) /* the process that reads the stacks may die: then there is no dump */
			return r;
	}
	r = shoal("wait", id, NULL, NULL);
	return r == ends_with ? 0 : r ? r : 255;
}

static int do_restart(void)
{
	return shoal("restart", NULL, NULL, NULL);
}

static int do_procs(void)
{
	int r = shoal("procs", "4", NULL, NULL);

	if (r == 0)
		r = shoal("procs", "1", NULL, NULL);
	return r ? r : shoal("procs", "2", NULL, NULL);
}

static int do_dump(void)
{
	return with_task("busy", "dump", 0);
}

static int do_cancel(void)
{
	return with_task("waits", "cancel", 130);
}

static int do_deadlock(void)
{
	return with_task("dead", NULL, 2);
}

/* A task leaves much behind: soon after its end a worker is asked to go. */
static int do_left(void)
{
	char path[256];
	int r;

	snprintf(path, sizeof path, "%s/tests/modules/kill/ends.so", build);
	r = shoal("run", "--attempts=30", path, "much");
	usleep(20000);
	return r;
}

static const struct {
	const char *name;
	int (*run)(void);
} verbs[] = {
	{"!restart", do_restart}, {"!procs", do_procs},	      {"!dump", do_dump},
	{"!cancel", do_cancel},	  {"!deadlock", do_deadlock}, {"!left", do_left},
};
#define VERBS (sizeof verbs / sizeof *verbs)

static int run_work(unsigned w)
{
	for (unsigned i = 0; i < VERBS; i++)
		if (work[w] == verbs[i].name)
			return verbs[i].run();
	return shoal("run", "--attempts", "30", work[w]);
}

static void start_supervisor(void)
{
	char path[256], log[128];
	posix_spawn_file_actions_t fa;

	snprintf(path, sizeof path, "%s/kill/shoald", build);
	snprintf(log, sizeof log, "%s/log", dir);
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", 0, 0);
	posix_spawn_file_actions_addopen(&fa, 1, log, 01 | 0100 | 02000, 0600);
	posix_spawn_file_actions_adddup2(&fa, 1, 2);
	if (posix_spawn(&supervisor, path, &fa, NULL,
			(char *[]){path, "--procs", "2", "--memory", "96M", "--socket", socket_path, NULL},
			environ) != 0)
		give_up("cannot start %s", path);
	posix_spawn_file_actions_destroy(&fa);
	for (unsigned i = 0; i < 500; i++) {
		if (shoal("info", NULL, NULL, NULL) == 0)
			return;
		usleep(10000);
	}
	give_up("the supervisor does not answer: %s", output);
}

static void stop_supervisor(void)
{
	int st;

	if (shoal("stop", "--now", NULL, NULL) != 0)
		kill(supervisor, SIGKILL);
	waitpid(supervisor, &st, 0);
	supervisor = 0;
}

/* The request that arms (name NULL: disarms) and tells what was passed since the last one. */
static json_t *ask_kill(const char *name, unsigned hit, const char *then, unsigned then_hit)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	json_t *answer;
	char request[320];
	FILE *f;

	snprintf(at.sun_path, sizeof at.sun_path, "%s", socket_path);
	if (connect(fd, (struct sockaddr *)&at, sizeof at) < 0)
		give_up("no connection to the supervisor: %s", strerror(errno));
	if (then)
		snprintf(request, sizeof request,
			 "{\"verb\":\"kill\",\"point\":\"%s\",\"hit\":%u,\"then\":\"%s\",\"then_hit\":%u}\n", name, hit,
			 then, then_hit);
	else if (name)
		snprintf(request, sizeof request, "{\"verb\":\"kill\",\"point\":\"%s\",\"hit\":%u}\n", name, hit);
	else
		snprintf(request, sizeof request, "{\"verb\":\"kill\"}\n");
	if (write(fd, request, strlen(request)) != (ssize_t)strlen(request))
		give_up("the supervisor hangs up");
	f = fdopen(fd, "r");
	answer = json_loadf(f, JSON_DISABLE_EOF_CHECK, NULL);
	fclose(f);
	if (!answer || !json_object_get(answer, "done"))
		give_up("no answer to kill");
	return answer;
}

static struct point *find(const char *name)
{
	for (unsigned i = 0; i < npoints; i++)
		if (strcmp(point[i].name, name) == 0)
			return &point[i];
	return NULL;
}

static void list_points(void)
{
	json_t *answer = ask_kill(NULL, 0, NULL, 0), *name;
	size_t i;

	json_array_foreach(json_object_get(answer, "points"), i, name)
	{
		if (find(json_string_value(name)))
			continue;
		if (npoints == POINTS_MAX)
			give_up("more than %d points", POINTS_MAX);
		snprintf(point[npoints].name, sizeof point[0].name, "%s", json_string_value(name));
		npoints++;
	}
	json_decref(answer);
}

static void failed(struct point *p, unsigned hit, const char *what, int r)
{
	char cmd[256];

	failures += !p || !p->failed; /* a point is one test */
	if (p)
		p->failed = true;
	printf("FAILED %s, hit %u, by %s: %s: %d\n%.2000s\n", p ? p->name : "(undisturbed)", hit,
	       p && p->nways ? work[p->way[0].work] : "nobody", what, r, output);
	fflush(stdout);
	snprintf(cmd, sizeof cmd, "tail -n 12 %s/log; rm %s/log", dir, dir);
	if (system(cmd) != 0)
		printf("(no log)\n");
	stop_supervisor(); /* whatever is wrong with it, the next point begins with another */
	start_supervisor();
}

static void add_way(struct point *p, int w, const struct point *via)
{
	for (unsigned i = 0; i < p->nways; i++)
		if (p->way[i].work == w && p->way[i].via == via)
			return;
	if (p->nways < WAYS)
		p->way[p->nways++] = (struct way){w, via};
}

/*
 * Disarms; what was passed since the last time is passed by this workload after a death at via, which is
 * worth knowing of those that are not passed each time without. Returns the kills made.
 */
static json_int_t look(int w, const struct point *via)
{
	json_t *answer = ask_kill(NULL, 0, NULL, 0), *name;
	json_int_t done = json_integer_value(json_object_get(answer, "done"));
	size_t i;

	json_array_foreach(json_object_get(answer, "passed"), i, name)
	{
		struct point *p = find(json_string_value(name));

		if (p && p != via && !p->surely)
			add_way(p, w, via);
	}
	json_decref(answer);
	return done;
}

static json_int_t count_kills(void)
{
	json_t *answer = ask_kill(NULL, 0, NULL, 0);
	json_int_t done = json_integer_value(json_object_get(answer, "done"));

	json_decref(answer);
	return done;
}

static unsigned char seen[POINTS_MAX][WORK_MAX];

static void count_passes(unsigned w)
{
	json_t *answer = ask_kill(NULL, 0, NULL, 0), *name;
	size_t i;

	json_array_foreach(json_object_get(answer, "passed"), i, name)
	{
		struct point *p = find(json_string_value(name));

		if (p)
			seen[p - point][w]++;
	}
	json_decref(answer);
}

/* Who passes it most often comes first. */
static void rank_passes(struct point *p)
{
	for (unsigned n = TRIES; n > 0; n--)
		for (unsigned w = 0; w < nwork; w++)
			if (seen[p - point][w] == n && p->nways < WAYS / 2)
				p->way[p->nways++] = (struct way){(int)w, NULL};
	p->surely = p->nways && seen[p - point][p->way[0].work] == TRIES;
}

/* Which workload passes which points. */
static void survey(void)
{
	for (unsigned w = 0; w < nwork; w++) {
		int r = 0;

		for (unsigned n = 0; n < TRIES && r == 0; n++) {
			r = run_work(w);
			if (r != 0)
				failed(NULL, 0, work[w], r);
			count_passes(w);
		}
	}
	for (unsigned i = 0; i < npoints; i++)
		rank_passes(&point[i]);
	for (unsigned i = 0; i < sizeof hints / sizeof *hints; i++) {
		struct point *p = find(hints[i].name);

		for (unsigned w = 0; p && !p->surely && w < nwork; w++)
			if (strlen(work[w]) >= strlen(hints[i].work) &&
			    !strcmp(work[w] + strlen(work[w]) - strlen(hints[i].work), hints[i].work))
				add_way(p, (int)w, find(hints[i].via));
	}
}

static bool clean(struct point *p, unsigned hit)
{
	int r = shoal("check", NULL, NULL, NULL);

	if (r != 0)
		failed(p, hit, "audit", r);
	return r == 0;
}

/* One run with the point armed. 1: somebody died there; 0: nobody came by; -1: and that was too much. */
static int try_at(struct point *p, unsigned hit, struct way way)
{
	json_int_t before = count_kills();
	int r;

	if (way.via)
		json_decref(ask_kill(way.via->name, 1, p->name, hit));
	else
		json_decref(ask_kill(p->name, hit, NULL, 0));
	r = run_work((unsigned)way.work);
	if (r != 0) {
		failed(p, hit, "the workload ends with", r);
		return -1;
	}
	return look(way.work, way.via ? way.via : p) >= before + (way.via ? 2 : 1);
}

static int made(struct point *p, unsigned hit)
{
	unsigned tries = hit == 1 ? FIRST_TRIES : p->kills < hit - 1 ? 1 : TRIES, n;
	struct way way;
	int r;

	if (p->surely && hit == 1)
		tries = TRIES;
	for (n = 0; n < (p->nways > tries ? p->nways : tries); n++) {
		way = p->way[n % p->nways];
		if ((r = try_at(p, hit, way)) == 0)
			continue;
		p->way[n % p->nways] = p->way[0]; /* the next hit has it first */
		p->way[0] = way;
		return r;
	}
	/* Perhaps it is passed once in the life of a runtime, or while it is young. */
	stop_supervisor();
	start_supervisor();
	return try_at(p, hit, p->way[0]);
}

static void kill_at(struct point *p, unsigned hit)
{
	int r;

	if (made(p, hit) <= 0 || !clean(p, hit))
		return;
	r = kills % OTHERS_EVERY ? 0 : run_work(0);
	if (r != 0) {
		failed(p, hit, "the next run ends with", r);
	} else if (kills % OTHERS_EVERY || clean(p, hit)) {
		kills++;
		p->kills++;
	}
	if (verbose)
		printf("%s %u: survived, %.1f s\n", p->name, hit, seconds());
}

/* Workload 0 is the one that runs after each death. */
static void find_work(void)
{
	glob_t g;
	char path[256];

	snprintf(path, sizeof path, "%s/tests/modules/kill/work.so", build);
	work[nwork++] = strdup(path);
	snprintf(path, sizeof path, "%s/tests/modules/kill/*.so", build);
	if (glob(path, 0, NULL, &g) != 0)
		give_up("no workload");
	for (size_t i = 0; i < g.gl_pathc; i++) {
		const char *name = strrchr(g.gl_pathv[i], '/') + 1;

		if (!strcmp(name, "work.so") || !strcmp(name, "by_verb.so"))
			continue;
		if (nwork + VERBS == WORK_MAX)
			give_up("more workloads than WORK_MAX");
		work[nwork++] = strdup(g.gl_pathv[i]);
	}
	globfree(&g);
}

static const struct excuse *excused(const char *name)
{
	for (unsigned i = 0; i < sizeof excuse / sizeof *excuse; i++) {
		size_t n = strlen(excuse[i].name);

		if (excuse[i].name[n - 1] == '*' ? !strncmp(name, excuse[i].name, n - 1)
						 : !strcmp(name, excuse[i].name))
			return &excuse[i];
	}
	return NULL;
}

/* At each point that has not had its turn and that somebody passes. False: there is none. */
static bool kill_all(const char *only, unsigned hits, bool surely)
{
	bool some = false;

	for (unsigned i = 0; i < npoints; i++) {
		if (!point[i].nways || point[i].done || i % parts != part || (surely && !point[i].surely) ||
		    (only && fnmatch(only, point[i].name, 0)))
			continue;
		some = point[i].done = true;
		for (unsigned n = 0; n < times * hits; n++)
			kill_at(&point[i], n % hits + 1);
	}
	return some;
}

/* Reports the points at which no process died. One that no workload passes has its reason in excuse[], or is a failure. */
static void report(double began, const char *only)
{
	unsigned passed = 0, killed = 0, reasons = 0;

	for (unsigned i = 0; i < npoints; i++) {
		passed += point[i].nways > 0;
		killed += point[i].kills > 0;
	}
	for (unsigned i = 0; i < npoints; i++) {
		const struct point *p = &point[i];
		const struct excuse *e = excused(p->name);

		if ((only && fnmatch(only, p->name, 0)) || i % parts != part)
			continue;
		if (p->kills && e && e->never)
			printf("warning: %s: somebody died there, and is said not to come by: %s\n", p->name, e->why);
		if (p->kills)
			continue;
		if (e) {
			printf("excused: %s: %s\n", p->name, e->why);
			reasons++;
		} else if (p->nways) {
			printf("warning: %s: passed by %s%s%s, but nobody died there this time\n", p->name,
			       work[p->way[0].work], p->way[0].via ? " after " : "",
			       p->way[0].via ? p->way[0].via->name : "");
		} else if (parts > 1) {
			printf("note: %s: passed after deaths in the other parts, if at all\n", p->name);
		} else {
			failures++;
			printf("FAILED %s: no workload passes it\n", p->name);
		}
	}
	printf("kill points: %u, passed by a workload: %u, killed at: %u, excused: %u; kills survived: %u; %.1f s\n",
	       npoints, passed, killed, reasons, kills, seconds() - began);
}

int main(int argc, char **argv)
{
	unsigned hits = 3, passed = 0;
	const char *only = NULL, *via = NULL;
	bool list = false;
	double began = seconds();
	char cmd[128];

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--hits") && i + 1 < argc)
			hits = (unsigned)atoi(argv[++i]);
		else if (!strcmp(argv[i], "--point") && i + 1 < argc)
			only = argv[++i];
		else if (!strcmp(argv[i], "--verbose"))
			verbose = true;
		else if (!strcmp(argv[i], "--via") && i + 1 < argc)
			via = argv[++i];
		else if (!strcmp(argv[i], "--times") && i + 1 < argc)
			times = (unsigned)atoi(argv[++i]);
		else if (!strcmp(argv[i], "--part") && i + 1 < argc &&
			 sscanf(argv[i + 1], "%u/%u", &part, &parts) == 2 && part < parts)
			i++;
		else if (!strcmp(argv[i], "--list"))
			list = true;
		else
			give_up("usage: kill [--hits N] [--point NAME [--via NAME]] [--part I/N] [--times N] [--verbose] | --list");
	}
	if (getenv("SLOW") && atoi(getenv("SLOW")) > 0)
		slow = (unsigned)atoi(getenv("SLOW"));
	build = getenv("SHOAL_BUILD") ? getenv("SHOAL_BUILD") : "build";
	setvbuf(stdout, NULL, _IOLBF, 0);
	strcpy(dir, "/tmp/shoal-kill.XXXXXX");
	if (!mkdtemp(dir))
		give_up("no folder");
	snprintf(socket_path, sizeof socket_path, "%s/s", dir);
	setenv("SHOAL_SOCKET", socket_path, 1);
	setenv("SHOAL_DEBUG", "nodelay", 1);
	find_work();
	for (unsigned i = 0; i < VERBS; i++)
		work[nwork++] = verbs[i].name;
	start_supervisor();
	list_points();
	for (unsigned i = 0; list && i < npoints; i++)
		printf("%s\n", point[i].name);
	if (!list)
		survey();
	if (only && via && find(only) && find(via) &&
	    find(via)->nways) { /* after a death there, whoever else passes it */
		find(only)->way[0] = (struct way){find(via)->way[0].work, find(via)};
		find(only)->nways = 1;
	}
	/* First those that are passed each time: a death brings the medic by points that nobody passed before. */
	kill_all(only, hits, true);
	while (kill_all(only, hits, false))
		;
	for (unsigned i = 0; i < npoints; i++) /* by now there are more ways */
		point[i].done &= point[i].kills > 0 || excused(point[i].name);
	kill_all(only, hits, false);
	stop_supervisor();
	snprintf(cmd, sizeof cmd, "rm -r %s", dir);
	if (system(cmd) != 0)
		printf("cannot remove %s\n", dir);
	if (list)
		return 0;
	report(began, only);
	for (unsigned i = 0; i < npoints; i++)
		passed += point[i].kills && !point[i].failed;
	printf("tests: %u passed, %u failed\n", passed, failures);
	return failures != 0;
}
