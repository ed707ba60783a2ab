/*
 * identity.c - what a task may not change about its process, unless the goroutine is pinned.
 *
 *   identity.so show             prints what a process is: users, groups, priority, limits, switches
 *   identity.so try              each change is refused with EPERM; a call that changes nothing succeeds
 *   identity.so pinned NAME      a pinned goroutine makes the change and unpins; prints what the others find
 *   identity.so ends NAME        the same, but the goroutine ends while it is pinned
 *   identity.so waits NAME FILE  a pinned goroutine makes the change, prints the pid of its worker, and waits until
 *                                there is a file; then prints what it finds
 */
#define _GNU_SOURCE
#include <shoal.h>

#include <errno.h>
#include <grp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <ulimit.h>
#include <unistd.h>

static int failed;

/* ---- what a process is ---- */

static void describe(char *text, size_t n)
{
	unsigned char cpus[128] = {0};
	struct rlimit core, size;
	uid_t u[3];
	gid_t g[3];
	struct stat st;
	int cpu = 0, groups = getgroups(0, NULL);

	getresuid(&u[0], &u[1], &u[2]);
	getresgid(&g[0], &g[1], &g[2]);
	getrlimit(RLIMIT_CORE, &core);
	getrlimit(RLIMIT_FSIZE, &size);
	sched_getaffinity(0, sizeof cpus, (cpu_set_t *)cpus);
	for (size_t i = 0; i < sizeof cpus; i++)
		cpu += __builtin_popcount(cpus[i]);
	stat("/", &st);
	snprintf(text, n,
		 "uid %u %u %u gid %u %u %u groups %d nice %d policy %d cpus %d core %ld size %ld dumpable %d slack %d "
		 "root %lu personality %x session %d",
		 u[0], u[1], u[2], g[0], g[1], g[2], groups, getpriority(PRIO_PROCESS, 0), sched_getscheduler(0), cpu,
		 (long)core.rlim_cur, (long)size.rlim_cur, prctl(PR_GET_DUMPABLE), prctl(PR_GET_TIMERSLACK),
		 (unsigned long)st.st_ino, (unsigned)personality(0xffffffff), getsid(0) == getpid());
}

/* ---- changes ---- */

static int euid(void)
{
	return seteuid(geteuid() + 1);
}

static int uid(void)
{
	return setresuid(12345, 12345, 12345);
}

static int gid(void)
{
	return setgid(getgid() + 1);
}

static int groups(void)
{
	gid_t list[] = {7, 8, 9};

	return setgroups(3, list);
}

static int nicer(void)
{
	return nice(3) == -1 ? -1 : 0;
}

static int priority(void)
{
	return setpriority(PRIO_PROCESS, (id_t)gettid(), 9);
}

static int policy(void)
{
	return sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){0});
}

static int affinity(void)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	return sched_setaffinity(0, sizeof one, &one);
}

static int core(void)
{
	return setrlimit(RLIMIT_CORE, &(struct rlimit){4096, 8192});
}

static int size(void)
{
	return ulimit(UL_SETFSIZE, 1000l) < 0 ? -1 : 0;
}

static int dumpable(void)
{
	return prctl(PR_SET_DUMPABLE, !prctl(PR_GET_DUMPABLE), 0, 0, 0);
}

static int slack(void)
{
	return prctl(PR_SET_TIMERSLACK, 123456789, 0, 0, 0);
}

static int root(void)
{
	return chroot("/usr");
}

static int persona(void)
{
	return personality(ADDR_NO_RANDOMIZE) < 0 ? -1 : 0;
}

static int session(void)
{
	return setsid() < 0 ? -1 : 0;
}

static const struct change {
	const char *name;
	int (*make)(void);
} changes[] = {
	{"euid", euid},		{"uid", uid},	    {"gid", gid},	    {"groups", groups},	  {"nice", nicer},
	{"priority", priority}, {"policy", policy}, {"affinity", affinity}, {"core", core},	  {"size", size},
	{"dumpable", dumpable}, {"slack", slack},   {"root", root},	    {"persona", persona}, {"session", session},
};

static const struct change *find(const char *name)
{
	for (size_t i = 0; i < sizeof changes / sizeof *changes; i++)
		if (!strcmp(changes[i].name, name))
			return &changes[i];
	exit(99);
}

static void must(int ok, const char *what)
{
	if (ok)
		return;
	printf("wrong: %s: %s\n", what, strerror(errno));
	failed = 1;
}

