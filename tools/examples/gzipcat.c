/*
 * gzipcat.c - compresses files in gzip's format, and decompresses them, with a goroutine for each block.
 *
 *   shoal run gzipcat.so [-d] FILE... >OUT
 *
 * To compress, each block of 256 KiB is a goroutine and a gzip member of its own; gzip -d accepts several members
 * in a row. A block whose worker dies is compressed again. To decompress, each file is a goroutine, because a
 * stream can only be read from its beginning; it hands over its output in pieces. The root goroutine writes
 * everything in order. The number of blocks that are ahead of it is limited, so memory is bounded.
 *
 * Link with -lz. zlib knows nothing of goroutines: its state is on the heap, so it moves with them.
 */
#include <errno.h>
#include <fcntl.h>
#include <shoal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#define BLOCK (256u << 10)
#define AHEAD 32     /* limit of blocks or files that are processed at the same time */
#define GZIP 15 + 16 /* zlib's window, with a gzip header */
#define DETECT 15 + 32

struct block {
	int fd;
	off_t at;
	size_t size;
	unsigned char *out;
	size_t len; /* length of out; 0: it failed */
};

struct piece {
	unsigned char *out;
	size_t len; /* 0: the file is not a gzip file, or it is damaged */
};

struct file {
	int fd;
	struct shoal_chan *pieces;
};

static int failed;

static int fail(const char *what, const char *why)
{
	fprintf(stderr, "gzipcat: %s: %s\n", what, why);
	failed = 1;
	return 1;
}

static void put(unsigned char *p, size_t n)
{
	while (n > 0) {
		ssize_t w = write(1, p, n);

		if (w <= 0) {
			fail("output", strerror(errno));
			exit(1);
		}
		p += w;
		n -= (size_t)w;
	}
}

/* ---- packing ---- */

static int read_block(const struct block *b, unsigned char *in)
{
	size_t have = 0;

	while (have < b->size) {
		ssize_t n = pread(b->fd, in + have, b->size - have, b->at + (off_t)have);

		if (n <= 0)
			return -1; /* the file became shorter while it was read */
		have += (size_t)n;
	}
	return 0;
}

static void pack(void *arg)
{
	struct block *b = *(struct block **)arg;
	unsigned char *in = malloc(b->size + 1);
	z_stream z = {0};

	b->len = 0;
	if (!in || read_block(b, in) < 0 ||
	    deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, GZIP, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
		free(in);
		return;
	}
	z.avail_out = (uInt)deflateBound(&z, b->size);
	b->out = malloc(z.avail_out);
	z.next_in = in;
	z.avail_in = (uInt)b->size;
	z.next_out = b->out;
	if (b->out && deflate(&z, Z_FINISH) == Z_STREAM_END)
		b->len = z.total_out;
	deflateEnd(&z);
	free(in);
}

static struct block *blocks[AHEAD];
static shoal_gid packers[AHEAD];

/* Writes the next block in order. */
static void put_block(unsigned slot, const char *name)
{
	struct block *b = blocks[slot];
	struct shoal_end end;

	if (!b)
		return;
	if (shoal_join(packers[slot], &end) || end.how != SHOAL_DONE || !b->len)
		fail(name, "cannot compress a block");
	else
		put(b->out, b->len);
	free(b->out);
	free(b);
	blocks[slot] = NULL;
}

static void pack_file(const char *name)
{
	struct shoal_go_opts again = {.name = "pack", .attempts = 3};
	int fd = open(name, O_RDONLY | O_CLOEXEC);
	unsigned slot = 0;
	struct stat st;
	off_t at = 0;

	if (fd < 0 || fstat(fd, &st) < 0 || (S_ISDIR(st.st_mode) && (errno = EISDIR))) {
		fail(name, strerror(errno));
		return;
	}
	do { /* an empty file is also written as a member */
		struct block *b = calloc(1, sizeof *b);

		put_block(slot, name);
		if (!b) {
			fail(name, strerror(ENOMEM));
			break;
		}
		*b = (struct block){
			.fd = fd, .at = at, .size = st.st_size - at < BLOCK ? (size_t)(st.st_size - at) : BLOCK};
		packers[slot] = shoal_go_with(&again, pack, &b, sizeof b);
		if (!packers[slot]) {
			fail(name, strerror(errno));
			free(b);
			break;
		}
		blocks[slot] = b;
		slot = (slot + 1) % AHEAD;
		at += BLOCK;
	} while (at < st.st_size);
	for (unsigned i = 0; i < AHEAD; i++)
		put_block((slot + i) % AHEAD, name);
	close(fd);
}

