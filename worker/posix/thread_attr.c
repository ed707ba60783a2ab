/*
 * thread_attr.c - what a thread is asked to be, and what it says of itself: attributes, name, scheduling,
 * affinity, CPU time.
 *
 * A thread has the stack that was asked for, at most TSTACK_MAX: see core/g/tstack.h. Scheduling and affinity are accepted and
 * told again, and have no effect: the Ps run all goroutines alike.
 */
#include "worker/posix/sync/word.h"
#include "worker/posix/libc.h"
#include "worker/posix/thread.h"
#include "worker/output.h"
#include "worker/stacks.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>

REAL(int, pthread_getattr_np, (pthread_t t, pthread_attr_t *a), t, a)
REAL(int, pthread_setname_np, (pthread_t t, const char *name), t, name)
REAL(int, pthread_getname_np, (pthread_t t, char *name, size_t n), t, name, n)
REAL(int, pthread_setschedparam, (pthread_t t, int policy, const struct sched_param *p), t, policy, p)
REAL(int, pthread_getschedparam, (pthread_t t, int *policy, struct sched_param *p), t, policy, p)
REAL(int, pthread_setschedprio, (pthread_t t, int prio), t, prio)
REAL(int, pthread_setaffinity_np, (pthread_t t, size_t n, const cpu_set_t *set), t, n, set)
REAL(int, pthread_getaffinity_np, (pthread_t t, size_t n, cpu_set_t *set), t, n, set)

#define STACK_LEAST (64ul << 10) /* calls of the runtime need some */

static size_t default_stack(void)
{
	static size_t size;
	pthread_attr_t attr;

	if (!size && pthread_attr_init(&attr) == 0) {
		pthread_attr_getstacksize(&attr, &size);
		pthread_attr_destroy(&attr);
	}
	return size;
}

/* Memory that the program gives for the stack: *low, or NULL. */
static size_t given_stack(const pthread_attr_t *attr, char **low)
{
	size_t size = 0;
	void *at = NULL;

	if (pthread_attr_getstack(attr, &at, &size) != 0 || (uintptr_t)at + size == 0)
		at = NULL; /* the attribute keeps the upper end, NULL for none */
	*low = at;
	return size;
}

int thread_options(const pthread_attr_t *attr, struct thread_options *o)
{
	size_t size = default_stack();

	*o = (struct thread_options){.detach = PTHREAD_CREATE_JOINABLE};
	if (attr) {
		pthread_attr_getdetachstate(attr, &o->detach);
		pthread_attr_getstacksize(attr, &size);
		o->given_size = given_stack(attr, &o->given);
	}
	if (o->given) {
		if (!sh_shared(o->given) || !sh_shared(o->given + o->given_size - 1)) {
			static const char line[] =
				"shoal: pthread_create is refused: the stack in its attributes is not memory of the task\n";

			output_append(1, line, sizeof line - 1);
			return EINVAL;
		}
		size = STACK_LEAST; /* for what the runtime does */
	}
	if (size > TSTACK_MAX)
		return EAGAIN;
	o->go.stack_max = size < STACK_LEAST ? STACK_LEAST : size;
	o->go.flags = GO_THREAD;
	return 0;
}

int pthread_getattr_np(pthread_t t, pthread_attr_t *attr)
{
	struct own *o;
	struct g *g;
	int err;

	if (!on_g())
		return real_pthread_getattr_np(t, attr);
	if (!(o = thread_of(t)) || !(g = thread_g(o)))
		return ESRCH;
	if ((err = pthread_attr_init(attr)) != 0)
		return err;
	if (atomic_load(&o->state) & THREAD_DETACHED)
		pthread_attr_setdetachstate(attr, PTHREAD_CREATE_DETACHED);
	if (o->stack)
		return pthread_attr_setstack(attr, o->stack, o->stack_size);
	pthread_attr_setguardsize(attr, 4096);
	if (!win_valid(g->win)) /* made by shoal_go, and has not run yet */
		return pthread_attr_setstacksize(attr, g->stack_max);
	/* The upper end is that of a page, as in other systems; the frames begin a little below. */
	return pthread_attr_setstack(attr, host_window(g->win) + host_window_size(g->win) - g->stack_max, g->stack_max);
}

