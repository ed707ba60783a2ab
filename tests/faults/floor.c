/*
 * floor.c - what the kernel takes for T4 and T5, with nobody who does any work: the figures of this
 * machine in these seconds, to hold the runtime's against.
 *
 * As there: two processes keep two processors busy, one is killed. A watcher, who waits for the robust
 * futex as the medic does, writes to the eventfd of a process that sleeps, and makes another.
 */
#include "tests/faults/faults.h"
#include "core/sched/proc.h"
#include "shm/segment.h"

#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static struct shared {
	_Atomic uint32_t word;	       /* the victim lives */
	_Atomic int64_t taken, served; /* when */
	_Atomic int ready;
	char memory[4 << 20];
} * at;

static _Noreturn void busy(void)
{
	volatile char seen;

	for (size_t i = 0;; i += 4096)
		seen = at->memory[i % sizeof at->memory];
	(void)seen;
}

static _Noreturn void victim(void)
{
	sh_robust_hold(&at->word);
	atomic_fetch_add(&at->ready, 1);
	busy();
}

static _Noreturn void taker(int event)
{
	struct pollfd p = {event, POLLIN, 0};

	sh_prompt(0, true);
	atomic_fetch_add(&at->ready, 1);
	while (poll(&p, 1, -1) != 1)
		;
	atomic_store(&at->taken, now_ns());
	sh_prompt(0, false);
	busy();
}

static _Noreturn void watcher(int event)
{
	uint64_t one = 1;
	uint32_t v;

	setsid();
	sh_prompt(0, true);
	atomic_fetch_add(&at->ready, 1);
	while (!((v = atomic_load(&at->word)) & FUTEX_OWNER_DIED))
		syscall(SYS_futex, &at->word, FUTEX_WAIT, v, NULL, NULL, 0);
	if (write(event, &one, sizeof one) == sizeof one && fork() == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		atomic_store(&at->served, now_ns());
	}
	for (;;)
		pause();
}

static pid_t begin(void (*as)(void), void (*with)(int), int event)
{
	pid_t pid = fork();

	if (pid == 0) {
		measuring(false);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (as)
			as();
		with(event);
	}
	return pid;
}

void floor_of_deaths(unsigned n, struct samples *taken, struct samples *served)
{
	int event = eventfd(0, EFD_CLOEXEC);
	pid_t who[4];

	at = mmap(NULL, sizeof *at, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	memset(at->memory, 1, sizeof at->memory);
	for (unsigned i = 0; i < n; i++) {
		int64_t began;
		uint64_t drained;

		at->taken = at->served = at->ready = 0;
		at->word = 0;
		who[0] = begin(victim, NULL, 0);
		who[1] = begin(busy, NULL, 0);
		while (!at->word)
			nap_us(100);
		who[2] = begin(NULL, taker, event);
		who[3] = begin(NULL, watcher, event);
		while (at->ready < 3)
			nap_us(100);
		nap_us(10000 + (unsigned)(now_ns() % 7919));
		began = now_ns();
		kill(who[0], SIGKILL);
		for (int k = 0; k < 700 && !(at->taken && at->served); k++)
			nap_us(3000);
		if (at->taken && at->served) {
			sample(taken, (double)(at->taken - began));
			sample(served, (double)(at->served - began));
		}
		for (int k = 0; k < 4; k++) {
			kill(who[k], SIGKILL);
			waitpid(who[k], NULL, 0);
		}
		if (poll(&(struct pollfd){event, POLLIN, 0}, 1, 0) == 1 && read(event, &drained, sizeof drained) < 0)
			break;
	}
	close(event);
	munmap(at, sizeof *at);
}
