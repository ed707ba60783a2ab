/*
 * page_cases.c - what the interface's page says of goroutines, ends, channels, select and sync, a
 * sentence a case. What chan_cases, select_cases and sync_cases have is not said again.
 */
#include "tests/modules/language/cases.h"

#include <stdint.h>

static struct shoal_chan *c;
static struct shoal_mutex mu;
static struct shoal_rwmutex rw;
static struct shoal_cond cond;
static struct shoal_wg wg;
static struct shoal_once once;
static struct shoal_sem sem;
static atomic_int count, awake;
static atomic_ulong gid_seen;

static void fresh(void)
{
	memset(&mu, 0, sizeof mu);
	memset(&rw, 0, sizeof rw);
	memset(&cond, 0, sizeof cond);
	memset(&wg, 0, sizeof wg);
	memset(&once, 0, sizeof once);
	memset(&sem, 0, sizeof sem);
	atomic_store(&count, 0);
	atomic_store(&awake, 0);
}

/* ---- starting ---- */

static void looks_at_argument(void *arg)
{
	unsigned char *b = arg;
	size_t n = b[0] | (size_t)b[1] << 8;

	MUST((uintptr_t)arg % 16 == 0);
	for (size_t i = 2; i < n; i++)
		MUST(b[i] == (unsigned char)(i * 7));
	b[n - 1] = 0; /* its own copy */
	atomic_fetch_add(&count, 1);
}

static void wants_none(void *arg)
{
	MUST(arg == NULL);
	atomic_fetch_add(&count, 1);
}

static void arguments(void)
{
	static const size_t sizes[] = {3, 15, 16, 17, 31, 32, 33, 47, 100, 1000, 5000, 65535};
	unsigned char b[65536];

	fresh();
	for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		for (size_t k = 0; k < sizes[i]; k++)
			b[k] = (unsigned char)(k * 7);
		b[0] = (unsigned char)sizes[i];
		b[1] = (unsigned char)(sizes[i] >> 8);
		MUST(shoal_wg_go(&wg, looks_at_argument, b, sizes[i]));
		memset(b, 0xee, sizes[i]);
	}
	MUST(shoal_wg_go(&wg, wants_none, b, 0) && shoal_wg_go(&wg, wants_none, NULL, 0));
	MUST(shoal_wg_wait(&wg) == 0);
	MUST(atomic_load(&count) == 14);
}

static int deep(int n)
{
	volatile char frame[1024];

	frame[n % 1024] = 1;
	return n ? deep(n - 1) + frame[n % 1024] : 0;
}

static void goes_deep(void *arg)
{
	MUST(deep(*(int *)arg) == *(int *)arg);
	atomic_fetch_add(&count, 1);
}

static void options(void)
{
	struct shoal_go_opts o = {.stack_max = (64ul << 20) + 1};
	char name[] = "a name that is copied";
	int kib;

	fresh();
	errno = 0;
	MUST(shoal_go_with(&o, wants_none, NULL, 0) == 0 && errno == EINVAL);
	errno = 0;
	MUST(shoal_wg_go_with(&wg, &o, wants_none, NULL, 0) == 0 && errno == EINVAL);
	o.stack_max = SIZE_MAX;
	MUST(shoal_go_with(&o, wants_none, NULL, 0) == 0 && errno == EINVAL);
	errno = 0;
	MUST(shoal_go(NULL, NULL, 0) == 0 && errno == EINVAL);
	MUST(shoal_wg_wait(&wg) == 0); /* a goroutine that was not started is not counted */
	o = (struct shoal_go_opts){.name = name, .stack_max = 64ul << 20};
	kib = 60000;
	MUST(shoal_wg_go_with(&wg, &o, goes_deep, &kib, sizeof kib));
	memset(name, 'x', sizeof name - 1);
	kib = 900; /* the default is 1 MiB */
	MUST(shoal_wg_go(&wg, goes_deep, &kib, sizeof kib));
	o.stack_max = 4096;
	kib = 1;
	MUST(shoal_wg_go_with(&wg, &o, goes_deep, &kib, sizeof kib));
	MUST(shoal_wg_go_with(&wg, NULL, goes_deep, &kib, sizeof kib));
	MUST(shoal_wg_wait(&wg) == 0 && atomic_load(&count) == 4);
}

