/* header.S - core/shoal.h as it is, for modules that are C source: compile.c writes it where the compiler looks. */
	.section .rodata
	.globl	sh_header_text
sh_header_text:
	.incbin	"core/shoal.h"
	.globl	sh_header_end
sh_header_end:
	.byte	0

	.section .note.GNU-stack,"",@progbits
