/*
 * groups.c - what the kernel tells of control groups. An input is four files, with a line of three dashes between
 * them: /proc/self/cgroup, /proc/self/mountinfo, and what limits processors and memory, wherever it is looked for.
 */
#include "supervisor/daemon/limits.h"
#include "tests/fuzz/fuzz.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const struct fuzz_input fuzz_seeds[] = {
	SEED("0::/a/b\n---\n30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n---\n150000 100000\n---\n1048576\n"),
	SEED("4:memory:/a\n3:cpu,cpuacct:/a/b\n0::/\n---\n"
	     "31 23 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:5 - cgroup cgroup rw,cpu,cpuacct\n"
	     "32 23 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n---\n200000\n---\n9223372036854771712\n"),
	SEED("0::/../x\n---\n30 23 0:26 /a /sys/fs/cgroup rw - cgroup2 none rw\n---\nmax 100000\n---\nmax\n"),
	{NULL, 0}};
const uint64_t fuzz_runs = 8000;
const char *const fuzz_words[] = {"\n---\n", "/",      "..",  ":",     " - ", "cgroup", "cgroup2",
				  "cpu",     "memory", "max", "\\040", " ",   ",",	NULL};

static char root[64];

static void file(const char *name, const char *data, size_t n)
{
	char path[256];
	int fd;

	snprintf(path, sizeof path, "%s/%s", root, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, data, n) != (ssize_t)n)
		abort();
	close(fd);
}

static void remove_root(void)
{
	char command[96];

	snprintf(command, sizeof command, "rm -r %s", root);
	if (system(command))
		perror("rm");
}

static void make_root(void)
{
	static const char *const folders[] = {"proc",
					      "proc/self",
					      "sys",
					      "sys/fs",
					      "sys/fs/cgroup",
					      "sys/fs/cgroup/a",
					      "sys/fs/cgroup/a/b",
					      "sys/fs/cgroup/cpu,cpuacct",
					      "sys/fs/cgroup/cpu,cpuacct/a",
					      "sys/fs/cgroup/cpu,cpuacct/a/b",
					      "sys/fs/cgroup/memory",
					      "sys/fs/cgroup/memory/a"};
	char path[256];

	strcpy(root, access("/dev/shm", W_OK) == 0 ? "/dev/shm/shoal-fuzz.XXXXXX" : "/tmp/shoal-fuzz.XXXXXX");
	if (!mkdtemp(root))
		abort();
	atexit(remove_root);
	for (unsigned i = 0; i < sizeof folders / sizeof *folders; i++) {
		snprintf(path, sizeof path, "%s/%s", root, folders[i]);
		if (mkdir(path, 0755) < 0)
			abort();
	}
}

void fuzz_one(const uint8_t *data, size_t n)
{
	const char *at = (const char *)data, *end = at + n, *part[4] = {"", "", "", ""};
	size_t len[4] = {0};
	long cpus, memory;

	if (!*root)
		make_root();
	for (unsigned i = 0; i < 4 && at < end; i++) {
		const char *stop = memmem(at, (size_t)(end - at), "\n---\n", 5);

		part[i] = at;
		len[i] = stop ? (size_t)(stop - at) + 1 : (size_t)(end - at);
		at = stop ? stop + 5 : end;
	}
	file("proc/self/cgroup", part[0], len[0]);
	file("proc/self/mountinfo", part[1], len[1]);
	file("sys/fs/cgroup/a/b/cpu.max", part[2], len[2]);
	file("sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_quota_us", part[2], len[2]);
	file("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n", 7);
	file("sys/fs/cgroup/a/memory.max", part[3], len[3]);
	file("sys/fs/cgroup/memory/a/memory.limit_in_bytes", part[3], len[3]);
	cpus = sh_limit_cpus(root);
	memory = sh_limit_memory(root);
	if (cpus < -1 || cpus == 0 || memory < -1)
		abort();
	if (sh_cpus_within(8, cpus) < 1 || sh_cpus_within(8, cpus) > 8)
		abort();
}
