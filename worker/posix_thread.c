/*
 * posix_thread.c - what a thread has of its own, and a goroutine: variables of _Thread_local, values of
 * keys, what is to be done at its end. And threads that a module makes.
 *
 * A goroutine is to C what a thread is: a module's _Thread_local variable is one for each goroutine, a
 * block of the task's heap made at the first look, and good in every worker. The compiler gets at it by
 * __tls_get_addr, which is ours; libraries, and a module built with -ftls-model=initial-exec, have
 * those of the worker. So is it with keys: those made by module code are the goroutine's.
 *
 * Threads belong to the worker they were made on, and use nothing of the runtime.
 *
 * OWNER  the goroutine; cxx.run says of which run of it
 * DEATH  what a goroutine had that did not come to its end goes with the task
 */
#include "core/waits.h"
#include "worker/posix.h"

#include <dlfcn.h>
#include <link.h>
#include <limits.h>
#include <pthread.h>
#include <threads.h>

struct at_end {
	struct at_end *next;
	void (*fn)(void *);
	void *arg;
};

struct value {
	pthread_key_t key;
	const void *value;
};

struct own {
	size_t module; /* whose variables lie at tls; 0: none yet */
	char *tls, *block;
	struct at_end *at_end;
	struct value *values;
	unsigned nvalues, room;
	void *once[2];
};

static struct own *own_of(struct g *g)
{
	if (!(g->flags & GF_OWN))
		return NULL;
	g_fresh(g);
	return g->cxx.own;
}

static struct own *make_own(struct g *g)
{
	struct own *o = own_of(g);

	if (o || !(o = g_alloc(g, sizeof *o)))
		return o;
	memset(o, 0, sizeof *o);
	g_fresh(g);
	g->cxx.own = o;
	g->flags |= GF_OWN;
	return o;
}

/* ---- variables ---- */

struct image { /* of this process; modules are where they are in all */
	size_t module, size, filled, align, skew;
	const char *from;
	uintptr_t text;
};

static int find_image(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct image *im = arg;
	const ElfW(Phdr) *tls = NULL;
	bool here = false;

	(void)size;
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];

		here |= p->p_type == PT_LOAD && im->text - (info->dlpi_addr + p->p_vaddr) < p->p_memsz;
		if (p->p_type == PT_TLS)
			tls = p;
	}
	if (!here)
		return 0;
	if (tls) {
		im->align = tls->p_align > 16 ? tls->p_align : 16;
		im->skew = tls->p_vaddr & (im->align - 1);
		im->size = tls->p_memsz;
		im->filled = tls->p_filesz;
		im->from = (const char *)info->dlpi_addr + tls->p_vaddr;
		im->module = info->dlpi_tls_modid;
	}
	return 1;
}

/* The variables of the module that the task runs; NULL: what is asked for is not one of them. */
static char *make_tls(struct g *g, size_t module)
{
	static struct image last;
	struct own *o;

	if (last.text != g->task->text_start) {
		last = (struct image){.text = g->task->text_start};
		dl_iterate_phdr(find_image, &last);
	}
	if (last.module != module)
		return NULL;
	o = make_own(g);
	if (o)
		o->block = sh_heap_alloc(g->task->heap, (unsigned)getm->seat, getp() ? getp()->id : SH_HEAP_NOCPU,
					 last.size + last.skew, last.align, true);
	if (!o || !o->block)
		host_misuse("no memory for the goroutine's _Thread_local variables");
	o->tls = o->block + last.skew;
	memcpy(o->tls, last.from, last.filled);
	o->module = module;
	return o->tls;
}

struct tls_index {
	unsigned long module, offset;
};
void *__tls_get_addr(struct tls_index *);

REAL(void *, __tls_get_addr, (struct tls_index *at), at)

/*
 * std::call_once leaves what is to be called in two of the library's variables and calls pthread_once,
 * on which the goroutine may wait and move: they are the goroutine's as well, and the library finds
 * them in its own when it is called.
 */
static void **once_vars[2];

/* dlsym asks us for the address of a variable that it finds. */
static void find_once_vars(void)
{
	static bool found;

	if (found)
		return;
	found = true;
	*(void **)&once_vars[0] = dlsym(RTLD_DEFAULT, "_ZSt15__once_callable");
	*(void **)&once_vars[1] = dlsym(RTLD_DEFAULT, "_ZSt11__once_call");
}

void thread_once(struct g *g)
{
	struct own *o = own_of(g);

	if (!o || !o->once[1])
		return;
	find_once_vars(); /* it may have been set on another worker */
	for (int i = 0; i < 2; i++)
		*once_vars[i] = o->once[i];
}

/* Not of the task's module. */
static __attribute__((noinline)) void *of_library(struct g *g, struct tls_index *at)
{
	void *real = real___tls_get_addr(at);
	struct own *o;

	if (!g)
		return real;
	find_once_vars();
	for (int i = 0; i < 2; i++)
		if (real == once_vars[i] && (o = make_own(g)))
			return &o->once[i];
	return real;
}

