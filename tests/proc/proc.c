/* proc.c - functions that the tests of real processes share. See proc.h. */
#include "tests/proc/proc.h"
#include "tests/outside/outside.h"

#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>

char dir[64], text[1u << 20];

int sh(const char *fmt, ...)
{
	va_list ap;
	int code;

	va_start(ap, fmt);
	code = outside_sh(text, sizeof text, fmt, ap);
	va_end(ap);
	cr_assert_neq(code, -1);
	return code;
}

void make_dir(void)
{
	char socket[80];

	strcpy(dir, "/tmp/shoal-proc.XXXXXX");
	cr_assert_not_null(mkdtemp(dir));
	snprintf(socket, sizeof socket, "%s/s", dir);
	setenv("SHOAL_SOCKET", socket, 1);
}

void start_options(const char *options)
{
	make_dir();
	cr_assert_eq(sh("build/shoal start %s 2>&1", options), 0, "%s", text);
}

void start(void)
{
	start_options("--procs 2");
}

void start_nodelay(void)
{
	setenv("SHOAL_DEBUG", "nodelay", 1);
	start();
	unsetenv("SHOAL_DEBUG");
}

void stop(void)
{
	cr_expect_eq(sh("build/shoal check 2>&1"), 0, "%s", text);
	cr_expect_eq(sh("build/shoal stop --now 2>&1"), 0, "%s", text);
	sh("rm -rf %s", dir);
}

/* ---- waiting ---- */

double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

void pass_ms(unsigned ms)
{
	usleep(ms * 1000);
}

void until(const char *fmt, ...)
{
	char command[4096];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(command, sizeof command, fmt, ap);
	va_end(ap);
	WAIT_FOR(sh("%s", command) == 0);
}

/* ---- JSON ---- */

static json_t *keep_json(json_t *next)
{
	static json_t *last;

	json_decref(last);
	return last = next;
}

