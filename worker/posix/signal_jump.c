/*
 * posix/signal_jump.c - jumps that restore a mask: sigsetjmp and siglongjmp, setjmp and longjmp of BSD.
 *
 * The mask is the goroutine's. libc's own functions would ask the kernel for the worker's.
 */
#include "worker/posix/signal.h"
#include "worker/posix/libc.h"

#include <setjmp.h>

REAL(int, sigprocmask, (int how, const sigset_t *set, sigset_t *old), how, set, old)

/* Called at the end of __sigsetjmp, whose result it gives. */
int sh_jump_save_mask(struct __jmp_buf_tag *env, int save);
int sh_jump_save_mask(struct __jmp_buf_tag *env, int save)
{
	struct g *g = on_g();
	uint64_t blocked;

	env->__mask_was_saved = save != 0;
	if (!save)
		return 0;
	if (!g) {
		env->__mask_was_saved = real_sigprocmask(SIG_BLOCK, NULL, (sigset_t *)&env->__saved_mask) == 0;
		return 0;
	}
	blocked = sig_blocked(g);
	memset(&env->__saved_mask, 0, sizeof env->__saved_mask);
	memcpy(&env->__saved_mask, &blocked, sizeof blocked);
	return 0;
}

static _Noreturn void jump(struct __jmp_buf_tag *env, int value)
{
	static void (*libc)(struct __jmp_buf_tag *, int);
	struct g *g = on_g();
	struct __jmp_buf_tag without = *env;
	uint64_t blocked;

	LIBC_FIND(libc, "siglongjmp");
	if (!g || !env->__mask_was_saved)
		libc(env, value);
	memcpy(&blocked, &env->__saved_mask, sizeof blocked);
	without.__mask_was_saved = 0;
	signal_set_mask(g, blocked);
	libc(&without, value);
	__builtin_unreachable();
}

void siglongjmp(sigjmp_buf env, int value)
{
	jump(env, value);
}

void longjmp(jmp_buf env, int value)
{
	jump(env, value);
}

void _longjmp(jmp_buf env, int value)
{
	jump(env, value);
}

/* Of fortified programs. libc's check of the stack pointer knows no stack but a thread's. */
_Noreturn void __longjmp_chk(jmp_buf env, int value);
void __longjmp_chk(jmp_buf env, int value)
{
	jump(env, value);
}
