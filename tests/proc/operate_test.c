/*
 * operate_test.c - what an administrator meets: folders and files that others planted, signals, rotated logs, PID
 * namespaces, containers that forbid system calls, and tasks that hide the death of their worker.
 */
#include "tests/proc/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define VICTIM "build/tests/modules/basic/work.so"

static void remove_dir(void)
{
	sh("rm -rf %s", dir);
}

/* A test without a supervisor at its start. */
#define ALONE_TEST(name) Test(operate, name, .init = make_dir, .fini = remove_dir, .timeout = TEST_S)
#define OPERATE_TEST(name) Test(operate, name, .init = start, .fini = stop, .timeout = TEST_S)

/* ---- folders and files that another user may have planted ---- */

/* shoald refuses to start, names the file, and leaves what the plant leads to as it was. */
static void expect_refused(const char *name)
{
	cr_expect_eq(sh("timeout 20 build/shoald 2>&1"), 1, "%s: %s", name, text);
	cr_expect(strstr(text, name), "%s", text);
	cr_expect_neq(sh("timeout 20 build/shoal start 2>&1"), 0, "%s: %s", name, text);
	cr_expect(strstr(text, name), "%s", text);
}

ALONE_TEST(a_planted_lock_file_is_refused_and_stays_unchanged)
{
	sh("echo precious >%s/file; ln -s %s/file %s/s.lock", dir, dir, dir);
	expect_refused("s.lock");
	sh("rm %s/s.lock; ln %s/file %s/s.lock", dir, dir, dir);
	expect_refused("s.lock");
	sh("rm %s/s.lock; mkfifo %s/s.lock", dir, dir);
	expect_refused("s.lock");
	cr_expect_eq(sh("cat %s/file", dir), 0);
	cr_expect_str_eq(text, "precious\n");
}

ALONE_TEST(a_planted_log_file_is_refused_and_stays_unchanged)
{
	static const char *const plant[] = {"ln -s file s.log", "ln file s.log", "mkfifo s.log"};

	sh("echo precious >%s/file", dir);
	for (size_t i = 0; i < sizeof plant / sizeof *plant; i++) {
		cr_assert_eq(sh("cd %s && rm -f s.log && %s", dir, plant[i]), 0, "%s", text);
		cr_expect_neq(sh("timeout 20 build/shoal start 2>&1"), 0, "%s", plant[i]);
		cr_expect(strstr(text, "s.log"), "%s: %s", plant[i], text);
	}
	cr_expect_eq(sh("cat %s/file", dir), 0);
	cr_expect_str_eq(text, "precious\n");
}

ALONE_TEST(a_folder_that_others_can_write_to_is_refused)
{
	sh("mkdir %s/open; chmod 777 %s/open", dir, dir);
	cr_expect_eq(sh("timeout 20 build/shoald --socket %s/open/s 2>&1", dir), 1, "%s", text);
	cr_expect(strstr(text, "others can write"), "%s", text);
	cr_expect_eq(sh("ls -A %s/open | wc -l", dir), 0);
	cr_expect_str_eq(text, "0\n");
}

ALONE_TEST(another_users_symlink_or_folder_is_refused)
{
	if (geteuid() != 0)
		cr_skip_test("takes root");
	sh("mkdir %s/own; ln -s %s/own %s/link; chown -h 12345 %s/link", dir, dir, dir, dir);
	cr_expect_eq(sh("timeout 20 build/shoald --socket %s/link/s 2>&1", dir), 1, "%s", text);
	cr_expect(strstr(text, "another user"), "%s", text);
	cr_expect_eq(sh("ls -A %s/own | wc -l", dir), 0);
	cr_expect_str_eq(text, "0\n");
	sh("chown 12345 %s/own", dir);
	cr_expect_eq(sh("timeout 20 build/shoald --socket %s/own/s 2>&1", dir), 1, "%s", text);
	cr_expect(strstr(text, "another user"), "%s", text);
}

/* ---- signals ---- */

static void kill_supervisor(void)
{
	int pid = pid_of("pid");

	kill(pid, SIGKILL);
	WAIT_FOR(gone(pid));
}

OPERATE_TEST(sigterm_ends_a_keeper_without_supervisor_and_all_that_it_keeps)
{
	int keeper = pid_of("keeper"), zygote = pid_of("zygote"), standby = pid_of("standby"), medic = pid_of("medic"),
	    worker[64];
	unsigned n = worker_pids(worker, 64);

	kill_supervisor();
	kill(keeper, SIGTERM);
	WAIT_FOR(gone(keeper) && gone(zygote) && gone(standby) && gone(medic));
	for (unsigned i = 0; i < n; i++)
		WAIT_FOR(gone(worker[i]));
	cr_expect_eq(sh("timeout 20 build/shoal start 2>&1"), 0, "%s", text);
	cr_expect_eq(sh("timeout 20 build/shoal run " VICTIM " 2>&1"), 0, "%s", text);
}

OPERATE_TEST(sigterm_does_not_end_a_keeper_that_has_a_supervisor)
{
	int keeper = pid_of("keeper");

	kill(keeper, SIGTERM);
	kill_supervisor(); /* the signal before this moment does not count */
	cr_expect_eq(sh("timeout 20 build/shoal start 2>&1"), 0, "%s", text);
	cr_expect_eq(pid_of("keeper"), keeper);
}

OPERATE_TEST(sighup_opens_the_log_again_for_all_processes)
{
	sh("mv %s/s.log %s/s.log.1", dir, dir);
	kill(pid_of("pid"), SIGHUP);
	until("[ -e %s/s.log ]", dir);
	until("[ \"$(readlink /proc/%d/fd/2)\" = %s/s.log ]", pid_of("zygote"), dir);
	kill(pid_of("pid"), SIGQUIT);
	until("grep -q shoald %s/s.log", dir);
	kill(pid_of("zygote"), SIGKILL);
	until("grep -q 'its standby takes over' %s/s.log", dir);
	cr_expect_neq(sh("grep 'its standby takes over' %s/s.log.1", dir), 0, "%s", text);
}

