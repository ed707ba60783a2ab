/*
 * books.c - T1 and T8: many short tasks while workers are killed, and what is left of it all.
 *
 * A task notes its name when it begins and prints it as its last word. With one attempt it ends well
 * (0) or is lost (137), once; with many it ends well. What was accepted and has no end is lost.
 */
#include "tests/faults/faults.h"
#include "core/sched/m.h"
#include "shm/segment.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define CLIENTS 4
#define BY_COMMAND 100 /* of this many tasks two are submitted by the command line */

static struct tally {
	_Atomic uint64_t attempted, acknowledged, ended, away; /* lost with their worker, and reported as lost */
	_Atomic uint64_t silent, doubled, odd; /* ended well without their word; with it twice; in any other way */
	_Atomic int stop;
} * all;

static unsigned words(const char *name)
{
	unsigned n = 0;

	for (const char *at = text; (at = strstr(at, name)); at += strlen(name))
		n++;
	return n;
}

/* By the command line: an exit code, and the output in text. False: not accepted. */
static bool by_command(const char *name, bool once, int *code)
{
	long id;

	if (sh("exec timeout 60 build/shoal submit --attempts %d build/tests/modules/storm/task.so '%s' %s 2>/dev/null",
	       once ? 1 : 10000, name, once ? "once" : ""))
		return false;
	id = atol(text);
	atomic_fetch_add(&all->acknowledged, 1);
	*code = sh("timeout 120 build/shoal wait %ld 2>&1", id);
	if (*code && *code != 137)
		note("task %ld %s: exit code %d: %.200s", id, name, *code, text);
	if (sh("timeout 60 build/shoal logs %ld 2>&1", id))
		note("no log of task %ld: %.200s", id, text);
	return true;
}

static int code_of(json_t *waited)
{
	json_t *task = json_array_get(json_object_get(waited, "tasks"), 0);
	const char *status = json_string_value(json_object_get(task, "status"));

	if (status && strcmp(status, "done") == 0)
		return (int)json_integer_value(json_object_get(task, "exit_code"));
	if (status && strcmp(status, "lost") == 0)
		return 137;
	note("an end that nobody expected: %.300s", text);
	return -1;
}