/* ---- names: g->name leads to the one in the record, which ps and dump show ---- */

int pthread_setname_np(pthread_t t, const char *name)
{
	size_t n = strlen(name);
	struct own *o;
	struct g *g;

	if (!on_g())
		return real_pthread_setname_np(t, name);
	if (n >= sizeof o->name)
		return ERANGE;
	if (!(o = thread_of(t)) || !(g = thread_g(o)))
		return ESRCH;
	memcpy(o->name, name, n + 1);
	if (!(g->flags & GF_NAMED))
		g->name = o->name;
	else /* one that shoal_go has given it */
		sh_format(g->name, strlen(g->name) + 1, "%s", name);
	return 0;
}

int pthread_getname_np(pthread_t t, char *name, size_t n)
{
	struct own *o;
	struct g *g;

	if (!on_g())
		return real_pthread_getname_np(t, name, n);
	if (n < sizeof o->name)
		return ERANGE;
	if (!(o = thread_of(t)) || !(g = thread_g(o)))
		return ESRCH;
	snprintf(name, sizeof o->name, "%s", o->name[0] ? o->name : g->name ? g->name : program_invocation_short_name);
	return 0;
}

/* ---- scheduling, affinity ---- */

static bool policy_valid(int policy, int prio)
{
	int least = sched_get_priority_min(policy), most = sched_get_priority_max(policy);

	return least >= 0 && prio >= least && prio <= most;
}

int pthread_setschedparam(pthread_t t, int policy, const struct sched_param *p)
{
	struct own *o;

	if (!on_g())
		return real_pthread_setschedparam(t, policy, p);
	if (!(o = thread_of(t)))
		return ESRCH;
	if (!policy_valid(policy, p->sched_priority))
		return EINVAL;
	o->policy = (uint8_t)policy;
	o->priority = (uint8_t)p->sched_priority;
	return 0;
}

int pthread_getschedparam(pthread_t t, int *policy, struct sched_param *p)
{
	struct own *o;

	if (!on_g())
		return real_pthread_getschedparam(t, policy, p);
	if (!(o = thread_of(t)))
		return ESRCH;
	*policy = o->policy;
	p->sched_priority = o->priority;
	return 0;
}

int pthread_setschedprio(pthread_t t, int prio)
{
	struct own *o;

	if (!on_g())
		return real_pthread_setschedprio(t, prio);
	if (!(o = thread_of(t)))
		return ESRCH;
	if (!policy_valid(o->policy, prio))
		return EINVAL;
	o->priority = (uint8_t)prio;
	return 0;
}

int pthread_getaffinity_np(pthread_t t, size_t n, cpu_set_t *set)
{
	struct own *o;

	if (!on_g())
		return real_pthread_getaffinity_np(t, n, set);
	if (!(o = thread_of(t)))
		return ESRCH;
	if (sched_getaffinity(0, n, set) < 0)
		return errno;
	if (o->cpus)
		memcpy(set, &o->cpus, sizeof o->cpus);
	return 0;
}

/* Told again for the first 64 CPUs. */
int pthread_setaffinity_np(pthread_t t, size_t n, const cpu_set_t *set)
{
	cpu_set_t there;
	struct own *o;
	uint64_t want = 0, have = 0;

	if (!on_g())
		return real_pthread_setaffinity_np(t, n, set);
	if (!(o = thread_of(t)))
		return ESRCH;
	if (sched_getaffinity(0, sizeof there, &there) < 0)
		return errno;
	memcpy(&want, set, n < sizeof want ? n : sizeof want);
	memcpy(&have, &there, sizeof have);
	if (!(want & have))
		return EINVAL;
	o->cpus = want & have;
	return 0;
}
