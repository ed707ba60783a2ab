/*
 * blocking_x86_64.S - the one place in which a goroutine blocks in the kernel.
 *
 * long sh_blocking(long nr, long a, long b, long c, long d, long e, long f): the system call, its
 * result as the kernel gives it. A signal handler that finds the program at sh_blocking_call tells by
 * rcx, into which the instruction itself puts its return address, whether the call has been under way
 * and is about to be restarted, or is yet to begin.
 */
	.text
	.globl	sh_blocking, sh_blocking_call, sh_blocking_done
	.type	sh_blocking, @function
	.p2align 4
sh_blocking:
	.cfi_startproc
	mov	%rdi, %rax
	mov	%rsi, %rdi
	mov	%rdx, %rsi
	mov	%rcx, %rdx
	mov	%r8, %r10
	mov	%r9, %r8
	mov	8(%rsp), %r9
	xor	%ecx, %ecx
sh_blocking_call:
	syscall
sh_blocking_done:
	ret
	.cfi_endproc
	.size	sh_blocking, .-sh_blocking

	.section .note.GNU-stack,"",@progbits
