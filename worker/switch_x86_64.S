/*
 * switch_x86_64.S - the context switch.
 *
 * A goroutine that does not run has on its stack, from sp upwards: MXCSR and the x87 control word,
 * r15 r14 r13 r12 rbx rbp, and the return address. Nothing the switch itself needs lies in the
 * window: it goes on on g0's stack, which is private to the process.
 *
 * The function called on g0 returns the G to enter. So every call has its return, and the return
 * into a goroutine matches the call by which some goroutine left: the processor's return
 * predictor is right as long as they leave alike.
 */
#define G_SP 8 /* offset of sp in struct g; checked in host.c */
#define MXCSR_DEFAULT 0x1f80
#define MXCSR_CONTROL 0xffc0 /* the other bits tell of exceptions: a call need not keep them */
#define X87_DEFAULT 0x37f

/*
 * Before it leaves the goroutine's stack: the direction and alignment-check flags must be clear, whatever the caller
 * has done. pushfq or cld on each switch costs 7 ns, so one load finds both: it is not aligned, so it faults if the
 * alignment check is on (flags_clear_in finds the instruction in this file and clears both flags), and it moves rsi backwards
 * if the direction flag is set. Uses rax, rcx; keeps rsi.
 */
	.macro	clean_flags
	mov	%rsi, %rcx
	lea	-7(%rsp), %rsi
	lodsl
	lea	-3(%rsp), %rax
	cmp	%rax, %rsi
	je	9f
	cld
9:	mov	%rcx, %rsi
	.endm

	.text
	.globl	sh_switch_begin, sh_switch_end
	.hidden	sh_switch_begin, sh_switch_end
sh_switch_begin:

/* void sh_mcall(struct g *g, struct g *(*fn)(struct g *), char *g0_top): rbx, r12d keep the control words across fn. */
	.globl	sh_mcall
	.type	sh_mcall, @function
	.p2align 4
sh_mcall:
	.cfi_startproc
	clean_flags
	push	%rbp
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset rbp, 0
	push	%rbx
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset rbx, 0
	push	%r12
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset r12, 0
	push	%r13
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset r13, 0
	push	%r14
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset r14, 0
	push	%r15
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset r15, 0
	sub	$8, %rsp
	.cfi_adjust_cfa_offset 8
	stmxcsr	(%rsp)
	fnstcw	4(%rsp)
	mov	(%rsp), %ebx
	movzwl	4(%rsp), %r12d
	mov	%rsp, G_SP(%rdi)
	mov	%rdx, %rsp
	xor	%ebp, %ebp
	call	*%rsi
.Lenter:
	mov	G_SP(%rax), %rdx
	test	%rdx, %rdx
	jz	.Lfirst
	mov	%rdx, %rsp
	xor	(%rsp), %ebx		/* loaded only if they differ: that is slow */
	test	$MXCSR_CONTROL, %ebx
	jne	1f
	cmp	%r12w, 4(%rsp)
	je	2f
1:	ldmxcsr	(%rsp)
	fldcw	4(%rsp)
2:	add	$8, %rsp
	.cfi_adjust_cfa_offset -8
	pop	%r15
	.cfi_adjust_cfa_offset -8
	pop	%r14
	.cfi_adjust_cfa_offset -8
	pop	%r13
	.cfi_adjust_cfa_offset -8
	pop	%r12
	.cfi_adjust_cfa_offset -8
	pop	%rbx
	.cfi_adjust_cfa_offset -8
	pop	%rbp
	.cfi_adjust_cfa_offset -8
	ret
	.cfi_endproc
	.size	sh_mcall, .-sh_mcall

/* Its first run: a fresh stack, default control words, and a frame that nothing returns from. */
	.type	sh_first, @function
sh_first:
	.cfi_startproc
	.cfi_undefined rip
.Lfirst:
	mov	%rax, %r13
	mov	%rax, %rdi
	call	sh_first_top
	mov	%rax, %rsp
	xor	$MXCSR_DEFAULT, %ebx
	test	$MXCSR_CONTROL, %ebx
	je	1f
	pushq	$MXCSR_DEFAULT
	ldmxcsr	(%rsp)
	add	$8, %rsp
1:	cmp	$X87_DEFAULT, %r12d
	je	2f
	pushq	$X87_DEFAULT
	fldcw	(%rsp)
	add	$8, %rsp
2:	xor	%ebp, %ebp
	mov	%r13, %rdi
	call	gmain
	ud2
	.cfi_endproc
	.size	sh_first, .-sh_first

/* void sh_mexit(struct g *g, struct g *(*fn)(struct g *), char *g0_top): as sh_mcall, but what it leaves is not kept. */
	.globl	sh_mexit
	.type	sh_mexit, @function
	.p2align 4
sh_mexit:
	.cfi_startproc
	.cfi_undefined rip
	mov	%rdx, %rsp
	clean_flags
	sub	$16, %rsp
	stmxcsr	(%rsp)
	fnstcw	4(%rsp)
	mov	(%rsp), %ebx
	movzwl	4(%rsp), %r12d
	xor	%ebp, %ebp
	call	*%rsi
	jmp	.Lenter
	.cfi_endproc
	.size	sh_mexit, .-sh_mexit

/* void sh_mstart(char *g0_top, struct g *(*fn)(unsigned), unsigned arg): the process goes on on g0's stack. */
	.globl	sh_mstart
	.type	sh_mstart, @function
	.p2align 4
sh_mstart:
	.cfi_startproc
	.cfi_undefined rip
	mov	%rdi, %rsp
	xor	%ebp, %ebp
	xor	%ebx, %ebx		/* no control words: the first G's are loaded */
	xor	%r12d, %r12d
	mov	%edx, %edi
	call	*%rsi
	jmp	.Lenter
	.cfi_endproc
	.size	sh_mstart, .-sh_mstart

/* void sh_call_on(char *top, void (*fn)(void *), void *arg): a call on another stack of the process. */
	.globl	sh_call_on
	.type	sh_call_on, @function
	.p2align 4
sh_call_on:
	.cfi_startproc
	clean_flags
	push	%rbp
	.cfi_def_cfa_offset 16
	.cfi_offset rbp, -16
	mov	%rsp, %rbp
	.cfi_def_cfa_register rbp
	mov	%rdi, %rsp
	mov	%rsi, %rax
	mov	%rdx, %rdi
	call	*%rax
	leave
	.cfi_def_cfa rsp, 8
	ret
	.cfi_endproc
	.size	sh_call_on, .-sh_call_on

sh_switch_end:
	.section .note.GNU-stack,"",@progbits
