/*
 * files/maps.c CASE [ARG] - one address space: what is mapped on one worker is there on all.
 *
 * The first goroutine and a helper are pinned to two workers. there() runs a function on the helper's worker.
 */
#define _GNU_SOURCE
#include "tests/modules/net/net.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define PAGE 4096ul
#define RW (PROT_READ | PROT_WRITE)
#define RX (PROT_READ | PROT_EXEC)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

/* ---- the other worker ---- */

struct call {
	void (*fn)(void *);
	void *arg;
};
static struct shoal_chan *asked, *done;
static const char *arg1;

static void helper(void *unused)
{
	struct call c;

	(void)unused;
	while (shoal_recv(asked, &c) == 1) {
		c.fn(c.arg);
		shoal_send(done, &c);
	}
}

static void there(void (*fn)(void *), void *arg)
{
	struct call c = {fn, arg};

	MUST(shoal_send(asked, &c) == 0 && shoal_recv(done, &c) == 1);
}

static int other;

static void where(void *unused)
{
	(void)unused;
	other = shoal_worker();
}

static void start_helper(void)
{
	shoal_pin();
	asked = shoal_chan_new(sizeof(struct call), 0);
	done = shoal_chan_new(sizeof(struct call), 0);
	shoal_go_with(&(struct shoal_go_opts){.flags = SHOAL_PINNED}, helper, NULL, 0);
	there(where, NULL);
	MUST(other != shoal_worker());
}

/* ---- looking at memory, here and there ---- */

static sigjmp_buf back;

static void on_fault(int sig)
{
	siglongjmp(back, sig);
}

/* Not on a stack: that is another memory on another worker. */
static struct touch {
	volatile char *at;
	int write, value;
	volatile int sig;
} t;

static void touch(void *unused)
{
	(void)unused;
	t.sig = sigsetjmp(back, 1);
	if (t.sig)
		return;
	if (t.write)
		*t.at = (char)t.value;
	else
		t.value = *t.at;
}

/* The signal that touching the byte gives, 0: none. */
static int faults(void *at, int write, int on_other)
{
	t = (struct touch){at, write, 9, 0};
	if (on_other)
		there(touch, NULL);
	else
		touch(NULL);
	return t.sig;
}

static int get(void *at, int on_other)
{
	t = (struct touch){at, 0, 0, 0};
	if (on_other)
		there(touch, NULL);
	else
		touch(NULL);
	return t.sig ? -1 : t.value;
}

static void put(void *at, int value, int on_other)
{
	t = (struct touch){at, 1, value, 0};
	if (on_other)
		there(touch, NULL);
	else
		touch(NULL);
	MUST(t.sig == 0);
}

#define BOTH(cond) \
	do { \
		for (int on = 0; on < 2; on++) \
			MUST(cond); \
	} while (0)

static char *map(size_t n, int prot, int flags)
{
	char *p = mmap(NULL, n, prot, flags, -1, 0);

	MUST(p != MAP_FAILED);
	return p;
}

/* ---- cases ---- */

static void exchange(char *p, size_t n)
{
	put(p, 1, 0);
	put(p + n - 1, 2, 1);
	BOTH(get(p, on) == 1 && get(p + n - 1, on) == 2 && get(p + n / 2, on) == 0);
	MUST(munmap(p, n) == 0);
	BOTH(faults(p, 0, on) == SIGSEGV && faults(p + n - 1, 1, on) == SIGSEGV);
}

static void seen_case(void)
{
	int fd, zero = open("/dev/zero", O_RDWR);

	exchange(map(PAGE, RW, ANON), PAGE);
	exchange(map(64 * PAGE, RW, ANON), 64 * PAGE);
	exchange(map(10000, RW, MAP_SHARED | MAP_ANONYMOUS), 10000);
	exchange(map(1 << 20, RW, ANON | MAP_POPULATE), 1 << 20);
	exchange(map(8 * PAGE, RW, ANON | MAP_STACK | MAP_GROWSDOWN), 8 * PAGE);
	exchange(mmap(NULL, PAGE, RW, MAP_PRIVATE, zero, 0), PAGE);
	fd = memfd_create("x", 0);
	MUST(ftruncate(fd, 16 * PAGE) == 0);
	exchange(mmap(NULL, 16 * PAGE, RW, MAP_SHARED, fd, 0), 16 * PAGE);
	close(fd);
	fd = shm_open("/shoal-maps-test", O_RDWR | O_CREAT, 0600);
	MUST(fd >= 0 && shm_unlink("/shoal-maps-test") == 0 && ftruncate(fd, 4 * PAGE) == 0);
	exchange(mmap(NULL, 4 * PAGE, RW, MAP_SHARED, fd, 0), 4 * PAGE);
	close(fd);
}