/* ---- unpacking ---- */

/* Decompresses one piece of the stream. Returns Z_OK, or how the stream ended. */
static int unpack_piece(struct file *f, z_stream *z, unsigned char *in)
{
	struct piece p = {malloc(BLOCK), 0};
	ssize_t n;
	int r = Z_OK;

	if (!p.out)
		return Z_MEM_ERROR;
	z->next_out = p.out;
	z->avail_out = BLOCK;
	while (z->avail_out && r == Z_OK) {
		if (!z->avail_in) {
			n = read(f->fd, in, BLOCK);
			if (n <= 0) {
				r = Z_DATA_ERROR; /* the end of the stream is missing */
				break;
			}
			z->next_in = in;
			z->avail_in = (uInt)n;
		}
		r = inflate(z, Z_NO_FLUSH);
	}
	p.len = BLOCK - z->avail_out;
	if (!p.len || shoal_send(f->pieces, &p) < 0)
		free(p.out);
	return r;
}

static void unpack(void *arg)
{
	struct file *f = *(struct file **)arg;
	unsigned char *in = malloc(BLOCK);
	struct piece bad = {NULL, 0};
	z_stream z = {0};
	int r = Z_MEM_ERROR, more = 1;

	if (in && inflateInit2(&z, DETECT) == Z_OK) {
		while (more) {
			while ((r = unpack_piece(f, &z, in)) == Z_OK)
				;
			more = 0;
			if (r != Z_STREAM_END)
				break;
			/* Check for another member. gzip ignores other bytes behind the last member, such as zeros. */
			if (!z.avail_in) {
				ssize_t n = read(f->fd, in, BLOCK);

				z.next_in = in;
				z.avail_in = n > 0 ? (uInt)n : 0;
			}
			more = z.avail_in > 0 && z.next_in[0] == 0x1f && inflateReset(&z) == Z_OK;
		}
		inflateEnd(&z);
	}
	if (r != Z_STREAM_END)
		shoal_send(f->pieces, &bad);
	free(in);
	close(f->fd);
	shoal_close(f->pieces);
}

static struct file *start_unpacking(const char *name)
{
	struct file *f = calloc(1, sizeof *f);

	if (!f || (f->fd = open(name, O_RDONLY | O_CLOEXEC)) < 0 ||
	    !(f->pieces = shoal_chan_new(sizeof(struct piece), 4)) || !shoal_go(unpack, &f, sizeof f)) {
		fail(name, strerror(errno));
		return NULL;
	}
	return f;
}

static void put_file(struct file *f, const char *name)
{
	struct piece p;

	while (f && shoal_recv(f->pieces, &p) == 1) {
		if (!p.len)
			fail(name, "not in gzip format, or damaged");
		put(p.out, p.len);
		free(p.out);
	}
}

int shoal_main(int argc, char **argv)
{
	struct file *ahead[AHEAD];
	int unpacks = argc > 1 && strcmp(argv[1], "-d") == 0, first = 1 + unpacks;

	if (argc <= first || argv[first][0] == '-') {
		fprintf(stderr, "usage: gzipcat [-d] FILE...\n");
		return 2;
	}
	for (int i = first; i < argc && !unpacks; i++)
		pack_file(argv[i]);
	for (int i = first, started = first; i < argc && unpacks; i++) {
		for (; started < argc && started < i + AHEAD; started++)
			ahead[started % AHEAD] = start_unpacking(argv[started]);
		put_file(ahead[i % AHEAD], argv[i]);
	}
	return failed;
}
