/*
 * hidden.c - see hidden.h: random numbers, hash tables, conversions, buffers, syslog.
 */
#include "worker/posix/hidden.h"
#include "worker/posix/libc.h"
#include "shm/kill.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <net/ethernet.h>
#include <netinet/ether.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <syslog.h>
#include <uchar.h>

struct hidden *hidden_of(struct g *g)
{
	struct hidden *h =
		atomic_load_explicit(&task_own(g->task)->hidden, memory_order_acquire); /* pairs with the exchange */
	void *none = NULL;

	if (h)
		return h;
	h = g_alloc(g, sizeof *h);
	if (!h) {
		errno = ENOMEM;
		return NULL;
	}
	memset(h, 0, sizeof *h);
	initstate_r(1, h->random_first, sizeof h->random_first, &h->random);
	h->log_mask = 0xff;
	h->log_facility = LOG_USER;
	if (!atomic_compare_exchange_strong(&task_own(g->task)->hidden, &none, h)) {
		g_free(g, h); /* another goroutine of the task was first */
		h = none;
	}
	KILL_POINT("hidden.made");
	return h;
}

/* The task's state with its lock held; NULL off a goroutine or without memory, and nothing is locked. */
static struct hidden *hidden_lock(void)
{
	struct g *g = on_g();
	struct hidden *h = g ? hidden_of(g) : NULL;

	if (h)
		process_state_begin();
	return h;
}

static void hidden_unlock(struct hidden *h)
{
	if (h)
		process_state_end(getg()->task, false);
}

/* ---- random, rand ---- */

REAL(long, random, (void), )
REAL(char *, initstate, (unsigned seed, char *state, size_t n), seed, state, n)
REAL(char *, setstate, (char *state), state)
static void real_srandom(unsigned seed)
{
	static void (*libc)(unsigned);

	LIBC_FIND(libc, "srandom");
	libc(seed);
}

long random(void)
{
	struct hidden *h = hidden_lock();
	int32_t r;

	if (!h)
		return real_random();
	random_r(&h->random, &r);
	hidden_unlock(h);
	return r;
}

void srandom(unsigned seed)
{
	struct hidden *h = hidden_lock();

	if (!h) {
		real_srandom(seed);
		return;
	}
	srandom_r(seed, &h->random);
	hidden_unlock(h);
}

int rand(void)
{
	return (int)random();
}

void srand(unsigned seed)
{
	srandom(seed);
}

/* glibc keeps the type and the position in the word before `state`, where the caller's array begins. */
static char *array_of(const struct random_data *data)
{
	return (char *)(data->state - 1);
}

char *initstate(unsigned seed, char *state, size_t n)
{
	struct hidden *h = hidden_lock();
	char *old;

	if (!h)
		return real_initstate(seed, state, n);
	old = array_of(&h->random);
	if (initstate_r(seed, state, n, &h->random) < 0)
		old = NULL;
	hidden_unlock(h);
	return old;
}

char *setstate(char *state)
{
	struct hidden *h = hidden_lock();
	char *old;

	if (!h)
		return real_setstate(state);
	old = array_of(&h->random);
	if (setstate_r(state, &h->random) < 0)
		old = NULL;
	hidden_unlock(h);
	return old;
}

/* ---- drand48 and its kin ---- */

#define DRAW(result, name, params, args, ...) \
	REAL(result, name, params, __VA_ARGS__) \
	result name params \
	{ \
		struct hidden *h = hidden_lock(); \
		result r = 0; \
		if (!h) \
			return real_##name(__VA_ARGS__); \
		name##_r args; \
		hidden_unlock(h); \
		return r; \
	}

DRAW(double, drand48, (void), (&h->drand48, &r), )
DRAW(long, lrand48, (void), (&h->drand48, &r), )
DRAW(long, mrand48, (void), (&h->drand48, &r), )
DRAW(double, erand48, (unsigned short x[3]), (x, &h->drand48, &r), x)
DRAW(long, nrand48, (unsigned short x[3]), (x, &h->drand48, &r), x)
DRAW(long, jrand48, (unsigned short x[3]), (x, &h->drand48, &r), x)

REAL(unsigned short *, seed48, (unsigned short x[3]), x)
static void call_void(const char *name, void *arg, long number)
{
	void *libc = LIBC_OWN(name);

	if (arg)
		((void (*)(void *))libc)(arg);
	else
		((void (*)(long))libc)(number);
}

void srand48(long seed)
{
	struct hidden *h = hidden_lock();

	if (!h) {
		call_void("srand48", NULL, seed);
		return;
	}
	srand48_r(seed, &h->drand48);
	hidden_unlock(h);
}

unsigned short *seed48(unsigned short x[3])
{
	struct hidden *h = hidden_lock();

	if (!h)
		return real_seed48(x);
	seed48_r(x, &h->drand48);
	hidden_unlock(h);
	return h->drand48.__old_x;
}

void lcong48(unsigned short p[7])
{
	struct hidden *h = hidden_lock();

	if (!h) {
		call_void("lcong48", p, 0);
		return;
	}
	lcong48_r(p, &h->drand48);
	hidden_unlock(h);
}

