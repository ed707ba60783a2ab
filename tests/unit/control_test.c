/*
 * control_test.c - lines, descriptors and answers of a client's connection: supervisor/daemon/control.c.
 */
#include "tests/unit/daemon.h"
#include "supervisor/daemon/control.h"
#include "supervisor/daemon/failure.h"
#include "supervisor/daemon/verbs.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void set_up(void)
{
	daemon_begin();
	client_connect();
}

TestSuite(control, .init = set_up, .fini = daemon_end, .timeout = 60);

static void send_text(const char *text)
{
	client_send(text, strlen(text));
}

static long code_of(json_t *reply)
{
	long code = (long)json_integer_value(json_object_get(reply, "code"));

	json_decref(reply);
	return code;
}

/* The answer to `hello` has this tag; -1: none. */
static void expect_hello(int tag)
{
	json_t *reply = client_reply(NULL);

	cr_assert_not_null(reply);
	cr_expect(json_is_true(json_object_get(reply, "ok")));
	if (tag < 0)
		cr_expect_null(json_object_get(reply, "tag"));
	else
		cr_expect_eq(json_integer_value(json_object_get(reply, "tag")), tag);
	json_decref(reply);
}

Test(control, a_request_that_comes_byte_by_byte_is_answered_once)
{
	static const char line[] = "{\"verb\":\"hello\",\"tag\":7}\n";

	for (size_t i = 0; line[i]; i++)
		client_send(line + i, 1);
	expect_hello(7);
	client_shut();
	cr_expect_null(client_reply(NULL), "there is a second answer");
}

Test(control, requests_in_one_piece_are_answered_in_order_and_empty_lines_are_skipped)
{
	send_text("{\"verb\":\"hello\",\"tag\":1}\n\n\n{\"verb\":\"hello\",\"tag\":2}\n{\"verb\":\"hello\"}\n");
	expect_hello(1);
	expect_hello(2);
	expect_hello(-1);
}

Test(control, a_tag_may_be_any_value)
{
	static const char *tags[] = {"null", "[1,{\"a\":2}]", "\"\"", "1e300"};

	for (size_t i = 0; i < sizeof tags / sizeof *tags; i++) {
		json_t *want = json_loads(tags[i], JSON_DECODE_ANY, NULL), *reply;

		reply = ask("{\"verb\":\"hello\",\"tag\":%s}", tags[i]);
		cr_expect(json_equal(json_object_get(reply, "tag"), want), "tag %s", tags[i]);
		json_decref(reply);
		json_decref(want);
	}
}

Test(control, a_line_that_is_not_a_json_object_ends_the_connection_after_an_error)
{
	static const struct {
		const char *line;
		size_t n;
	} wrong[] = {
		{"x\n", 2},
		{"[]\n", 3},
		{"\"hello\"\n", 8},
		{"{\"verb\":\"hello\"} x\n", 19},
		{"{\"verb\":\"hello\",\"verb\":\"info\"}\n", 31}, /* one key twice */
		{"{\"verb\":\"\377\"}\n", 13},			  /* not UTF-8 */
		{"\0\n", 2},
		{"{\"a\":1e999999}\n", 15},
		{" \n", 2},
	};

	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		client_connect();
		client_send(wrong[i].line, wrong[i].n);
		send_text("{\"verb\":\"hello\"}\n"); /* not answered any more */
		cr_expect_eq(code_of(client_reply(NULL)), CODE_USAGE, "line %zu", i);
		cr_expect_null(client_reply(NULL), "line %zu: the connection stays open", i);
		client_close();
	}
}

Test(control, deeply_nested_json_is_an_error_and_no_crash)
{
	static char line[1u << 20];

	memset(line, '[', sizeof line);
	line[sizeof line - 1] = '\n';
	client_send(line, sizeof line);
	cr_expect_eq(code_of(client_reply(NULL)), CODE_USAGE);
	cr_expect_null(client_reply(NULL));
}

