/*
 * thread_cancel.c - threads are left by pthread_exit and by cancellation.
 *
 * Both unwind the stack (_Unwind_ForcedUnwind of libgcc): C++ destructors run, and so do the handlers of
 * pthread_cleanup_push, whose macro has registered a place to jump to. At the outermost frame the goroutine ends.
 *
 *	pthread_cancel					the thread
 *	CANCEL_PENDING in the record
 *	a mark in the goroutine (core/sync/cancel.c),
 *	which ends its wait
 *							a call that parks returns ECANCELED, or begins:
 *							CANCEL_POINT finds CANCEL_PENDING and unwinds
 *
 * While a thread has cancellation disabled, the mark is held back (g_cancel_hold). An asynchronous cancellation acts
 * when the preemption signal interrupts code of the module, besides.
 *
 * DEATH  a canceller that dies between the two: the mark is noted in its seat before, and repair wakes the thread;
 *        before that, the thread is only not cancelled
 */
#include "worker/posix/thread_cancel.h"
#include "core/sync/cancel.h"
#include "worker/posix/libc.h"
#include "worker/posix/thread.h"

#include <pthread.h>
#include <setjmp.h>
#include <threads.h>
#include <unwind.h>

REAL(int, pthread_cancel, (pthread_t t), t)
REAL(int, pthread_setcancelstate, (int state, int *old), state, old)
REAL(int, pthread_setcanceltype, (int type, int *old), type, old)
REAL(void, pthread_testcancel, (void), )
REAL(void, __pthread_register_cancel, (__pthread_unwind_buf_t * buf), buf)
REAL(void, __pthread_unregister_cancel, (__pthread_unwind_buf_t * buf), buf)
REAL(void, __pthread_unwind_next, (__pthread_unwind_buf_t * buf), buf)

void __pthread_register_cancel(__pthread_unwind_buf_t *);
void __pthread_unregister_cancel(__pthread_unwind_buf_t *);
void __pthread_unwind_next(__pthread_unwind_buf_t *);

struct cleanup_buffer { /* of the macros of old */
	void (*fn)(void *);
	void *arg;
	int type;
	struct cleanup_buffer *prev;
};
void _pthread_cleanup_push(struct cleanup_buffer *, void (*fn)(void *), void *arg);
void _pthread_cleanup_pop(struct cleanup_buffer *, int execute);
void _pthread_cleanup_push_defer(struct cleanup_buffer *, void (*fn)(void *), void *arg);
void _pthread_cleanup_pop_restore(struct cleanup_buffer *, int execute);

/* ---- unwinding ---- */

/* The stack pointer that a jump to buf would set, as libc hides it. */
static uintptr_t jump_sp(const __pthread_unwind_buf_t *buf)
{
	uintptr_t sp = (uintptr_t)buf->__cancel_jmp_buf[0].__cancel_jmp_buf[6], guard;

	__asm__("mov %%fs:0x30, %0" : "=r"(guard));
	return (sp >> 17 | sp << 47) ^ guard;
}

static _Noreturn void jump(const __pthread_unwind_buf_t *buf)
{
	longjmp((struct __jmp_buf_tag *)(uintptr_t)buf, 1);
}

static _Noreturn void end_thread(struct own *o)
{
	struct cleanup_buffer *b;

	while ((b = o->old_cleanups)) {
		o->old_cleanups = b->prev;
		b->fn(b->arg);
	}
	shoal_exit();
}

/* Called for each frame, from the innermost on. */
static _Unwind_Reason_Code stop(int version, _Unwind_Action actions, _Unwind_Exception_Class class,
				struct _Unwind_Exception *e, struct _Unwind_Context *context, void *arg)
{
	struct own *o = arg;
	__pthread_unwind_buf_t *buf = o->cleanups;
	bool over = (actions & _UA_END_OF_STACK) != 0;

	(void)version;
	(void)class;
	(void)e;
	if (buf && (over || _Unwind_GetCFA(context) >= jump_sp(buf)))
		jump(buf);
	if (over)
		end_thread(o);
	return _URC_NO_REASON;
}

/* A catch (...) that does not throw again ends up here. */
static void swallowed(_Unwind_Reason_Code code, struct _Unwind_Exception *e)
{
	(void)code;
	(void)e;
	host_misuse("an exception of a thread that is cancelled or exits was caught and not thrown again");
}

