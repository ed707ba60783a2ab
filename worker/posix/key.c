/*
 * key.c - keys of pthreads (pthread_key_create) and C11 (tss_create): a value for each goroutine.
 *
 *	|31: 1|30: 0|29-10: use|9-0: index|
 *
 * `use` is another number for each key that has the index: nobody finds a value of a deleted key.
 *
 * OWNER  keys: the task; values: the goroutine (record.h)
 * LOCK   none: `use` of an entry, odd while the key exists, changes by compare-and-swap
 * ORDER  at_end is stored before the number is given to anybody
 * DEATH  a key whose maker died stays taken until the task's end, as in a process
 */
#include "worker/posix/record.h"
#include "worker/posix/libc.h"
#include "worker/posix/tls.h"

#include <limits.h>
#include <threads.h>

#define KEY_OURS (1u << 31)
#define INDEX_BITS 10
#define INDEX_MASK ((1u << INDEX_BITS) - 1)
#define USE_MASK ((1u << 20) - 1)
_Static_assert(PTHREAD_KEYS_MAX == 1u << INDEX_BITS, "an index of each key fits its bits");

struct key {
	_Atomic uint32_t use;
	void (*at_end)(void *);
};

struct keys {
	struct key key[PTHREAD_KEYS_MAX];
};

ALSO(pthread_key_create)
ALSO(pthread_getspecific)
ALSO(pthread_setspecific)

REAL(int, pthread_key_create, (pthread_key_t * key, void (*fn)(void *)), key, fn)
REAL(int, pthread_key_delete, (pthread_key_t key), key)
REAL(int, pthread_setspecific, (pthread_key_t key, const void *v), key, v)
REAL(void *, pthread_getspecific, (pthread_key_t key), key)

static struct keys *make_keys(struct g *g)
{
	struct keys *k = g_alloc(g, sizeof *k);
	void *none = NULL;

	if (!k)
		return NULL;
	memset(k, 0, sizeof *k);
	if (atomic_compare_exchange_strong(&task_own(g->task)->keys, &none, k))
		return k;
	g_free(g, k);
	return none;
}

static struct key *entry_of(struct g *g, pthread_key_t key)
{
	struct keys *k = atomic_load_explicit(&task_own(g->task)->keys, memory_order_acquire);

	return k ? &k->key[key & INDEX_MASK] : NULL;
}

static bool key_exists(struct g *g, pthread_key_t key)
{
	struct key *k = key & KEY_OURS ? entry_of(g, key) : NULL;
	return k && (atomic_load_explicit(&k->use, memory_order_relaxed) & USE_MASK) == (key >> INDEX_BITS & USE_MASK);
}

int pthread_key_create(pthread_key_t *key, void (*fn)(void *))
{
	struct g *g = tls_g();
	struct keys *k;

	if (!g)
		return real_pthread_key_create(key, fn);
	if (!(k = atomic_load(&task_own(g->task)->keys)) && !(k = make_keys(g)))
		return ENOMEM;
	for (unsigned i = 0; i < PTHREAD_KEYS_MAX; i++) {
		uint32_t use = atomic_load(&k->key[i].use);

		if (use & 1 || !atomic_compare_exchange_strong(&k->key[i].use, &use, use + 1))
			continue;
		k->key[i].at_end = fn;
		*key = KEY_OURS | ((use + 1) & USE_MASK) << INDEX_BITS | i;
		return 0;
	}
	return EAGAIN;
}

int pthread_key_delete(pthread_key_t key)
{
	struct g *g = tls_g();
	struct key *k;
	uint32_t use;

	if (!(key & KEY_OURS))
		return real_pthread_key_delete(key);
	if (!g || !key_exists(g, key))
		return EINVAL;
	k = entry_of(g, key);
	use = atomic_load(&k->use);
	return use & 1 && atomic_compare_exchange_strong(&k->use, &use, use + 1) ? 0 : EINVAL;
}

/* ---- values: a hash table of each goroutine ---- */

static struct key_value *value_place(struct key_value *v, uint32_t room, pthread_key_t key)
{
	unsigned i = key & (room - 1);

	while (v[i].key && v[i].key != key)
		i = (i + 1) & (room - 1);
	return &v[i];
}

static bool make_room(struct g *g, struct own *o)
{
	unsigned live = 0, room = 8;
	struct key_value *more;

	if (2 * (o->nvalues + 1) <= o->room)
		return true;
	for (unsigned i = 0; i < o->room; i++)
		live += o->values[i].key && key_exists(g, o->values[i].key);
	while (room < 4 * (live + 1))
		room *= 2;
	if (!(more = g_alloc(g, room * sizeof *more)))
		return false;
	memset(more, 0, room * sizeof *more);
	o->nvalues = 0;
	for (unsigned i = 0; i < o->room; i++) {
		if (!o->values[i].key || !key_exists(g, o->values[i].key))
			continue;
		*value_place(more, room, o->values[i].key) = o->values[i];
		o->nvalues++;
	}
	if (o->values)
		g_free(g, o->values);
	o->values = more;
	o->room = room;
	return true;
}

int pthread_setspecific(pthread_key_t key, const void *value)
{
	struct g *g = tls_g();
	struct key_value *v;
	struct own *o;

	if (!(key & KEY_OURS))
		return real_pthread_setspecific(key, value);
	if (!g || !key_exists(g, key)) /* a thread that a library made has no values of the task's keys */
		return EINVAL;
	if (!(o = own_make(g)) || !make_room(g, o))
		return ENOMEM;
	v = value_place(o->values, o->room, key);
	o->nvalues += !v->key;
	*v = (struct key_value){key, value};
	return 0;
}

void *pthread_getspecific(pthread_key_t key)
{
	struct g *g = tls_g();
	struct key_value *v;
	struct own *o;

	if (!(key & KEY_OURS))
		return real_pthread_getspecific(key);
	if (!g || !key_exists(g, key))
		return NULL;
	o = own_of(g);
	v = o && o->room ? value_place(o->values, o->room, key) : NULL;
	return (void *)(v && v->key ? v->value : NULL);
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

/* ---- destructors, at the end of a goroutine ---- */

static void (*destructor_of(struct g *g, pthread_key_t key))(void *)
{
	return key_exists(g, key) ? entry_of(g, key)->at_end : NULL;
}

/* One round. A destructor may set values anew, and the table may be another one after it. */
static bool end_values(struct g *g, struct own *o)
{
	bool some = false;

	for (unsigned i = 0; i < o->room; i++) {
		struct key_value v = o->values[i];
		void (*fn)(void *);

		if (!v.value)
			continue;
		o->values[i].value = NULL;
		if (!(fn = destructor_of(g, v.key)))
			continue;
		fn((void *)v.value);
		some = true;
	}
	return some;
}

void key_run_destructors(struct g *g, struct own *o)
{
	for (int i = 0; i < PTHREAD_DESTRUCTOR_ITERATIONS && end_values(g, o); i++)
		;
}
