/*
 * dump.h - a file with the stacks of goroutines: one head, its modules, then for each goroutine a record
 * and the bytes of its stack.
 *
 * The supervisor writes the file; the command line finds and names the frames from what is in it. So a
 * crash of the reader harms nobody.
 */
#ifndef CORE_REPAIR_DUMP_H
#define CORE_REPAIR_DUMP_H

#include "core/g/g.h"

#define DUMP_MAGIC 0x706d75646c616f68ul
#define DUMP_VERSION 2u
#define DUMP_STACK_MAX (256u << 10) /* of a larger stack, the innermost frames */

struct dump_head {
	uint64_t magic;
	uint32_t version, modules;
	/* pids: the supervisor has the modules open, the zygote has the libraries mapped */
	int32_t supervisor, zygote;
};

struct dump_module {
	uint64_t base;
	int32_t fd; /* the supervisor's descriptor: /proc/PID/fd/N */
	char name[68];
	char file[232]; /* path of a library, or empty */
};

enum { DUMP_NO_STACK = 1, DUMP_NOT_BEGUN = 2, DUMP_PINNED = 4 };

struct dump_g {
	uint64_t gid, parent, task;
	uint32_t status, waitreason;
	int32_t worker, p; /* -1: none */
	int64_t waiting_ns;
	uint64_t stack_used, stack_size;
	uint64_t gopc, fn;
	uint64_t pc, rsp, rbp, rbx, r12, r13, r14, r15; /* rsp is the caller's of the function that switched away */
	uint32_t flags, bytes; /* bytes of the stack that follow, from rsp on; a multiple of 8 */
	char name[32];
};

/* The top of the stack of a goroutine that does not run, from sp upwards (worker/switch_x86_64.S). */
struct saved_frame {
	uint64_t control, r15, r14, r13, r12, rbx, rbp, pc;
};

#endif
