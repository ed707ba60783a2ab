/*
 * strays_test.c - a worker may die between the call that makes a descriptor and the note of its owner. Such
 * descriptors are closed while the task continues, and no others are.
 */
#include "tests/proc/proc.h"

#include <dirent.h>
#include <sys/socket.h>
#include <sys/un.h>

static void start_kill(void)
{
	make_dir();
	sh("SHOAL_DEBUG=nodelay,sweep=200 build/kill/shoald --procs 2 --spare 2 >%s/log 2>&1 &", dir);
	until("build/shoal info 2>&1");
}

/* The next worker that passes the point dies. */
static void arm(const char *point)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	char line[4096];
	int n;

	snprintf(at.sun_path, sizeof at.sun_path, "%s/s", dir);
	cr_assert_eq(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
	n = snprintf(line, sizeof line, "{\"verb\":\"kill\",\"point\":\"%s\",\"hit\":1}\n", point);
	cr_assert_eq(write(fd, line, (size_t)n), n);
	cr_assert_gt(read(fd, line, sizeof line), 0);
	close(fd);
}

static unsigned open_in(int pid)
{
	char path[32];
	struct dirent *e;
	unsigned n = 0;
	DIR *d;

	snprintf(path, sizeof path, "/proc/%d/fd", pid);
	d = opendir(path);
	cr_assert_not_null(d, "%s", path);
	while ((e = readdir(d)))
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

/*
 * The fewest open descriptors that were seen (between two connections), without those of workers, whose number may
 * grow.
 */
static unsigned fewest(int pid, unsigned looks)
{
	unsigned least, n;
	int workers;

	do {
		workers = count_workers();
		least = ~0u;
		for (unsigned i = 0; i < looks; i++) {
			n = open_in(pid);
			least = n < least ? n : least;
			usleep(1000);
		}
	} while (workers != count_workers());
	return least - FDS_OF_A_WORKER * (unsigned)workers;
}

static int closed(void)
{
	sh("awk '/dead workers had left open/ { n += $4 } END { print n + 0 }' %s/log", dir);
	return atoi(text);
}

Test(strays, descriptors_of_a_server_that_never_idles_are_closed, .init = start_kill, .fini = stop, .timeout = TEST_S)
{
	static const char *const points[] = {"blocking.fd.made", "fd.made", "fd.close.done", "blocking.fd.made",
					     "fd.made"};
	enum { DEATHS = sizeof points / sizeof *points };
	unsigned before;
	int zygote = pid_of("zygote");

	cr_assert_gt(zygote, 1);
	cr_assert_eq(sh("build/shoal submit --attempts 100 build/tests/modules/own/strays.so %s/over 2>&1", dir), 0,
		     "%s", text);
	until("build/shoal logs 1 | grep -q ready");
	WAIT_FOR(count_workers() == number_in("info", "workers"));
	before = fewest(zygote, 300);
	for (int i = 0; i < DEATHS; i++) {
		arm(points[i]);
		WAIT_FOR(number_in("stats", "worker_deaths") == i + 1);
	}
	/* Each death left one descriptor open. All of them are closed while the server runs. */
	WAIT_FOR(closed() >= DEATHS);
	cr_expect_eq(closed(), DEATHS);
	WAIT_FOR(count_workers() == number_in("info", "workers"));
	WAIT_FOR(fewest(zygote, 30) <= before);
	sh("touch %s/over", dir);
	cr_expect_eq(sh("timeout 60 build/shoal wait 1 2>&1"), 0, "%s", text);
}
