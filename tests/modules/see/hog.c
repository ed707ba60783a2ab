/*
 * hog.c - goroutines that compute in the C library, in the runtime or in the kernel, without a call that parks.
 *
 *   hog.so KIND MS	two goroutines do KIND for so long. Prints how often they did it, and how many milliseconds a
 *			third one, which sleeps 1 ms at a time, was late at most
 *   hog.so kinds	prints all kinds that come to an end, one a line
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <fnmatch.h>
#include <math.h>
#include <regex.h>
#include <shoal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>

#define BIG (32ul << 20)
#define MEDIUM (1ul << 20)

static char *big, *other;
static double ends;
static volatile long sink;
static long rounds, wrong;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void do_memcpy(void)
{
	memcpy(other, big, BIG);
}
static void do_memset(void)
{
	memset(other, 1, BIG);
}
static void do_strlen(void)
{
	wrong += strlen(big) != BIG - 1;
}
static void do_memchr(void)
{
	wrong += memchr(big, 7, BIG) != NULL;
}
static void do_regexec(void)
{
	regmatch_t found[2];
	regex_t r;

	wrong += regcomp(&r, "\\(a*\\)*b", 0) != 0;
	wrong += regexec(&r, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac", 2, found, 0) != REG_NOMATCH;
	regfree(&r);
}
static void do_snprintf(void)
{
	char s[600];

	wrong += snprintf(s, sizeof s, "%.400f", 1e100 / 3) != 501;
}
static int by_value(const void *a, const void *b)
{
	return (*(const int *)a > *(const int *)b) - (*(const int *)a < *(const int *)b);
}
static void do_qsort(void)
{
	int *numbers = malloc(MEDIUM * sizeof *numbers);

	for (size_t i = 0; i < MEDIUM; i++)
		numbers[i] = (int)(i * 2654435761u % MEDIUM);
	qsort(numbers, MEDIUM, sizeof *numbers, by_value);
	for (size_t i = 1; i < MEDIUM; i++)
		wrong += numbers[i - 1] > numbers[i];
	free(numbers);
}
static void do_strtod(void)
{
	for (int i = 0; i < 1000; i++)
		wrong += strtod("3.14159265358979323846264338327950288", NULL) != M_PI;
}
static void do_math(void)
{
	double x = 0;

	for (int i = 0; i < 1000; i++)
		x += sin(i) * pow(i, 0.3);
	sink += (long)x;
}
static void do_clock(void)
{
	for (int i = 0; i < 1000; i++)
		sink += (long)now();
}
static void do_random(void)
{
	for (int i = 0; i < 1000; i++)
		sink += random();
}
static void do_self(void)
{
	for (int i = 0; i < 1000; i++)
		sink += (long)shoal_self();
}
static void do_malloc(void)
{
	void *p[100];

	for (int i = 0; i < 100; i++)
		wrong += !(p[i] = malloc(100));
	for (int i = 0; i < 100; i++)
		free(p[i]);
}
static void do_asprintf(void)
{
	char *s = NULL, *end;

	for (int i = 0; i < 1000; i++, free(s)) /* a function of libc that calls malloc */
		wrong += asprintf(&s, "%d", i) < 1 || strtol(s, &end, 10) != i;
}
static void do_syscall(void)
{
	for (int i = 0; i < 1000; i++)
		sink += syscall(SYS_getppid);
}
static void do_errno(void)
{
	for (int i = 0; i < 1000; i++) {
		errno = 0;
		wrong += access("/no such file", R_OK) == 0 || errno != ENOENT;
	}
}

/* It tries all ways in which the stars can match. Takes longer than anybody waits. */
static void do_endless(void)
{
	char s[200];

	memset(s, 'a', sizeof s - 1);
	s[sizeof s - 1] = 0;
	wrong += fnmatch("*a*a*a*a*a*a*a*a*a*a*a*a*b", s, 0) != FNM_NOMATCH;
}

/* A loop of 100 million rounds, written at run time. */
static void do_written(void)
{
	static const unsigned char code[] = {0xb9, 0x00, 0xe1, 0xf5, 0x05, /* mov $100000000, %ecx */
					     0xff, 0xc9, 0x75, 0xfc,	   /* dec %ecx; jnz */
					     0xb8, 0x07, 0x00, 0x00, 0x00, 0xc3};
	static int (*run)(void);
	void *at;

	if (!run) {
		at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		memcpy(at, code, sizeof code);
		mprotect(at, 4096, PROT_READ | PROT_EXEC);
		memcpy(&run, &at, sizeof run);
	}
	wrong += run() != 7;
}

static const struct {
	const char *name;
	void (*work)(void);
} kinds[] = {
	{"memcpy", do_memcpy},	 {"memset", do_memset},	    {"strlen", do_strlen},   {"memchr", do_memchr},
	{"regexec", do_regexec}, {"snprintf", do_snprintf}, {"qsort", do_qsort},     {"strtod", do_strtod},
	{"math", do_math},	 {"clock", do_clock},	    {"random", do_random},   {"self", do_self},
	{"malloc", do_malloc},	 {"asprintf", do_asprintf}, {"syscall", do_syscall}, {"errno", do_errno},
	{"written", do_written}, {"endless", do_endless},
};
#define KINDS (sizeof kinds / sizeof *kinds)

static void (*work)(void);

static void hog(void *arg)
{
	long n = 0, marks[16];

	(void)arg;
	for (int i = 0; i < 16; i++)
		marks[i] = i;
	do {
		work();
		n++;
		for (int i = 0; i < 16; i++) /* its stack is its own, wherever it was preempted */
			wrong += marks[i] != i;
	} while (now() < ends);
	__atomic_fetch_add(&rounds, n, __ATOMIC_SEQ_CST);
}

int shoal_main(int argc, char **argv)
{
	struct shoal_wg wg = {0}, *w = malloc(sizeof *w);
	double worst = 0;

	*w = wg;
	for (size_t i = 0; i < KINDS; i++) {
		if (argc > 1 && !strcmp(argv[1], "kinds") && kinds[i].work != do_endless)
			puts(kinds[i].name);
		if (argc > 1 && !strcmp(argv[1], kinds[i].name))
			work = kinds[i].work;
	}
	if (!work)
		return argc > 1 && !strcmp(argv[1], "kinds") ? 0 : 2;
	big = memset(malloc(BIG), 1, BIG);
	other = memset(malloc(BIG), 2, BIG);
	big[BIG - 1] = 0;
	ends = now() + (argc > 2 ? atof(argv[2]) : 1000);
	for (int i = 0; i < 2; i++)
		shoal_wg_go(w, hog, NULL, 0);
	while (now() < ends) {
		double t = now();

		shoal_sleep(1000000);
		if (now() - t - 1 > worst)
			worst = now() - t - 1;
	}
	shoal_wg_wait(w);
	printf("%ld rounds, %.1f ms late\n", rounds, worst);
	return wrong ? 1 : 0;
}