static void refused_case(void)
{
	char *p = map(PAGE, RW, ANON);
	int w = open(arg1, O_WRONLY | O_CREAT, 0600), in = open(arg1, O_RDONLY), d = open("/", O_RDONLY);

#define FAILS(want, ...) MUST(mmap(__VA_ARGS__) == MAP_FAILED && errno == (want))
	FAILS(EINVAL, NULL, 0, RW, ANON, -1, 0);
	FAILS(EINVAL, NULL, PAGE, RW, MAP_ANONYMOUS, -1, 0);
	FAILS(EINVAL, NULL, PAGE, PROT_READ, MAP_PRIVATE, in, 1);
	FAILS(EBADF, NULL, PAGE, PROT_READ, MAP_PRIVATE, 399, 0);
	FAILS(ENODEV, NULL, PAGE, PROT_READ, MAP_PRIVATE, d, 0);
	FAILS(EACCES, NULL, PAGE, PROT_READ, MAP_SHARED, w, 0);
	FAILS(EACCES, NULL, PAGE, RW, MAP_SHARED, in, 0);
	FAILS(EINVAL, p + 1, PAGE, RW, ANON | MAP_FIXED, -1, 0);
	FAILS(EEXIST, p, PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0);
	FAILS(ENOMEM, NULL, SIZE_MAX - PAGE, RW, ANON, -1, 0);
	FAILS(ENOMEM, NULL, 1ul << 46, PROT_NONE, ANON, -1, 0);
	MUST(munmap(p + 1, PAGE) < 0 && errno == EINVAL && munmap(p, 0) < 0 && errno == EINVAL);
	MUST(mprotect(p + 1, PAGE, RW) < 0 && errno == EINVAL && mprotect(p, 2 * PAGE, RW) < 0 && errno == ENOMEM);
	MUST(mremap(p, PAGE, 0, MREMAP_MAYMOVE) == MAP_FAILED && errno == EINVAL);
	MUST(mremap(p + PAGE, PAGE, 2 * PAGE, MREMAP_MAYMOVE) == MAP_FAILED && errno == EFAULT);
	MUST(munmap(p + PAGE, PAGE) == 0 && get(p, 0) == 0); /* nothing is there */
	MUST(munmap(p, PAGE) == 0 && munmap(p, PAGE) == 0);
	MUST(mprotect(p, PAGE, PROT_READ) < 0 && errno == ENOMEM && madvise(p, PAGE, MADV_DONTNEED) < 0 &&
	     errno == ENOMEM);
	MUST(msync(p, PAGE, MS_SYNC) < 0 && errno == ENOMEM);
}

static void code_is(char *p, int value)
{
	unsigned char bytes[] = {0xb8, (unsigned char)value, 0, 0, 0, 0xc3}; /* mov eax, value; ret */

	memcpy(p, bytes, sizeof bytes);
}

static struct {
	int (*fn)(void);
	int r;
} code;

static void run_code(void *unused)
{
	(void)unused;
	code.r = code.fn();
}

static int runs(char *p, int on_other)
{
	memcpy(&code.fn, &p, sizeof p);
	if (on_other)
		there(run_code, NULL);
	else
		run_code(NULL);
	return code.r;
}

static char data[2 * PAGE] __attribute__((aligned(4096)));

