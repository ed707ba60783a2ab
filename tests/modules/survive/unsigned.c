/*
 * survive/unsigned.c WAY - the task damages what tells the kernel that its worker died, and then the worker dies.
 *
 * Ways: empty, wild, offset and overrun damage the robust list; none replaces it; unmap and readonly change the mapping
 * of the segment's start. Prints its worker's pid first. With a second argument it waits for that file to exist.
 */
#define _GNU_SOURCE
#include "tests/modules/kernel_call.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <shoal.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define START_BYTES (1ul << 20)

/* The segment is the lowest shared and writable mapping above this address. */
static char *segment(void)
{
	unsigned long at, found = 0;
	char line[512];
	FILE *f = fopen("/proc/self/maps", "r");

	while (f && !found && fgets(line, sizeof line, f))
		if (strstr(line, "rw-s") && sscanf(line, "%lx", &at) == 1 && at >= 0x100000000000)
			found = at;
	if (f)
		fclose(f);
	return (char *)found;
}

int shoal_main(int argc, char **argv)
{
	static struct robust_list_head empty = {{&empty.list}, 0, NULL};
	struct robust_list_head *head;
	const char *way = argc > 1 ? argv[1] : "";
	char *start = segment();
	size_t n;

	printf("%d\n", (int)getpid());
	fflush(stdout);
	while (argc > 2 && access(argv[2], F_OK) < 0)
		shoal_sleep(1000000);
	syscall(SYS_get_robust_list, 0, &head, &n);
	if (strcmp(way, "empty") == 0)
		head->list.next = &head->list;
	else if (strcmp(way, "wild") == 0)
		head->list.next = (struct robust_list *)0x4141414141414141;
	else if (strcmp(way, "offset") == 0)
		head->futex_offset = 12345;
	else if (strcmp(way, "overrun") == 0)
		memset((char *)head - 64, 'A', 200);
	else if (strcmp(way, "none") == 0)
		syscall(SYS_set_robust_list, &empty, sizeof empty);
	else if (strcmp(way, "unmap") == 0)
		munmap(start, START_BYTES);
	else if (strcmp(way, "readonly") == 0)
		mprotect(start, START_BYTES, PROT_READ);
	else
		return 1;
	kill_this_process();
	return 2;
}