static void tells_gid(void *arg)
{
	(void)arg;
	atomic_store(&gid_seen, shoal_self());
}

static void numbers(void)
{
	shoal_gid last = 0, a;

	for (int i = 0; i < 2000; i++) {
		a = shoal_go(tells_gid, NULL, 0);
		MUST(a && a != last && a != shoal_self());
		MUST(shoal_join(a, NULL) == 0 && atomic_load(&gid_seen) == a);
		last = a;
	}
	MUST(shoal_self() == shoal_self() && shoal_self());
	MUST(shoal_worker() >= 0);
	MUST(shoal_procs(0) == 2);
	MUST(shoal_procs(3) == 2 && shoal_procs(0) == 3 && shoal_procs(2) == 3 && shoal_procs(-5) == 2 &&
	     shoal_procs(0) == 2);
}

/* ---- ends ---- */

static char *volatile nowhere = (char *)8;

static void crashes(void *arg)
{
	(void)arg;
	shoal_yield();
	*nowhere = 1;
}

static void leaves(void *arg)
{
	(void)arg;
	shoal_exit();
}

static void sleeps_on(void *arg)
{
	(void)arg;
	MUST(shoal_sleep(SHOAL_FOREVER) == -ECANCELED);
	MUST(shoal_sleep(1) == -ECANCELED && shoal_sleep(0) == 0); /* from now on */
}

static void joins(void *arg)
{
	struct shoal_end end = {-1, -1, NULL, -1};

	MUST(shoal_join(*(shoal_gid *)arg, &end) == 0);
	if (end.how == SHOAL_CRASHED && end.signal == 11 && end.address == nowhere)
		atomic_fetch_add(&count, 1);
}

static void ends(void)
{
	struct shoal_go_opts alone = {.flags = SHOAL_ISOLATED};
	struct shoal_end end = {-1, -1, NULL, -1};
	shoal_gid g;

	fresh();
	MUST(shoal_join(shoal_self(), &end) == -EDEADLK);
	MUST(shoal_join(0, NULL) == -ESRCH && shoal_join(UINT64_MAX, NULL) == -ESRCH);
	MUST(shoal_join(((shoal_gid)1 << 62) + 5, NULL) == -ESRCH && shoal_cancel(((shoal_gid)1 << 62) + 5) == -ESRCH);
	g = shoal_go(leaves, NULL, 0);
	MUST(shoal_join(g, &end) == 0 && end.how == SHOAL_DONE);
	MUST(shoal_join(g, &end) == 0 && end.how == SHOAL_DONE && end.attempts == 1); /* and again */
	MUST(shoal_cancel(g) == 0);
	g = shoal_go_with(&alone, crashes, NULL, 0);
	for (int i = 0; i < 20; i++) /* all are told */
		MUST(shoal_wg_go(&wg, joins, &g, sizeof g));
	shoal_wg_wait(&wg);
	MUST(atomic_load(&count) == 20);
	for (int i = 0; i < 2000; i++) /* remembered although its G was used again */
		shoal_go(leaves, NULL, 0);
	MUST(shoal_join(g, &end) == 0 && end.how == SHOAL_CRASHED && end.signal == 11 && end.address == nowhere);
	alone.attempts = 3;
	g = shoal_go_with(&alone, crashes, NULL, 0);
	MUST(shoal_join(g, &end) == 0 && end.how == SHOAL_CRASHED && end.attempts == 3);
	g = shoal_go(sleeps_on, NULL, 0);
	shoal_sleep(MS);
	MUST(shoal_cancel(g) == 0 && shoal_cancel(g) == 0);
	MUST(shoal_join(g, &end) == 0 && end.how == SHOAL_CANCELLED);
	MUST(shoal_join(g, &end) == 0 && end.how == SHOAL_CANCELLED && shoal_cancel(g) == 0);
}

/* ---- cancellation ends each wait that the page names, and not the others ---- */