static void exec_case(void)
{
	char *p = map(PAGE, RW | PROT_EXEC, ANON), *q = map(PAGE, RW, ANON), *h;

	for (int i = 0; i < 20; i++) {
		code_is(p, i);
		BOTH(runs(p, on) == i);
		MUST(mprotect(q, PAGE, RW) == 0);
		code_is(q, 100 + i);
		MUST(mprotect(q, PAGE, RX) == 0);
		BOTH(runs(q, on) == 100 + i && faults(q, 1, on) == SIGSEGV);
	}
	MUST(posix_memalign((void **)&h, PAGE, PAGE) == 0);
	code_is(h, 7);
	code_is(data, 8);
	MUST(mprotect(h, PAGE, RW | PROT_EXEC) == 0 && mprotect(data, PAGE, RX) == 0);
	BOTH(runs(h, on) == 7 && runs(data, on) == 8);
	MUST(mprotect(h, PAGE, RW) == 0 && mprotect(data, PAGE, RW) == 0);
	free(h);
}

static void protect_case(void)
{
	char *p = map(16 * PAGE, RW, ANON), *h;

	memset(p, 5, 16 * PAGE);
	for (int i = 0; i < 4; i++) {
		put(p + 3 * PAGE, i, 1);
		MUST(mprotect(p + 2 * PAGE, 3 * PAGE, PROT_READ) == 0);
		BOTH(faults(p + 3 * PAGE, 1, on) == SIGSEGV && get(p + 3 * PAGE, on) == i && get(p + PAGE, on) == 5);
		MUST(mprotect(p + 3 * PAGE, PAGE, PROT_NONE) == 0);
		BOTH(faults(p + 3 * PAGE, 0, on) == SIGSEGV && get(p + 4 * PAGE, on) == 5);
		MUST(mprotect(p, 16 * PAGE, RW) == 0);
		BOTH(get(p + 3 * PAGE, on) == i && !faults(p + 3 * PAGE + 1, 1, on));
	}
	/* Memory of malloc's, and a variable: a guard around an object. */
	MUST(posix_memalign((void **)&h, PAGE, 4 * PAGE) == 0);
	memset(h, 3, 4 * PAGE);
	MUST(mprotect(h + PAGE, PAGE, PROT_NONE) == 0 && mprotect(data + PAGE, PAGE, PROT_READ) == 0);
	BOTH(faults(h + PAGE, 0, on) == SIGSEGV && get(h, on) == 3 && get(h + 2 * PAGE, on) == 3);
	BOTH(faults(data + PAGE, 1, on) == SIGSEGV && get(data + PAGE, on) == 0 && !faults(data, 1, on));
	MUST(mprotect(h + PAGE, PAGE, RW) == 0 && mprotect(data + PAGE, PAGE, RW) == 0);
	BOTH(get(h + PAGE, on) == 3 && !faults(data + PAGE, 1, on));
	free(h);
	/* A protection that a task has changed must not be seen by the next task. */
	MUST(posix_memalign((void **)&h, PAGE, 8 * PAGE) == 0 && mprotect(h, 8 * PAGE, PROT_NONE) == 0);
	BOTH(faults(h, 1, on) == SIGSEGV);
}

static void unmap_case(void)
{
	for (int round = 0; round < 10; round++) {
		char *p = map(64 * PAGE, RW, ANON), *q;

		memset(p, 1, 64 * PAGE);
		BOTH(get(p + 32 * PAGE, on) == 1);
		MUST(munmap(p + 16 * PAGE, 16 * PAGE) == 0);
		BOTH(faults(p + 16 * PAGE, 0, on) == SIGSEGV && faults(p + 32 * PAGE - 1, 1, on) == SIGSEGV);
		BOTH(get(p + 16 * PAGE - 1, on) == 1 && get(p + 32 * PAGE, on) == 1);
		q = mmap(p + 20 * PAGE, 4 * PAGE, RW, ANON | MAP_FIXED, -1, 0);
		MUST(q == p + 20 * PAGE);
		BOTH(get(q, on) == 0 && !faults(q + PAGE, 1, on) && faults(q - 1, 0, on) == SIGSEGV);
		/* Over pages that are in use: they read as zeros. */
		MUST(mmap(p, 2 * PAGE, PROT_READ, ANON | MAP_FIXED, -1, 0) == p);
		BOTH(get(p, on) == 0 && faults(p, 1, on) == SIGSEGV && get(p + 2 * PAGE, on) == 1);
		MUST(munmap(p, 64 * PAGE) == 0);
		BOTH(faults(p, 0, on) == SIGSEGV && faults(q, 0, on) == SIGSEGV &&
		     faults(p + 63 * PAGE, 0, on) == SIGSEGV);
	}
}

