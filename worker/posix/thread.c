/*
 * posix/thread.c - what a thread has of its own: variables of _Thread_local, which are the worker's, and
 * values of keys, which are the goroutine's. And threads that a module makes.
 *
 * A module's _Thread_local variables are one for each worker, fresh for each task, and at the same
 * addresses in all workers: the zygote has the loader lay them out before it clones (sh_variables_touch),
 * so what a compiler has computed before a park leads to those of the worker that goes on, and the
 * loader never takes memory of a task for them. Keys made by module code have a value for each goroutine.
 *
 * Threads belong to the worker they were made on, and use nothing of the runtime.
 *
 * OWNER  the goroutine; cxx.run says of which run of it
 * DEATH  what a goroutine had that did not come to its end goes with the task
 */
#include "core/task/objects.h"
#include "core/sync/semtable.h"
#include "worker/posix/own.h"
#include "worker/posix/posix.h"

#include <dlfcn.h>
#include <link.h>
#include <limits.h>
#include <pthread.h>
#include <threads.h>

struct value {
	pthread_key_t key;
	const void *value;
};

struct own {
	struct value *values;
	unsigned nvalues, room;
	void *once[2];
};

static struct own *own_of(struct g *g)
{
	if (!(g->flags & GF_OWN))
		return NULL;
	g_fresh(g);
	return g_cxx(g)->own;
}

static struct own *make_own(struct g *g)
{
	struct own *o = own_of(g);

	if (o || !(o = g_alloc(g, sizeof *o)))
		return o;
	memset(o, 0, sizeof *o);
	g_fresh(g);
	g_cxx(g)->own = o;
	g->flags |= GF_OWN;
	return o;
}

/* ---- variables ---- */

#define INSTANCES 4096 /* of modules; of those beyond, variables are not reset between tasks */

struct tls_index {
	unsigned long module, offset;
};
void *__tls_get_addr(struct tls_index *);

REAL(void *, __tls_get_addr, (struct tls_index * at), at)

/* Of each instance of a module: its variables, and whose values they have, in this process. */
static struct variables {
	bool known;
	uint32_t attempt;
	uint64_t task;
	size_t module, size, filled; /* module: 0 if there are none */
	const char *from;
} variables[INSTANCES];

struct search {
	struct variables *v;
	uintptr_t text;
};

static int find_variables(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct search *s = arg;
	const ElfW(Phdr) *tls = NULL;
	bool here = false;

	(void)size;
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];

		here |= p->p_type == PT_LOAD && s->text - (info->dlpi_addr + p->p_vaddr) < p->p_memsz;
		if (p->p_type == PT_TLS)
			tls = p;
	}
	if (here && tls) {
		s->v->size = tls->p_memsz;
		s->v->filled = tls->p_filesz;
		s->v->from = (const char *)info->dlpi_addr + tls->p_vaddr;
		s->v->module = info->dlpi_tls_modid;
	}
	return here;
}

void variables_turn_to(const struct task *t)
{
	struct variables *v = &variables[t->instance % INSTANCES];
	uint32_t attempt = atomic_load(&((struct task *)t)->attempt);
	char *at;

	if (t->instance >= INSTANCES || (v->known && !v->module) || (v->task == t->id && v->attempt == attempt))
		return;
	if (!v->known)
		dl_iterate_phdr(find_variables, &(struct search){v, t->text_start});
	v->known = true;
	v->task = t->id;
	v->attempt = attempt;
	if (!v->module)
		return;
	at = real___tls_get_addr(&(struct tls_index){v->module, 0});
	memcpy(at, v->from, v->filled);
	memset(at + v->filled, 0, v->size - v->filled);
}

struct untouched {
	size_t module[64];
	unsigned n;
};

static int find_untouched(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct untouched *u = arg;

	(void)size;
	if (info->dlpi_tls_modid && !info->dlpi_tls_data && u->n < sizeof u->module / sizeof *u->module)
		u->module[u->n++] = info->dlpi_tls_modid;
	return 0;
}

