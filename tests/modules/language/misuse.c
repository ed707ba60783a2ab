/* misuse.c HOW - breaks a rule of the interface; the runtime must end it and name the rule. */
#include <shoal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct shoal_mutex mu;
static struct shoal_rwmutex rw;
static struct shoal_cond cond;
static struct shoal_wg wg;
static struct shoal_sem sem;
static struct shoal_chan *c;
static void *foreign;

static void shows_its_stack(void *arg)
{
	long v = 0;

	(void)arg;
	foreign = &v;
	shoal_sleep(SHOAL_FOREVER);
}

static void takes(void *arg)
{
	(void)arg;
	shoal_mutex_lock(&mu);
	shoal_sleep(SHOAL_FOREVER);
}

static void nothing(void)
{
}

static int once_do(void *o)
{
	return shoal_once_do(o, nothing);
}

static int cond_wait(void *o)
{
	shoal_mutex_lock(&mu);
	return shoal_cond_wait(o, &mu);
}

static int sem_acquire(void *o)
{
	return shoal_sem_acquire(o, 1);
}

static int sem_release(void *o)
{
	return shoal_sem_release(o, 1);
}

static int wg_add(void *o)
{
	return shoal_wg_add(o, 1);
}

static int wg_go(void *o)
{
	return shoal_wg_go(o, takes, NULL, 0) != 0;
}

static void on_the_stack(const char *what)
{
	static const struct {
		const char *name;
		int (*call)(void *);
	} calls[] = {
		{"mutex_lock", (int (*)(void *))shoal_mutex_lock},
		{"mutex_trylock", (int (*)(void *))shoal_mutex_trylock},
		{"rwmutex_lock", (int (*)(void *))shoal_rwmutex_lock},
		{"rwmutex_rlock", (int (*)(void *))shoal_rwmutex_rlock},
		{"cond_signal", (int (*)(void *))shoal_cond_signal},
		{"cond_broadcast", (int (*)(void *))shoal_cond_broadcast},
		{"wg_wait", (int (*)(void *))shoal_wg_wait},
		{"wg_done", (int (*)(void *))shoal_wg_done},
		{"mutex_unlock", (int (*)(void *))shoal_mutex_unlock},
		{"rwmutex_unlock", (int (*)(void *))shoal_rwmutex_unlock},
		{"once_do", once_do},
		{"cond_wait", cond_wait},
		{"sem_acquire", sem_acquire},
		{"sem_release", sem_release},
		{"wg_add", wg_add},
		{"wg_go", wg_go},
	};
	_Alignas(16) char object[256];

	memset(object, 0, sizeof object);
	for (unsigned i = 0; i < sizeof calls / sizeof *calls; i++)
		if (!strcmp(what, calls[i].name))
			calls[i].call(object);
}

static void on_anothers_stack(const char *what)
{
	long v = 0;

	/* In the same window on another worker it would look like ours. */
	do {
		shoal_go(shows_its_stack, NULL, 0);
		shoal_sleep(5000000);
	} while (((uintptr_t)foreign ^ (uintptr_t)&v) < 1 << 20);
	if (!strcmp(what, "send"))
		shoal_send(c, foreign);
	if (!strcmp(what, "recv"))
		shoal_recv_timed(c, foreign, 0);
	if (!strcmp(what, "go"))
		shoal_go(takes, foreign, sizeof v);
	if (!strcmp(what, "select"))
		shoal_select((struct shoal_case[]){{SHOAL_SEND, c, foreign, 0}}, 1, 0);
	if (!strcmp(what, "mutex"))
		shoal_mutex_lock(foreign);
	if (!strcmp(what, "join"))
		shoal_join(shoal_go(takes, NULL, 0), foreign);
	if (!strcmp(what, "wg_go"))
		shoal_wg_go(&wg, takes, foreign, sizeof v);
	if (!strcmp(what, "once"))
		shoal_once_do(foreign, nothing);
}

static void on_its_stack(void *arg)
{
	on_the_stack(*(const char **)arg + 6);
	exit(3); /* nobody minded */
}

int shoal_main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";
	long v = 0;

	c = shoal_chan_new(sizeof v, 1);
	if (!strncmp(how, "stack:", 6)) { /* the root's own stack is memory of the task, this one's is not */
		shoal_go_with(&(struct shoal_go_opts){.name = "main"}, on_its_stack, &how, sizeof how);
		shoal_sleep(SHOAL_FOREVER);
	}
	if (!strcmp(how, "unlock"))
		shoal_mutex_unlock(&mu);
	if (!strcmp(how, "unlock-other")) {
		shoal_go(takes, NULL, 0);
		shoal_sleep(5000000);
		shoal_mutex_unlock(&mu);
	}
	if (!strcmp(how, "rwunlock"))
		shoal_rwmutex_unlock(&rw);
	if (!strcmp(how, "runlock")) {
		shoal_rwmutex_lock(&rw);
		shoal_rwmutex_runlock(&rw);
	}
	if (!strcmp(how, "cond"))
		shoal_cond_wait(&cond, &mu);
	if (!strcmp(how, "wg"))
		shoal_wg_done(&wg);
	if (!strcmp(how, "wg-add"))
		shoal_wg_add(&wg, -2);
	if (!strcmp(how, "unlock-twice")) {
		shoal_mutex_lock(&mu);
		shoal_mutex_unlock(&mu);
		shoal_mutex_unlock(&mu);
	}
	if (!strcmp(how, "sem-acquire"))
		shoal_sem_acquire(&sem, -1);
	if (!strcmp(how, "select-op"))
		shoal_select((struct shoal_case[]){{77, c, &v, 0}}, 1, 0);
	if (!strcmp(how, "sem"))
		shoal_sem_release(&sem, -1);
	if (!strcmp(how, "free-twice")) {
		shoal_chan_free(c);
		shoal_chan_free(c);
	}
	if (!strcmp(how, "no-channel"))
		shoal_send((struct shoal_chan *)&v, &v);
	if (!strncmp(how, "foreign-", 8))
		on_anothers_stack(how + 8);
	return 3; /* the misuse was not noticed */
}
