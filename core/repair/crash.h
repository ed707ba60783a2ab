/* crash.h - the record of a crash. */
#ifndef CORE_REPAIR_CRASH_H
#define CORE_REPAIR_CRASH_H

#include <stdatomic.h>
#include <stdint.h>

enum crash_kind { CRASH_SIGNAL = 1, CRASH_CHECK, CRASH_MISUSE, CRASH_OVERFLOW };
#define CRASH_FRAMES 64
#define CRASH_STACK 8192u
/*
 * A crash.
 * OWNER  the crashing process, until it stores valid; then the medic, which copies it to the root
 * LOCK   none
 * ORDER  valid is stored last
 * DEATH  without valid there was no crash: the goroutine counts as lost
 */
struct crash {
	_Atomic uint32_t valid;
	int32_t kind, signal, code;
	void *address;
	uint64_t gid, task;
	int64_t when; /* CLOCK_REALTIME in ns */
	int32_t pid, worker;
	uint64_t regs[23];	     /* gregs of the ucontext */
	char message[256], name[32]; /* the goroutine's name */
	int32_t nframes;
	void *frame[CRASH_FRAMES];
	uint64_t stack_at; /* the top of its stack from this address on, as it was */
	uint32_t stack_bytes;
	char stack[CRASH_STACK];
};

#define CRASH_KEPT 1000

#endif
