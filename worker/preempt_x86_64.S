/*
 * preempt_x86_64.S - where a preempted goroutine gives way.
 *
 * The handler of the preemption signal runs on the worker's alternate stack. It puts an interrupt frame
 * onto the goroutine's stack and has the kernel return to sh_preempted, which saves every register,
 * calls sh_preempt_here and goes on where the goroutine was interrupted, perhaps in another worker:
 *
 *	window:	... frames of the goroutine ...
 *		128 bytes that the ABI lets a function use below its sp
 *	+32	ss	\
 *	+24	rsp	 |
 *	+16	flags	 | written by the handler (struct interrupted)
 *	+8	cs	 |
 *	rsp ->	rip	/
 *		rbp, rax ... r15, then the vector registers, written here
 *
 * So no signal frame travels from one worker to another, and with it no worker's alternate stack.
 */
	.text

	.globl	sh_preempted
	.type	sh_preempted, @function
	.p2align 4
sh_preempted:
	.cfi_startproc
	.cfi_signal_frame
	/* The frame address is the interrupted rsp; what is in the frame below it is reached by rbp. */
	.cfi_escape 0x0f, 0x03, 0x77, 0x18, 0x06	/* DW_CFA_def_cfa_expression: *(rsp + 24) */
	.cfi_escape 0x10, 0x10, 0x02, 0x77, 0x00	/* DW_CFA_expression: rip is at rsp + 0 */
	push	%rbp
	.cfi_escape 0x0f, 0x03, 0x77, 0x20, 0x06	/* *(rsp + 32) */
	.cfi_escape 0x10, 0x10, 0x02, 0x77, 0x08
	mov	%rsp, %rbp
	.cfi_escape 0x0f, 0x03, 0x76, 0x20, 0x06	/* *(rbp + 32) */
	.cfi_escape 0x10, 0x10, 0x02, 0x76, 0x08	/* rip is at rbp + 8 */
	.cfi_escape 0x10, 0x06, 0x02, 0x76, 0x00	/* rbp is at rbp + 0 */
	push	%rax
	push	%rcx
	push	%rdx
	push	%rbx
	push	%rsi
	push	%rdi
	push	%r8
	push	%r9
	push	%r10
	push	%r11
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	.cfi_escape 0x10, 0x00, 0x02, 0x76, 0x78	/* rax is at rbp - 8, and so on */
	.cfi_escape 0x10, 0x02, 0x02, 0x76, 0x70
	.cfi_escape 0x10, 0x01, 0x02, 0x76, 0x68
	.cfi_escape 0x10, 0x03, 0x02, 0x76, 0x60
	.cfi_escape 0x10, 0x04, 0x02, 0x76, 0x58
	.cfi_escape 0x10, 0x05, 0x02, 0x76, 0x50
	.cfi_escape 0x10, 0x08, 0x02, 0x76, 0x48
	.cfi_escape 0x10, 0x09, 0x02, 0x76, 0x40
	.cfi_escape 0x10, 0x0a, 0x03, 0x76, 0xb8, 0x7f
	.cfi_escape 0x10, 0x0b, 0x03, 0x76, 0xb0, 0x7f
	.cfi_escape 0x10, 0x0c, 0x03, 0x76, 0xa8, 0x7f
	.cfi_escape 0x10, 0x0d, 0x03, 0x76, 0xa0, 0x7f
	.cfi_escape 0x10, 0x0e, 0x03, 0x76, 0x98, 0x7f
	.cfi_escape 0x10, 0x0f, 0x03, 0x76, 0x90, 0x7f
	mov	sh_vector_size(%rip), %eax
	sub	%rax, %rsp
	and	$-64, %rsp
	cmpb	$0, sh_has_xsave(%rip)
	je	1f
	xor	%eax, %eax		/* the header: xrstor wants zeros where xsave stores nothing */
	mov	%rax, 512(%rsp)
	mov	%rax, 520(%rsp)
	mov	%rax, 528(%rsp)
	mov	%rax, 536(%rsp)
	mov	%rax, 544(%rsp)
	mov	%rax, 552(%rsp)
	mov	%rax, 560(%rsp)
	mov	%rax, 568(%rsp)
	mov	$-1, %eax
	mov	$-1, %edx
	xsave64	(%rsp)
	call	sh_preempt_here
	mov	$-1, %eax
	mov	$-1, %edx
	xrstor64 (%rsp)
	jmp	2f
1:	fxsave64 (%rsp)
	call	sh_preempt_here
	fxrstor64 (%rsp)
2:	lea	-112(%rbp), %rsp
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%r11
	pop	%r10
	pop	%r9
	pop	%r8
	pop	%rdi
	pop	%rsi
	pop	%rbx
	pop	%rdx
	pop	%rcx
	pop	%rax
	pop	%rbp
	.cfi_escape 0x0f, 0x03, 0x77, 0x18, 0x06
	.cfi_escape 0x10, 0x10, 0x02, 0x77, 0x00
	.cfi_same_value rbp
	iretq
	.cfi_endproc
	.size	sh_preempted, .-sh_preempted

	.section .note.GNU-stack,"",@progbits
