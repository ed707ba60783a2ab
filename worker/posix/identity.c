/*
 * identity.c - what POSIX and Linux keep for a process and what a worker must not keep of a task: users and groups,
 * capabilities, priority, affinity, limits, root folder, namespaces, session, and the switches of prctl.
 *
 * A worker runs goroutines of all tasks, so a change by one would be seen by the others. A call that changes nothing
 * succeeds. A pinned goroutine has the worker to itself: the call is made, and pin_keep() has the worker replaced
 * before any other goroutine runs in it. Everybody else gets EPERM, and the task's stderr a line, once for each call.
 *
 * A call that names another process (a program that the task has started) goes to the kernel. One that names another
 * worker, or a group of processes with all workers in it, is always refused.
 *
 * OWNER  the goroutine; the state is the kernel's
 * LOCK   none: task_own.refused changes by atomic operations
 * DEATH  the changed process is gone; a pinned goroutine that was parked in it is lost with it (pin.c)
 */
#include "worker/posix/identity.h"
#include "worker/posix/posix.h"
#include "worker/posix/thread.h"

#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <ulimit.h>

#define IDENTITY_NAME(name) #name,
static const char *const names[] = {IDENTITY_CALLS(IDENTITY_NAME)};
_Static_assert(IDENTITY_COUNT <= 64, "one bit of task_own.refused for each call");

/* ---- may it? ---- */

static void refuse_call(struct g *g, enum identity_call call, const char *why)
{
	uint64_t bit = 1ull << call;
	char line[200];

	errno = EPERM;
	if (atomic_fetch_or(&task_own(g->task)->refused, bit) & bit)
		return;
	KILL_POINT("identity.refused");
	sh_format(line, sizeof line, "shoal: %s is refused: %s\n", names[call], why);
	output_append(1, line, strlen(line));
	errno = EPERM;
}

bool sh_identity_may(enum identity_call call)
{
	struct g *g = on_g();

	if (!g)
		return true;
	if (g->locked) {
		pin_keep(true);
		return true;
	}
	refuse_call(g, call,
		    "it would change a worker that other tasks use as well; pin the goroutine first (shoal_pin)");
	return false;
}

bool sh_identity_never(enum identity_call call, const char *why)
{
	struct g *g = on_g();

	if (!g)
		return true;
	refuse_call(g, call, why);
	return false;
}

enum whose sh_identity_whose(pid_t pid)
{
	struct g *g = on_g();

	if (pid == 0 || pid == getpid() || (g && pid == thread_number(g)))
		return THIS_WORKER;
	for (unsigned i = 0; i < SH_SEATS; i++)
		if (atomic_load_explicit(&sh_root->seat[i].pid, memory_order_relaxed) == pid)
			return ANOTHER_WORKER;
	if (pid == atomic_load(&sh_root->supervisor) || pid == atomic_load(&sh_root->zygote) ||
	    pid == atomic_load(&sh_root->standby))
		return ANOTHER_WORKER;
	return NO_WORKER;
}

pid_t sh_identity_pid(pid_t pid)
{
	struct g *g = on_g();

	return g && pid == thread_number(g) ? 0 : pid;
}

/* ---- users and groups ---- */

#define KEEP ((uid_t)-1)

struct ids {
	uid_t real, effective, saved;
};

static struct ids user_ids(void)
{
	struct ids i;

	syscall(SYS_getresuid, &i.real, &i.effective, &i.saved);
	return i;
}

static struct ids group_ids(void)
{
	struct ids i;

	syscall(SYS_getresgid, &i.real, &i.effective, &i.saved);
	return i;
}

static bool keeps_ids(struct ids i, uid_t real, uid_t effective, uid_t saved)
{
	return (real == KEEP || real == i.real) && (effective == KEEP || effective == i.effective) &&
	       (saved == KEEP || saved == i.saved);
}

/* setreuid sets the saved one as well, to the effective one. */
static bool keeps_both(struct ids i, uid_t real, uid_t effective)
{
	return keeps_ids(i, real, effective, real == KEEP && effective == KEEP ? KEEP : i.effective);
}

int setuid(uid_t u)
{
	return CHANGE(setuid, keeps_ids(user_ids(), u, u, u), SYS_setuid, u);
}

int seteuid(uid_t u)
{
	return CHANGE(seteuid, u == geteuid(), SYS_setresuid, KEEP, u, KEEP);
}

int setreuid(uid_t r, uid_t e)
{
	return CHANGE(setreuid, keeps_both(user_ids(), r, e), SYS_setreuid, r, e);
}

