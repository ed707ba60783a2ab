/* segment.c - makes and maps the segment, and takes seats in it. See segment.h. */
#include "shm/kernel.h"
#include "shm/segment.h"
#include "shm/area.h"
#include "shm/check.h"
#include "shm/heap.h"
#include "shm/kill.h"
#include "shm/syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define PROMPT_NS 100000u
#define FD_RESERVE 512u /* or a quarter of the limit, if that is less */

void (*sh_check_hook)(const char *, int, const char *);

void sh_check_failed(const char *file, int line, const char *what)
{
	char text[300];
	int n = snprintf(text, sizeof text, "shoal: check failed in process %d: %s:%d: %s\n", (int)getpid(), file, line,
			 what);

	/* Calls the kernel directly: on a goroutine the names of libc belong to the task and may park. */
	if (n > 0)
		syscall(SYS_write, 2, text, n < (int)sizeof text ? (size_t)n : sizeof text - 1);
	if (sh_check_hook)
		sh_check_hook(file, line, what);
	abort();
}

static int map_at(int fd)
{
	void *at = kernel_mmap((void *)SH_BASE, SH_SIZE, PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_FIXED_NOREPLACE | MAP_NORESERVE, fd, 0);

	if (at == MAP_FAILED)
		return -errno;
	if (at != (void *)SH_BASE) {
		kernel_munmap(at, SH_SIZE);
		return -EEXIST;
	}
	kernel_madvise(at, SH_SIZE, MADV_DONTDUMP);
	at = kernel_mmap((void *)SH_STACKS, SH_STACKS_SIZE, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_FIXED_NOREPLACE | MAP_NORESERVE, fd, (off_t)SH_STACKS_FILE);
	if (at == MAP_FAILED)
		return -errno;
	kernel_madvise(at, SH_STACKS_SIZE, MADV_DONTDUMP);
	return sh_area_map(fd);
}
_Static_assert(SH_STACKS_FILE >= SH_AREA_FILE + SH_AREA_SIZE, "the parts of the file do not overlap");

