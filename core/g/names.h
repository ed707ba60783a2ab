/* names.h - the names of states and wait reasons. */
#ifndef CORE_G_NAMES_H
#define CORE_G_NAMES_H

enum waitreason {
	WAIT_ZERO,
	WAIT_IO,
	WAIT_SLEEP,
	WAIT_RECV_NIL,
	WAIT_SEND_NIL,
	WAIT_SELECT_EMPTY,
	WAIT_SELECT,
	WAIT_RECV,
	WAIT_SEND,
	WAIT_COND,
	WAIT_MUTEX,
	WAIT_RW_RLOCK,
	WAIT_RW_LOCK,
	WAIT_WG,
	WAIT_SEM,
	WAIT_JOIN,
	WAIT_PREEMPTED,
	WAIT_STOPTHEWORLD,
	WAIT_PTHREAD_LOCK,
	WAIT_PTHREAD_COND,
	WAIT_PTHREAD_SEM,
	WAIT_SIGNAL,
	WAIT_WORKER,
	WAIT_OUTPUT,
	WAIT_LIBRARY,
	WAIT_FUTEX,
	WAIT_PTHREAD_JOIN,
	WAIT_RESTART,
	/* It crashed or was lost, and so ended its task: it waits until the medic ends it with the task. */
	WAIT_CRASHED,
	WAIT_LOST,
	WAIT_REASONS
};
extern const char *const waitreason_name[WAIT_REASONS];
const char *g_status_name(unsigned status);

#endif
