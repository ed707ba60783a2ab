/*
 * tls.c - thread-local variables (_Thread_local, thread_local, __thread) of modules and libraries: one
 * copy for each goroutine.
 *
 * The code of a shared object asks __tls_get_addr where its thread-local variables are, and the program's
 * definition of that function is the one that is called. On a goroutine it answers with a block of the
 * task's heap, made at the first touch as a copy of the library's initial values. The address is good in
 * every worker, so a compiler may keep it over a park. Constructors run on the root goroutine, which stands for the
 * main thread.
 *
 *   g->own -> near[module % 4] {module, block}     the usual way: five loads
 *             far[]                                hash table for libraries whose place in near is taken
 *
 * Outside goroutines (g0, the zygote, threads that a library made by itself) libc answers. So it does for the
 * program and for libraries with static thread-local variables (DF_STATIC_TLS).
 *
 * Which library a module number means is looked up once in each process: a number is used again only after
 * another library was loaded, and no worker older than that runs a task that has it.
 */
#include "worker/posix/tls.h"
#include "shm/heap.h"
#include "worker/posix/libc.h"
#include "worker/posix/record.h"

#include <link.h>

struct tls_index {
	size_t module, offset;
};
void *__tls_get_addr(struct tls_index *);

REAL(void *, __tls_get_addr, (struct tls_index * at), at)

/* ---- libraries ---- */

#define MODULES_KEPT 65536 /* those above are looked up at each first touch */

enum module_kind { MODULE_UNKNOWN, MODULE_OF_G, MODULE_OF_PROCESS };
struct tls_module {
	enum module_kind kind;
	size_t size, filled, align;
	const char *image; /* its initial values, `filled` bytes; the rest is zeros */
};
static struct tls_module kept_modules[MODULES_KEPT]; /* by number, of this process */

struct module_search {
	size_t module;
	struct tls_module found;
};

static bool has_static_tls(const ElfW(Dyn) * d)
{
	for (; d && d->d_tag != DT_NULL; d++)
		if (d->d_tag == DT_FLAGS)
			return (d->d_un.d_val & DF_STATIC_TLS) != 0;
	return false;
}

static int look_at_module(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct module_search *search = arg;
	const ElfW(Dyn) *dynamic = NULL;

	(void)size;
	if (info->dlpi_tls_modid != search->module)
		return 0;
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];

		if (p->p_type == PT_DYNAMIC)
			dynamic = (const ElfW(Dyn) *)(info->dlpi_addr + p->p_vaddr);
		if (p->p_type != PT_TLS)
			continue;
		search->found.size = p->p_memsz;
		search->found.filled = p->p_filesz;
		search->found.align = p->p_align;
		search->found.image = (const char *)info->dlpi_addr + p->p_vaddr;
	}
	search->found.kind = search->module == 1 || has_static_tls(dynamic) ? MODULE_OF_PROCESS : MODULE_OF_G;
	return 1;
}

static struct tls_module module_of(size_t module)
{
	struct module_search s = {.module = module};

	if (module < MODULES_KEPT && kept_modules[module].kind != MODULE_UNKNOWN)
		return kept_modules[module];
	dl_iterate_phdr(look_at_module, &s);
	if (module < MODULES_KEPT)
		kept_modules[module] = s.found;
	return s.found;
}

/* ---- a goroutine's blocks ---- */

static struct tls_block *far_place(struct tls_block *far, size_t size, size_t module)
{
	size_t i = module & (size - 1);

	while (far[i].module && far[i].module != module)
		i = (i + 1) & (size - 1);
	return &far[i];
}

/* Room for one more block: in near, or in far, which is at most half full. NULL: there is no memory. */
static struct tls_block *block_place(struct g *g, struct own *o, size_t module)
{
	struct tls_block *near = &o->near[module % TLS_NEAR], *far;
	size_t size = o->far_size ? 2 * o->far_size : 8;