static void waits_for(void *arg)
{
	int how = *(int *)arg, v = 0, r = 0;
	struct shoal_case cs[2] = {{SHOAL_RECV, c, &v, 0}, {SHOAL_RECV, NULL, &v, 0}};
	static shoal_gid forever;

	atomic_fetch_add(&awake, 1);
	switch (how) {
	case 0: r = shoal_recv(c, &v); break;
	case 1: r = shoal_recv_timed(c, &v, 100000 * MS); break;
	case 2: r = shoal_send(NULL, &v); break;
	case 3: r = shoal_select(cs, 2, SHOAL_FOREVER); break;
	case 4: r = shoal_select(NULL, 0, SHOAL_FOREVER); break;
	case 5: r = shoal_wg_wait(&wg); break;
	case 6: r = shoal_sem_acquire(&sem, 1); break;
	case 7:
		shoal_mutex_lock(&mu);
		r = shoal_cond_wait(&cond, &mu);
		MUST(shoal_mutex_trylock(&mu) == -EBUSY); /* it is held again */
		MUST(shoal_mutex_unlock(&mu) == 0);
		break;
	case 8:
		forever = shoal_go(sleeps_on, NULL, 0);
		r = shoal_join(forever, NULL);
		shoal_cancel(forever);
		break;
	case 9: r = shoal_recv(NULL, &v); break;
	}
	MUST(r == -ECANCELED);
	atomic_fetch_add(&count, 1);
}

static void cancelled_waits(void)
{
	shoal_gid g[10];

	fresh();
	c = shoal_chan_new(sizeof(int), 0);
	shoal_wg_add(&wg, 1);
	for (int i = 0; i < 10; i++)
		g[i] = shoal_go(waits_for, &i, sizeof i);
	while (atomic_load(&awake) < 10)
		shoal_sleep(MS);
	shoal_sleep(5 * MS);
	for (int i = 0; i < 10; i++)
		MUST(shoal_cancel(g[i]) == 0);
	for (int i = 0; i < 10; i++)
		shoal_join(g[i], NULL);
	MUST(atomic_load(&count) == 10);
	shoal_wg_done(&wg);
	shoal_chan_free(c);
}

static void takes_though_cancelled(void *arg)
{
	(void)arg;
	atomic_fetch_add(&awake, 1);
	MUST(shoal_mutex_lock(&mu) == 0 && shoal_mutex_unlock(&mu) == 0);
	MUST(shoal_rwmutex_lock(&rw) == 0 && shoal_rwmutex_unlock(&rw) == 0);
	atomic_fetch_add(&count, 1);
}

static void mutexes_take_no_notice(void)
{
	shoal_gid g;

	fresh();
	MUST(shoal_mutex_lock(&mu) == 0 && shoal_rwmutex_lock(&rw) == 0);
	MUST(shoal_mutex_trylock(&mu) == -EBUSY);
	g = shoal_go(takes_though_cancelled, NULL, 0);
	while (!atomic_load(&awake))
		shoal_sleep(MS);
	MUST(shoal_cancel(g) == 0);
	shoal_sleep(20 * MS);
	MUST(atomic_load(&count) == 0);
	shoal_mutex_unlock(&mu);
	shoal_sleep(5 * MS);
	MUST(atomic_load(&count) == 0);
	shoal_rwmutex_unlock(&rw);
	MUST(shoal_join(g, NULL) == 0 && atomic_load(&count) == 1);
	MUST(shoal_mutex_trylock(&mu) == 0 && shoal_mutex_unlock(&mu) == 0);
}

/* A call that need not wait succeeds although its goroutine is cancelled. */
static void does_at_once(void *arg)
{
	int v = 3;

	(void)arg;
	while (shoal_sleep(MS) == 0)
		;
	MUST(shoal_send(c, &v) == 0 && shoal_recv(c, &v) == 1 && v == 3);
	MUST(shoal_recv(c, &v) == -ECANCELED);
	atomic_fetch_add(&count, 1);
}

static void cancelled_and_ready(void)
{
	shoal_gid g;

	fresh();
	c = shoal_chan_new(sizeof(int), 1);
	g = shoal_go(does_at_once, NULL, 0);
	shoal_cancel(g);
	shoal_join(g, NULL);
	MUST(atomic_load(&count) == 1);
	shoal_chan_free(c);
}

/* ---- channels ---- */