static void fixed_case(void)
{
	static const uintptr_t low[] = {0x10000000, 0x70000000, 0x100000000, 0x123456789000, 0x600000000000};
	char *room, *q, *p;

	for (unsigned i = 0; i < sizeof low / sizeof *low; i++) {
		char *want = (char *)low[i];

		MUST(mmap(want, 2 * PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0) == want);
		put(want, (int)i + 1, 1);
		BOTH(get(want, on) == (int)i + 1 && get(want + PAGE, on) == 0);
		MUST(mmap(want, PAGE, RW, ANON, -1, 0) != want); /* a request that cannot be fulfilled */
		MUST(munmap(want, PAGE) == 0);
		BOTH(faults(want, 0, on) == SIGSEGV && get(want + PAGE, on) == 0);
		MUST(mmap(want, PAGE, RW, ANON, -1, 0) == want); /* one that can */
		MUST(mprotect(want, 2 * PAGE, PROT_READ) == 0);
		BOTH(faults(want, 1, on) == SIGSEGV && get(want, on) == 0);
	}
	/* As V8, Go and the JVM do: many GiB of addresses, then pages of them. */
	room = map(64ul << 30, PROT_NONE, ANON | MAP_NORESERVE);
	BOTH(faults(room + (20ul << 30), 0, on) == SIGSEGV);
	for (uintptr_t at = 1ul << 30; at < 64ul << 30; at += 9ul << 30) {
		q = room + at;
		MUST(mmap(q, 1 << 20, RW, ANON | MAP_FIXED, -1, 0) == q);
		put(q + 5000, 77, 1);
		MUST(mprotect(q + (4 << 20), 1 << 20, RW) == 0);
		put(q + (4 << 20), 78, 0);
		BOTH(get(q + 5000, on) == 77 && get(q + (4 << 20), on) == 78 &&
		     faults(q + (1 << 20), 0, on) == SIGSEGV);
		MUST(mmap(q, 1 << 20, PROT_NONE, ANON | MAP_FIXED | MAP_NORESERVE, -1, 0) == q);
		MUST(madvise(q + (4 << 20), 1 << 20, MADV_DONTNEED) == 0 &&
		     mprotect(q + (4 << 20), 1 << 20, PROT_NONE) == 0);
		BOTH(faults(q, 0, on) == SIGSEGV && faults(q + (4 << 20), 0, on) == SIGSEGV);
	}
	MUST(munmap(room, 64ul << 30) == 0);
	p = map(PAGE, RW, ANON | MAP_32BIT);
	MUST((uintptr_t)p < 1ul << 31);
	put(p, 4, 1);
	MUST(get(p, 0) == 4);
	/* Code near code, as LuaJIT wants it. */
	q = (char *)((uintptr_t)fixed_case & ~0xffffful) - (64 << 20);
	p = mmap(q, PAGE, RW | PROT_EXEC, ANON, -1, 0);
	code_is(p, 5);
	BOTH(runs(p, on) == 5);
}