/* The same in three lines over a connection: a hundred times as many in the same time. */
static bool by_line(int s, const char *name, bool once, int *code)
{
	static char module[4096];
	int fds[2];
	long id;
	ssize_t n;
	json_t *a;

	if (!*module && !realpath("build/tests/modules/storm/task.so", module))
		exit(2);
	a = ask(s, fds, "{\"verb\":\"submit\",\"module\":\"%s\",\"args\":[\"storm_task\",\"%s\"%s],\"attempts\":%d}\n",
		module, name, once ? ",\"once\"" : "", once ? 1 : 10000);
	id = (long)json_integer_value(json_object_get(a, "id"));
	json_decref(a);
	if (id <= 0)
		return false;
	atomic_fetch_add(&all->acknowledged, 1);
	a = ask(s, fds, "{\"verb\":\"wait\",\"ids\":[%ld]}\n", id);
	*code = code_of(a);
	json_decref(a);
	json_decref(ask(s, fds, "{\"verb\":\"logs\",\"id\":%ld}\n", id));
	n = fds[0] >= 0 ? read(fds[0], text, sizeof text - 1) : -1;
	if (n < 0)
		note("no log of task %ld", id);
	text[n > 0 ? n : 0] = 0;
	for (int i = 0; i < 2; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	return true;
}

/* One task after the other: submit, wait, read what it wrote. */
static void one(int s, unsigned client, unsigned i)
{
	bool once = i % 2;
	char name[32];
	unsigned said;
	int code = -1;

	snprintf(name, sizeof name, "<%u.%u>", client, i);
	atomic_fetch_add(&all->attempted, 1);
	if (!(i % BY_COMMAND < 2 ? by_command(name, once, &code) : by_line(s, name, once, &code)))
		return;
	if (code == 0 || (code == 137 && once)) {
		atomic_fetch_add(&all->ended, 1);
	} else {
		atomic_fetch_add(&all->odd, 1);
		note("%s, %s: exit code %d: %.200s", name, once ? "one attempt" : "many attempts", code, text);
	}
	if (code == 137)
		atomic_fetch_add(&all->away, 1);
	said = words(name);
	if (code == 0 && !said)
		atomic_fetch_add(&all->silent, 1);
	if (said > 1)
		atomic_fetch_add(&all->doubled, once ? 1000000 : 1);
}

static _Noreturn void client(unsigned me, unsigned tasks)
{
	int s = ask_open();

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (unsigned i = 0; i < tasks && !atomic_load(&all->stop); i++)
		one(s, me, i);
	_exit(0);
}

unsigned kill_next(unsigned n)
{
	for (unsigned k = 0; k < WORKERS_MAX; k++) {
		unsigned seat = 1 + (n + k) % (WORKERS_MAX - 1);
		struct sh_seat *s = &sh_root->seat[seat];
		int pid = atomic_load(&s->pid);

		/* A victim must be alive: each kill is a death. */
		if (atomic_load(&s->state) != SEAT_LIVE || pid <= 1 || sh_seat_dead(seat) ||
		    (atomic_load(&s->liveness) & 0x3fffffff) != (uint32_t)pid)
			continue;
		kill(pid, SIGKILL);
		return seat;
	}
	return n;
}

/* ---- resources: they are counted when they no longer change ---- */

static int own_fds(void)
{
	int n = 0;

	for (unsigned i = 1; i < WORKERS_MAX; i++) {
		n += atomic_load(&sh_root->seat[i].wake_fd) >= 0; /* stays with the seat */
		for (unsigned k = 0; k < 8 && atomic_load(&sh_root->seat[i].state) == SEAT_LIVE; k++)
			n += sh_root->seat[i].own_fds[k] >= 0;
	}
	return n;
}

/* Open descriptors in the table that all workers share, without those of loops and seats. */
static long count_fds(void)
{
	char path[64];
	long n = 0;
	DIR *d;

	snprintf(path, sizeof path, "/proc/%d/fd", (int)atomic_load(&sh_root->zygote));
	d = opendir(path);
	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n - own_fds();
}

static long count_workers(void)
{
	long n = 0;

	for (unsigned i = 1; i < WORKERS_MAX; i++)
		n += atomic_load(&sh_root->seat[i].state) == SEAT_LIVE;
	return n;
}

/* Of this runtime and alive, without its workers. */
static long count_processes(void)
{
	sh("grep -lsaF -- '%s/s' /proc/[0-9]*/cmdline | while read -r f; do grep -qs ') Z' ${f%%cmdline}stat || echo x; done | wc -l",
	   dir);
	return atol(text) - count_workers();
}

static long memory_used(void)
{
	return figure("stats", "memory_used");
}

static long goroutines(void)
{
	return figure("stats", "goroutines");
}

static const struct kept {
	const char *what;
	long (*count)(void);
} kept[] = {{"bytes used by tasks, more than before", memory_used},
	    {"descriptors, more than before", count_fds},
	    {"processes besides workers, more than before", count_processes},
	    {"goroutines, more than before", goroutines}};
#define KEPT (sizeof kept / sizeof *kept)

static long before[KEPT];

void left_begin(void)
{
	for (unsigned i = 0; i < KEPT; i++)
		before[i] = kept[i].count();
}

void left_rows(const char *id, const char *after)
{
	for (unsigned i = 0; i < KEPT; i++) {
		char what[120];
		long is = 0;

		for (int k = 0; k < 1000 && (is = kept[i].count()) != before[i];
		     k++) /* strays are looked for ten seconds apart: sweep.c */
			nap_us(30000);
		snprintf(what, sizeof what, "after %s: %s", after, kept[i].what);
		row_number(id, what, (double)(is - before[i]), 0, "", is > before[i]);
	}
}

void part_books(void)
{
	unsigned tasks = (quick ? 60 : 12500) * effort, alive = 0, seat = 0;
	uint64_t kills = 0, most = (quick ? 100ul : 5000ul) * effort;
	int64_t until = getenv("FAULTS_SECONDS") ? now_ns() + atol(getenv("FAULTS_SECONDS")) * 1000000000l : INT64_MAX;
	char what[80];

	all = mmap(NULL, sizeof *all, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	runtime_start("nodelay", "--procs 2 --spare 2");
	if (sh("timeout 30 build/shoal run build/tests/modules/storm/task.so warm 2>&1"))
		failed("storm_task: %.200s", text);
	nap_us(200000);
	left_begin();
	for (; alive < CLIENTS; alive++)
		if (fork() == 0)
			client(alive, tasks);
	while (alive) {
		if (now_ns() > until)
			atomic_store(&all->stop, 1); /* tasks that were begun run to their end, and are counted */
		while (alive && waitpid(-1, NULL, WNOHANG) > 0)
			alive--;
		/* Spreads the kills over the tasks. */
		if (kills < most && kills * CLIENTS * tasks <= atomic_load(&all->attempted) * most) {
			seat = kill_next(seat);
			kills++;
		}
		nap_us(500);
	}
	for (; kills < most && !atomic_load(&all->stop); kills++) { /* the remaining kills, without tasks */
		seat = kill_next(seat);
		nap_us(2000);
	}
	snprintf(what, sizeof what, "of %lu tasks accepted, %lu kills: without a recorded end",
		 (unsigned long)atomic_load(&all->acknowledged), (unsigned long)kills);
	row_number("T1", "submissions that were not accepted", (double)(all->attempted - all->acknowledged), 0, "",
		   true);
	row_number("T1", what, (double)(all->acknowledged - all->ended), 0, "", true);
	row_number("T1", "ended well without their word", (double)all->silent, 0, "", true);
	row_number("T1", "one attempt, and their word twice", (double)(all->doubled / 1000000), 0, "", true);
	row_number("T1", "many attempts, and their word twice: at most the kills", (double)(all->doubled % 1000000),
		   (double)kills, "", true);
	row_number("T1", "one attempt, lost with their worker and told so: at most the kills", (double)all->away,
		   (double)kills, "", true);
	snprintf(what, sizeof what, "%lu kills", (unsigned long)kills);
	left_rows("T8", what);
	runtime_stop();
}
