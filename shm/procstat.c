/*
 * procstat.c - see procstat.h. Calls the kernel directly, because in a worker the names of libc park goroutines.
 */
#include "shm/procstat.h"
#include "shm/segment.h"
#include "shm/syscall.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

bool sh_procstat_read(int32_t pid, struct sh_procstat *stat)
{
	char path[32], text[512], *at;
	unsigned long flags;
	long n;
	int fd;

	sh_format(path, sizeof path, "/proc/%d/stat", pid);
	fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return false;
	n = syscall(SYS_read, fd, text, sizeof text - 1);
	syscall(SYS_close, fd);
	text[n > 0 ? n : 0] = '\0';
	at = strrchr(text, ')'); /* the command may hold spaces and parentheses */
	if (!at || sscanf(at + 1, " %c %d %*d %*d %*d %*d %lu", &stat->state, &stat->parent, &flags) != 3)
		return false;
	stat->flags = flags;
	return true;
}
