/*
 * outcall.c - calls of libc's that block somewhere inside of it, out of reach for netpoll.
 *
 * They count as a system call known to block: the P goes on without them. They run on a stack of
 * the process and not on the goroutine's, so what they allocate is the process' own, as are the
 * caches in which libc keeps it.
 */
#include "worker/posix/posix.h"
#include "shm/check.h"
#include "worker/stacks.h"

#include <sys/mman.h>

#define OUTCALL_STACK (512ul << 10)

void outcall(void (*fn)(void *), void *arg)
{
	static char *stack; /* a mapping and a variable of this process: nobody else is in an outcall here */

	syscall_backoff(NULL, NULL);
	if (!stack) {
		stack = (char *)syscall(SYS_mmap, NULL, OUTCALL_STACK, PROT_READ | PROT_WRITE,
					MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		sh_check(stack != MAP_FAILED);
		stack_private(stack, OUTCALL_STACK);
	}
	entersyscallblock();
	sh_call_on(stack + OUTCALL_STACK - 64, fn, arg);
	exitsyscall();
}