int setresuid(uid_t r, uid_t e, uid_t s)
{
	return CHANGE(setresuid, keeps_ids(user_ids(), r, e, s), SYS_setresuid, r, e, s);
}

int setgid(gid_t g)
{
	return CHANGE(setgid, keeps_ids(group_ids(), g, g, g), SYS_setgid, g);
}

int setegid(gid_t g)
{
	return CHANGE(setegid, g == getegid(), SYS_setresgid, KEEP, g, KEEP);
}

int setregid(gid_t r, gid_t e)
{
	return CHANGE(setregid, keeps_both(group_ids(), r, e), SYS_setregid, r, e);
}

int setresgid(gid_t r, gid_t e, gid_t s)
{
	return CHANGE(setresgid, keeps_ids(group_ids(), r, e, s), SYS_setresgid, r, e, s);
}

int setfsuid(uid_t u)
{
	int now = (int)syscall(SYS_setfsuid, KEEP);

	return u != (uid_t)now && u != KEEP && sh_identity_may(IDENTITY_setfsuid) ? (int)syscall(SYS_setfsuid, u) : now;
}

int setfsgid(gid_t g)
{
	int now = (int)syscall(SYS_setfsgid, KEEP);

	return g != (gid_t)now && g != KEEP && sh_identity_may(IDENTITY_setfsgid) ? (int)syscall(SYS_setfsgid, g) : now;
}

static bool keeps_groups(size_t n, const gid_t *list)
{
	int have = getgroups(0, NULL);
	gid_t *now;
	bool same;

	if (have < 0 || (size_t)have != n)
		return false;
	if (n == 0)
		return true;
	now = malloc(n * sizeof *now);
	same = now && getgroups(have, now) == have && memcmp(now, list, n * sizeof *now) == 0;
	free(now);
	return same;
}

int setgroups(size_t n, const gid_t *list)
{
	return CHANGE(setgroups, keeps_groups(n, list), SYS_setgroups, n, list);
}

int initgroups(const char *user, gid_t group)
{
	int n = 0, r;
	gid_t *list;

	getgrouplist(user, group, NULL, &n);
	list = calloc((size_t)n + 1, sizeof *list);
	if (!list)
		return -1;
	r = getgrouplist(user, group, list, &n);
	if (r >= 0)
		r = CHANGE(initgroups, keeps_groups((size_t)n, list), SYS_setgroups, n, list);
	free(list);
	return r < 0 ? -1 : 0;
}

/* ---- capabilities ---- */

typedef struct __user_cap_header_struct cap_header;
typedef struct __user_cap_data_struct cap_data;

static bool keeps_capabilities(const cap_header *h, const cap_data *want)
{
	struct __user_cap_header_struct mine = *h;
	struct __user_cap_data_struct now[_LINUX_CAPABILITY_U32S_3] = {0};
	size_t n = h->version == _LINUX_CAPABILITY_VERSION_1 ? _LINUX_CAPABILITY_U32S_1 : _LINUX_CAPABILITY_U32S_3;

	mine.pid = 0;
	return syscall(SYS_capget, &mine, now) == 0 && memcmp(now, want, n * sizeof *now) == 0;
}

int capset(cap_header *, const cap_data *);
int capset(cap_header *h, const cap_data *data)
{
	cap_header mine;

	if (!on_g())
		return (int)syscall(SYS_capset, h, data);
	mine = *h;
	mine.pid = sh_identity_pid(h->pid);
	return CHANGE_OF(capset, h->pid, data && keeps_capabilities(h, data), SYS_capset, &mine, data);
}

/* ---- priority, scheduling, processors ---- */

/* The kernel counts from 40 to 1, so that -1 means a failure. */
static int priority_of(int which, id_t who)
{
	long r = syscall(SYS_getpriority, which, who);

	return r < 0 ? -1 : 20 - (int)r;
}

int getpriority(__priority_which_t which, id_t who)
{
	return priority_of((int)which, which == PRIO_PROCESS ? (id_t)sh_identity_pid((pid_t)who) : who);
}

int setpriority(__priority_which_t which, id_t who, int prio)
{
	pid_t pid = (pid_t)who;

	if (on_g() && (which == PRIO_USER || (which == PRIO_PGRP && (who == 0 || pid == getpgrp())))) {
		sh_identity_never(IDENTITY_setpriority, ALL_WORKERS);
		return -1;
	}
	if (which != PRIO_PROCESS)
		return (int)syscall(SYS_setpriority, which, who, prio);
	return CHANGE_OF(setpriority, pid, prio == priority_of(PRIO_PROCESS, 0), SYS_setpriority, which,
			 sh_identity_pid(pid), prio);
}

