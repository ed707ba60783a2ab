/*
 * size.h - sizes as people write them: 64M, 1.5G, 2GiB.
 */
#ifndef SHM_SIZE_H
#define SHM_SIZE_H

#include <stdbool.h>
#include <stdint.h>

struct sh_unit {
	const char *name; /* NULL ends a list */
	double factor;
};

/*
 * Adds up numbers with a unit each, such as "1h30m". Only digits and a decimal point are allowed. Returns false
 * for any other text, or if the sum is too large.
 */
bool sh_units_parse(const char *text, const struct sh_unit *, int64_t *sum);
bool sh_size_parse(const char *text, int64_t *bytes); /* units of 1024: B K M G T, k m g t, KiB MiB GiB TiB */

#endif
