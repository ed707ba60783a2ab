/*
 * calls.c - tries each system call that the runtime cannot do without, before anything is made.
 *
 * Old kernels lack some of them, and containers forbid some by a seccomp filter. Without this check the runtime
 * would hang or miss deaths later. Each call is made with arguments that the kernel refuses or that change nothing,
 * so its result says whether the call exists. Calls that have a replacement are not in the table.
 */
#include "shm/kernel.h"
#include "supervisor/daemon/calls.h"
#include "supervisor/daemon/main.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static const struct {
	const char *name;
	long number, a, b, c, d;
	int expected; /* errno; 0: the call succeeds */
} calls[] = {
	{"pidfd_send_signal", SYS_pidfd_send_signal, -1, 0, 0, 0, EBADF},
	{"futex_waitv", SYS_futex_waitv, 0, 0, 0, 0, EINVAL},
	{"set_robust_list", SYS_set_robust_list, 0, 0, 0, 0, EINVAL},
	{"sigaltstack", SYS_sigaltstack, 0, 0, 0, 0, 0},
	{"mremap", SYS_mremap, 0, 0, 0, 0, EINVAL},
	{"membarrier", SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0, 0, 0},
	{"memfd_create", SYS_memfd_create, 0, 0, 0, 0, EFAULT},
	{"eventfd2", SYS_eventfd2, 0, -1, 0, 0, EINVAL},
	{"signalfd4", SYS_signalfd4, -1, 0, 0, -1, EINVAL},
	{"epoll_create1", SYS_epoll_create1, -1, 0, 0, 0, EINVAL},
	{"epoll_ctl", SYS_epoll_ctl, -1, EPOLL_CTL_DEL, -1, 0, EBADF},
	{"timer_create", SYS_timer_create, 99, 0, 0, 0, EINVAL},
	{"tgkill", SYS_tgkill, -1, -1, 0, 0, EINVAL},
	{"close_range", SYS_close_range, 1, 0, 0, 0, EINVAL},
};

static _Noreturn void fail_for(const char *name, int err)
{
	sh_fail(1, "the system call %s is missing or not permitted: %s", name, strerror(err));
}

void sh_calls_check(void)
{
	int *tid_address;
	long fd = syscall(SYS_pidfd_open, getpid(), 0);

	if (fd < 0)
		fail_for("pidfd_open", errno);
	kernel_close((int)fd);
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
		long r = syscall(calls[i].number, calls[i].a, calls[i].b, calls[i].c, calls[i].d, 0, 0);

		if (r < 0 && errno != calls[i].expected)
			fail_for(calls[i].name, errno);
	}
	if (prctl(PR_GET_TID_ADDRESS, &tid_address) < 0)
		fail_for("prctl(PR_GET_TID_ADDRESS)", errno);
}
