/*
 * stack.c - saved registers and stacks, of which nothing can be believed: frames are made of them, with the unwind
 * tables of this very program. An input is the stack's words; words below 65536 stand for places in our code.
 */
#include "tests/fuzz/fuzz.h"
#include "tools/shoal/unwind.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Return addresses, frame pointers that go up, down and round, and noise. */
const struct fuzz_input fuzz_seeds[] = {
	SEED("\x10\0\0\0\0\0\0\0\x40\0\x10\0\0\0\0\0\x80\0\0\0\0\0\0\0\x60\0\x10\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\x10\0\0\0\0\0"),
	SEED("\x08\0\x10\0\0\0\0\0\x08\0\x10\0\0\0\0\0\x20\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\x01\0\0\0\0\0\0\0"),
	{NULL, 0}};
const uint64_t fuzz_runs = 150000;
const char *const fuzz_words[] = {"\x20", "\xff\xff\xff\xff", "\x01\x01\x01\x01\x01\x01\x01\x01", "\x7f\xff\xff", NULL};

#define BASE 0x100000ul /* the claimed address of the stack */
#define FRAMES 64

static struct unwinder *u;
static const uint8_t *stack;
static size_t bytes;

static uint64_t placed(uint64_t word)
{
	return word < 65536 ? (uint64_t)(uintptr_t)fuzz_one + word * 8 : word;
}

static bool reads(void *arg, uint64_t at, uint64_t *word)
{
	(void)arg;
	if (at < BASE || at - BASE > bytes || bytes - (at - BASE) < 8)
		return false;
	memcpy(word, stack + (at - BASE), 8);
	*word = placed(*word);
	return true;
}

void fuzz_one(const uint8_t *data, size_t n)
{
	struct unwind_frame f[FRAMES];
	struct unwind_regs r = {.called = n & 1};
	uint64_t word;
	size_t k;

	if (!u) {
		u = unwind_open();
		if (!u || !unwind_add_process(u, getpid()))
			abort();
		unwind_ready(u);
	}
	stack = data;
	bytes = n;
	for (unsigned i = 0; i < UNWIND_REGS && 8ul * i + 8 <= n; i++) {
		memcpy(&word, data + 8ul * i, 8);
		unwind_set(&r, i, placed(word));
	}
	unwind_set(&r, UNWIND_RSP, BASE + (n ? data[0] & 0xf8 : 0));
	if (!(r.known & 1u << UNWIND_PC))
		unwind_set(&r, UNWIND_PC, (uint64_t)(uintptr_t)fuzz_one);
	k = unwind_stack(u, &r, reads, NULL, f, FRAMES);
	if (k < 1 || k > FRAMES)
		abort();
	for (size_t i = 0; i < k; i++) /* what it reports can be read */
		if ((f[i].function && !strlen(f[i].function)) || (f[i].file && strlen(f[i].file) > 65536))
			abort();
}
