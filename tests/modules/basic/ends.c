/*
 * ends.c HOW - a task that comes to its end in a certain way, with other goroutines, memory and descriptors of its
 * own still there. tests/faults/ends.c says with which status.
 */
#define _GNU_SOURCE
#include "tests/modules/kernel_call.h"

#include <shoal.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct shoal_chan *never;
static struct shoal_mutex mu;
static char *volatile nowhere = (char *)0x10;
static volatile int zero, stop_at = -1;

static void waits(void *arg)
{
	(void)arg;
	shoal_recv(never, NULL);
}

static int overflow(int n)
{
	volatile char frame[4000];

	frame[0] = (char)n;
	return n == stop_at ? 0 : overflow(n + 1) + frame[0];
}

/* Ends the process without the runtime: the worker dies, and nothing says why. */
static void dies(void *arg)
{
	(void)arg;
	kill_this_process();
}

static void bus_error(void)
{
	int fd = memfd_create("short", MFD_CLOEXEC);
	char *p;

	if (fd < 0 || ftruncate(fd, 4096) < 0)
		return;
	p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p != MAP_FAILED)
		p[4096] = 1;
}

static void deep(void *arg)
{
	volatile char frame[100000];

	(void)arg;
	memset((char *)frame, 1, sizeof frame);
	shoal_yield();
	if (frame[zero] != 1)
		abort();
}

/* Not a byte is left, and a goroutine must park. */
static void out_of_memory(void)
{
	for (size_t size = 16u << 20; size >= 16; size /= 4)
		while (malloc(size))
			;
	for (int i = 0; i < 1000; i++)
		if (!shoal_go(deep, NULL, 0))
			break;
	shoal_sleep(1000000);
	deep(NULL);
}

static int joins_a_lost(void)
{
	struct shoal_end end;
	shoal_gid g = shoal_go_with(&(struct shoal_go_opts){.name = "lost", .flags = SHOAL_ISOLATED}, dies, NULL, 0);

	if (!g || shoal_join(g, &end) != 0)
		return 1;
	return end.how == SHOAL_LOST && end.signal == SIGKILL && end.attempts == 1 ? 0 : 2;
}

static int crash(const char *how)
{
	if (!strcmp(how, "segv"))
		*nowhere = 1;
	if (!strcmp(how, "bus"))
		bus_error();
	if (!strcmp(how, "fpe"))
		return 1000 / zero;
	if (!strcmp(how, "ill"))
		__builtin_trap();
	if (!strcmp(how, "abort"))
		abort();
	if (!strcmp(how, "overflow"))
		return overflow(0);
	if (!strcmp(how, "misuse"))
		shoal_mutex_unlock(&mu);
	return 99;
}

int shoal_main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";
	char *block = malloc(100000);
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	if (!block || fd < 0 || !(never = shoal_chan_new(0, 0)))
		return 98;
	memset(block, 1, 100000);
	for (int i = 0; i < 3 && strcmp(how, "deadlock"); i++)
		shoal_go(waits, NULL, 0);
	puts("begun");
	if (!strcmp(how, "return"))
		return 5;
	if (!strcmp(how, "exit"))
		exit(6);
	if (!strcmp(how, "_exit"))
		_exit(7);
	if (!strcmp(how, "shoal_exit")) {
		shoal_close(never);
		shoal_exit();
	}
	if (!strcmp(how, "deadlock"))
		shoal_recv(never, NULL);
	if (!strcmp(how, "lost"))
		dies(NULL);
	if (!strcmp(how, "join"))
		return joins_a_lost();
	if (!strcmp(how, "memory"))
		out_of_memory();
	if (!strcmp(how, "timeout") || !strcmp(how, "cancel"))
		for (;;)
			shoal_sleep(3600000000000);
	return crash(how);
}
