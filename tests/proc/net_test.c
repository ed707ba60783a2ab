/*
 * net_test.c - calls that park, system calls, and what becomes of connections when workers die.
 */
#include "tests/proc/proc.h"

#include <criterion/criterion.h>

#define NET_TEST(name, ...) Test(net, name, .init = start, .fini = stop, .timeout = 60, ##__VA_ARGS__)

static void runs(const char *module, const char *what)
{
	cr_expect_eq(sh("timeout 30 build/shoal run build/tests/modules/%s.so %s 2>&1", module, what), 0, "%s: %s", what, text);
	cr_expect_str_eq(text, "ok\n", "%s: %s", what, text);
}

NET_TEST(system_calls_give_the_p_away)
{
	static const char *const cases[] = {"errno", "share", "many"};

	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++)
		runs("net_syscall", cases[i]);
	cr_expect_eq(sh("build/shoal workers --json"), 0);
	cr_expect_not_null(strstr(text, "\"id\": 12"), "more workers were cloned: %s", text);
}

NET_TEST(calls_on_descriptors_park)
{
	static const char *const cases[] = {"pipe", "much", "nonblock", "close", "readers", "timeout", "poll", "others", "tcp", "udp"};

	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++)
		runs("net_basic", cases[i]);
}
