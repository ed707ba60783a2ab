/* crash_test.c - the fields of a crash record, for each signal. */
#include "tests/proc/proc.h"

#include <signal.h>

static const struct {
	const char *how, *name;
	int signal, code;
	unsigned long address; /* ~0: any; 1: that of the instruction */
	const char *kind, *function;
} ways[] = {
	{"segv", "SIGSEGV", SIGSEGV, SEGV_MAPERR, 0x10, "signal", "shoal_main(...)"},
	{"bus", "SIGBUS", SIGBUS, BUS_ADRERR, ~0ul, "signal", "shoal_main(...)"},
	{"fpe", "SIGFPE", SIGFPE, FPE_INTDIV, 1, "signal", "shoal_main(...)"},
	{"ill", "SIGILL", SIGILL, ILL_ILLOPN, 1, "signal", "shoal_main(...)"},
	{"abort", "SIGABRT", SIGABRT, SI_TKILL, 0, "signal", "abort(...)"},
	{"overflow", "SIGSEGV", SIGSEGV, SEGV_MAPERR, ~0ul, "stack overflow", "overflow(...)"},
	{"misuse", "SIGABRT", SIGABRT, 0, 0, "misuse", "shoal_main(...)"},
};

/* The value of a key of the JSON in text. */
static const char *value(const char *key)
{
	static char v[128];
	char want[40], *at;

	snprintf(want, sizeof want, "\"%s\": ", key);
	at = strstr(text, want);
	v[0] = '\0';
	if (at && sscanf(at + strlen(want), "\"%127[^\"]", v) != 1 && sscanf(at + strlen(want), "%127[^,}]", v) != 1)
		v[0] = '\0';
	return v;
}

static long seconds_now(void)
{
	sh("date +%%s");
	return atol(text);
}

Test(crash, record_says_what_happened, .init = start, .fini = stop, .timeout = TEST_S)
{
	for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
		const char *how = ways[i].how;
		unsigned long address, rip, pc;
		long began = seconds_now(), id;
		char *at;

		cr_assert_eq(sh("build/shoal submit build/tests/modules/basic/ends.so %s 2>&1", how), 0, "%s", text);
		id = atol(text);
		cr_expect_eq(sh("build/shoal wait %ld 2>&1", id), 128 + ways[i].signal, "%s: %s", how, text);
		cr_expect_eq(sh("build/shoal crash --json %ld 2>&1", id), 0);
		cr_expect_eq(atol(value("task")), id, "%s: %s", how, text);
		cr_expect_str_eq(value("name"), "main", "%s: %s", how, text);
		cr_expect_str_eq(value("module"), "ends.so");
		cr_expect_str_eq(value("kind"), ways[i].kind, "%s: %s", how, text);
		cr_expect_eq(atol(value("signal")), ways[i].signal, "%s: %s", how, text);
		cr_expect_str_eq(value("signal_name"), ways[i].name);
		cr_expect_eq(atol(value("code")), ways[i].code, "%s: %s", how, text);
		cr_expect_gt(atol(value("gid")), 0);
		cr_expect_gt(atol(value("worker")), 0);
		cr_expect_gt(atol(value("pid")), 1);
		cr_expect(atol(value("time")) >= began && atol(value("time")) <= began + 30, "%s: %s", how, text);
		address = strtoul(value("address"), NULL, 0);
		rip = strtoul(value("rip"), NULL, 0);
		pc = strtoul(value("pc"), NULL, 0); /* of the first frame */
		cr_expect_gt(rip, 4096, "%s: %s", how, text);
		cr_expect_eq(pc, rip, "%s: %s", how, text);
		if (ways[i].address == 1)
			cr_expect_eq(address, rip, "%s: %s", how, text);
		else if (ways[i].address != ~0ul)
			cr_expect_eq(address, ways[i].address, "%s: %s", how, text);
		else
			cr_expect_gt(address, 4096);
		cr_expect_gt(strtoul(value("rsp"), NULL, 0), 4096);
		cr_expect_gt(strtoul(value("rbp"), NULL, 0), 4096);
		cr_expect_eq(sh("build/shoal crash %ld 2>&1", id), 0);
		at = strstr(text, "[running]:\n");
		cr_assert_not_null(at, "%s: %s", how, text);
		cr_expect_not_null(strstr(at, ways[i].function), "%s: %s", how, text);
		cr_expect_not_null(strstr(at, "tests/modules/basic/ends.c:"), "%s: %s", how, text);
	}
}

/* A killed worker leaves no crash record; its goroutine is reported as lost. */
Test(crash, a_lost_goroutine_is_not_a_crash, .init = start, .fini = stop, .timeout = TEST_S)
{
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/ends.so lost 2>&1"), 137, "%s", text);
	cr_expect_eq(sh("build/shoal crash 2>&1"), 0);
	cr_expect_null(strstr(text, "SIG"), "%s", text);
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/ends.so join 2>&1"), 0, "%s", text);
}
