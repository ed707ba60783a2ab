/*
 * strays_test.c - descriptors that deaths leave open between the call that made them and the note of whose they
 * are: they are closed while their task goes on, and none that is somebody's.
 */
#include "tests/proc/proc.h"

#include <dirent.h>
#include <sys/socket.h>
#include <sys/un.h>

static void start_kill(void)
{
	strcpy(dir, "/tmp/shoal-proc.XXXXXX");
	cr_assert_not_null(mkdtemp(dir));
	setenv("SHOAL_SOCKET", sh("echo %s/s", dir) == 0 ? strtok(text, "\n") : "", 1);
	sh("SHOAL_DEBUG=nodelay,sweep=200 build/kill/shoald --procs 2 --spare 2 >%s/log 2>&1 &", dir);
	for (int i = 0; i < 200 && sh("build/shoal info >/dev/null 2>&1"); i++)
		usleep(20000);
}

/* Who comes by there next dies. */
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

/* Between two connections: the fewest that were seen, without those of the workers, of which more may come. */
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

Test(strays, of_a_server_that_never_idles_are_closed, .init = start_kill, .fini = stop, .timeout = 60)
{
	static const char *const points[] = {"socket.accepted", "fd.made", "fd.close.done", "socket.accepted",
					     "fd.made"};
	unsigned before, after, left = 0;
	int zygote;
	char *at;

	cr_assert_eq(sh("build/shoal info --json"), 0);
	at = strstr(text, "\"zygote\": ");
	cr_assert_not_null(at, "%s", text);
	zygote = atoi(at + strlen("\"zygote\": "));
	cr_assert_eq(sh("build/shoal submit --attempts 100 build/tests/modules/own/strays.so %s/over 2>&1", dir), 0,
		     "%s", text);
	sh("for i in $(seq 100); do build/shoal logs 1 | grep -q ready && break; sleep 0.05; done");
	usleep(500000); /* all workers are there */
	before = fewest(zygote, 300);
	for (unsigned i = 0; i < sizeof points / sizeof *points; i++) {
		arm(points[i]);
		usleep(150000);
		after = fewest(zygote, 30);
		left = after > before && after - before > left ? after - before : left;
	}
	cr_expect_gt(left, 0, "no death has left anything open: %u, then %u", before, after);
	for (int i = 0; i < 300 && (closed() < 5 || (after = fewest(zygote, 30)) > before); i++)
		usleep(100000);
	cr_expect_leq(after, before, "%u descriptors are open, before the deaths %u", after, before);
	cr_expect_eq(closed(), 5);
	sh("touch %s/over", dir);
	cr_expect_eq(sh("timeout 40 build/shoal wait 1 2>&1"), 0, "%s", text);
	fprintf(stderr, "%u left open\n", left);
}