static void remap_case(void)
{
	char *p = map(4 * PAGE, RW, ANON), *q, *wall;

	memset(p, 6, 4 * PAGE);
	q = mremap(p, 4 * PAGE, 8 * PAGE, 0); /* in place, if the following pages are free */
	if (q == MAP_FAILED)
		MUST(errno == ENOMEM && (q = mremap(p, 4 * PAGE, 8 * PAGE, MREMAP_MAYMOVE)) != MAP_FAILED);
	BOTH(get(q, on) == 6 && get(q + 4 * PAGE - 1, on) == 6 && get(q + 4 * PAGE, on) == 0 &&
	     get(q + 8 * PAGE - 1, on) == 0);
	for (size_t n = 8; n < 4096; n *= 2) {
		put(q + n * PAGE - 1, 9, 1);
		wall = mmap(q + n * PAGE, PAGE, PROT_NONE, ANON | MAP_FIXED_NOREPLACE, -1, 0);
		p = mremap(q, n * PAGE, 2 * n * PAGE, MREMAP_MAYMOVE);
		MUST(p != MAP_FAILED && (wall == MAP_FAILED || p != q));
		BOTH(get(p, on) == 6 && get(p + n * PAGE - 1, on) == 9 && get(p + 2 * n * PAGE - 1, on) == 0);
		if (p != q)
			BOTH(faults(q, 0, on) == SIGSEGV);
		q = p;
	}
	MUST(mremap(q, 4096 * PAGE, 2 * PAGE, 0) == q);
	BOTH(get(q + PAGE, on) == 6 && faults(q + 2 * PAGE, 0, on) == SIGSEGV);
	p = map(16 * PAGE, RW, ANON);
	memset(p, 1, 16 * PAGE);
	MUST(mremap(q, 2 * PAGE, 3 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, p + 4 * PAGE) == p + 4 * PAGE);
	BOTH(get(p + 4 * PAGE, on) == 6 && get(p + 6 * PAGE, on) == 0 && get(p + 7 * PAGE, on) == 1 &&
	     faults(q, 0, on) == SIGSEGV);
	MUST(mprotect(p + 4 * PAGE, 3 * PAGE, PROT_READ) == 0);
	BOTH(faults(p + 5 * PAGE, 1, on) == SIGSEGV && get(p + 5 * PAGE, on) == 6);
}

static void advise_case(void)
{
	char *p = map(8 * PAGE, RW, ANON), *q;

	memset(p, 1, 8 * PAGE);
	BOTH(get(p + PAGE, on) == 1);
	MUST(madvise(p + PAGE, PAGE, MADV_DONTNEED) == 0);
	BOTH(get(p, on) == 1 && get(p + PAGE, on) == 0 && get(p + 2 * PAGE, on) == 1);
	MUST(mprotect(p + 2 * PAGE, PAGE, PROT_READ) == 0 && madvise(p + 2 * PAGE, PAGE, MADV_DONTNEED) == 0);
	BOTH(get(p + 2 * PAGE, on) == 0);
	MUST(madvise(p + 3 * PAGE, PAGE, MADV_FREE) == 0);
	put(p + 3 * PAGE, 8, 1);
	BOTH(get(p + 3 * PAGE, on) == 8 && (get(p + 3 * PAGE + 1, on) == 0 || get(p + 3 * PAGE + 1, on) == 1));
	MUST(madvise(p, 8 * PAGE, MADV_WILLNEED) == 0 && madvise(p, 8 * PAGE, MADV_SEQUENTIAL) == 0);
	MUST(madvise(p, 8 * PAGE, MADV_DONTFORK) == 0 && madvise(p, 8 * PAGE, MADV_DONTDUMP) == 0);
	MUST(madvise(p, PAGE, 4711) < 0 && errno == EINVAL);
	/* Moved memory has its pages elsewhere. */
	q = map(2 * PAGE, PROT_NONE, ANON);
	MUST(mremap(p + 4 * PAGE, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, q) == q && get(q, 1) == 1);
	MUST(madvise(q, PAGE, MADV_DONTNEED) == 0);
	BOTH(get(q, on) == 0 && get(q + PAGE, on) == 1 && get(p + 6 * PAGE, on) == 1);
}

static int filled(const char *path, size_t n, int value)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	char *text = malloc(n);

	memset(text, value, n);
	MUST(fd >= 0 && write(fd, text, n) == (ssize_t)n);
	free(text);
	return fd;
}