int sh_segment_create(size_t memory_limit)
{
	int fd = kernel_memfd_create("shoal", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int err;

	if (fd < 0)
		return -errno;
	if (kernel_ftruncate(fd, SH_STACKS_FILE + SH_STACKS_SIZE) < 0 ||
	    kernel_fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
		err = -errno;
		kernel_close(fd);
		return err;
	}
	err = map_at(fd);
	if (err < 0) {
		kernel_close(fd);
		return err;
	}
	for (unsigned i = 0; i < SH_SEATS; i++) {
		struct sh_seat *s = &sh_root->seat[i];

		atomic_store(&s->wake_fd, -1);
		for (unsigned k = 0; k < SH_OWN_FDS; k++)
			s->own_fds[k] = s->dead_fds[k] = -1;
	}
	sh_root->memory_limit = memory_limit;
	sh_root->started_ns = sh_now();
	sh_root->arena = sh_arena_init(sh_at(SH_OFF_HEAP), SH_HEAP_SIZE, memory_limit ? memory_limit : SH_HEAP_SIZE);
	if (!sh_root->arena) {
		sh_segment_detach();
		kernel_close(fd);
		return -ENOMEM;
	}
	sh_root->version = SH_VERSION;
	sh_root->magic = SH_MAGIC;
	return fd;
}

int sh_segment_attach(int fd)
{
	int err = map_at(fd);

	if (err < 0)
		return err;
	if (sh_root->magic != SH_MAGIC || sh_root->version != SH_VERSION) {
		sh_segment_detach();
		return -EINVAL;
	}
	return 0;
}

void sh_segment_detach(void)
{
	kernel_munmap((void *)SH_BASE, SH_SIZE);
	kernel_munmap((void *)SH_STACKS, SH_STACKS_SIZE);
	sh_area_unmap();
}

/* Addresses of user space have 47 bits, of which 12 are the offset in a page. */
#define DATA_TOP (1ul << 47)
#define DATA_WORD(p) (((_Atomic uint64_t *)sh_at(SH_OFF_DATA)) + ((uintptr_t)(p) >> 18))
#define DATA_BIT(p) (1ul << ((uintptr_t)(p) >> 12) % 64)

int sh_shared(const void *p)
{
	if (sh_in_segment(p) || sh_in_area((uintptr_t)p) || sh_in_stacks(p))
		return 1;
	return (uintptr_t)p < DATA_TOP && (atomic_load_explicit(DATA_WORD(p), memory_order_relaxed) & DATA_BIT(p)) != 0;
}

void sh_data_add(uintptr_t start, size_t size)
{
	for (uintptr_t p = start & ~(SH_PAGE - 1); p < start + size; p += SH_PAGE)
		atomic_fetch_or(DATA_WORD(p), DATA_BIT(p));
}

void sh_data_remove(uintptr_t start, size_t size)
{
	for (uintptr_t p = start & ~(SH_PAGE - 1); p < start + size; p += SH_PAGE)
		atomic_fetch_and(DATA_WORD(p), ~DATA_BIT(p));
}

struct sh_held *sh_seat_held(unsigned seat)
{
	return &sh_root->seat[seat].held;
}

/*
 * The robust list of a process: one entry, for a seat its liveness word. The entry is private to the process and
 * static, because its memory must not be reused for anything else.
 */
static struct {
	struct robust_list_head head;
	struct robust_list entry;
} robust;

/*
 * From here on the kernel marks the word when this process dies, if the word contains its tid. FUTEX_WAITERS makes
 * the kernel wake a waiter.
 */
static uint32_t robust_on(_Atomic uint32_t *word)
{
	robust.head.list.next = &robust.entry;
	robust.entry.next = &robust.head.list;
	robust.head.futex_offset = (long)((char *)word - (char *)&robust.entry);
	robust.head.list_op_pending = NULL;
	sh_check(syscall(SYS_set_robust_list, &robust.head, sizeof robust.head) == 0);
	return (uint32_t)syscall(SYS_gettid) | FUTEX_WAITERS;
}

void sh_robust_hold(_Atomic uint32_t *word)
{
	atomic_store(word, robust_on(word));
}

bool sh_robust_take(_Atomic uint32_t *word, uint32_t was)
{
	return atomic_compare_exchange_strong(word, &was, robust_on(word));
}

uint32_t sh_seat_reserve(unsigned seat)
{
	struct sh_seat *s = &sh_root->seat[seat];
	uint32_t ask;

	sh_check(seat < SH_SEATS);
	ask = (uint32_t)(atomic_load(&s->claim) >> 32) + 1;
	atomic_store(&s->claim, (uint64_t)ask << 32);
	/* The medic waits on the words of the seats that it knows. The bell makes it read the seats again. */
	atomic_store(&s->liveness, 0);
	atomic_store(&s->state, SEAT_STARTING);
	sh_bell();
	return ask;
}

bool sh_seat_claim(unsigned seat, uint32_t ask)
{
	uint64_t free = (uint64_t)ask << 32;

	sh_check(seat < SH_SEATS);
	return atomic_compare_exchange_strong(&sh_root->seat[seat].claim, &free, free | (uint32_t)getpid());
}

bool sh_seat_unreserve(unsigned seat)
{
	uint64_t c;

	sh_check(seat < SH_SEATS);
	c = atomic_load(&sh_root->seat[seat].claim);
	return !(uint32_t)c && atomic_compare_exchange_strong(&sh_root->seat[seat].claim, &c, c + (1ull << 32));
}

void sh_seat_take(unsigned seat)
{
	struct sh_seat *s = &sh_root->seat[seat];

	sh_check(seat < SH_SEATS);
	sh_kill_seated();
	atomic_store(&s->pid, (int32_t)getpid());
	s->generation++;
	s->started_ns = sh_now();
	atomic_store(&s->exited_clean, 0);
	KILL_POINT("seat.take.unheld");
	sh_robust_hold(&s->liveness);
	KILL_POINT("seat.take.alive");
	/*
	 * Check this after the store of the word: the process that ends the runtime kills all processes that the
	 * words name.
	 */
	if (atomic_load(&sh_root->over))
		_exit(0);
}

int sh_seat_dead(unsigned seat)
{
	return (atomic_load(&sh_root->seat[seat].liveness) & FUTEX_OWNER_DIED) != 0;
}

void sh_seat_wake(unsigned seat)
{
	int fd = atomic_load(&sh_root->seat[seat].wake_fd);
	uint64_t one = 1;

	if (fd >= 0)
		while (syscall(SYS_write, fd, &one, sizeof one) < 0 && errno == EINTR)
			; /* not write(): on a goroutine that would park */
}

void sh_bell(void)
{
	atomic_fetch_add(&sh_root->bell, 1);
	KILL_POINT("bell.raised");
	syscall(SYS_futex, &sh_root->bell, FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* The kernel counts from 40 down to 1, so that no result looks like a failure. */
static int nice_of(int32_t pid)
{
	return 20 - (int)syscall(SYS_getpriority, PRIO_PROCESS, pid);
}

/*
 * Sets a short time slice, not a higher priority: a process that works little then runs early, but no more than
 * before. Needs Linux 6.12.
 */
void sh_prompt(int32_t pid, bool yes)
{
	struct {
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t runtime, deadline, period;
	} attr = {.size = sizeof attr, .nice = nice_of(pid), .runtime = yes ? PROMPT_NS : 0};

	syscall(SYS_sched_setattr, pid, &attr, 0);
}

unsigned sh_fd_ceiling(void)
{
	struct rlimit files;
	rlim_t reserve;

	if (getrlimit(RLIMIT_NOFILE, &files) < 0)
		return 0x7fffffff;
	reserve = files.rlim_max / 4 < FD_RESERVE ? files.rlim_max / 4 : FD_RESERVE;
	return files.rlim_max > 0x7fffffff ? 0x7fffffff : (unsigned)(files.rlim_max - reserve);
}

uint64_t sh_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

const char *sh_format(char *buf, size_t n, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(buf, n, fmt, ap);
	va_end(ap);
	return buf;
}

void sh_populate(void *at, size_t n)
{
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
	uintptr_t from = (uintptr_t)at & ~(SH_PAGE - 1), to = ((uintptr_t)at + n + SH_PAGE - 1) & ~(SH_PAGE - 1);

	/* only an optimization: a failure shows at the store */
	kernel_madvise((void *)from, to - from, MADV_POPULATE_WRITE);
}