void *__tls_get_addr(struct tls_index *at)
{
	struct g *g = on_g();
	struct own *o = g ? own_of(g) : NULL;
	char *tls = o && o->module == at->module ? o->tls : g ? make_tls(g, at->module) : NULL;

	return tls ? tls + at->offset : of_library(g, at);
}

int __cxa_thread_atexit_impl(void (*fn)(void *), void *arg, void *dso);

REAL(int, __cxa_thread_atexit_impl, (void (*fn)(void *), void *arg, void *dso), fn, arg, dso)

/* Destructors of C++'s thread_local. */
int __cxa_thread_atexit_impl(void (*fn)(void *), void *arg, void *dso)
{
	struct g *g = on_g();
	struct own *o = g ? make_own(g) : NULL;
	struct at_end *e = o ? g_alloc(g, sizeof *e) : NULL;

	if (!g)
		return real___cxa_thread_atexit_impl(fn, arg, dso);
	if (!e)
		return -1;
	*e = (struct at_end){o->at_end, fn, arg};
	o->at_end = e;
	return 0;
}

/* ---- keys: those of a task are in its record, those that a constructor made in the process ---- */

#define KEY_OURS (1u << 20)

struct keys { /* a task's */
	_Atomic uint32_t n;
	struct {
		_Atomic uint32_t used;
		void (*at_end)(void *);
	} key[PTHREAD_KEYS_MAX];
};

static struct {
	bool made;
	void (*at_end)(void *);
} by_constructor[PTHREAD_KEYS_MAX];

REAL(int, pthread_key_create, (pthread_key_t *key, void (*fn)(void *)), key, fn)
REAL(int, pthread_key_delete, (pthread_key_t key), key)
REAL(int, pthread_setspecific, (pthread_key_t key, const void *v), key, v)
REAL(void *, pthread_getspecific, (pthread_key_t key), key)

static struct keys *keys_of(struct g *g)
{
	return atomic_load(&g->task->own.keys);
}

static bool is_ours(struct g *g, pthread_key_t key)
{
	struct keys *k = keys_of(g);

	if (key < PTHREAD_KEYS_MAX)
		return by_constructor[key].made;
	return k && key - KEY_OURS < PTHREAD_KEYS_MAX && atomic_load(&k->key[key - KEY_OURS].used);
}

int pthread_key_create(pthread_key_t *key, void (*fn)(void *))
{
	struct g *g = on_g();
	struct keys *k;
	void *none = NULL;
	int r;

	if (!g) {
		r = real_pthread_key_create(key, fn);
		if (r == 0 && sh_loading_heap && *key < PTHREAD_KEYS_MAX) {
			by_constructor[*key].made = true;
			by_constructor[*key].at_end = fn;
		}
		return r;
	}
	if (!(k = keys_of(g))) {
		if (!(k = g_alloc(g, sizeof *k)))
			return ENOMEM;
		memset(k, 0, sizeof *k);
		if (!atomic_compare_exchange_strong(&g->task->own.keys, &none, k)) {
			g_free(g, k);
			k = none;
		}
	}
	for (unsigned i = 0; i < PTHREAD_KEYS_MAX; i++) {
		uint32_t unused = 0;

		if (atomic_load(&k->key[i].used) || !atomic_compare_exchange_strong(&k->key[i].used, &unused, 1))
			continue;
		k->key[i].at_end = fn;
		*key = KEY_OURS + i;
		return 0;
	}
	return EAGAIN;
}

int pthread_key_delete(pthread_key_t key)
{
	struct g *g = on_g();

	if (!g || key < PTHREAD_KEYS_MAX)
		return real_pthread_key_delete(key);
	if (!is_ours(g, key))
		return EINVAL;
	atomic_store(&keys_of(g)->key[key - KEY_OURS].used, 0);
	return 0;
}

static struct value *find_value(struct own *o, pthread_key_t key)
{
	for (unsigned i = 0; o && i < o->nvalues; i++)
		if (o->values[i].key == key)
			return &o->values[i];
	return NULL;
}

int pthread_setspecific(pthread_key_t key, const void *value)
{
	struct g *g = on_g();
	struct own *o;
	struct value *v;

	if (!g || (key < PTHREAD_KEYS_MAX && !is_ours(g, key)))
		return real_pthread_setspecific(key, value);
	if (!is_ours(g, key))
		return EINVAL;
	if (!(o = make_own(g)))
		return ENOMEM;
	v = find_value(o, key);
	if (!v && o->nvalues == o->room) {
		struct value *more = g_alloc(g, (o->room + 8) * sizeof *more);

		if (!more)
			return ENOMEM;
		if (o->values) {
			memcpy(more, o->values, o->nvalues * sizeof *more);
			g_free(g, o->values);
		}
		o->values = more;
		o->room += 8;
	}
	if (!v)
		v = &o->values[o->nvalues++];
	*v = (struct value){key, value};
	return 0;
}