Test(control, a_line_may_have_just_under_8_MiB)
{
	static const char begin[] = "{\"verb\":\"hello\",\"x\":\"", end[] = "\"}\n";
	size_t n = (8u << 20) - 1;
	char *line = malloc(n);

	cr_assert_not_null(line);
	memset(line, 'x', n);
	memcpy(line, begin, strlen(begin));
	memcpy(line + n - strlen(end), end, strlen(end));
	client_send(line, n);
	expect_hello(-1);
	line[n - 1] = 'x'; /* the same without its end, and one byte more */
	client_send(line, n);
	client_send("x", 1);
	cr_expect_eq(code_of(client_reply(NULL)), CODE_USAGE);
	cr_expect_null(client_reply(NULL));
	free(line);
}

Test(control, a_client_that_closes_its_sending_side_still_gets_its_answers)
{
	cr_expect_eq(json_integer_value(json_object_get(ask("{\"verb\":\"submit\",\"module\":\"/m\"}"), "id")), 1);
	send_text("{\"verb\":\"wait\",\"ids\":[1]}\n{\"verb\":\"hel");
	client_shut();
	daemon_run();
	cr_expect_eq(sh_control_conns(), 1);
	fake.ended[0] = true;
	sh_verbs_ended(fake.job[0]);
	json_decref(client_reply(NULL));
	cr_expect_null(client_reply(NULL));
	cr_expect_eq(sh_control_conns(), 0);
}

Test(control, a_client_that_leaves_takes_its_requests_along)
{
	json_decref(ask("{\"verb\":\"submit\",\"module\":\"/m\"}"));
	send_text("{\"verb\":\"wait\",\"ids\":[1]}\n{\"verb\":\"check\"}\n{\"verb\":\"stop\"}\n");
	client_close();
	daemon_run();
	cr_expect_eq(sh_control_conns(), 0);
	cr_expect_eq(fake.abandoned, 1);
	fake.ended[0] = true;
	sh_verbs_ended(fake.job[0]); /* their connection is closed */
	sh_verbs_stopped();
}

static unsigned open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	cr_assert_not_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

Test(control, a_descriptor_reaches_its_request_and_others_are_closed)
{
	int fd = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	unsigned before;

	json_decref(ask("{\"verb\":\"hello\"}"));
	before = open_fds();
	client_send_fd("{\"verb\":\"submit\",\"module\":\"/m\"}\n", fd);
	json_decref(client_reply(NULL));
	cr_expect_eq(open_fds(), before + 1, "the folder of the task is open");
	client_send_fd("{\"verb\":\"hello\"}\n", fd);
	json_decref(client_reply(NULL));
	cr_expect_eq(open_fds(), before + 1, "a descriptor that no request takes is closed");
	close(fd);
}

Test(control, an_answer_carries_its_descriptors)
{
	int fd;

	json_decref(ask("{\"verb\":\"submit\",\"module\":\"/m\"}"));
	send_text("{\"verb\":\"logs\",\"id\":1}\n");
	json_decref(client_reply(&fd));
	cr_expect_geq(fd, 0);
	close(fd);
}

Test(control, a_long_answer_is_sent_as_the_client_reads_it)
{
	fake.stream_bytes = 5000000;
	send_text("{\"verb\":\"ps\"}\n");
	daemon_run();
	cr_expect_lt(fake.stream_sent, fake.stream_bytes, "all is sent before the client reads");
	client_shut();
	cr_expect_eq(client_read_all(), fake.stream_bytes);
	cr_expect_eq(fake.streams_freed, 1);
}

Test(control, a_long_answer_ends_with_its_client)
{
	fake.stream_bytes = 5000000;
	send_text("{\"verb\":\"ps\"}\n");
	daemon_run();
	client_close();
	daemon_run();
	cr_expect_eq(fake.streams_freed, 1);
	cr_expect_eq(sh_control_conns(), 0);
}