static _Noreturn void unwind(struct g *g, struct own *o)
{
	if (!o->unwinding) {
		o->unwinding = g_alloc(g, sizeof(struct _Unwind_Exception));
		if (!o->unwinding)
			end_thread(o);
	}
	memset(o->unwinding, 0, sizeof(struct _Unwind_Exception));
	((struct _Unwind_Exception *)o->unwinding)->exception_cleanup = swallowed;
	_Unwind_ForcedUnwind(o->unwinding, stop, o);
	end_thread(o);
}

static _Noreturn void leave_thread(struct g *g, void *result)
{
	struct own *o = own_make(g);

	if (!o)
		shoal_exit();
	atomic_fetch_or(&o->cancel, CANCEL_EXITING);
	if (atomic_load(&o->cancel) & CANCEL_PENDING)
		g_cancel_hold(g); /* handlers and destructors may wait as ever */
	o->result = result;
	unwind(g, o);
}

void pthread_exit(void *result)
{
	static void (*libc)(void *);
	struct g *g = on_g();

	if (g)
		leave_thread(g, result);
	LIBC_FIND(libc, "pthread_exit");
	libc(result);
	abort();
}

void thrd_exit(int result)
{
	pthread_exit((void *)(intptr_t)result);
}

/* ---- the handlers of pthread_cleanup_push in C ---- */

static struct own *own_here(void)
{
	struct g *g = on_g();
	struct own *o = g ? own_make(g) : NULL;

	if (g && !o)
		host_misuse("out of memory: no room for the record of a thread");
	return o;
}

void __pthread_register_cancel(__pthread_unwind_buf_t *buf)
{
	struct own *o = own_here();

	if (!o) {
		real___pthread_register_cancel(buf);
		return;
	}
	buf->__pad[0] = o->cleanups;
	o->cleanups = buf;
}

void __pthread_unregister_cancel(__pthread_unwind_buf_t *buf)
{
	struct own *o = own_here();

	if (o)
		o->cleanups = buf->__pad[0];
	else
		real___pthread_unregister_cancel(buf);
}

static uint32_t set_type(struct own *o, uint32_t async)
{
	uint32_t old = atomic_load(&o->cancel);

	while (!atomic_compare_exchange_weak(&o->cancel, &old, (old & ~CANCEL_ASYNC) | async))
		;
	return old & CANCEL_ASYNC;
}

void __pthread_register_cancel_defer(__pthread_unwind_buf_t *buf);
void __pthread_register_cancel_defer(__pthread_unwind_buf_t *buf)
{
	struct own *o = own_here();

	__pthread_register_cancel(buf);
	buf->__pad[2] = o ? (void *)(uintptr_t)set_type(o, 0) : NULL;
}

void __pthread_unregister_cancel_restore(__pthread_unwind_buf_t *buf);
void __pthread_unregister_cancel_restore(__pthread_unwind_buf_t *buf)
{
	struct own *o = own_here();

	__pthread_unregister_cancel(buf);
	if (o && buf->__pad[2])
		set_type(o, CANCEL_ASYNC);
}

void __pthread_unwind_next(__pthread_unwind_buf_t *buf)
{
	struct g *g = on_g();

	if (!g)
		real___pthread_unwind_next(buf);
	own_of(g)->cleanups = buf->__pad[0];
	unwind(g, own_of(g));
}

void _pthread_cleanup_push(struct cleanup_buffer *b, void (*fn)(void *), void *arg)
{
	struct own *o = own_here();

	*b = (struct cleanup_buffer){fn, arg, 0, o ? o->old_cleanups : NULL};
	if (o)
		o->old_cleanups = b;
}

void _pthread_cleanup_pop(struct cleanup_buffer *b, int execute)
{
	struct own *o = own_here();

	if (o)
		o->old_cleanups = b->prev;
	if (execute)
		b->fn(b->arg);
}

void _pthread_cleanup_push_defer(struct cleanup_buffer *b, void (*fn)(void *), void *arg)
{
	struct own *o = own_here();

	_pthread_cleanup_push(b, fn, arg);
	b->type = o ? (int)set_type(o, 0) : 0;
}