/* ---- the hash table of hsearch ---- */

REAL(int, hcreate, (size_t n), n)
REAL(ENTRY *, hsearch, (ENTRY item, ACTION action), item, action)

int hcreate(size_t n)
{
	struct g *g = on_g();
	struct hidden *h = g ? hidden_of(g) : NULL;

	return h ? hcreate_r(n, &h->hsearch) : real_hcreate(n);
}

ENTRY *hsearch(ENTRY item, ACTION action)
{
	struct g *g = on_g();
	struct hidden *h = g ? hidden_of(g) : NULL;
	ENTRY *found = NULL;

	if (!h)
		return real_hsearch(item, action);
	hsearch_r(item, action, &found, &h->hsearch);
	return found;
}

void hdestroy(void)
{
	struct g *g = on_g();
	struct hidden *h = g ? hidden_of(g) : NULL;

	if (h)
		hdestroy_r(&h->hsearch);
	else
		call_void("hdestroy", NULL, 0);
}

/* ---- conversions of characters, called with no state ---- */

/* The state to use: the caller's, or the task's for this function. NULL, as in libc, off a goroutine. */
static mbstate_t *state_for(mbstate_t *given, enum hidden_conversion which)
{
	struct g *g = given ? NULL : on_g();
	struct hidden *h = g ? hidden_of(g) : NULL;

	return h ? &h->conversion[which] : given;
}

#define CONVERT(which, result, name, params, ...) \
	REAL(result, name, params, __VA_ARGS__) \
	result name params \
	{ \
		state = state_for(state, which); \
		return real_##name(__VA_ARGS__); \
	}

CONVERT(CONVERT_MBRTOWC, size_t, mbrtowc, (wchar_t * w, const char *s, size_t n, mbstate_t *state), w, s, n, state)
CONVERT(CONVERT_MBRLEN, size_t, mbrlen, (const char *s, size_t n, mbstate_t *state), s, n, state)
CONVERT(CONVERT_WCRTOMB, size_t, wcrtomb, (char *s, wchar_t w, mbstate_t *state), s, w, state)
CONVERT(CONVERT_MBSRTOWCS, size_t, mbsrtowcs, (wchar_t * w, const char **s, size_t n, mbstate_t *state), w, s, n, state)
CONVERT(CONVERT_MBSNRTOWCS, size_t, mbsnrtowcs, (wchar_t * w, const char **s, size_t in, size_t n, mbstate_t *state), w,
	s, in, n, state)
CONVERT(CONVERT_WCSRTOMBS, size_t, wcsrtombs, (char *s, const wchar_t **w, size_t n, mbstate_t *state), s, w, n, state)
CONVERT(CONVERT_WCSNRTOMBS, size_t, wcsnrtombs, (char *s, const wchar_t **w, size_t in, size_t n, mbstate_t *state), s,
	w, in, n, state)
CONVERT(CONVERT_MBRTOC16, size_t, mbrtoc16, (char16_t *c, const char *s, size_t n, mbstate_t *state), c, s, n, state)
CONVERT(CONVERT_C16RTOMB, size_t, c16rtomb, (char *s, char16_t c, mbstate_t *state), s, c, state)
CONVERT(CONVERT_MBRTOC32, size_t, mbrtoc32, (char32_t *c, const char *s, size_t n, mbstate_t *state), c, s, n, state)
CONVERT(CONVERT_C32RTOMB, size_t, c32rtomb, (char *s, char32_t c, mbstate_t *state), s, c, state)

/* ---- functions that return a pointer to text of their own ---- */

REAL(char *, inet_ntoa, (struct in_addr a), a)
REAL(char *, ether_ntoa, (const struct ether_addr *a), a)
REAL(char *, ttyname, (int fd), fd)
REAL(char *, ptsname, (int fd), fd)
REAL(char *, getlogin, (void), )
REAL(char *, l64a, (long n), n)
REAL(char *, ecvt, (double value, int digits, int *point, int *sign), value, digits, point, sign)
REAL(char *, fcvt, (double value, int digits, int *point, int *sign), value, digits, point, sign)

static struct hidden *hidden_here(void)
{
	struct g *g = on_g();

	return g ? hidden_of(g) : NULL;
}

char *inet_ntoa(struct in_addr a)
{
	struct hidden *h = hidden_here();

	return h ? (char *)inet_ntop(AF_INET, &a, h->inet, sizeof h->inet) : real_inet_ntoa(a);
}

char *ether_ntoa(const struct ether_addr *a)
{
	struct hidden *h = hidden_here();

	return h ? ether_ntoa_r(a, h->ether) : real_ether_ntoa(a);
}

/* The text, or NULL and errno, from a function that returns an error number. */
static char *text_or_error(char *text, int error)
{
	if (!error)
		return text;
	errno = error;
	return NULL;
}

char *ttyname(int fd)
{
	struct hidden *h = hidden_here();

	return h ? text_or_error(h->tty, ttyname_r(fd, h->tty, sizeof h->tty)) : real_ttyname(fd);
}

char *ptsname(int fd)
{
	struct hidden *h = hidden_here();

	return h ? text_or_error(h->pts, ptsname_r(fd, h->pts, sizeof h->pts)) : real_ptsname(fd);
}