static void private_case(void)
{
	int fd = filled(arg1, 3 * PAGE + 100, 4), ro;
	char *p = mmap(NULL, 6 * PAGE, RW, MAP_PRIVATE, fd, 0), *q, *x, byte = 0;

	MUST(p != MAP_FAILED);
	BOTH(get(p, on) == 4 && get(p + 3 * PAGE + 99, on) == 4 && get(p + 3 * PAGE + 100, on) == 0);
	BOTH(faults(p + 5 * PAGE, 0, on) == SIGBUS);
	put(p + 5, 9, 1);
	put(p + 3 * PAGE, 10, 0);
	BOTH(get(p + 5, on) == 9 && get(p + 3 * PAGE, on) == 10);
	MUST(pread(fd, &byte, 1, 5) == 1 && byte == 4);
	/* Read-only at first, written to later: as a loader does. */
	ro = open(arg1, O_RDONLY);
	q = mmap(NULL, 3 * PAGE, PROT_READ, MAP_PRIVATE, ro, 0);
	x = mmap(NULL, PAGE, RX, MAP_PRIVATE, ro, (off_t)PAGE);
	MUST(q != MAP_FAILED && x != MAP_FAILED && close(ro) == 0);
	BOTH(get(q + PAGE, on) == 4 && faults(q + PAGE, 1, on) == SIGSEGV && get(x, on) == 4);
	MUST(mprotect(q + PAGE, PAGE, RW) == 0);
	put(q + PAGE, 11, 1);
	BOTH(get(q + PAGE, on) == 11 && get(q, on) == 4 && get(q + 2 * PAGE, on) == 4 && get(x, on) == 4);
	MUST(mprotect(q, 3 * PAGE, PROT_READ) == 0);
	BOTH(get(q + PAGE, on) == 11 && faults(q, 1, on) == SIGSEGV);
	MUST(munmap(q, 3 * PAGE) == 0 && munmap(x, PAGE) == 0);
	BOTH(faults(q, 0, on) == SIGSEGV);
}

static void shared_case(void)
{
	int fd = filled(arg1, 4 * PAGE, 0), ro = open(arg1, O_RDONLY);
	char *p = mmap(NULL, 4 * PAGE, RW, MAP_SHARED, fd, 0),
	     *q = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, ro, (off_t)PAGE);
	char *again, byte = 0;

	MUST(p != MAP_FAILED && q != MAP_FAILED && close(ro) == 0);
	MUST(mprotect(q, PAGE, RW) < 0 && errno == EACCES);
	for (int i = 1; i < 20; i++) {
		put(p + PAGE + i, i, i & 1);
		MUST(pread(fd, &byte, 1, (off_t)PAGE + i) == 1 && byte == i);
		BOTH(get(q + i, on) == i);
		byte = (char)(i + 50);
		MUST(pwrite(fd, &byte, 1, i) == 1);
		BOTH(get(p + i, on) == i + 50);
	}
	MUST(msync(p, 4 * PAGE, MS_SYNC) == 0 && msync(p + 1, PAGE, MS_SYNC) < 0 && errno == EINVAL);
	again = mremap(p, 0, PAGE, MREMAP_MAYMOVE);
	MUST(again != MAP_FAILED && again != p);
	put(again + 100, 3, 1);
	BOTH(get(p + 100, on) == 3);
	p = mremap(p, 4 * PAGE, 8 * PAGE, MREMAP_MAYMOVE);
	MUST(p != MAP_FAILED);
	BOTH(get(p + 100, on) == 3 && faults(p + 4 * PAGE, 0, on) == SIGBUS);
	MUST(ftruncate(fd, 8 * PAGE) == 0);
	put(p + 7 * PAGE, 1, 1);
	MUST(close(fd) == 0); /* the mapping stays */
	BOTH(get(p + 7 * PAGE, on) == 1);
	/* A ring whose end is its beginning. */
	fd = memfd_create("ring", 0);
	MUST(ftruncate(fd, 4 * PAGE) == 0);
	p = map(8 * PAGE, PROT_NONE, ANON);
	MUST(mmap(p, 4 * PAGE, RW, MAP_SHARED | MAP_FIXED, fd, 0) == p);
	MUST(mmap(p + 4 * PAGE, 4 * PAGE, RW, MAP_SHARED | MAP_FIXED, fd, 0) == p + 4 * PAGE);
	put(p + 10, 42, 1);
	BOTH(get(p + 4 * PAGE + 10, on) == 42);
	MUST(munmap(p, 8 * PAGE) == 0);
}

