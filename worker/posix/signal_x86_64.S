/*
 * signal_x86_64.S - what glibc's setjmp and the kernel's return from a signal handler do, for goroutines.
 *
 * setjmp and sigsetjmp have to be the ones that save the registers, and libc's own would save the kernel's mask of
 * the worker. So they are done anew here, in libc's format: longjmp of libc restores the registers.
 */
#define JB_RBX 0
#define JB_RBP 8
#define JB_R12 16
#define JB_R13 24
#define JB_R14 32
#define JB_R15 40
#define JB_RSP 48
#define JB_PC 56

	.text

	.macro	mangle reg
	xor	%fs:0x30, \reg
	rol	$17, \reg
	.endm

/* int __sigsetjmp(struct __jmp_buf_tag *env, int save_mask) */
	.globl	__sigsetjmp
	.type	__sigsetjmp, @function
	.p2align 4
__sigsetjmp:
	.cfi_startproc
	mov	%rbx, JB_RBX(%rdi)
	mov	%rbp, %rax
	mangle	%rax
	mov	%rax, JB_RBP(%rdi)
	mov	%r12, JB_R12(%rdi)
	mov	%r13, JB_R13(%rdi)
	mov	%r14, JB_R14(%rdi)
	mov	%r15, JB_R15(%rdi)
	lea	8(%rsp), %rax
	mangle	%rax
	mov	%rax, JB_RSP(%rdi)
	mov	(%rsp), %rax
	mangle	%rax
	mov	%rax, JB_PC(%rdi)
	jmp	sh_jump_save_mask
	.cfi_endproc
	.size	__sigsetjmp, .-__sigsetjmp

/* int setjmp(struct __jmp_buf_tag *env): the function, which saves the mask as BSD's does; the macro is _setjmp. */
	.globl	setjmp
	.type	setjmp, @function
	.p2align 4
setjmp:
	.cfi_startproc
	mov	$1, %esi
	jmp	__sigsetjmp
	.cfi_endproc
	.size	setjmp, .-setjmp

/* _Noreturn void sh_signal_return(ucontext_t *): the kernel goes on with these registers. */
	.globl	sh_signal_return
	.type	sh_signal_return, @function
	.p2align 4
sh_signal_return:
	.cfi_startproc
	.cfi_undefined rip
	mov	%rdi, %rsp
	mov	$15, %eax
	syscall
	ud2
	.cfi_endproc
	.size	sh_signal_return, .-sh_signal_return

	.section .note.GNU-stack,"",@progbits
