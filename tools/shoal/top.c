/*
 * top.c - a live view on one screen: counts for each second, queues, workers, tasks.
 *
 * It asks the supervisor once a second and draws what fits; q ends it. Goroutines are counted, not listed, because
 * there may be millions.
 */
#define NCURSES_WIDECHAR 1
#include "tools/shoal/cli.h"

#include <curses.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <term.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>

#define ROUND_MS 1000

static struct conn conn;

static json_t *ask(const char *verb)
{
	return conn_call(&conn, request(verb), -1);
}

static void end_screen(void)
{
	if (!isendwin())
		endwin();
}

/* ---- signals that end the view at any moment, also while it waits for an answer ---- */

static struct termios old_termios;
static char exit_sequence[256]; /* the bytes that restore the terminal: attributes, cursor, normal screen */
static size_t exit_length;

static int append_exit_byte(int c)
{
	if (exit_length < sizeof exit_sequence)
		exit_sequence[exit_length++] = (char)c;
	return c;
}

static void save_exit_sequence(void)
{
	static const char *const caps[] = {"sgr0", "cnorm", "rmkx", "rmcup"};

	for (size_t i = 0; i < sizeof caps / sizeof *caps; i++) {
		char *text = tigetstr((char *)caps[i]);

		if (text && text != (char *)-1)
			tputs(text, 1, append_exit_byte);
	}
	append_exit_byte('\r');
}

/* Restores the terminal without curses, which the signal may have interrupted, and then ends by the signal. */
static void end_by_signal(int sig)
{
	if (write(1, exit_sequence, exit_length) >= 0)
		tcsetattr(0, TCSANOW, &old_termios);
	signal(sig, SIG_DFL);
	raise(sig);
}

