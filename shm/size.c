/*
 * size.c - see size.h.
 */
#include "shm/size.h"

#include <ctype.h>
#include <stddef.h>
#include <string.h>

/* A number without a unit is taken only if the list has the unit "". */
bool sh_units_parse(const char *text, const struct sh_unit *units, int64_t *result)
{
	double sum = 0;
	if (!*text)
		return false;
	while (*text) {
		if (!isdigit((unsigned char)*text))
			return false;
		/* strtod would take 0x10, 1e3 and the locale's comma. */
		double number = 0, place = 1;
		for (; isdigit((unsigned char)*text); text++)
			number = number * 10 + (*text - '0');
		if (*text == '.' && isdigit((unsigned char)text[1]))
			for (text++; isdigit((unsigned char)*text); text++)
				number += (*text - '0') * (place /= 10);
		size_t len = strcspn(text, "0123456789.");
		const struct sh_unit *u = units;
		while (u->name && !(strlen(u->name) == len && strncmp(u->name, text, len) == 0))
			u++;
		if (!u->name)
			return false;
		sum += number * u->factor;
		text += len;
	}
	if (sum > 9.2e18)
		return false;
	*result = (int64_t)(sum + 0.5);
	return true;
}

bool sh_size_parse(const char *text, int64_t *bytes)
{
	const double K = 1024;
	const struct sh_unit units[] = {{"", 1},
					{"B", 1},
					{"K", K},
					{"M", K * K},
					{"G", K * K * K},
					{"T", K * K * K * K},
					{"k", K},
					{"m", K * K},
					{"g", K * K * K},
					{"t", K * K * K * K},
					{"KiB", K},
					{"MiB", K * K},
					{"GiB", K * K * K},
					{"TiB", K * K * K * K},
					{NULL, 0}};
	return sh_units_parse(text, units, bytes);
}
