/*
 * storm_test.c - clients that submit short tasks one after the other, while workers are killed.
 *
 * A task that has attempts ends well, whatever is killed. One that has a single attempt ends well or
 * is lost (137), and says so. Its line is there if it ended well, and never twice if it had one attempt.
 *
 * SHOAL_STORM=CLIENTS:TASKS:KILLS for a long one.
 */
#include "tests/proc/proc.h"

#include <fcntl.h>
#include <sys/wait.h>

struct tally {
	unsigned done, lost, missing, doubled, odd;
	int odd_code;
};

static void count_end(struct tally *t, const char *name, bool once, int code, const char *said)
{
	size_t n = strlen(name);
	unsigned lines = 0;

	for (const char *at = said; (at = strstr(at, name)); at += n)
		lines++;
	if (code == 0)
		t->done++;
	else if (code == 137 && once)
		t->lost++;
	else
		t->odd++, t->odd_code = code;
	t->missing += code == 0 && lines == 0;
	t->doubled += once && lines > 1;
}

/* In a process of its own: no assertions. Its tally goes to the pipe. */
static void client(unsigned id, unsigned tasks, int out)
{
	struct tally t = {0};
	char cmd[256], said[4096], name[32];

	for (unsigned i = 0; i < tasks; i++) {
		bool once = i % 2;
		size_t n;
		FILE *p;
		int st;

		snprintf(name, sizeof name, "<%u.%u>", id, i);
		snprintf(cmd, sizeof cmd,
			 "exec timeout 60 build/shoal run --attempts %d build/tests/modules/storm/task.so '%s' 2>&1",
			 once ? 1 : 1000, name);
		p = popen(cmd, "r");
		n = p ? fread(said, 1, sizeof said - 1, p) : 0;
		said[n] = 0;
		st = p ? pclose(p) : -1;
		count_end(&t, name, once, WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st), said);
		if (t.odd == 1 && t.odd_code) {
			fprintf(stderr, "%s: exit code %d: %s\n", name, t.odd_code, said);
			t.odd_code = 0;
		}
	}
	_exit(write(out, &t, sizeof t) == sizeof t ? 0 : 1);
}

Test(storm, short_tasks_while_workers_are_killed, .init = start_nodelay, .fini = stop, .timeout = TEST_S)
{
	unsigned clients = 4, tasks = 30, kills = 50, killed = 0, alive = 0;
	struct tally sum = {0}, t;
	int out[2];

	if (getenv("SHOAL_STORM"))
		cr_assert_eq(sscanf(getenv("SHOAL_STORM"), "%u:%u:%u", &clients, &tasks, &kills), 3);
	cr_assert_eq(pipe(out), 0);
	for (; alive < clients; alive++)
		if (fork() == 0)
			client(alive, tasks, out[1]);
	for (unsigned n = 1; alive; n++) {
		while (alive && waitpid(-1, NULL, WNOHANG) > 0)
			alive--;
		if (alive && killed < kills)
			killed += kill_worker(n * 7);
		usleep(1000);
	}
	close(out[1]);
	while (read(out[0], &t, sizeof t) == sizeof t) {
		sum.done += t.done;
		sum.lost += t.lost;
		sum.missing += t.missing;
		sum.doubled += t.doubled;
		sum.odd += t.odd;
	}
	close(out[0]);
	fprintf(stderr, "storm: %u tasks, %u kills: %u done, %u lost, %u missing, %u doubled, %u odd\n",
		clients * tasks, killed, sum.done, sum.lost, sum.missing, sum.doubled, sum.odd);
	cr_expect_eq(sum.done + sum.lost, clients * tasks);
	cr_expect_eq(sum.missing, 0);
	cr_expect_eq(sum.doubled, 0);
	cr_expect_eq(sum.odd, 0);
	cr_expect_leq(sum.lost, killed);
	cr_expect_gt(killed, 5);
	cr_expect_eq(number_in("stats", "goroutines"), 0);
}
