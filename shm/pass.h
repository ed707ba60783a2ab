/*
 * pass.h - messages with descriptors over a Unix socket.
 */
#ifndef SHM_PASS_H
#define SHM_PASS_H

#include <stddef.h>
#include <sys/types.h>

#define SH_PASS_MAX 16 /* descriptors in a message */

/*
 * Sends n bytes; the first byte carries nfds descriptors. flags as for sendmsg; no SIGPIPE. Returns the number of
 * bytes sent, or -1 and errno.
 */
ssize_t sh_pass_send(int sock, const void *data, size_t n, const int *fds, int nfds, int flags);

/*
 * Receives at most n bytes and at most room descriptors, close-on-exec; more descriptors than that are
 * closed. flags as for recvmsg. Stores the number of descriptors in *nfds. Returns as recvmsg does, but
 * repeats after EINTR.
 */
ssize_t sh_pass_receive(int sock, void *data, size_t n, int *fds, int room, int *nfds, int flags);

#endif