void _pthread_cleanup_pop_restore(struct cleanup_buffer *b, int execute)
{
	struct own *o = own_here();

	if (o && b->type)
		set_type(o, CANCEL_ASYNC);
	_pthread_cleanup_pop(b, execute);
}

/* ---- cancellation ---- */

/* It is to be cancelled here and now. */
static bool is_due(const struct own *o)
{
	return (atomic_load_explicit(&((struct own *)o)->cancel, memory_order_relaxed) &
		(CANCEL_PENDING | CANCEL_DISABLED | CANCEL_EXITING | CANCEL_INSIDE)) == CANCEL_PENDING &&
	       getm->locks == 0;
}

bool thread_cancel_suspend(void)
{
	struct g *g = on_g();
	struct own *o = g ? own_of(g) : NULL;

	return o && (atomic_fetch_or(&o->cancel, CANCEL_INSIDE) & CANCEL_INSIDE);
}

void thread_cancel_resume(bool before)
{
	struct g *g = on_g();
	struct own *o = g ? own_of(g) : NULL;

	if (o && !before)
		atomic_fetch_and(&o->cancel, ~CANCEL_INSIDE);
}

void thread_cancel_look(struct g *g)
{
	struct own *o = own_of(g);

	if (o && is_due(o))
		leave_thread(g, PTHREAD_CANCELED);
}

void thread_cancel_async(struct g *g)
{
	struct own *o = own_of(g);

	if (o && is_due(o) && (atomic_load(&o->cancel) & CANCEL_ASYNC))
		leave_thread(g, PTHREAD_CANCELED);
}

void pthread_testcancel(void)
{
	struct g *g = on_g();

	if (g)
		thread_cancel_look(g);
	else
		real_pthread_testcancel();
}

int pthread_cancel(pthread_t t)
{
	struct g *self = on_g(), *g;
	struct own *o;
	uint64_t gid;

	if (!self)
		return real_pthread_cancel(t);
	if (!(o = thread_of(t)))
		return ESRCH;
	gid = o->gid;
	if (!(g = thread_g(o)) || (atomic_load(&o->state) & THREAD_ENDED))
		return 0;
	atomic_fetch_or(&o->cancel, CANCEL_PENDING);
	if (!g_cancel_ask(g, gid))
		return 0;
	if (g == self) {
		thread_cancel_async(g);
		return 0;
	}
	host_barrier(); /* pairs with park_m: it has seen the mark, or we see that it waits */
	if (atomic_load(&o->cancel) & CANCEL_ASYNC)
		g_cancel_interrupt(g);
	g_cancel_wake(g);
	return 0;
}

int pthread_setcancelstate(int state, int *old)
{
	struct g *g = on_g();
	struct own *o;
	uint32_t before;

	if (!g)
		return real_pthread_setcancelstate(state, old);
	if (state != PTHREAD_CANCEL_ENABLE && state != PTHREAD_CANCEL_DISABLE)
		return EINVAL;
	if (!(o = own_make(g)))
		return ENOMEM;
	if (state == PTHREAD_CANCEL_DISABLE) {
		before = atomic_fetch_or(&o->cancel, CANCEL_DISABLED);
		g_cancel_hold(g);
	} else {
		before = atomic_fetch_and(&o->cancel, ~CANCEL_DISABLED);
		if (!(before & CANCEL_EXITING))
			g_cancel_release(g);
		thread_cancel_async(g);
	}
	if (old)
		*old = before & CANCEL_DISABLED ? PTHREAD_CANCEL_DISABLE : PTHREAD_CANCEL_ENABLE;
	return 0;
}

int pthread_setcanceltype(int type, int *old)
{
	struct g *g = on_g();
	struct own *o;
	uint32_t before;

	if (!g)
		return real_pthread_setcanceltype(type, old);
	if (type != PTHREAD_CANCEL_DEFERRED && type != PTHREAD_CANCEL_ASYNCHRONOUS)
		return EINVAL;
	if (!(o = own_make(g)))
		return ENOMEM;
	before = set_type(o, type == PTHREAD_CANCEL_ASYNCHRONOUS ? CANCEL_ASYNC : 0);
	if (old)
		*old = before ? PTHREAD_CANCEL_ASYNCHRONOUS : PTHREAD_CANCEL_DEFERRED;
	thread_cancel_async(g);
	return 0;
}
