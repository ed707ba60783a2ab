/*
 * verbs_test.c - what the supervisor takes from requests, and what it refuses: supervisor/daemon/verbs.c.
 */
#include "tests/unit/daemon.h"
#include "core/root.h"
#include "shm/segment.h"
#include "supervisor/daemon/failure.h"
#include "supervisor/daemon/main.h"
#include "supervisor/daemon/verbs.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static void set_up(void)
{
	daemon_begin();
	client_connect();
}

TestSuite(verbs, .init = set_up, .fini = daemon_end, .timeout = 60);

static long ask_number(const char *key, const char *request)
{
	json_t *reply = ask("%s", request);
	json_t *n = json_object_get(reply, key);
	long value = json_is_integer(n) ? (long)json_integer_value(n) : -1;

	json_decref(reply);
	return value;
}

Test(verbs, an_unknown_verb_is_named)
{
	expect_refused("{\"verb\":\"helo\"}", CODE_USAGE, "no such verb: helo");
	expect_refused("{\"verb\":\"\"}", CODE_USAGE, "no such verb: ");
	expect_refused("{\"verb\":1}", CODE_USAGE, "no such verb: (none)");
	expect_refused("{}", CODE_USAGE, "no such verb: (none)");
	expect_refused("{\"verb\":\"hello \"}", CODE_USAGE, "no such verb");
}

#define SUBMIT "{\"verb\":\"submit\",\"module\":\"/m\","

Test(verbs, a_submission_with_a_wrong_field_is_refused_with_its_name)
{
	static const struct {
		const char *request, *words;
	} wrong[] = {
		{"{\"verb\":\"submit\"}", "module"},
		{"{\"verb\":\"submit\",\"module\":\"\"}", "module"},
		{"{\"verb\":\"submit\",\"module\":7}", "module"},
		{"{\"verb\":\"submit\",\"module\":{\"hex\":\"6\"}}", "module"},
		{"{\"verb\":\"submit\",\"module\":{\"hex\":\"6G\"}}", "module"},
		{"{\"verb\":\"submit\",\"module\":{\"hex\":\"6D\"}}", "module"},   /* capital digits */
		{"{\"verb\":\"submit\",\"module\":{\"hex\":\"6100\"}}", "module"}, /* a 0 inside */
		{SUBMIT "\"args\":\"a\"}", "args"},
		{SUBMIT "\"args\":{}}", "args"},
		{SUBMIT "\"args\":[\"a\",1]}", "args"},
		{SUBMIT "\"args\":[null]}", "args"},
		{SUBMIT "\"env\":[\"A=1\",{\"hex\":\"zz\"}]}", "env"},
		{SUBMIT "\"attempts\":0}", "attempts"},
		{SUBMIT "\"attempts\":-1}", "attempts"},
		{SUBMIT "\"attempts\":65536}", "attempts"},
		{SUBMIT "\"attempts\":9223372036854775807}", "attempts"},
		{SUBMIT "\"timeout_ns\":-1}", "timeout"},
		{SUBMIT "\"entry\":\"\"}", "entry"},
		{SUBMIT "\"entry\":\"0123456789012345678901234567890123456789012345678901234567890123\"}", "entry"},
		{SUBMIT "\"key\":\"\"}", "key"},
		{SUBMIT "\"key\":\"0123456789012345678901234567890123456789\"}", "key"},
	};

	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
		expect_refused(wrong[i].request, CODE_USAGE, wrong[i].words);
	cr_expect_eq(fake.njobs, 0);
}

Test(verbs, a_submission_with_fields_at_their_limits_is_accepted)
{
	cr_expect_eq(ask_number("id",
				SUBMIT "\"attempts\":65535,\"timeout_ns\":9223372036854775807,"
				       "\"entry\":\"012345678901234567890123456789012345678901234567890123456789012\","
				       "\"key\":\"012345678901234567890123456789012345678\"}"),
		     1);
	cr_expect_eq(fake.job[0]->attempts, 65535);
	cr_expect_eq(fake.job[0]->timeout_ns, INT64_MAX);
	cr_expect_eq(strlen(fake.job[0]->entry), 63);
	cr_expect_eq(strlen(fake.job[0]->key), 39);
}

