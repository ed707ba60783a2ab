/*
 * dump.h - the stacks of goroutines as the supervisor hands them to who can read them: a file of
 * one head, its modules, then a record each, followed by the bytes of its stack.
 *
 * Frames are found and named elsewhere (the command line), from what is in here alone: a crash of
 * the reader harms nobody.
 */
#ifndef CORE_REPAIR_DUMP_H
#define CORE_REPAIR_DUMP_H

#include "core/g/g.h"

#define DUMP_MAGIC 0x706d75646c616f68ul
#define DUMP_VERSION 2u
#define DUMP_STACK_MAX (256u << 10) /* of a deeper one, the innermost frames */

struct dump_head {
	uint64_t magic;
	uint32_t version, modules;
	int32_t supervisor, zygote; /* pids: modules are open in the one, libraries mapped in the other */
};

struct dump_module {
	uint64_t base;
	int32_t fd; /* of a module, in the supervisor: /proc/PID/fd/N */
	char name[68];
	char file[232]; /* of a library, or "" */
};

enum { DUMP_NO_STACK = 1, DUMP_NOT_BEGUN = 2, DUMP_PINNED = 4 };

struct dump_g {
	uint64_t gid, parent, task;
	uint32_t status, waitreason;
	int32_t worker, p; /* -1: none */
	int64_t waiting_ns;
	uint64_t stack_used, stack_size;
	uint64_t gopc, fn;
	uint64_t pc, rsp, rbp, rbx, r12, r13, r14, r15; /* rsp: of the caller of what left */
	uint32_t flags, bytes;				/* of the stack, from rsp on; a multiple of 8 */
	char name[32];
};

/*
 * What a goroutine that does not run has on its stack, from sp upwards (worker/switch_x86_64.S).
 */
struct saved_frame {
	uint64_t control, r15, r14, r13, r12, rbx, rbp, pc;
};

#endif