static void locked_case(void)
{
	char *p = map(8 * PAGE, RW, ANON), *end = sbrk(0);
	unsigned char in[8];

	memset(p, 1, 4 * PAGE);
	MUST(mincore(p, 8 * PAGE, in) == 0 && (in[0] & 1) && (in[3] & 1) && !(in[4] & 1));
	MUST(mlock(p, 2 * PAGE) == 0 && munlock(p, 2 * PAGE) == 0);
	MUST(mlockall(MCL_CURRENT | MCL_FUTURE) == 0 && munlockall() == 0);
	MUST(mlockall(0) < 0 && errno == EINVAL);
	MUST(mprotect(p, 8 * PAGE, PROT_NONE) == 0 && mincore(p, 8 * PAGE, in) == 0 && !(in[0] & 1));
	MUST(end != (void *)-1 && sbrk(10000) == end && (char *)sbrk(0) == end + 10000);
	put(end + 9999, 5, 1);
	BOTH(get(end + 9999, on) == 5 && get(end, on) == 0);
	MUST(brk(end + 100) == 0);
	BOTH(faults(end + 9999, 0, on) == SIGSEGV);
	MUST(brk(end + 20000) == 0);
	BOTH(get(end + 9999, on) == 0);
	MUST(sbrk(-20000) == end + 20000 && brk((void *)1) < 0 && errno == ENOMEM);
}

/* ---- system calls are given memory that this worker has not touched ---- */

struct reads {
	char *to;
	int from;
	long r;
};
static struct reads r;

static void reads(void *unused)
{
	(void)unused;
	r.r = read(r.from, r.to, 100);
}

static void names(void *unused)
{
	struct stat *st = (struct stat *)(r.to + PAGE);
	struct iovec *v = (struct iovec *)(r.to + 2 * PAGE);

	(void)unused;
	v[0] = (struct iovec){r.to + 3 * PAGE, 5};
	v[1] = (struct iovec){r.to + 4 * PAGE, 5};
	r.r = stat(r.to, st) == 0 && st->st_size > 0 && readv(r.from, v, 2) == 10 && getcwd(r.to + 5 * PAGE, PAGE) &&
	      clock_gettime(CLOCK_REALTIME, (struct timespec *)(r.to + 6 * PAGE)) == 0;
}

static void calls_case(void)
{
	int p[2], s[2], fd = filled(arg1, 1000, 7);

	MUST(pipe(p) == 0 && pipe(s) == 0);
	for (int i = 0; i < 50; i++) {
		r = (struct reads){map(8 * PAGE, RW, ANON), p[0], 0};
		MUST(write(p[1], "hello", 5) == 5);
		there(reads, NULL);
		MUST(r.r == 5 && !memcmp(r.to, "hello", 5));
		r.from = fd;
		r.to += PAGE;
		MUST(lseek(fd, 0, SEEK_SET) == 0);
		there(reads, NULL);
		MUST(r.r == 100 && r.to[99] == 7);
		r = (struct reads){map(8 * PAGE, RW, ANON), fd, 0};
		strcpy(r.to, arg1);
		there(names, NULL);
		MUST(r.r == 1 && r.to[3 * PAGE] == 7 && r.to[4 * PAGE + 4] == 7 && r.to[5 * PAGE] == '/');
	}
}

/* ---- a limit ---- */

static void limit_case(void)
{
	char *p[64], *none = map(16ul << 30, PROT_NONE, ANON), *huge = map(16ul << 30, RW, ANON | MAP_NORESERVE);
	int n = 0;

	while (n < 64 && (p[n] = mmap(NULL, 8 << 20, RW, ANON, -1, 0)) != MAP_FAILED)
		n++;
	MUST(n > 2 && n < 64 && errno == ENOMEM); /* the runtime has 96 MiB */
	MUST(malloc(8 << 20) == NULL && errno == ENOMEM);
	MUST(mprotect(none, 8 << 20, RW) < 0 && errno == ENOMEM);
	MUST(munmap(p[--n], 8 << 20) == 0 && mprotect(none, 8 << 20, RW) == 0);
	none[5] = huge[5] = 1;
	MUST(mmap(NULL, 8 << 20, RW, ANON, -1, 0) == MAP_FAILED && errno == ENOMEM);
	MUST(munmap(none, 16ul << 30) == 0 && (p[n] = mmap(NULL, 8 << 20, RW, ANON, -1, 0)) != MAP_FAILED);
}

/* ---- many at once ---- */

