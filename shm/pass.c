/*
 * pass.c - see pass.h. Calls the kernel directly, because in a worker the names of libc park goroutines.
 */
#include "shm/pass.h"
#include "shm/check.h"
#include "shm/syscall.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

union control {
	struct cmsghdr head;
	char room[CMSG_SPACE(SH_PASS_MAX * sizeof(int))];
};

ssize_t sh_pass_send(int sock, const void *data, size_t n, const int *fds, int nfds, int flags)
{
	union control control;
	struct iovec iov = {(void *)data, n};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	size_t bytes = (size_t)nfds * sizeof(int);

	sh_check(nfds >= 0 && nfds <= SH_PASS_MAX);
	if (nfds) {
		memset(&control, 0, sizeof control);
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(bytes);
		control.head.cmsg_level = SOL_SOCKET;
		control.head.cmsg_type = SCM_RIGHTS;
		control.head.cmsg_len = CMSG_LEN(bytes);
		memcpy(CMSG_DATA(&control.head), fds, bytes);
	}
	return syscall(SYS_sendmsg, sock, &msg, flags | MSG_NOSIGNAL);
}

ssize_t sh_pass_receive(int sock, void *data, size_t n, int *fds, int room, int *nfds, int flags)
{
	union control control;
	struct iovec iov = {data, n};
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	ssize_t got;

	do
		got = syscall(SYS_recvmsg, sock, &msg, flags | MSG_CMSG_CLOEXEC);
	while (got < 0 && errno == EINTR);
	*nfds = 0;
	for (struct cmsghdr *c = got < 0 ? NULL : CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
		size_t many = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < many; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
			if (*nfds < room)
				fds[(*nfds)++] = fd;
			else
				syscall(SYS_close, fd);
		}
	}
	return got;
}
