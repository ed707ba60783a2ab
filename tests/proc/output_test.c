/*
 * output_test.c - the output of a task is complete and has no byte twice, although processes are killed.
 */
#include "tests/proc/proc.h"

#include <errno.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#define WRITERS "--attempts 100 build/tests/modules/kill/output.so"

/* build/kill/shoald, in which a request arms a point. */
static void start_with_points(void)
{
	make_dir();
	sh("SHOAL_DEBUG=nodelay build/kill/shoald >%s/log 2>&1 &", dir);
	until("build/shoal info 2>&1");
}

/* Returns the supervisor's answer. */
static json_t *ask(const char *request)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	size_t n = 0;
	ssize_t k;

	snprintf(a.sun_path, sizeof a.sun_path, "%s/s", dir);
	cr_assert_eq(connect(fd, (struct sockaddr *)&a, sizeof a), 0, "%s", strerror(errno));
	cr_assert_eq(write(fd, request, strlen(request)), (ssize_t)strlen(request));
	while ((k = read(fd, text + n, sizeof text - 1 - n)) > 0 && !memchr(text + n, '\n', (size_t)k))
		n += (size_t)k;
	n += k > 0 ? (size_t)k : 0;
	text[n] = 0;
	close(fd);
	return parse_text();
}

static int kills_done(void)
{
	json_t *done = json_object_get(ask("{\"verb\":\"kill\"}\n"), "done");

	cr_assert(json_is_integer(done), "%.200s", text);
	return (int)json_integer_value(done);
}

/* Kills at each store on the way of a line to the file: at the first pass and at later ones. */
Test(output, is_complete_once_after_a_death_at_any_point, .init = start_with_points, .fini = stop, .timeout = TEST_S)
{
	static const int hits[] = {1, 2, 7, 40};
	json_t *points = json_incref(json_object_get(ask("{\"verb\":\"kill\"}\n"), "points"));
	char request[160];
	unsigned tried = 0;
	int kills;

	for (size_t k = 0; k < json_array_size(points); k++) {
		const char *name = json_string_value(json_array_get(points, k));

		if (strncmp(name, "output.", 7) != 0)
			continue;
		for (size_t i = 0; i < sizeof hits / sizeof *hits; i++) {
			snprintf(request, sizeof request, "{\"verb\":\"kill\",\"point\":\"%s\",\"hit\":%d}\n", name,
				 hits[i]);
			ask(request);
			cr_expect_eq(sh("timeout 20 build/shoal run " WRITERS " 2>&1 >/dev/null"), 0, "%s, hit %d: %s",
				     name, hits[i], text);
			tried++;
		}
	}
	json_decref(points);
	kills = kills_done();
	fprintf(stderr, "output: %u runs, %d kills\n", tried, kills);
	cr_expect_gt(kills, 40);
}

/* A write that a death cut short is completed: the repair's own points, after a death in the middle of a write. */
Test(output, is_completed_by_the_medic_or_by_the_next_one, .init = start_with_points, .fini = stop, .timeout = TEST_S)
{
	static const char *const then[] = {"output.repair.written", "output.consumed",	"output.finished",
					   "output.repaired",	    "output.part.kept", "output.write.done",
					   "output.part.dropped"};
	char request[200];
	int kills;

	for (size_t i = 0; i < sizeof then / sizeof *then; i++)
		for (int hit = 3; hit < 30; hit += 13) {
			snprintf(
				request, sizeof request,
				"{\"verb\":\"kill\",\"point\":\"output.write.%s\",\"hit\":%d,\"then\":\"%s\",\"then_hit\":1}\n",
				hit % 2 ? "noted" : "done", hit, then[i]);
			ask(request);
			cr_expect_eq(sh("timeout 20 build/shoal run " WRITERS " 2>&1 >/dev/null"), 0, "%s: %s", then[i],
				     text);
		}
	kills = kills_done();
	fprintf(stderr, "output: %d kills, of them the medic's\n", kills);
	cr_expect_gt(kills, 20);
}

Test(output, is_complete_once_while_workers_are_killed, .init = start_nodelay, .fini = stop, .timeout = TEST_S)
{
	unsigned kills, runs = 0;

	killer_start(1, 3, 60);
	for (; killer_kills() < 60 && runs < 1000; runs++)
		cr_expect_eq(sh("timeout 60 build/shoal run " WRITERS " 2>&1 >/dev/null"), 0, "%s", text);
	kills = killer_stop();
	fprintf(stderr, "output: %u runs, %u workers killed\n", runs, kills);
	cr_expect_eq(kills, 60);
}

/* The root is killed between its last write and its end, and the next attempt starts. */
Test(output, of_wordfreq_is_exact_wherever_its_root_is_killed, .init = start_with_points, .fini = stop,
     .timeout = TEST_S)
{
	static const char *const point[] = {"output.append.copied", "output.append.counted", "output.write.described",
					    "output.write.noted",   "output.write.done",     "output.consumed",
					    "output.finished",	    "task.end.verdict",	     "task.end.how",
					    "task.end.ending"};
	static const char run[] =
		"timeout 20 build/shoal run --attempts 100 build/examples/wordfreq.so -n 500 shm 2>&1";
	char request[160], *calm;
	int kills;

	cr_expect_eq(sh("%s", run), 0);
	calm = strdup(text);
	for (size_t i = 0; i < sizeof point / sizeof *point; i++)
		for (int hit = 1; hit < 4; hit++) {
			snprintf(request, sizeof request, "{\"verb\":\"kill\",\"point\":\"%s\",\"hit\":%d}\n", point[i],
				 hit);
			ask(request);
			cr_expect_eq(sh("%s", run), 0, "%s, hit %d", point[i], hit);
			cr_expect_str_eq(text, calm, "%s, hit %d: %.100s", point[i], hit, text);
		}
	free(calm);
	kills = kills_done();
	fprintf(stderr, "output: wordfreq exact over %d kills of its root\n", kills);
	cr_expect_gt(kills, 15);
}

/* A full pipe as stdout blocks the goroutine that writes, and no other. */
Test(output, to_a_full_pipe_blocks_only_the_writer, .init = start, .fini = stop, .timeout = TEST_S)
{
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/output/piped.so 2>&1"), 0, "%s", text);
	cr_expect_str_eq(text, "4000 lines, and others ran\n");
	cr_expect_eq(sh("build/shoal procs 1 2>&1"), 0, "%s", text);
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/output/piped.so 2>&1"), 0, "%s", text);
	cr_expect_str_eq(text, "4000 lines, and others ran\n");
}

PROC_TEST(what_a_task_writes_to_a_file_of_its_own_is_there_at_once)
{
	cr_expect_eq(sh("timeout 30 build/shoal run build/tests/modules/output/redirected.so 2>&1"), 0, "%s", text);
	cr_expect_str_eq(text, "ok\n");
}
