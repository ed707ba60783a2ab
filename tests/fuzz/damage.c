/*
 * damage.c - damages good inputs: flips bits, cuts out, doubles and moves pieces, makes numbers extreme, inserts
 * words.
 */
#include "tests/fuzz/fuzz.h"

#include <stdio.h>
#include <string.h>

static uint64_t state = 1;

void fuzz_begin(uint64_t seed)
{
	state = seed * 0x9e3779b97f4a7c15u + 88172645463325252u;
}

uint64_t fuzz_random(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static size_t below(size_t n)
{
	return n ? fuzz_random() % n : 0;
}

static size_t put(uint8_t *data, size_t n, size_t room, size_t at, const void *what, size_t len)
{
	if (len > room - n)
		return n;
	memmove(data + at + len, data + at, n - at);
	memcpy(data + at, what, len);
	return n + len;
}

static size_t cut(uint8_t *data, size_t n, size_t at, size_t len)
{
	memmove(data + at, data + at + len, n - at - len);
	return n - len;
}

/* In place of the digits there, if there are some. */
static size_t number(uint8_t *data, size_t n, size_t room, size_t at)
{
	static const char *const extreme[] = {"0",
					      "-1",
					      "1",
					      "2147483647",
					      "2147483648",
					      "4294967296",
					      "9223372036854775807",
					      "-9223372036854775808",
					      "18446744073709551616",
					      "1e308",
					      "0.5",
					      "99999999999999999999999999",
					      "07",
					      "0x10"};
	const char *with = extreme[below(sizeof extreme / sizeof *extreme)];
	size_t len = 0;

	while (at < n && (data[at] < '0' || data[at] > '9'))
		at++;
	while (at + len < n && data[at + len] >= '0' && data[at + len] <= '9')
		len++;
	if (!len)
		return n;
	n = cut(data, n, at, len);
	return put(data, n, room, at, with, strlen(with));
}

static unsigned how_many(const char *const *words)
{
	unsigned n = 0;

	while (words[n])
		n++;
	return n;
}

size_t fuzz_damage(const char *const *words, uint8_t *data, size_t n, size_t room)
{
	size_t at = below(n + 1), len = below(n - at < 16 ? n - at + 1 : 16);
	unsigned nwords = how_many(words);
	uint8_t piece[256];
	const char *word;

	switch (below(9)) {
	case 0:
		if (at < n)
			data[at] ^= (uint8_t)(1u << below(8));
		return n;
	case 1:
		if (at < n)
			data[at] = (uint8_t)fuzz_random();
		return n;
	case 2: return cut(data, n, at, len);
	case 3: return cut(data, n, at, n - at); /* the end is missing */
	case 4:
		len = len < sizeof piece ? len : sizeof piece;
		memcpy(piece, data + at, len);
		for (unsigned times = 1 + (unsigned)below(4); times; times--)
			n = put(data, n, room, at, piece, len);
		return n;
	case 5: return number(data, n, room, at);
	case 6:
		len = below(sizeof piece);
		memset(piece, "[{\"0 \\\xff"[below(7)], len);
		return put(data, n, room, at, piece, len);
	default:
		if (!nwords)
			return n;
		word = words[below(nwords)];
		return put(data, n, room, at, word, strlen(word));
	}
}

size_t fuzz_make(const struct fuzz_input *seeds, const char *const *words, uint8_t *to, size_t room)
{
	unsigned nseeds = 0;
	const struct fuzz_input *from;
	size_t n;

	while (seeds[nseeds].data)
		nseeds++;
	from = &seeds[below(nseeds)];
	n = from->n < room ? from->n : room;
	memcpy(to, from->data, n);
	for (unsigned times = (unsigned)below(8); times; times--)
		n = fuzz_damage(words, to, n, room);
	if (below(8) == 0) { /* the head of this and the tail of another */
		size_t keep = below(n + 1), tail;

		from = &seeds[below(nseeds)];
		tail = below(from->n + 1);
		tail = tail < room - keep ? tail : room - keep;
		memcpy(to + keep, from->data + from->n - tail, tail);
		n = keep + tail;
	}
	return n;
}
