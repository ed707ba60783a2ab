/*
 * posix/name.c - names of hosts, and the sleeps that posix.c does not have.
 *
 * A lookup waits for servers inside of libc, which nothing gets it out of. So a thread of the worker
 * does it, while the goroutine sleeps and looks again: it can be cancelled, and the thread then ends
 * by itself.
 */
#include "worker/posix/clock.h"
#include "worker/posix/own.h"
#include "worker/posix/posix.h"
#include "shm/heap.h"
#include "worker/posix/thread_cancel.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

/* ---- asking, in a thread of the worker: libc waits inside, for seconds maybe ---- */

#define NAP_MIN 100000
#define NAP_MAX 10000000
#define ROOM 16384

enum { ASKED, ANSWERED };

/*
 * A question and room for its answer, a block of the task's heap. The thread allocates nothing there.
 * OWNER  the goroutine; what of it the thread writes, the thread until state says answered. Who is
 *        cancelled meanwhile leaves it to the end of the task
 * DEATH  of the worker, or its leaving: the goroutine asks again
 */
struct question {
	_Atomic uint32_t state;
	void (*ask)(struct question *);
	unsigned seat, generation; /* of the worker whose thread asks */
	int r, err, herr;
	int family, flags;
	bool quick;
	const char *node, *service; /* copies, in text */
	struct addrinfo hints, *hint;
	struct sockaddr_storage addr;
	socklen_t addrlen;
	size_t hostlen, servlen;
	struct hostent host, *found;
	size_t answer; /* bytes of it in room */
	_Alignas(16) char room[ROOM];
	char text[];
};

static void *asks(void *arg)
{
	struct question *q = arg;
	sigset_t all;

	sigfillset(&all); /* they are for the worker's own thread */
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	q->ask(q);
	q->err = errno; /* once it is answered nobody but the goroutine knows it */
	atomic_store(&q->state, ANSWERED);
	return NULL;
}

static void start(void *arg)
{
	struct question *q = arg;
	pthread_attr_t attr;
	pthread_t t;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, 256 << 10);
	q->seat = (unsigned)getm->seat;
	q->generation = sh_root->seat[getm->seat].generation;
	q->err = pthread_create(&t, &attr, asks, q);
	pthread_attr_destroy(&attr);
}

/* No name of a host is asked for: nobody else is. */
static void ask_here(void *arg)
{
	struct question *q = arg;

	q->ask(q);
	q->err = errno;
}

/* Parks. 0, or -errno: then the question is not to be touched any more. */
static int answer(struct question *q)
{
	if (q->quick) {
		outcall(ask_here, q);
		return 0;
	}
	for (;;) {
		int64_t nap = NAP_MIN, begun = host_now();
		unsigned seat, generation;
		int r = 0;

		atomic_store(&q->state, ASKED);
		outcall(start, q);
		if (q->err)
			return -q->err;
		seat = q->seat;
		generation = q->generation;
		while (atomic_load(&q->state) != ANSWERED && r == 0 && sh_root->seat[seat].generation == generation &&
		       !sh_seat_dead(seat)) {
			r = shoal_sleep(nap);
			nap = (host_now() - begun) / 8;
			nap = nap < NAP_MIN ? NAP_MIN : nap > NAP_MAX ? NAP_MAX : nap;
		}
		if (atomic_load(&q->state) == ANSWERED)
			return 0;
		if (r < 0)
			return r;
	}
}

static struct question *question(struct g *g, void (*ask)(struct question *), const char *node, const char *service)
{
	size_t n = node ? strlen(node) + 1 : 0, m = service ? strlen(service) + 1 : 0;
	struct question *q = g_alloc(g, sizeof *q + n + m);

	if (!q)
		return NULL;
	memset(q, 0, offsetof(struct question, room));
	q->ask = ask;
	q->node = node ? memcpy(q->text, node, n) : NULL;
	q->service = service ? memcpy(q->text + n, service, m) : NULL;
	return q;
}

/* ---- getaddrinfo: what libc answers is copied, at last into one block of the task's ---- */

static size_t room_for(const struct addrinfo *a)
{
	return sizeof *a + ((a->ai_addrlen + 15u) & ~15u) +
	       (a->ai_canonname ? (strlen(a->ai_canonname) + 16) & ~15ul : 0);
}

/* As many as there is room for. How many bytes they take. */
static size_t copy_answer(char *to, size_t room, const struct addrinfo *from)
{
	struct addrinfo *last = NULL;
	size_t used = 0;

	for (; from && used + room_for(from) <= room; from = from->ai_next) {
		struct addrinfo *a = (struct addrinfo *)(to + used);
		char *at = (char *)(a + 1);

		*a = *from;
		a->ai_next = NULL;
		a->ai_addr = memcpy(at, from->ai_addr, from->ai_addrlen);
		at += (from->ai_addrlen + 15u) & ~15u;
		if (from->ai_canonname)
			a->ai_canonname = memcpy(at, from->ai_canonname, strlen(from->ai_canonname) + 1);
		if (last)
			last->ai_next = a;
		last = a;
		used += room_for(from);
	}
	return used;
}

