/*
 * tls.c - thread-local variables are the goroutine's.
 *
 *   thread/tls.so values		each goroutine has initial values, keeps its own over parks and moves, at one address
 *   thread/tls.so keys		values of keys, stale keys, destructors in rounds
 *   thread/tls.so coroutine		a stack of the program's own sees the variables of its goroutine
 *   thread/tls.so root		the root goroutine sees what a constructor set, others do not
 *   thread/tls.so cost		ns of a first and of a later touch
 */
#include <shoal.h>

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdalign.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <threads.h>
#include <ucontext.h>

#define GS 200

static struct shoal_wg all;
static shoal_gid root;

_Thread_local int number = 41;
_Thread_local char big[20000];
_Thread_local alignas(256) long aligned = 7;
static _Thread_local struct {
	const char *text;
	int *number;
} record = {"initial", NULL};
static __thread long from_constructor = 1;

static void must(int ok, const char *what)
{
	if (ok)
		return;
	printf("wrong: %s\n", what);
	exit(1);
}

__attribute__((constructor)) static void construct(void)
{
	from_constructor = 2;
	number++;
}

static void use(void *arg)
{
	int i = *(int *)arg, *at = &number;

	must(number == (shoal_self() == root ? 42 : 41), "the initial value of number");
	must(aligned == 7 && (uintptr_t)&aligned % 256 == 0, "the alignment of aligned");
	must(!strcmp(record.text, "initial") && !record.number, "the initial value of record");
	for (unsigned k = 0; k < sizeof big; k++)
		must(big[k] == 0, "the initial value of big");
	number = i;
	memset(big, i, sizeof big);
	record.number = at;
	aligned += i;
	for (int k = 0; k < 20; k++) {
		shoal_sleep(k % 4 ? 0 : 200000);
		shoal_yield();
		must(*at == i && number == i && &number == at && record.number == at, "number after a park");
		must(big[0] == (char)i && big[sizeof big - 1] == (char)i && aligned == 7 + i, "big after a park");
	}
}

static int values(void)
{
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < GS; i++)
			must(shoal_wg_go(&all, use, &i, sizeof i) != 0, "shoal_wg_go");
		shoal_wg_wait(&all);
	}
	use(&(int){99});
	return 0;
}

/* ---- keys ---- */

static pthread_key_t keys[3];
static int ended[3], rounds;

static void end_value(void *v)
{
	__atomic_add_fetch(&ended[(intptr_t)v - 1], 1, __ATOMIC_SEQ_CST);
}

static void set_again(void *v)
{
	__atomic_add_fetch(&rounds, 1, __ATOMIC_SEQ_CST);
	pthread_setspecific(keys[2], v);
}

static void use_keys(void *arg)
{
	(void)arg;
	for (int i = 0; i < 3; i++)
		must(pthread_getspecific(keys[i]) == NULL, "the initial value of a key");
	pthread_setspecific(keys[0], (void *)1);
	pthread_setspecific(keys[1], (void *)2);
	pthread_setspecific(keys[2], (void *)3);
	for (int i = 0; i < 10; i++) {
		shoal_yield();
		must(pthread_getspecific(keys[1]) == (void *)2, "the value of a key");
	}
	pthread_setspecific(keys[1], NULL);
}

