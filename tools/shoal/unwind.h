/*
 * unwind.h - turns saved registers and stack memory into frames with function, file and line.
 *
 * It serves goroutines that crashed, are parked, or whose worker is dead: no process needs to run. Frames come
 * from the unwind tables (CFI) of the files that the code was loaded from; where a file has none, the frame
 * pointer is followed. This file knows neither the socket nor the segment.
 */
#ifndef TOOLS_SHOAL_UNWIND_H
#define TOOLS_SHOAL_UNWIND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct unwinder;

/* Numbers of the x86-64 registers in DWARF. */
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

/* pc and rsp must be known. Functions without frame pointer also need rbp, rbx and r12 to r15. */
struct unwind_regs {
	uint64_t reg[UNWIND_REGS];
	uint32_t known; /* one bit for each register */
	bool called;	/* pc is a return address: the frame is in the call before it */
};
static inline void unwind_set(struct unwind_regs *r, unsigned which, uint64_t value)
{
	r->reg[which] = value;
	r->known |= 1u << which;
}

/* Reads the saved word at an address of the goroutine's stack. Returns false if it was not saved. */
typedef bool unwind_read(void *arg, uint64_t at, uint64_t *word);

struct unwind_frame {
	uint64_t pc;
	uint64_t offset;      /* of pc in the function, or in the module if the function has no name */
	const char *function; /* NULL: unknown */
	const char *module;   /* name of the file without its folder; NULL: pc is in no module */
	const char *file;     /* absolute path of the source, or NULL */
	int line;
	bool inlined; /* inlined into the next frame, which has the same pc */
};		      /* the strings are valid until unwind_close */

struct unwinder *unwind_open(void);
/*
 * Adds a loaded file. name: for the output. file: the path to read, perhaps /proc/PID/fd/N. bias: what the loader
 * added to its addresses. Returns false if the file cannot be read.
 */
bool unwind_add(struct unwinder *, const char *name, const char *file, uint64_t bias);
/* Adds the program and libraries that a process has mapped, if their files can be opened. Returns their number. */
unsigned unwind_add_process(struct unwinder *, pid_t);
/* Call this after the last unwind_add and before the functions below. */
void unwind_ready(struct unwinder *);

/* Fills in frames, innermost first, and returns their number: at most max, and 0 only if max is 0. */
size_t unwind_stack(struct unwinder *, const struct unwind_regs *, unwind_read *, void *arg,
		    struct unwind_frame *frames, size_t max);
/*
 * Fills in the frames of one address: the functions that are inlined there, innermost first, then the function
 * itself. Returns their number, 0 only if max is 0. caller: pc is a return address, so the call before it counts.
 */
size_t unwind_names(struct unwinder *, uint64_t pc, bool caller, struct unwind_frame *, size_t max);
/* Fills in only the function at the address, without inlined ones. */
void unwind_name(struct unwinder *, uint64_t pc, bool caller, struct unwind_frame *);
void unwind_close(struct unwinder *);

#endif
