/*
 * state/hidden.c - state that libc keeps in variables without a name must be the task's: each part uses some,
 * moves to another worker, and compares with what a plain process would find.
 */
#include <shoal.h>

#include <arpa/inet.h>
#include <getopt.h>
#include <grp.h>
#include <netinet/ether.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <wchar.h>

static int failed;

#define CHECK(holds, ...) \
	do { \
		if (!(holds)) { \
			failed = 1; \
			fprintf(stderr, "%s: ", __func__); \
			fprintf(stderr, __VA_ARGS__); \
			fputc('\n', stderr); \
		} \
	} while (0)

/* Computes and sleeps by turns, so that a goroutine that sleeps beside it wakes on one worker or another. */
static void stir(void *unused)
{
	(void)unused;
	for (;;) {
		int64_t until = shoal_now() + 300000;

		while (shoal_now() < until)
			;
		shoal_sleep(200000);
	}
}

/* Parks until the goroutine is on another worker. */
static void move(void)
{
	static int stirred;
	int64_t until = shoal_now() + 3000000000;
	int was = shoal_worker();

	if (!stirred)
		for (stirred = 0; stirred < 3; stirred++)
			shoal_go(stir, NULL, 0);
	while (shoal_worker() == was && shoal_now() < until)
		shoal_sleep(300000);
}

static void numbers(void)
{
	unsigned short seed[3] = {1, 2, 3}, again[3] = {1, 2, 3}, x[3] = {7, 8, 9}, y[3] = {7, 8, 9};
	long first[4], second[4];

	seed48(seed);
	for (int i = 0; i < 4; i++)
		first[i] = mrand48() ^ nrand48(x);
	seed48(again);
	for (int i = 0; i < 4; i++) {
		move();
		second[i] = mrand48() ^ nrand48(y);
	}
	CHECK(!memcmp(first, second, sizeof first), "the sequence changed after a park");
	srandom(5);
	first[0] = random();
	srandom(5);
	move();
	CHECK(random() == first[0], "random does not continue after a park");
}

static void table(void)
{
	ENTRY *found;

	CHECK(hcreate(16), "hcreate failed");
	CHECK(hsearch((ENTRY){"key", "value"}, ENTER) != NULL, "ENTER failed");
	move();
	found = hsearch((ENTRY){"key", NULL}, FIND);
	CHECK(found && !strcmp(found->data, "value"), "the entry is not found after a park");
	hdestroy();
	CHECK(hcreate(4), "a second table cannot be made");
	hdestroy();
}

static void texts(void)
{
	struct ether_addr a = {{1, 2, 3, 4, 5, 6}};
	char *ip = inet_ntoa((struct in_addr){htonl(0x0a000001)}), *ether = ether_ntoa(&a), *base64 = l64a(64);

	move();
	CHECK(!strcmp(ip, "10.0.0.1"), "inet_ntoa: got %s", ip);
	CHECK(!strcmp(ether, "1:2:3:4:5:6"), "ether_ntoa: got %s", ether);
	CHECK(!strcmp(base64, "./") || !strcmp(base64, ".0") || strlen(base64) == 2, "l64a: got %s", base64);
}

static void words(void)
{
	mbstate_t *none = NULL;
	wchar_t w[8];
	const char *s = "abc";

	CHECK(mbrlen("a", 1, none) == 1, "mbrlen");
	move();
	CHECK(mbsrtowcs(w, &s, 8, none) == 3 && !s, "mbsrtowcs");
}

static void logging(void)
{
	openlog("hidden", LOG_PID, LOG_LOCAL1);
	setlogmask(LOG_UPTO(LOG_WARNING));
	move();
	CHECK(setlogmask(0) == LOG_UPTO(LOG_WARNING), "the mask is %d", setlogmask(0));
	syslog(LOG_DEBUG, "not sent");
	closelog();
}

static void groups(void)
{
	char names[3][64] = {"", "", ""};
	struct group *g;

	setgrent();
	for (int i = 0; i < 3 && (g = getgrent()); i++)
		snprintf(names[i], sizeof names[i], "%s", g->gr_name);
	setgrent();
	for (int i = 0; i < 3 && *names[i]; i++) {
		move();
		g = getgrent();
		CHECK(g && !strcmp(g->gr_name, names[i]), "entry %d: wanted %s, got %s", i, names[i],
		      g ? g->gr_name : "none");
	}
	endgrent();
}

static void options(void)
{
	static char *argv[] = {"hidden", "-a", "-b", "value", "rest", NULL};

	CHECK(optind == 1 && opterr == 1, "optind %d, opterr %d at the start", optind, opterr);
	CHECK(getopt(5, argv, "ab:") == 'a', "the first option is not a");
	move();
	CHECK(getopt(5, argv, "ab:") == 'b' && !strcmp(optarg, "value"), "the second option is not b");
	move();
	CHECK(getopt(5, argv, "ab:") == -1 && optind == 4, "optind is %d at the end", optind);
}

static void zone(void)
{
	struct tm tm = {.tm_year = 100, .tm_mday = 1};
	time_t t;

	setenv("TZ", "XXX-3", 1);
	t = mktime(&tm);
	move();
	CHECK(t == 946674000 && timezone == -10800 && !strcmp(tzname[0], "XXX"), "zone %s %ld, time %ld", tzname[0],
	      timezone, (long)t);
}

int shoal_main(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	CHECK(!strcmp(tzname[0], "GMT") || !strcmp(tzname[0], "UTC"), "a fresh task has the zone %s", tzname[0]);
	options();
	numbers();
	table();
	texts();
	words();
	logging();
	groups();
	zone();
	return failed;
}