static int use_all_keys(void)
{
	static pthread_key_t many[PTHREAD_KEYS_MAX + 1];
	pthread_key_t first, again;
	int n = 0;

	pthread_key_create(&keys[0], end_value);
	pthread_key_create(&keys[1], end_value);
	pthread_key_create(&keys[2], set_again);
	for (int i = 0; i < GS; i++)
		must(shoal_wg_go(&all, use_keys, NULL, 0) != 0, "shoal_wg_go");
	shoal_wg_wait(&all);
	must(ended[0] == GS && ended[1] == 0, "each value is ended once");
	must(rounds == GS * PTHREAD_DESTRUCTOR_ITERATIONS, "rounds of destructors");

	pthread_key_create(&first, NULL);
	pthread_setspecific(first, &first);
	pthread_key_delete(first);
	pthread_key_create(&again, NULL);
	must(pthread_getspecific(again) == NULL, "a new key has no value of a deleted one");
	must(pthread_key_delete(first) == EINVAL && pthread_setspecific(first, &first) == EINVAL, "a deleted key");
	while (n <= PTHREAD_KEYS_MAX && pthread_key_create(&many[n], NULL) == 0)
		n++;
	must(n == PTHREAD_KEYS_MAX - 4, "the number of keys");
	for (int i = 0; i < n; i++)
		must(pthread_setspecific(many[i], &many[i]) == 0, "a value for each key");
	for (int i = 0; i < n; i++)
		must(pthread_getspecific(many[i]) == &many[i] && pthread_key_delete(many[i]) == 0, "many values");
	for (int i = 0; i < 5000; i++) {
		must(pthread_key_create(&again, NULL) == 0 && pthread_setspecific(again, &n) == 0, "a key made anew");
		must(pthread_key_delete(again) == 0, "a key deleted");
	}
	return 0;
}

/* ---- others ---- */

static ucontext_t mine, other;

static void on_other_stack(void)
{
	must(number == 5, "the variable of the goroutine on a stack of the program's own");
	number = 6;
}

static int coroutine(void)
{
	char *stack = malloc(1 << 16);

	number = 5;
	getcontext(&other);
	other.uc_stack.ss_sp = stack;
	other.uc_stack.ss_size = 1 << 16;
	other.uc_link = &mine;
	makecontext(&other, on_other_stack, 0);
	swapcontext(&mine, &other);
	must(number == 6, "what was set on a stack of the program's own");
	free(stack);
	return 0;
}

static void not_root(void *arg)
{
	(void)arg;
	must(from_constructor == 1 && number == 41, "initial values in another goroutine");
}

static int root_sees(void)
{
	must(from_constructor == 2 && number == 42, "what the constructor set");
	shoal_wg_go(&all, not_root, NULL, 0);
	shoal_wg_wait(&all);
	return 0;
}

static int64_t touch_ns[1000];
static __attribute__((noinline)) int *touch(void)
{
	return &number;
}

static void first_touch(void *arg)
{
	int64_t begun = shoal_now();

	*touch() = 1;
	touch_ns[*(int *)arg] = shoal_now() - begun;
}

static int compare(const void *a, const void *b)
{
	return (*(const int64_t *)a > *(const int64_t *)b) - (*(const int64_t *)a < *(const int64_t *)b);
}

static int cost(void)
{
	int64_t begun, clock, ns;

	for (int i = 0; i < 1000; i++) {
		shoal_wg_go(&all, first_touch, &i, sizeof i);
		if (i % 10 == 9)
			shoal_wg_wait(&all);
	}
	qsort(touch_ns, 1000, sizeof *touch_ns, compare);
	begun = shoal_now();
	for (int i = 0; i < 1000; i++)
		shoal_now();
	clock = (shoal_now() - begun) / 1000;
	begun = shoal_now();
	for (int i = 0; i < 10000000; i++)
		*(volatile int *)touch() = i;
	ns = shoal_now() - begun;
	printf("first touch %ld ns, later %.2f ns\n", (long)(touch_ns[500] - clock), (double)ns / 1e7);
	return 0;
}

int shoal_main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(void);
	} cases[] = {{"values", values},
		     {"keys", use_all_keys},
		     {"coroutine", coroutine},
		     {"root", root_sees},
		     {"cost", cost}};

	root = shoal_self();
	for (unsigned i = 0; argc > 1 && i < sizeof cases / sizeof *cases; i++)
		if (!strcmp(argv[1], cases[i].name))
			return cases[i].run();
	return 2;
}
