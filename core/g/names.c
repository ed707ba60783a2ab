/* names.c - the names of states and wait reasons, Go's where Go has one. Depends on nothing else. */
#include "core/g/names.h"

const char *const waitreason_name[WAIT_REASONS] = {
	[WAIT_ZERO] = "",
	[WAIT_IO] = "IO wait",
	[WAIT_SLEEP] = "sleep",
	[WAIT_RECV_NIL] = "chan receive (nil chan)",
	[WAIT_SEND_NIL] = "chan send (nil chan)",
	[WAIT_SELECT_EMPTY] = "select (no cases)",
	[WAIT_SELECT] = "select",
	[WAIT_RECV] = "chan receive",
	[WAIT_SEND] = "chan send",
	[WAIT_COND] = "sync.Cond.Wait",
	[WAIT_MUTEX] = "sync.Mutex.Lock",
	[WAIT_RW_RLOCK] = "sync.RWMutex.RLock",
	[WAIT_RW_LOCK] = "sync.RWMutex.Lock",
	[WAIT_WG] = "sync.WaitGroup.Wait",
	[WAIT_SEM] = "semacquire",
	[WAIT_JOIN] = "join",
	[WAIT_PREEMPTED] = "preempted",
	[WAIT_STOPTHEWORLD] = "stopping the world",
	[WAIT_PTHREAD_LOCK] = "pthread lock",
	[WAIT_PTHREAD_COND] = "pthread_cond_wait",
	[WAIT_PTHREAD_SEM] = "sem_wait",
	[WAIT_SIGNAL] = "signal",
	[WAIT_WORKER] = "syscall turn",
	[WAIT_OUTPUT] = "output wait",
	[WAIT_LIBRARY] = "dlopen",
	[WAIT_FUTEX] = "futex",
	[WAIT_PTHREAD_JOIN] = "pthread_join",
	[WAIT_RESTART] = "restart delay",
	[WAIT_CRASHED] = "crashed",
	[WAIT_LOST] = "lost",
};

const char *g_status_name(unsigned status)
{
	static const char *const name[] = {"idle", "runnable", "running", "syscall",   "waiting",
					   "?5",   "dead",     "?7",	  "copystack", "preempted"};

	return status < sizeof name / sizeof *name ? name[status] : "?";
}
