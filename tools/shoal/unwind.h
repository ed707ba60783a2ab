/*
 * unwind.h - from registers and memory that somebody saved to frames with function, file and line.
 *
 * For goroutines that crashed, are parked, or whose worker is gone: nothing needs to run. Frames
 * come from the unwind tables (CFI) of the files the code was loaded from; where one has none, the
 * frame pointer is followed. Knows neither the socket nor the segment.
 */
#ifndef TOOLS_SHOAL_UNWIND_H
#define TOOLS_SHOAL_UNWIND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct unwinder;

/* DWARF's numbers of the x86-64 registers. */
enum {
	UNWIND_RAX,
	UNWIND_RDX,
	UNWIND_RCX,
	UNWIND_RBX,
	UNWIND_RSI,
	UNWIND_RDI,
	UNWIND_RBP,
	UNWIND_RSP,
	UNWIND_R8,
	UNWIND_R9,
	UNWIND_R10,
	UNWIND_R11,
	UNWIND_R12,
	UNWIND_R13,
	UNWIND_R14,
	UNWIND_R15,
	UNWIND_PC,
	UNWIND_REGS
};

/* pc and rsp must be known; rbp should be, and rbx, r12-r15 where frames have no frame pointer. */
struct unwind_regs {
	uint64_t reg[UNWIND_REGS];
	uint32_t known; /* a bit each */
	bool called;	/* pc is a return address: it is in the call before that */
};
static inline void unwind_set(struct unwind_regs *r, unsigned which, uint64_t value)
{
	r->reg[which] = value;
	r->known |= 1u << which;
}

/* The word at an address of the goroutine's; false: nobody saved it. */
typedef bool unwind_read(void *arg, uint64_t at, uint64_t *word);

struct unwind_frame {
	uint64_t pc;
	uint64_t offset;      /* of pc in the function, or in the module if the function has no name */
	const char *function; /* NULL: unknown */
	const char *module;   /* file's name without folder, NULL: pc is in none */
	const char *file;     /* of the source, absolute, or NULL */
	int line;
	bool inlined; /* into the frame after it, which has the same pc */
};		      /* the strings are good until unwind_close */

struct unwinder *unwind_open(void);
/*
 * Tells of a loaded file. name: shown. file: where to read it, which may be /proc/PID/fd/N for one
 * that has no name. bias: what the loader added to its addresses. false: it cannot be read.
 */
bool unwind_add(struct unwinder *, const char *name, const char *file, uint64_t bias);
/* The programs and libraries that a process has mapped from files that can still be opened; how many. */
unsigned unwind_add_process(struct unwinder *, pid_t);
/* After the last unwind_add and before the first question. */
void unwind_ready(struct unwinder *);

/* Frames from the innermost on; how many, at most max. 0 only if max is 0. */
size_t unwind_stack(struct unwinder *, const struct unwind_regs *, unwind_read *, void *arg,
		    struct unwind_frame *frames, size_t max);
/*
 * What is at one address: the function there, after those that are inlined into it, innermost first; how
 * many, 0 only if max is 0. caller: pc is a return address, the call before it is meant.
 */
size_t unwind_names(struct unwinder *, uint64_t pc, bool caller, struct unwind_frame *, size_t max);
/* The function alone. */
void unwind_name(struct unwinder *, uint64_t pc, bool caller, struct unwind_frame *);
void unwind_close(struct unwinder *);

#endif
