/*
 * see/falls.c WHAT - goroutines that end in each way, or wait under names.
 *
 *   crash    a goroutine crashes three calls deep and so ends the task; prints its number first
 *   lost     a goroutine's worker is killed; prints the goroutine's number first
 *   deep     the root crashes 40 calls deep
 *   bombs    isolated goroutines named bomber crash, one after another
 *   names    goroutines with names of letters beyond ASCII wait
 *   fifo     goroutines are in open() of the FIFO that the second argument names
 *   bystand  a goroutine crashes while another one waits; prints the number of the one that waits
 */
#define _GNU_SOURCE
#include "tests/modules/kernel_call.h"

#include <fcntl.h>
#include <shoal.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LONG_NS 100000000000

__attribute__((noinline)) static void innermost_call(int *p)
{
	__asm__ volatile("" : "+r"(p)); /* the compiler does not know the address */
	*(volatile int *)p = 1;
}

__attribute__((noinline)) static void middle_call(int *p)
{
	innermost_call(p);
	__asm__ volatile("");
}

static void crash(void *arg)
{
	(void)arg;
	shoal_sleep(1000000);
	middle_call((int *)8);
	__asm__ volatile(""); /* so that the call is no tail call */
}

static void lose(void *arg)
{
	(void)arg;
	shoal_sleep(1000000);
	kill_this_process();
}

static void wait_long(void *arg)
{
	(void)arg;
	shoal_sleep(LONG_NS);
}

static void open_fifo(void *arg)
{
	open(arg, O_RDONLY);
}

__attribute__((noinline)) static int descend(int n)
{
	int below = 0;

	if (n)
		below = descend(n - 1);
	else
		middle_call((int *)8);
	__asm__ volatile("" : "+r"(below)); /* so that the calls stay calls */
	return below;
}

static int start(const struct shoal_go_opts *o, void (*fn)(void *), void *arg, size_t n)
{
	printf("%lu\n", (unsigned long)shoal_go_with(o, fn, arg, n));
	return fflush(stdout);
}

int shoal_main(int argc, char **argv)
{
	static const char *const names[] = {"möwe-été", "日本語のとても長い名前です", "plain"};
	const char *what = argc > 1 ? argv[1] : "";

	if (strcmp(what, "crash") == 0)
		start(&(struct shoal_go_opts){.name = "boom"}, crash, NULL, 0);
	else if (strcmp(what, "lost") == 0)
		start(&(struct shoal_go_opts){0}, lose, NULL, 0);
	else if (strcmp(what, "deep") == 0)
		return descend(40);
	else if (strcmp(what, "bystand") == 0) {
		start(&(struct shoal_go_opts){0}, wait_long, NULL, 0);
		shoal_go(crash, NULL, 0);
	}
	for (size_t i = 0; strcmp(what, "names") == 0 && i < sizeof names / sizeof *names; i++)
		start(&(struct shoal_go_opts){.name = names[i]}, wait_long, NULL, 0);
	for (int i = 0; strcmp(what, "fifo") == 0 && argc > 2 && i < 2; i++)
		shoal_go(open_fifo, argv[2], strlen(argv[2]) + 1);
	while (strcmp(what, "bombs") == 0 && shoal_sleep(20000000) == 0)
		shoal_go_with(&(struct shoal_go_opts){.name = "bomber", .flags = SHOAL_ISOLATED}, crash, NULL, 0);
	shoal_sleep(LONG_NS);
	return 0;
}