static void sizes(void)
{
	errno = 0;
	MUST(!shoal_chan_new(SIZE_MAX, 1) && (errno == EINVAL || errno == ENOMEM));
	errno = 0;
	MUST(!shoal_chan_new(1, SIZE_MAX) && (errno == EINVAL || errno == ENOMEM));
	errno = 0;
	MUST(!shoal_chan_new(SIZE_MAX / 2, 3) && (errno == EINVAL || errno == ENOMEM));
	errno = 0;
	MUST(!shoal_chan_new((size_t)1 << 33, (size_t)1 << 33) && (errno == EINVAL || errno == ENOMEM));
	errno = 0;
	MUST(!shoal_chan_new((size_t)1 << 40, 1) && (errno == EINVAL || errno == ENOMEM));
	c = shoal_chan_new(0, SIZE_MAX); /* no bytes at all */
	if (c) {
		MUST(shoal_chan_cap(c) == SIZE_MAX && shoal_send(c, NULL) == 0 && shoal_chan_len(c) == 1);
		shoal_chan_free(c);
	} else {
		MUST(errno == EINVAL || errno == ENOMEM);
	}
	shoal_chan_free(NULL);
	MUST(shoal_chan_len(NULL) == 0 && shoal_chan_cap(NULL) == 0);
}

static void null_values(void)
{
	struct {
		int a[10];
	} v = {{1, 2}}, w;

	c = shoal_chan_new(0, 2);
	MUST(c && shoal_send(c, NULL) == 0 && shoal_send(c, &v) == 0 && shoal_chan_len(c) == 2);
	MUST(shoal_recv(c, NULL) == 1 && shoal_recv(c, &v) == 1 && v.a[0] == 1);
	shoal_chan_free(c);
	c = shoal_chan_new(sizeof v, 2);
	MUST(shoal_send(c, &v) == 0 && shoal_send(c, &v) == 0);
	MUST(shoal_recv(c, NULL) == 1); /* dropped */
	MUST(shoal_send_timed(c, &v, 0) == 0 && shoal_send_timed(c, &v, 0) == -EAGAIN);
	MUST(shoal_send_timed(c, &v, MS) == -ETIMEDOUT);
	MUST(shoal_close(c) == 0 && shoal_close(c) == -EPIPE);
	MUST(shoal_send(c, &v) == -EPIPE && shoal_send_timed(c, &v, 0) == -EPIPE &&
	     shoal_send_timed(c, &v, MS) == -EPIPE);
	MUST(shoal_recv(c, &w) == 1 && w.a[1] == 2 && shoal_recv_timed(c, &w, 0) == 1);
	w.a[1] = 9;
	MUST(shoal_recv(c, &w) == 0 && w.a[1] == 0); /* zeroed */
	w.a[1] = 9;
	MUST(shoal_recv_timed(c, &w, 0) == 0 && w.a[1] == 0 && shoal_recv_timed(c, &w, MS) == 0 &&
	     shoal_recv(c, NULL) == 0);
	shoal_chan_free(c);
	c = shoal_chan_new(sizeof v, 0);
	MUST(shoal_recv_timed(c, &w, 0) == -EAGAIN && shoal_recv_timed(c, &w, MS) == -ETIMEDOUT);
	MUST(shoal_recv_timed(NULL, &w, 0) == -EAGAIN && shoal_recv_timed(NULL, &w, MS) == -ETIMEDOUT);
	MUST(shoal_send_timed(NULL, &w, 0) == -EAGAIN && shoal_send_timed(NULL, &w, MS) == -ETIMEDOUT);
	shoal_chan_free(c);
}

static void frees_what_it_got(void *arg)
{
	int v;

	(void)arg;
	MUST(shoal_recv(c, &v) == 1);
	shoal_chan_free(c);
}

/* The receiver frees it while the sender is still on its way out. */
static void freed_by_the_peer(void)
{
	int v = 1;

	for (int i = 0; i < 3000; i++) {
		c = shoal_chan_new(sizeof(int), 0);
		MUST(shoal_wg_go(&wg, frees_what_it_got, NULL, 0));
		MUST(shoal_send(c, &v) == 0);
		shoal_wg_wait(&wg);
	}
}

