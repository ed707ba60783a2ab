/*
 * switch_x86_64.S - the context switch.
 *
 * A goroutine that does not run has on its stack, from sp upwards: MXCSR and the x87 control word,
 * r15 r14 r13 r12 rbx rbp, and the return address. Nothing the switch itself needs lies in the
 * window: it goes on on g0's stack, which is private to the process.
 */
	.text

/* void sh_switch_out(char **sp, char *g0_sp, void (*fn)(struct g *), struct g *g) */
	.globl	sh_switch_out
	.type	sh_switch_out, @function
	.p2align 4
sh_switch_out:
	.cfi_startproc
	push	%rbp
	push	%rbx
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	sub	$8, %rsp
	stmxcsr	(%rsp)
	fnstcw	4(%rsp)
	mov	%rsp, (%rdi)
	mov	%rsi, %rsp
	xor	%ebp, %ebp
	mov	%rcx, %rdi
	call	*%rdx
	ud2
	.cfi_endproc
	.size	sh_switch_out, .-sh_switch_out

/* void sh_switch_in(char *sp): the control words are loaded only if they differ, loading is slow. */
	.globl	sh_switch_in
	.type	sh_switch_in, @function
	.p2align 4
sh_switch_in:
	.cfi_startproc
	mov	%rdi, %rsp
	stmxcsr	-8(%rsp)
	fnstcw	-4(%rsp)
	mov	-8(%rsp), %eax
	cmp	(%rsp), %eax
	jne	1f
	mov	-4(%rsp), %ax
	cmp	4(%rsp), %ax
	je	2f
1:	ldmxcsr	(%rsp)
	fldcw	4(%rsp)
2:	add	$8, %rsp
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbx
	pop	%rbp
	ret
	.cfi_endproc
	.size	sh_switch_in, .-sh_switch_in

/* void sh_switch_start(char *top, void (*fn)(struct g *), struct g *g): the first frame, which nothing returns from. */
	.globl	sh_switch_start
	.type	sh_switch_start, @function
	.p2align 4
sh_switch_start:
	.cfi_startproc
	.cfi_undefined rip
	mov	%rdi, %rsp
	pushq	$0x1f80
	ldmxcsr	(%rsp)
	movw	$0x37f, (%rsp)
	fldcw	(%rsp)
	add	$8, %rsp
	xor	%ebp, %ebp
	mov	%rdx, %rdi
	call	*%rsi
	ud2
	.cfi_endproc
	.size	sh_switch_start, .-sh_switch_start

/* void sh_switch_stack(char *top, void (*fn)(unsigned), unsigned arg): the process goes on on g0's stack. */
	.globl	sh_switch_stack
	.type	sh_switch_stack, @function
	.p2align 4
sh_switch_stack:
	.cfi_startproc
	.cfi_undefined rip
	mov	%rdi, %rsp
	xor	%ebp, %ebp
	mov	%edx, %edi
	call	*%rsi
	ud2
	.cfi_endproc
	.size	sh_switch_stack, .-sh_switch_stack

	.section .note.GNU-stack,"",@progbits
