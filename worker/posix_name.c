/*
 * posix_name.c - names of hosts, and the sleeps that posix.c does not have.
 */
#include "worker/posix.h"
#include "shm/heap.h"

#include <dlfcn.h>
#include <netdb.h>
#include <time.h>

/* ---- getaddrinfo: what libc answers is copied into one block of the task's ---- */

struct asked {
	const char *node, *service;
	const struct addrinfo *hints;
	struct addrinfo *answer;
	struct task *task;
	int r, err;
};

static size_t room_for(const struct addrinfo *a)
{
	size_t n = 0;

	for (; a; a = a->ai_next)
		n += sizeof *a + ((a->ai_addrlen + 15u) & ~15u) + (a->ai_canonname ? (strlen(a->ai_canonname) + 16) & ~15ul : 0);
	return n;
}

static void copy_answer(struct addrinfo *to, const struct addrinfo *from)
{
	for (; from; from = from->ai_next) {
		char *at = (char *)(to + 1);

		*to = *from;
		to->ai_addr = memcpy(at, from->ai_addr, from->ai_addrlen);
		at += (from->ai_addrlen + 15u) & ~15u;
		if (from->ai_canonname) {
			size_t n = strlen(from->ai_canonname) + 1;

			to->ai_canonname = memcpy(at, from->ai_canonname, n);
			at += (n + 15) & ~15ul;
		}
		to->ai_next = from->ai_next ? (void *)at : NULL;
		to = to->ai_next;
	}
}

static void ask(void *arg)
{
	static int (*getter)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
	static void (*freer)(struct addrinfo *);
	struct asked *q = arg;
	struct addrinfo *found = NULL;

	if (!getter)
		*(void **)&getter = dlsym(RTLD_NEXT, "getaddrinfo");
	if (!freer)
		*(void **)&freer = dlsym(RTLD_NEXT, "freeaddrinfo");
	q->r = getter(q->node, q->service, q->hints, &found);
	q->err = errno;
	if (q->r || !found)
		return;
	q->answer = sh_heap_alloc(q->task->heap, (unsigned)getm->seat, SH_HEAP_NOCPU, room_for(found), 16, false);
	if (q->answer)
		copy_answer(q->answer, found);
	else
		q->r = EAI_MEMORY;
	freer(found);
}

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **answer)
{
	static int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
	struct asked q = {node, service, hints, NULL, NULL, 0, 0};
	struct g *g = posix_enter();

	if (!g) {
		if (!real)
			*(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
		return real(node, service, hints, answer);
	}
	q.task = g->task;
	outcall(ask, &q);
	errno = q.err;
	if (q.r == 0)
		*answer = q.answer;
	return q.r;
}

void freeaddrinfo(struct addrinfo *a)
{
	static void (*real)(struct addrinfo *);

	if (a && sh_in_segment(a)) {
		free(a);
		return;
	}
	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "freeaddrinfo");
	real(a);
}

struct named {
	const struct sockaddr *addr;
	socklen_t addrlen, hostlen, servlen;
	char *host, *serv;
	int flags, r, err;
};

static void ask_name(void *arg)
{
	static int (*getter)(const struct sockaddr *, socklen_t, char *, socklen_t, char *, socklen_t, int);
	struct named *q = arg;

	if (!getter)
		*(void **)&getter = dlsym(RTLD_NEXT, "getnameinfo");
	q->r = getter(q->addr, q->addrlen, q->host, q->hostlen, q->serv, q->servlen, q->flags);
	q->err = errno;
}

int getnameinfo(const struct sockaddr *a, socklen_t n, char *host, socklen_t hostlen, char *serv, socklen_t servlen, int flags)
{
	struct named q = {a, n, hostlen, servlen, host, serv, flags, 0, 0};

	if (posix_enter())
		outcall(ask_name, &q);
	else
		ask_name(&q);
	errno = q.err;
	return q.r;
}

/* ---- sleeping until a time ---- */

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *want, struct timespec *left)
{
	int64_t ns = want->tv_sec * 1000000000l + want->tv_nsec;
	struct timespec now;
	int r;

	if (!posix_enter()) {
		r = (int)syscall(SYS_clock_nanosleep, clock, flags, want, left);
		return r < 0 ? errno : 0;
	}
	if (want->tv_sec < 0 || want->tv_nsec < 0 || want->tv_nsec > 999999999 || clock_gettime(clock, &now) < 0)
		return EINVAL;
	if (flags & TIMER_ABSTIME)
		ns -= now.tv_sec * 1000000000l + now.tv_nsec;
	return ns > 0 ? -shoal_sleep(ns) : 0;
}