char *getlogin(void)
{
	struct hidden *h = hidden_here();

	return h ? text_or_error(h->login, getlogin_r(h->login, sizeof h->login)) : real_getlogin();
}

/* Copies what libc returned into the task's buffer, before the goroutine can park. */
static char *copy_number(struct hidden *h, const char *from)
{
	if (!from)
		return NULL;
	sh_format(h->number, sizeof h->number, "%s", from);
	return h->number;
}

#define NUMBER(name, params, ...) \
	char *name params \
	{ \
		struct hidden *h = hidden_here(); \
		char *text; \
		if (!h) \
			return real_##name(__VA_ARGS__); \
		acquirem(); \
		text = copy_number(h, real_##name(__VA_ARGS__)); \
		releasem(); \
		return text; \
	}

NUMBER(l64a, (long n), n)
NUMBER(ecvt, (double value, int digits, int *point, int *sign), value, digits, point, sign)
NUMBER(fcvt, (double value, int digits, int *point, int *sign), value, digits, point, sign)

/* ---- syslog ---- */

REAL(int, setlogmask, (int mask), mask)

static void real_vsyslog(int priority, const char *fmt, va_list ap)
{
	static void (*libc)(int, const char *, va_list);

	LIBC_FIND(libc, "vsyslog");
	libc(priority, fmt, ap);
}

static void real_openlog(const char *ident, int option, int facility)
{
	static void (*libc)(const char *, int, int);

	LIBC_FIND(libc, "openlog");
	libc(ident, option, facility);
}

static void real_closelog(void)
{
	static void (*libc)(void);

	LIBC_FIND(libc, "closelog");
	libc();
}

int setlogmask(int mask)
{
	struct hidden *h = hidden_here();
	int old;

	if (!h)
		return real_setlogmask(mask);
	old = h->log_mask;
	if (mask)
		h->log_mask = mask;
	return old;
}

void openlog(const char *ident, int option, int facility)
{
	struct hidden *h = hidden_here();

	if (!h) {
		real_openlog(ident, option, facility);
		return;
	}
	h->log_ident = ident;
	h->log_option = option;
	if (facility && !(facility & ~LOG_FACMASK))
		h->log_facility = facility;
}

void closelog(void)
{
	struct hidden *h = hidden_here();

	if (!h)
		real_closelog();
	else
		h->log_ident = NULL;
}

/*
 * The connection to the log and its settings are the process's, so each message has one of its own: the
 * task's settings are set, the message is sent, and the connection is closed again.
 */
void vsyslog(int priority, const char *fmt, va_list ap)
{
	struct hidden *h = hidden_here();
	const char *ident;

	if (!h) {
		real_vsyslog(priority, fmt, ap);
		return;
	}
	if (!(LOG_MASK(LOG_PRI(priority)) & h->log_mask))
		return;
	acquirem();
	ident = h->log_ident ? h->log_ident : program_invocation_short_name;
	real_openlog(ident, h->log_option & ~LOG_NDELAY, h->log_facility);
	real_vsyslog(priority, fmt, ap);
	real_closelog();
	releasem();
}

void syslog(int priority, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsyslog(priority, fmt, ap);
	va_end(ap);
}

void __vsyslog_chk(int priority, int flag, const char *fmt, va_list ap);
void __vsyslog_chk(int priority, int flag, const char *fmt, va_list ap)
{
	(void)flag;
	vsyslog(priority, fmt, ap);
}

void __syslog_chk(int priority, int flag, const char *fmt, ...);
void __syslog_chk(int priority, int flag, const char *fmt, ...)
{
	va_list ap;

	(void)flag;
	va_start(ap, fmt);
	vsyslog(priority, fmt, ap);
	va_end(ap);
}

/* ---- getopt ---- */

/*
 * libc's getopt keeps its place inside an argument in the process. The first call of a task makes it begin
 * anew, whatever task used it before in this worker.
 */
static void begin_getopt(void)
{
	struct g *g = on_g();

	if (!g || task_own(g->task)->getopt_begun)
		return;
	task_own(g->task)->getopt_begun = 1;
	KILL_POINT("hidden.getopt");
	if (optind <= 1)
		optind = 0;
}

REAL(int, getopt, (int argc, char *const *argv, const char *options), argc, argv, options)
REAL(int, getopt_long, (int argc, char *const *argv, const char *options, const struct option *longs, int *index), argc,
     argv, options, longs, index)
REAL(int, getopt_long_only, (int argc, char *const *argv, const char *options, const struct option *longs, int *index),
     argc, argv, options, longs, index)

int getopt(int argc, char *const *argv, const char *options)
{
	begin_getopt();
	return real_getopt(argc, argv, options);
}

int getopt_long(int argc, char *const *argv, const char *options, const struct option *longs, int *index)
{
	begin_getopt();
	return real_getopt_long(argc, argv, options, longs, index);
}

int getopt_long_only(int argc, char *const *argv, const char *options, const struct option *longs, int *index)
{
	begin_getopt();
	return real_getopt_long_only(argc, argv, options, longs, index);
}