Test(verbs, a_submission_without_options_has_the_defaults)
{
	cr_expect_eq(ask_number("id", "{\"verb\":\"submit\",\"module\":\"/a/m.so\"}"), 1);
	cr_expect_str_eq(fake.module, "/a/m.so");
	cr_expect_str_eq(fake.job[0]->entry, "shoal_main");
	cr_expect_eq(fake.job[0]->attempts, 1);
	cr_expect_eq(fake.job[0]->timeout_ns, 0);
	cr_expect_eq(fake.job[0]->argc, 1);
	cr_expect_str_eq(fake.job[0]->args, "/a/m.so", "argv[0] is the path of the module");
	cr_expect_geq(fake.job[0]->cwd, 0, "without a descriptor the folder is /");
}

Test(verbs, arguments_and_environment_are_taken_byte_for_byte)
{
	static const char want[] = "a\0\xff\x01\0\0CC=x y\0B=";

	cr_expect_eq(ask_number("id", SUBMIT "\"args\":[\"a\",{\"hex\":\"ff01\"},\"\"],\"env\":[\"CC=x y\",\"B=\"]}"),
		     1);
	cr_expect_eq(fake.job[0]->argc, 3);
	cr_expect_eq(fake.job[0]->nenv, 2);
	cr_assert_eq(fake.job[0]->args_len, sizeof want);
	cr_expect_arr_eq(fake.job[0]->args, want, sizeof want);
}

Test(verbs, a_name_is_cut_to_63_bytes)
{
	char name[101] = "";

	memset(name, 'n', 100);
	json_decref(ask(SUBMIT "\"name\":\"%s\"}", name));
	cr_expect_eq(strlen(fake.job[0]->name), 63);
}

static void submit_bytes(size_t n)
{
	char *request = malloc(n + 100), *at = stpcpy(request, SUBMIT "\"args\":[\"");

	memset(at, 'x', n);
	strcpy(at + n, "\"]}\n");
	client_send(request, strlen(request));
	free(request);
}

Test(verbs, arguments_may_have_1_MiB_in_all)
{
	json_t *reply;

	submit_bytes((1u << 20) - 1); /* and a final 0 */
	reply = client_reply(NULL);
	cr_expect_eq(json_integer_value(json_object_get(reply, "id")), 1);
	json_decref(reply);
	submit_bytes(1u << 20);
	reply = client_reply(NULL);
	cr_expect_not_null(strstr(json_string_value(json_object_get(reply, "error")), "1 MiB"));
	json_decref(reply);
	cr_expect_eq(fake.njobs, 1);
}

Test(verbs, a_module_path_may_have_4095_bytes)
{
	char path[4097];

	memset(path, 'p', 4096);
	path[4096] = '\0';
	json_decref(ask("{\"verb\":\"submit\",\"module\":\"%s\"}", path + 1));
	cr_expect_eq(fake.njobs, 1);
	cr_expect_eq(strlen(fake.module), 4095);
	json_decref(ask("{\"verb\":\"submit\",\"module\":\"%s\"}", path));
	cr_expect_eq(fake.njobs, 1);
}

Test(verbs, a_repeated_submission_is_answered_with_the_accepted_task)
{
	cr_expect_eq(ask_number("id", SUBMIT "\"key\":\"k\"}"), 1);
	cr_expect_eq(ask_number("id", SUBMIT "\"key\":\"k\",\"again\":true}"), 1);
	cr_expect_eq(ask_number("id", SUBMIT "\"key\":\"other\",\"again\":true}"), 2);
	cr_expect_eq(ask_number("id", SUBMIT "\"key\":\"k\"}"), 3, "without `again` it is a new task");
}

Test(verbs, a_stopping_supervisor_takes_no_task)
{
	sh_stopping = STOP_DRAIN;
	expect_refused(SUBMIT "\"args\":[]}", CODE_SHOAL, "stopping");
}

Test(verbs, a_wait_for_an_unknown_task_is_refused)
{
	json_t *ids = json_array();
	char *text;

	expect_refused("{\"verb\":\"wait\"}", CODE_USAGE, "ids");
	expect_refused("{\"verb\":\"wait\",\"ids\":1}", CODE_USAGE, "ids");
	expect_refused("{\"verb\":\"wait\",\"ids\":[1]}", CODE_UNKNOWN, "1");
	expect_refused("{\"verb\":\"wait\",\"ids\":[0]}", CODE_UNKNOWN, "0");
	expect_refused("{\"verb\":\"wait\",\"ids\":[-9223372036854775808]}", CODE_UNKNOWN, "-9223372036854775808");
	expect_refused("{\"verb\":\"wait\",\"ids\":[\"1\"]}", CODE_UNKNOWN, "-1");
	for (unsigned i = 0; i <= 100000; i++)
		json_array_append_new(ids, json_integer(1));
	ids = json_pack("{s:s,s:o}", "verb", "wait", "ids", ids);
	text = json_dumps(ids, JSON_COMPACT);
	client_send(text, strlen(text));
	client_send("\n", 1);
	free(text);
	json_decref(ids);
	ids = client_reply(NULL);
	cr_expect_eq(json_integer_value(json_object_get(ids, "code")), CODE_USAGE);
	json_decref(ids);
}