int nice(int by)
{
	int now = priority_of(PRIO_PROCESS, 0), want = now + by;

	want = want > 19 ? 19 : want < -20 ? -20 : want;
	if (CHANGE(nice, want == now, SYS_setpriority, PRIO_PROCESS, 0, want) < 0) {
		errno = EPERM;
		return -1;
	}
	return priority_of(PRIO_PROCESS, 0);
}

static bool keeps_policy(int policy, const struct sched_param *p)
{
	struct sched_param now;

	return syscall(SYS_sched_getscheduler, 0) == policy && syscall(SYS_sched_getparam, 0, &now) == 0 && p &&
	       now.sched_priority == p->sched_priority;
}

int sched_setscheduler(pid_t pid, int policy, const struct sched_param *p)
{
	return CHANGE_OF(sched_setscheduler, pid, keeps_policy(policy, p), SYS_sched_setscheduler, sh_identity_pid(pid),
			 policy, p);
}

int sched_setparam(pid_t pid, const struct sched_param *p)
{
	return CHANGE_OF(sched_setparam, pid, keeps_policy((int)syscall(SYS_sched_getscheduler, 0), p),
			 SYS_sched_setparam, sh_identity_pid(pid), p);
}

int sched_getscheduler(pid_t pid)
{
	return (int)syscall(SYS_sched_getscheduler, sh_identity_pid(pid));
}

int sched_getparam(pid_t pid, struct sched_param *p)
{
	return (int)syscall(SYS_sched_getparam, sh_identity_pid(pid), p);
}

int sched_rr_get_interval(pid_t pid, struct timespec *t)
{
	return (int)syscall(SYS_sched_rr_get_interval, sh_identity_pid(pid), t);
}

int sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set)
{
	long n = syscall(SYS_sched_getaffinity, sh_identity_pid(pid), size < INT32_MAX ? size : INT32_MAX, set);

	if (n < 0)
		return -1;
	memset((char *)set + n, 0, size - (size_t)n);
	return 0;
}

/* The set without processors that the machine does not have is what there is. */
static bool keeps_processors(size_t size, const cpu_set_t *want)
{
	unsigned char now[1024] = {0};
	long n = syscall(SYS_sched_getaffinity, 0, sizeof now, now);
	long cpus = sysconf(_SC_NPROCESSORS_CONF);

	for (long i = 0; n > 0 && i < cpus && i < n * 8; i++) {
		bool asked = (size_t)i / 8 < size && ((const unsigned char *)want)[i / 8] >> i % 8 & 1;

		if (asked != (now[i / 8] >> i % 8 & 1))
			return false;
	}
	return n > 0;
}

int sched_setaffinity(pid_t pid, size_t size, const cpu_set_t *set)
{
	return CHANGE_OF(sched_setaffinity, pid, keeps_processors(size, set), SYS_sched_setaffinity,
			 sh_identity_pid(pid), size, set);
}

/* ---- limits ---- */

static int limit(enum identity_call call, int which, const struct rlimit *new, struct rlimit *old)
{
	struct rlimit now;

	if (syscall(SYS_prlimit64, 0, which, NULL, &now) < 0)
		return -1;
	if (new && (new->rlim_cur != now.rlim_cur || new->rlim_max != now.rlim_max)) {
		if (new->rlim_cur > new->rlim_max) {
			errno = EINVAL;
			return -1;
		}
		/* shm/offspring.h: the mark of the programs that the task starts */
		if (which == RLIMIT_LOCKS ? !sh_identity_never(call, "RLIMIT_LOCKS is used by the runtime")
					  : !sh_identity_may(call))
			return -1;
		if (syscall(SYS_prlimit64, 0, which, new, NULL) < 0)
			return -1;
	}
	if (old)
		*old = now;
	return 0;
}

int setrlimit(__rlimit_resource_t which, const struct rlimit *new)
{
	if (!on_g())
		return (int)syscall(SYS_prlimit64, 0, which, new, NULL);
	return limit(IDENTITY_setrlimit, (int)which, new, NULL);
}

int setrlimit64(__rlimit_resource_t which, const struct rlimit64 *new)
{
	return setrlimit(which, (const struct rlimit *)new);
}

int prlimit(pid_t pid, enum __rlimit_resource which, const struct rlimit *new, struct rlimit *old)
{
	if (!on_g() || sh_identity_whose(pid) == NO_WORKER || (!new &&sh_identity_whose(pid) == ANOTHER_WORKER))
		return (int)syscall(SYS_prlimit64, pid, which, new, old);
	if (sh_identity_whose(pid) == THIS_WORKER)
		return limit(IDENTITY_prlimit, (int)which, new, old);
	sh_identity_never(IDENTITY_prlimit, ALL_WORKERS);
	return -1;
}

