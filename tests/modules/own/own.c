/*
 * own.c - what POSIX keeps per process and is a task's own, on whatever worker.
 *
 *   own.so set	sets all of it, looks from goroutines on both workers, ends with handlers
 *   own.so fresh	must find nothing of what another task set
 *   own.so redirect FILE	output goes to the file for a while
 *   own.so exit	ends by exit() in a goroutine, with a handler and a stream that is not flushed yet
 */
#include <shoal.h>

#include <locale.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static struct shoal_wg all;
static atomic_int workers;

static void must(int ok, const char *what)
{
	if (ok)
		return;
	printf("wrong: %s\n", what);
	exit(1);
}

static int hour(void)
{
	time_t t = 1700000000; /* 22:13 UTC */
	struct tm tm;

	return localtime_r(&t, &tm) ? tm.tm_hour : -1;
}

static void look(void *arg)
{
	int64_t until = shoal_now() + 10000000;
	char where[100];

	(void)arg;
	while (shoal_now() < until) {
		atomic_fetch_or(&workers, 1 << shoal_worker() % 30);
		must(getcwd(where, sizeof where) && !strcmp(where, "/usr"), "working directory");
		must(umask(027) == 027, "umask");
		must(!strcmp(setlocale(LC_ALL, NULL), "C.UTF-8"), "locale");
		must(getenv("OWN") && !strcmp(getenv("OWN"), "yes"), "environment");
		must(hour() == 7, "time zone");
		shoal_yield();
	}
}

static void next_random(void *want)
{
	must(rand() == *(int *)want, "rand");
	shoal_sleep(1000000);
}

static void spin(void *arg)
{
	int64_t until = shoal_now() + 3000000;

	(void)arg;
	while (shoal_now() < until)
		shoal_yield();
}

/* What a call of libc's left in a variable of its own is there after a move. */
static void between_calls(void)
{
	time_t then = 0, now = 1700000000;
	char line[] = "one two three four five six";
	const char *words[] = {"one", "two", "three", "four", "five", "six"};
	int i = 0;
	struct tm *tm = gmtime(&then);
	char *date;

	must(tm->tm_year == 70, "gmtime");
	tm = localtime(&now);
	date = asctime(tm);
	for (char *w = strtok(line, " "); w; w = strtok(NULL, " "), i++) {
		must(!strcmp(w, words[i]), "strtok");
		for (int k = 0; k < 3; k++)
			shoal_wg_go(&all, spin, NULL, 0);
		shoal_sleep(2000000);
		must(tm->tm_year == 123 && tm->tm_hour == 7, "localtime");
		must(strstr(date, "2023") != NULL, "asctime");
	}
	shoal_wg_wait(&all);
	must(i == 6, "strtok");
}

static void first(void)
{
	puts("the last handler");
}

static void second(void)
{
	puts("the first handler");
}

static int set(void)
{
	static const int sequence[] = {71876166, 708592740, 1483128881, 907283241, 442951012}; /* glibc's, of 42 */

	must(chdir("/usr") == 0 && chdir("/nowhere") < 0, "chdir");
	umask(027);
	must(setlocale(LC_ALL, "C.UTF-8") != NULL, "setlocale");
	must(setenv("OWN", "yes", 1) == 0 && setenv("TZ", "JST-9", 1) == 0, "setenv");
	for (int i = 0; i < 4; i++)
		must(shoal_wg_go(&all, look, NULL, 0) != 0, "shoal_wg_go");
	shoal_wg_wait(&all);
	between_calls();
	srand(42);
	for (int i = 0; i < 5; i++) {
		must(shoal_wg_go(&all, next_random, &sequence[i], sizeof sequence[i]) != 0, "shoal_wg_go");
		shoal_yield();
		shoal_wg_wait(&all);
	}
	setvbuf(stdout, NULL, _IOFBF, 4096);
	printf("a line, ");
	shoal_sleep(1000000);
	printf("whole\n");
	atexit(first);
	atexit(second);
	return 0;
}

static int fresh(void)
{
	char where[100];

	must(getcwd(where, sizeof where) && strcmp(where, "/usr") != 0, "another's working directory");
	must(umask(022) != 027, "another's umask");
	must(!strcmp(setlocale(LC_ALL, NULL), "C"), "another's locale");
	must(!getenv("OWN"), "another's environment");
	must(hour() == 22, "another's time zone");
	must(rand() == 1804289383, "another's random numbers"); /* glibc's first of 1 */
	printf("fresh\n");
	return 0;
}

static void leave(void *arg)
{
	(void)arg;
	exit(3);
}

static void quickly(void)
{
	write(1, "a quick handler\n", 16);
}

static void leave_quickly(void *arg)
{
	(void)arg;
	quick_exit(4);
}

static int quick(void)
{
	must(atexit(first) == 0 && at_quick_exit(quickly) == 0 && at_quick_exit(quickly) == 0, "at_quick_exit");
	shoal_go(leave_quickly, NULL, 0);
	shoal_sleep(SHOAL_FOREVER);
	return 0;
}

static int redirect(const char *path)
{
	int saved = dup(1);

	printf("before\n");
	must(saved > 2 && freopen(path, "w", stdout) == stdout, "freopen");
	printf("in the file\n");
	shoal_yield();
	must(dup2(saved, 1) == 1, "dup2");
	printf("after\n");
	return 0;
}

int shoal_main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "set"))
		return set();
	if (argc > 1 && !strcmp(argv[1], "fresh"))
		return fresh();
	if (argc > 1 && !strcmp(argv[1], "quick"))
		return quick();
	if (argc > 2 && !strcmp(argv[1], "redirect"))
		return redirect(argv[2]);
	atexit(first);
	fprintf(fopen(argv[2], "w"), "kept\n");
	shoal_go(leave, NULL, 0);
	shoal_sleep(SHOAL_FOREVER);
	return 0;
}