/* ---- select ---- */

static void select_results(void)
{
	int v = 7, w = 9, r, hits[3] = {0};
	struct shoal_chan *full = shoal_chan_new(sizeof v, 1), *closed = shoal_chan_new(sizeof v, 0);
	struct shoal_case cs[3];
	int64_t from;

	MUST(shoal_send(full, &v) == 0 && shoal_close(closed) == 0);
	cs[0] = (struct shoal_case){SHOAL_SEND, closed, &v, 55};
	MUST(shoal_select(cs, 1, SHOAL_FOREVER) == 0 && cs[0].result == -EPIPE);
	cs[0] = (struct shoal_case){SHOAL_RECV, closed, &w, 55};
	MUST(shoal_select(cs, 1, 0) == 0 && cs[0].result == 0 && w == 0);
	cs[0] = (struct shoal_case){SHOAL_SEND, full, &v, 55};
	cs[1] = (struct shoal_case){SHOAL_RECV, full, &w, 55};
	MUST(shoal_select(cs, 2, 0) == 1 && cs[1].result == 1 && w == 7);
	MUST(shoal_select(cs, 1, 0) == 0 && cs[0].result == 0 && shoal_chan_len(full) == 1);
	MUST(shoal_select(cs, 1, 0) == -EAGAIN && shoal_select(cs, 1, 2 * MS) == -ETIMEDOUT);
	cs[1] = (struct shoal_case){SHOAL_RECV, NULL, &w, 55};
	MUST(shoal_select(cs + 1, 1, 0) == -EAGAIN && shoal_select(cs + 1, 1, MS) == -ETIMEDOUT);
	from = shoal_now();
	MUST(shoal_select(NULL, 0, 0) == -EAGAIN);
	MUST(shoal_select(NULL, 0, 3 * MS) == -ETIMEDOUT && shoal_now() - from >= 3 * MS);
	cs[0] = (struct shoal_case){SHOAL_RECV, full, NULL, 55}; /* dropped */
	MUST(shoal_select(cs, 1, 0) == 0 && shoal_chan_len(full) == 0);
	for (int i = 0; i < 300; i++) { /* the same one in several cases: each has its chance */
		MUST(shoal_send(full, &v) == 0);
		for (int k = 0; k < 3; k++)
			cs[k] = (struct shoal_case){SHOAL_RECV, full, &w, 55};
		r = shoal_select(cs, 3, SHOAL_FOREVER);
		MUST(r >= 0 && r < 3 && cs[r].result == 1);
		hits[r >= 0 ? r : 0]++;
	}
	MUST(hits[0] > 50 && hits[1] > 50 && hits[2] > 50);
	shoal_chan_free(full);
	shoal_chan_free(closed);
}

/* ---- sync ---- */

static void member(void *arg)
{
	shoal_sleep(*(int *)arg % 3 * 100000);
	atomic_fetch_add(&count, 1);
}

static void group_however_it_ends(void)
{
	struct shoal_go_opts alone = {.flags = SHOAL_ISOLATED};
	shoal_gid g;

	fresh();
	for (int round = 0; round < 5; round++) { /* used again */
		MUST(shoal_wg_go_with(&wg, &alone, crashes, NULL, 0) && shoal_wg_go(&wg, leaves, NULL, 0));
		g = shoal_wg_go(&wg, sleeps_on, NULL, 0);
		MUST(g);
		for (int i = 0; i < 10; i++)
			MUST(shoal_wg_go(&wg, member, &i, sizeof i));
		MUST(shoal_wg_add(&wg, 2) == 0 && shoal_wg_done(&wg) == 0 && shoal_wg_add(&wg, -1) == 0);
		MUST(shoal_cancel(g) == 0);
		MUST(shoal_wg_wait(&wg) == 0 && shoal_wg_wait(&wg) == 0);
		MUST(atomic_load(&count) == 10 * (round + 1));
	}
}

static void dies_holding(void *arg)
{
	int how = *(int *)arg;

	MUST(shoal_mutex_lock(&mu) == 0 && shoal_rwmutex_lock(&rw) == 0);
	if (how == 0)
		crashes(NULL);
	if (how == 1)
		shoal_exit();
}