	if (!near->module)
		return near;
	if (2 * (o->far_used + 1) > o->far_size) {
		if (!(far = g_alloc(g, size * sizeof *far)))
			return NULL;
		memset(far, 0, size * sizeof *far);
		for (size_t i = 0; i < o->far_size; i++)
			if (o->far[i].module)
				*far_place(far, size, o->far[i].module) = o->far[i];
		if (o->far)
			g_free(g, o->far);
		o->far = far;
		o->far_size = size;
	}
	o->far_used++;
	return far_place(o->far, o->far_size, module);
}

static char *make_block(struct g *g, const struct tls_module *m)
{
	struct p *p = getp();
	char *at = sh_heap_alloc(g->task->heap, (unsigned)getm->seat, p ? p->id : SH_HEAP_NOCPU, m->size ? m->size : 1,
				 m->align > 16 ? m->align : 0, false);

	if (!at)
		return NULL;
	memcpy(at, m->image, m->filled);
	memset(at + m->filled, 0, m->size - m->filled);
	return at;
}

static _Noreturn void no_memory(void)
{
	host_misuse("out of memory: no room for the thread-local variables of a goroutine");
	__builtin_unreachable();
}

/* The first touch, or a library that is not in near. Old compilers call __tls_get_addr with a misaligned stack. */
static __attribute__((noinline, force_align_arg_pointer)) void *find_variable(struct tls_index *at)
{
	struct g *g = on_g(); /* in a call on a stack of the process, libc answers for what is not in near */
	struct tls_block *b;
	struct tls_module m;
	struct own *o;
	char *block;

	if (!g)
		return real___tls_get_addr(at);
	o = own_of(g);
	if (o && o->far_size && (b = far_place(o->far, o->far_size, at->module))->module)
		return b->at + at->offset;
	m = module_of(at->module);
	if (m.kind != MODULE_OF_G)
		return real___tls_get_addr(at);
	if (!(o = own_make(g)) || !(block = make_block(g, &m)) || !(b = block_place(g, o, at->module)))
		no_memory();
	*b = (struct tls_block){at->module, block};
	return block + at->offset;
}

void *__tls_get_addr(struct tls_index *at)
{
	struct g *g = tls_g();
	struct tls_block *b;

	if (__builtin_expect(!g || !g->own, 0))
		return find_variable(at);
	b = &((struct own *)g->own)->near[at->module % TLS_NEAR];
	return __builtin_expect(b->module == at->module, 1) ? b->at + at->offset : find_variable(at);
}

void tls_free(struct g *g, struct own *o)
{
	for (size_t i = 0; i < TLS_NEAR; i++)
		if (o->near[i].module)
			g_free(g, o->near[i].at);
	for (size_t i = 0; i < o->far_size; i++)
		if (o->far[i].module)
			g_free(g, o->far[i].at);
	if (o->far)
		g_free(g, o->far);
}

/* ---- C++ destructors ---- */

int __cxa_thread_atexit_impl(void (*fn)(void *), void *arg, void *dso);

REAL(int, __cxa_thread_atexit_impl, (void (*fn)(void *), void *arg, void *dso), fn, arg, dso)

int __cxa_thread_atexit_impl(void (*fn)(void *), void *arg, void *dso)
{
	struct g *g = on_g();
	struct tls_destructor *d;
	struct own *o;

	if (!g)
		return real___cxa_thread_atexit_impl(fn, arg, dso);
	if (!(o = own_make(g)) || !(d = g_alloc(g, sizeof *d)))
		no_memory();
	*d = (struct tls_destructor){fn, arg, o->destructors};
	o->destructors = d;
	return 0;
}

void tls_run_destructors(struct g *g)
{
	struct tls_destructor *d;
	struct own *o;

	while ((o = own_of(g)) && (d = o->destructors)) {
		void (*fn)(void *) = d->fn;
		void *arg = d->arg;

		o->destructors = d->next;
		g_free(g, d);
		fn(arg);
	}
}