void *pthread_getspecific(pthread_key_t key)
{
	struct g *g = on_g();
	struct value *v;

	if (!g || (key < PTHREAD_KEYS_MAX && !is_ours(g, key)))
		return real_pthread_getspecific(key);
	v = find_value(own_of(g), key);
	return v && is_ours(g, key) ? (void *)v->value : NULL;
}

int tss_create(tss_t *key, tss_dtor_t fn)
{
	return pthread_key_create(key, fn) == 0 ? thrd_success : thrd_error;
}

void tss_delete(tss_t key)
{
	pthread_key_delete(key);
}

int tss_set(tss_t key, void *value)
{
	return pthread_setspecific(key, value) == 0 ? thrd_success : thrd_error;
}

void *tss_get(tss_t key)
{
	return pthread_getspecific(key);
}

/* ---- the end of a goroutine, on its stack ---- */

static void end_variables(struct g *g, struct own *o)
{
	struct at_end *e;

	while ((e = o->at_end)) {
		o->at_end = e->next;
		e->fn(e->arg);
		g_free(g, e);
	}
}

static bool end_values(struct g *g, struct own *o)
{
	bool some = false;

	for (unsigned i = 0; i < o->nvalues; i++) {
		struct value v = o->values[i];
		void (*fn)(void *);

		if (!v.value || !is_ours(g, v.key))
			continue;
		fn = v.key < PTHREAD_KEYS_MAX ? by_constructor[v.key].at_end : keys_of(g)->key[v.key - KEY_OURS].at_end;
		o->values[i].value = NULL;
		if (fn) {
			fn((void *)v.value);
			some = true;
		}
	}
	return some;
}

/* all: not only what exit() does as well. */
void thread_end(struct g *g, bool all)
{
	struct own *o = own_of(g);

	if (!o)
		return;
	end_variables(g, o);
	for (int i = 0; all && i < PTHREAD_DESTRUCTOR_ITERATIONS && end_values(g, o); i++)
		end_variables(g, o);
	if (!all) /* handlers of the task may still look at them */
		return;
	g->cxx.own = NULL;
	g->flags &= (uint8_t)~GF_OWN;
	if (o->block)
		g_free(g, o->block);
	if (o->values)
		g_free(g, o->values);
	g_free(g, o);
}

void pthread_exit(void *result)
{
	static void (*libc)(void *);

	if (on_g())
		shoal_exit();
	if (!libc)
		*(void **)&libc = dlsym(RTLD_NEXT, "pthread_exit");
	libc(result);
	abort();
}

void thrd_exit(int result)
{
	pthread_exit((void *)(intptr_t)result);
}

/* ---- threads ---- */

REAL(int, pthread_create, (pthread_t *t, const pthread_attr_t *a, void *(*fn)(void *), void *arg), t, a, fn, arg)
REAL(int, thrd_create, (thrd_t *t, thrd_start_t fn, void *arg), t, fn, arg)
REAL(int, pthread_join, (pthread_t t, void **result), t, result)
REAL(int, thrd_join, (thrd_t t, int *result), t, result)

/* From now on a lock may be held by a thread, which tells no goroutine. */
static void has_threads(struct g *g)
{
	if (!g || atomic_load(&g->task->own.threads))
		return;
	atomic_store(&g->task->own.threads, 1);
	waits_look_again(g->task);
}

int pthread_create(pthread_t *restrict t, const pthread_attr_t *restrict attr, void *(*fn)(void *), void *restrict arg)
{
	has_threads(on_g());
	return real_pthread_create(t, attr, fn, arg);
}

int thrd_create(thrd_t *t, thrd_start_t fn, void *arg)
{
	has_threads(on_g());
	return real_thrd_create(t, fn, arg);
}

/* A thread is of this worker, and so is who waits for it until then. */
int pthread_join(pthread_t t, void **result)
{
	int r;

	if (!on_g() || malloc_is_private)
		return real_pthread_join(t, result);
	syscall_turn(NULL, NULL);
	entersyscallblock();
	r = real_pthread_join(t, result);
	exitsyscall();
	return r;
}

int thrd_join(thrd_t t, int *result)
{
	int r;

	if (!on_g())
		return real_thrd_join(t, result);
	syscall_turn(NULL, NULL);
	entersyscallblock();
	r = real_thrd_join(t, result);
	exitsyscall();
	return r;
}

int thrd_sleep(const struct timespec *want, struct timespec *left)
{
	return nanosleep(want, left) == 0 ? 0 : errno == EINTR || errno == ECANCELED ? -1 : -2;
}

void thrd_yield(void)
{
	sched_yield();
}