Test(verbs, a_wait_is_answered_when_its_last_task_has_ended)
{
	static const char wait_for_both[] = "{\"verb\":\"wait\",\"ids\":[2,1,2]}\n";
	json_t *reply, *tasks;

	cr_expect_eq(json_array_size(json_object_get(reply = ask("{\"verb\":\"wait\",\"ids\":[]}"), "tasks")), 0);
	json_decref(reply);
	json_decref(ask(SUBMIT "\"args\":[]}"));
	json_decref(ask(SUBMIT "\"args\":[]}"));
	client_send(wait_for_both, strlen(wait_for_both));
	fake.ended[1] = true;
	sh_verbs_ended(fake.job[1]);
	sh_verbs_ended(fake.job[1]); /* reported twice */
	cr_expect_str_eq(json_string_value(json_object_get(reply = ask("{\"verb\":\"sched\"}"), "sched")), "SCHED",
			 "answered too early");
	json_decref(reply);
	fake.ended[0] = true;
	sh_verbs_ended(fake.job[0]);
	reply = client_reply(NULL);
	tasks = json_object_get(reply, "tasks");
	cr_assert_eq(json_array_size(tasks), 3);
	cr_expect_eq(json_integer_value(json_object_get(json_array_get(tasks, 0), "id")), 2);
	cr_expect_eq(json_integer_value(json_object_get(json_array_get(tasks, 1), "id")), 1);
	cr_expect_eq(json_integer_value(json_object_get(json_array_get(tasks, 2), "id")), 2);
	json_decref(reply);
}

Test(verbs, numbers_out_of_range_are_refused)
{
	static const struct {
		const char *request;
		int code;
	} wrong[] = {
		{"{\"verb\":\"procs\",\"n\":0}", CODE_USAGE},
		{"{\"verb\":\"procs\",\"n\":-1}", CODE_USAGE},
		{"{\"verb\":\"procs\",\"n\":4294967296}", CODE_USAGE},
		{"{\"verb\":\"procs\",\"n\":\"2\"}", CODE_USAGE},
		{"{\"verb\":\"trace\",\"ns\":0}", CODE_USAGE},
		{"{\"verb\":\"trace\",\"ns\":-5}", CODE_USAGE},
		{"{\"verb\":\"trace\",\"ns\":3600000000001}", CODE_USAGE},
		{"{\"verb\":\"restart\",\"worker\":0}", CODE_FAILED},
		{"{\"verb\":\"restart\",\"worker\":5}", CODE_FAILED},
		{"{\"verb\":\"restart\",\"worker\":-1}", CODE_FAILED},
		{"{\"verb\":\"dump\",\"gid\":-1}", CODE_UNKNOWN},
		{"{\"verb\":\"life\"}", CODE_UNKNOWN},
		{"{\"verb\":\"life\",\"gid\":0}", CODE_UNKNOWN},
		{"{\"verb\":\"life\",\"gid\":2}", CODE_UNKNOWN},
		{"{\"verb\":\"crash\",\"id\":7}", CODE_UNKNOWN},
		{"{\"verb\":\"ps\",\"task\":7}", CODE_UNKNOWN},
		{"{\"verb\":\"ps\",\"task\":-7}", CODE_UNKNOWN},
		{"{\"verb\":\"logs\",\"id\":1}", CODE_UNKNOWN},
		{"{\"verb\":\"logs\"}", CODE_UNKNOWN},
		{"{\"verb\":\"read\",\"id\":1}", CODE_UNKNOWN},
		{"{\"verb\":\"own\",\"id\":1}", CODE_UNKNOWN},
		{"{\"verb\":\"cancel\",\"id\":9223372036854775807}", CODE_UNKNOWN},
	};

	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
		expect_refused(wrong[i].request, wrong[i].code, "");
}

