/* ownfile.c - opens a file only if no other user can have put it there. See ownfile.h. */
#include "shm/kernel.h"
#include "shm/ownfile.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

int sh_own_file_open(const char *path, int flags)
{
	struct stat st;
	/* O_NONBLOCK: a FIFO does not hold up the caller. */
	int fd = kernel_open(path, flags | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);

	if (fd < 0)
		return errno == ELOOP || errno == ENXIO ? -EPERM : -errno;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_uid != geteuid() || st.st_nlink > 1) {
		kernel_close(fd);
		return -EPERM;
	}
	return fd;
}