void sh_variables_touch(void)
{
	struct untouched u = {.n = 0};

	dl_iterate_phdr(find_untouched, &u);
	while (u.n > 0)
		real___tls_get_addr(&(struct tls_index){u.module[--u.n], 0});
}

/*
 * std::call_once leaves what is to be called in two of the library's variables and calls pthread_once,
 * on which the goroutine may wait and move: they are the goroutine's, and the library finds them in its
 * own when it is called.
 */
static void **once_vars[2];

/*
 * Finds the two in the instance of the task, whose C++ library is its own. dlsym asks __tls_get_addr for the
 * address of a variable that it finds, so the instance counts as found before.
 */
static void find_once_vars(struct g *g)
{
	static uint64_t found; /* instance of the task, plus one */
	const struct objects *s;

	if (__builtin_expect(found == (uint64_t)g->task->instance + 1, 1))
		return;
	found = (uint64_t)g->task->instance + 1;
	once_vars[0] = once_vars[1] = NULL;
	s = sh_objects_of(g->task);
	if (!s)
		return;
	acquirem();
	*(void **)&once_vars[0] = dlsym(s->handle, "_ZSt15__once_callable");
	*(void **)&once_vars[1] = dlsym(s->handle, "_ZSt11__once_call");
	releasem();
}

void thread_once(struct g *g)
{
	struct own *o = own_of(g);

	if (!o || !o->once[1])
		return;
	find_once_vars(g); /* they may have been set on another worker */
	for (int i = 0; i < 2; i++)
		if (once_vars[i])
			*once_vars[i] = o->once[i];
}

void *__tls_get_addr(struct tls_index *at)
{
	void *real = real___tls_get_addr(at);
	struct g *g = on_g();
	struct own *o;

	if (!g)
		return real;
	find_once_vars(g);
	for (int i = 0; i < 2; i++)
		if (real == once_vars[i] && (o = make_own(g)))
			return &o->once[i];
	return real;
}

int __cxa_thread_atexit_impl(void (*fn)(void *), void *arg, void *dso);

REAL(int, __cxa_thread_atexit_impl, (void (*fn)(void *), void *arg, void *dso), fn, arg, dso)

/* Of C++'s thread_local, made on a goroutine: its memory goes with the task, before the worker's thread ends. */
int __cxa_thread_atexit_impl(void (*fn)(void *), void *arg, void *dso)
{
	return on_g() ? 0 : real___cxa_thread_atexit_impl(fn, arg, dso);
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

REAL(int, pthread_key_create, (pthread_key_t * key, void (*fn)(void *)), key, fn)
REAL(int, pthread_key_delete, (pthread_key_t key), key)
REAL(int, pthread_setspecific, (pthread_key_t key, const void *v), key, v)
REAL(void *, pthread_getspecific, (pthread_key_t key), key)

static struct keys *keys_of(struct g *g)
{
	return atomic_load(&task_own(g->task)->keys);
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
		if (!atomic_compare_exchange_strong(&task_own(g->task)->keys, &none, k)) {
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

void thread_end(struct g *g)
{
	struct own *o = own_of(g);

	if (!o)
		return;
	for (int i = 0; i < PTHREAD_DESTRUCTOR_ITERATIONS && end_values(g, o); i++)
		;
	g_cxx(g)->own = NULL;
	g->flags &= (uint8_t)~GF_OWN;
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

REAL(int, pthread_create, (pthread_t * t, const pthread_attr_t *a, void *(*fn)(void *), void *arg), t, a, fn, arg)
REAL(int, thrd_create, (thrd_t * t, thrd_start_t fn, void *arg), t, fn, arg)
REAL(int, pthread_join, (pthread_t t, void **result), t, result)
REAL(int, thrd_join, (thrd_t t, int *result), t, result)

/* From now on a lock may be held by a thread, which tells no goroutine. */
static void has_threads(struct g *g)
{
	if (!g || atomic_load(&task_own(g->task)->threads))
		return;
	atomic_store(&task_own(g->task)->threads, 1);
	semtable_wake_all(g->task);
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
	syscall_backoff(NULL, NULL);
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
	syscall_backoff(NULL, NULL);
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
