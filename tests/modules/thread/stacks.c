#define _GNU_SOURCE
/* stacks.c - a thread's stack is memory of the task: other threads use pointers into it, on any worker. */
#include <shoal.h>

#include <alloca.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <threads.h>
#include <unistd.h>

static void must(int ok, const char *what)
{
	if (ok)
		return;
	printf("wrong: %s\n", what);
	fflush(stdout);
	_exit(1);
}

/* ---- results in the frame of the creator ---- */

struct sum {
	int i;
	long result;
};

static void *sum(void *arg)
{
	struct sum *s = arg;

	sched_yield();
	for (int i = 0; i <= s->i; i++)
		s->result += i;
	return &s->result;
}

static int sum11(void *arg)
{
	return *(long *)sum(arg) == 0;
}

static void results(void)
{
	struct sum s[100];
	pthread_t t[100];
	thrd_t t11;
	void *r;
	int bad;

	for (int i = 0; i < 100; i++) {
		s[i] = (struct sum){i, 0};
		must(pthread_create(&t[i], NULL, sum, &s[i]) == 0, "pthread_create");
	}
	for (int i = 0; i < 100; i++) {
		must(pthread_join(t[i], &r) == 0 && r == &s[i].result, "pthread_join");
		must(s[i].result == (long)i * (i + 1) / 2, "a result in the creator's frame");
	}
	s[5].result = 0;
	must(thrd_create(&t11, sum11, &s[5]) == thrd_success && thrd_join(t11, &bad) == thrd_success && !bad &&
		     s[5].result == 15,
	     "thrd_create");
}

/* ---- synchronization objects in a frame ---- */

struct meeting {
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	pthread_barrier_t barrier;
	int here, go, done;
};

static void *meet(void *arg)
{
	struct meeting *m = arg;

	pthread_mutex_lock(&m->mutex);
	m->here++;
	pthread_cond_broadcast(&m->changed);
	while (!m->go)
		pthread_cond_wait(&m->changed, &m->mutex);
	pthread_mutex_unlock(&m->mutex);
	pthread_barrier_wait(&m->barrier);
	pthread_mutex_lock(&m->mutex);
	m->done++;
	pthread_mutex_unlock(&m->mutex);
	return NULL;
}

static void objects(void)
{
	for (int round = 0; round < 20; round++) {
		struct meeting m = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, .here = 0};
		pthread_t t[30];

		pthread_barrier_init(&m.barrier, NULL, 31);
		for (int i = 0; i < 30; i++)
			must(pthread_create(&t[i], NULL, meet, &m) == 0, "pthread_create");
		pthread_mutex_lock(&m.mutex);
		while (m.here < 30)
			pthread_cond_wait(&m.changed, &m.mutex);
		m.go = 1;
		pthread_cond_broadcast(&m.changed);
		pthread_mutex_unlock(&m.mutex);
		pthread_barrier_wait(&m.barrier);
		for (int i = 0; i < 30; i++)
			pthread_join(t[i], NULL);
		must(m.done == 30, "a mutex, a condition and a barrier in a frame");
		pthread_barrier_destroy(&m.barrier);
	}
}

/* ---- two threads, each with the other's variables, on several workers ---- */

struct player {
	_Atomic(struct player *) other;
	_Atomic long ball;
	_Atomic int workers; /* a bit for each that it ran on */
	long hits;
	char *text;
};
static struct player *_Atomic players[2];

static int on_many(int workers)
{
	return (workers & (workers - 1)) != 0;
}

static void *play(void *arg)
{
	long n = (long)(intptr_t)arg;
	char text[64];
	struct player me = {.text = text}, *other;

	snprintf(text, sizeof text, "the stack of %ld", n);
	players[n] = &me;
	while (!(other = players[1 - n]))
		sched_yield();
	if (n == 0)
		me.ball = 1;
	for (long k = 0; k < 20000 || !on_many(me.workers) || !on_many(other->workers); k++) {
		long ball;

		me.workers |= 1 << shoal_worker() % 31;
		if ((ball = atomic_exchange(&me.ball, 0)) != 0) {
			me.hits++;
			must(strncmp(other->text, "the stack of ", 13) == 0 && other->text[13] == '0' + 1 - n,
			     "what lies on another's stack");
			other->ball = ball + 1;
		}
		if (k % 8 == 0)
			usleep(1);
		else
			sched_yield();
	}
	me.other = other; /* done; the other may still look at our stack */
	while (!other->other)
		sched_yield();
	players[n] = NULL;
	while (players[1 - n])
		sched_yield();
	return (void *)me.hits;
}

static void exchange(void)
{
	pthread_t t[2];
	void *hits[2];

	for (long i = 0; i < 2; i++)
		must(pthread_create(&t[i], NULL, play, (void *)i) == 0, "pthread_create");
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], &hits[i]);
	must((long)hits[0] > 1 && labs((long)hits[0] - (long)hits[1]) <= 1, "a ball between two stacks");
}