/* Called before curses starts, because curses does not replace handlers that are set. */
static void catch_signals(sigset_t *held)
{
	static const int sigs[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

	tcgetattr(0, &old_termios);
	sigemptyset(held);
	for (size_t i = 0; i < sizeof sigs / sizeof *sigs; i++) {
		struct sigaction sa = {.sa_handler = end_by_signal}, old;

		sigaddset(held, sigs[i]);
		sigaction(sigs[i], NULL, &old);
		if (old.sa_handler != SIG_IGN)
			sigaction(sigs[i], &sa, NULL);
	}
	sigprocmask(SIG_BLOCK, held, NULL); /* until exit_sequence is complete */
}

/* Converts as much of the text as fits into `most` columns. Characters that cannot be shown become '?'. */
static size_t fit(wchar_t *to, size_t room, const char *text, int most)
{
	mbstate_t state = {0};
	size_t n = 0, left = strlen(text);
	int used = 0;

	while (left && n + 1 < room) {
		wchar_t c;
		size_t k = mbrtowc(&c, text, left, &state);
		int width;

		if (k == (size_t)-1 || k == (size_t)-2) {
			memset(&state, 0, sizeof state);
			c = L'?';
			k = 1;
			while (k < left && (text[k] & 0xc0) == 0x80) /* one mark for the whole character */
				k++;
		}
		width = wcwidth(c);
		if (width < 0)
			c = L'?', width = 1;
		if (used + width > most)
			break;
		used += width;
		to[n++] = c;
		text += k;
		left -= k;
	}
	to[n] = 0;
	return n;
}

/* Draws a line, cut at the right edge, with control characters replaced. */
static void line(int y, int attributes, char *text)
{
	wchar_t wide[1024];
	char *clean = show_clean(text);

	if (y < LINES) {
		size_t n = fit(wide, sizeof wide / sizeof *wide, clean, COLS);

		move(y, 0);
		clrtoeol();
		attrset(attributes);
		mvaddnwstr(y, 0, wide, (int)n);
		attrset(A_NORMAL);
	}
	free(clean);
	free(text);
}

/* Returns how many of n rows are shown in `room` lines. If not all fit, the last line says how many more there are. */
static size_t rows_shown(size_t n, int room)
{
	return room < 1 ? 0 : n <= (size_t)room ? n : (size_t)room - 1;
}

static long long member(json_t *o, const char *key)
{
	return (long long)get_int(o, key, 0);
}

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

/* ---- counts for each second ---- */

static double rate(json_t *now, json_t *before, const char *key, double seconds)
{
	return before && seconds > 0 ? (double)(member(now, key) - member(before, key)) / seconds : 0;
}

static int draw_head(json_t *info, json_t *stats, json_t *before, double seconds)
{
	char *up = show_duration(get_int(info, "uptime_ns", 0)), *used = show_size(get_int(stats, "memory_used", 0)),
	     *limit = show_size(get_int(stats, "memory_limit", 0));

	line(0, A_BOLD,
	     format("shoal %s  up %s  procs %lld  workers %lld  memory %s of %s", get_text(info, "shoal"), up,
		    member(info, "procs"), member(info, "workers"), used, limit));
	line(1, A_NORMAL,
	     format("goroutines %lld  tasks %lld live, %lld done, %lld crashed  worker deaths %lld",
		    member(stats, "goroutines"), member(stats, "tasks_live"), member(stats, "tasks_done"),
		    member(stats, "tasks_crashed"), member(stats, "worker_deaths")));
	line(2, A_NORMAL,
	     format("per second: %.0f created  %.0f moved  %.0f stolen  %.0f preempted  %.0f syscalls  %.0f grown",
		    rate(stats, before, "goroutines_created", seconds), rate(stats, before, "migrations", seconds),
		    rate(stats, before, "steals", seconds), rate(stats, before, "preemptions", seconds),
		    rate(stats, before, "syscalls", seconds), rate(stats, before, "stack_grows", seconds)));
	free(up);
	free(used);
	free(limit);
	return 3;
}

static int draw_sched(int y, json_t *sched)
{
	const char *text = get_text(sched, "sched"), *at = strstr(text, "gomaxprocs=");

	line(y++, A_NORMAL, format("%s", at ? at : text));
	return y;
}

/* ---- lists ---- */

static void draw_worker(int y, json_t *w)
{
	char *up = show_duration(get_int(w, "uptime_ns", 0)), p[8] = "-", gid[24] = "-", pid[24] = "-";

	if (get_int(w, "p", -1) >= 0)
		snprintf(p, sizeof p, "%d", (int)get_int(w, "p", 0));
	if (get_int(w, "gid", 0) > 0)
		snprintf(gid, sizeof gid, "%lld", member(w, "gid"));
	if (get_int(w, "pid", 0) > 0)
		snprintf(pid, sizeof pid, "%lld", member(w, "pid"));
	line(y, A_NORMAL,
	     format("%6lld %9s  %-9s %3s %12s %9lld %10s", member(w, "id"), pid, get_text(w, "status"), p, gid,
		    member(w, "restarts"), up));
	free(up);
}

/* Draws the workers in the lines from y to `until`, exclusive. Returns the next free line. */
static int draw_workers(int y, int until, json_t *reply)
{
	json_t *list = json_object_get(reply, "workers");
	size_t n = json_array_size(list), shown = rows_shown(n, until - y - 1);

	line(y++, A_REVERSE,
	     format("%6s %9s  %-9s %3s %12s %9s %10s%*s", "WORKER", "PID", "STATUS", "P", "GID", "RESTARTS", "UPTIME",
		    COLS > 62 ? COLS - 62 : 0, ""));
	for (size_t i = 0; i < shown; i++)
		draw_worker(y++, json_array_get(list, i));
	if (shown < n && y < until)
		line(y++, A_DIM, format("       %zu more of %zu workers", n - shown, n));
	return y;
}

static int draw_tasks(int y, json_t *reply)
{
	json_t *list = json_object_get(reply, "tasks"), *t;
	size_t n = json_array_size(list), shown = rows_shown(n, LINES - y - 1);

	line(y++, A_REVERSE,
	     format("%6s  %-9s %5s %10s  %-40s%*s", "TASK", "STATUS", "RUNS", "GOROUTINES", "WHAT",
		    COLS > 76 ? COLS - 76 : 0, ""));
	for (size_t i = 0; i < shown; i++) {
		t = json_array_get(list, i);
		line(y++, A_NORMAL,
		     format("%6lld  %-9s %5lld %10lld  %s", member(t, "id"), get_text(t, "status"),
			    member(t, "attempts"), member(t, "goroutines"), get_text(t, "name")));
	}
	if (shown < n)
		line(y++, A_DIM, format("        %zu more of %zu tasks", n - shown, n));
	return y;
}

static json_t *draw(json_t *before, double seconds)
{
	json_t *info = ask("info"), *stats = ask("stats"), *sched = ask("sched"), *workers = ask("workers"),
	       *tasks = ask("tasks");
	int y = draw_head(info, stats, before, seconds);

	y = draw_sched(y, sched);
	y = draw_workers(y + 1, y + 1 + (LINES - y) / 2, workers);
	y = draw_tasks(y + 1, tasks);
	if (y < LINES) {
		move(y, 0);
		clrtobot();
	}
	refresh();
	json_decref(info);
	json_decref(sched);
	json_decref(workers);
	json_decref(tasks);
	json_decref(before);
	return stats;
}

int verb_top(int argc, char **argv)
{
	static const struct opt no_options[] = {{NULL, 0, OPT_FLAG, NULL}};
	const char *term = getenv("TERM");
	json_t *last = NULL;
	SCREEN *screen;
	sigset_t held;
	int key = 0;

	if (parse_options(argc, argv, no_options, false))
		usage("unexpected argument '%s'", argv[0]);
	if (!isatty(0) || !isatty(1))
		fail(1, "stdin and stdout must be a terminal");
	setlocale(LC_CTYPE, ""); /* names may hold any letter */
	conn_open(&conn);
	catch_signals(&held);
	screen = newterm(term && *term ? term : "dumb", stdout, stdin);
	if (!screen)
		fail(1, "unknown terminal type '%s' in $TERM", term ? term : "");
	atexit(end_screen);
	cbreak();
	noecho();
	curs_set(0);
	keypad(stdscr, TRUE);
	timeout(ROUND_MS);
	save_exit_sequence();
	sigprocmask(SIG_UNBLOCK, &held, NULL);
	for (int64_t then = 0; key != 'q' && key != 'Q'; key = getch()) {
		int64_t now = now_ns();

		if (key == KEY_RESIZE || key == 'L' - '@')
			clear();
		last = draw(last, (double)(now - then) / 1e9);
		then = now;
	}
	json_decref(last);
	conn_close(&conn);
	end_screen();
	return 0;
}
