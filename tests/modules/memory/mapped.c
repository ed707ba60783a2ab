/*
 * mapped.c - mappings made on one worker and used on another.
 */
#define _GNU_SOURCE
#include <shoal.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SIZE (1u << 20)

static struct shoal_wg all;
static char *area, *file;
static size_t file_size;

static void must(int ok, const char *what)
{
	if (ok)
		return;
	printf("wrong: %s\n", what);
	exit(1);
}

/* On the other worker, too: two of these run at once. */
static void look(void *arg)
{
	int64_t until = shoal_now() + 20000000;
	char text[4096];
	FILE *f = fopen("/etc/passwd", "r");
	size_t n = fread(text, 1, sizeof text, f);

	(void)arg;
	fclose(f);
	while (shoal_now() < until) {
		for (size_t i = 0; i < SIZE; i += 4096)
			must(area[i] == (char)(i >> 12), "what was written is not there");
		must(memcmp(file, text, n < file_size ? n : file_size) == 0, "the file is not there");
		shoal_yield();
	}
}

int shoal_main(int argc, char **argv)
{
	int fd = open("/etc/passwd", O_RDONLY);
	char *p;

	(void)argc;
	(void)argv;
	area = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(area != MAP_FAILED && (uintptr_t)area % 4096 == 0 && area[5000] == 0, "mmap");
	file_size = (size_t)lseek(fd, 0, SEEK_END);
	file = mmap(NULL, file_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	must(file != MAP_FAILED, "mmap of a file");
	close(fd);
	for (size_t i = 0; i < SIZE; i += 4096)
		area[i] = (char)(i >> 12);
	for (int i = 0; i < 4; i++)
		must(shoal_wg_go(&all, look, NULL, 0) != 0, "shoal_wg_go");
	shoal_wg_wait(&all);
	must(mprotect(area, 4096, PROT_READ) == 0 && madvise(area + 4096, 4096, MADV_DONTNEED) == 0,
	     "mprotect, madvise");
	must(area[4096] == 0 && area[8192] == 2, "MADV_DONTNEED");
	p = mremap(area, SIZE, 2 * SIZE, MREMAP_MAYMOVE);
	must(p != MAP_FAILED && p[8192] == 2 && p[SIZE + 4096] == 0, "mremap");
	must(munmap(p, 2 * SIZE) == 0 && munmap(file, file_size) == 0, "munmap");
	for (int i = 0; i < 500; i++) { /* more than there is, if it did not come back */
		p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		must(p != MAP_FAILED && p[777] == 0, "mmap again");
		p[777] = 1;
		must(munmap(p, SIZE) == 0, "munmap");
	}
	must(mmap(NULL, 1ul << 40, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED &&
		     errno == ENOMEM,
	     "too much");
	must(mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED && errno == EINVAL, "nothing");
	printf("ok\n");
	return 0;
}
