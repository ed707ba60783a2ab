/*
 * syscall.h - system calls of the runtime's own: straight to the kernel.
 *
 * libc's function of that name is the program's: worker/posix/raw.c stands in for it, and may park.
 */
#ifndef SHM_SYSCALL_H
#define SHM_SYSCALL_H

#include <sys/syscall.h>
#include <unistd.h> /* which declares libc's function: before the name means ours */

long sh_kernel(long nr, ...); /* syscall_x86_64.S. -1 and errno, as libc's */
#define syscall sh_kernel

#endif