REAL(int, getaddrinfo, (const char *n, const char *s, const struct addrinfo *h, struct addrinfo **a), n, s, h, a)
REAL(void, freeaddrinfo, (struct addrinfo * a), a)

static bool is_number(const char *node)
{
	struct in6_addr a;

	return inet_pton(AF_INET, node, &a) == 1 || inet_pton(AF_INET6, node, &a) == 1;
}

static void ask_address(struct question *q)
{
	struct addrinfo *found = NULL;

	q->r = real_getaddrinfo(q->node, q->service, q->hint, &found);
	if (q->r || !found)
		return;
	q->answer = copy_answer(q->room, ROOM, found);
	real_freeaddrinfo(found);
}

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
	CANCEL_POINT();
	struct g *g = posix_enter();
	struct question *q;
	int r;

	if (!g)
		return real_getaddrinfo(node, service, hints, found);
	q = question(g, ask_address, node, service);
	if (!q)
		return EAI_MEMORY;
	if (hints) {
		q->hints = *hints;
		q->hint = &q->hints;
	}
	q->quick = !node || (hints && (hints->ai_flags & AI_NUMERICHOST)) || is_number(node);
	r = answer(q);
	if (r) {
		errno = -r;
		return EAI_SYSTEM;
	}
	r = q->r;
	if (r == 0 && q->answer) {
		*found = g_alloc(g, q->answer);
		if (*found)
			copy_answer((char *)*found, q->answer, (struct addrinfo *)q->room);
		else
			r = EAI_MEMORY;
	}
	errno = q->err;
	g_free(g, q);
	return r;
}

void freeaddrinfo(struct addrinfo *a)
{
	if (a && sh_in_segment(a))
		free(a);
	else
		real_freeaddrinfo(a);
}

REAL(int, getnameinfo, (const struct sockaddr *a, socklen_t n, char *h, socklen_t hn, char *s, socklen_t sn, int flags),
     a, n, h, hn, s, sn, flags)

static void ask_name(struct question *q)
{
	q->r = real_getnameinfo((struct sockaddr *)&q->addr, q->addrlen, q->hostlen ? q->room : NULL,
				(socklen_t)q->hostlen, q->servlen ? q->room + ROOM / 2 : NULL, (socklen_t)q->servlen,
				q->flags);
}

int getnameinfo(const struct sockaddr *a, socklen_t n, char *host, socklen_t hostlen, char *serv, socklen_t servlen,
		int flags)
{
	struct g *g = posix_enter();
	struct question *q;
	int r;

	if (!g || n > sizeof q->addr)
		return g ? EAI_FAMILY : real_getnameinfo(a, n, host, hostlen, serv, servlen, flags);
	q = question(g, ask_name, NULL, NULL);
	if (!q)
		return EAI_MEMORY;
	memcpy(&q->addr, a, n);
	q->addrlen = n;
	q->hostlen = !host ? 0 : hostlen < ROOM / 2 ? hostlen : ROOM / 2;
	q->servlen = !serv ? 0 : servlen < ROOM / 2 ? servlen : ROOM / 2;
	q->flags = flags;
	q->quick = !host || (flags & NI_NUMERICHOST);
	r = answer(q);
	if (r) {
		errno = -r;
		return EAI_SYSTEM;
	}
	r = q->r;
	if (r == 0 && q->hostlen)
		strcpy(host, q->room);
	if (r == 0 && q->servlen)
		strcpy(serv, q->room + ROOM / 2);
	errno = q->err;
	g_free(g, q);
	return r;
}

/* ---- gethostbyname, gethostbyaddr: what they give out is the task's, as of the last call ---- */

REAL(int, gethostbyname2_r, (const char *n, int f, struct hostent *h, char *b, size_t s, struct hostent **r, int *e), n,
     f, h, b, s, r, e)
REAL(int, gethostbyaddr_r,
     (const void *a, socklen_t n, int f, struct hostent *h, char *b, size_t s, struct hostent **r, int *e), a, n, f, h,
     b, s, r, e)

static void ask_host(struct question *q)
{
	q->r = real_gethostbyname2_r(q->node, q->family, &q->host, q->room, ROOM, &q->found, &q->herr);
}

static void ask_host_of(struct question *q)
{
	q->r = real_gethostbyaddr_r(&q->addr, q->addrlen, q->family, &q->host, q->room, ROOM, &q->found, &q->herr);
}

static struct hostent *host(struct g *g, struct question *q)
{
	int r = q ? answer(q) : -ENOMEM;