#define CROWD 6
static struct shoal_wg wg;

struct piece {
	char *at;
	unsigned char value, prot; /* prot 0: no mapping */
};

/* A model of 32 pages that are mapped, unmapped, protected and moved at random, and compared after parks. */
static void crowd(void *arg)
{
	unsigned seed = *(unsigned *)arg;
	struct piece piece[32] = {0};
	char *base = mmap(NULL, 32 * PAGE, PROT_NONE, ANON, -1, 0);

	MUST(base != MAP_FAILED);
	for (int i = 0; i < 32; i++)
		piece[i].at = base + (size_t)i * PAGE;
	for (int round = 0; round < 400; round++) {
		struct piece *x = &piece[rand_r(&seed) % 32];

		switch (rand_r(&seed) % 4) {
		case 0:
			MUST(mmap(x->at, PAGE, RW, ANON | MAP_FIXED, -1, 0) == x->at);
			MUST(x->at[9] == 0);
			x->prot = RW;
			x->value = (unsigned char)(rand_r(&seed) % 255 + 1);
			memset(x->at, x->value, PAGE);
			break;
		case 1:
			MUST(munmap(x->at, PAGE) == 0);
			x->prot = 0;
			break;
		case 2:
			if (x->prot)
				MUST(mprotect(x->at, PAGE, x->prot = x->prot == RW ? PROT_READ : RW) == 0);
			break;
		default:
			for (int i = 0; i < 32; i++)
				MUST(!piece[i].prot || ((unsigned char)piece[i].at[0] == piece[i].value &&
							(unsigned char)piece[i].at[PAGE - 1] == piece[i].value));
		}
		if (round % 3 == 0)
			shoal_yield();
	}
	MUST(munmap(base, 32 * PAGE) == 0);
}

static void crowd_case(void)
{
	for (unsigned i = 0; i < CROWD; i++)
		shoal_wg_go(&wg, crowd, &i, sizeof i);
	shoal_wg_wait(&wg);
}

static void many_case(void)
{
	enum { N = 3000 };
	static char *p[N];

	for (int i = 0; i < N; i++) {
		p[i] = map(2 * PAGE, RW, ANON);
		MUST(mprotect(p[i] + PAGE, PAGE, i % 2 ? PROT_NONE : PROT_READ) == 0);
		p[i][0] = (char)i;
	}
	for (int i = 0; i < N; i += 97)
		MUST(get(p[i], 1) == (char)i && faults(p[i] + PAGE, 1, 1) == SIGSEGV);
	for (int i = 0; i < N; i++)
		MUST(munmap(p[i], 2 * PAGE) == 0);
	BOTH(faults(p[N / 2], 0, on) == SIGSEGV);
}

/* Mappings that are left at the end of the task are removed. */
static void leave_case(void)
{
	int fd = filled(arg1, 4 * PAGE, 1);

	memset(map(1 << 20, RW, ANON), 1, 1 << 20);
	MUST(mmap(NULL, 4 * PAGE, RW, MAP_SHARED, fd, 0) != MAP_FAILED);
	MUST(mmap(NULL, 4 * PAGE, RW, MAP_PRIVATE, fd, 0) != MAP_FAILED);
	put(mmap((void *)0x71000000, PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0), 3, 1);
	MUST(munmap(map(64 * PAGE, RW, ANON) + PAGE, PAGE) == 0);
}

int shoal_main(int argc, char **argv)
{
	static const struct net_case cases[] = {
		{"seen", seen_case},	   {"refused", refused_case}, {"exec", exec_case},
		{"protect", protect_case}, {"unmap", unmap_case},     {"fixed", fixed_case},
		{"remap", remap_case},	   {"advise", advise_case},   {"private", private_case},
		{"shared", shared_case},   {"locked", locked_case},   {"calls", calls_case},
		{"limit", limit_case},	   {"crowd", crowd_case},     {"many", many_case},
		{"leave", leave_case}};

	net_at = argc > 1 ? argv[1] : "";
	arg1 = argc > 2 ? argv[2] : "";
	signal(SIGSEGV, on_fault);
	signal(SIGBUS, on_fault);
	start_helper();
	return NET_RUN(argc, argv, cases);
}
