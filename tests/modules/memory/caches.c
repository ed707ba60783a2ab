/*
 * caches.c - calls of libc that keep memory in variables of its own: time zone, locale, users,
 * messages, streams, the loader, the environment. Each is called on both workers, checked, called
 * again after blocks of all sizes have been taken, filled and freed.
 *
 *   caches.so [ROUNDS [FILE]]	FILE: is written, and not closed
 */
#include <shoal.h>

#include <dlfcn.h>
#include <errno.h>
#include <locale.h>
#include <netdb.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int rounds;
static struct shoal_wg all;

static void must(int ok, const char *what)
{
	if (ok)
		return;
	printf("wrong: %s\n", what);
	exit(1);
}

/* Whatever was free before holds other bytes afterwards. */
static void churn(unsigned seed)
{
	enum { N = 256 };
	void *block[N];

	for (unsigned i = 0; i < N; i++) {
		size_t n = 16 + (i * 797 + seed * 31) % 6000;

		block[i] = malloc(n);
		must(block[i] != NULL, "malloc");
		memset(block[i], 0xa5, n);
	}
	for (unsigned i = 0; i < N; i++)
		free(block[i]);
}

static int backwards(const void *a, const void *b)
{
	return *(const int *)b - *(const int *)a;
}

static void zones(unsigned k)
{
	static const char *const name[] = {"Europe/Berlin", "America/New_York", "UTC", "EST5EDT", "Asia/Tokyo"};
	time_t t = 1700000000 + (time_t)k * 1000000;
	struct tm tm, back;

	must(setenv("TZ", name[k % 5], 1) == 0, "setenv");
	tzset();
	must(localtime_r(&t, &tm) != NULL, "localtime_r");
	back = tm;
	must(mktime(&back) == t || tm.tm_isdst, "mktime");
	must(localtime(&t)->tm_year >= 123, "localtime");
}

static void users(void)
{
	struct passwd *pw = getpwnam("root");

	must(pw && pw->pw_uid == 0 && strcmp(pw->pw_name, "root") == 0, "getpwnam");
	must(getpwnam("no such user") == NULL, "getpwnam of nobody");
}

static void messages(void)
{
	char text[64];

	must(strstr(strerror(12345), "12345") != NULL, "strerror");
	must(dlopen("/no/such/library.so", RTLD_NOW) == NULL && strstr(dlerror(), "no/such"), "dlerror");
	must(strftime(text, sizeof text, "%A", &(struct tm){.tm_wday = 1}) == 6 && !strcmp(text, "Monday"), "strftime");
}

static void locales(unsigned k)
{
	must(setlocale(LC_ALL, k % 2 ? "C.UTF-8" : "C") != NULL, "setlocale");
	must(strcmp(localeconv()->decimal_point, ".") == 0, "localeconv");
}

static void tokens(void)
{
	char line[] = "one two  three";

	must(!strcmp(strtok(line, " "), "one") && !strcmp(strtok(NULL, " "), "two") &&
		     !strcmp(strtok(NULL, " "), "three"),
	     "strtok");
}

static void sorted(void)
{
	static const int n = 20000;
	int *v = malloc((size_t)n * sizeof *v);

	must(v != NULL, "malloc");
	for (int i = 0; i < n; i++)
		v[i] = (i * 7919) % n;
	qsort(v, (size_t)n, sizeof *v, backwards);
	for (int i = 0; i < n; i++)
		must(v[i] == n - 1 - i, "qsort");
	free(v);
}

/* A stream is opened on one worker and closed, perhaps, on another. */
static void streams(unsigned k)
{
	char text[64] = "", *made = NULL;
	size_t size;
	FILE *f = fopen("/etc/passwd", "r"), *m = open_memstream(&made, &size);

	must(f && m, "fopen");
	fprintf(m, "%u %s", k, "text");
	shoal_sleep(100000);
	must(fgets(text, sizeof text, f) && strchr(text, ':'), "fgets");
	churn(k);
	must(fclose(f) == 0 && fclose(m) == 0 && strstr(made, "text"), "fclose");
	free(made);
}

static void environment(unsigned k)
{
	char name[32], value[32];

	snprintf(name, sizeof name, "CACHES_%u", k % 17);
	snprintf(value, sizeof value, "%u", k);
	must(setenv(name, value, 1) == 0, "setenv");
	shoal_yield();
	must(getenv(name) != NULL, "getenv after a park");
	if (k % 3 == 0)
		unsetenv(name);
}

static void addresses(void)
{
	struct addrinfo want = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM}, *got;

	must(getaddrinfo("127.0.0.1", "80", &want, &got) == 0, "getaddrinfo");
	freeaddrinfo(got);
}

static void use_all(void *arg)
{
	unsigned k = *(unsigned *)arg;

	for (int i = 0; i < rounds; i++, k++) {
		zones(k);
		users();
		messages();
		locales(k);
		tokens();
		sorted();
		streams(k);
		addresses();
		churn(k);
		shoal_sleep(50000);
	}
}

int shoal_main(int argc, char **argv)
{
	rounds = argc > 1 ? atoi(argv[1]) : 3;
	must(getenv("CACHES_1") == NULL, "another task's environment");
	environment(1);
	/* libc's own state is one for all goroutines of a worker, as for threads: one at a time sets it. */
	for (unsigned k = 0; k < 4; k++) {
		must(shoal_wg_go(&all, use_all, &k, sizeof k) != 0, "shoal_wg_go");
		shoal_wg_wait(&all);
		environment(k);
	}
	if (argc > 2)
		must(fprintf(fopen(argv[2], "w"), "written\n") > 0, "fopen");
	printf("ok\n");
	return 0; /* with blocks of libc's left */
}