/* ---- stop ---- */

ALONE_TEST(stop_reaches_a_supervisor_in_another_pid_namespace)
{
	double began;

	if (geteuid() != 0 || sh("unshare -p -f true 2>&1") != 0)
		cr_skip_test("takes root and the right to make a PID namespace");
	sh("unshare -p -f --mount-proc --kill-child build/shoald >%s/out 2>&1 & echo $! >%s/unshare", dir, dir);
	until("timeout 5 build/shoal info 2>&1");
	began = now_ms();
	cr_expect_eq(sh("timeout 60 build/shoal stop 2>&1"), 0, "%s", text);
	cr_expect_lt(now_ms() - began, 9000 /* stop gives up after ten seconds */);
	until("! kill -0 $(cat %s/unshare) 2>/dev/null", dir);
	cr_expect_eq(sh("[ ! -e %s/s ]", dir), 0, "the socket is still there");
}

OPERATE_TEST(stop_says_which_tasks_it_waits_for)
{
	cr_assert_eq(sh("build/shoal submit --name slow build/tests/modules/survive/ticks.so 1000000 2>&1"), 0, "%s",
		     text);
	until("build/shoal tasks | grep -q running");
	sh("build/shoal stop >%s/stop 2>&1 &", dir);
	until("grep -q 'task 1 (slow)' %s/stop", dir);
	cr_expect_eq(sh("build/shoal cancel 1 2>&1"), 0, "%s", text);
	until("[ ! -e %s/s ]", dir);
	cr_expect_eq(sh("build/shoal start 2>&1"), 0, "%s", text);
}

/* ---- system calls that are missing ---- */

/* Runs a module while the call fails with this errno. Returns the exit code; stdout and stderr are in text. */
static int run_without(int call, int error)
{
	struct sock_filter filter[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
				       BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)call, 0, 1),
				       BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
				       BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
	struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
	int status;
	pid_t pid;

	sh(": >%s/out", dir);
	pid = fork();
	if (pid == 0) {
		char path[100];
		int out;

		snprintf(path, sizeof path, "%s/out", dir);
		out = open(path, O_WRONLY | O_APPEND);
		dup2(out, 1);
		dup2(out, 2);
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
			_exit(99);
		execl("/usr/bin/timeout", "timeout", "60", "build/shoal", "run", VICTIM, NULL);
		_exit(98);
	}
	waitpid(pid, &status, 0);
	sh("cat %s/out", dir);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

ALONE_TEST(a_missing_system_call_is_named_or_worked_around)
{
	static const struct {
		const char *name;
		int number, error;
	} call[] = {{"pidfd_open", SYS_pidfd_open, ENOSYS},
		    {"sigaltstack", SYS_sigaltstack, EPERM},
		    {"mremap", SYS_mremap, EPERM},
		    {"membarrier", SYS_membarrier, ENOSYS},
		    {"futex_waitv", SYS_futex_waitv, ENOSYS},
		    {"flock", SYS_flock, EPERM},
		    {"flock", SYS_flock, EOPNOTSUPP},
		    {"close_range", SYS_close_range, ENOSYS},
		    {"memfd_create", SYS_memfd_create, EPERM},
		    {"set_robust_list", SYS_set_robust_list, ENOSYS},
		    {"epoll_pwait2", SYS_epoll_pwait2, ENOSYS},
		    {"sched_setattr", SYS_sched_setattr, EPERM}};

	unsetenv("SHOAL_SOCKET");
	setenv("XDG_RUNTIME_DIR", dir, 1);
	for (size_t i = 0; i < sizeof call / sizeof *call; i++) {
		int code = run_without(call[i].number, call[i].error);

		cr_expect(code == 0 || (code == 125 && strstr(text, call[i].name)), "without %s: exit code %d: %s",
			  call[i].name, code, text);
	}
}

/* ---- deaths without a sign ---- */

static const char *const ways[] = {"empty", "wild", "offset", "overrun", "none", "unmap", "readonly"};

Test(operate, a_worker_that_hid_its_death_is_seen_as_dead, .init = start_nodelay, .fini = stop, .timeout = TEST_S)
{
	for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
		int code = sh("timeout 60 build/shoal run build/tests/modules/survive/unsigned.so %s 2>&1", ways[i]);

		cr_expect(code == 137 || code == 139 || code == 135, "%s: exit code %d, %s", ways[i], code, text);
		WAIT_FOR(gone(atoi(text)));
		cr_expect_eq(sh("timeout 60 build/shoal run " VICTIM " 2>&1"), 0, "%s: %s", ways[i], text);
	}
}

Test(operate, a_death_that_was_hidden_while_no_supervisor_lived_is_seen, .init = start_nodelay, .fini = stop,
     .timeout = TEST_S)
{
	cr_assert_eq(sh("build/shoal submit build/tests/modules/survive/unsigned.so empty %s/go 2>&1", dir), 0, "%s",
		     text);
	until("build/shoal logs 1 | grep -q '^[0-9]'");
	kill_supervisor();
	sh("touch %s/go", dir);
	cr_expect_eq(sh("timeout 20 build/shoal start 2>&1"), 0, "%s", text);
	cr_expect_eq(sh("timeout 60 build/shoal wait 1 2>&1"), 137, "%s", text);
	cr_expect_eq(sh("timeout 60 build/shoal run " VICTIM " 2>&1"), 0, "%s", text);
}