int prlimit64(pid_t pid, enum __rlimit_resource which, const struct rlimit64 *new, struct rlimit64 *old)
{
	return prlimit(pid, which, (const struct rlimit *)new, (struct rlimit *)old);
}

#define BLOCK 512 /* ulimit counts in these */

long ulimit(int what, ...)
{
	struct rlimit size;
	va_list ap;
	long blocks;

	if (what == UL_GETFSIZE)
		return getrlimit(RLIMIT_FSIZE, &size) < 0 ? -1
		       : size.rlim_cur == RLIM_INFINITY	  ? LONG_MAX
							  : (long)(size.rlim_cur / BLOCK);
	if (what == __UL_GETOPENMAX)
		return sysconf(_SC_OPEN_MAX);
	if (what != UL_SETFSIZE) {
		errno = EINVAL;
		return -1;
	}
	va_start(ap, what);
	blocks = va_arg(ap, long);
	va_end(ap);
	size.rlim_cur = size.rlim_max =
		blocks < 0 || blocks > LONG_MAX / BLOCK ? RLIM_INFINITY : (rlim_t)blocks * BLOCK;
	if (on_g() ? limit(IDENTITY_ulimit, RLIMIT_FSIZE, &size, NULL) < 0
		   : syscall(SYS_prlimit64, 0, RLIMIT_FSIZE, &size, NULL) < 0)
		return -1;
	return blocks;
}

/* ---- the switches of prctl ---- */

/* Options that set one number, and those that read it: as the result, or through a pointer. */
static const struct {
	int set, get;
	bool pointer;
} pairs[] = {
	{PR_SET_PDEATHSIG, PR_GET_PDEATHSIG, true},
	{PR_SET_DUMPABLE, PR_GET_DUMPABLE, false},
	{PR_SET_KEEPCAPS, PR_GET_KEEPCAPS, false},
	{PR_SET_TIMERSLACK, PR_GET_TIMERSLACK, false},
	{PR_SET_SECUREBITS, PR_GET_SECUREBITS, false},
	{PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER, true},
	{PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS, false},
	{PR_SET_THP_DISABLE, PR_GET_THP_DISABLE, false},
	{PR_SET_TSC, PR_GET_TSC, true},
	{PR_SET_IO_FLUSHER, PR_GET_IO_FLUSHER, false},
};

static bool only_reads(int option, long arg)
{
	switch (option) {
	case PR_CAPBSET_READ:
	case PR_MCE_KILL_GET:
	case PR_GET_TID_ADDRESS:
	case PR_GET_SPECULATION_CTRL:
	case PR_GET_SECCOMP:
	case PR_GET_UNALIGN:
	case PR_GET_FPEMU:
	case PR_GET_FPEXC:
	case PR_GET_TIMING:
	case PR_GET_ENDIAN:
	case PR_SET_VMA: /* names a mapping */ return true;
	case PR_CAP_AMBIENT: return arg == PR_CAP_AMBIENT_IS_SET;
	default: break;
	}
	for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
		if (option == pairs[i].get)
			return true;
	return false;
}

static bool keeps_switch(int option, long arg)
{
	for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
		int number = 0;

		if (option != pairs[i].set)
			continue;
		if (pairs[i].pointer)
			return syscall(SYS_prctl, pairs[i].get, &number, 0, 0, 0) == 0 && number == arg;
		return syscall(SYS_prctl, pairs[i].get, 0, 0, 0, 0) == arg;
	}
	return false;
}

/* The name of a thread is the goroutine's. */
static int thread_name(int option, char *text)
{
	char name[16];
	int err;

	if (option == PR_GET_NAME) {
		err = pthread_getname_np(pthread_self(), text, sizeof name);
	} else {
		snprintf(name, sizeof name, "%s", text);
		err = pthread_setname_np(pthread_self(), name);
	}
	if (!err)
		return 0;
	errno = err;
	return -1;
}

int prctl(int option, ...)
{
	long a[4];
	va_list ap;

	va_start(ap, option);
	for (int i = 0; i < 4; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	if (on_g() && (option == PR_SET_NAME || option == PR_GET_NAME))
		return thread_name(option, (char *)a[0]);
	if (only_reads(option, a[0]))
		return (int)syscall(SYS_prctl, option, a[0], a[1], a[2], a[3]);
	return CHANGE(prctl, keeps_switch(option, a[0]), SYS_prctl, option, a[0], a[1], a[2], a[3]);
}
