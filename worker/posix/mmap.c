/*
 * mmap.c - mappings that a goroutine asks for.
 *
 * A mapping is in one process, a goroutine is not. So memory without a file, and private copies of
 * files, are blocks of the task's heap, at whole pages: they are in every worker, count against the
 * limit and come back with the task. What else there is (a shared file, an address wanted, code) is
 * the kernel's and stays in the worker where it was made: for goroutines that are pinned.
 *
 * A block is not protected and not taken away by pieces: the segment is everybody's.
 */
#include "shm/heap.h"
#include "worker/posix/posix.h"

#include <errno.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define PAGE 4096ul

static bool is_block(const void *p)
{
	return on_g() && sh_heap_owns(sh_root->arena, p);
}

static void *kernel_mmap(void *at, size_t n, int prot, int flags, int fd, off_t off)
{
	return (void *)syscall(SYS_mmap, at, n, prot, flags, fd, off);
}

/* A private copy of the file's bytes; zeros beyond its end. */
static void *copy_file(size_t n, int fd, off_t off)
{
	char *p = pages_take(n);
	size_t at = 0;

	while (p && at < n) {
		long r = BLOCKING(SYS_pread64, fd, p + at, n - at, off + (off_t)at);

		if (r < 0) {
			int err = errno;

			pages_give(p);
			errno = err == EBADF ? EACCES : err;
			return MAP_FAILED;
		}
		if (r == 0)
			break;
		at += (size_t)r;
	}
	return p ? p : MAP_FAILED;
}

void *mmap(void *at, size_t n, int prot, int flags, int fd, off_t off)
{
	bool file = !(flags & MAP_ANONYMOUS);
	struct stat st;
	void *p;

	if (!on_g() || malloc_is_private || !n || (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) || (prot & PROT_EXEC) ||
	    (file &&
	     ((flags & MAP_TYPE) != MAP_PRIVATE || off % (off_t)PAGE || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))))
		return kernel_mmap(at, n, prot, flags, fd, off);
	if (file)
		return copy_file(n, fd, off);
	p = pages_take(n);
	return p ? p : MAP_FAILED;
}

void *mmap64(void *at, size_t n, int prot, int flags, int fd, off_t off)
{
	return mmap(at, n, prot, flags, fd, off);
}

/* Only as a whole: a piece stays until the rest goes, or the task. */
int munmap(void *p, size_t n)
{
	size_t have;

	if (!is_block(p))
		return (int)syscall(SYS_munmap, p, n);
	have = sh_heap_usable(sh_root->arena, p);
	if (have && n + 2 * PAGE > have)
		pages_give(p);
	return 0;
}

void *mremap(void *p, size_t had, size_t n, int flags, ...)
{
	void *q;
	va_list ap;

	if (!is_block(p)) {
		va_start(ap, flags);
		q = flags & MREMAP_FIXED ? va_arg(ap, void *) : NULL;
		va_end(ap);
		return (void *)syscall(SYS_mremap, p, had, n, flags, q);
	}
	if (n <= had)
		return p;
	if (!(flags & MREMAP_MAYMOVE) || (flags & MREMAP_FIXED) || !(q = pages_take(n))) {
		errno = ENOMEM;
		return MAP_FAILED;
	}
	memcpy(q, p, had);
	munmap(p, had);
	return q;
}

int mprotect(void *p, size_t n, int prot)
{
	if (!is_block(p))
		return (int)syscall(SYS_mprotect, p, n, prot);
	if (!(prot & PROT_EXEC))
		return 0;
	errno = EACCES;
	return -1;
}

/* The rest is good as it is, and the heap's own calls come by here as well. */
int madvise(void *p, size_t n, int advice)
{
	if (advice == MADV_DONTNEED && is_block(p))
		advice = MADV_REMOVE; /* reads as zeros afterwards */
	else if (advice == MADV_FREE && is_block(p))
		return 0;
	return (int)syscall(SYS_madvise, p, n, advice);
}
