/*
 * syscall_x86_64.S - long sh_kernel(long nr, ...): a system call with up to six arguments. Those that
 * the caller has not given are whatever the registers hold, as in libc's syscall().
 */
	.text
	.globl	sh_kernel
	.type	sh_kernel, @function
	.p2align 4
sh_kernel:
	.cfi_startproc
	mov	%rdi, %rax
	mov	%rsi, %rdi
	mov	%rdx, %rsi
	mov	%rcx, %rdx
	mov	%r8, %r10
	mov	%r9, %r8
	mov	8(%rsp), %r9
	syscall
	cmp	$-4095, %rax
	jae	1f
	ret
1:	neg	%eax
	push	%rax
	.cfi_adjust_cfa_offset 8
	call	__errno_location@PLT
	pop	%rcx
	.cfi_adjust_cfa_offset -8
	mov	%ecx, (%rax)
	mov	$-1, %rax
	ret
	.cfi_endproc
	.size	sh_kernel, .-sh_kernel

	.section .note.GNU-stack,"",@progbits
