/*
 * flags.h - bits of the flags register that no C code expects to be set.
 *
 * The direction flag turns string instructions round, the alignment-check flag makes unaligned loads fault.
 * Code of a task may leave them set. The runtime clears them where it is entered, or its own stores would go
 * astray. The context switch has its own check.
 */
#ifndef WORKER_FLAGS_H
#define WORKER_FLAGS_H

#define FLAGS_UNWANTED 0x40400ul /* alignment check, direction */

static inline void flags_clean(void)
{
	unsigned long f = __builtin_ia32_readeflags_u64();

	if (__builtin_expect((f & FLAGS_UNWANTED) != 0, 0))
		__builtin_ia32_writeeflags_u64(f & ~FLAGS_UNWANTED);
}

#endif
