/*
 * limits_test.c - how many Ps control groups leave us, after the cases of Go's TestCgroupGOMAXPROCS, in a
 * folder of files as the kernel would have them; and in a real group where one can be made.
 */
#include "supervisor/daemon/limits.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char root[32];

/* A file below root, with the folders on the way. */
static void file(const char *name, const char *fmt, ...)
{
	char path[PATH_MAX];
	va_list ap;
	FILE *f;

	snprintf(path, sizeof path, "%s/%s", root, name);
	for (char *at = path + strlen(root) + 1; (at = strchr(at, '/')); at++) {
		*at = '\0';
		cr_assert(mkdir(path, 0755) == 0 || errno == EEXIST);
		*at = '/';
	}
	f = fopen(path, "w");
	cr_assert_not_null(f, "%s", path);
	va_start(ap, fmt);
	vfprintf(f, fmt, ap);
	va_end(ap);
	fclose(f);
}

static void begin(void)
{
	strcpy(root, "/tmp/shoal-limits.XXXXXX");
	cr_assert_not_null(mkdtemp(root));
	file("proc/self/mountinfo", "%s", "");
}

static void end(void)
{
	char command[64];

	snprintf(command, sizeof command, "rm -r %s", root);
	cr_expect_eq(system(command), 0);
}

/* Version 2, we are in the group /a/b. */
static void v2(void)
{
	file("proc/self/cgroup", "0::/a/b\n");
	file("proc/self/mountinfo", "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
				    "31 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n");
}

static unsigned procs(unsigned cpus)
{
	return sh_cpus_within(cpus, sh_limit_cpus(root));
}

#define LIMITS_TEST(name) Test(limits, name, .init = begin, .fini = end, .timeout = 20)

LIMITS_TEST(a_limit_counts)
{
	v2();
	file("sys/fs/cgroup/a/b/cpu.max", "300000 100000\n");
	cr_expect_eq(procs(8), 3);
	file("sys/fs/cgroup/a/b/cpu.max", "30000 10000\n"); /* another period */
	cr_expect_eq(procs(8), 3);
}