/* ---- where a stack is, and how large ---- */

struct range {
	char *low;
	size_t size;
	uintptr_t local;
};

static void *where(void *arg)
{
	struct range *r = arg;
	pthread_attr_t attr;
	char here;
	void *low = NULL;

	must(pthread_getattr_np(pthread_self(), &attr) == 0 && pthread_attr_getstack(&attr, &low, &r->size) == 0,
	     "pthread_getattr_np");
	pthread_attr_destroy(&attr);
	r->low = low;
	r->local = (uintptr_t)&here;
	must((uintptr_t)&here - (uintptr_t)r->low < r->size, "a variable lies in the stack");
	return NULL;
}

static __attribute__((noinline)) long use(size_t n)
{
	volatile char b[4000];

	memset((void *)b, (int)n, sizeof b);
	return n > sizeof b ? use(n - sizeof b) + b[1] : b[0];
}

static void *deep(void *arg)
{
	use(*(size_t *)arg);
	return arg;
}

static void sizes(void)
{
	static const size_t size[] = {65536, 262144, 1 << 20, 4 << 20, 8 << 20, 100 << 20};
	pthread_attr_t attr;
	struct range r;
	pthread_t t;
	char *mine;

	where(&r);
	for (unsigned i = 0; i < sizeof size / sizeof *size; i++) {
		size_t use = size[i] / 8 * 7;

		pthread_attr_init(&attr);
		must(pthread_attr_setstacksize(&attr, size[i]) == 0, "pthread_attr_setstacksize");
		must(pthread_create(&t, &attr, where, &r) == 0 && pthread_join(t, NULL) == 0 && r.size == size[i],
		     "a stack of the size that was asked for");
		must(pthread_create(&t, &attr, deep, &use) == 0 && pthread_join(t, NULL) == 0, "a deep stack");
	}
	/* memory of the program's own */
	mine = mmap(NULL, 1 << 18, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(mine != MAP_FAILED, "mmap");
	pthread_attr_setstack(&attr, mine, 1 << 18);
	for (int i = 0; i < 3; i++) {
		must(pthread_create(&t, &attr, where, &r) == 0 && pthread_join(t, NULL) == 0, "a given stack");
		must(r.low == mine && r.size == 1 << 18 && r.local - (uintptr_t)mine < 1 << 18,
		     "a thread runs on the stack that it was given");
	}
	pthread_attr_setstack(&attr, (void *)0x1000, 1 << 18);
	must(pthread_create(&t, &attr, where, &r) == EINVAL, "a stack that is not memory");
	pthread_attr_destroy(&attr);
}

/* ---- too deep ---- */

static volatile long sink;

static __attribute__((noinline)) long for_ever(long n)
{
	volatile char b[512];

	b[n % 512] = (char)n;
	return n < 0 ? 0 : for_ever(n + 1) + b[n % 7];
}

static void *overflow(void *arg)
{
	sink = for_ever((long)(intptr_t)arg);
	return arg;
}

static __attribute__((noinline)) void huge(size_t n)
{
	volatile char *b = alloca(n);

	for (size_t i = 0; i < n && i < 30000; i++)
		b[i] = 1;
	sink = b[n / 3];
}

static void *overflow_at_once(void *arg)
{
	huge(*(size_t *)arg);
	return arg;
}

/* ---- many that wait ---- */

static void *hold(void *arg)
{
	pthread_mutex_t *m = arg;

	pthread_mutex_lock(m);
	pthread_mutex_unlock(m);
	return NULL;
}

static void held(int n)
{
	pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
	pthread_attr_t attr;
	pthread_t *t = malloc((size_t)n * sizeof *t);

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 65536);
	pthread_mutex_lock(&m);
	for (int i = 0; i < n; i++)
		must(pthread_create(&t[i], &attr, hold, &m) == 0, "many threads");
	shoal_sleep(10000000);
	pthread_mutex_unlock(&m);
	for (int i = 0; i < n; i++)
		pthread_join(t[i], NULL);
	free(t);
}

int shoal_main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	size_t size = argc > 2 ? strtoul(argv[2], NULL, 0) : 0;
	pthread_t t;

	if (!strcmp(what, "results"))
		results();
	else if (!strcmp(what, "objects"))
		objects();
	else if (!strcmp(what, "exchange"))
		exchange();
	else if (!strcmp(what, "sizes"))
		sizes();
	else if (!strcmp(what, "held"))
		held((int)size);
	else if (!strcmp(what, "overflow"))
		pthread_create(&t, NULL, overflow, NULL), pthread_join(t, NULL);
	else if (!strcmp(what, "huge"))
		pthread_create(&t, NULL, overflow_at_once, &size), pthread_join(t, NULL);
	else
		must(0, "no such case");
	printf("ok\n");
	return 0;
}