/* Calls that ask for what there is. */
static void nothing(void)
{
	unsigned char cpus[128] = {0};
	struct rlimit files;
	gid_t list[256];
	int n = getgroups(256, list);
	long bytes = sched_getaffinity(0, sizeof cpus, (cpu_set_t *)cpus);

	must(setuid(getuid()) == 0 && seteuid(geteuid()) == 0, "setuid to the same");
	must(setreuid((uid_t)-1, (uid_t)-1) == 0 && setresuid(getuid(), geteuid(), (uid_t)-1) == 0,
	     "setreuid to the same");
	must(setgid(getgid()) == 0 && setegid(getegid()) == 0, "setgid to the same");
	must(n >= 0 && setgroups((size_t)n, list) == 0, "setgroups to the same");
	must(setfsuid(geteuid()) == (int)geteuid(), "setfsuid to the same");
	errno = 0;
	must(nice(0) == getpriority(PRIO_PROCESS, 0) && errno == 0, "nice(0)");
	must(setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0)) == 0, "setpriority to the same");
	must(bytes == 0 && sched_setaffinity(0, sizeof cpus, (cpu_set_t *)cpus) == 0, "sched_setaffinity to the same");
	must(getrlimit(RLIMIT_NOFILE, &files) == 0 && setrlimit(RLIMIT_NOFILE, &files) == 0, "setrlimit to the same");
	must(prctl(PR_SET_DUMPABLE, prctl(PR_GET_DUMPABLE), 0, 0, 0) == 0, "prctl to the same");
	must(personality((unsigned)personality(0xffffffff)) >= 0, "personality to the same");
	must(unshare(0) == 0, "unshare of nothing");
}

/* The same calls by number. */
static void by_number(void)
{

	must(syscall(SYS_setuid, getuid()) == 0, "setuid to the same, by number");
	must(syscall(SYS_setpriority, PRIO_PROCESS, gettid(), getpriority(PRIO_PROCESS, 0)) == 0,
	     "setpriority to the same, by number");
	must(syscall(SYS_getpriority, PRIO_PROCESS, gettid()) == 20 - getpriority(PRIO_PROCESS, 0),
	     "getpriority, by number");
	errno = 0;
	must(syscall(SYS_setuid, getuid() + 1) == -1 && errno == EPERM, "setuid, by number");
	must(syscall(SYS_seccomp, 0, 0, NULL) == -1 && errno == EPERM, "seccomp");
	must(syscall(SYS_ioprio_set, 1, 0, 2 << 13 | 7) == -1 && errno == EPERM, "ioprio_set");
	shoal_pin();
	must(syscall(SYS_set_robust_list, NULL, 0) == -1 && errno == EPERM, "set_robust_list, also pinned");
	must(syscall(SYS_unshare, 0x400) == -1 && errno == EPERM, "unshare of descriptors, also pinned");
	shoal_unpin();
}

static void names_a_goroutine(void)
{
	char name[16] = "";

	must(prctl(PR_SET_NAME, "a long name of a thread", 0, 0, 0) == 0, "PR_SET_NAME");
	shoal_yield();
	must(prctl(PR_GET_NAME, name, 0, 0, 0) == 0 && !strcmp(name, "a long name of "), "PR_GET_NAME");
}

static int try(void)
{
	char before[400], after[400];

	describe(before, sizeof before);
	for (size_t i = 0; i < sizeof changes / sizeof *changes; i++)
		for (int twice = 0; twice < 2; twice++) {
			errno = 0;
			must(changes[i].make() == -1 && errno == EPERM, changes[i].name);
		}
	errno = 0;
	must(setpriority(PRIO_PGRP, 0, 5) == -1 && errno == EPERM, "priority of all workers");
	describe(after, sizeof after);
	must(!strcmp(before, after), "what the process is");
	nothing();
	by_number();
	names_a_goroutine();
	return failed;
}

/* ---- pinned ---- */

static void make(const struct change *c, char *text, size_t n)
{
	char before[400];

	describe(before, sizeof before);
	must(c->make() == 0, c->name);
	describe(text, n);
	must(strcmp(before, text) != 0, "the change is seen");
	shoal_sleep(1000000);
	describe(before, sizeof before);
	must(!strcmp(before, text), "the change stays while the goroutine is pinned");
}

static void change(void *arg)
{
	const char *how = ((char **)arg)[1], *name = ((char **)arg)[2];
	pid_t was = getpid();
	char text[400];

	shoal_pin();
	was = getpid();
	make(find(name), text, sizeof text);
	if (!strcmp(how, "ends"))
		return;
	if (!strcmp(how, "waits")) {
		printf("%d\n", (int)was);
		fflush(stdout);
		while (access(((char **)arg)[3], F_OK) < 0)
			shoal_sleep(5000000);
		describe(text, sizeof text);
		printf("%s\n", text);
	}
	shoal_unpin();
	must(getpid() != was, "another worker goes on");
}

static void look(void *arg)
{
	const char *first = arg;
	int64_t until = shoal_now() + 20000000;
	char text[400];

	while (shoal_now() < until) {
		describe(text, sizeof text);
		must(!strcmp(text, first), text);
		shoal_yield();
	}
}

int shoal_main(int argc, char **argv)
{
	char first[400], last[400];
	struct shoal_wg *wg = calloc(1, sizeof *wg);

	if (argc > 1 && !strcmp(argv[1], "try"))
		return try();
	describe(first, sizeof first);
	if (argc > 2) {
		for (int i = 0; i < 4; i++)
			shoal_wg_go(wg, look, first, sizeof first);
		shoal_wg_go(wg, change, argv, 4 * sizeof *argv);
		shoal_wg_wait(wg);
	}
	describe(last, sizeof last);
	must(!strcmp(first, last), "the change is gone");
	printf("%s\n", last);
	return failed;
}
