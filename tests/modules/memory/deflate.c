/*
 * deflate.c - zlib, which knows nothing of us, on goroutines that move between its calls.
 *
 *   deflate.so GOROUTINES BYTES
 *
 * Each packs BYTES of its own in pieces, unpacks them again and compares; after each piece it gives
 * way, so its streams, which zlib allocates, are used in one worker and another. Prints how many
 * came to a right end, and "moved" if any piece was done elsewhere than the one before.
 */
#include <shoal.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define PIECE 8192

static struct shoal_wg all;
static atomic_int right, moves;
static size_t bytes;

static unsigned char byte_at(unsigned who, size_t at)
{
	size_t x = at / 7 * 2654435761u + who;

	return (unsigned char)(x >> 13 & 15 ? 'a' + at % 23 : x >> 5);
}

static void step(int *worker)
{
	int now;

	if (rand() % 4 == 0)
		shoal_sleep(20000);
	else
		shoal_yield();
	now = shoal_worker();
	if (now != *worker)
		atomic_fetch_add(&moves, 1);
	*worker = now;
}

/* All bytes packed into one growing block. NULL: something went wrong. */
static unsigned char *pack(unsigned who, size_t *packed)
{
	z_stream z = {0};
	unsigned char *out = NULL, in[PIECE];
	size_t room = 0;
	int worker = shoal_worker(), r = Z_OK;

	if (deflateInit(&z, 1 + (int)who % 9) != Z_OK)
		return NULL;
	for (size_t at = 0; r == Z_OK && at < bytes; at += z.next_in - in) {
		size_t n = bytes - at < PIECE ? bytes - at : PIECE;

		for (size_t i = 0; i < n; i++)
			in[i] = byte_at(who, at + i);
		z.next_in = in;
		z.avail_in = (uInt)n;
		while (r == Z_OK && (z.avail_in || at + n == bytes)) {
			if (room - z.total_out < PIECE) {
				out = realloc(out, room += 2 * PIECE);
				if (!out)
					return NULL;
			}
			z.next_out = out + z.total_out;
			z.avail_out = (uInt)(room - z.total_out);
			r = deflate(&z, at + n == bytes ? Z_FINISH : Z_NO_FLUSH);
		}
		step(&worker);
	}
	*packed = z.total_out;
	return deflateEnd(&z) == Z_OK && r == Z_STREAM_END ? out : NULL;
}

static int unpack(unsigned who, unsigned char *in, size_t n)
{
	z_stream z = {.next_in = in, .avail_in = (uInt)n};
	unsigned char out[PIECE];
	int worker = shoal_worker(), r = inflateInit(&z);
	size_t at = 0;

	while (r == Z_OK) {
		z.next_out = out;
		z.avail_out = PIECE;
		r = inflate(&z, Z_NO_FLUSH);
		for (size_t i = 0; i < PIECE - z.avail_out; i++)
			if (out[i] != byte_at(who, at + i))
				return 0;
		at += PIECE - z.avail_out;
		step(&worker);
	}
	return inflateEnd(&z) == Z_OK && r == Z_STREAM_END && at == bytes;
}

static void there_and_back(void *arg)
{
	unsigned who = *(unsigned *)arg;
	size_t n;
	unsigned char *packed = pack(who, &n);

	if (packed && n < bytes && unpack(who, packed, n))
		atomic_fetch_add(&right, 1);
	free(packed);
}

int shoal_main(int argc, char **argv)
{
	static const struct shoal_go_opts again = {.attempts = 1000};
	unsigned n = argc > 1 ? (unsigned)atoi(argv[1]) : 50;

	bytes = argc > 2 ? (size_t)atol(argv[2]) : 200000;
	for (unsigned who = 0; who < n; who++)
		if (!shoal_wg_go_with(&all, &again, there_and_back, &who, sizeof who))
			return 1;
	shoal_wg_wait(&all);
	printf("%d %s\n", atomic_load(&right), atomic_load(&moves) ? "moved" : "stayed");
	return 0;
}