json_t *see(const char *fmt, ...)
{
	char verb[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(verb, sizeof verb, fmt, ap);
	va_end(ap);
	return keep_json(sh("build/shoal %s --json 2>/dev/null", verb) == 0
				 ? json_loads(text, JSON_REJECT_DUPLICATES, NULL)
				 : NULL);
}

json_t *parse_text(void)
{
	json_t *all = keep_json(json_loads(text, JSON_REJECT_DUPLICATES, NULL));

	cr_assert_not_null(all, "not JSON: %.2000s", text);
	return all;
}

bool is_true(json_t *o, const char *key)
{
	return json_is_true(json_object_get(o, key));
}

bool is_text(json_t *o, const char *key, const char *want)
{
	const char *is = json_string_value(json_object_get(o, key));

	return is && !strcmp(is, want);
}

long number_in(const char *verb, const char *key)
{
	json_t *n = json_object_get(see("%s", verb), key);

	return json_is_number(n) ? (long)json_number_value(n) : -1;
}

long sum_in(const char *verb, const char *list, const char *key)
{
	json_t *all = json_object_get(see("%s", verb), list);
	long sum = 0;

	for (size_t i = 0; i < json_array_size(all); i++)
		sum += (long)json_integer_value(json_object_get(json_array_get(all, i), key));
	return sum;
}

unsigned count_in(const char *verb, const char *list, const char *key, const char *value)
{
	json_t *all = json_object_get(see("%s", verb), list);
	unsigned n = 0;

	for (size_t i = 0; i < json_array_size(all); i++) {
		const char *v = json_string_value(json_object_get(json_array_get(all, i), key));

		n += !value || (v && !strcmp(v, value));
	}
	return n;
}

int pid_of(const char *whom)
{
	long pid = number_in("info", whom);

	return pid > 1 ? (int)pid : 0;
}

unsigned worker_pids(int *pid, unsigned most)
{
	json_t *all = json_object_get(see("workers"), "workers");
	unsigned n = 0;

	for (size_t i = 0; i < json_array_size(all) && n < most; i++) {
		pid[n] = (int)json_integer_value(json_object_get(json_array_get(all, i), "pid"));
		n += pid[n] > 1;
	}
	return n;
}

bool kill_worker(unsigned which)
{
	int pid[128];
	unsigned n = worker_pids(pid, 128);

	return n && kill(pid[which % n], SIGKILL) == 0;
}

bool gone(int pid)
{
	return sh("sed 's/.*) //' /proc/%d/stat 2>/dev/null | grep -q '^[^ZX]'", pid) != 0;
}

unsigned with_status(const char *status)
{
	return count_in("ps", "goroutines", "status", status);
}

unsigned waiting_for(const char *reason)
{
	return count_in("ps", "goroutines", "wait_reason", reason);
}

bool all_parked(long goroutines)
{
	const char *line, *at;
	int procs, idle;

	if (number_in("stats", "goroutines") != goroutines)
		return false;
	line = json_string_value(json_object_get(see("sched"), "sched"));
	at = line ? strstr(line, "gomaxprocs=") : NULL;
	return at && sscanf(at, "gomaxprocs=%d idleprocs=%d", &procs, &idle) == 2 && procs == idle;
}

int count_workers(void)
{
	json_t *all = json_object_get(see("workers"), "workers");
	int n = 0;

	for (size_t i = 0; i < json_array_size(all); i++) {
		json_t *worker = json_array_get(all, i);
		const char *status = json_string_value(json_object_get(worker, "status"));

		n += json_integer_value(json_object_get(worker, "pid")) > 1 && status &&
		     strcmp(status, "starting") != 0;
	}
	return n;
}

/* ---- traces ---- */

unsigned recorders(void)
{
	sh("cat /proc/[0-9]*/stat 2>/dev/null | grep '(shoald-trace)' | awk '{print $4}' | grep -c '^%d$'",
	   pid_of("pid"));
	return (unsigned)atoi(text);
}

void trace_start(double seconds, const char *name)
{
	sh("rm -f %s/%s.code; (timeout 60 build/shoal trace --seconds %.1f -o %s/%s; echo $? >%s/%s.code) >/dev/null 2>&1 &",
	   dir, name, seconds, dir, name, dir, name);
	/* Its only sleep is between two rounds over the rings, so it has begun. */
	WAIT_FOR(sh("cat /proc/[0-9]*/stat 2>/dev/null | grep -q '(shoald-trace) S %d '", pid_of("pid")) == 0);
}

/* ---- a thread that kills workers: it has a buffer of its own, and asserts nothing ---- */

static pthread_t killer;
static struct {
	unsigned least_ms, most_ms, most;
	atomic_uint kills;
	atomic_bool over;
} killing;

static __attribute__((format(printf, 3, 4))) int quiet_sh(char *out, size_t room, const char *fmt, ...)
{
	va_list ap;
	int code;

	va_start(ap, fmt);
	code = outside_sh(out, room, fmt, ap);
	va_end(ap);
	return code;
}

static bool kill_one(unsigned which)
{
	static char out[1 << 16];
	json_t *all, *list;
	int pid = 0;

	if (quiet_sh(out, sizeof out, "timeout 20 build/shoal workers --json 2>/dev/null") != 0)
		return false;
	all = json_loads(out, 0, NULL);
	list = json_object_get(all, "workers");
	if (json_array_size(list))
		pid = (int)json_integer_value(
			json_object_get(json_array_get(list, which % json_array_size(list)), "pid"));
	json_decref(all);
	return pid > 1 && kill(pid, SIGKILL) == 0;
}

static void *kill_workers(void *arg)
{
	unsigned seed = killing.least_ms, range = killing.most_ms - killing.least_ms + 1;

	(void)arg;
	for (unsigned n = 0; !atomic_load(&killing.over) && atomic_load(&killing.kills) < killing.most; n++) {
		seed = seed * 1103515245 + 12345;
		usleep((killing.least_ms + (seed >> 8) % range) * 1000);
		atomic_fetch_add(&killing.kills, kill_one(n));
	}
	return NULL;
}

void killer_start(unsigned least_ms, unsigned most_ms, unsigned most)
{
	killing.least_ms = least_ms;
	killing.most_ms = most_ms;
	killing.most = most;
	atomic_store(&killing.kills, 0);
	atomic_store(&killing.over, false);
	cr_assert_eq(pthread_create(&killer, NULL, kill_workers, NULL), 0);
}

unsigned killer_kills(void)
{
	return atomic_load(&killing.kills);
}

unsigned killer_stop(void)
{
	atomic_store(&killing.over, true);
	pthread_join(killer, NULL);
	return killer_kills();
}
