/*
 * fuzz.h - inputs made from good ones by small damage, again and again, and what reads them.
 *
 *   fuzz_NAME [--seed N] [--runs N] [FILE...]     files: those inputs alone, as they are
 *
 * The same seed makes the same inputs. One that ends the program is kept in the folder of the logs, and
 * its name is printed. `make fuzz` builds the targets with clang's libFuzzer, which looks for new paths.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

struct fuzz_input {
	const char *data;
	size_t n;
};

/* A target has these. */
extern const uint64_t fuzz_runs;	      /* unless --runs says how many: a few seconds */
extern const struct fuzz_input fuzz_seeds[];  /* good ones, the last one without data */
extern const char *const fuzz_words[];	      /* put in here and there, the last one NULL */
void fuzz_one(const uint8_t *data, size_t n); /* data[n] is 0. Ends the program if something is wrong */

#define SEED(text) \
	{ \
		text, sizeof(text) - 1 \
	}

/* Makes the inputs, for live.c, which sends them to other processes. */
uint64_t fuzz_random(void);
void fuzz_begin(uint64_t seed);
/* Damages a copy of a seed; never more than room. */
size_t fuzz_make(const struct fuzz_input *seeds, const char *const *words, uint8_t *to, size_t room);
size_t fuzz_damage(const char *const *words, uint8_t *data, size_t n, size_t room);

#endif