LIMITS_TEST(without_a_limit_there_is_none)
{
	cr_expect_eq(procs(8), 8); /* not even the file */
	v2();
	cr_expect_eq(procs(8), 8);
	file("sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
	cr_expect_eq(procs(8), 8);
	file("sys/fs/cgroup/a/b/cpu.max", "%s", "");
	cr_expect_eq(procs(8), 8);
	file("sys/fs/cgroup/a/b/cpu.max", "nonsense\n");
	cr_expect_eq(procs(8), 8);
	file("sys/fs/cgroup/a/b/cpu.max", "100000 0\n");
	cr_expect_eq(procs(8), 8);
}

LIMITS_TEST(a_limit_above_the_processors_does_not_count)
{
	v2();
	file("sys/fs/cgroup/a/b/cpu.max", "1600000 100000\n");
	cr_expect_eq(procs(8), 8);
	cr_expect_eq(procs(1), 1);
}

LIMITS_TEST(it_is_rounded_up_and_never_below_two)
{
	static const struct {
		long quota;
		unsigned procs;
	} rounds[] = {{1000, 2},   {50000, 2},	{100000, 2}, {100001, 2},
		      {200000, 2}, {200001, 3}, {250000, 3}, {300001, 4}};

	v2();
	for (unsigned i = 0; i < sizeof rounds / sizeof *rounds; i++) {
		file("sys/fs/cgroup/a/b/cpu.max", "%ld 100000\n", rounds[i].quota);
		cr_expect_eq(procs(8), rounds[i].procs, "%ld: %u", rounds[i].quota, procs(8));
	}
	cr_expect_eq(procs(1), 1); /* but one is all there is */
}

/* A limit of a parent applies to its children. */
LIMITS_TEST(the_smallest_limit_of_all_parents_counts)
{
	v2();
	file("sys/fs/cgroup/a/b/cpu.max", "600000 100000\n");
	file("sys/fs/cgroup/a/cpu.max", "300000 100000\n");
	cr_expect_eq(procs(8), 3);
	file("sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
	cr_expect_eq(procs(8), 3);
	file("sys/fs/cgroup/a/cpu.max", "max 100000\n");
	file("sys/fs/cgroup/cpu.max", "500000 100000\n"); /* in a container the mount's root has one */
	cr_expect_eq(procs(8), 5);
}

LIMITS_TEST(a_changed_file_is_noticed)
{
	v2();
	for (unsigned n = 3; n < 8; n++) {
		file("sys/fs/cgroup/a/b/cpu.max", "%u00000 100000\n", n);
		cr_expect_eq(procs(8), n);
	}
}

/* A container without a namespace of its own: our path is the host's, and the mount shows our group alone. */
LIMITS_TEST(a_mount_that_begins_below_the_root)
{
	file("proc/self/cgroup", "0::/docker/abc/job\n");
	file("proc/self/mountinfo", "31 22 0:26 /docker/other /mnt/other rw - cgroup2 cgroup2 rw\n"
				    "32 22 0:26 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
				    "33 22 0:26 /docker/ab /mnt/ab rw - cgroup2 cgroup2 rw\n");
	file("sys/fs/cgroup/cpu.max", "400000 100000\n");
	file("mnt/other/cpu.max", "200000 100000\n");
	file("mnt/ab/cpu.max", "200000 100000\n");
	cr_expect_eq(procs(8), 4);
	file("sys/fs/cgroup/job/cpu.max", "300000 100000\n");
	cr_expect_eq(procs(8), 3);
}

LIMITS_TEST(a_mount_with_a_blank_in_its_name)
{
	file("proc/self/cgroup", "0::/\n");
	file("proc/self/mountinfo", "31 22 0:26 / /my\\040groups rw - cgroup2 cgroup2 rw\n");
	file("my groups/cpu.max", "300000 100000\n");
	cr_expect_eq(procs(8), 3);
}

static void v1(const char *controllers, const char *where)
{
	file("proc/self/cgroup", "12:pids:/x\n4:memory:/m\n3:%s:/a/b\n1:name=systemd:/init\n0::/\n", controllers);
	file("proc/self/mountinfo",
	     "30 22 0:20 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n"
	     "31 30 0:21 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
	     "32 30 0:22 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
	     "33 30 0:23 / /sys/fs/cgroup/%s rw - cgroup cgroup rw,%s\n"
	     "34 30 0:24 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
	     where, controllers);
}

LIMITS_TEST(version_1)
{
	static const char *const names[][2] = {
		{"cpu,cpuacct", "cpu,cpuacct"}, {"cpuacct,cpu", "cpuacct,cpu"}, {"cpu", "cpu"}, {"cpu", "somewhere"}};

	for (unsigned i = 0; i < 4; i++) {
		char path[128];

		v1(names[i][0], names[i][1]);
		snprintf(path, sizeof path, "sys/fs/cgroup/%s/a/b/cpu.cfs_quota_us", names[i][1]);
		file(path, "250000\n");
		cr_expect_eq(procs(8), 8, "%s: without a period", names[i][1]);
		snprintf(path, sizeof path, "sys/fs/cgroup/%s/a/b/cpu.cfs_period_us", names[i][1]);
		file(path, "100000\n");
		cr_expect_eq(procs(8), 3, "%s", names[i][1]);
		snprintf(path, sizeof path, "sys/fs/cgroup/%s/a/b/cpu.cfs_quota_us", names[i][1]);
		file(path, "-1\n");
		cr_expect_eq(procs(8), 8, "%s", names[i][1]);
	}
}

/* cpuset and cpuacct are other controllers. Version 2 beside a cpu controller of version 1 has no limit of it. */
LIMITS_TEST(both_versions_of_control_groups_at_once)
{
	v1("cpuset,cpuacct", "cpuset,cpuacct");
	file("sys/fs/cgroup/cpuset,cpuacct/a/b/cpu.cfs_quota_us", "300000\n");
	file("sys/fs/cgroup/cpuset,cpuacct/a/b/cpu.cfs_period_us", "100000\n");
	file("sys/fs/cgroup/unified/cpu.max", "500000 100000\n");
	cr_expect_eq(procs(8), 5);
	v1("cpu", "cpu");
	cr_expect_eq(procs(8), 8);
	file("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "300000\n");
	file("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
	cr_expect_eq(procs(8), 3); /* of a parent */
}

LIMITS_TEST(memory_is_limited_by_the_group)
{
	v2();
	file("sys/fs/cgroup/a/b/memory.max", "max\n");
	cr_expect_eq(sh_limit_memory(root), -1);
	file("sys/fs/cgroup/a/memory.max", "1073741824\n");
	cr_expect_eq(sh_limit_memory(root), 1l << 30);
	v1("cpu", "cpu");
	cr_expect_eq(sh_limit_memory(root), -1);
	file("sys/fs/cgroup/memory/m/memory.limit_in_bytes", "536870912\n");
	cr_expect_eq(sh_limit_memory(root), 1l << 29);
}

/* Lines that are no lines, and long ones. */
LIMITS_TEST(files_with_other_content_are_no_limit)
{
	static const char *const cgroup[] = {"", "\n", "0:", "0::", "0::/a", ":::\n", "x\n0::/a/b\n", "3:cpu\n"};
	static const char *const mountinfo[] = {"",
						"\n",
						"31",
						"31 22 0:26 /",
						" - \n",
						"31 22 0:26 / /x rw - cgroup2\n",
						"31 22 0:26 / - cgroup2 cgroup2 rw\n",
						"1 2 3 4 5 6 - cgroup2\n"};
	char *many = malloc(40000);

	for (unsigned i = 0; i < sizeof cgroup / sizeof *cgroup; i++)
		for (unsigned k = 0; k < sizeof mountinfo / sizeof *mountinfo; k++) {
			file("proc/self/cgroup", "%s", cgroup[i]);
			file("proc/self/mountinfo", "%s", mountinfo[k]);
			cr_expect_eq(procs(8), 8, "%u %u", i, k);
		}
	memset(many, 'a', 39999);
	many[39999] = '\0';
	file("proc/self/cgroup", "0::/%s\n", many);
	file("proc/self/mountinfo", "31 22 0:26 /%s /x rw - cgroup2 cgroup2 rw\n", many);
	cr_expect_eq(procs(8), 8);
	free(many);
}

static bool put(const char *dir, const char *name, const char *text)
{
	char path[128];
	int fd;
	bool ok;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	if (fd >= 0)
		close(fd);
	return ok;
}

/* A process in the group sees 3, and 5 after a change. */
LIMITS_TEST(a_real_group)
{
	static const char *const mounts[] = {"/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup"};
	char dir[96];
	bool second = false;
	int status;
	pid_t pid;

	for (unsigned i = 0; i < 3; i++) {
		snprintf(dir, sizeof dir, "%s/shoal-test-%d", mounts[i], (int)getpid());
		if (mkdir(dir, 0755) < 0)
			continue;
		second = put(dir, "cpu.max", "300000 100000");
		if (second || put(dir, "cpu.cfs_quota_us", "300000"))
			break;
		rmdir(dir);
		dir[0] = '\0';
	}
	if (access(dir, F_OK) < 0)
		cr_skip_test("no group with a limit can be made here");
	pid = fork();
	if (pid == 0) {
		unsigned first;

		if (!put(dir, "cgroup.procs", "0"))
			_exit(100);
		first = sh_cpus_within(64, sh_limit_cpus(""));
		if (!(second ? put(dir, "cpu.max", "450000 100000") : put(dir, "cpu.cfs_quota_us", "450000")))
			_exit(101);
		_exit((int)(first * 10 + sh_cpus_within(64, sh_limit_cpus(""))));
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	rmdir(dir);
	cr_expect(WIFEXITED(status));
	if (WEXITSTATUS(status) == 100)
		cr_skip_test("nobody may be put into %s", dir);
	cr_expect_eq(WEXITSTATUS(status), 35);
}