	if (r) {
		errno = -r;
		h_errno = NETDB_INTERNAL;
		return NULL;
	}
	h_errno = q->herr;
	errno = q->r ? q->r : q->err;
	q = atomic_exchange(&task_own(g->task)->host, q); /* the one before it goes */
	if (q)
		g_free(g, q);
	q = atomic_load(&task_own(g->task)->host);
	return q->r ? NULL : q->found;
}

struct hostent *gethostbyname2(const char *name, int family)
{
	static struct hostent *(*libc)(const char *, int);
	struct g *g = posix_enter();
	struct question *q;

	if (!g) {
		LIBC_FIND(libc, "gethostbyname2");
		return libc(name, family);
	}
	q = question(g, ask_host, name, NULL);
	if (q)
		q->family = family;
	return host(g, q);
}

struct hostent *gethostbyname(const char *name)
{
	CANCEL_POINT();
	return gethostbyname2(name, AF_INET);
}

struct hostent *gethostbyaddr(const void *addr, socklen_t n, int family)
{
	static struct hostent *(*libc)(const void *, socklen_t, int);
	struct g *g = posix_enter();
	struct question *q;

	if (!g) {
		LIBC_FIND(libc, "gethostbyaddr");
		return libc(addr, n, family);
	}
	q = question(g, ask_host_of, NULL, NULL);
	if (q && n <= sizeof q->addr) {
		memcpy(&q->addr, addr, n);
		q->addrlen = n;
		q->family = family;
	}
	return host(g, q);
}

/* ---- the same into the caller's memory ---- */

static size_t count(char *const *list)
{
	size_t n = 0;

	while (list && list[n])
		n++;
	return n;
}

/* 0 or ERANGE. */
static int copy_host(struct hostent *to, const struct hostent *from, char *buf, size_t room)
{
	size_t pad = -(uintptr_t)buf & 7, names = count(from->h_aliases), addrs = count(from->h_addr_list);
	size_t need =
		pad + (names + addrs + 2) * sizeof(char *) + strlen(from->h_name) + 1 + addrs * (size_t)from->h_length;
	char **list = (char **)(buf + pad), *at = (char *)(list + names + addrs + 2);

	for (size_t i = 0; i < names; i++)
		need += strlen(from->h_aliases[i]) + 1;
	if (need > room)
		return ERANGE;
	*to = *from;
	to->h_addr_list = list;
	for (size_t i = 0; i < addrs; i++, at += from->h_length)
		*list++ = memcpy(at, from->h_addr_list[i], (size_t)from->h_length);
	*list++ = NULL;
	to->h_aliases = list;
	for (size_t i = 0; i < names; i++, at += strlen(at) + 1)
		*list++ = strcpy(at, from->h_aliases[i]);
	*list = NULL;
	to->h_name = strcpy(at, from->h_name);
	return 0;
}

static int host_into(struct g *g, struct question *q, struct hostent *to, char *buf, size_t n, struct hostent **found,
		     int *herr)
{
	int r = q ? answer(q) : -ENOMEM;

	*found = NULL;
	if (r) {
		*herr = NETDB_INTERNAL;
		return errno = -r;
	}
	*herr = q->herr;
	r = q->r;
	if (r == 0 && q->found) {
		r = copy_host(to, q->found, buf, n);
		*found = r ? NULL : to;
		*herr = r ? NETDB_INTERNAL : *herr;
	}
	errno = r ? r : q->err;
	g_free(g, q);
	return r;
}

int gethostbyname2_r(const char *restrict name, int family, struct hostent *restrict to, char *restrict buf, size_t n,
		     struct hostent **restrict found, int *restrict herr)
{
	struct g *g = posix_enter();
	struct question *q;

	if (!g)
		return real_gethostbyname2_r(name, family, to, buf, n, found, herr);
	q = question(g, ask_host, name, NULL);
	if (q)
		q->family = family;
	return host_into(g, q, to, buf, n, found, herr);
}

int gethostbyname_r(const char *restrict name, struct hostent *restrict to, char *restrict buf, size_t n,
		    struct hostent **restrict found, int *restrict herr)
{
	return gethostbyname2_r(name, AF_INET, to, buf, n, found, herr);
}

int gethostbyaddr_r(const void *restrict addr, socklen_t len, int family, struct hostent *restrict to,
		    char *restrict buf, size_t n, struct hostent **restrict found, int *restrict herr)
{
	struct g *g = posix_enter();
	struct question *q;

	if (!g)
		return real_gethostbyaddr_r(addr, len, family, to, buf, n, found, herr);
	q = question(g, ask_host_of, NULL, NULL);
	if (q && len <= sizeof q->addr) {
		memcpy(&q->addr, addr, len);
		q->addrlen = len;
		q->family = family;
	}
	return host_into(g, q, to, buf, n, found, herr);
}