static void reads_and_dies(void *arg)
{
	MUST(shoal_rwmutex_rlock(&rw) == 0);
	crashes(arg);
}

static void told_of_the_dead(void)
{
	struct shoal_go_opts alone = {.flags = SHOAL_ISOLATED};

	fresh();
	for (int how = 0; how < 3; how++) { /* crashed, left, returned */
		MUST(shoal_join(shoal_go_with(&alone, dies_holding, &how, sizeof how), NULL) == 0);
		if (how == 1)
			MUST(shoal_mutex_trylock(&mu) == -EOWNERDEAD);
		else
			MUST(shoal_mutex_lock(&mu) == -EOWNERDEAD);
		MUST(shoal_mutex_trylock(&mu) == -EBUSY && shoal_mutex_unlock(&mu) == 0);
		MUST(shoal_mutex_lock(&mu) == 0 && shoal_mutex_unlock(&mu) == 0); /* told once */
		MUST(shoal_rwmutex_lock(&rw) == -EOWNERDEAD && shoal_rwmutex_unlock(&rw) == 0);
		MUST(shoal_rwmutex_rlock(&rw) == 0 && shoal_rwmutex_runlock(&rw) == 0);
	}
	MUST(shoal_join(shoal_go_with(&alone, reads_and_dies, NULL, 0), NULL) == 0);
	MUST(shoal_rwmutex_lock(&rw) == 0 && shoal_rwmutex_unlock(&rw) == 0);
}

static struct heap {
	struct shoal_mutex mu;
	struct shoal_sem sem;
	struct shoal_wg wg;
	struct shoal_once once;
	struct shoal_cond cond;
	struct shoal_rwmutex rw;
} * h;

static void once_more(void)
{
	atomic_fetch_add(&count, 1);
}

static void uses_the_heap(void *arg)
{
	(void)arg;
	for (int i = 0; i < 100; i++) {
		shoal_sem_acquire(&h->sem, 1);
		shoal_mutex_lock(&h->mu);
		shoal_mutex_unlock(&h->mu);
		shoal_rwmutex_rlock(&h->rw);
		shoal_rwmutex_runlock(&h->rw);
		shoal_cond_signal(&h->cond);
		shoal_cond_broadcast(&h->cond);
		shoal_once_do(&h->once, once_more);
		shoal_sem_release(&h->sem, 1);
	}
}

static void on_the_heap(void)
{
	fresh();
	h = calloc(1, sizeof *h);
	MUST(shoal_sem_acquire(&h->sem, 0) == 0 && shoal_sem_release(&h->sem, 3) == 0); /* it starts with none */
	for (int i = 0; i < 8; i++)
		MUST(shoal_wg_go(&h->wg, uses_the_heap, NULL, 0));
	MUST(shoal_wg_wait(&h->wg) == 0 && atomic_load(&count) == 1);
	free(h);
}

static void two_pins(void *arg)
{
	int w;

	(void)arg;
	shoal_pin();
	shoal_pin();
	w = shoal_worker();
	shoal_unpin();
	for (int i = 0; i < 20; i++) {
		shoal_sleep(100000);
		MUST(shoal_worker() == w);
	}
	shoal_unpin();
	shoal_sleep(MS);
}

static void pins(void)
{
	struct shoal_go_opts o = {.flags = SHOAL_PINNED};

	fresh();
	for (int i = 0; i < 4; i++)
		MUST(shoal_wg_go(&wg, two_pins, NULL, 0) && shoal_wg_go_with(&wg, &o, two_pins, NULL, 0));
	MUST(shoal_wg_wait(&wg) == 0);
}

int shoal_main(int argc, char **argv)
{
	cases_begin(argc, argv);
	RUN(arguments);
	RUN(options);
	RUN(numbers);
	RUN(ends);
	RUN(cancelled_waits);
	RUN(mutexes_take_no_notice);
	RUN(cancelled_and_ready);
	RUN(sizes);
	RUN(null_values);
	RUN(freed_by_the_peer);
	RUN(select_results);
	RUN(group_however_it_ends);
	RUN(told_of_the_dead);
	RUN(on_the_heap);
	RUN(pins);
	return cases_failed;
}
