/*
 * kill/maps.c - mappings, made and changed by goroutines that may be killed at any point of the change. For the
 * kill driver, as kill/work.c. Each goroutine has addresses of its own, and finds there what it has put there.
 */
#define _GNU_SOURCE
#include <shoal.h>

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MAPPERS 4
#define PAGE 4096ul
#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

static const struct shoal_go_opts stubborn = {.name = "mapper", .attempts = 100, .flags = SHOAL_ISOLATED};
static struct shoal_wg all;
static int mapped;
static int file = -1;
static char variable[2 * PAGE] __attribute__((aligned(4096)));

static void must(int ok)
{
	if (!ok)
		abort();
}

static char *map(void *at, size_t n, int prot, int flags)
{
	char *p = mmap(at, n, prot, flags, -1, 0);

	must(p != MAP_FAILED && (!(flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) || p == at));
	return p;
}

static void change_memory(int me)
{
	char *p = map(NULL, 8 * PAGE, RW, ANON), *q;

	memset(p, me + 1, 8 * PAGE);
	shoal_yield();
	must(munmap(p + 2 * PAGE, PAGE) == 0 && p[PAGE] == me + 1 && p[3 * PAGE] == me + 1);
	map(p + 4 * PAGE, PAGE, RW, ANON | MAP_FIXED);
	must(p[4 * PAGE] == 0);
	must(mprotect(p, PAGE, PROT_READ) == 0);
	shoal_yield();
	must(p[0] == me + 1 && mprotect(p, PAGE, RW) == 0);
	p[0] = 9;
	q = mremap(p + 5 * PAGE, 3 * PAGE, 6 * PAGE, MREMAP_MAYMOVE);
	must(q != MAP_FAILED && q[0] == me + 1 && q[3 * PAGE] == 0);
	must(madvise(q, PAGE, MADV_DONTNEED) == 0 && q[0] == 0 && q[PAGE] == me + 1);
	must(munmap(p, 5 * PAGE) == 0 && munmap(q, 6 * PAGE) == 0);
}

static void change_files(int me)
{
	char *p = mmap(NULL, 2 * PAGE, RW, MAP_SHARED, file, 0),
	     *q = mmap(NULL, 2 * PAGE, PROT_READ, MAP_PRIVATE, file, 0);

	must(p != MAP_FAILED && q != MAP_FAILED);
	p[me] = (char)me;
	shoal_yield();
	must(p[me] == me && q[PAGE] == p[PAGE]);
	must(mprotect(q, PAGE, RW) == 0);
	q[100 + me] = 7;
	shoal_yield();
	must(q[100 + me] == 7 && p[100 + me] == 0);
	must(munmap(p, 2 * PAGE) == 0 && munmap(q, 2 * PAGE) == 0);
}

static void change_all(void *arg)
{
	int me = *(int *)arg;

	for (int i = 0; i < 4; i++) {
		change_memory(me);
		change_files(me);
		must(mprotect(variable + PAGE, PAGE, i % 2 ? RW : PROT_READ) == 0);
		must(mlock(variable, 1) == 0 && mlockall(MCL_FUTURE) == 0 && munlockall() == 0);
		must(sbrk(1) != (void *)-1);
	}
	/* An address of its own choice: the former run may have been there. */
	map((char *)0x70000000 + (size_t)me * 16 * PAGE, PAGE, RW, ANON | MAP_FIXED)[5] = 1;
	__atomic_fetch_add(&mapped, 1, __ATOMIC_SEQ_CST);
}

int shoal_main(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	file = memfd_create("kill", 0);
	must(file >= 0 && ftruncate(file, 2 * PAGE) == 0);
	for (int i = 0; i < MAPPERS; i++)
		must(shoal_wg_go_with(&all, &stubborn, change_all, &i, sizeof i) != 0);
	shoal_wg_wait(&all);
	return __atomic_load_n(&mapped, __ATOMIC_SEQ_CST) < MAPPERS;
}