Test(verbs, numbers_in_range_reach_their_function)
{
	cr_expect_eq(ask_number("procs", "{\"verb\":\"procs\",\"n\":4294967295}"), 4294967295);
	cr_expect_eq(ask_number("worker", "{\"verb\":\"restart\",\"worker\":4}"), 4);
	cr_expect_eq(ask_number("worker", "{\"verb\":\"restart\"}"), 0, "all workers");
	cr_expect_eq(ask_number("gid", "{\"verb\":\"dump\",\"gid\":9223372036854775807}"), INT64_MAX);
	cr_expect_eq(ask_number("version", "{\"verb\":\"life\",\"gid\":1}"), 1);
	cr_expect_eq(ask_number("id", "{\"verb\":\"crash\"}"), -1, "all crashes");
}

Test(verbs, cancel_and_own_act_on_their_task)
{
	json_decref(ask(SUBMIT "\"run\":true}"));
	json_decref(ask(SUBMIT "\"args\":[]}"));
	json_decref(ask("{\"verb\":\"cancel\",\"id\":1}"));
	cr_expect(fake.cancels == 1 && fake.now == 0);
	json_decref(ask("{\"verb\":\"cancel\",\"id\":1,\"now\":true}"));
	cr_expect(fake.cancels == 2 && fake.now == 1);
	json_decref(ask("{\"verb\":\"own\",\"id\":1}"));
	cr_expect_not_null(fake.job[0]->owner);
	expect_refused("{\"verb\":\"own\",\"id\":2}", CODE_USAGE, "not started by run");
}

Test(verbs, a_reader_learns_what_was_dropped_and_moved)
{
	json_t *reply, *want = json_pack("{s:b,s:[i,i],s:[i,i]}", "ok", 1, "dropped", 1, 2, "moved", 3, 4);

	json_decref(ask(SUBMIT "\"args\":[]}"));
	reply = ask("{\"verb\":\"read\",\"id\":1}");
	cr_expect(json_equal(reply, want));
	json_decref(reply);
	json_decref(want);
}

Test(verbs, a_reader_that_reports_how_far_it_is_gets_no_answer)
{
	static const char report[] =
		"{\"verb\":\"read\",\"id\":1,\"at\":[1,2]}\n{\"verb\":\"read\",\"id\":9,\"at\":7}\n";

	json_decref(ask(SUBMIT "\"args\":[]}"));
	client_send(report, strlen(report));
	cr_expect_eq(ask_number("version", "{\"verb\":\"info\"}"), 1, "the next answer is to the next request");
}

Test(verbs, one_audit_answers_all_that_asked_before_it_began)
{
	static const char check[] = "{\"verb\":\"check\",\"tag\":1}\n";
	json_t *reply;

	client_send(check, strlen(check));
	client_send(check, strlen(check)); /* the first audit runs already: it gets the next one */
	cr_expect_eq(atomic_load(&rt->audit_asked), 1);
	strcpy(rt->audit, "clean");
	atomic_store(&rt->audit_done, 1);
	sh_verbs_check_audit();
	reply = client_reply(NULL);
	cr_expect(json_is_true(json_object_get(reply, "clean")));
	json_decref(reply);
	cr_expect_eq(atomic_load(&rt->audit_asked), 2);
	memset(rt->audit, 'x', sizeof rt->audit); /* a text without its end */
	atomic_store(&rt->audit_done, 2);
	sh_verbs_check_audit();
	reply = client_reply(NULL);
	cr_expect(json_is_false(json_object_get(reply, "clean")));
	cr_expect_eq(strlen(json_string_value(json_object_get(reply, "found"))), sizeof rt->audit - 1);
	json_decref(reply);
}

Test(verbs, stop_is_answered_at_the_end_and_waits_are_refused)
{
	static const char both[] =
		"{\"verb\":\"wait\",\"ids\":[1],\"tag\":1}\n{\"verb\":\"stop\",\"now\":true,\"tag\":2}\n";
	json_t *reply;

	json_decref(ask(SUBMIT "\"args\":[]}"));
	client_send(both, strlen(both));
	cr_expect(fake.stops == 1 && fake.now == 1);
	sh_verbs_stopped();
	reply = client_reply(NULL);
	cr_expect_eq(json_integer_value(json_object_get(reply, "tag")), 1);
	cr_expect_eq(json_integer_value(json_object_get(reply, "code")), CODE_SHOAL);
	json_decref(reply);
	reply = client_reply(NULL);
	cr_expect_eq(json_integer_value(json_object_get(reply, "tag")), 2);
	cr_expect(json_is_true(json_object_get(reply, "ok")));
	json_decref(reply);
}
